//! A real authd, its administrator, and jerry with his security key.

use std::path::PathBuf;

use auth::{
    api::{self, CaPin, ClientIdentity, Trust},
    clock::Clock,
    key::generate_p256,
    proto::{
        self, admin_client::AdminClient, create_challenge_request, device_registration, mfa_response,
        new_device, public_client::PublicClient, users_client::UsersClient,
    },
};
use authd::{
    config::{Config, PublicAddr},
    server::Server,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use tonic::transport::Channel;
use url::Url;
use webauthn_authenticator_rs::{WebauthnAuthenticator as _, softtoken::SoftToken};

/// The database user and database that the roles give.
pub(crate) const DB_USER: &str = "app";
pub(crate) const DB_NAME: &str = "shop";
const PASSWORD: &str = "correct horse battery staple";

pub(crate) struct Authd {
    server: Option<Server>,
    config: Config,
    pub(crate) address: String,
    pub(crate) pins: Vec<CaPin>,
    pub(crate) admin: AdminClient<Channel>,
    directory: TempDir,
}

impl Authd {
    /// A new cluster with roles `access-dev` (no MFA) and `access-prod` (MFA).
    pub(crate) async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = Config {
            data_dir: directory.path().join("authd"),
            cluster_name: Some("example".to_owned().try_into().unwrap()),
            listen: "127.0.0.1:0".parse().unwrap(),
            ..Config::default()
        };
        let server = Server::start(&config, Clock::system()).await.unwrap();
        let mut authd = Self {
            address: server.public_addr().to_owned(),
            pins: server.ca_pins().iter().map(|pin| pin.parse().unwrap()).collect(),
            admin: AdminClient::new(api::connect_unix(server.admin_socket()).await.unwrap()),
            config: Config {
                listen: server.address(),
                public_addr: Some(PublicAddr::try_from(server.public_addr().to_owned()).unwrap()),
                ..config
            },
            server: Some(server),
            directory,
        };
        authd.role("access-dev", "dev", false).await;
        authd.role("access-prod", "prod", true).await;
        authd
    }

    pub(crate) async fn stop(&mut self) {
        self.server.take().unwrap().stop().await;
    }

    pub(crate) async fn start_again(&mut self) {
        let server = Server::start(&self.config, Clock::system()).await.unwrap();
        self.admin = AdminClient::new(api::connect_unix(server.admin_socket()).await.unwrap());
        self.server = Some(server);
    }

    pub(crate) async fn put(&mut self, kind: &str, name: &str, json: String) {
        let resource = proto::Resource { kind: kind.to_owned(), name: name.to_owned(), json };
        let request =
            proto::PutResourceRequest { resource: Some(resource), force: true, expected_revision: 0 };
        self.admin.put_resource(request).await.unwrap();
    }

    pub(crate) async fn role(&mut self, name: &str, environment: &str, mfa: bool) {
        let json = format!(
            r#"{{"kind":"role","version":"v6","metadata":{{"name":"{name}"}},"spec":{{"options":{{"require_session_mfa":{mfa}}},"allow":{{"db_labels":{{"env":"{environment}"}},"db_users":["{DB_USER}"],"db_names":["{DB_NAME}"]}}}}}}"#
        );
        self.put("role", name, json).await;
    }

    /// The role for `dev-…`, with these options, for any database user and database.
    pub(crate) async fn dev_options(&mut self, options: &str) {
        let json = format!(
            r#"{{"kind":"role","version":"v6","metadata":{{"name":"access-dev"}},"spec":{{"options":{{{options}}},"allow":{{"db_labels":{{"env":"dev"}},"db_users":["*"],"db_names":["*"]}}}}}}"#
        );
        self.put("role", "access-dev", json).await;
    }

    pub(crate) async fn lock_jerry(&mut self) {
        let json = r#"{"kind":"lock","version":"v2","metadata":{"name":"stop"},"spec":{"target":{"user":"jerry"},"message":"Suspicious activity."}}"#;
        self.put("lock", "stop", json.to_owned()).await;
    }

    /// What sidecars announced.
    pub(crate) async fn targets(&mut self) -> Vec<proto::Target> {
        let all = proto::ListTargetsRequest::default();
        self.admin.list_all_targets(all).await.unwrap().into_inner().targets
    }

    pub(crate) async fn token(&mut self) -> String {
        let request = proto::AddTokenRequest { types: vec!["db".to_owned()], ttl_seconds: 600 };
        self.admin.add_token(request).await.unwrap().into_inner().token
    }

    /// The audit trail, as authd has it.
    pub(crate) async fn audit(&mut self, event: &str) -> Vec<serde_json::Value> {
        let request = proto::ListAuditRequest { event: event.to_owned(), ..Default::default() };
        let events = self.admin.list_audit(request).await.unwrap().into_inner().events;
        events.iter().map(|json| serde_json::from_str(json).unwrap()).collect()
    }

    /// A certificate for the database itself, its key, and the authority for its clients, as PEM files.
    pub(crate) async fn database_certificate(&mut self, hosts: &[&str]) -> DatabaseFiles {
        let (key, public_key) = generate_p256().unwrap();
        let request = proto::SignDatabaseCertificateRequest {
            public_key,
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            ttl_seconds: 0,
        };
        let signed = self.admin.sign_database_certificate(request).await.unwrap().into_inner();
        let write = |name: &str, tag: &str, der: &[u8]| {
            let path = self.directory.path().join(name);
            std::fs::write(&path, pem::encode(&pem::Pem::new(tag, der))).unwrap();
            path
        };
        DatabaseFiles {
            certificate: write("server.crt", "CERTIFICATE", &signed.certificate),
            key: write("server.key", "PRIVATE KEY", key.secret_pkcs8_der()),
            client_authority: write("server.cas", "CERTIFICATE", &signed.client_authorities[0]),
        }
    }
}

