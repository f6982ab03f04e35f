//! Who this sidecar is: a certificate got once for a join token, kept in the data directory, renewed with a new key.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use auth::{
    api::{self, ApiError, CaPin, ClientIdentity, Trust},
    certificate::{CertificateError, SidecarIdentity, x509},
    identity::TargetName,
    key::{KeyError, generate_p256},
    proto::{JoinRequest, SidecarCertificate, SidecarCertificateRequest, public_client::PublicClient},
    replica::{Replica, Snapshot},
};
use protocols::ssh::HostIdentity;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use zeroize::Zeroizing;

mod file;
mod host_key;

pub use self::file::IdentityError;
pub(crate) use self::host_key::{host_identity, host_key, wire};
use crate::{
    backoff::Backoff,
    chain::Chain,
    config::{Token, read_secret},
    link::Link,
    tls::ServerCertificate,
};

/// A certificate, its key, and whom it makes us trust.
pub(crate) struct Identity {
    /// What the certificate says.
    pub(crate) sidecar: SidecarIdentity,
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) key: Zeroizing<PrivatePkcs8KeyDer<'static>>,
    pub(crate) host_authorities: Vec<CertificateDer<'static>>,
    /// The hosts that it was asked for with.
    pub(crate) hosts: Vec<String>,
    /// Of SSH, in its wire form, where a node is guarded.
    pub(crate) host_certificate: Option<Vec<u8>>,
    pub(crate) issued: SystemTime,
}

/// The names that a certificate is asked for with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) targets: Vec<TargetName>,
    pub(crate) hosts: Vec<String>,
    /// The SSH host key, in its wire form, where a node is guarded.
    pub(crate) host_key: Option<Vec<u8>>,
}

