use auth::{api::connect_unix, clock::Clock, proto};
use authd::{config::Config, server::Server};
use tempfile::TempDir;

use super::*;

/// A real authd, and a data directory.
struct Stage {
    server: Server,
    pins: Vec<CaPin>,
    token: Token,
    data: TempDir,
    _authd: TempDir,
}

impl Stage {
    async fn new() -> Self {
        Self::at(Clock::system()).await
    }

    async fn at(clock: Clock) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = Config {
            data_dir: directory.path().join("authd"),
            listen: "127.0.0.1:0".parse().unwrap(),
            ..Config::default()
        };
        let server = Server::start(&config, clock).await.unwrap();
        let channel = connect_unix(server.admin_socket()).await.unwrap();
        let request = proto::AddTokenRequest { types: vec!["db".to_owned()], ttl_seconds: 600 };
        let token = proto::admin_client::AdminClient::new(channel).add_token(request).await.unwrap();
        Self {
            pins: server.ca_pins().iter().map(|pin| pin.parse().unwrap()).collect(),
            token: Token::Literal(Zeroizing::new(token.into_inner().token)),
            server,
            data: tempfile::tempdir().unwrap(),
            _authd: directory,
        }
    }

    /// Takes the host authority through its phases up to this one.
    async fn rotate(&self, phase: &str) {
        let channel = connect_unix(self.server.admin_socket()).await.unwrap();
        let mut admin = proto::admin_client::AdminClient::new(channel);
        let phases = if phase == "update_servers" { vec!["update_clients", phase] } else { vec![phase] };
        for phase in phases {
            let (r#type, phase) = ("host".to_owned(), phase.to_owned());
            let request = proto::RotateAuthorityRequest { r#type, phase, grace_seconds: 0, force: true };
            admin.rotate_authority(request).await.unwrap();
        }
    }

    async fn identity(
        &self,
        with_token: bool,
        targets: &[&str],
        now: SystemTime,
    ) -> Result<Identity, JoinError> {
        let invitation = Invitation {
            auth_server: self.server.public_addr(),
            pins: &self.pins,
            token: with_token.then_some(&self.token),
        };
        identity(self.data.path(), &invitation, &names(targets), now).await
    }
}

fn names(targets: &[&str]) -> Names {
    let targets = targets.iter().map(|name| TargetName::new(*name).unwrap()).collect();
    Names { targets, hosts: vec!["localhost".to_owned()], host_key: None }
}

fn needs_token(outcome: Result<Identity, JoinError>) -> &'static str {
    match outcome {
        Err(JoinError::NoToken { why }) => why,
        other => panic!("a token must be asked for, not {:?}", other.err()),
    }
}

#[tokio::test]
async fn a_stored_identity_is_good_for_its_targets_until_it_expires() {
    let stage = Stage::new().await;
    let now = SystemTime::now();
    let joined = stage.identity(true, &["prod-pg", "dev-pg"], now).await.unwrap();
    let stored = stage.identity(false, &["dev-pg"], now).await.unwrap();
    assert_eq!(stored.sidecar, joined.sidecar);
    assert_eq!(stored.key.secret_pkcs8_der(), joined.key.secret_pkcs8_der());
    assert!(needs_token(stage.identity(false, &["other"], now).await).contains("other targets"));
    let later = joined.sidecar.not_after + Duration::from_secs(1);
    assert!(needs_token(stage.identity(false, &["dev-pg"], later).await).contains("expired"));
}

#[tokio::test]
async fn a_renewal_keeps_the_id_changes_the_key_and_is_seen_by_the_next_client() {
    let stage = Stage::new().await;
    let joined = Arc::new(stage.identity(true, &["prod-pg"], SystemTime::now()).await.unwrap());
    let server = ServerCertificate::new(joined.chain(), joined.private_key()).unwrap();
    let link = Link::new(stage.server.public_addr().to_owned(), Arc::clone(&joined));
    let renewed = renew(&joined, stage.data.path(), &link, &server, None).await.unwrap();
    assert_eq!(renewed.sidecar.id, joined.sidecar.id);
    assert_eq!(renewed.sidecar.target_names, joined.sidecar.target_names);
    assert_ne!(renewed.sidecar.public_key_sha256, joined.sidecar.public_key_sha256);
    assert_eq!(server.shown().cert, renewed.chain());
    let stored = stage.identity(false, &["prod-pg"], SystemTime::now()).await.unwrap();
    assert_eq!(stored.certificate, renewed.certificate);
    // The way to authd goes on under the new certificate.
    renew(&renewed, stage.data.path(), &link, &server, None).await.unwrap();
}

#[tokio::test]
async fn a_certificate_is_renewed_at_two_thirds_of_its_life() {
    let stage = Stage::new().await;
    let joined = stage.identity(true, &["prod-pg"], SystemTime::now()).await.unwrap();
    let life = joined.sidecar.not_after.duration_since(joined.issued).unwrap();
    assert_eq!(joined.renew_at(), joined.issued + life / 3 * 2);
}

