//! A sidecar's live copy of what decisions need: a snapshot, then each change as it happens.
//!
//! Decisions never wait for the network: they read the newest complete [`Snapshot`] without a lock. What cannot be read
//! fails closed: a role stays unknown, a device too; a lock or an auth preference that cannot be read makes the replica not
//! ready, because nobody knows whom it stops. How long ago authd was last heard is always known ([`Replica::age`]).

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::{sync::watch, time::Instant};

use crate::{clock::Clock, identity::UserName, proto};

mod follow;
mod snapshot;

#[cfg(test)]
mod tests;

pub use follow::{EVENT_DEADLINE, follow};
pub use snapshot::{DeviceKind, EndedLogins, KnownDevice, Snapshot};

/// In `locking_mode: strict`, the age from which locks might be missing and nobody gets in.
pub const STALE_AFTER: Duration = Duration::from_secs(5 * 60);

/// An event that could not be taken as it is. The replica has already closed what it may have been meant to close.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// The event says nothing, or something that this version does not know.
    #[error("an event of an unknown kind: {what}")]
    UnknownEvent {
        /// Which part.
        what: String,
    },
    /// A resource cannot be read.
    #[error("{kind} {name} cannot be read")]
    Resource {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
        /// Why.
        source: Box<crate::resource::ResourceError>,
    },
    /// A resource says another kind or name than the event that brings it.
    #[error("the event for {kind} {name} brings another resource")]
    Misnamed {
        /// The kind of the event.
        kind: String,
        /// The name of the event.
        name: String,
    },
    /// A name that cannot be.
    #[error("{name:?} cannot be the name of a {kind}")]
    Name {
        /// Of what.
        kind: String,
        /// The name.
        name: String,
    },
    /// Nobody knows which logins of a user have ended; so all of them have.
    #[error("the moment before which logins of {user} have ended cannot be read")]
    EndedLogins {
        /// Whose.
        user: UserName,
    },
    /// An MFA device's key cannot be read.
    #[error("the key of MFA device {device} cannot be read")]
    DeviceKey {
        /// The device.
        device: String,
        /// Why.
        source: crate::receipt::DeviceKeyError,
    },
}

/// The live copy.
pub struct Replica {
    clock: Clock,
    current: ArcSwap<Snapshot>,
    /// When the visible snapshot was last known to be up to date.
    heard: ArcSwapOption<Heard>,
    incoming: Mutex<Incoming>,
    changes: watch::Sender<u64>,
}

/// What the stream of events has brought so far. The mutex makes `apply` one at a time; readers never take it.
struct Incoming {
    /// The snapshot being received; `None` while deltas change the current one.
    loading: Option<Snapshot>,
}

/// A moment by both clocks: the one that may be set, and the one that a suspended machine may stop.
#[derive(Clone, Copy)]
struct Heard {
    at: SystemTime,
    uptime: Instant,
}

impl Replica {
    /// An empty replica: not ready.
    #[must_use]
    pub fn new(clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            clock,
            current: ArcSwap::from_pointee(Snapshot::default()),
            heard: ArcSwapOption::empty(),
            incoming: Mutex::new(Incoming { loading: Some(Snapshot::default()) }),
            changes: watch::channel(0).0,
        })
    }

    /// A new stream begins: what follows, up to its end, is a new snapshot. Until then the old one stays in force.
    pub fn begin(&self) {
        self.incoming().loading = Some(Snapshot::default());
    }

    /// Takes one event of the stream.
    ///
    /// # Errors
    /// [`ReplicaError`], to be logged. The stream goes on: what could not be read is closed, not left as it was.
    pub fn apply(&self, event: proto::WatchEvent) -> Result<(), ReplicaError> {
        use proto::watch_event::Event;
        let mut incoming = self.incoming();
        let outcome = match (event.event, &mut incoming.loading) {
            (Some(Event::Heartbeat(_)), _) => Ok(()),
            (Some(Event::SnapshotEnd(_)), loading @ Some(_)) => {
                if let Some(snapshot) = loading.take() {
                    self.publish(snapshot);
                }
                Ok(())
            }
            (Some(Event::SnapshotEnd(_)), None) => {
                Err(ReplicaError::UnknownEvent { what: "a second end of the snapshot".to_owned() })
            }
            (Some(event), Some(loading)) => loading.take_event(event),
            (Some(event), None) => {
                let mut next = Snapshot::clone(&self.current.load());
                let outcome = next.take_event(event);
                self.publish(next);
                outcome
            }
            (None, _) => Err(ReplicaError::UnknownEvent { what: "empty".to_owned() }),
        };
        // While a snapshot is coming in, what is visible is as old as it was.
        if incoming.loading.is_none() {
            self.heard.store(Some(Arc::new(Heard { at: self.clock.now(), uptime: Instant::now() })));
        }
        outcome
    }

    /// Makes a snapshot visible. First the snapshot, then the news of it: whoever hears of a generation finds it, or a
    /// later one.
    fn publish(&self, mut snapshot: Snapshot) {
        let generation = self.current.load().generation() + 1;
        snapshot.set_generation(generation);
        self.current.store(Arc::new(snapshot));
        self.changes.send_replace(generation);
    }

    /// The newest complete snapshot.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// True when there is a complete snapshot and nothing in it stands in the way of decisions.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.current.load().is_ready()
    }

    /// How long ago the snapshot was last known to be up to date; `None` before there is one. Setting the clock, back or
    /// back and forth, makes no old snapshot young: of wall clock and uptime, the longer counts.
    ///
    /// Who asks for the snapshot too asks for the age first: the race is with [`Replica::apply`], which makes a snapshot
    /// visible before it counts as heard. So the age may belong to an older snapshot, never to a younger one.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        let heard = **self.heard.load().as_ref()?;
        let by_clock = self.clock.now().duration_since(heard.at).unwrap_or_else(|ahead| ahead.duration());
        Some(by_clock.max(heard.uptime.elapsed()))
    }

    /// Tells of each new generation.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn incoming(&self) -> std::sync::MutexGuard<'_, Incoming> {
        self.incoming.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
