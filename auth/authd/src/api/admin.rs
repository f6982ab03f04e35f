//! What administrators may call: root everything, users as far as their rules go.

use auth::proto::{self, admin_server::Admin};
use tonic::{Request, Response, Status};

use super::{Api, caller};
use crate::admin::Rules;

/// The word for authorities in `rules`.
const AUTHORITIES: &str = "cert_authority";

#[tonic::async_trait]
impl Admin for Api {
    async fn status(
        &self,
        request: Request<proto::StatusRequest>,
    ) -> Result<Response<proto::StatusResponse>, Status> {
        caller::admin(&self.cluster, &request).await?.require(AUTHORITIES, "read")?;
        Ok(Response::new(self.cluster.status()))
    }

    async fn add_user(
        &self,
        request: Request<proto::AddUserRequest>,
    ) -> Result<Response<proto::InvitationLink>, Status> {
        let caller = caller::admin(&self.cluster, &request).await?;
        caller.require("user", "create")?;
        Ok(Response::new(self.cluster.add_user(request.into_inner(), caller.admin.name()).await?))
    }

    async fn reset_user(
        &self,
        request: Request<proto::ResetUserRequest>,
    ) -> Result<Response<proto::InvitationLink>, Status> {
        let caller = caller::admin(&self.cluster, &request).await?;
        caller.require("user", "update")?;
        Ok(Response::new(self.cluster.reset_user(request.into_inner(), caller.admin.name()).await?))
    }

    async fn put_resource(
        &self,
        request: Request<proto::PutResourceRequest>,
    ) -> Result<Response<proto::PutResourceResponse>, Status> {
        let caller = caller::admin(&self.cluster, &request).await?;
        let answer = self.cluster.put_resource(request.into_inner(), &caller.admin, &caller).await?;
        Ok(Response::new(answer))
    }

    async fn get_resources(
        &self,
        request: Request<proto::GetResourcesRequest>,
    ) -> Result<Response<proto::GetResourcesResponse>, Status> {
        let caller = caller::admin(&self.cluster, &request).await?;
        let resources = self.cluster.list_resources(request.get_ref(), &caller.admin, &caller).await?;
        Ok(Response::new(proto::GetResourcesResponse { resources }))
    }

    async fn delete_resource(
        &self,
        request: Request<proto::DeleteResourceRequest>,
    ) -> Result<Response<proto::DeleteResourceResponse>, Status> {
        let caller = caller::admin(&self.cluster, &request).await?;
        self.cluster.delete_resource(request.get_ref(), &caller.admin, &caller).await?;
        Ok(Response::new(proto::DeleteResourceResponse {}))
    }

    async fn add_token(
        &self,
        request: Request<proto::AddTokenRequest>,
    ) -> Result<Response<proto::AddTokenResponse>, Status> {
        let caller = caller::admin(&self.cluster, &request).await?;
        caller.require("token", "create")?;
        Ok(Response::new(self.cluster.add_token(request.into_inner(), &caller.admin).await?))
    }

    async fn sign_database_certificate(
        &self,
        request: Request<proto::SignDatabaseCertificateRequest>,
    ) -> Result<Response<proto::SignDatabaseCertificateResponse>, Status> {
        let caller = caller::admin(&self.cluster, &request).await?;
        caller.require(AUTHORITIES, "create")?;
        Ok(Response::new(self.cluster.sign_database(request.get_ref(), &caller.admin).await?))
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
        let targets = self.cluster.list_targets(None, kind).await?;
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

    async fn list_audit(
        &self,
        request: Request<proto::ListAuditRequest>,
    ) -> Result<Response<proto::ListAuditResponse>, Status> {
        caller::admin(&self.cluster, &request).await?.require("event", "list")?;
        Ok(Response::new(self.cluster.list_audit(request.into_inner()).await?))
    }
}
