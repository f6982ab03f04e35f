//! For the tests alone: an auth service that says what it is told to, and a screen that can be read.

use std::{
    collections::VecDeque,
    fs::File,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr},
    os::fd::OwnedFd,
    sync::{Arc, Mutex},
};

use auth::proto::{
    public_server::{Public, PublicServer},
    *,
};
use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use tonic::{
    Request, Response, Status,
    transport::{Channel, Server, server::TcpIncoming},
};

use crate::terminal::Terminal;

type Answer<T> = Result<Response<T>, Status>;

/// Where it says that it is.
pub(crate) const ORIGIN: &str = "https://localhost:3080";

/// An auth service's public half, as a test wants it.
#[derive(Default)]
pub(crate) struct FakeService {
    /// Where not set: [`ORIGIN`], and its host.
    pub(crate) ping: Option<PingResponse>,
    pub(crate) login: Option<MfaChallenge>,
    pub(crate) passwordless: Option<MfaChallenge>,
    pub(crate) page: Option<BrowserMfa>,
    /// What waiting for the page brings, one call after the other.
    pub(crate) outcomes: Mutex<VecDeque<Result<await_browser_mfa_response::Outcome, Status>>>,
}

impl FakeService {
    /// Serves on loopback until the test's runtime ends.
    pub(crate) async fn serve(self) -> Channel {
        let incoming = TcpIncoming::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let address = incoming.local_addr().unwrap();
        tokio::spawn(Server::builder().add_service(PublicServer::new(self)).serve_with_incoming(incoming));
        Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
    }
}

fn told<T: Clone>(answer: Option<&T>) -> Answer<T> {
    answer.cloned().map(Response::new).ok_or_else(|| Status::unimplemented("not in this test"))
}

#[tonic::async_trait]
impl Public for FakeService {
    async fn ping(&self, _: Request<PingRequest>) -> Answer<PingResponse> {
        let honest = || PingResponse {
            cluster_name: "main".to_owned(),
            webauthn_rp_id: "localhost".to_owned(),
            webauthn_origin: ORIGIN.to_owned(),
            ..PingResponse::default()
        };
        Ok(Response::new(self.ping.clone().unwrap_or_else(honest)))
    }

    async fn begin_login(&self, _: Request<BeginLoginRequest>) -> Answer<MfaChallenge> {
        told(self.login.as_ref())
    }

    async fn begin_passwordless_login(
        &self,
        _: Request<BeginPasswordlessLoginRequest>,
    ) -> Answer<MfaChallenge> {
        told(self.passwordless.as_ref())
    }

    async fn begin_browser_mfa(&self, _: Request<BeginBrowserMfaRequest>) -> Answer<BrowserMfa> {
        told(self.page.as_ref())
    }

    async fn await_browser_mfa(&self, _: Request<AwaitBrowserMfaRequest>) -> Answer<AwaitBrowserMfaResponse> {
        let outcome = self.outcomes.lock().unwrap().pop_front();
        match outcome {
            Some(outcome) => Ok(Response::new(AwaitBrowserMfaResponse { outcome: Some(outcome?) })),
            // Nobody comes to the page.
            None => std::future::pending().await,
        }
    }

    async fn finish_login(&self, _: Request<FinishLoginRequest>) -> Answer<LoginCertificates> {
        told(None)
    }

    async fn get_invitation(&self, _: Request<GetInvitationRequest>) -> Answer<Invitation> {
        told(None)
    }

    async fn begin_invitation(&self, _: Request<BeginInvitationRequest>) -> Answer<DeviceRegistration> {
        told(None)
    }

    async fn accept_invitation(
        &self,
        _: Request<AcceptInvitationRequest>,
    ) -> Answer<AcceptInvitationResponse> {
        told(None)
    }

    async fn join(&self, _: Request<JoinRequest>) -> Answer<SidecarCertificate> {
        told(None)
    }
}

/// Options for a challenge, as authd writes them.
pub(crate) fn request_options(rp_id: &str, challenge: &[u8]) -> String {
    let challenge = URL_SAFE_NO_PAD.encode(challenge);
    format!(
        r#"{{"publicKey":{{"challenge":"{challenge}","rpId":"{rp_id}","allowCredentials":[],"userVerification":"discouraged"}}}}"#
    )
}

/// An assertion for a challenge. Its signature is nonsense, which is for authd to find out.
pub(crate) fn assertion(origin: &str, rp_id: &str, challenge: &[u8]) -> String {
    let client_data = format!(
        r#"{{"type":"webauthn.get","challenge":"{}","origin":"{origin}","crossOrigin":false}}"#,
        URL_SAFE_NO_PAD.encode(challenge)
    );
    let data = [digest(&SHA256, rp_id.as_bytes()).as_ref(), &[0x05, 0, 0, 0, 9]].concat();
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    serde_json::json!({
        "id": "AQ", "rawId": "AQ", "type": "public-key", "extensions": {},
        "response": {
            "clientDataJSON": encode(client_data.as_bytes()), "authenticatorData": encode(&data),
            "signature": encode(&[1, 2, 3]), "userHandle": null,
        },
    })
    .to_string()
}

/// A person's terminal: what is typed is there already, what is shown can be read once the terminal is gone.
pub(crate) struct Screen {
    screen: OwnedFd,
    _keyboard: OwnedFd,
}

impl Screen {
    /// `person`: somebody sits there.
    pub(crate) fn new(typed: &str, person: bool) -> (Arc<Terminal>, Self) {
        let (input, keyboard) = nix::unistd::pipe().unwrap();
        let (screen, output) = nix::unistd::pipe().unwrap();
        File::from(keyboard.try_clone().unwrap()).write_all(typed.as_bytes()).unwrap();
        let terminal = match person {
            true => Terminal::of_person(input, output),
            false => Terminal::without_person(input, output),
        };
        (Arc::new(terminal), Self { screen, _keyboard: keyboard })
    }

    /// What was shown. The terminal must have been dropped.
    pub(crate) fn read(self) -> String {
        let mut seen = String::new();
        File::from(self.screen).read_to_string(&mut seen).unwrap();
        seen
    }
}
