//! The security sequence, once, for every protocol. HOT.
//!
//! ```text
//! accept → authorize → [ask, where the protocol can] → audit start → dial upstream → say "logged in" → relay → audit end
//! ```
//!
//! A protocol supplies words, never order. What holds, on every path:
//!
//! - No upstream is dialled without a [`Permit`] and a start event that is on disk.
//! - The client hears "logged in" only after the upstream answered.
//! - A session that began in the audit trail ends in it, also when the task panics or is cancelled.
//! - There is one place that refuses, `Door::refuse`.
//! - A client is asked for a code where nothing but the touch is missing, and the answer is judged by authorizing again.
//! - What the roles say about a session holds from its first moment, or there is none: settings, replication, the number
//!   of sessions, idle time, expiry.

use std::{
    future,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Instant,
};

use auth::{
    authorizer::{Authorizer, SessionRequest},
    clock::Clock,
    identity::Login,
    permit::Permit,
    policy::{Target, TargetKind},
    replica::Replica,
};
use protocols::{Accepted, Client, Endpoint, Peer, Protocol, RelayError, Replication, Transferred};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span, debug, field, info, info_span};
use uuid::Uuid;

mod ask;
mod cancel;
mod record;
mod refuse;

pub(crate) use self::ask::{CodeError, VerifyCode};
pub(crate) use self::cancel::CancelJudge;
use self::record::{Active, Whom, ending};
use crate::{
    admission::Place,
    audit::{Audit, Ending, Parameters, Recorded, Started, Subject, SubjectTarget, Trail},
    chain::Chain,
    metrics::{Metrics, Outcome, TargetMetrics},
    recording::{Of, Recordings},
    refusal::{self, Asked, Bar, Barred, Closed, Stop},
    seats::{Seat, Seats},
    upstream::{CredentialError, Upstream, Whose},
    woken::when_woken,
};

/// The database that physical replication asks policy for, as in `pg_hba.conf`: it opens none, and copies all. A role that
/// names databases one by one therefore does not give it unless it names this one, and `db_replication` is needed besides.
const PHYSICAL_REPLICATION: &str = "replication";

/// The door of one target: everything that a session needs.
pub(crate) struct Door<P> {
    pub(crate) protocol: P,
    pub(crate) target: Arc<Target>,
    pub(crate) authorizer: Authorizer,
    pub(crate) replica: Arc<Replica>,
    pub(crate) upstream: Upstream,
    pub(crate) audit: Audit,
    /// Where terminals are recorded.
    pub(crate) recordings: Arc<Recordings>,
    /// Who judges one-time codes.
    pub(crate) codes: Arc<dyn VerifyCode>,
    pub(crate) clock: Clock,
    pub(crate) metrics: TargetMetrics,
    pub(crate) process_metrics: Metrics,
    /// The sessions of each user, at all targets.
    pub(crate) seats: Arc<Seats>,
    /// Whether the values of bound parameters are recorded.
    pub(crate) parameters: Parameters,
    /// Id of this sidecar.
    pub(crate) server_id: String,
    /// Cancelled when live sessions must end.
    pub(crate) closing: CancellationToken,
}

/// A session that may begin, is on record, and has its upstream.
struct Opened<U> {
    permit: Permit,
    trail: Trail,
    upstream: U,
    /// Given back when the session is over and on record.
    seat: Seat,
}

/// A session that waits for "logged in".
struct Live<'a, C, U> {
    client: C,
    upstream: U,
    session: Session<'a>,
}

/// What there is to know about a session that goes on.
struct Session<'a> {
    sid: Uuid,
    permit: Permit,
    trail: Trail,
    seat: Seat,
    active: Active<'a>,
    began: Instant,
    /// Why it was ended, if it was.
    closed: OnceLock<&'static str>,
}

impl<P: Protocol> Door<P> {
    /// Serves one connection, whatever becomes of it. What is said about it in the log is said in `span`.
    ///
    /// # Cancel safety
    /// May be dropped at any time: what is on record as begun is put on record as ended.
    pub(crate) async fn serve(&self, socket: TcpStream, client: SocketAddr, place: &Place, span: Span) {
        // In a box, which is gone when the relay begins: a silent session keeps none of the room that its login needed.
        let Some(Live { client, upstream, session }) =
            Box::pin(self.begin(socket, client, place).instrument(span.clone())).await
        else {
            return;
        };
        // Not in the span: a relay's task goes on with each message, and would enter it each time. What a relay has to say,
        // which is hardly anything, it says in the span in which its client was accepted, and its trail began.
        let tap = session.trail.tap(self.recorded(&session.permit, session.sid));
        let ended = when_woken(async {
            let answer = refusal::closing(&self.closed(&session.permit, &session.trail).await);
            let _ = session.closed.set(answer.reason);
            answer.refusal
        });
        let outcome = client.relay(upstream, tap, ended).await;
        self.end(session, &outcome).instrument(span).await;
    }

