//! What a login certificate may call.

use auth::proto::{self, create_challenge_request, users_server::Users};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use zeroize::Zeroizing;

use super::{Api, caller};
use crate::{challenge::Scope, error::Refused, registration::Wish};

#[tonic::async_trait]
impl Users for Api {
    type GetRecordingStream = ReceiverStream<Result<proto::RecordingChunk, Status>>;

    async fn list_recordings(
        &self,
        request: Request<proto::ListRecordingsRequest>,
    ) -> Result<Response<proto::ListRecordingsResponse>, Status> {
        let (caller, standing) = caller::user(&self.cluster, &request).await?;
        let recordings = self.cluster.list_recordings(&caller.user, &standing, request.get_ref()).await?;
        Ok(Response::new(proto::ListRecordingsResponse { recordings }))
    }

    async fn get_recording(
        &self,
        request: Request<proto::GetRecordingRequest>,
    ) -> Result<Response<Self::GetRecordingStream>, Status> {
        let (caller, standing) = caller::user(&self.cluster, &request).await?;
        let session = &request.get_ref().session_id;
        let chunks = self.cluster.read_recording(&caller.user, &standing, session).await?;
        Ok(Response::new(ReceiverStream::new(chunks)))
    }

    async fn list_targets(
        &self,
        request: Request<proto::ListTargetsRequest>,
    ) -> Result<Response<proto::ListTargetsResponse>, Status> {
        let (_, standing) = caller::user(&self.cluster, &request).await?;
        let targets = self.cluster.list_targets(Some(&standing), &request.get_ref().kind).await?;
        Ok(Response::new(proto::ListTargetsResponse { targets }))
    }

    async fn is_mfa_required(
        &self,
        request: Request<proto::IsMfaRequiredRequest>,
    ) -> Result<Response<proto::IsMfaRequiredResponse>, Status> {
        let (_, standing) = caller::user(&self.cluster, &request).await?;
        Ok(Response::new(self.cluster.is_mfa_required(standing, request.get_ref()).await?))
    }

    async fn create_challenge(
        &self,
        request: Request<proto::CreateChallengeRequest>,
    ) -> Result<Response<proto::MfaChallenge>, Status> {
        let (caller, standing) = caller::user(&self.cluster, &request).await?;
        let challenge = match request.into_inner().scope {
            Some(create_challenge_request::Scope::Session(session)) => {
                self.cluster.create_session_challenge(&caller, standing, session).await?
            }
            Some(create_challenge_request::Scope::ManageDevices(_)) => {
                self.cluster.create_challenge(&caller.user, Scope::ManageDevices).await?
            }
            Some(create_challenge_request::Scope::AdminAction(action)) => {
                self.cluster.create_admin_challenge(&caller.user, action).await?
            }
            None => return Err(Refused::field("scope", "is missing").into()),
        };
        Ok(Response::new(challenge))
    }

    async fn issue_session_certificate(
        &self,
        request: Request<proto::IssueSessionCertificateRequest>,
    ) -> Result<Response<proto::SessionCertificate>, Status> {
        let (caller, _) = caller::user(&self.cluster, &request).await?;
        Ok(Response::new(self.cluster.issue_session(&caller, request.into_inner()).await?))
    }

    async fn list_mfa_devices(
        &self,
        request: Request<proto::ListMfaDevicesRequest>,
    ) -> Result<Response<proto::ListMfaDevicesResponse>, Status> {
        let (caller, _) = caller::user(&self.cluster, &request).await?;
        let devices = self.cluster.list_devices(&caller.user).await?;
        Ok(Response::new(proto::ListMfaDevicesResponse { devices }))
    }

    async fn begin_add_mfa_device(
        &self,
        request: Request<proto::BeginAddMfaDeviceRequest>,
    ) -> Result<Response<proto::DeviceRegistration>, Status> {
        let (caller, _) = caller::user(&self.cluster, &request).await?;
        let request = request.into_inner();
        let wish = Wish::from_proto(request.kind, request.passwordless)?;
        let (id, password) = (request.challenge_id, Zeroizing::new(request.password));
        self.cluster.prove_to_add(&caller.user, &id, request.mfa, password, caller.address).await?;
        Ok(Response::new(self.cluster.begin_add_device(&caller.user, wish).await?))
    }

    async fn finish_add_mfa_device(
        &self,
        request: Request<proto::FinishAddMfaDeviceRequest>,
    ) -> Result<Response<proto::MfaDevice>, Status> {
        let (caller, _) = caller::user(&self.cluster, &request).await?;
        let device = request.into_inner().device.ok_or_else(|| Refused::field("device", "is missing"))?;
        Ok(Response::new(self.cluster.finish_add_device(&caller.user, device).await?))
    }

    async fn delete_mfa_device(
        &self,
        request: Request<proto::DeleteMfaDeviceRequest>,
    ) -> Result<Response<proto::DeleteMfaDeviceResponse>, Status> {
        let (caller, _) = caller::user(&self.cluster, &request).await?;
        let request = request.into_inner();
        self.cluster.prove_for_devices(&caller.user, &request.challenge_id, request.mfa).await?;
        let device = self.cluster.delete_device(&caller.user, &request.device).await?;
        Ok(Response::new(proto::DeleteMfaDeviceResponse { device: Some(device) }))
    }
}
