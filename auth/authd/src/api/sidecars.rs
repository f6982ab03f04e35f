//! What a sidecar certificate may call.

use std::sync::Arc;

use auth::proto::{self, sidecars_server::Sidecars};
use tonic::{Request, Response, Status};

use super::{Api, caller};
use crate::watch::{self, WatchStream};

#[tonic::async_trait]
impl Sidecars for Api {
    type WatchStream = WatchStream;

    async fn renew_certificate(
        &self,
        request: Request<proto::SidecarCertificateRequest>,
    ) -> Result<Response<proto::SidecarCertificate>, Status> {
        let id = caller::sidecar(&self.cluster, &request)?;
        Ok(Response::new(self.cluster.renew(id, request.get_ref()).await?))
    }

    async fn watch(
        &self,
        request: Request<proto::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let id = caller::sidecar(&self.cluster, &request)?;
        self.cluster.sidecar(id).await?;
        Ok(Response::new(watch::stream(Arc::clone(&self.cluster), self.shutdown.clone())))
    }

    async fn announce(
        &self,
        request: Request<proto::AnnounceRequest>,
    ) -> Result<Response<proto::AnnounceResponse>, Status> {
        let id = caller::sidecar(&self.cluster, &request)?;
        self.cluster.announce(id, request.into_inner().targets).await?;
        Ok(Response::new(proto::AnnounceResponse {}))
    }

    async fn issue_upstream_certificate(
        &self,
        request: Request<proto::IssueUpstreamCertificateRequest>,
    ) -> Result<Response<proto::UpstreamCertificate>, Status> {
        let id = caller::sidecar(&self.cluster, &request)?;
        Ok(Response::new(self.cluster.upstream_certificate(id, request.get_ref()).await?))
    }

    async fn emit_audit(
        &self,
        request: Request<proto::EmitAuditRequest>,
    ) -> Result<Response<proto::EmitAuditResponse>, Status> {
        let id = caller::sidecar(&self.cluster, &request)?;
        let acknowledged = self.cluster.take_audit(id, request.into_inner()).await?;
        Ok(Response::new(proto::EmitAuditResponse { acknowledged }))
    }
}
