//! The one connection to authd, under the certificate of the day.

use std::{error::Error, sync::Arc};

use auth::{
    api::{self, ApiError, Trust},
    clock::from_unix_millis,
    identity::TargetName,
    proto::{
        AuditRecord, EmitAuditRequest, IssueUpstreamCertificateRequest, sidecars_client::SidecarsClient,
    },
};
use rustls_pki_types::CertificateDer;
use tokio::sync::Mutex;
use tonic::{Code, transport::Channel};
use uuid::Uuid;

use crate::{
    audit::{EmitError, Record, Uplink},
    join::Identity,
    upstream::{Issue, Issued},
};

/// The way to authd. A channel is made when it is first needed; it mends itself, and is made anew with a new certificate.
pub(crate) struct Link {
    address: String,
    state: Mutex<State>,
}

struct State {
    identity: Arc<Identity>,
    channel: Option<Channel>,
}

impl Link {
    pub(crate) fn new(address: String, identity: Arc<Identity>) -> Arc<Self> {
        Arc::new(Self { address, state: Mutex::new(State { identity, channel: None }) })
    }

    /// From now on, this certificate. Calls under way keep the connection that they have.
    pub(crate) async fn renewed(&self, identity: Arc<Identity>) {
        *self.state.lock().await = State { identity, channel: None };
    }

    /// A channel. Who asks while one is being made waits for it, at most for `api::CONNECT_DEADLINE`.
    pub(crate) async fn channel(&self) -> Result<Channel, ApiError> {
        let mut state = self.state.lock().await;
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
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Issued, Box<dyn Error + Send + Sync>>> + Send + 'a>>
    {
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
        let records =
            records.into_iter().map(|Record { sequence, json }| AuditRecord { sequence, json }).collect();
        let request = EmitAuditRequest { spool_id: spool.to_string(), records };
        let mut sidecars = self.sidecars().await.map_err(|error| EmitError::Failed(error.into()))?;
        match sidecars.emit_audit(request).await {
            Ok(answer) => Ok(answer.into_inner().acknowledged),
            Err(status) if status.code() == Code::InvalidArgument => Err(EmitError::Refused(status.into())),
            Err(status) => Err(EmitError::Failed(status.into())),
        }
    }
}