/// Why this sidecar has no identity.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The stored identity cannot be read or written.
    #[error("the stored identity cannot be used")]
    Stored(#[source] IdentityError),
    /// There is no identity for these targets, and nothing to get one with.
    #[error(
        "{why}: a join token and a CA pin are needed (--token, --ca-pin; tctl tokens add --type=db, or --type=node, prints both)"
    )]
    NoToken {
        /// Why a token is needed.
        why: &'static str,
    },
    /// A token is needed, and cannot be read.
    #[error("{why}, and the join token cannot be read from {}", path.display())]
    Token {
        /// Why a token is needed.
        why: &'static str,
        /// Its file.
        path: PathBuf,
        /// Why it cannot be read.
        source: io::Error,
    },
    /// authd cannot be reached, or is not the one that was pinned.
    #[error("cannot join the cluster")]
    Connect(#[source] ApiError),
    /// authd said no.
    #[error("authd refused the join token: {}", .0.message())]
    Refused(#[source] Box<tonic::Status>),
    /// authd renews no certificate, or cannot be asked to.
    #[error("authd did not renew the certificate: {}", .0.message())]
    NotRenewed(#[source] Box<tonic::Status>),
    /// What authd answered is not a certificate for this sidecar.
    #[error("authd's answer cannot be used")]
    Answer(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No key could be made.
    #[error("no key for the certificate")]
    Key(#[source] KeyError),
}

impl JoinError {
    /// authd may be there in a moment: worth another try.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Connect(ApiError::Unreachable { .. } | ApiError::TimedOut { .. }) => true,
            // It went away in the middle: a restart. A handshake that is refused stays refused.
            Self::Connect(ApiError::Tls { source, .. }) => {
                matches!(source.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof)
            }
            Self::Connect(_) => false,
            Self::Refused(status) => status.code() == tonic::Code::Unavailable,
            Self::Stored(_)
            | Self::NoToken { .. }
            | Self::Token { .. }
            | Self::NotRenewed(_)
            | Self::Answer(_)
            | Self::Key(_) => false,
        }
    }
}

/// What is needed to join.
pub(crate) struct Invitation<'a> {
    pub(crate) auth_server: &'a str,
    pub(crate) pins: &'a [CaPin],
    /// Read when it is needed: with a stored identity its file may be gone.
    pub(crate) token: Option<&'a Token>,
}

/// The stored identity, where it is good for these names; else a new one for the join token, stored.
///
/// # Errors
/// There is neither.
pub(crate) async fn identity(
    data_dir: &Path,
    invitation: &Invitation<'_>,
    names: &Names,
    now: SystemTime,
) -> Result<Identity, JoinError> {
    let why = match file::load(data_dir).map_err(JoinError::Stored)? {
        None => "this sidecar has not joined a cluster yet",
        Some(stored) if stored.sidecar.not_after <= now => "this sidecar's certificate has expired",
        Some(stored) if !stored.certifies(names.host_key.as_deref()) => {
            "this sidecar's SSH host key has no certificate"
        }
        Some(stored) if !stored.covers(&names.targets) => "this sidecar's certificate is for other targets",
        Some(stored) => {
            if !names.hosts.iter().all(|host| stored.hosts.contains(host)) {
                warn!(hosts = ?names.hosts, "the certificate does not name all addresses: native clients that verify them will refuse it");
            }
            return Ok(stored);
        }
    };
    let Some(token) = invitation.token else { return Err(JoinError::NoToken { why }) };
    if invitation.pins.is_empty() {
        return Err(JoinError::NoToken { why });
    }
    let token = read_token(token, why)?;
    info!(reason = why, "joining");
    let joined = join(invitation, &token, names, now).await?;
    file::save(data_dir, &joined).map_err(JoinError::Stored)?;
    Ok(joined)
}

fn read_token(token: &Token, why: &'static str) -> Result<Zeroizing<String>, JoinError> {
    match token {
        Token::Literal(token) => Ok(token.clone()),
        Token::File(path) => {
            let unreadable = |source| JoinError::Token { why, path: path.clone(), source };
            let bytes = read_secret(path).map_err(unreadable)?;
            let text = std::str::from_utf8(&bytes).map_err(|error| unreadable(io::Error::other(error)))?;
            Ok(Zeroizing::new(text.trim().to_owned()))
        }
    }
}

async fn join(
    invitation: &Invitation<'_>,
    token: &Zeroizing<String>,
    names: &Names,
    now: SystemTime,
) -> Result<Identity, JoinError> {
    let (key, request) = request(names)?;
    let trust = Trust::Pins(invitation.pins.to_vec());
    let channel = api::connect(invitation.auth_server, trust, None).await.map_err(JoinError::Connect)?;
    let request = JoinRequest { token: token.to_string(), certificate: Some(request) };
    let answer = PublicClient::new(channel).join(request).await;
    let answer = answer.map_err(|status| JoinError::Refused(Box::new(status)))?.into_inner();
    Identity::new(answer, key, names, now)
}

type Key = Zeroizing<PrivatePkcs8KeyDer<'static>>;

fn request(names: &Names) -> Result<(Key, SidecarCertificateRequest), JoinError> {
    let (key, public_key) = generate_p256().map_err(JoinError::Key)?;
    let target_names = names.targets.iter().map(ToString::to_string).collect();
    Ok((
        key,
        SidecarCertificateRequest {
            public_key,
            target_names,
            hosts: names.hosts.clone(),
            // A sidecar of databases has no host key.
            ssh_public_key: names.host_key.clone().unwrap_or_default(),
        },
    ))
}

impl Identity {
    fn new(answer: SidecarCertificate, key: Key, names: &Names, now: SystemTime) -> Result<Self, JoinError> {
        let certificate = CertificateDer::from(answer.certificate);
        let host_authorities: Vec<_> =
            answer.host_authorities.into_iter().map(CertificateDer::from).collect();
        let sidecar =
            verify(&certificate, &host_authorities, now).map_err(|error| JoinError::Answer(error.into()))?;
        let host_certificate = match &names.host_key {
            Some(key) => Some(host_key::certificate(&answer.ssh_host_certificate, key)?),
            None => None,
        };
        let hosts = names.hosts.clone();
        let identity =
            Self { sidecar, certificate, key, host_authorities, hosts, host_certificate, issued: now };
        // A key that is not the certificate's would only show at the first handshake.
        ServerCertificate::new(identity.chain(), identity.private_key())
            .map_err(|error| JoinError::Answer(error.into()))?;
        if !identity.covers(&names.targets) {
            return Err(JoinError::Answer("the certificate is not for all targets".into()));
        }
        Ok(identity)
    }

    fn covers(&self, targets: &[TargetName]) -> bool {
        targets.iter().all(|target| self.sidecar.target_names.contains(target))
    }

    /// Is there a certificate for this host key, where one is needed?
    fn certifies(&self, host_key: Option<&[u8]>) -> bool {
        let Some(host_key) = host_key else { return true };
        self.host_certificate.as_deref().is_some_and(|certificate| host_key::is_for(certificate, host_key))
    }

    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.clone()]
    }

    pub(crate) fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.clone_key())
    }

    pub(crate) fn client_identity(&self) -> ClientIdentity {
        ClientIdentity { chain: self.chain(), key: self.private_key() }
    }

    /// Are the cluster's authorities for hosts those that came with the certificate, in this order? Of a snapshot that does not
    /// know, it is taken to be so.
    fn is_under_authorities_of(&self, snapshot: &Snapshot) -> bool {
        let trusted = snapshot.host_authorities();
        !snapshot.is_ready() || trusted.is_empty() || trusted == self.host_authorities
    }

    /// When two thirds of its life are over.
    fn renew_at(&self) -> SystemTime {
        let life = self.sidecar.not_after.duration_since(self.issued).unwrap_or_default();
        self.issued + life / 3 * 2
    }
}

