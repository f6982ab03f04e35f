//! Forwarded ports: what `-L`, `-R` and `-D` say, and who listens for it.
//!
//! As with ssh, a port that is forwarded is open to whoever reaches it: it listens on the loopback interface unless another
//! address is named.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

mod listener;
mod pump;
mod socks;
mod target;

pub use listener::{Forwarding, ListenError, Listening};
pub use pump::channel_stream;
pub use target::{Target, Way};

use super::handler::Events;

/// Where something listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A port.
    Tcp {
        /// The address; `None`: loopback. `*` and the empty text are every address.
        address: Option<String>,
        /// The port; 0: one that is free.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

/// `-L`: we listen, and the node connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// Here.
    pub listen: Listen,
    /// From there.
    pub to: Target,
}

/// `-R`: the node listens, and we connect; without a destination, where each client there asks (SOCKS).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// There.
    pub listen: Listen,
    /// From here.
    pub to: Way,
}

/// `-D`: we listen, and the client says where the node shall connect (SOCKS).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dynamic {
    /// Here.
    pub listen: Listen,
}

/// Why a text is no forwarding.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad forwarding specification {0:?}")]
pub struct ForwardError(String);

impl Remote {
    /// What the host is asked to listen on: as OpenSSH says it.
    fn address(&self) -> Option<(&str, u16)> {
        match &self.listen {
            Listen::Tcp { address, port } => Some((address.as_deref().unwrap_or("localhost"), *port)),
            Listen::Unix(_) => None,
        }
    }

    /// Asks the host; answers with the port where it chose one.
    pub(super) async fn ask(
        &self,
        handle: &russh::client::Handle<Events>,
    ) -> Result<Option<u16>, russh::Error> {
        match (&self.listen, self.address()) {
            (Listen::Unix(path), _) => {
                handle.streamlocal_forward(path.to_string_lossy()).await?;
                Ok(None)
            }
            (_, Some((address, port))) => {
                let address = if address == "*" { "" } else { address };
                let chosen = handle.tcpip_forward(address, port.into()).await?;
                let chosen = u16::try_from(chosen).map_err(|_| russh::Error::Inconsistent)?;
                Ok(Some(chosen).filter(|_| port == 0))
            }
            (_, None) => Ok(None),
        }
    }

    /// True where a connection to this port of the host is for us. Its address is left: a host may name it in its own way.
    pub(super) fn is_listening_on(&self, port: u32) -> bool {
        self.address().is_some_and(|(_, ours)| ours != 0 && u32::from(ours) == port)
    }

    /// True where a connection to this socket of the host is for us.
    pub(super) fn is_listening_at(&self, path: &str) -> bool {
        matches!(&self.listen, Listen::Unix(ours) if ours == Path::new(path))
    }
}

impl FromStr for Local {
    type Err = ForwardError;
    fn from_str(text: &str) -> Result<Self, ForwardError> {
        let (listen, to) = pair(text)?;
        Ok(Self { listen, to })
    }
}

impl FromStr for Remote {
    type Err = ForwardError;
    fn from_str(text: &str) -> Result<Self, ForwardError> {
        // Without a destination, as -D says it.
        if let Ok(Dynamic { listen }) = text.parse() {
            return Ok(Self { listen, to: Way::AsTheyAsk });
        }
        let (listen, to) = pair(text)?;
        Ok(Self { listen, to: Way::To(to) })
    }
}

impl FromStr for Dynamic {
    type Err = ForwardError;
    fn from_str(text: &str) -> Result<Self, ForwardError> {
        let wrong = || ForwardError(text.to_owned());
        let fields = fields(text).ok_or_else(wrong)?;
        Ok(Self { listen: tcp(&fields).ok_or_else(wrong)? })
    }
}

/// `[bind:]port:host:hostport`, and a path for either side.
fn pair(text: &str) -> Result<(Listen, Target), ForwardError> {
    let wrong = || ForwardError(text.to_owned());
    let fields = fields(text).ok_or_else(wrong)?;
    let (listen, to) = match fields.as_slice() {
        [listen @ .., path] if is_path(path) => (listen, Target::Unix(path.into())),
        [listen @ .., host, port] => {
            let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
            if host.is_empty() {
                return Err(wrong());
            }
            (listen, Target::Tcp { host: host.clone(), port })
        }
        _ => return Err(wrong()),
    };
    let listen = match listen {
        [path] if is_path(path) => Listen::Unix(path.into()),
        listen => tcp(listen).ok_or_else(wrong)?,
    };
    Ok((listen, to))
}

