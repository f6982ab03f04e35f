//! The terminal on which a recording is played: keys without Enter, and everything as it was afterwards.

use std::{
    io::{self, Read},
    os::fd::AsFd,
    time::Duration,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr},
};

/// Longest single wait; a longer one is several.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// What a person wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// Stop, or go on.
    Pause,
    /// Back.
    Left,
    /// Ahead.
    Right,
    /// Enough.
    Quit,
    /// Something else.
    Other,
}

/// Keys come one by one, without being shown, while this lives.
pub(super) struct Keys {
    before: Termios,
}

impl Keys {
    pub(super) fn watch() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut keys = before.clone();
        // Ctrl-C comes as a key, so that the terminal is restored.
        keys.local_flags &= !(LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG);
        tcsetattr(io::stdin(), SetArg::TCSADRAIN, &keys)?;
        Ok(Self { before })
    }

    /// Waits for a key; `None` where none came in time.
    pub(super) fn within(&self, wait: Duration) -> io::Result<Option<Key>> {
        let millis = u16::try_from(wait.min(MAX_WAIT).as_millis()).unwrap_or(u16::MAX);
        let stdin = io::stdin();
        let mut waiting = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        match poll(&mut waiting, PollTimeout::from(millis)) {
            Ok(0) | Err(Errno::EINTR) => return Ok(None),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let mut bytes = [0; 16];
        let read = io::stdin().lock().read(&mut bytes)?;
        Ok(Some(key(bytes.get(..read).unwrap_or_default())))
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, &self.before);
    }
}

fn key(bytes: &[u8]) -> Key {
    match bytes {
        // No more keys will come.
        [] | [0x03 | 0x04 | b'q', ..] => Key::Quit,
        [b' ', ..] => Key::Pause,
        [0x1b, b'[' | b'O', b'D', ..] => Key::Left,
        [0x1b, b'[' | b'O', b'C', ..] => Key::Right,
        _ => Key::Other,
    }
}

/// Begins a screen on which everything can be drawn from the start.
pub(super) const CLEAR: &str = "\x1b[!p\x1b[?1049l\x1b[0m\x1b[r\x1b[2J\x1b[H";

/// Undoes whatever a recording may have left: modes, colours, character set, margins, screen, cursor.
pub(super) const RESTORE: &str = "\x1b[!p\x1b[?1049l\x1b[?1l\x1b[?7h\x1b[?25h\x1b[0m\x1b(B\x0f\x1b[r\x1b>";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_what_they_say() {
        assert_eq!(key(b" "), Key::Pause);
        assert_eq!(key(b"\x1b[D"), Key::Left);
        assert_eq!(key(b"\x1bOC"), Key::Right);
        assert_eq!(key(b"q"), Key::Quit);
        assert_eq!(key(b"\x03"), Key::Quit);
        assert_eq!(key(b""), Key::Quit);
        assert_eq!(key(b"x"), Key::Other);
    }
}
