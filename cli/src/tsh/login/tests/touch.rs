//! What is put to a security key at login, by an honest service and by others.

use std::{
    fs::File,
    io::Read,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use auth::{
    proto::{
        AcceptInvitationRequest, AcceptInvitationResponse, AccountIntent, AwaitBrowserMfaRequest,
        AwaitBrowserMfaResponse, BeginBrowserMfaRequest, BeginInvitationRequest,
        BeginPasswordlessLoginRequest, BrowserMfa, DeviceRegistration, GetInvitationRequest, Invitation,
        JoinRequest, MfaChallenge, PingResponse, SessionIntent, SidecarCertificate, account_intent,
        public_server::{Public, PublicServer},
    },
    receipt::{self, Purpose},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use prost::Message;
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};
use webauthn_rs_proto::{
    CreationChallengeResponse, PublicKeyCredential, RegisterPublicKeyCredential, RequestChallengeResponse,
};

use super::*;
use crate::{
    mfa::{IntentError, KeyError, Mode, RelyingParty, SecurityKey},
    terminal::Terminal,
};

/// An auth service that shows one intent and has a key sign a hash.
struct AuthService {
    shown: Vec<u8>,
    signed: [u8; 32],
}

#[tonic::async_trait]
impl Public for AuthService {
    async fn ping(&self, _: Request<PingRequest>) -> Result<Response<PingResponse>, Status> {
        Ok(Response::new(PingResponse {
            webauthn_rp_id: "localhost".to_owned(),
            webauthn_origin: "https://localhost:3080".to_owned(),
            ..PingResponse::default()
        }))
    }

    async fn begin_login(&self, _: Request<BeginLoginRequest>) -> Result<Response<MfaChallenge>, Status> {
        let challenge = URL_SAFE_NO_PAD.encode(self.signed);
        Ok(Response::new(MfaChallenge {
            webauthn_request_options_json: format!(
                r#"{{"publicKey":{{"challenge":"{challenge}","rpId":"localhost","allowCredentials":[],"userVerification":"discouraged"}}}}"#
            ),
            intent: self.shown.clone(),
            ..MfaChallenge::default()
        }))
    }

    async fn get_invitation(&self, _: Request<GetInvitationRequest>) -> Result<Response<Invitation>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn begin_invitation(
        &self,
        _: Request<BeginInvitationRequest>,
    ) -> Result<Response<DeviceRegistration>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn accept_invitation(
        &self,
        _: Request<AcceptInvitationRequest>,
    ) -> Result<Response<AcceptInvitationResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn finish_login(
        &self,
        _: Request<FinishLoginRequest>,
    ) -> Result<Response<LoginCertificates>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn begin_passwordless_login(
        &self,
        _: Request<BeginPasswordlessLoginRequest>,
    ) -> Result<Response<MfaChallenge>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn begin_browser_mfa(
        &self,
        _: Request<BeginBrowserMfaRequest>,
    ) -> Result<Response<BrowserMfa>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn await_browser_mfa(
        &self,
        _: Request<AwaitBrowserMfaRequest>,
    ) -> Result<Response<AwaitBrowserMfaResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn join(&self, _: Request<JoinRequest>) -> Result<Response<SidecarCertificate>, Status> {
        Err(Status::unimplemented(""))
    }
}

/// Counts how often it was asked, and never signs.
#[derive(Default)]
struct Counting(AtomicUsize);

impl SecurityKey for Counting {
    fn register(
        &self,
        _: &RelyingParty,
        _: CreationChallengeResponse,
    ) -> Result<RegisterPublicKeyCredential, KeyError> {
        Err(KeyError::NotRegistered)
    }

    fn assert(&self, _: &RelyingParty, _: RequestChallengeResponse) -> Result<PublicKeyCredential, KeyError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Err(KeyError::NotRegistered)
    }

    fn warning(&self) -> Option<&str> {
        None
    }
}

/// Why the login failed, how often the key was asked, and what the person saw.
async fn login_at(service: AuthService) -> (anyhow::Error, usize, String) {
    let incoming = TcpIncoming::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let address = incoming.local_addr().unwrap();
    tokio::spawn(Server::builder().add_service(PublicServer::new(service)).serve_with_incoming(incoming));
    let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    let (input, _keyboard) = nix::unistd::pipe().unwrap();
    let (screen, output) = nix::unistd::pipe().unwrap();
    let profile = Profile { proxy: "localhost:3080".parse().unwrap(), ..profile() };
    let key = Arc::new(Counting::default());
    let prompter = Prompter {
        terminal: Arc::new(Terminal::without_person(input, output)),
        key: Some(Arc::clone(&key) as Arc<dyn SecurityKey>),
        mode: Mode::Auto,
        proxy: profile.proxy.clone(),
        channel: channel.clone(),
    };
    let error = prove(&channel, &profile, &prompter, "password").await.unwrap_err();
    drop(prompter);
    let mut seen = String::new();
    File::from(screen).read_to_string(&mut seen).unwrap();
    (error, key.0.load(Ordering::SeqCst), seen)
}

fn login_intent() -> Vec<u8> {
    let purpose = account_intent::Purpose::Login.into();
    let (cluster, user) = ("main".to_owned(), "jerry".to_owned());
    AccountIntent { cluster, user, purpose, time: 1, nonce: vec![7; 16] }.encode_to_vec()
}

fn session_intent() -> Vec<u8> {
    SessionIntent { cluster: "main".to_owned(), user: "jerry".to_owned(), ..SessionIntent::default() }
        .encode_to_vec()
}

#[tokio::test]
async fn a_login_is_put_to_the_key() {
    let shown = login_intent();
    let signed = receipt::challenge(Purpose::Login, &shown);
    let (error, touches, seen) = login_at(AuthService { shown, signed }).await;
    assert_eq!(touches, 1, "{error:#}");
    // That key is not the user's; the browser may have another.
    assert_eq!(seen, "Tap any security key\nthis security key is not registered here\n");
}

#[tokio::test]
async fn the_hash_of_a_session_is_refused_at_login_before_any_touch() {
    let signed = receipt::challenge(Purpose::Session, &session_intent());
    for shown in [login_intent(), session_intent(), Vec::new()] {
        let (error, touches, seen) = login_at(AuthService { shown, signed }).await;
        assert!(error.is::<IntentError>(), "{error:#}");
        assert_eq!((touches, seen.as_str()), (0, ""), "nobody was asked");
    }
}
