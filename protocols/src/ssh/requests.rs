//! What is asked in a session (RFC 4254 §4 to §7, OpenSSH PROTOCOL §2): read, named for the tap, and held against
//! what the session may do.

use super::channels::From;
use crate::endpoint::Allowed;
use crate::event::ssh::{ChannelKind, Listener, SshAction, TcpForward, TerminalSize};
use crate::reader::{Reader, Short};

/// A side asks for a channel.
pub(super) struct Open<'a> {
    pub(super) kind: ChannelKind<'a>,
    /// What it calls the channel.
    pub(super) sender: u32,
    /// Where in the message that stands.
    pub(super) sender_at: usize,
}

impl<'a> Open<'a> {
    /// Reads a message, its number included. Each side has kinds of its own: what the other's are is known to no side.
    pub(super) fn parse(from: From, payload: &'a [u8]) -> Result<Self, Short> {
        let mut reader = Reader::new(payload);
        reader.u8()?;
        let name = reader.string()?;
        let sender_at = payload.len() - reader.rest().len();
        let sender = reader.u32()?;
        // Window and largest packet: between the two sides.
        reader.take(8)?;
        let mut tcp = || {
            Ok(TcpForward {
                host: reader.string()?,
                port: reader.u32()?,
                origin_host: reader.string()?,
                origin_port: reader.u32()?,
            })
        };
        let kind = match (from, name) {
            (From::Client, b"session") => ChannelKind::Session,
            (From::Client, b"direct-tcpip") => ChannelKind::DirectTcpip(tcp()?),
            (From::Client, b"direct-streamlocal@openssh.com") => {
                ChannelKind::DirectStreamlocal { path: reader.string()? }
            }
            (From::Client, name) => ChannelKind::Unknown { name },
            (From::Upstream, b"forwarded-tcpip") => ChannelKind::ForwardedTcpip(tcp()?),
            (From::Upstream, b"forwarded-streamlocal@openssh.com") => {
                ChannelKind::ForwardedStreamlocal { path: reader.string()? }
            }
            (From::Upstream, b"auth-agent@openssh.com") => ChannelKind::Agent,
            (From::Upstream, b"x11") => ChannelKind::X11,
            (From::Upstream, name) => ChannelKind::Uninvited { name },
        };
        Ok(Self { kind, sender, sender_at })
    }
}

/// Whether the client may open such a channel.
pub(super) fn client_may_open(allowed: &Allowed, kind: &ChannelKind<'_>) -> bool {
    match kind {
        ChannelKind::Session => allowed.shell || allowed.exec || allowed.file_copy,
        ChannelKind::DirectTcpip(_) | ChannelKind::DirectStreamlocal { .. } => allowed.port_forwarding,
        ChannelKind::ForwardedTcpip(_)
        | ChannelKind::ForwardedStreamlocal { .. }
        | ChannelKind::Agent
        | ChannelKind::X11
        | ChannelKind::Unknown { .. }
        | ChannelKind::Uninvited { .. } => false,
    }
}

/// A request, for a channel or for the whole connection.
pub(super) struct Request<'a> {
    pub(super) name: &'a [u8],
    pub(super) want_reply: bool,
    pub(super) rest: Reader<'a>,
}

impl<'a> Request<'a> {
    /// Reads what follows a channel's number, or a global request's.
    pub(super) fn parse(mut rest: Reader<'a>) -> Result<Self, Short> {
        Ok(Self { name: rest.string()?, want_reply: rest.bool()?, rest })
    }

    /// What a request of the client's for a channel asks. `None`: it is passed on, and nobody's business.
    pub(super) fn channel_action(&self) -> Result<Option<SshAction<'a>>, Short> {
        let mut rest = self.rest;
        Ok(Some(match self.name {
            b"pty-req" => SshAction::Pty { term: rest.string()?, size: size(&mut rest)? },
            b"window-change" => SshAction::WindowChange(size(&mut rest)?),
            b"env" => SshAction::Env { name: rest.string()?, value: rest.string()? },
            b"shell" => SshAction::Shell,
            b"exec" => {
                let command = rest.string()?;
                SshAction::Exec { command, file_copy: copies_files(command) }
            }
            b"subsystem" => {
                let name = rest.string()?;
                SshAction::Subsystem { name, file_copy: name == b"sftp" }
            }
            b"auth-agent-req@openssh.com" => SshAction::Agent,
            b"x11-req" => SshAction::X11 { single: rest.bool()? },
            b"signal" => SshAction::Signal { name: rest.string()? },
            b"break" => SshAction::Signal { name: b"BREAK" },
            b"eow@openssh.com" => return Ok(None),
            name if is_sign_of_life(name) => return Ok(None),
            // PuTTY says that it opens one channel alone, and with each window asks for what nobody knows: the no tells it
            // how far the other end has read. There is nothing in either.
            b"simple@putty.projects.tartarus.org" | b"winadj@putty.projects.tartarus.org" => return Ok(None),
            name => SshAction::Unknown { name },
        }))
    }

    /// What a request of the client's for the connection asks, likewise.
    pub(super) fn global_action(&self) -> Result<Option<SshAction<'a>>, Short> {
        let mut rest = self.rest;
        let tcp = |rest: &mut Reader<'a>| Ok(Listener::Tcp { host: rest.string()?, port: rest.u32()? });
        Ok(Some(match self.name {
            b"tcpip-forward" => SshAction::Listen(tcp(&mut rest)?),
            b"cancel-tcpip-forward" => SshAction::CancelListen(tcp(&mut rest)?),
            b"streamlocal-forward@openssh.com" => SshAction::Listen(Listener::Unix { path: rest.string()? }),
            b"cancel-streamlocal-forward@openssh.com" => {
                SshAction::CancelListen(Listener::Unix { path: rest.string()? })
            }
            b"no-more-sessions@openssh.com" => return Ok(None),
            name if is_sign_of_life(name) => return Ok(None),
            name => SshAction::Unknown { name },
        }))
    }
}

