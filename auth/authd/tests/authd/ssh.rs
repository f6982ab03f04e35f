//! Certificates of SSH: of sessions, of sidecars as hosts, of sidecars before a host; and codes for SSH clients.

use std::{sync::Arc, time::Duration};

use auth::{
    Authorizer, Credential, DenyReason, Login, OtpProof, Permit, Protocol, Replica, SessionRequest,
    TargetName,
    policy::{Target, TargetKind},
    proto::{self, create_challenge_request, watch_event::Event},
};
use authd::store::{Condition, Op, Sqlite, Store};
use ssh_key::{Certificate, PublicKey, certificate::CertType};
use tonic::{Code, Status, transport::Channel};

use crate::world::*;

const SESSION_HASH: [u8; 32] = [5; 32];

const ROLES: &str = "
kind: role
version: v7
metadata: {name: ssh-dev}
spec: {allow: {node_labels: {env: dev}, logins: [root]}}
---
kind: role
version: v7
metadata: {name: ssh-prod}
spec:
  options: {require_session_mfa: true}
  allow: {node_labels: {env: prod}, logins: [root], db_labels: {env: prod}, db_users: [alice], db_names: [app]}
";

struct Scene {
    world: World,
    sidecar: Sidecar,
    joined: proto::SidecarCertificate,
}

impl Scene {
    async fn new() -> Self {
        let world = World::new().await;
        world.put(ROLES).await;
        let (sidecar, joined) = world.guard_nodes(&[("dev-host", "dev"), ("prod-host", "prod")]).await;
        Self { world, sidecar, joined }
    }

    async fn person(&self, name: &str, key: bool) -> Someone {
        let roles = &["ssh-dev", "ssh-prod"];
        let mut person = match key {
            true => self.world.person_with_key(name, roles).await,
            false => self.world.person_with_totp(name, roles).await,
        };
        let login = self.world.login(&mut person).await;
        self.world.clock.advance(Duration::from_secs(60));
        let users = self.world.users(person.identity()).await;
        let ssh = Certificate::from_openssh(&login.ssh_certificate).unwrap();
        Someone { person, users, ssh: ssh.to_bytes().unwrap() }
    }

    /// What the sidecar knows, as its watch tells it.
    async fn authorizer(&self) -> Authorizer {
        let replica = Replica::new(self.world.time.clone());
        let mut client = self.world.sidecars(&self.sidecar).await;
        let mut events = client.watch(proto::WatchRequest {}).await.unwrap().into_inner();
        loop {
            let event = events.message().await.unwrap().unwrap();
            let end = matches!(event.event, Some(Event::SnapshotEnd(_)));
            replica.apply(event).unwrap();
            if end {
                return Authorizer::new(replica, self.world.time.clone());
            }
        }
    }

    async fn authority(&self, kind: &str) -> proto::Authority {
        let request = proto::ListAuthoritiesRequest { r#type: kind.into() };
        let list = self.world.admin().await.list_authorities(request).await.unwrap().into_inner().authorities;
        list.into_iter().next().unwrap()
    }

    async fn ssh_authority(&self, kind: &str) -> PublicKey {
        PublicKey::from_openssh(&self.authority(kind).await.ssh_public_keys[0]).unwrap()
    }

    async fn verify(&self, request: proto::VerifyOtpRequest) -> Result<proto::VerifyOtpResponse, Status> {
        Ok(self.world.sidecars(&self.sidecar).await.verify_otp(request).await?.into_inner())
    }
}

struct Someone {
    person: Person,
    users: proto::users_client::UsersClient<Channel>,
    /// The login certificate, in wire form.
    ssh: Vec<u8>,
}

impl Someone {
    async fn challenge(&mut self, route: proto::Route, key: Vec<u8>) -> Result<proto::MfaChallenge, Status> {
        let session = create_challenge_request::Session {
            route: Some(route),
            ssh_public_key: key,
            ..Default::default()
        };
        let scope = Some(create_challenge_request::Scope::Session(session));
        Ok(self.users.create_challenge(proto::CreateChallengeRequest { scope }).await?.into_inner())
    }

