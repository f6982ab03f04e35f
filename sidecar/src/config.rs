//! What a sidecar is told: from one strict YAML file, or from flags alone for one target.
//!
//! Everything is checked before anything is opened. Unknown keys are errors that name file, line and key; secrets are given
//! by file. `sidecar.yaml` beside this crate's manifest is the commented example, and a test parses it.

use std::{
    collections::BTreeMap,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use auth::{
    api::CaPin,
    identity::{Protocol, TargetName},
};
use protocols::{UpstreamAddress, ssh::HostKeys};
use rustls_pki_types::ServerName;
use zeroize::Zeroizing;

mod error;
mod file;
mod values;

pub use self::error::ConfigError;
pub use self::values::{Labels, Name, Period, Size, Tls, Uri, ValueError, parse_duration};
use crate::admission::Room;
pub use crate::audit::Parameters;

/// Where identity and audit spool are kept unless said otherwise.
pub const DEFAULT_DATA_DIR: &str = "/var/lib/touchstone-sidecar";
/// How long live sessions may go on after SIGTERM.
pub const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// Audit that waits for authd, at most: 1 GiB.
pub const DEFAULT_SPOOL_BOUND: u64 = 1024 * 1024 * 1024;
/// Recordings that wait for authd, at most: 1 GiB.
pub const DEFAULT_RECORDINGS_BOUND: u64 = 1024 * 1024 * 1024;
/// Below this, a few large queries would stop all sessions.
pub const MIN_SPOOL_BOUND: u64 = 16 * 1024 * 1024;
/// Far more than one database takes; each idle session costs some 40 KiB.
pub const DEFAULT_ROOM: Room = Room { connections: 15_000, unknown: 1_024, unknown_per_address: 256 };
/// No join token and no password is longer.
const MAX_SECRET_BYTES: u64 = 4096;

/// Everything that a sidecar is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// authd, HOST:PORT.
    pub auth_server: String,
    /// What authd's authority is checked against at the first contact. Needed to join, not after.
    pub ca_pins: Vec<CaPin>,
    /// The join token. Needed to join, not after.
    pub token: Option<Token>,
    /// Identity and audit spool; made if missing, readable by its owner alone.
    pub data_dir: PathBuf,
    /// Where `/metrics`, `/healthz` and `/readyz` are served.
    pub diag_addr: Option<SocketAddr>,
    /// How long live sessions may go on after SIGTERM.
    pub drain_timeout: Duration,
    /// Bytes of audit on disk beyond which no session starts.
    pub spool_bound: u64,
    /// Bytes of recordings on disk beyond which no terminal is recorded.
    pub recordings_bound: u64,
    /// Room on each listener.
    pub room: Room,
    /// At least one; names and listen addresses are unique.
    pub targets: Vec<TargetConfig>,
}

