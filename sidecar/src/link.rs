//! The one connection to authd, under the certificate of the day.

use std::{
    collections::HashMap,
    error::Error,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use auth::{
    api::{self, ApiError, CaPin, Trust},
    clock::{from_unix_millis, unix_millis},
    credential::OtpProof,
    identity::{TargetName, UserName},
    proto::{
        AuditRecord, EmitAuditRequest, IssueUpstreamCertificateRequest, IssueUpstreamSshCertificateRequest,
        RecordingOf, RecordingPart, VerifyOtpRequest, sidecars_client::SidecarsClient,
    },
};
use bytes::Bytes;
use rustls_pki_types::CertificateDer;
use tokio::{
    sync::{Mutex, watch},
    time::timeout,
};
use tonic::{Code, Status, transport::Channel};
use uuid::Uuid;

use crate::{
    audit::{EmitError, Record, Uplink},
    join::{self, Identity},
    recording::{Acknowledged, Of, RecordingUplink, UploadError},
    session::{CodeError, VerifyCode},
    upstream::{Issue, IssueSsh, Issued, IssuedSsh},
};

/// Longest wait for authd's word about a code: a person waits behind it.
const CODE_DEADLINE: Duration = Duration::from_secs(15);
/// Longest wait for authd to take a part of a recording.
const UPLOAD_DEADLINE: Duration = Duration::from_secs(60);

/// The way to authd. A channel is made when it is first needed; it mends itself, and is made anew with a new certificate.
pub(crate) struct Link {
    address: String,
    /// The end of our certificate, in Unix milliseconds.
    not_after: AtomicI64,
    /// Counts our certificates.
    renewals: watch::Sender<u64>,
    state: Mutex<State>,
}

struct State {
    identity: Arc<Identity>,
    channel: Option<Channel>,
}

impl Link {
    pub(crate) fn new(address: String, identity: Arc<Identity>) -> Arc<Self> {
        let not_after = AtomicI64::new(unix_millis(identity.sidecar.not_after));
        let (renewals, state) = (watch::Sender::new(0), Mutex::new(State { identity, channel: None }));
        Arc::new(Self { address, not_after, renewals, state })
    }

    /// When the certificate ends that clients and authd know us by, in Unix milliseconds.
    pub(crate) fn not_after(&self) -> i64 {
        self.not_after.load(Ordering::Relaxed)
    }

    /// From now on, this certificate. Calls under way keep the connection that they have.
    pub(crate) async fn renewed(&self, identity: Arc<Identity>) {
        self.not_after.store(unix_millis(identity.sidecar.not_after), Ordering::Relaxed);
        *self.state.lock().await = State { identity, channel: None };
        self.renewals.send_modify(|renewals| *renewals += 1);
    }

    /// Hears of each new certificate, once it is the one that calls are made with.
    pub(crate) fn renewals(&self) -> watch::Receiver<u64> {
        self.renewals.subscribe()
    }

    /// A channel. Who asks while one is being made waits for it, at most for `api::CONNECT_DEADLINE`.
    pub(crate) async fn channel(&self) -> Result<Channel, ApiError> {
        self.channel_of(&mut *self.state.lock().await).await
    }

    /// The same, with the pins of the authorities under which we take an authd for one, by the certificate of the channel.
    pub(crate) async fn channel_and_pins(&self) -> Result<(Channel, Vec<String>), ApiError> {
        let mut state = self.state.lock().await;
        let channel = self.channel_of(&mut state).await?;
        let pins = state.identity.host_authorities.iter().filter_map(CaPin::of);
        Ok((channel, pins.map(|pin| pin.to_string()).collect()))
    }

    async fn channel_of(&self, state: &mut State) -> Result<Channel, ApiError> {
        if let Some(channel) = &state.channel {
            return Ok(channel.clone());
        }
        let trust = Trust::Authorities(state.identity.host_authorities.clone());
        let channel = api::connect(&self.address, trust, Some(state.identity.client_identity())).await?;
        state.channel = Some(channel.clone());
        Ok(channel)
    }

    pub(crate) async fn sidecars(&self) -> Result<SidecarsClient<Channel>, ApiError> {
        self.channel().await.map(SidecarsClient::new)
    }
}

impl Issue for Arc<Link> {
    fn issue<'a>(
        &'a self,
        target: &'a TargetName,
        db_user: &'a str,
        public_key: Vec<u8>,
    ) -> Pin<Box<dyn Future<Output = Result<Issued, Box<dyn Error + Send + Sync>>> + Send + 'a>> {
        Box::pin(async move {
            let request = IssueUpstreamCertificateRequest {
                target_name: target.to_string(),
                db_user: db_user.to_owned(),
                public_key,
            };
            let issued = self.sidecars().await?.issue_upstream_certificate(request).await?.into_inner();
            let not_after = from_unix_millis(issued.not_after).ok_or("the certificate has no end")?;
            Ok(Issued { certificate: CertificateDer::from(issued.certificate), not_after })
        })
    }
}

