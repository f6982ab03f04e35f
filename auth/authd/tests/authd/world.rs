//! One authd and the people and sidecars around it.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use auth::{
    api::{self, ClientIdentity, Trust},
    clock::{Clock, ClockHandle},
    key::generate_p256,
    proto::{
        self, admin_client::AdminClient, public_client::PublicClient, sidecars_client::SidecarsClient,
        users_client::UsersClient,
    },
};
use authd::{config::Config, server::Server};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::TempDir;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpSocket},
};
use tonic::{Code, Status, transport::Channel};
use totp_rs::{Builder, Secret};
use url::Url;
use webauthn_authenticator_rs::{WebauthnAuthenticator, softtoken::SoftToken};

pub(crate) const PASSWORD: &str = "correct horse battery";

pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) clock: ClockHandle,
    pub(crate) time: Clock,
    pub(crate) directory: TempDir,
}

/// A key pair and, once there is one, a certificate for it.
pub(crate) struct Key {
    private: PrivatePkcs8KeyDer<'static>,
    pub(crate) spki: Vec<u8>,
}

impl Key {
    pub(crate) fn new() -> Self {
        let (private, spki) = generate_p256().unwrap();
        Self { private: private.clone_key(), spki }
    }

    pub(crate) fn with(&self, certificate: Vec<u8>) -> ClientIdentity {
        ClientIdentity {
            chain: vec![CertificateDer::from(certificate)],
            key: PrivateKeyDer::Pkcs8(self.private.clone_key()),
        }
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        let (time, clock) = Clock::fixed(SystemTime::now());
        Self::open(tempfile::tempdir().unwrap(), time, clock).await
    }

    async fn open(directory: TempDir, time: Clock, clock: ClockHandle) -> Self {
        let config = Config {
            data_dir: directory.path().join("data"),
            cluster_name: Some("main".to_owned().try_into().unwrap()),
            listen: "127.0.0.1:0".parse().unwrap(),
            ..Config::default()
        };
        let server = Server::start(&config, time.clone()).await.unwrap();
        Self { server, clock, time, directory }
    }

    pub(crate) async fn restart(self) -> Self {
        let Self { server, clock, time, directory } = self;
        server.stop().await;
        Self::open(directory, time, clock).await
    }

    pub(crate) async fn channel(&self, identity: Option<ClientIdentity>) -> Channel {
        let pins = self.server.ca_pins().iter().map(|pin| pin.parse().unwrap()).collect();
        let address = self.server.address().to_string();
        api::connect(&address, Trust::Pins(pins), identity).await.unwrap()
    }