/// Where the join token comes from.
#[derive(Clone)]
pub enum Token {
    /// Said on the command line, where other users of the host can read it.
    Literal(Zeroizing<String>),
    /// In a file.
    File(PathBuf),
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Literal(_) => f.write_str("Literal(…)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

/// One target and the listener in front of it.
#[derive(Clone, Debug)]
pub struct TargetConfig {
    /// Its name in the cluster.
    pub name: TargetName,
    /// For people.
    pub description: String,
    /// What it speaks.
    pub protocol: Protocol,
    /// What roles match.
    pub labels: BTreeMap<String, String>,
    /// Where clients are awaited; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Where clients are told to go; `None`: the listen address, or where that is every address, the machine's own name.
    pub public_addr: Option<String>,
    /// Whether the audit trail holds the values of bound parameters.
    pub parameters: Parameters,
    /// The version that MySQL clients are greeted with, in place of the upstream's own.
    pub mysql_version: Option<String>,
    /// What is guarded.
    pub upstream: UpstreamConfig,
}

/// How the upstream is reached.
#[derive(Clone, Debug)]
pub struct UpstreamConfig {
    /// Where it is.
    pub address: UpstreamAddress,
    /// How it must prove itself.
    pub tls: TlsMode,
    /// Authorities for its certificate (PEM), in place of the cluster's db authority.
    pub ca_file: Option<PathBuf>,
    /// The name that its certificate must carry, in place of the address's host.
    pub server_name: Option<ServerName<'static>>,
    /// What the sidecar proves to it.
    pub credential: CredentialSource,
    /// How a host's sshd proves itself; empty for databases.
    pub ssh: SshUpstream,
    /// MySQL without TLS: the password may go encrypted with whatever RSA key the other side sends. By name only: nobody
    /// proves whose key that is.
    pub danger_any_rsa_key: bool,
}

/// How a host's sshd proves itself: by its key, or by a certificate for its key. One of them must be said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SshUpstream {
    /// Lines such as `ssh-ed25519 AAAA…`: any of these.
    pub host_keys: Vec<String>,
    /// A file of such lines (`/etc/ssh/ssh_host_ed25519_key.pub`). Read at start.
    pub host_key_file: Option<PathBuf>,
    /// Authorities of host certificates, lines likewise.
    pub host_authorities: Vec<String>,
    /// The names of which a host certificate must carry one, in place of the address's host.
    pub host_names: Vec<String>,
}

impl SshUpstream {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// How the upstream must prove itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// Trusted authority, and the right name.
    VerifyFull,
    /// Trusted authority, whatever the name.
    VerifyCa,
    /// Encrypted, with whoever answers. By name only.
    Insecure,
    /// Not at all: for a Unix socket, or a TCP address for which it was asked by name.
    Plaintext,
}

/// What the sidecar proves to the upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialSource {
    /// A client certificate for the database user, issued by the cluster's db-client authority.
    ClientCertificate,
    /// A password: by SCRAM, or by whichever of MySQL's methods the upstream asks for. Read for each session, so that it can be changed in place.
    PasswordFile(PathBuf),
    /// A user certificate of SSH for the account, issued by the cluster's openssh authority.
    SshCertificate,
    /// A private key of SSH (`-----BEGIN OPENSSH PRIVATE KEY-----`). Read for each session, so that it can be changed in place.
    SshKeyFile(PathBuf),
    /// Nothing: on a Unix socket, `peer` or `trust`, `auth_socket` or `unix_socket`.
    None,
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text =
            fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(path, &text)
    }

    /// Checks the text of a file; `path` is for messages.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        file::parse(path, text)?.checked()
    }

    /// The checks that concern several values, for both a file and flags.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn checked(self) -> Result<Self, ConfigError> {
        if self.targets.is_empty() {
            return Err(ConfigError::NoTargets);
        }
        if self.spool_bound < MIN_SPOOL_BOUND {
            return Err(ConfigError::SpoolBound { what: "audit", bytes: self.spool_bound });
        }
        if self.recordings_bound < MIN_SPOOL_BOUND {
            return Err(ConfigError::SpoolBound { what: "recordings", bytes: self.recordings_bound });
        }
        for (what, room) in [
            ("max_connections", self.room.connections),
            ("max_unknown", self.room.unknown),
            ("max_unknown_per_address", self.room.unknown_per_address),
        ] {
            if room == 0 {
                return Err(ConfigError::NoRoom { what });
            }
        }
        for (index, target) in self.targets.iter().enumerate() {
            target.check()?;
            for other in self.targets.iter().skip(index + 1) {
                let twice = |what| ConfigError::Twice {
                    what,
                    first: target.name.clone(),
                    second: other.name.clone(),
                };
                if target.name == other.name {
                    return Err(twice("name"));
                }
                if target.listen == other.listen && target.listen.port() != 0 {
                    return Err(twice("listen address"));
                }
            }
        }
        Ok(self)
    }
}

impl TargetConfig {
    fn check(&self) -> Result<(), ConfigError> {
        match (self.protocol, &self.mysql_version) {
            (Protocol::Postgres | Protocol::Ssh, Some(_)) => {
                return Err(self.wrong("mysql.server_version goes with protocol: mysql"));
            }
            (Protocol::Mysql, Some(version)) if !is_version(version) => {
                return Err(self.wrong("mysql.server_version is 1 to 100 printable ASCII characters"));
            }
            (Protocol::Postgres | Protocol::Mysql | Protocol::Ssh, _) => {}
        }
        if self.upstream.danger_any_rsa_key && self.protocol != Protocol::Mysql {
            return Err(self.wrong("upstream.danger_any_rsa_key goes with protocol: mysql"));
        }
        let checked = match self.protocol {
            Protocol::Ssh => self.upstream.check_node(),
            Protocol::Postgres | Protocol::Mysql => self.upstream.check(),
        };
        checked.map_err(|what| self.wrong(what))
    }

    fn wrong(&self, what: &'static str) -> ConfigError {
        ConfigError::Upstream { target: self.name.clone(), what }
    }
}

