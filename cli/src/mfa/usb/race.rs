//! Several keys wait for a touch at the same time; the first that is touched wins, and the others are told to stop.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use super::authenticator::{Authenticator, CtapError};
use crate::{mfa::Person, terminal::PATIENCE};

/// How soon it is noticed that nobody waits any more.
const LOOK: Duration = Duration::from_millis(50);

/// Why no key won.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// Every key refused; the last word of them.
    Refused(CtapError),
    /// The person answered otherwise, or left.
    Withdrawn,
}

/// Has every key do the same until one has.
pub(super) fn race<K: Authenticator, T: Send + 'static>(
    keys: &[Arc<K>],
    person: &dyn Person,
    act: impl Fn(&K) -> Result<T, CtapError> + Send + Sync + 'static,
) -> Result<(Arc<K>, T), Lost> {
    let (act, over) = (Arc::new(act), Arc::new(AtomicBool::new(false)));
    let (sender, answers) = mpsc::channel();
    for key in keys {
        let (key, act, over, sender) = (Arc::clone(key), Arc::clone(&act), Arc::clone(&over), sender.clone());
        // Not joined: a key that hangs would take us along.
        thread::spawn(move || {
            let answer = patiently(&over, || act(&key));
            // Nobody may be left to hear it.
            let _ = sender.send((key, answer));
        });
    }
    drop(sender);
    let mut refused = CtapError::Failed("its driver failed".to_owned());
    let outcome = loop {
        match answers.recv_timeout(LOOK) {
            Ok((key, Ok(done))) => break Ok((key, done)),
            Ok((_, Err(error))) => refused = error,
            Err(RecvTimeoutError::Timeout) if person.has_left() => break Err(Lost::Withdrawn),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break Err(Lost::Refused(refused)),
        }
    };
    over.store(true, Ordering::SeqCst);
    let winner = outcome.as_ref().ok().map(|(key, _)| Arc::clone(key));
    let others = keys.iter().filter(|key| winner.as_ref().is_none_or(|winner| !Arc::ptr_eq(winner, key)));
    if !matches!(outcome, Err(Lost::Refused(_))) {
        others.for_each(|key| key.cancel());
    }
    outcome
}

/// A key waits for half a minute; people are given as long as a challenge lives.
fn patiently<T>(over: &AtomicBool, act: impl Fn() -> Result<T, CtapError>) -> Result<T, CtapError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match act() {
            Err(error)
                if error.is_impatience() && !over.load(Ordering::SeqCst) && Instant::now() < deadline => {}
            answer => return answer,
        }
    }
}
