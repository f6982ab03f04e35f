//! The credential of a tunnel, asked for again when it has expired: one question at a time, whoever is waiting.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use auth::clock::Clock;
use tokio::sync::Mutex;

use crate::{report, session::Credential};

/// A certificate this close to its end would expire on the way.
const MARGIN: Duration = Duration::from_secs(5);

/// What has an end.
pub trait Expires {
    /// When.
    fn not_after(&self) -> SystemTime;
}

impl Expires for Credential {
    fn not_after(&self) -> SystemTime {
        self.not_after
    }
}

/// Holds a credential and renews it with `ask`.
pub struct Renewal<A, C = Credential> {
    ask: A,
    clock: Clock,
    /// Finished questions, so that those who waited for one can tell that it was theirs too.
    asked: AtomicU64,
    state: Mutex<State<C>>,
}

struct State<C> {
    current: Arc<C>,
    failure: Option<String>,
}

impl<A, F, C> Renewal<A, C>
where
    A: Fn() -> F + Send + Sync,
    F: Future<Output = anyhow::Result<Arc<C>>> + Send,
    C: Expires + Send + Sync,
{
    /// Begins with a credential that was asked for before.
    pub fn new(first: Arc<C>, clock: Clock, ask: A) -> Self {
        let state = State { current: first, failure: None };
        Self { ask, clock, asked: AtomicU64::new(0), state: Mutex::new(state) }
    }

    /// The credential, where it is in date and nobody is being asked for a new one.
    pub fn in_date(&self) -> Option<Arc<C>> {
        let state = self.state.try_lock().ok()?;
        self.is_in_date(&state).then(|| Arc::clone(&state.current))
    }

    fn is_in_date(&self, state: &State<C>) -> bool {
        state.current.not_after() > self.clock.now() + MARGIN
    }

    /// A credential that is in date. Where it has expired, one caller asks; all who came meanwhile share the answer, a
    /// refusal too.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn current(&self) -> anyhow::Result<Arc<C>> {
        let came = self.asked.load(Ordering::Acquire);
        let mut state = self.state.lock().await;
        if self.is_in_date(&state) {
            return Ok(Arc::clone(&state.current));
        }
        if self.asked.load(Ordering::Acquire) != came
            && let Some(failure) = &state.failure
        {
            anyhow::bail!("{failure}");
        }
        let answer = (self.ask)().await;
        match &answer {
            Ok(credential) => {
                state.current = Arc::clone(credential);
                state.failure = None;
            }
            Err(error) => state.failure = Some(report::one_line(error)),
        }
        self.asked.fetch_add(1, Ordering::Release);
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    struct Until(SystemTime);

    impl Expires for Until {
        fn not_after(&self) -> SystemTime {
            self.0
        }
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[tokio::test]
    async fn a_credential_in_date_is_used_again() {
        let (clock, _handle) = Clock::fixed(at(100));
        let renewal = Renewal::new(Arc::new(Until(at(200))), clock, || async {
            anyhow::bail!("nobody should have been asked")
        });
        assert_eq!(renewal.current().await.unwrap().0, at(200));
    }

    #[tokio::test]
    async fn an_expired_credential_is_not_handed_out_without_asking() {
        let (clock, handle) = Clock::fixed(at(100));
        let renewal = Renewal::new(Arc::new(Until(at(200))), clock, || async {
            anyhow::bail!("nobody should have been asked")
        });
        assert_eq!(renewal.in_date().unwrap().0, at(200));
        handle.set(at(196));
        assert!(renewal.in_date().is_none());
    }

    #[tokio::test]
    async fn many_connections_after_expiry_ask_once() {
        let (clock, handle) = Clock::fixed(at(100));
        let asked = AtomicU64::new(0);
        let renewal = Renewal::new(Arc::new(Until(at(200))), clock, || async {
            asked.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            Ok(Arc::new(Until(at(300))))
        });
        handle.set(at(196));
        let (a, b, c) = tokio::join!(renewal.current(), renewal.current(), renewal.current());
        assert!([a, b, c].into_iter().all(|credential| credential.unwrap().0 == at(300)));
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn those_who_waited_share_a_refusal_and_the_next_one_asks_again() {
        let (clock, _handle) = Clock::fixed(at(300));
        let asked = AtomicU64::new(0);
        let renewal = Renewal::new(Arc::new(Until(at(200))), clock, || async {
            tokio::task::yield_now().await;
            anyhow::bail!("refused {}", asked.fetch_add(1, Ordering::SeqCst));
        });
        let (a, b) = tokio::join!(renewal.current(), renewal.current());
        for refused in [a, b] {
            assert_eq!(refused.err().unwrap().to_string(), "refused 0");
        }
        assert_eq!(renewal.current().await.err().unwrap().to_string(), "refused 1");
    }
}
