//! The ways to a database or a host that are compared: straight to it, through the sidecar, through what others would put there.

use crate::{accounting::Process, door::Door};

/// One way, to a door of a database or to another kind of entrance.
#[derive(Clone)]
pub(crate) struct Way<D = Door> {
    /// `direct`, `sidecar`, …: what the tables say.
    pub(crate) name: &'static str,
    pub(crate) door: D,
    /// The process in between, whose costs are counted.
    pub(crate) process: Option<Process>,
    /// What answers at the end of the way, where we have started it.
    pub(crate) database: Option<Process>,
}

impl<D> Way<D> {
    /// Whether a null upstream is at its end.
    pub(crate) fn is_null(&self) -> bool {
        [NULL_DIRECT, NULL_SIDECAR, NULL_HAPROXY_MTLS].contains(&self.name)
    }
}

/// The baseline of every ratio: the client's mutual TLS straight to the database, its SSH straight to the host.
pub(crate) const DIRECT: &str = "direct";
/// The sidecar, with policy and audit, mutual TLS or SSH on both legs.
pub(crate) const SIDECAR: &str = "sidecar";
/// The same on the database's host, with its Unix socket as the upstream.
pub(crate) const SIDECAR_UNIX: &str = "sidecar-unix";
/// Our relay of the same protocol and TLS alone: no policy, no audit, no metrics.
pub(crate) const BARE_RELAY: &str = "bare-relay";
/// haproxy that passes TCP bytes through blindly: no TLS of its own.
pub(crate) const HAPROXY_TCP: &str = "haproxy-tcp";
/// nginx that does the same.
pub(crate) const NGINX_TCP: &str = "nginx-tcp";

/// OpenSSH's own way past a gate: a connection inside one to a second sshd.
pub(crate) const JUMP: &str = "jump";

/// In front of a null upstream, which costs as little as there can be behind a relay.
pub(crate) const NULL_DIRECT: &str = "null-direct";
/// The sidecar before it.
pub(crate) const NULL_SIDECAR: &str = "null-sidecar";
/// haproxy with mutual TLS on both legs before it.
pub(crate) const NULL_HAPROXY_MTLS: &str = "null-haproxy-mtls";

/// Whether a way of this name is there without anybody asking for it.
pub(crate) fn is_ours(name: &str) -> bool {
    blurb(name) != PEER
}

/// What is said of a way that was asked for.
const PEER: &str = "a peer on a port";

/// What a way is, for people.
pub(crate) fn blurb(name: &str) -> &'static str {
    match name {
        DIRECT => "straight to the database by mutual TLS, to the host by SSH with a certificate",
        SIDECAR => "sidecar: mutual TLS or SSH on both legs, policy and audit on",
        SIDECAR_UNIX => "sidecar beside the database, over its Unix socket; policy and audit on",
        BARE_RELAY => "our relay alone: mutual TLS on both legs, no policy, no audit",
        HAPROXY_TCP => "haproxy passing bytes through, no TLS of its own",
        NGINX_TCP => "nginx passing bytes through, no TLS of its own",
        JUMP => "OpenSSH's ProxyJump: inside a connection to a second sshd",
        NULL_DIRECT => "the same straight to the null upstream",
        NULL_SIDECAR => "sidecar before the null upstream",
        NULL_HAPROXY_MTLS => "haproxy with mutual TLS on both legs before the null upstream",
        _ => PEER,
    }
}
