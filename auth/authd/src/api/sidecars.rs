//! What a sidecar certificate may call.

use std::sync::Arc;

use auth::proto::{self, sidecars_server::Sidecars};
use tonic::{Request, Response, Status, Streaming};

use super::{Api, caller};
use crate::watch::{self, WatchStream};

#[tonic::async_trait]
impl Sidecars for Api {
    type WatchStream = WatchStream;

    async fn renew_certificate(
        &self,
        request: Request<proto::SidecarCertificateRequest>,
    ) -> Result<Response<proto::SidecarCertificate>, Status> {
        let sidecar = caller::sidecar(&self.cluster, &request).await?;
        Ok(Response::new(self.cluster.renew(sidecar.id, request.get_ref()).await?))
    }

    async fn watch(
        &self,
        request: Request<proto::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let sidecar = caller::sidecar(&self.cluster, &request).await?;
        let stream = watch::stream(Arc::clone(&self.cluster), sidecar, self.shutdown.clone());
        Ok(Response::new(stream))
    }

    async fn announce(
        &self,
        request: Request<proto::AnnounceRequest>,
    ) -> Result<Response<proto::AnnounceResponse>, Status> {
        let sidecar = caller::sidecar(&self.cluster, &request).await?;
        self.cluster.announce(&sidecar, request.into_inner()).await?;
        Ok(Response::new(proto::AnnounceResponse {}))
    }

    async fn issue_upstream_certificate(
        &self,
        request: Request<proto::IssueUpstreamCertificateRequest>,
    ) -> Result<Response<proto::UpstreamCertificate>, Status> {
        let sidecar = caller::sidecar(&self.cluster, &request).await?;
        Ok(Response::new(self.cluster.upstream_certificate(sidecar.id, request.get_ref()).await?))
    }

    async fn issue_upstream_ssh_certificate(
        &self,
        request: Request<proto::IssueUpstreamSshCertificateRequest>,
    ) -> Result<Response<proto::UpstreamSshCertificate>, Status> {
        let sidecar = caller::sidecar(&self.cluster, &request).await?;
        Ok(Response::new(self.cluster.upstream_ssh_certificate(sidecar.id, request.get_ref()).await?))
    }

    async fn verify_otp(
        &self,
        request: Request<proto::VerifyOtpRequest>,
    ) -> Result<Response<proto::VerifyOtpResponse>, Status> {
        let sidecar = caller::sidecar(&self.cluster, &request).await?;
        Ok(Response::new(self.cluster.verify_otp(sidecar.id, request.into_inner()).await?))
    }

    async fn upload_recording(
        &self,
        request: Request<Streaming<proto::RecordingPart>>,
    ) -> Result<Response<proto::UploadRecordingResponse>, Status> {
        let sidecar = caller::sidecar(&self.cluster, &request).await?;
        Ok(Response::new(self.cluster.take_recording(sidecar.id, request.into_inner()).await?))
    }

    async fn emit_audit(
        &self,
        request: Request<proto::EmitAuditRequest>,
    ) -> Result<Response<proto::EmitAuditResponse>, Status> {
        let sidecar = caller::sidecar(&self.cluster, &request).await?;
        let acknowledged = self.cluster.take_audit(sidecar.id, request.into_inner()).await?;
        Ok(Response::new(proto::EmitAuditResponse { acknowledged }))
    }
}
