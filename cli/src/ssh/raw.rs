//! The terminal of a session: every key goes to the other end as it is, and afterwards the terminal is as it was.

use std::{
    io::{self, IsTerminal},
    os::fd::{AsFd, OwnedFd},
};

use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use russh::Pty;

use super::modes;

/// A terminal, not yet touched.
#[derive(Debug)]
pub struct RawTerminal {
    terminal: OwnedFd,
    before: Termios,
}

/// Columns and rows, then pixels; zero where the terminal does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Characters in a line.
    pub columns: u32,
    /// Lines.
    pub rows: u32,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
}

/// Keys arrive unread while this lives.
#[derive(Debug)]
pub(super) struct Raw<'a>(&'a RawTerminal);

impl RawTerminal {
    /// The terminal behind a descriptor; `None` where there is none.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn of(descriptor: impl AsFd + IsTerminal) -> io::Result<Option<Self>> {
        if !descriptor.is_terminal() {
            return Ok(None);
        }
        let terminal = descriptor.as_fd().try_clone_to_owned()?;
        let before = tcgetattr(&terminal)?;
        Ok(Some(Self { terminal, before }))
    }

    /// How large it is now.
    #[must_use]
    pub fn size(&self) -> Size {
        rustix::termios::tcgetwinsize(&self.terminal).map_or_else(
            |_| Size::default(),
            |size| Size {
                columns: size.ws_col.into(),
                rows: size.ws_row.into(),
                width: size.ws_xpixel.into(),
                height: size.ws_ypixel.into(),
            },
        )
    }

    /// Its modes, as SSH carries them.
    pub(super) fn modes(&self) -> Vec<(Pty, u32)> {
        modes::of(&self.before)
    }

    /// Leaves every key to the other end.
    pub(super) fn raw(&self) -> io::Result<Raw<'_>> {
        let mut raw = self.before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(&self.terminal, SetArg::TCSADRAIN, &raw)?;
        Ok(Raw(self))
    }
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.0.terminal, SetArg::TCSADRAIN, &self.0.before);
    }
}

#[cfg(test)]
mod tests {
    use nix::{
        pty::openpty,
        sys::termios::{LocalFlags, OutputFlags},
    };

    use super::*;

    fn flags(terminal: &OwnedFd) -> (LocalFlags, OutputFlags) {
        let now = tcgetattr(terminal).unwrap();
        (now.local_flags, now.output_flags)
    }

    #[test]
    fn the_terminal_is_as_it_was_when_the_session_is_over() {
        let pty = openpty(None, None).unwrap();
        let before = flags(&pty.slave);
        let terminal = RawTerminal::of(std::fs::File::from(pty.slave.try_clone().unwrap())).unwrap().unwrap();
        let raw = terminal.raw().unwrap();
        assert!(!flags(&pty.slave).0.intersects(LocalFlags::ECHO | LocalFlags::ISIG | LocalFlags::ICANON));
        drop(raw);
        assert_eq!(flags(&pty.slave), before);
    }

    #[test]
    fn a_panic_restores_it_too() {
        let pty = openpty(None, None).unwrap();
        let before = flags(&pty.slave);
        let terminal = RawTerminal::of(std::fs::File::from(pty.slave.try_clone().unwrap())).unwrap().unwrap();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _raw = terminal.raw().unwrap();
            panic!("in the middle of a session");
        }));
        assert!(panicked.is_err());
        assert_eq!(flags(&pty.slave), before);
    }

    #[test]
    fn its_size_is_told_and_a_pipe_is_no_terminal() {
        let size = nix::pty::Winsize { ws_row: 40, ws_col: 132, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(&size, None).unwrap();
        let terminal = RawTerminal::of(std::fs::File::from(pty.slave)).unwrap().unwrap();
        assert_eq!(terminal.size(), Size { columns: 132, rows: 40, width: 0, height: 0 });
        let (reader, _writer) = nix::unistd::pipe().unwrap();
        assert!(RawTerminal::of(reader).unwrap().is_none());
    }
}