    /// A channel whose packets come from another address of this machine.
    pub(crate) async fn channel_from(&self, source: IpAddr, identity: ClientIdentity) -> Channel {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (near, far) = (listener.local_addr().unwrap(), self.server.address());
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let socket = TcpSocket::new_v4().unwrap();
                socket.bind((source, 0).into()).unwrap();
                let mut server = socket.connect(far).await.unwrap();
                tokio::spawn(async move { copy_bidirectional(&mut client, &mut server).await });
            }
        });
        let pins = self.server.ca_pins().iter().map(|pin| pin.parse().unwrap()).collect();
        api::connect(&near.to_string(), Trust::Pins(pins), Some(identity)).await.unwrap()
    }

    pub(crate) async fn public(&self) -> PublicClient<Channel> {
        PublicClient::new(self.channel(None).await)
    }

    pub(crate) async fn users(&self, identity: ClientIdentity) -> UsersClient<Channel> {
        UsersClient::new(self.channel(Some(identity)).await)
    }

    pub(crate) async fn admin(&self) -> AdminClient<Channel> {
        AdminClient::new(api::connect_unix(self.server.admin_socket()).await.unwrap())
    }

    pub(crate) fn origin(&self) -> Url {
        Url::parse(&format!("https://{}", self.server.public_addr())).unwrap()
    }

    pub(crate) async fn put(&self, yaml: &str) {
        for parsed in auth::resource::parse_documents(yaml).unwrap() {
            let json = parsed.resource.to_json();
            let request = proto::PutResourceRequest {
                resource: Some(proto::Resource { json, ..Default::default() }),
                force: true,
                ..Default::default()
            };
            self.admin().await.put_resource(request).await.unwrap();
        }
    }

    pub(crate) async fn cap(&self, spec: &str) {
        self.put(&format!(
            "kind: cluster_auth_preference\nversion: v2\nmetadata: {{name: cluster-auth-preference}}\nspec: {{{spec}}}\n"
        ))
        .await;
    }

    /// Invites; answers with the token.
    pub(crate) async fn invite(&self, name: &str, roles: &[&str]) -> String {
        let traits = [("db_users", "alice"), ("db_names", "app"), ("logins", "root")]
            .map(|(name, value)| (name.to_owned(), proto::StringList { values: vec![value.to_owned()] }));
        let request = proto::AddUserRequest {
            name: name.to_owned(),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            traits: traits.into(),
            ttl_seconds: 0,
        };
        let link = self.admin().await.add_user(request).await.unwrap().into_inner();
        token_of(&link.url)
    }

    pub(crate) async fn person_with_totp(&self, name: &str, roles: &[&str]) -> Person {
        let token = self.invite(name, roles).await;
        let mut person = Person::new(name);
        let begin = self.begin_invitation(&token, proto::DeviceKind::Totp).await.unwrap();
        let device = person.new_totp(&begin, self.time.now());
        self.accept(&token, Some(device)).await.unwrap();
        // The code that registered the device is used up.
        self.clock.advance(Duration::from_secs(60));
        person
    }

    pub(crate) async fn person_with_key(&self, name: &str, roles: &[&str]) -> Person {
        let token = self.invite(name, roles).await;
        let mut person = Person::new(name);
        let begin = self.begin_invitation(&token, proto::DeviceKind::Webauthn).await.unwrap();
        let device = person.new_key(&begin, self.origin());
        self.accept(&token, Some(device)).await.unwrap();
        person
    }

    pub(crate) async fn begin_invitation(
        &self,
        token: &str,
        kind: proto::DeviceKind,
    ) -> Result<proto::DeviceRegistration, Status> {
        let request =
            proto::BeginInvitationRequest { token: token.to_owned(), kind: kind as i32, passwordless: false };
        Ok(self.public().await.begin_invitation(request).await?.into_inner())
    }

    pub(crate) async fn accept(&self, token: &str, device: Option<proto::NewDevice>) -> Result<(), Status> {
        let (token, password) = (token.to_owned(), PASSWORD.to_owned());
        let request = proto::AcceptInvitationRequest { token, password, device };
        self.public().await.accept_invitation(request).await.map(drop)
    }

    pub(crate) async fn begin_login(
        &self,
        user: &str,
        password: &str,
    ) -> Result<proto::MfaChallenge, Status> {
        let request = proto::BeginLoginRequest { user: user.to_owned(), password: password.to_owned() };
        Ok(self.public().await.begin_login(request).await?.into_inner())
    }

    pub(crate) async fn finish_login(
        &self,
        key: &Key,
        challenge_id: &str,
        mfa: Option<proto::MfaResponse>,
    ) -> Result<proto::LoginCertificates, Status> {
        let request = proto::FinishLoginRequest {
            challenge_id: challenge_id.to_owned(),
            mfa,
            tls_public_key: key.spki.clone(),
            ssh_public_key: ssh_public_key(),
            ttl_seconds: 0,
        };
        Ok(self.public().await.finish_login(request).await?.into_inner())
    }

    /// The whole login; the person holds the certificate afterwards.
    pub(crate) async fn login(&self, person: &mut Person) -> proto::LoginCertificates {
        let challenge = self.begin_login(&person.name, PASSWORD).await.unwrap();
        let mfa = person.answer(&challenge, self);
        let certificates = self.finish_login(&person.key, &challenge.challenge_id, Some(mfa)).await.unwrap();
        person.certificate = certificates.tls_certificate.clone();
        certificates
    }

    pub(crate) async fn token(&self, types: &[&str]) -> String {
        let types = types.iter().map(|t| (*t).to_owned()).collect();
        let request = proto::AddTokenRequest { types, ttl_seconds: 0 };
        self.admin().await.add_token(request).await.unwrap().into_inner().token
    }

    pub(crate) async fn join(&self, token: &str, names: &[&str]) -> Result<Sidecar, Status> {
        let key = Key::new();
        let certificate = Some(certificate_request(&key, names));
        let request = proto::JoinRequest { token: token.to_owned(), certificate };
        let answer = self.public().await.join(request).await?.into_inner();
        Ok(Sidecar { key, id: answer.sidecar_id, certificate: answer.certificate })
    }

    pub(crate) async fn sidecar(&self, names: &[&str]) -> Sidecar {
        let token = self.token(&["db"]).await;
        self.join(&token, names).await.unwrap()
    }

    pub(crate) async fn sidecars(&self, sidecar: &Sidecar) -> SidecarsClient<Channel> {
        SidecarsClient::new(self.channel(Some(sidecar.identity())).await)
    }

    /// A sidecar that has announced a PostgreSQL with these labels.
    pub(crate) async fn guard(&self, name: &str, labels: &[(&str, &str)]) -> Sidecar {
        let sidecar = self.sidecar(&[name]).await;
        let targets = vec![database(name, labels)];
        self.sidecars(&sidecar)
            .await
            .announce(proto::AnnounceRequest { targets, ..Default::default() })
            .await
            .unwrap();
        sidecar
    }

    /// A sidecar that has joined for nodes, with an SSH host key, and has announced these.
    pub(crate) async fn guard_nodes(&self, nodes: &[(&str, &str)]) -> (Sidecar, proto::SidecarCertificate) {
        let names: Vec<&str> = nodes.iter().map(|(name, _)| *name).collect();
        let (key, token) = (Key::new(), self.token(&["node"]).await);
        let certificate = proto::SidecarCertificateRequest {
            ssh_public_key: ssh_public_key(),
            ..certificate_request(&key, &names)
        };
        let request = proto::JoinRequest { token, certificate: Some(certificate) };
        let answer = self.public().await.join(request).await.unwrap().into_inner();
        let sidecar = Sidecar { key, id: answer.sidecar_id.clone(), certificate: answer.certificate.clone() };
        let targets = nodes.iter().map(|(name, env)| node(name, &[("env", *env)])).collect();
        self.sidecars(&sidecar)
            .await
            .announce(proto::AnnounceRequest { targets, ..Default::default() })
            .await
            .unwrap();
        (sidecar, answer)
    }

    /// The events of a name, newest last.
    pub(crate) async fn events(&self, event: &str) -> Vec<serde_json::Value> {
        let request = proto::ListAuditRequest { event: event.to_owned(), ..Default::default() };
        let events = self.admin().await.list_audit(request).await.unwrap().into_inner().events;
        events.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

pub(crate) struct Sidecar {
    pub(crate) key: Key,
    pub(crate) id: String,
    pub(crate) certificate: Vec<u8>,
}

impl Sidecar {
    pub(crate) fn identity(&self) -> ClientIdentity {
        self.key.with(self.certificate.clone())
    }
}

pub(crate) struct Person {
    pub(crate) name: String,
    pub(crate) key: Key,
    pub(crate) certificate: Vec<u8>,
    pub(crate) totp: Option<String>,
    pub(crate) token: Option<SoftToken>,
}

impl Person {
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), key: Key::new(), certificate: vec![], totp: None, token: None }
    }

    pub(crate) fn identity(&self) -> ClientIdentity {
        self.key.with(self.certificate.clone())
    }

    pub(crate) fn new_totp(
        &mut self,
        begin: &proto::DeviceRegistration,
        now: SystemTime,
    ) -> proto::NewDevice {
        let Some(proto::device_registration::Kind::Totp(secret)) = &begin.kind else { panic!("not TOTP") };
        self.totp = Some(secret.secret.clone());
        proto::NewDevice {
            registration_id: begin.registration_id.clone(),
            name: "otp-device".to_owned(),
            proof: Some(proto::new_device::Proof::TotpCode(self.code(now))),
        }
    }

    pub(crate) fn new_key(&mut self, begin: &proto::DeviceRegistration, origin: Url) -> proto::NewDevice {
        let Some(proto::device_registration::Kind::WebauthnCreationOptionsJson(json)) = &begin.kind else {
            panic!("not WebAuthn")
        };
        let mut token = SoftToken::new(true).unwrap().0;
        let options = serde_json::from_str(json).unwrap();
        let credential = token.do_registration(origin, options).unwrap();
        self.token = Some(token);
        proto::NewDevice {
            registration_id: begin.registration_id.clone(),
            name: "key".to_owned(),
            proof: Some(proto::new_device::Proof::WebauthnCredentialJson(
                serde_json::to_string(&credential).unwrap(),
            )),
        }
    }

    /// The code that the app shows now.
    pub(crate) fn code(&self, now: SystemTime) -> String {
        let secret = Secret::try_from_base32(self.totp.as_ref().unwrap()).unwrap();
        let totp =
            Builder::new().with_secret(secret).with_account_name("a").with_issuer(Some("b")).build().unwrap();
        totp.generate(now.duration_since(UNIX_EPOCH).unwrap().as_secs()).to_string()
    }

    pub(crate) fn touch(&mut self, options_json: &str, origin: Url) -> proto::MfaResponse {
        let options = serde_json::from_str(options_json).unwrap();
        let credential = self.token.as_mut().unwrap().do_authentication(origin, options).unwrap();
        let json = serde_json::to_string(&credential).unwrap();
        proto::MfaResponse { response: Some(proto::mfa_response::Response::WebauthnAssertionJson(json)) }
    }

    pub(crate) fn answer(&mut self, challenge: &proto::MfaChallenge, world: &World) -> proto::MfaResponse {
        if self.token.is_some() {
            return self.touch(&challenge.webauthn_request_options_json, world.origin());
        }
        assert!(challenge.totp);
        code_response(&self.code(world.time.now()))
    }
}

