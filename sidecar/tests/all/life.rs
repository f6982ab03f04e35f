//! A sidecar's life: joining, restarting, draining.

use std::{os::unix::fs::PermissionsExt as _, time::Duration};

use ::sidecar::{Sidecar, StartError};
use tokio_postgres::error::SqlState;

use crate::support::{
    authd::{Authd, Jerry},
    client::{connect, told},
    eventually,
    postgresql::Postgresql,
    sidecar::{Guarded, config},
};

const NOWHERE: &str = "{uri: \"unix:/nowhere/.s.PGSQL.5432\"}";

#[tokio::test(flavor = "multi_thread")]
async fn the_identity_is_private_and_reused_at_restart_without_a_token() {
    let mut authd = Authd::start().await;
    let mut guarded = Guarded::start(&mut authd, "dev-pg", NOWHERE).await;
    let identity = guarded.data.path().join("identity.json");
    let before = std::fs::read(&identity).unwrap();
    assert_eq!(std::fs::metadata(&identity).unwrap().permissions().mode() & 0o777, 0o600);
    guarded.drain().await;

    let config = config(&authd, guarded.data.path(), "dev-pg", NOWHERE);
    assert!(config.token.is_none());
    let data = std::mem::replace(&mut guarded.data, tempfile::tempdir().unwrap());
    let mut again = Guarded::from_config(config, data).await;
    assert_eq!(std::fs::read(identity).unwrap(), before);
    again.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_with_a_wrong_pin_or_for_other_targets_nobody_joins() {
    let mut authd = Authd::start().await;
    let data = tempfile::tempdir().unwrap();
    let start = async |config| Sidecar::start(config).await.err().expect("it must not start");
    let base = config(&authd, data.path(), "dev-pg", NOWHERE);
    let error = start(base.clone()).await;
    assert!(error.to_string().contains("has not joined a cluster yet"), "{error}");

    let token = authd.token().await;
    let with_token = |pins: Vec<_>, token: &str| {
        let token = ::sidecar::config::Token::Literal(token.to_owned().into());
        ::sidecar::config::Config { ca_pins: pins, token: Some(token), ..base.clone() }
    };
    let wrong_pin = format!("sha256:{}", "0".repeat(64)).parse().unwrap();
    let error = start(with_token(vec![wrong_pin], &token)).await;
    assert!(format!("{:#}", anyhow(error)).contains("does not match the CA pin"));
    let error = start(with_token(vec![], &token)).await;
    assert!(error.to_string().contains("CA pin"), "{error}");
    let error = start(with_token(authd.pins.clone(), "guessed")).await;
    assert!(error.to_string().contains("refused the join token"), "{error}");
}

fn anyhow(error: StartError) -> anyhow::Error {
    error.into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_serves_one_sidecar() {
    let mut authd = Authd::start().await;
    let guarded = Guarded::start(&mut authd, "dev-pg", NOWHERE).await;
    let second = config(&authd, guarded.data.path(), "dev-pg", NOWHERE);
    assert!(matches!(Sidecar::start(second).await, Err(StartError::InUse { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_announces_its_target() {
    let mut authd = Authd::start().await;
    let guarded = Guarded::start(&mut authd, "dev-pg", NOWHERE).await;
    eventually("announced", async || {
        let all = auth::proto::ListTargetsRequest::default();
        let targets = authd.admin.list_all_targets(all).await.unwrap().into_inner().targets;
        targets.first().is_some_and(|target| {
            target.name == "dev-pg"
                && target.public_addr == format!("localhost:{}", guarded.address.port())
                && target.labels["env"] == "dev"
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_lets_a_session_finish_then_ends_it_with_the_reason_and_everything_is_on_record() {
    let mut authd = Authd::start().await;
    let jerry = Jerry::register(&mut authd).await;
    let files = authd.database_certificate(&["localhost"]).await;
    let postgresql = tokio::task::spawn_blocking(move || Postgresql::start(&files)).await.unwrap();
    let upstream = format!("{{uri: \"{}\"}}", postgresql.unix_uri());
    let mut guarded = Guarded::start(&mut authd, "dev-pg", &upstream).await;
    let stays = connect(guarded.address, "dev-pg", &jerry.login).await.unwrap();
    let address = guarded.address;

    let sidecar = guarded.sidecar.take().unwrap();
    let drained = tokio::spawn(sidecar.drain());
    eventually("not ready", async || guarded.get("/readyz").await.0 == 503).await;
    assert_eq!(guarded.get("/healthz").await.0, 200);
    assert_eq!(stays.one("select 'still served'").await, "still served");
    eventually("closed to newcomers", async || tokio::net::TcpStream::connect(address).await.is_err()).await;

    let error = tokio::time::timeout(Duration::from_secs(10), stays.end).await.unwrap().unwrap().unwrap_err();
    let (state, message, _) = told(&error);
    assert_eq!(state, SqlState::ADMIN_SHUTDOWN.code());
    assert_eq!(message, "the session ended: the sidecar is stopping");
    drained.await.unwrap();
    let ends = authd.audit("db.session.end").await;
    assert_eq!(ends.len(), 1, "shipped before it stopped");
    assert_eq!(ends[0]["reason"], "shutdown");
}