fn verify(
    certificate: &CertificateDer<'_>,
    host_authorities: &[CertificateDer<'static>],
    now: SystemTime,
) -> Result<SidecarIdentity, CertificateError> {
    x509::verify_sidecar(std::slice::from_ref(certificate), host_authorities, now)
}

/// The longest sleep: a clock that was set forward is noticed within it.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Renews the certificate, with a new key, until told to stop: at two thirds of its life, and when the cluster trusts other
/// authorities for hosts than came with it, or the same in another order, which means that another one signs. So the next
/// authority is trusted before authd shows a certificate of it, and clients see our own by it when its turn has come. Returns too
/// when the certificate has expired and authd refuses us, or is none that we know: what is left then is to join again.
pub(crate) async fn keep_fresh(
    mut identity: Arc<Identity>,
    replica: &Replica,
    data_dir: &Path,
    link: &Link,
    server: &ServerCertificate,
    host: Option<&HostIdentity>,
    stop: CancellationToken,
) {
    let mut backoff = BACKOFF;
    let mut changes = replica.changes();
    loop {
        changes.borrow_and_update();
        let left = identity.renew_at().duration_since(SystemTime::now()).unwrap_or_default();
        if left.is_zero() || !identity.is_under_authorities_of(&replica.snapshot()) {
            tokio::select! {
                // Of many sidecars that hear of the same, each waits a little otherwise.
                () = sleep(backoff.next()) => {}
                () = stop.cancelled() => return,
            }
        } else {
            tokio::select! {
                () = sleep(left.min(LOOK_EVERY)) => {}
                // The sender lives in the replica.
                _ = changes.changed() => {}
                () = stop.cancelled() => return,
            }
            continue;
        }
        match renew(&identity, data_dir, link, server, host).await {
            Ok(renewed) => {
                info!(not_after = auth::clock::rfc3339(renewed.sidecar.not_after), "certificate renewed");
                (identity, backoff) = (renewed, BACKOFF);
            }
            Err(error) if identity.sidecar.not_after <= SystemTime::now() => {
                error!(error = %Chain(&error), "the certificate of this sidecar has expired: clients and authd refuse it");
                // authd is there, and nothing that we say with this certificate will change its mind; or it stands under an
                // authority that came while we were away, and we do not know it any more.
                match &error {
                    JoinError::NotRenewed(status) if status.code() == tonic::Code::Unauthenticated => return,
                    JoinError::Connect(ApiError::Untrusted { .. }) => return,
                    _ => {}
                }
            }
            Err(error) => warn!(error = %Chain(&error), "certificate not renewed"),
        }
    }
}

const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));

async fn renew(
    identity: &Identity,
    data_dir: &Path,
    link: &Link,
    server: &ServerCertificate,
    host: Option<&HostIdentity>,
) -> Result<Arc<Identity>, JoinError> {
    let names = Names {
        targets: identity.sidecar.target_names.clone(),
        hosts: identity.hosts.clone(),
        host_key: host.map(|host| host.public().to_vec()),
    };
    let (key, request) = request(&names)?;
    let mut sidecars = link.sidecars().await.map_err(JoinError::Connect)?;
    let answer = sidecars.renew_certificate(request).await;
    let answer = answer.map_err(|status| JoinError::NotRenewed(Box::new(status)))?.into_inner();
    let renewed = Arc::new(Identity::new(answer, key, &names, SystemTime::now())?);
    // On disk before it is used: after a crash the old one is still good.
    file::save(data_dir, &renewed).map_err(JoinError::Stored)?;
    server
        .replace(renewed.chain(), renewed.private_key())
        .map_err(|error| JoinError::Answer(error.into()))?;
    if let (Some(host), Some(certificate)) = (host, &renewed.host_certificate) {
        host.certify(certificate).map_err(|error| JoinError::Answer(error.into()))?;
    }
    link.renewed(Arc::clone(&renewed)).await;
    Ok(renewed)
}

#[cfg(test)]
mod tests;