impl Uplink for Arc<Link> {
    async fn emit(&self, spool: Uuid, records: Vec<Record>) -> Result<u64, EmitError> {
        let request = emit_request(spool, records);
        let mut sidecars = self.sidecars().await.map_err(|error| EmitError::Failed(error.into()))?;
        match sidecars.emit_audit(request).await {
            Ok(answer) => Ok(answer.into_inner().acknowledged),
            Err(status) if status.code() == Code::InvalidArgument => Err(EmitError::Refused(status.into())),
            Err(status) => Err(EmitError::Failed(status.into())),
        }
    }
}

/// What events of a session have in common is in it once for all that share one piece of memory.
fn emit_request(spool: Uuid, records: Vec<Record>) -> EmitAuditRequest {
    let (mut sessions, mut indexes) = (Vec::new(), HashMap::new());
    let mut index_of = |session: Bytes| {
        // It stays where it is as long as it is in `sessions`.
        *indexes.entry((session.as_ptr(), session.len())).or_insert_with(|| {
            sessions.push(session);
            // No request holds as many.
            u32::try_from(sessions.len() - 1).unwrap_or(u32::MAX)
        })
    };
    let records = records.into_iter().map(|Record { sequence, json, session }| match session {
        None => AuditRecord { sequence, json, ..AuditRecord::default() },
        Some(session) => {
            AuditRecord { sequence, own: json, session: index_of(session), ..AuditRecord::default() }
        }
    });
    let records = records.collect();
    EmitAuditRequest { spool_id: spool.to_string(), records, sessions }
}

impl IssueSsh for Arc<Link> {
    fn issue_ssh<'a>(
        &'a self,
        target: &'a TargetName,
        login: &'a str,
        user: &'a UserName,
        public_key: Vec<u8>,
    ) -> Pin<Box<dyn Future<Output = Result<IssuedSsh, Box<dyn Error + Send + Sync>>> + Send + 'a>> {
        Box::pin(async move {
            let request = IssueUpstreamSshCertificateRequest {
                target_name: target.to_string(),
                login: login.to_owned(),
                user: user.to_string(),
                ssh_public_key: public_key,
            };
            let issued = self.sidecars().await?.issue_upstream_ssh_certificate(request).await?.into_inner();
            let not_after = from_unix_millis(issued.not_after).ok_or("the certificate has no end")?;
            let certificate = join::wire(&issued.ssh_certificate).ok_or("the certificate cannot be read")?;
            Ok(IssuedSsh { certificate, not_after })
        })
    }
}