    fn code(&self, world: &World, login: &str) -> proto::VerifyOtpRequest {
        proto::VerifyOtpRequest {
            ssh_certificate: self.ssh.clone(),
            route: Some(node_route("prod-host", login)),
            code: self.person.code(world.time.now()),
            session_hash: SESSION_HASH.to_vec(),
            client_address: "127.0.0.1".to_owned(),
        }
    }
}

fn request(route: proto::Route, key: Vec<u8>) -> proto::IssueSessionCertificateRequest {
    proto::IssueSessionCertificateRequest { route: Some(route), ssh_public_key: key, ..Default::default() }
}

fn asked(target: &str, login: &str) -> SessionRequest {
    let environment = target.split('-').next().unwrap().to_owned();
    SessionRequest {
        target: Arc::new(Target {
            kind: TargetKind::Node,
            name: TargetName::new(target).unwrap(),
            protocol: Protocol::Ssh,
            labels: [("env".to_owned(), environment)].into(),
        }),
        login: Login::Node { login: login.to_owned() },
        client: [127, 0, 0, 1].into(),
    }
}

fn authorize(
    authorizer: &Authorizer,
    certificate: &[u8],
    target: &str,
    login: &str,
) -> Result<Permit, DenyReason> {
    authorizer
        .authorize(&Credential::Ssh { certificate }, &asked(target, login))
        .map_err(|denied| denied.reason)
}

fn is_signed_by(certificate: &Certificate, authority: &PublicKey) -> bool {
    certificate.signature_key() == authority.key_data() && certificate.verify_signature().is_ok()
}

// Sessions

#[tokio::test]
async fn a_touch_gives_an_ssh_certificate_for_one_login_that_the_sidecar_accepts() {
    let scene = Scene::new().await;
    let mut olga = scene.person("olga", true).await;
    let (key, route) = (ssh_public_key_of(9), node_route("prod-host", "root"));
    let challenge = olga.challenge(route.clone(), key.clone()).await.unwrap();
    let mfa = Some(olga.person.answer(&challenge, &scene.world));
    let issue = proto::IssueSessionCertificateRequest {
        challenge_id: challenge.challenge_id,
        mfa,
        ..request(route, key)
    };
    let issued = olga.users.issue_session_certificate(issue).await.unwrap().into_inner();
    assert!(issued.certificate.is_empty());
    let host = scene.ssh_authority("host").await;
    assert_eq!(PublicKey::from_openssh(&issued.ssh_host_authorities[0]).unwrap().key_data(), host.key_data());
    assert_eq!(issued.target.unwrap().hostname, "web1");

    let certificate = Certificate::from_openssh(&issued.ssh_certificate).unwrap();
    assert_eq!((certificate.key_id(), certificate.valid_principals()), ("olga", &["root".to_owned()][..]));
    assert!(
        certificate.valid_before() - certificate.valid_after() <= 91,
        "a minute, and half a minute's skew"
    );
    let authorizer = scene.authorizer().await;
    let wire = certificate.to_bytes().unwrap();
    let permit = authorize(&authorizer, &wire, "prod-host", "root").unwrap();
    assert!(permit.receipt().is_some() && permit.mfa_device().is_some());
    assert!(authorize(&authorizer, &wire, "dev-host", "root").is_err(), "another target");
    assert!(authorize(&authorizer, &wire, "prod-host", "olga").is_err(), "another login");

    let created = scene.world.events("cert.create").await;
    let identity = &created.last().unwrap()["identity"];
    assert_eq!(identity["route_to_node"]["node"], "prod-host");
    assert_eq!(identity["logins"], serde_json::json!(["root"]));
}

#[tokio::test]
async fn a_login_certificate_opens_what_needs_no_touch_and_no_more() {
    let scene = Scene::new().await;
    let olga = scene.person("olga", true).await;
    let authorizer = scene.authorizer().await;
    assert!(authorize(&authorizer, &olga.ssh, "dev-host", "root").is_ok());
    let refused = authorize(&authorizer, &olga.ssh, "prod-host", "root").unwrap_err();
    assert!(matches!(refused, DenyReason::MfaRequired { .. }));
}

#[tokio::test]
async fn a_session_is_asked_for_with_one_key_of_a_kind_that_its_target_knows() {
    let scene = Scene::new().await;
    scene.world.guard("prod-pg", &[("env", "prod")]).await;
    let mut olga = scene.person("olga", true).await;
    let node = || node_route("prod-host", "root");
    let both = proto::IssueSessionCertificateRequest {
        public_key: Key::new().spki,
        ..request(node(), ssh_public_key())
    };
    let of_database = request(route("prod-pg"), ssh_public_key());
    let of_p256 = request(node(), Key::new().spki);
    for bad in [both, of_database, of_p256, request(node(), vec![])] {
        let refusal = refused(olga.users.issue_session_certificate(bad).await);
        assert_eq!(refusal.0, Code::InvalidArgument, "{}", refusal.1);
    }
    let refusal = refused(olga.challenge(route("prod-pg"), ssh_public_key()).await);
    assert_eq!(refusal.0, Code::InvalidArgument);
}

#[tokio::test]
async fn a_touch_for_one_ssh_key_gives_no_certificate_for_another() {
    let scene = Scene::new().await;
    let mut olga = scene.person("olga", true).await;
    let route = node_route("prod-host", "root");
    for other in [request(route.clone(), ssh_public_key_of(8)), {
        let public_key = Key::new().spki;
        proto::IssueSessionCertificateRequest { public_key, ..request(route.clone(), vec![]) }
    }] {
        let challenge = olga.challenge(route.clone(), ssh_public_key_of(9)).await.unwrap();
        let mfa = Some(olga.person.answer(&challenge, &scene.world));
        let challenge_id = challenge.challenge_id;
        let issue = proto::IssueSessionCertificateRequest { challenge_id, mfa, ..other };
        let refusal = refused(olga.users.issue_session_certificate(issue).await);
        assert_eq!(refusal.0, Code::FailedPrecondition);
    }
}

#[tokio::test]
async fn where_a_role_pins_the_address_the_ssh_certificate_says_so() {
    let scene = Scene::new().await;
    let pinned = ROLES.replace(
        "metadata: {name: ssh-dev}\nspec: {",
        "metadata: {name: ssh-dev}\nspec: {options: {pin_source_ip: true}, ",
    );
    scene.world.put(&pinned).await;
    let mut olga = scene.person("olga", true).await;
    let issue = request(node_route("dev-host", "root"), ssh_public_key());
    let issued = olga.users.issue_session_certificate(issue).await.unwrap().into_inner();
    let certificate = Certificate::from_openssh(&issued.ssh_certificate).unwrap();
    assert_eq!(certificate.critical_options().get("source-address").unwrap(), "127.0.0.1/32");
}

// Hosts

#[tokio::test]
async fn a_sidecar_of_nodes_joins_and_renews_with_a_host_certificate() {
    let scene = Scene::new().await;
    let authority = scene.ssh_authority("host").await;
    let certificate = Certificate::from_openssh(&scene.joined.ssh_host_certificate).unwrap();
    assert!(is_signed_by(&certificate, &authority));
    assert_eq!(certificate.cert_type(), CertType::Host);
    let names = ["dev-host", "dev-host.main", "prod-host", "prod-host.main", "127.0.0.1"];
    assert_eq!(certificate.valid_principals(), names);
    assert_eq!(PublicKey::from(certificate.public_key().clone()).to_bytes().unwrap(), ssh_public_key());
    let life = certificate.valid_before() - certificate.valid_after();
    assert!(life <= 24 * 3600 + 300, "a day: {life}");

    scene.world.clock.advance(Duration::from_secs(3600));
    let mut client = scene.world.sidecars(&scene.sidecar).await;
    let renewal = proto::SidecarCertificateRequest {
        ssh_public_key: ssh_public_key_of(8),
        ..certificate_request(&Key::new(), &["dev-host"])
    };
    let renewed = client.renew_certificate(renewal).await.unwrap().into_inner();
    let renewed = Certificate::from_openssh(&renewed.ssh_host_certificate).unwrap();
    assert!(is_signed_by(&renewed, &authority) && renewed.valid_before() > certificate.valid_before());
    assert_eq!(renewed.valid_principals(), ["dev-host", "dev-host.main", "127.0.0.1"]);
    let authorizer = scene.authorizer().await;
    assert!(
        authorize(&authorizer, &renewed.to_bytes().unwrap(), "dev-host", "dev-host").is_err(),
        "a host is no user"
    );
}

#[tokio::test]
async fn a_token_for_databases_gives_no_host_certificate() {
    let world = World::new().await;
    let sidecar = world.sidecar(&["pg"]).await;
    let ask = || proto::SidecarCertificateRequest {
        ssh_public_key: ssh_public_key(),
        ..certificate_request(&Key::new(), &["pg"])
    };
    let renewal = world.sidecars(&sidecar).await.renew_certificate(ask()).await;
    assert_eq!(refused(renewal).0, Code::PermissionDenied);
    let join = proto::JoinRequest { token: world.token(&["db"]).await, certificate: Some(ask()) };
    assert_eq!(refused(world.public().await.join(join).await).0, Code::PermissionDenied);
    let other_key = proto::SidecarCertificateRequest { ssh_public_key: Key::new().spki, ..ask() };
    let join = proto::JoinRequest { token: world.token(&["node"]).await, certificate: Some(other_key) };
    assert_eq!(refused(world.public().await.join(join).await).0, Code::InvalidArgument);
}

#[tokio::test]
async fn no_account_at_a_host_is_certified_that_is_locked_by_login_or_target() {
    let scene = Scene::new().await;
    scene.person("olga", true).await;
    let ask = || proto::IssueUpstreamSshCertificateRequest {
        target_name: "prod-host".to_owned(),
        login: "root".to_owned(),
        user: "olga".to_owned(),
        ssh_public_key: ssh_public_key(),
    };
    let mut client = scene.world.sidecars(&scene.sidecar).await;
    let lock = |target: &str| {
        format!("kind: lock\nversion: v2\nmetadata: {{name: l}}\nspec: {{target: {{{target}}}}}\n")
    };
    for target in ["login: root", "server_id: prod-host", "user: olga, login: root, server_id: prod-host"] {
        scene.world.put(&lock(target)).await;
        let refusal = refused(client.issue_upstream_ssh_certificate(ask()).await);
        assert_eq!(refusal.0, Code::PermissionDenied, "{target}");
        assert!(refusal.1.contains("is in force"), "{}", refusal.1);
    }
    for target in ["login: daemon", "server_id: dev-host", "user: olga, login: daemon"] {
        scene.world.put(&lock(target)).await;
        assert!(client.issue_upstream_ssh_certificate(ask()).await.is_ok(), "{target}");
    }
}

#[tokio::test]
async fn what_a_sidecar_shows_to_a_host_names_the_person_and_opens_one_account() {
    let scene = Scene::new().await;
    scene.person("olga", true).await;
    let ask = |target: &str, login: &str, user: &str| proto::IssueUpstreamSshCertificateRequest {
        target_name: target.to_owned(),
        login: login.to_owned(),
        user: user.to_owned(),
        ssh_public_key: ssh_public_key(),
    };
    let mut client = scene.world.sidecars(&scene.sidecar).await;
    let issued = client.issue_upstream_ssh_certificate(ask("prod-host", "root", "olga")).await.unwrap();
    let certificate = Certificate::from_openssh(&issued.into_inner().ssh_certificate).unwrap();
    assert!(is_signed_by(&certificate, &scene.ssh_authority("openssh").await));
    assert_ne!(scene.ssh_authority("openssh").await.key_data(), scene.ssh_authority("user").await.key_data());
    assert_eq!((certificate.key_id(), certificate.valid_principals()), ("olga", &["root".to_owned()][..]));
    assert!(certificate.valid_before() - certificate.valid_after() <= 3600 + 300);
    assert!(certificate.extensions().keys().all(|name| name.starts_with("permit-")));
    assert!(certificate.critical_options().is_empty());

    let wire = certificate.to_bytes().unwrap();
    let refusal = authorize(&scene.authorizer().await, &wire, "dev-host", "root").unwrap_err();
    let DenyReason::Certificate(error) = refusal else { panic!("{refusal:?}") };
    assert_eq!(error, auth::certificate::CertificateError::UnknownAuthority, "it is no way back in");

    let other = scene.world.guard_nodes(&[("other-host", "prod")]).await.0;
    let mut others = scene.world.sidecars(&other).await;
    let elsewhere = others.issue_upstream_ssh_certificate(ask("prod-host", "root", "olga")).await;
    assert_eq!(refused(elsewhere).0, Code::NotFound);
    for login in ["a,root", "root\n", "root\0", " root", "root ", "", "-oProxyCommand=id", "a/b"] {
        let refusal = refused(client.issue_upstream_ssh_certificate(ask("prod-host", login, "olga")).await);
        assert_eq!(refusal.0, Code::InvalidArgument, "{login:?}");
    }
    for (login, user) in [("daemon", "olga"), ("root", "mallory")] {
        let refusal = refused(client.issue_upstream_ssh_certificate(ask("prod-host", login, user)).await);
        assert_eq!(refusal.0, Code::PermissionDenied, "{user} as {login}: {}", refusal.1);
    }
    let event = scene.world.events("cert.create").await.pop().unwrap();
    assert_eq!(
        (&event["cert_type"], &event["user"], &event["login"]),
        (&"openssh".into(), &"olga".into(), &"root".into())
    );
}

#[tokio::test]
async fn a_cluster_of_before_gets_the_authority_for_hosts_at_its_next_start() {
    let world = World::new().await;
    let store = |world: &World| {
        Sqlite::open(&world.directory.path().join("data/store.sqlite"), world.time.clone()).unwrap()
    };
    let keys = async |world: &World| {
        let all = world
            .admin()
            .await
            .list_authorities(proto::ListAuthoritiesRequest::default())
            .await
            .unwrap()
            .into_inner();
        all.authorities.into_iter().map(|a| (a.r#type, a.certificates, a.ssh_public_keys)).collect::<Vec<_>>()
    };
    let before = keys(&world).await;
    let op = Op::delete("authority/openssh".to_owned(), Condition::Any);
    store(&world).commit(vec![op]).await.unwrap();
    let world = world.restart().await;
    let after = keys(&world).await;
    assert_eq!(after.len(), 5);
    for (old, new) in before.iter().zip(&after) {
        assert_eq!(old == new, old.0 != "openssh", "{}", old.0);
    }
    let world = world.restart().await;
    assert_eq!(keys(&world).await, after, "once made, it stays");
}

#[tokio::test]
async fn nodes_are_listed_with_what_the_user_may_be_there() {
    let scene = Scene::new().await;
    let mut olga = scene.person("olga", true).await;
    let request = proto::ListTargetsRequest { kind: "node".into() };
    let nodes = olga.users.list_targets(request).await.unwrap().into_inner().targets;
    let names: Vec<_> = nodes.iter().map(|node| (node.name.as_str(), node.hostname.as_str())).collect();
    assert_eq!(names, [("dev-host", "web1"), ("prod-host", "web1")]);
    assert!(nodes.iter().all(|node| node.allowed_logins == ["root"]));
    let explain = |login: &str| proto::ExplainAccessRequest {
        user: "olga".into(),
        route: Some(node_route("prod-host", login)),
    };
    let mut admin = scene.world.admin().await;
    let answer = admin.explain_access(explain("root")).await.unwrap().into_inner();
    assert_eq!((answer.decision.as_str(), answer.role.as_str()), ("mfa_required", "ssh-prod"));
    let get = proto::GetResourcesRequest { kind: "node".into(), name: "prod-host".into() };
    let found = admin.get_resources(get).await.unwrap().into_inner().resources;
    assert!(found[0].json.contains(r#""hostname":"web1""#), "{}", found[0].json);
    let answer = admin.explain_access(explain("daemon")).await.unwrap().into_inner();
    assert_eq!(answer.decision, "deny");
}

// Codes

#[tokio::test]
async fn a_right_code_opens_the_connection_that_it_was_given_on() {
    let scene = Scene::new().await;
    let jerry = scene.person("jerry", false).await;
    let asked_for = jerry.code(&scene.world, "root");
    let answer = scene.verify(asked_for.clone()).await.unwrap();
    assert_eq!(answer.user, "jerry");
    let proof = OtpProof::from_answer(&asked_for, &answer).unwrap();
    let authorizer = scene.authorizer().await;
    let authorize = |session_hash: &[u8]| {
        let credential = Credential::SshWithOtp { certificate: &jerry.ssh, session_hash, proof: &proof };
        authorizer.authorize(&credential, &asked("prod-host", "root"))
    };
    assert_eq!(authorize(&SESSION_HASH).unwrap().mfa_device().unwrap().to_string(), answer.device_id);
    assert!(authorize(&[6; 32]).is_err(), "another connection");

    let event = scene.world.events("mfa_auth_challenge.validate").await.pop().unwrap();
    assert_eq!((&event["code"], &event["user"]), (&"T1016I".into(), &"jerry".into()));
    assert_eq!((&event["target"], &event["login"]), (&"prod-host".into(), &"root".into()));
    assert_eq!(event["ssh_session_hash"], "05".repeat(32));
    assert_eq!(event["mfa_device"]["mfa_device_uuid"], answer.device_id.as_str());
}

#[tokio::test]
async fn a_code_is_good_once_and_wrong_ones_lock_out() {
    let scene = Scene::new().await;
    let jerry = scene.person("jerry", false).await;
    let right = jerry.code(&scene.world, "root");
    scene.verify(right.clone()).await.unwrap();
    assert_eq!(refused(scene.verify(right).await).0, Code::Unauthenticated, "a second time");
    let wrong = proto::VerifyOtpRequest { code: "abcdef".to_owned(), ..jerry.code(&scene.world, "root") };
    for _ in 0..4 {
        assert_eq!(refused(scene.verify(wrong.clone()).await).0, Code::Unauthenticated);
    }
    scene.world.clock.advance(Duration::from_secs(60));
    let locked_out = refused(scene.verify(jerry.code(&scene.world, "root")).await);
    assert_eq!(locked_out.0, Code::ResourceExhausted, "{}", locked_out.1);
    assert_eq!(scene.world.events("mfa_auth_challenge.validate").await.last().unwrap()["code"], "T1016W");
}

#[tokio::test]
async fn a_code_is_asked_about_by_the_sidecar_of_the_node_with_a_login_certificate() {
    let scene = Scene::new().await;
    let mut jerry = scene.person("jerry", false).await;
    let good = jerry.code(&scene.world, "root");
    let with = |change: fn(&mut proto::VerifyOtpRequest)| {
        let mut request = good.clone();
        change(&mut request);
        request
    };
    for (bad, code) in [
        (with(|r| r.session_hash.truncate(31)), Code::InvalidArgument),
        (with(|r| r.client_address = "localhost".into()), Code::InvalidArgument),
        (with(|r| r.route = Some(route("prod-pg"))), Code::InvalidArgument),
        (with(|r| r.route = None), Code::InvalidArgument),
        (with(|r| r.ssh_certificate = vec![]), Code::Unauthenticated),
        (with(|r| r.ssh_certificate[200] ^= 1), Code::Unauthenticated),
        (with(|r| r.route = Some(node_route("prod-host", "daemon"))), Code::Unauthenticated),
        (with(|r| r.route = Some(node_route("elsewhere", "root"))), Code::NotFound),
    ] {
        let refusal = refused(scene.verify(bad).await);
        assert_eq!(refusal.0, code, "{}", refusal.1);
    }
    let other = scene.world.guard_nodes(&[("other-host", "prod")]).await.0;
    let elsewhere = scene.world.sidecars(&other).await.verify_otp(good.clone()).await;
    assert_eq!(refused(elsewhere).0, Code::NotFound);

    let issue = request(node_route("dev-host", "root"), ssh_public_key());
    let session = jerry.users.issue_session_certificate(issue).await.unwrap().into_inner();
    let session = Certificate::from_openssh(&session.ssh_certificate).unwrap().to_bytes().unwrap();
    let refusal =
        refused(scene.verify(proto::VerifyOtpRequest { ssh_certificate: session, ..good.clone() }).await);
    assert!(refusal.1.contains("session certificate"), "{}", refusal.1);
    scene.verify(good).await.unwrap();
}

#[tokio::test]
async fn a_code_counts_only_where_codes_are_taken_and_its_user_may_still_log_in() {
    let scene = Scene::new().await;
    let jerry = scene.person("jerry", false).await;
    let olga = scene.person("olga", true).await;
    let code = "123456".to_owned();
    let no_device = proto::VerifyOtpRequest {
        ssh_certificate: olga.ssh.clone(),
        code,
        ..jerry.code(&scene.world, "root")
    };
    assert_eq!(refused(scene.verify(no_device).await).0, Code::FailedPrecondition);
    scene.world.cap("second_factor: webauthn, webauthn: {rp_id: localhost}").await;
    let request = || jerry.code(&scene.world, "root");
    assert_eq!(refused(scene.verify(request()).await).0, Code::FailedPrecondition);
    scene.world.cap("second_factor: on, webauthn: {rp_id: localhost}").await;
    scene.world.put("kind: lock\nversion: v2\nmetadata: {name: l}\nspec: {target: {login: root}}\n").await;
    assert_eq!(refused(scene.verify(request()).await).0, Code::PermissionDenied);
    scene.world.put("kind: lock\nversion: v2\nmetadata: {name: l}\nspec: {target: {user: jerry}}\n").await;
    scene.world.clock.advance(Duration::from_secs(60));
    assert_eq!(refused(scene.verify(request()).await).0, Code::PermissionDenied);
    let other = "kind: lock\nversion: v2\nmetadata: {name: l}\nspec: {target: {user: mallory}}\n";
    scene.world.put(other).await;
    let reset = proto::ResetUserRequest { name: "jerry".into(), ttl_seconds: 0 };
    scene.world.admin().await.reset_user(reset).await.unwrap();
    assert_eq!(refused(scene.verify(request()).await).0, Code::Unauthenticated, "the login is over");
}
