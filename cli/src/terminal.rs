//! Asking people: on the controlling terminal, so that what is piped into a command is left alone.
//!
//! Where there is no controlling terminal (a script, a container), prompts go to standard error and answers are read from
//! standard input, one byte at a time, so that what follows the answer still belongs to the program started next.

use std::{
    fs::File,
    io::{self, IsTerminal, Read, Write},
    os::fd::{AsFd, OwnedFd},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr},
};
use tokio_util::sync::CancellationToken;
use zeroize::{Zeroize, Zeroizing};

/// How long a question waits: as long as a challenge lives.
pub const PATIENCE: Duration = Duration::from_secs(5 * 60);

/// Longest answer, in bytes.
const MAX_ANSWER_BYTES: usize = 4096;

/// How soon a cancelled question notices, in milliseconds.
const CANCEL_POLL_MILLIS: u16 = 50;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum TerminalError {
    /// End of file.
    #[error("no answer: the input ended")]
    Closed,
    /// Ctrl-C at a hidden question.
    #[error("interrupted")]
    Interrupted,
    /// More than 4096 bytes, or not UTF-8.
    #[error("the answer is not a line of text")]
    NotText,
    /// The question was withdrawn.
    #[error("the question was withdrawn")]
    Withdrawn,
    /// Nobody answered within [`PATIENCE`].
    #[error("no answer within {} minutes", PATIENCE.as_secs() / 60)]
    TimedOut,
    /// The terminal failed.
    #[error("cannot use the terminal")]
    Io(#[from] io::Error),
}

/// Where people are asked.
#[derive(Debug)]
pub struct Terminal {
    input: File,
    output: File,
    controlling: bool,
    /// Held by whoever reads: two questions at a time would share out the keys that are pressed.
    turn: Mutex<()>,
}

impl Terminal {
    /// The controlling terminal; else standard error and standard input.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn open() -> io::Result<Self> {
        if let Ok(terminal) = File::options().read(true).write(true).open("/dev/tty") {
            return Ok(Self {
                input: terminal.try_clone()?,
                output: terminal,
                controlling: true,
                turn: Mutex::default(),
            });
        }
        let input = io::stdin().as_fd().try_clone_to_owned()?;
        let output = io::stderr().as_fd().try_clone_to_owned()?;
        Ok(Self::without_person(input, output))
    }

    /// Questions to `output`, answers from `input`.
    #[must_use]
    pub fn without_person(input: OwnedFd, output: OwnedFd) -> Self {
        Self { input: input.into(), output: output.into(), controlling: false, turn: Mutex::default() }
    }

    /// As [`without_person`](Self::without_person), and somebody sits there.
    #[cfg(test)]
    pub(crate) fn of_person(input: OwnedFd, output: OwnedFd) -> Self {
        Self { controlling: true, ..Self::without_person(input, output) }
    }

    /// True where a person sits at a controlling terminal.
    #[must_use]
    pub fn is_controlling(&self) -> bool {
        self.controlling
    }

    /// Shows one line.
    ///
    /// # Errors
    /// [`TerminalError::Io`].
    pub fn say(&self, line: &str) -> Result<(), TerminalError> {
        self.show(&format!("{line}\n"))
    }

    /// Asks on one line: the answer follows the prompt.
    ///
    /// # Errors
    /// [`TerminalError`].
    pub fn ask(&self, prompt: &str) -> Result<String, TerminalError> {
        self.show(prompt)?;
        Ok(self.answer(&CancellationToken::new())?.to_string())
    }

    /// Asks for a secret: the prompt stands on a line of its own and the answer is not shown.
    ///
    /// # Errors
    /// [`TerminalError`].
    pub fn ask_hidden(&self, prompt: &str) -> Result<Zeroizing<String>, TerminalError> {
        let _turn = self.turn();
        let hidden = Hidden::on(&self.input)?;
        self.say(prompt)?;
        let answer = self.read_line(&CancellationToken::new());
        drop(hidden);
        answer
    }

    /// Waits for an answer to something shown before; `withdraw` gives up.
    ///
    /// # Errors
    /// [`TerminalError`].
    pub fn answer(&self, withdraw: &CancellationToken) -> Result<Zeroizing<String>, TerminalError> {
        let _turn = self.turn();
        self.read_line(withdraw)
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, text: &str) -> Result<(), TerminalError> {
        let mut output = &self.output;
        output.write_all(text.as_bytes())?;
        Ok(output.flush()?)
    }

    fn read_line(&self, withdraw: &CancellationToken) -> Result<Zeroizing<String>, TerminalError> {
        let deadline = Instant::now() + PATIENCE;
        let mut line = Line::new();
        loop {
            if withdraw.is_cancelled() {
                return Err(TerminalError::Withdrawn);
            }
            if Instant::now() >= deadline {
                return Err(TerminalError::TimedOut);
            }
            if !self.readable()? {
                continue;
            }
            let mut byte = [0; 1];
            let read = (&self.input).read(&mut byte)?;
            if let Some(answer) = line.take(byte.first().copied().filter(|_| read > 0))? {
                return Ok(answer);
            }
        }
    }

    fn readable(&self) -> Result<bool, TerminalError> {
        let mut waiting = [PollFd::new(self.input.as_fd(), PollFlags::POLLIN)];
        match poll(&mut waiting, PollTimeout::from(CANCEL_POLL_MILLIS)) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::EINTR) => Ok(false),
            Err(error) => Err(TerminalError::Io(error.into())),
        }
    }
}

