//! The file as it is written. Its types end here: what leaves is a [`Config`].

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use auth::{
    api::CaPin,
    identity::{Protocol, TargetName},
};
use serde::Deserialize;
use std::path::Path;

use super::{
    Config, ConfigError, CredentialSource, DEFAULT_DATA_DIR, DEFAULT_DRAIN_TIMEOUT, DEFAULT_ROOM,
    DEFAULT_SPOOL_BOUND, Parameters, TargetConfig, Token, UpstreamConfig,
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
    #[serde(default)]
    danger_any_rsa_key: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Credential {
    Certificate,
    Password,
    None,
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
            .into_config()
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
    fn into_config(self) -> Result<UpstreamConfig, &'static str> {
        let (tls, asked) = (self.tls.map(|tls| tls.0), self.credential);
        match (asked, &self.password_file) {
            (Some(Credential::Password), None) => {
                return Err("credential: password needs upstream.password_file");
            }
            (Some(Credential::Certificate | Credential::None), Some(_)) => {
                return Err("upstream.password_file goes with credential: password");
            }
            _ => {}
        }
        let mut upstream = UpstreamConfig::new(self.uri.0, tls, self.password_file);
        match asked {
            Some(Credential::Certificate) => upstream.credential = CredentialSource::ClientCertificate,
            Some(Credential::None) => upstream.credential = CredentialSource::None,
            Some(Credential::Password) | None => {}
        }
        upstream.danger_any_rsa_key = self.danger_any_rsa_key;
        upstream.ca_file = self.ca_file;
        upstream.server_name = self.server_name.map(|name| name.0);
        Ok(upstream)
    }
}
