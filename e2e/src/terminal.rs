//! A person at a terminal: a program on a pseudo terminal of its own, driven by what it shows.

use std::{
    fs::File,
    io::{Read, Write},
    process::{Child, Command, ExitStatus},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    pty::{Winsize, openpty},
};

use crate::process::{command_line, poll};

/// Longest that a person waits for the next thing to appear.
const PATIENCE: Duration = Duration::from_secs(20);

/// A program whose controlling terminal is ours. Hung up on when dropped.
pub struct Terminal {
    command: String,
    child: Child,
    keyboard: File,
    screen: Arc<Screen>,
    /// How much of the screen's text was read by [`Terminal::expect`].
    read: usize,
}

#[derive(Default)]
struct Screen {
    shown: Mutex<Shown>,
    grown: Condvar,
}

#[derive(Default)]
struct Shown {
    text: String,
    closed: bool,
}

impl Screen {
    fn lock(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Terminal {
    /// Starts `command` in a session of its own with a new terminal as its controlling one. `echo` copies everything
    /// that is shown to our standard output.
    ///
    /// # Errors
    /// When there is no terminal to be had or the program cannot be started.
    pub fn start(command: &Command, echo: bool) -> Result<Self> {
        // Wide enough that no table and no prompt is folded.
        let size = Winsize { ws_row: 50, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).context("open a pseudo terminal")?;
        // Another child that inherited either end would keep the terminal open for ever.
        for end in [&pty.master, &pty.slave] {
            fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).context("close on exec")?;
        }

        // setsid(1) makes its standard input the controlling terminal before it becomes the program.
        let mut seated = Command::new("setsid");
        seated.args(["--ctty", "--"]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => seated.env(name, value),
                None => seated.env_remove(name),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            seated.current_dir(folder);
        }
        seated.stdin(pty.slave.try_clone()?).stdout(pty.slave.try_clone()?).stderr(pty.slave);
        let line = command_line(command);
        let child = seated.spawn().with_context(|| format!("start `{line}` at a terminal"))?;
        drop(seated); // It holds the program's end of the terminal.

        let keyboard = File::from(pty.master);
        let screen = Arc::new(Screen::default());
        watch(keyboard.try_clone()?, Arc::clone(&screen), echo);
        Ok(Self { command: line, child, keyboard, screen, read: 0 })
    }

    /// Waits until `text` is shown after what was expected before, and returns what stood in between.
    ///
    /// # Errors
    /// When it does not appear in time, or the program ends without it: with everything that was shown.
    pub fn expect(&mut self, text: &str) -> Result<String> {
        self.expect_any(&[text]).map(|(_, before)| before)
    }

    /// As [`Terminal::expect`] for the first of several texts that appears: its index, and what stood before it.
    ///
    /// # Errors
    /// As [`Terminal::expect`].
    pub fn expect_any(&mut self, texts: &[&str]) -> Result<(usize, String)> {
        let deadline = Instant::now() + PATIENCE;
        let mut shown = self.screen.lock();
        loop {
            let unread = shown.text.get(self.read..).unwrap_or_default();
            let found = texts
                .iter()
                .enumerate()
                .filter_map(|(index, text)| unread.find(text).map(|at| (at, index, text.len())))
                .min();
            if let Some((at, index, length)) = found {
                let before = unread.get(..at).unwrap_or_default().to_owned();
                self.read += at + length;
                return Ok((index, before));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || shown.closed {
                bail!("`{}` did not show {texts:?}; it showed:\n{}", self.command, shown.text);
            }
            let (guard, _) =
                self.screen.grown.wait_timeout(shown, left).unwrap_or_else(PoisonError::into_inner);
            shown = guard;
        }
    }

    /// Types a line.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn send(&mut self, line: &str) -> Result<()> {
        self.keyboard.write_all(format!("{line}\n").as_bytes()).context("type a line")
    }

    /// Presses Ctrl-C.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn interrupt(&mut self) -> Result<()> {
        self.keyboard.write_all(b"\x03").context("press Ctrl-C")
    }