impl VerifyCode for Arc<Link> {
    fn verify(
        &self,
        asked: VerifyOtpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<OtpProof, CodeError>> + Send + '_>> {
        Box::pin(async move {
            let judged = timeout(CODE_DEADLINE, async {
                let mut sidecars = self.sidecars().await.map_err(|error| CodeError::Failed(error.into()))?;
                let answer =
                    sidecars.verify_otp(asked.clone()).await.map_err(|status| match status.code() {
                        Code::Unauthenticated => CodeError::Wrong,
                        Code::FailedPrecondition
                        | Code::ResourceExhausted
                        | Code::NotFound
                        | Code::PermissionDenied
                        | Code::InvalidArgument => CodeError::Refused(status.into()),
                        _ => CodeError::Failed(status.into()),
                    })?;
                OtpProof::from_answer(&asked, answer.get_ref())
                    .map_err(|error| CodeError::Failed(error.into()))
            });
            judged.await.unwrap_or_else(|late| Err(CodeError::Failed(late.into())))
        })
    }
}

impl RecordingUplink for Arc<Link> {
    async fn upload(
        &self,
        id: Uuid,
        of: &Of,
        offset: u64,
        data: Vec<u8>,
        finished: bool,
    ) -> Result<Acknowledged, UploadError> {
        let of = RecordingOf {
            user: of.user.clone(),
            login: of.login.clone(),
            target_name: of.target_name.clone(),
            started: of.started,
        };
        let part = RecordingPart { session_id: id.to_string(), of: Some(of), offset, data, finished };
        let uploaded = timeout(UPLOAD_DEADLINE, async {
            let mut sidecars = self.sidecars().await.map_err(|error| UploadError::Failed(error.into()))?;
            let answer = sidecars.upload_recording(futures_util::stream::iter([part])).await;
            answer.map_err(upload_error)
        });
        let answer =
            uploaded.await.unwrap_or_else(|late| Err(UploadError::Failed(late.into())))?.into_inner();
        Ok(Acknowledged { offset: answer.acknowledged, finished: answer.finished })
    }
}

/// What it means that authd does not take a part of a recording. Whatever may pass (another part is being written, authd is
/// being replaced) is tried again: a recording is given up only where nothing else can come of it.
fn upload_error(status: Status) -> UploadError {
    match status.code() {
        // Of a node that is not ours any more, or longer than any may be.
        Code::InvalidArgument | Code::NotFound | Code::OutOfRange => UploadError::Refused(status.into()),
        _ => UploadError::Failed(status.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_is_given_up_only_for_what_never_passes() {
        let given_up = |code| matches!(upload_error(Status::new(code, "")), UploadError::Refused(_));
        for passes in [Code::FailedPrecondition, Code::Aborted, Code::Unavailable, Code::ResourceExhausted] {
            assert!(!given_up(passes), "{passes:?}");
        }
        for never_passes in [Code::InvalidArgument, Code::NotFound, Code::OutOfRange] {
            assert!(given_up(never_passes), "{never_passes:?}");
        }
    }

    #[test]
    fn what_events_have_in_common_is_sent_once() {
        let (alice, bob) = (Bytes::from_static(b"{\"user\":\"a\"}"), Bytes::from_static(b"{\"user\":\"b\"}"));
        let record = |sequence, session: Option<&Bytes>| {
            let json = Bytes::from(format!("{{\"n\":{sequence}}}"));
            Record { sequence, json, session: session.cloned() }
        };
        let records = [None, Some(&alice), Some(&bob), Some(&alice)];
        let records = (1..).zip(records).map(|(sequence, session)| record(sequence, session)).collect();
        let request = emit_request(Uuid::nil(), records);
        assert_eq!(request.sessions, [alice, bob]);
        let sent = |record: &AuditRecord| (record.json.to_vec(), record.own.to_vec(), record.session);
        let expected = [(1, 0), (2, 0), (3, 1), (4, 0)].map(|(sequence, session)| {
            let json = format!("{{\"n\":{sequence}}}").into_bytes();
            if sequence == 1 { (json, Vec::new(), session) } else { (Vec::new(), json, session) }
        });
        assert_eq!(request.records.iter().map(sent).collect::<Vec<_>>(), expected);
    }
}