/// Whether this asks for nothing but an answer. Each library has a name of its own for it: `keepalive@lag.net` is
/// paramiko's, `keepalive@jcraft.com` is JSch's, `keepalive@libssh2.org` is libssh2's.
fn is_sign_of_life(name: &[u8]) -> bool {
    name.starts_with(b"keepalive@")
}

/// Whether the session may do this.
pub(super) fn may(allowed: &Allowed, action: &SshAction<'_>) -> bool {
    match action {
        // OpenSSH leaves out a NUL at the end: it would run what it has another name for than we have.
        SshAction::Exec { command: text, .. } | SshAction::Subsystem { name: text, .. }
            if text.contains(&0) =>
        {
            false
        }
        SshAction::Pty { .. } | SshAction::WindowChange(_) => allowed.pty,
        SshAction::Env { .. } | SshAction::Signal { .. } => true,
        SshAction::Shell => allowed.shell,
        SshAction::Exec { file_copy, .. } => allowed.exec && (allowed.file_copy || !file_copy),
        SshAction::Subsystem { file_copy: true, .. } => allowed.file_copy,
        SshAction::Subsystem { file_copy: false, .. } => allowed.exec,
        SshAction::Agent => allowed.agent,
        SshAction::X11 { .. } => allowed.x11,
        SshAction::Listen(_) | SshAction::CancelListen(_) => allowed.port_forwarding,
        SshAction::Open(_)
        | SshAction::Unknown { .. }
        | SshAction::Output { .. }
        | SshAction::Input { .. }
        | SshAction::Sftp(_)
        | SshAction::Close { .. } => false,
    }
}

/// A terminal's size; what it measures in pixels is left out.
fn size(rest: &mut Reader<'_>) -> Result<TerminalSize, Short> {
    Ok(TerminalSize { columns: rest.u32()?, rows: rest.u32()? })
}

/// Whether a command is the far side of `scp`, or an SFTP server, as clients start them. Who writes it in another
/// way only copies as whoever may run commands can.
fn copies_files(command: &[u8]) -> bool {
    let mut words = command.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let program = words.next().unwrap_or_default();
    match program.rsplit(|byte| *byte == b'/').next().unwrap_or_default() {
        b"sftp-server" => true,
        b"scp" => words
            .take_while(|word| word.starts_with(b"-") && *word != b"--")
            .any(|word| !word.starts_with(b"--") && word.iter().any(|letter| matches!(letter, b't' | b'f'))),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::Put;
    use super::*;

    #[test]
    fn scp_and_sftp_servers_are_known_by_their_commands() {
        for command in
            ["scp -t /tmp", "/usr/bin/scp -r -p -d -t -- /tmp", "scp -rf x", "/usr/lib/openssh/sftp-server"]
        {
            assert!(copies_files(command.as_bytes()), "{command}");
        }
        for command in ["", "scp", "scp a b:", "ls -t", "echo scp -t", "scp -- -t", "rsync --server ."] {
            assert!(!copies_files(command.as_bytes()), "{command}");
        }
    }

    #[test]
    fn nothing_is_allowed_unless_somebody_says_so() {
        let nothing = Allowed::default();
        let tcp = TcpForward { host: b"h", port: 1, origin_host: b"o", origin_port: 2 };
        for kind in [
            ChannelKind::Session,
            ChannelKind::DirectTcpip(tcp),
            ChannelKind::DirectStreamlocal { path: b"/s" },
        ] {
            assert!(!client_may_open(&nothing, &kind) && client_may_open(&Allowed::everything(), &kind));
        }
        for action in [
            SshAction::Shell,
            SshAction::Pty { term: b"xterm", size: TerminalSize::default() },
            SshAction::Exec { command: b"id", file_copy: false },
            SshAction::Subsystem { name: b"sftp", file_copy: true },
            SshAction::Subsystem { name: b"netconf", file_copy: false },
            SshAction::Agent,
            SshAction::X11 { single: false },
            SshAction::Listen(Listener::Tcp { host: b"", port: 0 }),
        ] {
            assert!(!may(&nothing, &action), "{action:?}");
            assert!(may(&Allowed::everything(), &action), "{action:?}");
        }
        assert!(!may(&Allowed::everything(), &SshAction::Unknown { name: b"tun" }));
    }

    #[test]
    fn what_the_host_may_read_as_another_name_is_not_allowed() {
        let everything = Allowed::everything();
        for name in [&b"sftp\0"[..], b"sf\0tp", b"\0"] {
            assert!(!may(&everything, &SshAction::Subsystem { name, file_copy: false }));
        }
        let command = b"/usr/lib/openssh/sftp-server\0";
        assert!(!may(&everything, &SshAction::Exec { command, file_copy: copies_files(command) }));
    }

    #[test]
    fn a_client_opens_nothing_that_is_the_hosts_to_open() {
        let all = Allowed::everything();
        let tcp = TcpForward { host: b"h", port: 1, origin_host: b"o", origin_port: 2 };
        for kind in [ChannelKind::Agent, ChannelKind::X11, ChannelKind::ForwardedTcpip(tcp)] {
            assert!(!client_may_open(&all, &kind), "{kind:?}");
        }
        let mut asked = vec![90];
        asked.put_string(b"auth-agent@openssh.com");
        asked.extend([0; 12]);
        let kind = |from| Open::parse(from, &asked).unwrap().kind;
        assert_eq!(kind(From::Client), ChannelKind::Unknown { name: b"auth-agent@openssh.com" });
        assert_eq!(kind(From::Upstream), ChannelKind::Agent);
    }
}
