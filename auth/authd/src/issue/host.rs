//! Certificates of machines: authd's own, sidecars', databases', and what sidecars show to databases.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, SystemTime},
};

use auth::{
    api::{AUTHD_SERVER_NAME, target_server_name},
    certificate::x509::{AUTH_ORGANISATION, SIDECAR_ORGANISATION},
    identity::TargetName,
};
use rustls_pki_types::CertificateDer;
use uuid::Uuid;

use crate::{
    ca::{Attribute, AuthorityKind, CaError, Issued, P256PublicKey, San, Template, Usage},
    cluster::{Authorities, Cluster},
    error::Refused,
};

/// Life of a sidecar's certificate; it renews long before.
const SIDECAR: Duration = Duration::from_secs(24 * 3600);
/// Life of what a sidecar shows to a database.
const UPSTREAM: Duration = Duration::from_secs(3600);
/// Default life of a database's own certificate: three months.
const DATABASE: Duration = Duration::from_secs(2190 * 3600);
/// Life of authd's own certificate, made anew at every start and halfway through its life.
const OWN: Duration = Duration::from_secs(30 * 24 * 3600);
/// Certificates of machines begin this much before they are made: clocks of new machines are often behind.
const BACKDATED: Duration = Duration::from_secs(5 * 60);
/// Names in one certificate at most.
const MAX_NAMES: usize = 64;
/// Ours; a certificate that named it would pass for authd or for another's target.
const RESERVED: &str = "touchstone.internal";

/// authd's own certificate, with the authority behind it, and its key.
pub(crate) struct OwnCertificate {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: rustls_pki_types::PrivateKeyDer<'static>,
}

impl OwnCertificate {
    /// Half of its life: when to make the next.
    pub(crate) const RENEW_AFTER: Duration = Duration::from_secs(15 * 24 * 3600);

    pub(crate) fn issue(
        authorities: &Authorities,
        public_host: &str,
        now: SystemTime,
    ) -> Result<Self, CaError> {
        let (key, spki) = auth::key::generate_p256().map_err(|_| CaError::Crypto)?;
        let mut names: Vec<San> = [AUTHD_SERVER_NAME, "localhost"].map(|name| San::Dns(name.into())).into();
        names.extend([Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()].map(San::Ip));
        if let Some(name) = parse_name(public_host).filter(|name| !names.contains(name)) {
            names.push(name);
        }
        let authority = authorities.signer(AuthorityKind::Host);
        let issued = authority.sign(&Template {
            subject: vec![
                Attribute::common_name(AUTHD_SERVER_NAME),
                Attribute::organization(AUTH_ORGANISATION),
            ],
            public_key: P256PublicKey::from_spki(&spki)?,
            not_before: backdated(now),
            not_after: now + OWN,
            usage: Usage::Server,
            names,
            extensions: vec![],
        })?;
        let chain = vec![issued.der, authority.certificate().clone()];
        Ok(Self { chain, key: rustls_pki_types::PrivateKeyDer::Pkcs8(key.clone_key()) })
    }
}

/// What a sidecar may be called, checked: the same at join and at every renewal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SidecarNames {
    pub(crate) targets: BTreeSet<TargetName>,
    pub(crate) hosts: BTreeSet<String>,
}

impl SidecarNames {
    pub(crate) fn parse(targets: &[String], hosts: &[String]) -> Result<Self, Refused> {
        if targets.is_empty() || targets.len() > MAX_NAMES || hosts.len() > MAX_NAMES {
            return Err(Refused::field("certificate", "names 1 to 64 targets and at most 64 hosts"));
        }
        let mut names = Self { targets: BTreeSet::new(), hosts: BTreeSet::new() };
        for target in targets {
            let name = TargetName::new(target.as_str()).map_err(|e| Refused::field("target_names", e))?;
            // It will stand in the certificate, alone and before the reserved suffix.
            let long = target_server_name(&name);
            match (parse_host(target), dns_like(&long)) {
                (Some(San::Dns(_)), true) => names.targets.insert(name),
                _ => {
                    let problem = format!("{target:?} cannot stand in a certificate");
                    return Err(Refused::field("target_names", problem));
                }
            };
        }
        for host in hosts {
            parse_host(host)
                .ok_or_else(|| Refused::field("hosts", format!("{host:?} cannot stand in a certificate")))?;
            names.hosts.insert(host.to_ascii_lowercase());
        }
        Ok(names)
    }

    fn sans(&self) -> Vec<San> {
        let mut names: Vec<San> =
            self.targets.iter().map(|name| San::Dns(target_server_name(name))).collect();
        let plain = self.targets.iter().map(TargetName::as_str).chain(self.hosts.iter().map(String::as_str));
        for name in plain.filter_map(parse_host) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }
}

