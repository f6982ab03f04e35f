//! The file as it is written. Its types end here: what leaves is a [`Config`].

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use auth::{
    api::CaPin,
    identity::{Protocol, TargetName},
};
use serde::Deserialize;
use std::path::Path;

use super::{
    Config, ConfigError, CredentialSource, DEFAULT_DATA_DIR, DEFAULT_DRAIN_TIMEOUT, DEFAULT_RECORDINGS_BOUND,
    DEFAULT_ROOM, DEFAULT_SPOOL_BOUND, Parameters, SshUpstream, TargetConfig, Token, UpstreamConfig,
    values::{Name, Period, Size, Tls, Uri},
};
use crate::admission::Room;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    auth_server: String,
    #[serde(default)]
    ca_pins: Vec<CaPin>,
    token_file: Option<PathBuf>,
    data_dir: Option<PathBuf>,
    diag_addr: Option<SocketAddr>,
    drain_timeout: Option<Period>,
    #[serde(default)]
    audit: Audit,
    #[serde(default)]
    recordings: Audit,
    #[serde(default)]
    limits: Limits,
    targets: Vec<Target>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Audit {
    max_spool: Option<Size>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Limits {
    max_connections: Option<usize>,
    max_unknown: Option<usize>,
    max_unknown_per_address: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Target {
    name: TargetName,
    #[serde(default)]
    description: String,
    protocol: Protocol,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    listen: SocketAddr,
    public_addr: Option<String>,
    #[serde(default)]
    audit: TargetAudit,
    #[serde(default)]
    mysql: Mysql,
    upstream: Upstream,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TargetAudit {
    parameter_values: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mysql {
    server_version: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Upstream {
    uri: Uri,
    tls: Option<Tls>,
    ca_file: Option<PathBuf>,
    server_name: Option<Name>,
    credential: Option<Credential>,
    password_file: Option<PathBuf>,
    host_key: Option<Lines>,
    host_key_file: Option<PathBuf>,
    host_ca: Option<Lines>,
    host_name: Option<Lines>,
    key_file: Option<PathBuf>,
    #[serde(default)]
    danger_any_rsa_key: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Credential {
    Certificate,
    Password,
    Key,
    None,
}

/// One, or a list.
#[derive(Deserialize)]
#[serde(untagged)]
enum Lines {
    One(String),
    Several(Vec<String>),
}

impl From<Lines> for Vec<String> {
    fn from(lines: Lines) -> Self {
        match lines {
            Lines::One(line) => vec![line],
            Lines::Several(lines) => lines,
        }
    }
}

pub(super) fn parse(path: &Path, text: &str) -> Result<Config, ConfigError> {
    let file: File = serde_saphyr::from_str(text)
        .map_err(|error| ConfigError::Parse { path: path.to_owned(), message: error.to_string() })?;
    let targets = file.targets.into_iter().map(Target::into_config).collect::<Result<_, _>>()?;
    let limits = file.limits;
    Ok(Config {
        auth_server: file.auth_server,
        ca_pins: file.ca_pins,
        token: file.token_file.map(Token::File),
        data_dir: file.data_dir.unwrap_or_else(|| DEFAULT_DATA_DIR.into()),
        diag_addr: file.diag_addr,
        drain_timeout: file.drain_timeout.map_or(DEFAULT_DRAIN_TIMEOUT, |period| period.0),
        spool_bound: file.audit.max_spool.map_or(DEFAULT_SPOOL_BOUND, |size| size.0),
        recordings_bound: file.recordings.max_spool.map_or(DEFAULT_RECORDINGS_BOUND, |size| size.0),
        room: Room {
            connections: limits.max_connections.unwrap_or(DEFAULT_ROOM.connections),
            unknown: limits.max_unknown.unwrap_or(DEFAULT_ROOM.unknown),
            unknown_per_address: limits.max_unknown_per_address.unwrap_or(DEFAULT_ROOM.unknown_per_address),
        },
        targets,
    })
}

impl Target {
    fn into_config(self) -> Result<TargetConfig, ConfigError> {
        let upstream = self
            .upstream
            .into_config(self.protocol)
            .map_err(|what| ConfigError::Upstream { target: self.name.clone(), what })?;
        Ok(TargetConfig {
            name: self.name,
            description: self.description,
            protocol: self.protocol,
            labels: self.labels,
            listen: self.listen,
            public_addr: self.public_addr,
            parameters: match self.audit.parameter_values {
                None | Some(true) => Parameters::Recorded,
                Some(false) => Parameters::Withheld,
            },
            mysql_version: self.mysql.server_version,
            upstream,
        })
    }
}

impl Upstream {
    fn into_config(self, protocol: Protocol) -> Result<UpstreamConfig, &'static str> {
        if protocol == Protocol::Ssh {
            return self.into_node();
        }
        let is_ssh = self.host_key.is_some()
            || self.host_key_file.is_some()
            || self.host_ca.is_some()
            || self.host_name.is_some()
            || self.key_file.is_some();
        if is_ssh || self.credential == Some(Credential::Key) {
            return Err("host keys and credential: key go with protocol: ssh");
        }
        let (tls, asked) = (self.tls.map(|tls| tls.0), self.credential);
        match (asked, &self.password_file) {
            (Some(Credential::Password), None) => {
                return Err("credential: password needs upstream.password_file");
            }
            (Some(Credential::Certificate | Credential::Key | Credential::None), Some(_)) => {
                return Err("upstream.password_file goes with credential: password");
            }
            _ => {}
        }
        let mut upstream = UpstreamConfig::new(self.uri.0, tls, self.password_file);
        match asked {
            Some(Credential::Certificate) => upstream.credential = CredentialSource::ClientCertificate,
            Some(Credential::None) => upstream.credential = CredentialSource::None,
            Some(Credential::Password | Credential::Key) | None => {}
        }
        upstream.danger_any_rsa_key = self.danger_any_rsa_key;
        upstream.ca_file = self.ca_file;
        upstream.server_name = self.server_name.map(|name| name.0);
        Ok(upstream)
    }

    fn into_node(self) -> Result<UpstreamConfig, &'static str> {
        match (self.credential, &self.key_file) {
            (Some(Credential::Key), None) => return Err("credential: key needs upstream.key_file"),
            (Some(Credential::Certificate), Some(_)) => {
                return Err("upstream.key_file goes with credential: key");
            }
            (Some(Credential::Password | Credential::None), _) => {
                return Err("with protocol: ssh, upstream.credential is certificate or key");
            }
            (Some(Credential::Key | Credential::Certificate) | None, _) => {}
        }
        if self.tls.is_some() || self.ca_file.is_some() || self.server_name.is_some() {
            return Err("TLS settings mean nothing with protocol: ssh: sshd is known by its host key");
        }
        if self.password_file.is_some() {
            return Err("upstream.password_file means nothing with protocol: ssh");
        }
        let lines = |lines: Option<Lines>| lines.map(Vec::from).unwrap_or_default();
        let ssh = SshUpstream {
            host_keys: lines(self.host_key),
            host_key_file: self.host_key_file,
            host_authorities: lines(self.host_ca),
            host_names: lines(self.host_name),
        };
        let node = UpstreamConfig::node(self.uri.0, ssh, self.key_file);
        Ok(UpstreamConfig { danger_any_rsa_key: self.danger_any_rsa_key, ..node })
    }
}
