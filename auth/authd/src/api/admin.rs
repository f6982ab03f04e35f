//! What administrators may call: root everything, users as far as their rules go.
//!
//! Rules come first, so that who may not is told so without a touch. What changes or signs something needs a
//! [`Change`], which only [`Api::change`] gives.

use auth::{
    api::touch,
    proto::{self, admin_server::Admin},
};
use prost::Message;
use tonic::{Request, Response, Status};

use super::{Api, caller};
use crate::{
    admin::{AdminCaller, Change},
    cluster::Cluster,
    error::Refused,
};

/// The word for authorities in `rules`.
const AUTHORITIES: &str = "cert_authority";

impl Api {
    /// The right to make this one call: `method` as the contract names it, and exactly this request.
    async fn change<T: Message>(
        &self,
        caller: AdminCaller,
        method: &str,
        request: &Request<T>,
    ) -> Result<Change, Refused> {
        let call = touch::digest(method, request.get_ref());
        self.cluster.allow_change(caller, request.metadata(), call).await
    }
}

#[tonic::async_trait]
impl Admin for Api {
    async fn status(
        &self,
        request: Request<proto::StatusRequest>,
    ) -> Result<Response<proto::StatusResponse>, Status> {
        caller::admin(&self.cluster, &request).await?.require(AUTHORITIES, "read")?;
        Ok(Response::new(self.cluster.status().await?))
    }

    async fn add_user(
        &self,
        request: Request<proto::AddUserRequest>,
    ) -> Result<Response<proto::InvitationLink>, Status> {
        let caller = caller::admin(&self.cluster, &request).await?;
        caller.require("user", "create")?;
        let change = self.change(caller, "AddUser", &request).await?;
        Ok(Response::new(self.cluster.add_user(request.into_inner(), &change).await?))
    }

    async fn reset_user(
        &self,
        request: Request<proto::ResetUserRequest>,
    ) -> Result<Response<proto::InvitationLink>, Status> {
        let caller = caller::admin(&self.cluster, &request).await?;
        caller.require("user", "update")?;
        let change = self.change(caller, "ResetUser", &request).await?;
        Ok(Response::new(self.cluster.reset_user(request.into_inner(), &change).await?))
    }

    async fn put_resource(
        &self,
        request: Request<proto::PutResourceRequest>,
    ) -> Result<Response<proto::PutResourceResponse>, Status> {
        let caller = caller::admin(&self.cluster, &request).await?;
        if let Ok(resource) = Cluster::resource_of(request.get_ref()) {
            caller.require(resource.kind().as_str(), "create")?;
        }
        let change = self.change(caller, "PutResource", &request).await?;
        Ok(Response::new(self.cluster.put_resource(request.get_ref(), &change).await?))
    }

    async fn get_resources(
        &self,
        request: Request<proto::GetResourcesRequest>,
    ) -> Result<Response<proto::GetResourcesResponse>, Status> {
        let caller = caller::admin(&self.cluster, &request).await?;
        let resources = self.cluster.list_resources(request.get_ref(), &caller).await?;
        Ok(Response::new(proto::GetResourcesResponse { resources }))
    }

    async fn delete_resource(
        &self,
        request: Request<proto::DeleteResourceRequest>,
    ) -> Result<Response<proto::DeleteResourceResponse>, Status> {
        let caller = caller::admin(&self.cluster, &request).await?;
        if let Ok(kind) = Cluster::parse_kind(&request.get_ref().kind) {
            caller.require(kind.as_str(), "delete")?;
        }
        let change = self.change(caller, "DeleteResource", &request).await?;
        self.cluster.delete_resource(request.get_ref(), &change).await?;
        Ok(Response::new(proto::DeleteResourceResponse {}))
    }

    async fn add_token(
        &self,
        request: Request<proto::AddTokenRequest>,
    ) -> Result<Response<proto::AddTokenResponse>, Status> {
        let caller = caller::admin(&self.cluster, &request).await?;
        caller.require("token", "create")?;
        let change = self.change(caller, "AddToken", &request).await?;
        Ok(Response::new(self.cluster.add_token(request.into_inner(), &change).await?))
    }

    async fn sign_database_certificate(
        &self,
        request: Request<proto::SignDatabaseCertificateRequest>,
    ) -> Result<Response<proto::SignDatabaseCertificateResponse>, Status> {
        let caller = caller::admin(&self.cluster, &request).await?;
        caller.require(AUTHORITIES, "create")?;
        let change = self.change(caller, "SignDatabaseCertificate", &request).await?;
        Ok(Response::new(self.cluster.sign_database(request.get_ref(), &change).await?))
    }

    async fn rotate_authority(
        &self,
        request: Request<proto::RotateAuthorityRequest>,
    ) -> Result<Response<proto::RotateAuthorityResponse>, Status> {
        let caller = caller::admin(&self.cluster, &request).await?;
        caller.require(AUTHORITIES, "update")?;
        let change = self.change(caller, "RotateAuthority", &request).await?;
        Ok(Response::new(self.cluster.rotate(request.get_ref(), &change).await?))
    }

    async fn list_authorities(
        &self,
        request: Request<proto::ListAuthoritiesRequest>,
    ) -> Result<Response<proto::ListAuthoritiesResponse>, Status> {
        caller::admin(&self.cluster, &request).await?.require(AUTHORITIES, "read")?;
        let authorities = self.cluster.list_authorities(&request.get_ref().r#type)?;
        Ok(Response::new(proto::ListAuthoritiesResponse { authorities }))
    }

    async fn list_all_targets(
        &self,
        request: Request<proto::ListTargetsRequest>,
    ) -> Result<Response<proto::ListTargetsResponse>, Status> {
        let caller = caller::admin(&self.cluster, &request).await?;
        let kind = request.get_ref().kind.as_str();
        if kind != "node" {
            caller.require("db", "list")?;
        }
        if kind != "database" {
            caller.require("node", "list")?;
        }
        let targets = self.cluster.list_announced(kind).await?;
        Ok(Response::new(proto::ListTargetsResponse { targets }))
    }

    async fn explain_access(
        &self,
        request: Request<proto::ExplainAccessRequest>,
    ) -> Result<Response<proto::ExplainAccessResponse>, Status> {
        let caller = caller::admin(&self.cluster, &request).await?;
        caller.require("user", "read")?;
        caller.require("role", "read")?;
        Ok(Response::new(self.cluster.explain_access(request.get_ref()).await?))
    }

    async fn list_all_recordings(
        &self,
        request: Request<proto::ListRecordingsRequest>,
    ) -> Result<Response<proto::ListRecordingsResponse>, Status> {
        caller::admin(&self.cluster, &request).await?.require("session", "list")?;
        let recordings = self.cluster.list_all_recordings(request.get_ref()).await?;
        Ok(Response::new(proto::ListRecordingsResponse { recordings }))
    }

    async fn list_audit(
        &self,
        request: Request<proto::ListAuditRequest>,
    ) -> Result<Response<proto::ListAuditResponse>, Status> {
        caller::admin(&self.cluster, &request).await?.require("event", "list")?;
        Ok(Response::new(self.cluster.list_audit(request.into_inner()).await?))
    }
}