pub(crate) fn code_response(code: &str) -> proto::MfaResponse {
    proto::MfaResponse { response: Some(proto::mfa_response::Response::TotpCode(code.to_owned())) }
}

pub(crate) fn token_of(url: &str) -> String {
    let (_, rest) = url.split_once("/web/invite/").unwrap();
    rest.split('#').next().unwrap().to_owned()
}

pub(crate) fn ssh_public_key() -> Vec<u8> {
    ssh_public_key_of(7)
}

pub(crate) fn ssh_public_key_of(seed: u8) -> Vec<u8> {
    let pair = ssh_key::private::Ed25519Keypair::from_seed(&[seed; 32]);
    ssh_key::PublicKey::from(ssh_key::public::KeyData::from(pair.public)).to_bytes().unwrap()
}

pub(crate) fn certificate_request(key: &Key, names: &[&str]) -> proto::SidecarCertificateRequest {
    proto::SidecarCertificateRequest {
        public_key: key.spki.clone(),
        target_names: names.iter().map(|name| (*name).to_owned()).collect(),
        hosts: vec!["127.0.0.1".to_owned()],
        ssh_public_key: vec![],
    }
}

pub(crate) fn database(name: &str, labels: &[(&str, &str)]) -> proto::Target {
    proto::Target {
        kind: "database".to_owned(),
        name: name.to_owned(),
        protocol: "postgres".to_owned(),
        public_addr: "localhost:5433".to_owned(),
        uri: "127.0.0.1:5432".to_owned(),
        labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        ..Default::default()
    }
}

