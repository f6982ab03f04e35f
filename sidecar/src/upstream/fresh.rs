//! What proves us to upstreams and is made by authd: made when first needed, kept, and made anew before it is late.
//!
//! After somebody's first session no call to authd lies on the way in, and while authd is away sessions start for as long as
//! what is kept is good. What was used since it was made is replaced in the last third of its life, with a new key; what was
//! not is left to expire.

use std::{
    future::Future,
    hash::Hash,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use auth::identity::TargetName;
use moka::future::Cache;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::CredentialError;
use crate::chain::Chain;

/// Longest wait for authd before a session is refused.
const ISSUE_DEADLINE: Duration = Duration::from_secs(10);
/// What is kept is not used in its last minute: the upstream's clock may be ahead.
const MARGIN: Duration = Duration::from_secs(60);
/// How often what is kept is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Users at a time. More than that is somebody trying names; the least used give way.
const MAX_USERS: u64 = 1_000;

/// Makes one, with authd's help.
pub(crate) trait Make: Send + Sync + 'static {
    /// Whose it is.
    type Whose: Hash + Eq + Clone + Send + Sync + 'static;
    /// What it is.
    type Made: Clone + Send + Sync + 'static;

    /// Makes it; until when it is good.
    fn make(
        &self,
        target: &TargetName,
        whose: &Self::Whose,
    ) -> impl Future<Output = Result<(Self::Made, SystemTime), CredentialError>> + Send;
}

/// Those of one target.
pub(crate) struct Fresh<M: Make> {
    target: TargetName,
    maker: M,
    ready: Cache<M::Whose, Arc<Ready<M::Made>>>,
}

struct Ready<T> {
    made: T,
    issued: SystemTime,
    not_after: SystemTime,
    used: AtomicBool,
}

impl<T> Ready<T> {
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

impl<M: Make> Fresh<M> {
    pub(super) fn new(target: TargetName, maker: M) -> Arc<Self> {
        Arc::new(Self { target, maker, ready: Cache::new(MAX_USERS) })
    }

    /// One that is good. Sessions that wait for the same wait for one call.
    pub(super) async fn one(&self, whose: &M::Whose) -> Result<M::Made, CredentialError> {
        if let Some(ready) = self.ready.get(whose).await {
            if ready.is_usable(SystemTime::now()) {
                ready.used.store(true, Ordering::Relaxed);
                return Ok(ready.made.clone());
            }
            self.ready.invalidate(whose).await;
        }
        match self.ready.try_get_with_by_ref(whose, self.make(whose)).await {
            Ok(ready) => {
                ready.used.store(true, Ordering::Relaxed);
                Ok(ready.made.clone())
            }
            Err(error) => Err(shared(&error)),
        }
    }

    async fn make(&self, whose: &M::Whose) -> Result<Arc<Ready<M::Made>>, CredentialError> {
        let made = timeout(ISSUE_DEADLINE, self.maker.make(&self.target, whose)).await;
        let (made, not_after) = made.map_err(|_| CredentialError::Deadline)??;
        let (issued, used) = (SystemTime::now(), AtomicBool::new(false));
        Ok(Arc::new(Ready { made, issued, not_after, used }))
    }

    /// Makes those anew that are due.
    pub(super) async fn renew_due(&self, now: SystemTime) {
        for (whose, ready) in &self.ready {
            if !ready.is_usable(now) && !ready.used.load(Ordering::Relaxed) {
                self.ready.invalidate(&*whose).await;
            } else if ready.is_due(now) && ready.used.load(Ordering::Relaxed) {
                match self.make(&whose).await {
                    Ok(fresh) => self.ready.insert((*whose).clone(), fresh).await,
                    Err(error) => {
                        warn!(target = %self.target, error = %Chain(&error), "upstream certificate not renewed");
                        // Of a user who is gone, perhaps: it shall not keep others from being renewed for ever.
                        if !ready.is_usable(now) {
                            self.ready.invalidate(&*whose).await;
                        }
                        // authd is away: the others will not fare better, and the next look is soon.
                        return;
                    }
                }
                debug!(target = %self.target, "upstream certificate renewed");
            }
        }
    }
}

/// What somebody must keep fresh, whatever it is.
pub(crate) trait KeepFresh: Send + Sync {
    /// Renews ahead of need, until told to stop.
    fn keep_fresh(self: Arc<Self>, stop: CancellationToken) -> Pin<Box<dyn Future<Output = ()> + Send>>;
    /// How many are held ready.
    fn len(&self) -> u64;
}

impl<M: Make> KeepFresh for Fresh<M> {
    fn keep_fresh(self: Arc<Self>, stop: CancellationToken) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            loop {
                tokio::select! {
                    () = sleep(LOOK_EVERY) => self.renew_due(SystemTime::now()).await,
                    () = stop.cancelled() => return,
                }
            }
        })
    }

    fn len(&self) -> u64 {
        self.ready.entry_count()
    }
}

/// The error of a call that several sessions waited for.
fn shared(error: &Arc<CredentialError>) -> CredentialError {
    match &**error {
        CredentialError::Issue(source) => CredentialError::Issue(Arc::clone(source)),
        CredentialError::Deadline => CredentialError::Deadline,
        CredentialError::Key(source) => CredentialError::Key(*source),
        CredentialError::Tls(source) => CredentialError::Tls(source.clone()),
        CredentialError::SshKey(source) => CredentialError::SshKey(Arc::clone(source)),
        // Neither passwords nor keys of files come from here.
        CredentialError::Password { path, source } => {
            CredentialError::Password { path: path.clone(), source: source.kind().into() }
        }
        CredentialError::KeyFile { path, source } => {
            CredentialError::KeyFile { path: path.clone(), source: source.kind().into() }
        }
    }
}
