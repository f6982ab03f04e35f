use std::{
    fs::File,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr},
};

use auth::{
    identity::{ClusterName, UserName},
    proto::{
        BeginAddMfaDeviceRequest, DeleteMfaDeviceRequest, DeleteMfaDeviceResponse, DeviceRegistration,
        FinishAddMfaDeviceRequest, GetRecordingRequest, IsMfaRequiredResponse, ListMfaDevicesRequest,
        ListMfaDevicesResponse, ListRecordingsRequest, ListRecordingsResponse, ListTargetsRequest,
        ListTargetsResponse, MfaChallenge, MfaDevice, RecordingChunk, SessionIntent,
        mfa_response::Response as Answer,
        users_server::{Users, UsersServer},
    },
};
use aws_lc_rs::digest::{SHA256, digest};
use prost::Message;
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

use super::*;
use crate::{
    mfa::{IntentError, Mode},
    terminal::Terminal,
};

const PUBLIC_KEY: &[u8] = b"SubjectPublicKeyInfo";

/// An auth service that changes what was asked for before it makes a challenge of it.
struct AuthService {
    lie: fn(&mut SessionIntent),
}

#[tonic::async_trait]
impl Users for AuthService {
    async fn create_challenge(
        &self,
        request: Request<CreateChallengeRequest>,
    ) -> Result<Response<MfaChallenge>, Status> {
        let Some(create_challenge_request::Scope::Session(session)) = request.into_inner().scope else {
            return Err(Status::invalid_argument("not a session"));
        };
        assert!(session.if_required, "asked for once, with whether it is needed");
        match session.route.as_ref().map(|route| route.target_name.as_str()) {
            Some("dev-pg") => {
                return Ok(Response::new(MfaChallenge { not_required: true, ..Default::default() }));
            }
            Some("hidden") => return Err(Status::not_found("target \"hidden\" not found")),
            _ => {}
        }
        let public_key = match session.ssh_public_key.as_slice() {
            [] => session.public_key,
            ssh => ssh.to_vec(),
        };
        let mut intent = SessionIntent {
            cluster: "main".to_owned(),
            user: "jerry".to_owned(),
            route: session.route,
            public_key_sha256: digest(&SHA256, &public_key).as_ref().to_vec(),
            nonce: vec![7; 16],
            ..SessionIntent::default()
        };
        (self.lie)(&mut intent);
        let intent = intent.encode_to_vec();
        Ok(Response::new(MfaChallenge {
            challenge_id: "1".to_owned(),
            totp: true,
            intent,
            ..Default::default()
        }))
    }

    async fn is_mfa_required(
        &self,
        _: Request<IsMfaRequiredRequest>,
    ) -> Result<Response<IsMfaRequiredResponse>, Status> {
        Err(Status::not_found("target \"prod-pg\" not found"))
    }

    async fn list_targets(
        &self,
        _: Request<ListTargetsRequest>,
    ) -> Result<Response<ListTargetsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn issue_session_certificate(
        &self,
        _: Request<IssueSessionCertificateRequest>,
    ) -> Result<Response<SessionCertificate>, Status> {
        Err(Status::unimplemented(""))
    }

    type GetRecordingStream = tonic::codegen::BoxStream<RecordingChunk>;

