//! One session's part of the trail: begun before the upstream is dialled, ended on every way out.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use auth::clock::Clock;
use protocols::{Answer, Answers, Event, Tap, TapClosed, Verdict};
use tokio::{
    sync::watch,
    time::{Duration, Instant, sleep, sleep_until},
};
use tracing::{Instrument as _, Span, error};

use super::{
    Audit, AuditError, Denied, Ending, Offer, Parameters, Recorded, Rejected, Started, Subject,
    channels::{Channels, Doings},
    draft::{Came, Draft},
    event::{Body, Renderer, SshBody},
    shares::Share,
    statements::Statements,
};

/// An open session in the audit trail. [`Trail::end`] writes its end; a trail that is dropped before (a panic, a cancelled
/// task) writes it too, with the reason `aborted`.
pub(crate) struct Trail {
    shared: Arc<Shared>,
    failures: watch::Receiver<u64>,
    began: Instant,
    ended: bool,
    /// In which the log speaks of the session, for the relay's task is in none.
    span: Span,
}

pub(super) struct Shared {
    audit: Audit,
    /// Of all sessions of the same user.
    share: Share,
    clock: Clock,
    renderer: Arc<Renderer>,
    /// The next event's index.
    next: AtomicU64,
    parameters: Parameters,
    statements: Mutex<Statements>,
    /// Of an SSH session, which has no statements.
    doings: Doings,
}

impl Shared {
    pub(super) fn doings(&self) -> &Doings {
        &self.doings
    }

    /// Queues an event of an SSH session; returns its index once there is room for it.
    pub(super) async fn record(&self, body: &SshBody) -> Result<u64, AuditError> {
        let ei = self.index();
        let event = Draft::Rendered(self.renderer.ssh(ei, self.clock.now(), body));
        self.audit.queued(&self.share, event).await?;
        Ok(ei)
    }

    /// Since when nothing is going on; `None` while something is.
    fn idle_since(&self) -> Option<Instant> {
        let (statements, channels) = (self.statements().idle_since()?, self.doings.idle_since()?);
        Some(statements.max(channels))
    }

    fn index(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn statements(&self) -> MutexGuard<'_, Statements> {
        self.statements.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues the results that found no room before, and in which encoding what follows is read, if that has changed; returns
    /// once they are.
    ///
    /// # Cancel safety
    /// A result stays owed until it is queued.
    async fn pay(&self) -> Result<(), AuditError> {
        while let Some(result) = self.owed()? {
            let renderer = Arc::clone(&self.renderer);
            self.audit.queued(&self.share, Draft::Result { renderer, result }).await?;
            self.statements().paid();
        }
        let encoding = self.statements().encoding();
        if let Some(client_encoding) = encoding {
            let (renderer, ei, at) = (Arc::clone(&self.renderer), self.index(), self.clock.now());
            let body = Body::Encoding { client_encoding: client_encoding.clone() };
            self.audit.queued(&self.share, Draft::Observed { renderer, ei, at, body }).await?;
            self.statements().encoding_recorded(&client_encoding);
        }
        Ok(())
    }

    fn owed(&self) -> Result<Option<Came>, AuditError> {
        let statements = self.statements();
        if statements.is_overrun() { Err(AuditError::NotWritten) } else { Ok(statements.owed().cloned()) }
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
        started: &Started,
        parameters: Parameters,
    ) -> Result<Self, AuditError> {
        // Before the event, so that no failure after it goes unseen.
        let failures = audit.failures();
        let renderer = Arc::new(Renderer::new(subject));
        let encoding = started.client_encoding();
        let started_event = renderer.started(0, clock.now(), started);
        let began = Instant::now();
        let shared = Shared {
            audit: audit.clone(),
            share: audit.share(subject.user.as_deref()),
            clock: clock.clone(),
            renderer,
            next: AtomicU64::new(1),
            parameters,
            statements: Mutex::new(Statements::new(began, encoding)),
            doings: Doings::new(began),
        };
        // Before the wait: who is cancelled in it may have begun, and so must end.
        let span = Span::current();
        let mut trail = Self { shared: Arc::new(shared), failures, began, ended: false, span };
        let begun = audit.begin(&trail.shared.share, started_event).await;
        let unwritten = |error: &AuditError| {
            matches!(error, AuditError::Full { .. } | AuditError::Share { .. } | AuditError::TooLong(_))
        };
        trail.ended = begun.as_ref().is_err_and(unwritten);
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
        audit.denied(Draft::Rendered(Renderer::new(subject).denied(0, clock.now(), denied))).await
    }

    /// Writes `session.rejected`: one session more than the user may have.
    ///
    /// # Errors
    /// It could not be queued.
    pub(crate) async fn rejected(
        audit: &Audit,
        clock: &Clock,
        subject: &Subject,
        rejected: &Rejected,
    ) -> Result<(), AuditError> {
        audit.denied(Draft::Rendered(Renderer::new(subject).rejected(0, clock.now(), rejected))).await
    }

    /// Where the relay shows what the client does, and how it comes out. `recorded`: how terminals are, where there are any.
    pub(crate) fn tap(&self, recorded: Option<Recorded>) -> TrailTap {
        TrailTap {
            shared: Arc::clone(&self.shared),
            text_ei: 0,
            channels: Channels::new(recorded),
            span: self.span.clone(),
        }
    }

    /// Why the tap ended the session, if it did.
    pub(crate) fn stopped(&self) -> Option<&'static str> {
        self.shared.doings.stopped()
    }

