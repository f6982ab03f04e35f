//! What the client has lent to the host. On its own a host opens nothing: its channels are answers to what was asked
//! for, by the same names, and no others.

use std::collections::HashSet;
use std::net::IpAddr;

use crate::endpoint::Allowed;
use crate::event::ssh::{ChannelKind, Listener};
use crate::reader::Reader;

/// Addresses and socket files at which the host may listen for the client at the same time.
pub(super) const LISTENERS: usize = 1_024;
/// Bytes of a name: more than the longest DNS name, and than the longest path of a socket file, have.
const NAME: usize = 255;

/// Where the host may listen for the client, as the client named it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Listening {
    /// A TCP port; 0 until the host has chosen one.
    Tcp { host: Vec<u8>, port: u32 },
    /// A socket file.
    Unix { path: Vec<u8> },
}

impl Listening {
    /// `None` where the name is longer than any that there is.
    pub(super) fn at(listener: Listener<'_>) -> Option<Self> {
        let (name, listening) = match listener {
            Listener::Tcp { host, port } => (host, Self::Tcp { host: host.to_vec(), port }),
            Listener::Unix { path } => (path, Self::Unix { path: path.to_vec() }),
        };
        (name.len() <= NAME).then_some(listening)
    }

    /// Whether the host chooses the port.
    pub(super) fn is_chosen_by_host(&self) -> bool {
        matches!(self, Self::Tcp { port: 0, .. })
    }

    /// With the port that the host has chosen, where it was to: its yes says which (RFC 4254 §7.1). `None` where it
    /// does not.
    pub(super) fn granted(self, yes: &[u8]) -> Option<Self> {
        match self {
            Self::Tcp { host, port: 0 } => {
                let port = Reader::new(yes.get(1..)?).u32().ok()?;
                Some(Self::Tcp { host, port })
            }
            asked => Some(asked),
        }
    }

    /// Whether a connection that came in there is one that this was asked for.
    fn covers(&self, kind: &ChannelKind<'_>) -> bool {
        match (self, kind) {
            (Self::Tcp { host, port }, ChannelKind::ForwardedTcpip(tcp)) => {
                *port == tcp.port && covers(host, tcp.host)
            }
            (Self::Unix { path }, ChannelKind::ForwardedStreamlocal { path: named }) => path == named,
            _ => false,
        }
    }
}

/// Whether a host that was asked to listen at one address may name it by the other. OpenSSH repeats what it was asked
/// for; others say where the connection came in (RFC 4254 §7.2), which for a wildcard is any of the host's addresses.
fn covers(asked: &[u8], named: &[u8]) -> bool {
    let is_everywhere = |name: &[u8]| matches!(name, b"" | b"*" | b"0.0.0.0" | b"::");
    asked == named
        || (is_everywhere(asked) && (is_everywhere(named) || address(named).is_some()))
        || (is_loopback(asked) && is_loopback(named))
}

fn is_loopback(name: &[u8]) -> bool {
    name == b"localhost" || address(name).is_some_and(|address| address.is_loopback())
}

fn address(name: &[u8]) -> Option<IpAddr> {
    std::str::from_utf8(name).ok()?.parse().ok()
}

/// What the host may open channels for, at the moment.
#[derive(Debug, Default)]
pub(super) struct Lent {
    pub(super) agent: bool,
    /// The display, for any number of connections. For a single one it is lent in [`super::channels::Table`], by the
    /// channel that it goes with.
    pub(super) display: bool,
    listeners: HashSet<Listening>,
}

impl Lent {
    /// The host has agreed to listen.
    pub(super) fn listen(&mut self, listening: Listening) {
        self.listeners.insert(listening);
    }

    /// The client does not want it any more.
    pub(super) fn cancel(&mut self, listening: &Listening) {
        self.listeners.remove(listening);
    }

    /// Where the host listens.
    pub(super) fn listeners(&self) -> usize {
        self.listeners.len()
    }