pub(crate) fn node(name: &str, labels: &[(&str, &str)]) -> proto::Target {
    proto::Target {
        kind: "node".to_owned(),
        protocol: "ssh".to_owned(),
        public_addr: "localhost:3022".to_owned(),
        uri: "127.0.0.1:22".to_owned(),
        hostname: "web1".to_owned(),
        ..database(name, labels)
    }
}

pub(crate) fn node_route(target: &str, login: &str) -> proto::Route {
    proto::Route {
        target_kind: "node".to_owned(),
        protocol: "ssh".to_owned(),
        login: login.to_owned(),
        db_name: String::new(),
        ..route(target)
    }
}

pub(crate) fn route(target: &str) -> proto::Route {
    proto::Route {
        target_kind: "database".to_owned(),
        target_name: target.to_owned(),
        protocol: "postgres".to_owned(),
        login: "alice".to_owned(),
        db_name: "app".to_owned(),
    }
}

/// The code and the text of a refusal.
#[track_caller]
pub(crate) fn refused<T>(result: Result<T, Status>) -> (Code, String) {
    match result {
        Ok(_) => panic!("was not refused"),
        Err(status) => (status.code(), status.message().to_owned()),
    }
}

pub(crate) const CREDENTIALS: &str = "invalid username, password or second factor";