    /// Completes when the session has been idle for that long: the client said nothing (not even more of a long message), no
    /// statement runs, no result flows.
    /// An open transaction does not count as work; notifications that come in do not either. Of SSH: nothing is asked for or
    /// typed, and no channel is open but terminals.
    pub(crate) fn idle(&self, limit: Duration) -> impl Future<Output = ()> + Send + use<> {
        let shared = Arc::clone(&self.shared);
        async move {
            loop {
                let since = shared.idle_since();
                match since.and_then(|since| since.checked_add(limit)) {
                    Some(end) if end <= Instant::now() => return,
                    Some(end) => sleep_until(end).await,
                    // Busy: it cannot have been idle for the limit before the limit has passed.
                    None => sleep(limit).await,
                }
            }
        }
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
        let written = self.send_end(ending);
        self.ended = true;
        if let Err(error) = written.await {
            error!(error = %error, "the end of a session is not in the audit trail");
        }
    }

    /// Results that are owed go first.
    fn send_end(&self, ending: &Ending) -> impl Future<Output = Result<(), AuditError>> + Send + use<> {
        let shared = &self.shared;
        for result in shared.statements().take_owed() {
            let renderer = Arc::clone(&shared.renderer);
            drop(shared.audit.last_words(Draft::Result { renderer, result }));
        }
        let (first, now, terminals) = (shared.index(), shared.clock.now(), shared.doings.terminals());
        let mut last = shared.renderer.ended(first, now, ending, self.began.elapsed(), terminals);
        let end = last.pop().unwrap_or_default();
        for json in last {
            drop(shared.audit.last_words(Draft::Rendered(json)));
        }
        shared.audit.last_words(Draft::Rendered(end))
    }
}

impl Drop for Trail {
    fn drop(&mut self) {
        if !self.ended {
            let ending = Ending::before_login("aborted");
            drop(self.send_end(&ending));
        }
    }
}

/// Writes down what the client does, before it is forwarded, and how it came out.
pub(crate) struct TrailTap {
    shared: Arc<Shared>,
    /// The last query or parse: a digest that follows belongs to it.
    text_ei: u64,
    channels: Channels,
    span: Span,
}

impl TrailTap {
    async fn record(&mut self, event: &Event<'_>) -> Result<(), AuditError> {
        let shared = &self.shared;
        let owes = shared.statements().shown();
        if owes {
            shared.pay().await?;
        }
        let body = Body::of(event, self.text_ei, shared.parameters);
        let mut recorded = None;
        if let Some(body) = body {
            let ei = shared.index();
            if body.has_text() {
                self.text_ei = ei;
            }
            let (renderer, at) = (Arc::clone(&shared.renderer), shared.clock.now());
            shared.audit.queued(&shared.share, Draft::Observed { renderer, ei, at, body }).await?;
            recorded = Some(ei);
        }
        // Its time runs from here.
        shared.statements().asked(event, recorded, Instant::now());
        Ok(())
    }
}

impl Tap for TrailTap {
    async fn observe(&mut self, event: Event<'_>) -> Result<Verdict, TapClosed> {
        let recorded = match event {
            Event::Ssh(ref event) => {
                self.channels.observe(&self.shared, event).instrument(self.span.clone()).await
            }
            _ => self.record(&event).await.map(|()| Verdict::Forward),
        };
        match recorded {
            Ok(verdict) => Ok(verdict),
            Err(error) => {
                self.span.in_scope(|| error!(%error, "a session ends because it cannot be recorded"));
                Err(TapClosed)
            }
        }
    }

    fn heard(&mut self) {
        self.shared.statements().went_on(Instant::now());
    }

    fn answers(&mut self) -> Option<Box<dyn Answers>> {
        Some(Box::new(TrailAnswers { shared: Arc::clone(&self.shared) }))
    }
}

/// Writes down how statements came out. Never waits: what finds no room waits for the client's next message, or the end.
struct TrailAnswers {
    shared: Arc<Shared>,
}

impl Answers for TrailAnswers {
    fn answered(&mut self, answer: Answer<'_>) {
        let shared = &self.shared;
        let outcome = shared.statements().answered(&answer, Instant::now());
        let Some(outcome) = outcome else { return };
        let result = Came { ei: shared.index(), at: shared.clock.now(), outcome };
        match shared.audit.offer(&shared.share, &shared.renderer, result) {
            Offer::Taken => {}
            Offer::NoRoom(result) => {
                if !shared.statements().owe(result) {
                    shared.audit.failed.inc();
                }
            }
            // The next statement finds the same, and ends the session.
            Offer::Stopped => {}
        }
    }
}