    /// Pulls the window to another size, in characters.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&self.keyboard, size).context("change the window's size")
    }

    /// Everything that was shown so far.
    #[must_use]
    pub fn text(&self) -> String {
        self.screen.lock().text.clone()
    }

    /// Waits for the program to end; what it had shown, and whether it succeeded.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn finish(mut self) -> Result<(String, ExitStatus)> {
        let Self { command, child, .. } = &mut self;
        let status = poll(&format!("`{command}` to end"), PATIENCE, || Ok(child.try_wait()?))
            .with_context(|| format!("it showed:\n{}", self.screen.lock().text))?;
        // The last words may still be on their way through the terminal.
        poll("the terminal to close", PATIENCE, || Ok(self.screen.lock().closed.then_some(())))?;
        Ok((self.text(), status))
    }

    /// As [`Terminal::finish`] for a program that must succeed.
    ///
    /// # Errors
    /// When it fails: with what it had shown.
    pub fn succeed(self) -> Result<String> {
        let command = self.command.clone();
        let (text, status) = self.finish()?;
        if !status.success() {
            bail!("`{command}` failed:\n{text}");
        }
        Ok(text)
    }

    /// As [`Terminal::finish`] for a program that must fail.
    ///
    /// # Errors
    /// When it succeeds: with what it had shown.
    pub fn fail(self) -> Result<String> {
        let command = self.command.clone();
        let (text, status) = self.finish()?;
        if status.success() {
            bail!("`{command}` succeeded, and should not have:\n{text}");
        }
        Ok(text)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Gone already is as good; there is nobody left to tell otherwise.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads the terminal until the last program has closed it (Linux reports that as EIO).
fn watch(mut terminal: File, screen: Arc<Screen>, echo: bool) {
    thread::spawn(move || {
        let mut bytes = [0; 4096];
        let mut pending = Vec::new();
        while let Ok(count @ 1..) = terminal.read(&mut bytes) {
            pending.extend(bytes.iter().take(count).copied().filter(|&byte| byte != b'\r'));
            let text = take_text(&mut pending);
            if echo {
                print!("{text}");
                let _ = std::io::stdout().flush();
            }
            screen.lock().text.push_str(&text);
            screen.grown.notify_all();
        }
        screen.lock().closed = true;
        screen.grown.notify_all();
    });
}

/// Takes what is whole UTF-8 out of `pending`; the beginning of a character stays until its rest arrives.
fn take_text(pending: &mut Vec<u8>) -> String {
    let whole = match std::str::from_utf8(pending) {
        Ok(text) => text.len(),
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        Err(_) => pending.len(),
    };
    let rest = pending.split_off(whole);
    let text = String::from_utf8_lossy(pending).into_owned();
    *pending = rest;
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_character_waits_for_its_other_half() {
        let mut pending = "é".as_bytes()[..1].to_vec();
        assert_eq!(take_text(&mut pending), "");
        pending.push("é".as_bytes()[1]);
        assert_eq!(take_text(&mut pending), "é");
        assert!(pending.is_empty());
    }

    #[test]
    fn a_program_has_a_controlling_terminal_and_is_driven_by_what_it_shows() {
        let mut command = Command::new("sh");
        command
            .args(["-c", "printf 'name? ' > /dev/tty; read name < /dev/tty; echo \"hello $name\"; exit 3"]);
        let mut terminal = Terminal::start(&command, false).unwrap();
        terminal.expect("name? ").unwrap();
        terminal.send("olga").unwrap();
        terminal.expect("hello olga").unwrap();
        let (_, status) = terminal.finish().unwrap();
        assert_eq!(status.code(), Some(3));
    }

    #[test]
    fn what_never_appears_is_an_error_that_shows_what_did() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo something else"]);
        let mut terminal = Terminal::start(&command, false).unwrap();
        let error = terminal.expect("anything").unwrap_err().to_string();
        assert!(error.contains("something else"), "{error}");
    }
}
