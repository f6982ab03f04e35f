//! Turning a client away: counted, logged, on record, told.

use std::{net::SocketAddr, time::Duration};

use auth::{authorizer::SessionRequest, denied::AccessDenied};
use protocols::{Client, Protocol};
use tokio::time::timeout;
use tracing::{debug, error, info, warn};
use uuid::Uuid;

use super::{Door, asked, record::Whom};
use crate::{
    audit::{AuditError, Denied, Rejected, Trail},
    chain::Chain,
    refusal::{self, Answer, Bar, Barred, Stop},
};

/// How long a refusal may take to be read.
const REFUSAL_DEADLINE: Duration = Duration::from_secs(10);

impl<P: Protocol> Door<P> {
    /// The one place where a client is turned away.
    pub(super) async fn refuse(
        &self,
        client: P::Client,
        stop: &Stop,
        request: &SessionRequest,
        sid: Uuid,
        from: SocketAddr,
    ) {
        let answer = refusal::answer(stop, asked(request));
        self.metrics.refused(answer.reason);
        match stop {
            Stop::Denied(denied) => {
                info!(reason = answer.reason, error = %Chain(denied), "denied");
                if let Some(outcome) = answer.outcome {
                    self.metrics.decided(outcome);
                }
                let record = Denied::new(&answer.refusal.message, answer.reason, Chain(denied).to_string());
                self.record_denied(denied, request, sid, from, &record).await;
            }
            Stop::Barred(barred) => {
                info!(reason = answer.reason, error = %barred, "not admitted");
                if let Some(outcome) = answer.outcome {
                    self.metrics.decided(outcome);
                }
                self.record_barred(barred, request, sid, from, &answer).await;
            }
            Stop::Audit(error) => {
                error!(reason = answer.reason, error = %Chain(error), "refused: the session cannot be recorded");
            }
            Stop::Credential(_) | Stop::Dial(_) => {
                warn!(reason = answer.reason, error = %Chain(stop), "refused: no upstream");
            }
        }
        match timeout(REFUSAL_DEADLINE, client.refuse(answer.refusal)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!(%error, "the client did not wait for its refusal"),
            Err(_) => debug!("the client did not read its refusal"),
        }
    }

    async fn record_denied(
        &self,
        denied: &AccessDenied,
        request: &SessionRequest,
        sid: Uuid,
        from: SocketAddr,
        record: &Denied,
    ) {
        let user = denied.identity.as_deref().map(|identity| identity.user.to_string());
        if !self.has_room_for_denied(user.as_deref()) {
            return;
        }
        let whom = Whom { user, device: None };
        let subject = self.subject(request, sid, from, whom);
        recorded(Trail::denied(&self.audit, &self.clock, &subject, record).await);
    }

    /// What finds no room is only counted.
    fn has_room_for_denied(&self, user: Option<&str>) -> bool {
        let room = self.audit.has_room_for_denied(user);
        if !room {
            self.process_metrics.audit_suppressed.inc();
        }
        room
    }

    async fn record_barred(
        &self,
        barred: &Barred,
        request: &SessionRequest,
        sid: Uuid,
        from: SocketAddr,
        answer: &Answer,
    ) {
        if !self.has_room_for_denied(Some(barred.user.as_str())) {
            return;
        }
        let whom = Whom { user: Some(barred.user.to_string()), device: barred.mfa_device };
        let subject = self.subject(request, sid, from, whom);
        recorded(match barred.bar {
            Bar::Replication => {
                let record = Denied::new(&answer.refusal.message, answer.reason, barred.to_string());
                Trail::denied(&self.audit, &self.clock, &subject, &record).await
            }
            Bar::MaxConnections { limit } => {
                let record = Rejected { reason: refusal::MAX_CONNECTIONS, maximum: limit };
                Trail::rejected(&self.audit, &self.clock, &subject, &record).await
            }
        });
    }
}

/// The client is refused in any case.
fn recorded(outcome: Result<(), AuditError>) {
    if let Err(error) = outcome {
        error!(error = %Chain(&error), "a denial is not in the audit trail");
    }
}