    /// Whether the host may open such a channel. `display`: whether one is lent for a single connection.
    pub(super) fn may_open(&self, allowed: &Allowed, display: bool, kind: &ChannelKind<'_>) -> bool {
        match kind {
            ChannelKind::ForwardedTcpip(_) | ChannelKind::ForwardedStreamlocal { .. } => {
                allowed.port_forwarding && self.listeners.iter().any(|listening| listening.covers(kind))
            }
            ChannelKind::Agent => allowed.agent && self.agent,
            ChannelKind::X11 => allowed.x11 && (self.display || display),
            ChannelKind::Session
            | ChannelKind::DirectTcpip(_)
            | ChannelKind::DirectStreamlocal { .. }
            | ChannelKind::Unknown { .. }
            | ChannelKind::Uninvited { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::ssh::TcpForward;

    fn tcp(host: &[u8], port: u32) -> ChannelKind<'_> {
        ChannelKind::ForwardedTcpip(TcpForward { host, port, origin_host: b"o", origin_port: 2 })
    }

    fn listening(host: &[u8], port: u32) -> Listening {
        Listening::at(Listener::Tcp { host, port }).unwrap()
    }

    #[test]
    fn a_host_opens_only_what_the_client_has_asked_for() {
        let all = Allowed::everything();
        for kind in [ChannelKind::Agent, ChannelKind::X11, tcp(b"h", 1), ChannelKind::Session] {
            assert!(!Lent::default().may_open(&all, false, &kind), "{kind:?}");
        }
        let mut lent = Lent { agent: true, display: true, ..Lent::default() };
        lent.listen(listening(b"h", 1));
        for kind in [ChannelKind::Agent, ChannelKind::X11, tcp(b"h", 1)] {
            assert!(lent.may_open(&all, false, &kind));
            assert!(!lent.may_open(&Allowed::default(), true, &kind));
        }
        for kind in [tcp(b"h", 2), tcp(b"i", 1), ChannelKind::ForwardedStreamlocal { path: b"h" }] {
            assert!(!lent.may_open(&all, false, &kind), "{kind:?}");
        }
        lent.cancel(&listening(b"h", 1));
        assert!(!lent.may_open(&all, false, &tcp(b"h", 1)));
    }

    #[test]
    fn an_address_may_have_another_name_that_means_the_same() {
        for (asked, named) in [
            (&b""[..], &b"0.0.0.0"[..]),
            (b"*", b""),
            (b"::", b"192.0.2.7"),
            (b"0.0.0.0", b"127.0.0.1"),
            (b"", b"2001:db8::1"),
            (b"localhost", b"127.0.0.1"),
            (b"127.0.0.1", b"localhost"),
            (b"localhost", b"::1"),
            (b"db.example.com", b"db.example.com"),
        ] {
            assert!(listening(asked, 8080).covers(&tcp(named, 8080)), "{asked:?} {named:?}");
            assert!(!listening(asked, 8080).covers(&tcp(named, 8081)), "{asked:?} {named:?}");
        }
        for (asked, named) in [
            (&b"localhost"[..], &b""[..]),
            (b"127.0.0.1", b"192.0.2.7"),
            (b"192.0.2.7", b"0.0.0.0"),
            (b"", b"db.example.com"),
            (b"localhost", b"localhost.example.com"),
            (b"db.example.com", b"DB.example.com"),
        ] {
            assert!(!listening(asked, 8080).covers(&tcp(named, 8080)), "{asked:?} {named:?}");
        }
    }

    #[test]
    fn a_port_that_the_host_chooses_is_the_one_that_it_says() {
        let asked = listening(b"", 0);
        assert!(asked.is_chosen_by_host());
        assert_eq!(asked.clone().granted(&[81, 0, 0, 0x9c, 0x40]), Some(listening(b"", 40_000)));
        assert_eq!(asked.granted(&[81, 0, 0]), None);
        assert_eq!(listening(b"", 22).granted(&[81]), Some(listening(b"", 22)));
    }

    #[test]
    fn no_name_is_kept_that_is_longer_than_any_there_is() {
        assert_eq!(Listening::at(Listener::Unix { path: &[b'p'; NAME + 1] }), None);
        assert_eq!(Listening::at(Listener::Tcp { host: &[b'h'; NAME + 1], port: 1 }), None);
    }
}
