//! Client certificates for the upstream: one for each database user, made when first needed and renewed before it is late.
//!
//! After a user's first session no call to authd lies on the way in. A certificate that was used since it was made is
//! replaced in the last third of its life, with a new key; one that was not is left to expire.

use std::{
    error::Error,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use auth::{identity::TargetName, key::generate_p256};
use moka::future::Cache;
use rustls::ClientConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{CredentialError, TlsFactory};
use crate::chain::Chain;

/// Longest wait for authd before a session is refused.
pub(super) const ISSUE_DEADLINE: Duration = Duration::from_secs(10);
/// A certificate is not used in its last minute: the upstream's clock may be ahead.
pub(super) const MARGIN: Duration = Duration::from_secs(60);
/// How often certificates are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Database users at a time. More than that is somebody trying names; the least used give way.
pub(super) const MAX_USERS: u64 = 1_000;

/// What authd issued.
#[derive(Clone, Debug)]
pub(crate) struct Issued {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) not_after: SystemTime,
}

type Issuing<'a> = Pin<Box<dyn Future<Output = Result<Issued, Box<dyn Error + Send + Sync>>> + Send + 'a>>;

/// Issues client certificates: authd. Not on the hot path, hence the box.
pub(crate) trait Issue: Send + Sync + 'static {
    fn issue<'a>(&'a self, target: &'a TargetName, db_user: &'a str, public_key: Vec<u8>) -> Issuing<'a>;
}

/// The certificates of one target.
pub(crate) struct CertificateCache {
    target: TargetName,
    issuer: Arc<dyn Issue>,
    tls: TlsFactory,
    ready: Cache<String, Arc<Ready>>,
}

struct Ready {
    config: Arc<ClientConfig>,
    issued: SystemTime,
    not_after: SystemTime,
    used: AtomicBool,
}

impl Ready {
    fn is_usable(&self, now: SystemTime) -> bool {
        self.not_after.checked_sub(MARGIN).is_some_and(|end| now < end)
    }

    /// In the last third of its life. A clock that was set back counts as if it were.
    fn is_due(&self, now: SystemTime) -> bool {
        let life = self.not_after.duration_since(self.issued).unwrap_or_default();
        now.duration_since(self.issued).is_ok_and(|age| age > life / 3 * 2)
            || now.duration_since(self.issued).is_err()
    }
}

impl CertificateCache {
    pub(super) fn new(target: TargetName, issuer: Arc<dyn Issue>, tls: TlsFactory) -> Arc<Self> {
        Arc::new(Self { target, issuer, tls, ready: Cache::new(MAX_USERS) })
    }

    /// TLS with a certificate for this user. Sessions that wait for the same user wait for one call.
    pub(super) async fn config(&self, db_user: &str) -> Result<Arc<ClientConfig>, CredentialError> {
        let now = SystemTime::now();
        if let Some(ready) = self.ready.get(db_user).await {
            if ready.is_usable(now) {
                ready.used.store(true, Ordering::Relaxed);
                return Ok(Arc::clone(&ready.config));
            }
            self.ready.invalidate(db_user).await;
        }
        match self.ready.try_get_with_by_ref(db_user, self.issue(db_user)).await {
            Ok(ready) => {
                ready.used.store(true, Ordering::Relaxed);
                Ok(Arc::clone(&ready.config))
            }
            Err(error) => Err(shared(&error)),
        }
    }

    async fn issue(&self, db_user: &str) -> Result<Arc<Ready>, CredentialError> {
        let (key, public_key) = generate_p256().map_err(CredentialError::Key)?;
        let issued = timeout(ISSUE_DEADLINE, self.issuer.issue(&self.target, db_user, public_key))
            .await
            .map_err(|_| CredentialError::Deadline)?
            .map_err(|error| CredentialError::Issue(error.into()))?;
        let key = PrivateKeyDer::Pkcs8(key.clone_key());
        let config = self.tls.config(Some((vec![issued.certificate], key))).map_err(CredentialError::Tls)?;
        Ok(Arc::new(Ready {
            config,
            issued: SystemTime::now(),
            not_after: issued.not_after,
            used: AtomicBool::new(false),
        }))
    }

    /// Renews ahead of need, until told to stop.
    pub(crate) async fn keep_fresh(&self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = sleep(LOOK_EVERY) => self.renew_due(SystemTime::now()).await,
                () = stop.cancelled() => return,
            }
        }
    }

    async fn renew_due(&self, now: SystemTime) {
        for (user, ready) in &self.ready {
            if !ready.is_usable(now) && !ready.used.load(Ordering::Relaxed) {
                self.ready.invalidate(&*user).await;
            } else if ready.is_due(now) && ready.used.load(Ordering::Relaxed) {
                match self.issue(&user).await {
                    Ok(fresh) => self.ready.insert((*user).clone(), fresh).await,
                    Err(error) => {
                        warn!(target = %self.target, error = %Chain(&error), "upstream certificate not renewed");
                        // authd is away: the others will not fare better, and the next look is soon.
                        return;
                    }
                }
                debug!(target = %self.target, "upstream certificate renewed");
            }
        }
    }

    /// Certificates held ready.
    pub(crate) fn len(&self) -> u64 {
        self.ready.entry_count()
    }
}

/// The error of a call that several sessions waited for.
pub(super) fn shared(error: &Arc<CredentialError>) -> CredentialError {
    match &**error {
        CredentialError::Issue(source) => CredentialError::Issue(Arc::clone(source)),
        CredentialError::Deadline => CredentialError::Deadline,
        CredentialError::Key(source) => CredentialError::Key(*source),
        CredentialError::Tls(source) => CredentialError::Tls(source.clone()),
        CredentialError::SshKey(source) => CredentialError::SshKey(Arc::clone(source)),
        // Passwords do not come from here.
        CredentialError::Password { path, source } => {
            CredentialError::Password { path: path.clone(), source: source.kind().into() }
        }
    }
}

#[cfg(test)]
mod tests;