pub(crate) struct DatabaseFiles {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) client_authority: PathBuf,
}

/// A certificate, its key, and whom its owner trusts.
pub(crate) struct Certificate {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
    pub(crate) host_authorities: Vec<CertificateDer<'static>>,
}

/// jerry, registered and logged in.
pub(crate) struct Jerry {
    address: String,
    token: SoftToken,
    origin: Url,
    pub(crate) login: Certificate,
}

impl Jerry {
    pub(crate) async fn register(authd: &mut Authd) -> Self {
        let request = proto::AddUserRequest {
            name: "jerry".to_owned(),
            roles: vec!["access-dev".to_owned(), "access-prod".to_owned()],
            ..Default::default()
        };
        let link = authd.admin.add_user(request).await.unwrap().into_inner().url;
        let invitation = Url::parse(&link).unwrap().path_segments().unwrap().next_back().unwrap().to_owned();
        let channel = api::connect(&authd.address, Trust::Pins(authd.pins.clone()), None).await.unwrap();
        let mut public = PublicClient::new(channel);
        let ping = public.ping(proto::PingRequest {}).await.unwrap().into_inner();
        let origin = Url::parse(&ping.webauthn_origin).unwrap();
        let mut token = SoftToken::new(true).unwrap().0;
        let device = register_device(&mut public, &invitation, &mut token, &origin).await;
        let accept = proto::AcceptInvitationRequest {
            token: invitation,
            password: PASSWORD.to_owned(),
            device: Some(device),
        };
        public.accept_invitation(accept).await.unwrap();
        let login = log_in(&mut public, &mut token, &origin).await;
        Self { address: authd.address.clone(), token, origin, login }
    }

    /// A touch of the key, and the session certificate for it.
    pub(crate) async fn touch(&mut self, target: &str) -> Certificate {
        self.session(target, true).await
    }

    /// A session certificate without a touch.
    pub(crate) async fn without_touch(&mut self, target: &str) -> Certificate {
        self.session(target, false).await
    }

