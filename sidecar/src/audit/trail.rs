//! One session's part of the trail: begun before the upstream is dialled, ended on every way out.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use auth::clock::Clock;
use protocols::{Event, Tap, TapClosed, Verdict};
use tokio::sync::watch;
use tracing::error;

use super::{
    Audit, AuditError, Denied, Ending, Subject,
    event::{Renderer, Started},
};

/// An open session in the audit trail. [`Trail::end`] writes its end; a trail that is dropped before (a panic, a cancelled
/// task) writes it too, with the reason `aborted`.
pub(crate) struct Trail {
    shared: Arc<Shared>,
    failures: watch::Receiver<u64>,
    began: Instant,
    ended: bool,
}

struct Shared {
    audit: Audit,
    clock: Clock,
    renderer: Renderer,
    /// The next event's index.
    next: AtomicU64,
}

impl Shared {
    fn index(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }
}

impl Trail {
    /// Writes `db.session.start`; returns once it is on disk.
    ///
    /// # Errors
    /// It is not, so there must be no session.
    pub(crate) async fn begin(
        audit: &Audit,
        clock: &Clock,
        subject: &Subject,
        decided_by: String,
        receipt: Option<&[u8]>,
    ) -> Result<Self, AuditError> {
        // Before the event, so that no failure after it goes unseen.
        let failures = audit.failures();
        let renderer = Renderer::new(subject);
        let started = renderer.started(0, clock.now(), &Started::new(decided_by, receipt));
        let next = AtomicU64::new(1);
        let shared = Shared { audit: audit.clone(), clock: clock.clone(), renderer, next };
        // Before the wait: who is cancelled in it may have begun, and so must end.
        let mut trail = Self { shared: Arc::new(shared), failures, began: Instant::now(), ended: false };
        let begun = audit.begin(started).await;
        trail.ended = matches!(begun, Err(AuditError::Full { .. } | AuditError::TooLong(_)));
        begun.map(|()| trail)
    }

    /// Writes `db.session.start` of a session that was denied.
    ///
    /// # Errors
    /// It could not be queued.
    pub(crate) async fn denied(
        audit: &Audit,
        clock: &Clock,
        subject: &Subject,
        denied: &Denied,
    ) -> Result<(), AuditError> {
        audit.queued(Renderer::new(subject).denied(0, clock.now(), denied)).await
    }

    /// Where the relay shows what the client does.
    pub(crate) fn tap(&self) -> TrailTap {
        TrailTap { shared: Arc::clone(&self.shared) }
    }

    /// Completes when the disk has failed since the session began: events of it may be lost, so it must end.
    pub(crate) fn failed(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut failures = self.failures.clone();
        async move {
            // A writer that is gone counts as failed too.
            let _ = failures.changed().await;
        }
    }

    /// Writes `db.session.end`; returns once it, and all before it, is on disk.
    ///
    /// # Cancel safety
    /// The event is sent before the first wait.
    pub(crate) async fn end(mut self, ending: &Ending) {
        let written = self.shared.audit.last_words(self.render(ending));
        self.ended = true;
        if let Err(error) = written.await {
            error!(error = %error, "the end of a session is not in the audit trail");
        }
    }

    fn render(&self, ending: &Ending) -> String {
        let shared = &self.shared;
        shared.renderer.ended(shared.index(), shared.clock.now(), ending, self.began.elapsed())
    }
}

impl Drop for Trail {
    fn drop(&mut self) {
        if !self.ended {
            let ending = Ending { reason: "aborted", bytes_from_client: 0, bytes_from_upstream: 0 };
            drop(self.shared.audit.last_words(self.render(&ending)));
        }
    }
}

/// Writes down what the client does, before it is forwarded.
pub(crate) struct TrailTap {
    shared: Arc<Shared>,
}

impl Tap for TrailTap {
    async fn observe(&mut self, event: Event<'_>) -> Result<Verdict, TapClosed> {
        let shared = &self.shared;
        let json = shared.renderer.observed(shared.index(), shared.clock.now(), &event);
        match shared.audit.queued(json).await {
            Ok(()) => Ok(Verdict::Forward),
            Err(error) => {
                error!(error = %error, "a session ends because it cannot be recorded");
                Err(TapClosed)
            }
        }
    }
}
