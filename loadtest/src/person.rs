//! Somebody with a security key in software, as a person is for authd: invited, registered, logged in, and touching once for
//! each session.
//!
//! `tsh` has such a key too, and only in builds with debug assertions; what is measured here are release builds, so this
//! tool brings its own. It opens doors only in the world that it has made itself.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use auth::{
    api::{self, CaPin, ClientIdentity, Trust},
    key,
    proto::{
        self, AcceptInvitationRequest, BeginInvitationRequest, BeginLoginRequest, CreateChallengeRequest,
        DeviceKind, FinishLoginRequest, IssueSessionCertificateRequest, MfaChallenge, MfaResponse, NewDevice,
        PingRequest, Route, SessionRequester, create_challenge_request as scope, device_registration,
        mfa_response, new_device, public_client::PublicClient, users_client::UsersClient,
    },
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tonic::transport::Channel;
use url::Url;
use webauthn_authenticator_rs::{WebauthnAuthenticator, softtoken::SoftToken};

const PASSWORD: &str = "correct horse battery staple";

/// OpenSSH's wire form of some Ed25519 key: authd certifies one at each login, and nobody here logs in by SSH with it.
const SSH_PUBLIC_KEY: [u8; 51] = ssh_public_key();

/// A certificate with its key.
pub(crate) struct Certified {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

/// A session certificate, and who must be behind the sidecar's.
pub(crate) struct SessionCertificate {
    pub(crate) client: Certified,
    pub(crate) authorities: Vec<CertificateDer<'static>>,
}

/// Logged in.
pub(crate) struct Person {
    users: UsersClient<Channel>,
    key: SoftToken,
    origin: Url,
}

impl Person {
    /// Accepts an invitation (`https://…/web/invite/TOKEN#…`) with a new security key, and logs in.
    pub(crate) async fn enrol(address: &str, pin: CaPin, user: &str, invitation: &str) -> Result<Self> {
        let channel = api::connect(address, Trust::Pins(vec![pin]), None).await?;
        let mut public = PublicClient::new(channel);
        let origin = Url::parse(&public.ping(PingRequest {}).await?.into_inner().webauthn_origin)?;
        let invitation = Url::parse(invitation)?;
        let token = invitation.path_segments().and_then(|mut segments| segments.next_back());
        let token = token.context("no token in the invitation")?;
        let mut key = SoftToken::new(true).map_err(failed)?.0;
        register(&mut public, token, &mut key, &origin).await?;
        let identity = log_in(&mut public, user, &mut key, &origin).await?;
        let channel = api::connect(address, Trust::Pins(vec![pin]), Some(identity)).await?;
        Ok(Self { users: UsersClient::new(channel), key, origin })
    }

    /// A touch, and the certificate for it: a new key, a challenge, an assertion, a receipt.
    pub(crate) async fn open(&mut self, route: &Route) -> Result<SessionCertificate> {
        let (private, public_key) = key::generate_p256()?;
        // A load outlives the minute of a certificate that opens one connection.
        let issued = self.issue(route, public_key, Vec::new(), SessionRequester::LocalProxy).await?;
        let client = Certified {
            chain: vec![CertificateDer::from(issued.certificate)],
            key: PrivateKeyDer::Pkcs8(private.clone_key()),
        };
        let authorities = issued.host_authorities.into_iter().map(CertificateDer::from).collect();
        Ok(SessionCertificate { client, authorities })
    }

    /// The same for SSH, as `tsh ssh` asks for it: good for a minute, for an Ed25519 key in OpenSSH's wire form. The
    /// certificate, one line of OpenSSH's text.
    pub(crate) async fn open_ssh(&mut self, route: &Route, ssh_public_key: Vec<u8>) -> Result<String> {
        let issued = self.issue(route, Vec::new(), ssh_public_key, SessionRequester::Unspecified).await?;
        Ok(issued.ssh_certificate.trim().to_owned())
    }

    /// All that `tsh` asks for a session: a challenge, if it takes a touch, and the certificate. How long authd took over these
    /// two calls.
    pub(crate) async fn timed(&mut self, route: &Route) -> Result<Duration> {
        let (_, public_key) = key::generate_p256()?;
        let mut sum = Duration::ZERO;
        let began = Instant::now();
        let challenge = self.challenge(route, &public_key, &[]).await?;
        sum += began.elapsed();
        let mfa = touch(&mut self.key, &self.origin, &challenge)?;
        let began = Instant::now();
        let id = challenge.challenge_id;
        self.redeem(route, public_key, Vec::new(), SessionRequester::LocalProxy, id, mfa).await?;
        Ok(sum + began.elapsed())
    }