    async fn session(&mut self, target: &str, touch: bool) -> Certificate {
        let trust = Trust::Authorities(self.login.host_authorities.clone());
        let identity = ClientIdentity { chain: self.login.chain.clone(), key: self.login.key.clone_key() };
        let channel = api::connect(&self.address, trust, Some(identity)).await.unwrap();
        let mut users = UsersClient::new(channel);
        let (key, public_key) = generate_p256().unwrap();
        let route = Some(proto::Route {
            target_kind: "database".to_owned(),
            target_name: target.to_owned(),
            protocol: "postgres".to_owned(),
            login: DB_USER.to_owned(),
            db_name: DB_NAME.to_owned(),
        });
        let mut request = proto::IssueSessionCertificateRequest {
            route: route.clone(),
            public_key: public_key.clone(),
            ..Default::default()
        };
        if touch {
            let session = create_challenge_request::Session { route, public_key, ..Default::default() };
            let scope = Some(create_challenge_request::Scope::Session(session));
            let challenge =
                users.create_challenge(proto::CreateChallengeRequest { scope }).await.unwrap().into_inner();
            request.challenge_id = challenge.challenge_id.clone();
            request.mfa = Some(answer(&challenge, &mut self.token, &self.origin));
        }
        let issued = users.issue_session_certificate(request).await.unwrap().into_inner();
        Certificate {
            chain: vec![CertificateDer::from(issued.certificate)],
            key: PrivateKeyDer::Pkcs8(key.clone_key()),
            host_authorities: issued.host_authorities.into_iter().map(CertificateDer::from).collect(),
        }
    }
}

async fn register_device(
    public: &mut PublicClient<Channel>,
    invitation: &str,
    token: &mut SoftToken,
    origin: &Url,
) -> proto::NewDevice {
    let kind = proto::DeviceKind::Webauthn.into();
    let begin = proto::BeginInvitationRequest { token: invitation.to_owned(), kind, passwordless: false };
    let registration = public.begin_invitation(begin).await.unwrap().into_inner();
    let Some(device_registration::Kind::WebauthnCreationOptionsJson(options)) = registration.kind else {
        panic!("a security key was asked for");
    };
    let credential = token.do_registration(origin.clone(), serde_json::from_str(&options).unwrap()).unwrap();
    proto::NewDevice {
        registration_id: registration.registration_id,
        name: "key".to_owned(),
        proof: Some(new_device::Proof::WebauthnCredentialJson(serde_json::to_string(&credential).unwrap())),
    }
}

fn answer(challenge: &proto::MfaChallenge, token: &mut SoftToken, origin: &Url) -> proto::MfaResponse {
    let options = serde_json::from_str(&challenge.webauthn_request_options_json).unwrap();
    let assertion = token.do_authentication(origin.clone(), options).unwrap();
    let json = serde_json::to_string(&assertion).unwrap();
    proto::MfaResponse { response: Some(mfa_response::Response::WebauthnAssertionJson(json)) }
}

async fn log_in(public: &mut PublicClient<Channel>, token: &mut SoftToken, origin: &Url) -> Certificate {
    let begin = proto::BeginLoginRequest { user: "jerry".to_owned(), password: PASSWORD.to_owned() };
    let challenge = public.begin_login(begin).await.unwrap().into_inner();
    let (key, tls_public_key) = generate_p256().unwrap();
    let finish = proto::FinishLoginRequest {
        challenge_id: challenge.challenge_id.clone(),
        mfa: Some(answer(&challenge, token, origin)),
        tls_public_key,
        ssh_public_key: ssh_public_key(),
        ttl_seconds: 0,
    };
    let issued = public.finish_login(finish).await.unwrap().into_inner();
    Certificate {
        chain: vec![CertificateDer::from(issued.tls_certificate)],
        key: PrivateKeyDer::Pkcs8(key.clone_key()),
        host_authorities: issued.host_authorities.into_iter().map(CertificateDer::from).collect(),
    }
}

/// The OpenSSH wire form of some Ed25519 key: these stories have no SSH.
fn ssh_public_key() -> Vec<u8> {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
    let key = Ed25519KeyPair::generate().unwrap();
    [&b"\0\0\0\x0bssh-ed25519\0\0\0\x20"[..], key.public_key().as_ref()].concat()
}