/// What a greeting can hold: clients read it up to a NUL, and show it on terminals.
fn is_version(text: &str) -> bool {
    (1..=100).contains(&text.len()) && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

impl UpstreamConfig {
    /// What is right where nothing is said: a client certificate over verified TLS; on a Unix socket, neither.
    #[must_use]
    pub fn new(address: UpstreamAddress, tls: Option<TlsMode>, password_file: Option<PathBuf>) -> Self {
        let is_unix = matches!(address, UpstreamAddress::Unix(_));
        let tls = tls.unwrap_or(if is_unix { TlsMode::Plaintext } else { TlsMode::VerifyFull });
        let credential = match password_file {
            Some(path) => CredentialSource::PasswordFile(path),
            None if tls == TlsMode::Plaintext => CredentialSource::None,
            None => CredentialSource::ClientCertificate,
        };
        let ssh = SshUpstream::default();
        Self { address, tls, ca_file: None, server_name: None, credential, ssh, danger_any_rsa_key: false }
    }

    /// A host's sshd: known by what `ssh` says, logged in to with a certificate, or with the key in `key_file`.
    #[must_use]
    pub fn node(address: UpstreamAddress, ssh: SshUpstream, key_file: Option<PathBuf>) -> Self {
        let credential = key_file.map_or(CredentialSource::SshCertificate, CredentialSource::SshKeyFile);
        Self { credential, ssh, ..Self::new(address, Some(TlsMode::Plaintext), None) }
    }

    fn check_node(&self) -> Result<(), &'static str> {
        let ssh = &self.ssh;
        if self.tls != TlsMode::Plaintext || self.ca_file.is_some() || self.server_name.is_some() {
            return Err("TLS settings mean nothing with protocol: ssh: sshd is known by its host key");
        }
        if !matches!(self.credential, CredentialSource::SshCertificate | CredentialSource::SshKeyFile(_)) {
            return Err("with protocol: ssh, upstream.credential is certificate or key");
        }
        if ssh.host_keys.is_empty() && ssh.host_key_file.is_none() && ssh.host_authorities.is_empty() {
            return Err(
                "upstream.host_key, upstream.host_key_file or upstream.host_ca must say how sshd is known \
                 (as flags: --upstream-host-key, --upstream-host-key-file, --upstream-host-ca)",
            );
        }
        if ssh.host_authorities.is_empty() && !ssh.host_names.is_empty() {
            return Err("upstream.host_name goes with upstream.host_ca");
        }
        let nameless = matches!(self.address, UpstreamAddress::Unix(_)) && ssh.host_names.is_empty();
        if !ssh.host_authorities.is_empty() && nameless {
            return Err("upstream.host_ca on a Unix socket needs upstream.host_name");
        }
        let are_keys =
            |lines: &[String]| lines.iter().all(|line| HostKeys::default().with_pinned(line).is_ok());
        if !are_keys(&ssh.host_keys) || !are_keys(&ssh.host_authorities) {
            return Err("upstream.host_key and upstream.host_ca are lines such as: ssh-ed25519 AAAA…");
        }
        Ok(())
    }

    fn check(&self) -> Result<(), &'static str> {
        let plaintext = self.tls == TlsMode::Plaintext;
        if !self.ssh.is_empty() {
            return Err("host keys go with protocol: ssh");
        }
        if matches!(self.credential, CredentialSource::SshCertificate | CredentialSource::SshKeyFile(_)) {
            return Err("upstream.key_file goes with protocol: ssh");
        }
        if matches!(self.address, UpstreamAddress::Unix(_)) && !plaintext {
            return Err("TLS is not spoken on a Unix socket: leave upstream.tls out");
        }
        if plaintext && (self.ca_file.is_some() || self.server_name.is_some()) {
            return Err("upstream.ca_file and upstream.server_name mean nothing without TLS");
        }
        if self.tls == TlsMode::Insecure && self.ca_file.is_some() {
            return Err("upstream.ca_file means nothing with tls: insecure");
        }
        if plaintext && self.credential == CredentialSource::ClientCertificate {
            return Err("a client certificate needs TLS");
        }
        let by_password = matches!(self.credential, CredentialSource::PasswordFile(_));
        if self.danger_any_rsa_key && !(plaintext && by_password) {
            return Err(
                "upstream.danger_any_rsa_key means nothing but with a password and tls: insecure-plaintext",
            );
        }
        Ok(())
    }

    /// The name that the upstream's certificate must carry.
    ///
    /// # Errors
    /// The host is no name that a certificate can carry.
    pub fn tls_name(&self) -> Result<Option<ServerName<'static>>, ValueError> {
        match (&self.server_name, &self.address) {
            (Some(name), _) => Ok(Some(name.clone())),
            (None, UpstreamAddress::Tcp { host, .. }) => {
                let name = ServerName::try_from(host.clone()).map_err(|_| ValueError::ServerName)?;
                Ok(Some(name))
            }
            (None, UpstreamAddress::Found(_) | UpstreamAddress::Unix(_)) => Ok(None),
        }
    }
}

/// Reads a secret: the file's content without the line break at its end.
///
/// # Errors
/// The file cannot be read, is empty, or longer than any secret.
pub fn read_secret(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = fs::File::open(path)?;
    let mut secret = Zeroizing::new(Vec::with_capacity(MAX_SECRET_BYTES as usize + 1));
    io::Read::read_to_end(&mut io::Read::take(file, MAX_SECRET_BYTES + 1), &mut secret)?;
    if secret.len() as u64 > MAX_SECRET_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "longer than any secret"));
    }
    while secret.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        secret.pop();
    }
    if secret.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "empty"));
    }
    Ok(secret)
}

#[cfg(test)]
mod tests;