    /// accept, and all that comes before "logged in".
    async fn begin(
        &self,
        socket: TcpStream,
        client: SocketAddr,
        place: &Place,
    ) -> Option<Live<'_, P::Client, P::Upstream>> {
        let arrived = Instant::now();
        match self.protocol.accept(socket).await {
            Ok(Some(accepted)) => self.session(accepted, client, place, arrived).await,
            Ok(None) => {
                debug!("served without a session");
                None
            }
            Err(error) => {
                self.metrics.refused(refusal::accept_reason(&error));
                debug!(error = %Chain(&error), "no login");
                None
            }
        }
    }

    async fn session(
        &self,
        accepted: Accepted<P::Client>,
        from: SocketAddr,
        place: &Place,
        arrived: Instant,
    ) -> Option<Live<'_, P::Client, P::Upstream>> {
        let Accepted { peer, login, mut client } = accepted;
        let request = self.request(&login, from);
        let sid = Uuid::new_v4();
        Span::current().record("sid", field::display(sid));
        match self.open(&mut client, &peer, &login, &request, sid, from, place).await {
            Ok(Opened { permit, trail, upstream, seat }) => {
                self.metrics.setup.observe(arrived.elapsed().as_secs_f64());
                info!(role = %permit.decided_by(), "session started");
                let (active, began, closed) = (Active::new(&self.metrics), Instant::now(), OnceLock::new());
                let session = Session { sid, permit, trail, seat, active, began, closed };
                Some(Live { client, upstream, session })
            }
            Err(stop) => {
                self.refuse(client, &stop, &request, sid, from).await;
                None
            }
        }
    }

    /// authorize → ask → audit start → dial upstream.
    #[expect(clippy::too_many_arguments, reason = "what a session begins with")]
    async fn open(
        &self,
        client: &mut P::Client,
        peer: &Peer,
        login: &protocols::Login,
        request: &SessionRequest,
        sid: Uuid,
        from: SocketAddr,
        place: &Place,
    ) -> Result<Opened<P::Upstream>, Stop> {
        let permit = self.permit(client, peer, request, place).await.map_err(Stop::Denied)?;
        place.known();
        Span::current().record("user", field::display(&permit.identity().user));
        let seat = self.admit(&permit, login).map_err(Stop::Barred)?;
        let subject = self.subject(request, sid, from, Whom::of(&permit));
        let started = Started::new(permit.decided_by().to_string(), permit.receipt())
            .with_terms(login.replication, permit.options())
            .with_parameters(&P::parameters(login));
        let begin = Trail::begin(&self.audit, &self.clock, &subject, &started, self.parameters);
        // While the disk writes, what needs no upstream: the credential, and what the upstream's name means.
        let (trail, endpoint) = tokio::join!(begin, self.endpoint(login, &permit));
        let trail = trail.map_err(Stop::Audit)?;
        match self.dial(login, endpoint).await {
            Ok(upstream) => Ok(Opened { permit, trail, upstream, seat }),
            Err(stop) => {
                let reason = refusal::answer(&stop, asked(request)).reason;
                trail.end(&Ending::before_login(reason)).await;
                Err(stop)
            }
        }
    }

    async fn endpoint(&self, login: &protocols::Login, permit: &Permit) -> Result<Endpoint, CredentialError> {
        let whose = Whose { login: &login.user, user: &permit.identity().user };
        self.upstream.endpoint(whose, permit.options()).await
    }

    async fn dial(
        &self,
        login: &protocols::Login,
        endpoint: Result<Endpoint, CredentialError>,
    ) -> Result<P::Upstream, Stop> {
        let endpoint = endpoint.map_err(Stop::Credential)?;
        self.protocol.dial(&endpoint, login).await.map_err(Stop::Dial)
    }

    /// audit end.
    async fn end(&self, session: Session<'_>, outcome: &Result<Transferred, RelayError>) {
        let Session { trail, seat, began, closed, active: _active, .. } = session;
        // Both connections are closed. Its end may take a moment to be on disk.
        drop(seat);
        let ending = ending(outcome, closed.get().copied().or(trail.stopped()));
        trail.end(&ending).await;
        self.metrics.bytes_from_client.inc_by(ending.bytes_from_client);
        self.metrics.bytes_from_upstream.inc_by(ending.bytes_from_upstream);
        self.metrics.ended(ending.reason, began.elapsed());
        if let Err(error) = outcome {
            debug!(error = %Chain(error), "the relay failed");
        }
        info!(reason = ending.reason, "session ended");
    }

    /// Why a live session must end, once it must.
    async fn closed(&self, permit: &Permit, trail: &Trail) -> Closed {
        let idle = async {
            let Some(limit) = permit.options().client_idle_timeout else { return future::pending().await };
            trail.idle(limit).await;
            limit
        };
        tokio::select! {
            ended = permit.ended() => Closed::Permit(ended),
            () = trail.failed() => Closed::AuditFailed,
            // The race between this and the client's next statement: whichever the relay sees first. A statement that was
            // forwarded makes the session busy before the next look at it; one that was not is never run.
            limit = idle => Closed::Idle(limit),
            () = self.closing.cancelled() => Closed::Shutdown,
        }
    }

    /// What the roles' options say against a session that policy allows. The options are those of all of a user's roles, as of
    /// now: a session that has begun is not ended by a smaller number.
    fn admit(&self, permit: &Permit, login: &protocols::Login) -> Result<Seat, Barred> {
        let options = permit.options();
        let barred =
            |bar| Barred { bar, user: permit.identity().user.clone(), mfa_device: permit.mfa_device() };
        if login.replication != Replication::None && !options.db_replication {
            return Err(barred(Bar::Replication));
        }
        let seat = self.seats.take(&permit.identity().user, options.max_connections);
        let limit = options.max_connections.unwrap_or_default();
        let seat = seat.ok_or_else(|| barred(Bar::MaxConnections { limit }))?;
        let outcome = match permit.mfa_device() {
            Some(_) => Outcome::AllowedWithMfa,
            None => Outcome::Allowed,
        };
        self.metrics.decided(outcome);
        Ok(seat)
    }

    fn request(&self, login: &protocols::Login, from: SocketAddr) -> SessionRequest {
        let login = match self.target.kind {
            TargetKind::Database => {
                let name = match login.replication {
                    Replication::Physical => PHYSICAL_REPLICATION.to_owned(),
                    Replication::None | Replication::Logical => login.database.clone().unwrap_or_default(),
                };
                Login::Database { user: login.user.clone(), name }
            }
            TargetKind::Node => Login::Node { login: login.user.clone() },
        };
        SessionRequest { target: Arc::clone(&self.target), login, client: from.ip() }
    }

    /// How terminals of a session are recorded; `None` where there are none.
    fn recorded(&self, permit: &Permit, sid: Uuid) -> Option<Recorded> {
        let Login::Node { login } = &permit.request().login else { return None };
        let of = Of {
            user: permit.identity().user.to_string(),
            login: login.clone(),
            target_name: self.target.name.to_string(),
            started: auth::clock::unix_millis(self.clock.now()),
        };
        let (recordings, mode) = (Arc::clone(&self.recordings), permit.options().record_ssh_session);
        Some(Recorded { recordings, of, sid, mode })
    }

    fn subject(&self, request: &SessionRequest, sid: Uuid, from: SocketAddr, whom: Whom) -> Subject {
        let target = match &request.login {
            Login::Database { user, name } => SubjectTarget::Database {
                db_service: self.target.name.to_string(),
                db_protocol: self.target.protocol.as_str(),
                db_uri: self.upstream.uri(),
                db_user: user.clone(),
                db_name: Some(name.clone()),
            },
            Login::Node { login } => SubjectTarget::Node {
                server_hostname: self.target.name.to_string(),
                server_labels: self.target.labels.clone(),
                server_addr: self.upstream.uri(),
                login: login.clone(),
                proto: self.target.protocol.as_str(),
            },
        };
        Subject {
            sid,
            cluster_name: self.replica.snapshot().cluster().map(ToString::to_string).unwrap_or_default(),
            server_id: self.server_id.clone(),
            user: whom.user,
            target,
            remote: from,
            with_mfa: whom.device,
        }
    }
}

/// The span of a connection. `user` and `sid` are recorded when they are known.
pub(crate) fn span(number: u64, target: &Target, client: SocketAddr) -> Span {
    info_span!(
        "connection",
        id = number,
        protocol = target.protocol.as_str(),
        target = %target.name,
        client.addr = %client,
        user = field::Empty,
        sid = field::Empty,
    )
}

fn asked(request: &SessionRequest) -> Asked<'_> {
    Asked { target: &request.target, login: &request.login }
}

#[cfg(test)]
mod tests;