    /// For one of the two keys, the other being empty.
    async fn issue(
        &mut self,
        route: &Route,
        public_key: Vec<u8>,
        ssh_public_key: Vec<u8>,
        requester: SessionRequester,
    ) -> Result<proto::SessionCertificate> {
        let challenge = self.challenge(route, &public_key, &ssh_public_key).await?;
        let mfa = touch(&mut self.key, &self.origin, &challenge)?;
        self.redeem(route, public_key, ssh_public_key, requester, challenge.challenge_id, mfa).await
    }

    async fn challenge(
        &mut self,
        route: &Route,
        public_key: &[u8],
        ssh_public_key: &[u8],
    ) -> Result<MfaChallenge> {
        let session = scope::Session {
            route: Some(route.clone()),
            public_key: public_key.to_vec(),
            ssh_public_key: ssh_public_key.to_vec(),
            if_required: true,
        };
        let request = CreateChallengeRequest { scope: Some(scope::Scope::Session(session)) };
        let challenge = self.users.create_challenge(request).await?.into_inner();
        anyhow::ensure!(!challenge.not_required, "no touch is asked for");
        Ok(challenge)
    }

    async fn redeem(
        &mut self,
        route: &Route,
        public_key: Vec<u8>,
        ssh_public_key: Vec<u8>,
        requester: SessionRequester,
        challenge_id: String,
        mfa: MfaResponse,
    ) -> Result<proto::SessionCertificate> {
        let request = IssueSessionCertificateRequest {
            route: Some(route.clone()),
            public_key,
            ssh_public_key,
            requester: requester.into(),
            challenge_id,
            mfa: Some(mfa),
        };
        Ok(self.users.issue_session_certificate(request).await?.into_inner())
    }
}

async fn register(
    public: &mut PublicClient<Channel>,
    token: &str,
    key: &mut SoftToken,
    origin: &Url,
) -> Result<()> {
    let request = BeginInvitationRequest {
        token: token.to_owned(),
        kind: DeviceKind::Webauthn.into(),
        passwordless: false,
    };
    let begun = public.begin_invitation(request).await?.into_inner();
    let Some(device_registration::Kind::WebauthnCreationOptionsJson(options)) = begun.kind else {
        anyhow::bail!("authd offers no registration of a security key");
    };
    let credential = key.do_registration(origin.clone(), serde_json::from_str(&options)?).map_err(failed)?;
    let proof = new_device::Proof::WebauthnCredentialJson(serde_json::to_string(&credential)?);
    let device =
        NewDevice { registration_id: begun.registration_id, name: "loadtest".to_owned(), proof: Some(proof) };
    let request = AcceptInvitationRequest {
        token: token.to_owned(),
        password: PASSWORD.to_owned(),
        device: Some(device),
    };
    public.accept_invitation(request).await.context("the invitation is not accepted").map(drop)
}

async fn log_in(
    public: &mut PublicClient<Channel>,
    user: &str,
    key: &mut SoftToken,
    origin: &Url,
) -> Result<ClientIdentity> {
    let request = BeginLoginRequest { user: user.to_owned(), password: PASSWORD.to_owned() };
    let challenge = public.begin_login(request).await?.into_inner();
    let mfa = touch(key, origin, &challenge)?;
    let (private, tls_public_key) = key::generate_p256()?;
    let request = FinishLoginRequest {
        challenge_id: challenge.challenge_id,
        mfa: Some(mfa),
        tls_public_key,
        ssh_public_key: SSH_PUBLIC_KEY.to_vec(),
        ttl_seconds: 0,
    };
    let login = public.finish_login(request).await?.into_inner();
    let chain = vec![CertificateDer::from(login.tls_certificate)];
    Ok(ClientIdentity { chain, key: PrivateKeyDer::Pkcs8(private.clone_key()) })
}

fn touch(key: &mut SoftToken, origin: &Url, challenge: &MfaChallenge) -> Result<MfaResponse> {
    let options = serde_json::from_str(&challenge.webauthn_request_options_json)?;
    let assertion = key.do_authentication(origin.clone(), options).map_err(failed)?;
    let json = serde_json::to_string(&assertion)?;
    Ok(MfaResponse { response: Some(mfa_response::Response::WebauthnAssertionJson(json)) })
}

fn failed(error: webauthn_authenticator_rs::error::WebauthnCError) -> anyhow::Error {
    anyhow::anyhow!("the security key in software: {error:?}")
}

#[expect(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler, which stops where it is out of bounds"
)]
const fn ssh_public_key() -> [u8; 51] {
    let name = *b"\0\0\0\x0bssh-ed25519\0\0\0\x20";
    // The base point of the curve: certainly on it, and nobody's.
    let mut wire = [0x66; 51];
    let mut n = 0;
    while n < name.len() {
        wire[n] = name[n];
        n += 1;
    }
    wire[19] = 0x58;
    wire
}
