//! Where the upstream is, how it proves itself, and what we prove to it.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;

use crate::secret::Secret;
use crate::ssh::SshKey;

mod socket;
mod ssh;
mod unix;

pub(crate) use socket::{Socket, UpstreamStream, prepare};
pub use ssh::{Allowed, SshTerms};

/// The address of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamAddress {
    /// TCP; the host is a name or an address.
    Tcp {
        /// Name or address.
        host: String,
        /// Port, 1 to 65535.
        port: u16,
    },
    /// What a name was found to mean: tried in this order.
    Found(Arc<[SocketAddr]>),
    /// The socket file itself (`/run/postgresql/.s.PGSQL.5432`), not its directory.
    Unix(PathBuf),
}

impl fmt::Display for UpstreamAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Found(addresses) => match addresses.first() {
                Some(address) => address.fmt(f),
                None => f.write_str("nowhere"),
            },
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// TLS towards the upstream. When it is set, there is no fallback to plaintext.
#[derive(Clone, Debug)]
pub struct UpstreamTls {
    /// Verification of the upstream, and our client certificate, if any.
    pub config: Arc<ClientConfig>,
    /// The name that the upstream's certificate must carry.
    pub server_name: ServerName<'static>,
}

/// What we may prove to the upstream, beside a client certificate.
#[derive(Clone, Debug)]
pub enum Credential {
    /// Nothing: client certificate, peer credentials of a Unix socket, or `trust`.
    None,
    /// A password, spoken by SCRAM; in clear over TLS alone; never by MD5.
    Password(Secret),
    /// The same, and MD5 is good enough where the upstream asks for it.
    PasswordEvenByMd5(Secret),
    /// The same, and where there is no TLS, it may go encrypted with whatever RSA key the other side sends
    /// (MySQL): nobody proves whose key that is.
    PasswordEvenByUnknownKey(Secret),
    /// An SSH key.
    Ssh {
        /// The key.
        key: SshKey,
        /// The certificate for it, in its wire form; `None` where the upstream knows the key itself.
        certificate: Option<Vec<u8>>,
    },
}

/// Everything needed to open a connection to the upstream.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Where it is.
    pub address: UpstreamAddress,
    /// How it proves itself; `None` is plaintext, for Unix sockets and loopback.
    pub tls: Option<UpstreamTls>,
    /// What we prove.
    pub credential: Credential,
    /// What holds in the session from before the client's first statement on, in this order.
    pub settings: Vec<Setting>,
    /// Whether a login that asks for replication may be dialled at all: whoever forgets to decide about
    /// [`crate::Login::replication`] lets nobody in.
    pub replication_allowed: bool,
    /// Whether the upstream may ask the client for a file (MySQL `LOAD DATA LOCAL INFILE`): whoever forgets to
    /// decide about it hands out nothing.
    pub local_infile_allowed: bool,
    /// For an upstream that speaks SSH, and needed there.
    pub ssh: Option<SshTerms>,
}

/// A setting of the upstream's session: `statement_timeout` = `30s`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name: identifiers with dots between them.
    pub name: String,
    /// Its value, as in a configuration file but without quotes; at most 1,000 bytes, and no NUL. What is not
    /// ASCII comes right after RESET in databases of UTF-8 alone.
    pub value: String,
}