fn tcp(fields: &[String]) -> Option<Listen> {
    match fields {
        [port] => Some(Listen::Tcp { address: None, port: port.parse().ok()? }),
        [address, port] if !is_path(address) => {
            Some(Listen::Tcp { address: Some(address.clone()), port: port.parse().ok()? })
        }
        _ => None,
    }
}

fn is_path(field: &str) -> bool {
    field.starts_with('/')
}

/// Splits at colons, those of an address in brackets apart.
fn fields(text: &str) -> Option<Vec<String>> {
    let mut fields = vec![];
    let mut rest = text;
    loop {
        let (field, after) = match rest.strip_prefix('[') {
            Some(bracketed) => bracketed.split_once(']')?,
            None => rest.split_at(rest.find(':').unwrap_or(rest.len())),
        };
        fields.push(field.to_owned());
        match after.strip_prefix(':') {
            Some(next) => rest = next,
            None if after.is_empty() => return Some(fields),
            None => return None,
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { address: None, port } => write!(f, "{port}"),
            Self::Tcp { address: Some(address), port } => write!(f, "{address}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp_target(host: &str, port: u16) -> Target {
        Target::Tcp { host: host.to_owned(), port }
    }

    fn listen(address: Option<&str>, port: u16) -> Listen {
        Listen::Tcp { address: address.map(str::to_owned), port }
    }

    #[test]
    fn forwardings_read_as_ssh_writes_them() {
        let local = |text: &str| text.parse::<Local>().map(|local| (local.listen, local.to)).unwrap();
        assert_eq!(local("8080:localhost:80"), (listen(None, 8080), tcp_target("localhost", 80)));
        assert_eq!(local("0.0.0.0:1:h:2"), (listen(Some("0.0.0.0"), 1), tcp_target("h", 2)));
        assert_eq!(local("[::1]:1:[fe80::1]:2"), (listen(Some("::1"), 1), tcp_target("fe80::1", 2)));
        assert_eq!(local(":1:h:2"), (listen(Some(""), 1), tcp_target("h", 2)));
        assert_eq!(local("5432:/run/s"), (listen(None, 5432), Target::Unix("/run/s".into())));
        assert_eq!(local("/a:/b"), (Listen::Unix("/a".into()), Target::Unix("/b".into())));
        assert_eq!(local("/a:h:1"), (Listen::Unix("/a".into()), tcp_target("h", 1)));
        assert_eq!("1080".parse::<Dynamic>().unwrap().listen, listen(None, 1080));
        assert_eq!("*:1080".parse::<Dynamic>().unwrap().listen, listen(Some("*"), 1080));
    }

    #[test]
    fn what_is_no_forwarding_is_refused() {
        for wrong in
            ["", "80", "80:h", "x:h:80", "80:h:x", "80:h:0", "80::80", "1:2:h:3:4", "[::1:1:h:2", "70000:h:1"]
        {
            assert!(wrong.parse::<Local>().is_err(), "{wrong}");
        }
        for wrong in ["", "x", "a:b:1", "/path", "1:2:3"] {
            assert!(wrong.parse::<Dynamic>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_host_may_connect_to_us_where_we_asked_it_to_listen_and_nowhere_else() {
        let remote: Remote = "2222:localhost:22".parse().unwrap();
        assert!(remote.is_listening_on(2222));
        assert!(!remote.is_listening_on(22));
        assert!(!remote.is_listening_at("/run/s"));
        let remote: Remote = "/run/s:localhost:22".parse().unwrap();
        assert!(remote.is_listening_at("/run/s"));
        assert!(!remote.is_listening_on(0));
        let dynamic: Remote = "*:2222".parse().unwrap();
        assert!(dynamic.is_listening_on(2222) && dynamic.to == Way::AsTheyAsk);
        assert!("localhost:x".parse::<Remote>().is_err() && "/run/s".parse::<Remote>().is_err());
        let chosen: Remote = "0:localhost:22".parse().unwrap();
        assert!(!chosen.is_listening_on(0), "not before the port is known");
    }
}