impl Cluster {
    pub(crate) fn issue_sidecar(
        &self,
        id: Uuid,
        names: &SidecarNames,
        public_key: &[u8],
    ) -> Result<Issued, Refused> {
        let now = self.clock.now();
        Ok(self.authorities.signer(AuthorityKind::Host).sign(&Template {
            subject: vec![
                Attribute::common_name(format!("{id}.{}", self.name)),
                Attribute::organization(SIDECAR_ORGANISATION),
            ],
            public_key: P256PublicKey::from_spki(public_key)?,
            not_before: backdated(now),
            not_after: now + SIDECAR,
            usage: Usage::ClientAndServer,
            names: names.sans(),
            extensions: vec![],
        })?)
    }

    /// CN = database user: what `hostssl … cert` of PostgreSQL compares.
    pub(crate) fn issue_upstream(&self, db_user: &str, public_key: &[u8]) -> Result<Issued, Refused> {
        let good = !db_user.is_empty() && db_user.len() <= 255 && !db_user.chars().any(char::is_control);
        if !good {
            return Err(Refused::field("db_user", "must have 1 to 255 bytes without control characters"));
        }
        let subject = vec![Attribute::common_name(db_user)];
        self.sign_leaf(AuthorityKind::DbClient, subject, public_key, UPSTREAM, Usage::Client, vec![])
    }

    /// A database's own certificate, for as long as asked.
    pub(crate) fn issue_database(
        &self,
        hosts: &[String],
        public_key: &[u8],
        ttl: Option<Duration>,
    ) -> Result<Issued, Refused> {
        let Some(first) = hosts.first().filter(|_| hosts.len() <= MAX_NAMES) else {
            return Err(Refused::field("hosts", "name 1 to 64 hosts"));
        };
        let names = hosts.iter().map(|host| {
            parse_host(host).ok_or_else(|| Refused::field("hosts", format!("{host:?} is not a host")))
        });
        let names = names.collect::<Result<Vec<_>, _>>()?;
        let subject = vec![Attribute::common_name(first)];
        let ttl = ttl.unwrap_or(DATABASE);
        self.sign_leaf(AuthorityKind::Db, subject, public_key, ttl, Usage::Server, names)
    }

    fn sign_leaf(
        &self,
        authority: AuthorityKind,
        subject: Vec<Attribute>,
        public_key: &[u8],
        life: Duration,
        usage: Usage,
        names: Vec<San>,
    ) -> Result<Issued, Refused> {
        let now = self.clock.now();
        let public_key = P256PublicKey::from_spki(public_key)?;
        let not_after = now + life;
        let not_before = backdated(now);
        Ok(self.authorities.signer(authority).sign(&Template {
            subject,
            public_key,
            not_before,
            not_after,
            usage,
            names,
            extensions: vec![],
        })?)
    }
}

pub(super) fn backdated(now: SystemTime) -> SystemTime {
    now.checked_sub(BACKDATED).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// A host that may be asked for: an address, or a DNS name that is not ours.
fn parse_host(host: &str) -> Option<San> {
    let lower = host.to_ascii_lowercase();
    let reserved = lower == RESERVED || lower.ends_with(&format!(".{RESERVED}"));
    parse_name(host).filter(|_| !reserved)
}

fn parse_name(host: &str) -> Option<San> {
    match host.parse::<IpAddr>() {
        Ok(address) => Some(San::Ip(address)),
        Err(_) => dns_like(host).then(|| San::Dns(host.to_ascii_lowercase())),
    }
}

/// RFC 1123 with underscores, which people use in names of databases. The last label has a letter: something like
/// `1.2.3` would be read as an address by some and as a name by others.
fn dns_like(host: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let last = host.rsplit('.').next().unwrap_or_default();
    host.len() <= 253 && host.split('.').all(label) && last.bytes().any(|b| b.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(targets: &[&str], hosts: &[&str]) -> Result<SidecarNames, Refused> {
        let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        SidecarNames::parse(&own(targets), &own(hosts))
    }

    #[test]
    fn a_sidecar_is_known_by_its_targets_and_hosts() {
        let sans = names(&["prod-pg"], &["DB.example.com", "127.0.0.1"]).unwrap().sans();
        let dns = |name: &str| San::Dns(name.into());
        for san in [
            dns("prod-pg.target.touchstone.internal"),
            dns("prod-pg"),
            dns("db.example.com"),
            San::Ip("127.0.0.1".parse().unwrap()),
        ] {
            assert!(sans.contains(&san), "{san:?}");
        }
    }

    #[test]
    fn a_sidecar_cannot_take_a_reserved_name() {
        for bad in [
            "authd.touchstone.internal",
            "AUTHD.Touchstone.Internal",
            "other.target.touchstone.internal",
            "touchstone.internal",
            "authd.touchstone.internal.",
            "a..b",
            "-a",
            "127.0.0.1",
            "1.2.3",
            "",
        ] {
            assert!(names(&[bad], &[]).is_err(), "target {bad}");
        }
        for bad in ["authd.touchstone.internal", "x.touchstone.internal", "*.example.com", "a b", "a/b", ""] {
            assert!(names(&["pg"], &[bad]).is_err(), "host {bad}");
        }
        assert!(names(&[], &[]).is_err());
    }
}