/// A line as it is typed. A terminal that echoes edits by itself; one that does not leaves editing to us.
struct Line {
    bytes: Zeroizing<Vec<u8>>,
}

const CTRL_C: u8 = 0x03;
const CTRL_D: u8 = 0x04;
const BACKSPACE: u8 = 0x08;
const CTRL_U: u8 = 0x15;
const DELETE: u8 = 0x7f;

impl Line {
    fn new() -> Self {
        // Room for the longest answer at once: growing would leave copies of a secret behind.
        Self { bytes: Zeroizing::new(Vec::with_capacity(MAX_ANSWER_BYTES)) }
    }

    /// Takes one byte, or the end of input. `Some` is the whole answer.
    fn take(&mut self, byte: Option<u8>) -> Result<Option<Zeroizing<String>>, TerminalError> {
        match byte {
            None | Some(CTRL_D) if self.bytes.is_empty() => Err(TerminalError::Closed),
            None | Some(CTRL_D | b'\n' | b'\r') => self.finish().map(Some),
            Some(CTRL_C) => Err(TerminalError::Interrupted),
            Some(BACKSPACE | DELETE) => {
                while self.bytes.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
                Ok(None)
            }
            Some(CTRL_U) => {
                self.bytes.zeroize();
                Ok(None)
            }
            Some(_) if self.bytes.len() == MAX_ANSWER_BYTES => Err(TerminalError::NotText),
            Some(byte) => {
                self.bytes.push(byte);
                Ok(None)
            }
        }
    }

    fn finish(&mut self) -> Result<Zeroizing<String>, TerminalError> {
        let text = std::str::from_utf8(&self.bytes).map_err(|_| TerminalError::NotText)?;
        Ok(Zeroizing::new(text.to_owned()))
    }
}

/// Echo is off while this lives. Signals are off too: Ctrl-C arrives as a byte, so that the terminal is restored.
struct Hidden {
    restore: Option<(OwnedFd, Termios)>,
}

impl Hidden {
    fn on(input: &File) -> Result<Self, TerminalError> {
        if !input.is_terminal() {
            return Ok(Self { restore: None });
        }
        let input = input.as_fd().try_clone_to_owned()?;
        let before = tcgetattr(&input).map_err(io::Error::from)?;
        let mut hidden = before.clone();
        hidden.local_flags &= !(LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG);
        for (index, value) in [(SpecialCharacterIndices::VMIN, 1), (SpecialCharacterIndices::VTIME, 0)] {
            if let Some(character) = hidden.control_chars.get_mut(index as usize) {
                *character = value;
            }
        }
        tcsetattr(&input, SetArg::TCSADRAIN, &hidden).map_err(io::Error::from)?;
        Ok(Self { restore: Some((input, before)) })
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        if let Some((input, before)) = &self.restore {
            let _ = tcsetattr(input, SetArg::TCSADRAIN, before);
        }
    }
}

#[cfg(test)]
mod tests;
