//! The modes of a terminal as SSH carries them (RFC 4254, section 8), so that the far terminal behaves as the near one.

use nix::sys::termios::{
    ControlFlags, InputFlags, LocalFlags, OutputFlags, SpecialCharacterIndices as Index, Termios,
};
use russh::Pty;

/// What is said of the speed, which no pseudo-terminal has.
const SPEED: u32 = 38_400;
/// A key that does nothing: `_POSIX_VDISABLE` here, 255 in SSH.
const DISABLED: (u8, u32) = (0, 255);

const CHARACTERS: &[(Index, Pty)] = &[
    (Index::VINTR, Pty::VINTR),
    (Index::VQUIT, Pty::VQUIT),
    (Index::VERASE, Pty::VERASE),
    (Index::VKILL, Pty::VKILL),
    (Index::VEOF, Pty::VEOF),
    (Index::VEOL, Pty::VEOL),
    (Index::VEOL2, Pty::VEOL2),
    (Index::VSTART, Pty::VSTART),
    (Index::VSTOP, Pty::VSTOP),
    (Index::VSUSP, Pty::VSUSP),
    (Index::VREPRINT, Pty::VREPRINT),
    (Index::VWERASE, Pty::VWERASE),
    (Index::VLNEXT, Pty::VLNEXT),
    (Index::VDISCARD, Pty::VDISCARD),
];

const INPUT: &[(InputFlags, Pty)] = &[
    (InputFlags::IGNPAR, Pty::IGNPAR),
    (InputFlags::PARMRK, Pty::PARMRK),
    (InputFlags::INPCK, Pty::INPCK),
    (InputFlags::ISTRIP, Pty::ISTRIP),
    (InputFlags::INLCR, Pty::INLCR),
    (InputFlags::IGNCR, Pty::IGNCR),
    (InputFlags::ICRNL, Pty::ICRNL),
    (InputFlags::IXON, Pty::IXON),
    (InputFlags::IXANY, Pty::IXANY),
    (InputFlags::IXOFF, Pty::IXOFF),
    (InputFlags::IMAXBEL, Pty::IMAXBEL),
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    (InputFlags::IUTF8, Pty::IUTF8),
];

const LOCAL: &[(LocalFlags, Pty)] = &[
    (LocalFlags::ISIG, Pty::ISIG),
    (LocalFlags::ICANON, Pty::ICANON),
    (LocalFlags::ECHO, Pty::ECHO),
    (LocalFlags::ECHOE, Pty::ECHOE),
    (LocalFlags::ECHOK, Pty::ECHOK),
    (LocalFlags::ECHONL, Pty::ECHONL),
    (LocalFlags::NOFLSH, Pty::NOFLSH),
    (LocalFlags::TOSTOP, Pty::TOSTOP),
    (LocalFlags::IEXTEN, Pty::IEXTEN),
    (LocalFlags::ECHOCTL, Pty::ECHOCTL),
    (LocalFlags::ECHOKE, Pty::ECHOKE),
    (LocalFlags::PENDIN, Pty::PENDIN),
];

const OUTPUT: &[(OutputFlags, Pty)] = &[
    (OutputFlags::OPOST, Pty::OPOST),
    (OutputFlags::ONLCR, Pty::ONLCR),
    (OutputFlags::OCRNL, Pty::OCRNL),
    (OutputFlags::ONOCR, Pty::ONOCR),
    (OutputFlags::ONLRET, Pty::ONLRET),
];

const CONTROL: &[(ControlFlags, Pty)] = &[
    (ControlFlags::CS7, Pty::CS7),
    (ControlFlags::CS8, Pty::CS8),
    (ControlFlags::PARENB, Pty::PARENB),
    (ControlFlags::PARODD, Pty::PARODD),
];

/// All that SSH knows of a terminal's modes.
pub(super) fn of(terminal: &Termios) -> Vec<(Pty, u32)> {
    let character = |&(index, name): &(Index, Pty)| {
        let value = terminal.control_chars.get(index as usize).copied().unwrap_or(DISABLED.0);
        (name, if value == DISABLED.0 { DISABLED.1 } else { value.into() })
    };
    let mut modes: Vec<_> = CHARACTERS.iter().map(character).collect();
    modes.extend(INPUT.iter().map(|&(flag, name)| (name, terminal.input_flags.contains(flag).into())));
    modes.extend(LOCAL.iter().map(|&(flag, name)| (name, terminal.local_flags.contains(flag).into())));
    modes.extend(OUTPUT.iter().map(|&(flag, name)| (name, terminal.output_flags.contains(flag).into())));
    modes.extend(CONTROL.iter().map(|&(flag, name)| (name, terminal.control_flags.contains(flag).into())));
    modes.extend([(Pty::TTY_OP_ISPEED, SPEED), (Pty::TTY_OP_OSPEED, SPEED)]);
    modes
}

#[cfg(test)]
mod tests {
    use nix::{pty::openpty, sys::termios::tcgetattr};

    use super::*;

    #[test]
    fn the_keys_of_the_near_terminal_are_those_of_the_far_one() {
        let pty = openpty(None, None).unwrap();
        let modes = of(&tcgetattr(&pty.slave).unwrap());
        let of = |name| modes.iter().find(|(mode, _)| *mode == name).map(|(_, value)| *value);
        assert_eq!(of(Pty::VINTR), Some(3));
        assert_eq!(of(Pty::ECHO), Some(1));
        assert_eq!(of(Pty::VEOL), Some(255), "no key");
        assert_eq!(of(Pty::TTY_OP_OSPEED), Some(SPEED));
    }
}
