//! Where clients are awaited, and where they are told to go.

use std::net::SocketAddr;

use auth::{identity::Protocol, proto};
use tokio::net::TcpListener;

use super::StartError;
use crate::config::TargetConfig;

/// A listener that nobody is served on yet.
pub(super) struct Bound {
    /// Of no runtime yet.
    pub(super) listener: std::net::TcpListener,
    pub(super) address: SocketAddr,
    /// Where clients are told to go, HOST:PORT.
    pub(super) public_addr: String,
}

impl Bound {
    pub(super) async fn new(target: &TargetConfig) -> Result<Self, StartError> {
        let (listener, address) = bind(target.listen).await?;
        let public_addr = target.public_addr.clone().unwrap_or_else(|| match address.ip() {
            ip if ip.is_loopback() || ip.is_unspecified() => format!("localhost:{}", address.port()),
            _ => address.to_string(),
        });
        let listener = listener.into_std().map_err(|source| StartError::Listen { address, source })?;
        Ok(Self { listener, address, public_addr })
    }
}

pub(super) async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let listener = TcpListener::bind(address).await;
    let bound = listener.and_then(|listener| listener.local_addr().map(|address| (listener, address)));
    bound.map_err(|source| StartError::Listen { address, source })
}

/// What native clients may verify: the hosts that they are told, and for `localhost` its addresses.
pub(super) fn hosts(bound: &[Bound]) -> Vec<String> {
    let mut hosts = Vec::new();
    for bound in bound {
        let host = bound.public_addr.rsplit_once(':').map_or(bound.public_addr.as_str(), |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        hosts.push(host.to_owned());
        if host == "localhost" {
            hosts.extend(["127.0.0.1".to_owned(), "::1".to_owned()]);
        }
    }
    hosts.sort_unstable();
    hosts.dedup();
    hosts
}

pub(super) fn announcement(target: &TargetConfig, bound: &Bound) -> proto::Target {
    let (kind, hostname) = match target.protocol {
        Protocol::Ssh => ("node", machine_name()),
        Protocol::Postgres | Protocol::Mysql => ("database", String::new()),
    };
    proto::Target {
        kind: kind.to_owned(),
        hostname,
        name: target.name.to_string(),
        description: target.description.clone(),
        labels: target.labels.clone().into_iter().collect(),
        protocol: target.protocol.to_string(),
        public_addr: bound.public_addr.clone(),
        uri: target.upstream.address.to_string(),
        ..proto::Target::default()
    }
}

/// What the machine calls itself; shown to people, and nothing else.
fn machine_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}
