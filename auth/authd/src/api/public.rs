//! What may be called without a certificate.

use auth::proto::{self, public_server::Public};
use tonic::{Request, Response, Status};

use super::{Api, caller};

#[tonic::async_trait]
impl Public for Api {
    async fn ping(
        &self,
        request: Request<proto::PingRequest>,
    ) -> Result<Response<proto::PingResponse>, Status> {
        caller::anyone(&self.cluster, &request)?;
        Ok(Response::new(self.cluster.ping().await?))
    }

    async fn get_invitation(
        &self,
        request: Request<proto::GetInvitationRequest>,
    ) -> Result<Response<proto::Invitation>, Status> {
        caller::anyone(&self.cluster, &request)?;
        Ok(Response::new(self.cluster.describe_invitation(&request.get_ref().token).await?))
    }

    async fn begin_invitation(
        &self,
        request: Request<proto::BeginInvitationRequest>,
    ) -> Result<Response<proto::DeviceRegistration>, Status> {
        caller::anyone(&self.cluster, &request)?;
        Ok(Response::new(self.cluster.begin_invitation(request.get_ref()).await?))
    }

    async fn accept_invitation(
        &self,
        request: Request<proto::AcceptInvitationRequest>,
    ) -> Result<Response<proto::AcceptInvitationResponse>, Status> {
        let address = caller::anyone(&self.cluster, &request)?;
        Ok(Response::new(self.cluster.accept_invitation(request.into_inner(), address).await?))
    }

    async fn begin_login(
        &self,
        request: Request<proto::BeginLoginRequest>,
    ) -> Result<Response<proto::MfaChallenge>, Status> {
        let address = caller::anyone(&self.cluster, &request)?;
        Ok(Response::new(self.cluster.begin_login(request.into_inner(), address).await?))
    }

    async fn finish_login(
        &self,
        request: Request<proto::FinishLoginRequest>,
    ) -> Result<Response<proto::LoginCertificates>, Status> {
        let address = caller::anyone(&self.cluster, &request)?;
        Ok(Response::new(self.cluster.finish_login(request.into_inner(), address).await?))
    }

    async fn begin_passwordless_login(
        &self,
        request: Request<proto::BeginPasswordlessLoginRequest>,
    ) -> Result<Response<proto::MfaChallenge>, Status> {
        let address = caller::anyone(&self.cluster, &request)?;
        Ok(Response::new(self.cluster.begin_passwordless_login(address).await?))
    }

    async fn begin_browser_mfa(
        &self,
        request: Request<proto::BeginBrowserMfaRequest>,
    ) -> Result<Response<proto::BrowserMfa>, Status> {
        let address = caller::anyone(&self.cluster, &request)?;
        Ok(Response::new(self.cluster.begin_browser_mfa(&request.get_ref().challenge_id, address).await?))
    }

    async fn await_browser_mfa(
        &self,
        request: Request<proto::AwaitBrowserMfaRequest>,
    ) -> Result<Response<proto::AwaitBrowserMfaResponse>, Status> {
        caller::anyone(&self.cluster, &request)?;
        let waiting = self.cluster.await_browser_mfa(&request.get_ref().wait_token);
        match self.shutdown.run_until_cancelled(waiting).await {
            Some(answer) => Ok(Response::new(answer?)),
            None => Err(Status::unavailable("stopping; ask again")),
        }
    }

    async fn join(
        &self,
        request: Request<proto::JoinRequest>,
    ) -> Result<Response<proto::SidecarCertificate>, Status> {
        let address = caller::anyone(&self.cluster, &request)?;
        Ok(Response::new(self.cluster.join(request.into_inner(), address).await?))
    }
}
