//! Where clients are awaited, and where they are told to go.

use std::net::SocketAddr;

use auth::{identity::Protocol, proto};
use rustls_pki_types::ServerName;
use tokio::net::TcpListener;
use tracing::warn;

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
        let public_addr = target.public_addr.clone().unwrap_or_else(|| {
            let assumed = assumed(address, &machine_name());
            if address.ip().is_unspecified() {
                warn!(target = %target.name, public_addr = assumed, "clients are told this machine's own name: say with public_addr (--public-addr) where they reach it");
            }
            assumed
        });
        let listener = listener.into_std().map_err(|source| StartError::Listen { address, source })?;
        Ok(Self { listener, address, public_addr })
    }
}

/// Where clients are told to go if nobody says: a listener on every address is reached by the machine's name, or so one hopes;
/// `localhost` would send people to the machine that they sit at.
fn assumed(address: SocketAddr, machine: &str) -> String {
    let port = address.port();
    // A name that cannot stand in a certificate would keep us from joining.
    let machine =
        Some(machine).filter(|name| matches!(ServerName::try_from(*name), Ok(ServerName::DnsName(_))));
    match address.ip() {
        ip if ip.is_loopback() => format!("localhost:{port}"),
        ip if ip.is_unspecified() => {
            format!("{}:{port}", machine.unwrap_or("localhost").to_ascii_lowercase())
        }
        _ => address.to_string(),
    }
}

pub(super) async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let listener = TcpListener::bind(address).await;
    let bound = listener.and_then(|listener| listener.local_addr().map(|address| (listener, address)));
    bound.map_err(|source| StartError::Listen { address, source })
}

/// What native clients may verify: the hosts that they are told; and `localhost` with its addresses, where it leads here too.
pub(super) fn hosts(bound: &[Bound]) -> Vec<String> {
    let mut hosts = Vec::new();
    for bound in bound {
        let host = bound.public_addr.rsplit_once(':').map_or(bound.public_addr.as_str(), |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        hosts.push(host.to_owned());
        if host == "localhost" || bound.address.ip().is_unspecified() {
            hosts.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
        }
    }
    hosts.sort_unstable();
    hosts.dedup();
    hosts
}

pub(super) fn announcement(target: &TargetConfig, bound: &Bound) -> proto::Target {
    let kind = match target.protocol {
        Protocol::Ssh => "node",
        Protocol::Postgres | Protocol::Mysql => "database",
    };
    proto::Target {
        kind: kind.to_owned(),
        hostname: machine_name(),
        name: target.name.to_string(),
        description: target.description.clone(),
        labels: target.labels.clone().into_iter().collect(),
        protocol: target.protocol.to_string(),
        public_addr: bound.public_addr.clone(),
        uri: target.upstream.address.to_string(),
        ..proto::Target::default()
    }
}

/// What the machine calls itself: shown to people, and where nothing better is said, told to clients.
fn machine_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assumed_on(listen: &str, machine: &str) -> String {
        assumed(listen.parse().unwrap(), machine)
    }

    #[test]
    fn a_listener_on_every_address_sends_nobody_to_their_own_machine() {
        assert_eq!(assumed_on("0.0.0.0:3022", "Web-7.example.com"), "web-7.example.com:3022");
        assert_eq!(assumed_on("[::]:3022", "web_7"), "web_7:3022");
    }

    #[test]
    fn other_listeners_are_where_they_listen() {
        assert_eq!(assumed_on("127.0.0.1:5432", "web-7"), "localhost:5432");
        assert_eq!(assumed_on("[::1]:5432", "web-7"), "localhost:5432");
        assert_eq!(assumed_on("192.0.2.7:5432", "web-7"), "192.0.2.7:5432");
        assert_eq!(assumed_on("[2001:db8::7]:5432", "web-7"), "[2001:db8::7]:5432");
    }

    #[test]
    fn a_name_that_no_certificate_can_carry_is_not_announced() {
        for machine in ["", "(none)", "a b", "192.0.2.7", "-"] {
            assert_eq!(assumed_on("0.0.0.0:3022", machine), "localhost:3022", "{machine:?}");
        }
    }

    #[tokio::test]
    async fn a_certificate_names_what_clients_are_told_and_what_leads_here_besides() {
        let bound = |address: &str, public_addr: &str| Bound {
            listener: std::net::TcpListener::bind("127.0.0.1:0").unwrap(),
            address: address.parse().unwrap(),
            public_addr: public_addr.to_owned(),
        };
        let everywhere = bound("0.0.0.0:3022", "web-7:3022");
        assert_eq!(hosts(&[everywhere]), ["127.0.0.1", "::1", "localhost", "web-7"]);
        let one = bound("192.0.2.7:5432", "[2001:db8::7]:5432");
        assert_eq!(hosts(&[one]), ["2001:db8::7"]);
    }
}