#[tokio::test]
async fn a_damaged_identity_is_not_replaced_behind_the_administrators_back() {
    let stage = Stage::new().await;
    std::fs::write(stage.data.path().join("identity.json"), b"{}").unwrap();
    let outcome = stage.identity(true, &["prod-pg"], SystemTime::now()).await;
    assert!(matches!(outcome, Err(JoinError::Stored(IdentityError::Damaged { .. }))));
}

#[tokio::test]
async fn a_token_whose_file_is_gone_is_missed_only_where_it_is_needed() {
    let mut stage = Stage::new().await;
    let now = SystemTime::now();
    let joined = stage.identity(true, &["prod-pg"], now).await.unwrap();
    // A secret that was taken away once it had served.
    stage.token = Token::File(stage.data.path().join("gone"));
    let stored = stage.identity(true, &["prod-pg"], now).await.unwrap();
    assert_eq!(stored.sidecar, joined.sidecar);
    let error = stage.identity(true, &["other"], now).await.err().unwrap();
    assert!(matches!(error, JoinError::Token { .. }), "{error}");
    assert!(error.to_string().contains("certificate is for other targets"), "{error}");
}

#[tokio::test]
async fn once_authd_refuses_a_certificate_that_has_expired_there_is_nothing_left_to_renew() {
    let now = SystemTime::now();
    // A day ago, but for two seconds.
    let (clock, hand) = Clock::fixed(now - Duration::from_secs(24 * 3600 - 2));
    let stage = Stage::at(clock).await;
    let joined = Arc::new(stage.identity(true, &["prod-pg"], now).await.unwrap());
    let server = ServerCertificate::new(joined.chain(), joined.private_key()).unwrap();
    let link = Link::new(stage.server.public_addr().to_owned(), Arc::clone(&joined));
    // authd was away for the rest of that day.
    hand.set(joined.sidecar.not_after + Duration::from_secs(1));
    let (replica, stop) = (Replica::new(Clock::system()), CancellationToken::new());
    let given_up = keep_fresh(joined, &replica, stage.data.path(), &link, &server, None, stop);
    tokio::time::timeout(Duration::from_secs(30), given_up).await.expect("it gives up");
}

#[tokio::test]
async fn whoever_was_away_for_a_whole_rotation_has_nothing_left_to_renew_once_its_certificate_has_expired() {
    let now = SystemTime::now();
    // A day ago, but for two seconds.
    let (clock, hand) = Clock::fixed(now - Duration::from_secs(24 * 3600 - 2));
    let stage = Stage::at(clock).await;
    let joined = Arc::new(stage.identity(true, &["prod-pg"], now).await.unwrap());
    for phase in ["init", "update_servers", "standby"] {
        stage.rotate(phase).await;
    }
    hand.set(joined.sidecar.not_after + Duration::from_secs(1));
    let server = ServerCertificate::new(joined.chain(), joined.private_key()).unwrap();
    let link = Link::new(stage.server.public_addr().to_owned(), Arc::clone(&joined));
    let (replica, stop) = (Replica::new(Clock::system()), CancellationToken::new());
    let given_up = keep_fresh(joined, &replica, stage.data.path(), &link, &server, None, stop);
    tokio::time::timeout(Duration::from_secs(30), given_up).await.expect("it gives up");
}

#[tokio::test]
async fn a_certificate_is_renewed_when_the_clusters_host_authorities_change() {
    let stage = Stage::new().await;
    let joined = Arc::new(stage.identity(true, &["prod-pg"], SystemTime::now()).await.unwrap());
    let server = Arc::new(ServerCertificate::new(joined.chain(), joined.private_key()).unwrap());
    let link = Link::new(stage.server.public_addr().to_owned(), Arc::clone(&joined));
    let (replica, stop) = (Replica::new(Clock::system()), CancellationToken::new());
    let channel = {
        let link = Arc::clone(&link);
        move || {
            let link = Arc::clone(&link);
            async move { link.channel().await }
        }
    };
    tokio::spawn(auth::replica::follow(Arc::clone(&replica), channel, stop.clone()));
    let kept = {
        let (joined, replica, link, server, stop) =
            (Arc::clone(&joined), Arc::clone(&replica), Arc::clone(&link), Arc::clone(&server), stop.clone());
        let data = stage.data.path().to_owned();
        tokio::spawn(async move { keep_fresh(joined, &replica, &data, &link, &server, None, stop).await })
    };
    let old = joined.host_authorities.clone();
    for (phase, trusted, ours) in [("init", 2, true), ("update_servers", 2, false), ("standby", 1, false)] {
        let before = server.shown();
        stage.rotate(phase).await;
        let renewed = async {
            while Arc::ptr_eq(&server.shown(), &before) {
                tokio::task::yield_now().await
            }
        };
        tokio::time::timeout(Duration::from_secs(60), renewed).await.expect("it is renewed");
        let stored = stage.identity(false, &["prod-pg"], SystemTime::now()).await.unwrap();
        assert_eq!(stored.host_authorities.len(), trusted, "{phase}");
        assert_eq!(stored.chain(), server.shown().cert, "{phase}: what is shown is what is kept");
        let is_under_old = verify(&stored.certificate, &old, SystemTime::now()).is_ok();
        assert_eq!(is_under_old, ours, "{phase}");
    }
    stop.cancel();
    kept.await.unwrap();
}