    async fn list_recordings(
        &self,
        _: Request<ListRecordingsRequest>,
    ) -> Result<Response<ListRecordingsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_recording(
        &self,
        _: Request<GetRecordingRequest>,
    ) -> Result<Response<Self::GetRecordingStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_mfa_devices(
        &self,
        _: Request<ListMfaDevicesRequest>,
    ) -> Result<Response<ListMfaDevicesResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn begin_add_mfa_device(
        &self,
        _: Request<BeginAddMfaDeviceRequest>,
    ) -> Result<Response<DeviceRegistration>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn finish_add_mfa_device(
        &self,
        _: Request<FinishAddMfaDeviceRequest>,
    ) -> Result<Response<MfaDevice>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn delete_mfa_device(
        &self,
        _: Request<DeleteMfaDeviceRequest>,
    ) -> Result<Response<DeleteMfaDeviceResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

async fn serve(lie: fn(&mut SessionIntent)) -> Channel {
    let incoming = TcpIncoming::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let address = incoming.local_addr().unwrap();
    let service = UsersServer::new(AuthService { lie });
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
    Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

fn route() -> Route {
    Route {
        target_kind: "database".to_owned(),
        target_name: "prod-pg".to_owned(),
        protocol: "postgres".to_owned(),
        login: "alice".to_owned(),
        db_name: "shop".to_owned(),
    }
}

/// What a session's touch comes to, and what the person saw.
async fn touched(lie: fn(&mut SessionIntent)) -> (anyhow::Result<(String, Option<MfaResponse>)>, String) {
    touched_for(PublicKey::X509(PUBLIC_KEY), &route(), lie).await
}

async fn touched_for(
    key: PublicKey<'_>,
    route: &Route,
    lie: fn(&mut SessionIntent),
) -> (anyhow::Result<(String, Option<MfaResponse>)>, String) {
    let channel = serve(lie).await;
    let (input, keyboard) = nix::unistd::pipe().unwrap();
    let (screen, output) = nix::unistd::pipe().unwrap();
    File::from(keyboard).write_all(b"123456\n").unwrap();
    let profile = Profile {
        proxy: "auth.example.com:3080".parse().unwrap(),
        user: UserName::new("jerry").unwrap(),
        cluster: ClusterName::new("main").unwrap(),
    };
    let prompter = Prompter {
        terminal: Arc::new(Terminal::without_person(input, output)),
        key: None,
        mode: Mode::Auto,
        proxy: profile.proxy.clone(),
        channel: channel.clone(),
    };
    let result = touch(&channel, &profile, &prompter, route, key).await;
    drop(prompter);
    let mut seen = String::new();
    File::from(screen).read_to_string(&mut seen).unwrap();
    (result, seen)
}

#[tokio::test]
async fn an_honest_challenge_is_put_to_the_person() {
    let (result, seen) = touched(|_| ()).await;
    let (id, answer) = result.unwrap();
    assert_eq!(id, "1");
    assert_eq!(answer.unwrap().response, Some(Answer::TotpCode("123456".to_owned())));
    assert_eq!(seen, "Enter an OTP code from a device:\n");
}

#[tokio::test]
async fn where_policy_asks_for_no_touch_nobody_is_asked() {
    let dev = Route { target_name: "dev-pg".to_owned(), ..route() };
    let (result, seen) = touched_for(PublicKey::X509(PUBLIC_KEY), &dev, |_| ()).await;
    assert_eq!(result.unwrap(), (String::new(), None));
    assert_eq!(seen, "");
}

#[tokio::test]
async fn a_touch_for_an_ssh_key_is_for_that_key() {
    let (key, route) = (PublicKey::Ssh(b"wire form"), route());
    assert!(touched_for(key, &route, |_| ()).await.0.is_ok());
    let (result, seen) = touched_for(key, &route, |intent| intent.public_key_sha256 = vec![0; 32]).await;
    assert!(result.unwrap_err().is::<IntentError>());
    assert_eq!(seen, "");
}

#[tokio::test]
async fn a_lie_is_found_out_before_anybody_is_asked() {
    let lies: [fn(&mut SessionIntent); 4] = [
        |intent| intent.user = "olga".into(),
        |intent| intent.cluster = "other".into(),
        |intent| intent.route.as_mut().unwrap().target_name = "payroll".into(),
        |intent| intent.public_key_sha256 = vec![0; 32],
    ];
    for lie in lies {
        let (result, seen) = touched(lie).await;
        assert!(result.unwrap_err().is::<IntentError>());
        assert_eq!(seen, "", "nobody was asked");
    }
}

#[tokio::test]
async fn a_session_that_may_not_be_opened_is_denied_in_teleports_words() {
    let channel = serve(|_| ()).await;
    let error = is_mfa_required(&channel, &route()).await.unwrap_err();
    let expected = "access to db denied. User does not have permissions. Confirm database user and name.";
    assert_eq!(error.message(), expected);
    let hidden = Route { target_name: "hidden".to_owned(), ..route() };
    let (result, seen) = touched_for(PublicKey::X509(PUBLIC_KEY), &hidden, |_| ()).await;
    assert_eq!(result.unwrap_err().downcast::<Status>().unwrap().message(), expected);
    assert_eq!(seen, "");
    let node = Route { target_kind: "node".to_owned(), ..route() };
    let error = is_mfa_required(&channel, &node).await.unwrap_err();
    assert_eq!(error.message(), "access to node denied. User does not have permissions. Confirm SSH login.");
}
