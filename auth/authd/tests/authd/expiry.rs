//! A user who is there until some moment: nothing that is given to them outlives it.

use std::time::{Duration, SystemTime};

use auth::{
    certificate::x509,
    clock::{from_unix_millis, rfc3339},
    proto::{self, SessionRequester},
};
use serde_json::json;
use ssh_key::Certificate;

use crate::{web::browser::Browser, world::*};

const HALF_AN_HOUR: Duration = Duration::from_secs(30 * 60);

/// The user resource of olga, until then.
async fn put_olga(world: &World, until: Option<SystemTime>) {
    let expires = until.map(|until| format!(", expires: \"{}\"", rfc3339(until))).unwrap_or_default();
    let traits = "{db_users: [alice], db_names: [app], logins: [root]}";
    let spec = format!("{{roles: [access], traits: {traits}}}");
    world.put(&format!("kind: user\nversion: v2\nmetadata: {{name: olga{expires}}}\nspec: {spec}\n")).await;
}

fn end_of(certificate: &[u8]) -> SystemTime {
    *x509::validity(&certificate.into()).unwrap().end()
}

#[tokio::test]
async fn certificates_of_a_login_end_with_the_user() {
    let world = World::new().await;
    let mut olga = world.person_with_key("olga", &["access"]).await;
    let until = world.time.now() + HALF_AN_HOUR;
    put_olga(&world, Some(until)).await;
    let certificates = world.login(&mut olga).await;
    assert!(end_of(&certificates.tls_certificate) <= until);
    assert!(from_unix_millis(certificates.not_after).unwrap() <= until);
    let ssh = Certificate::from_openssh(&certificates.ssh_certificate).unwrap();
    assert!(SystemTime::UNIX_EPOCH + Duration::from_secs(ssh.valid_before()) <= until);
}

#[tokio::test]
async fn certificates_of_a_session_end_with_the_user_whatever_the_login_says() {
    let world = World::new().await;
    world.guard("pg", &[("env", "dev")]).await;
    world.guard_nodes(&[("host", "dev")]).await;
    let mut olga = world.person_with_key("olga", &["access"]).await;
    world.login(&mut olga).await;
    let until = world.time.now() + HALF_AN_HOUR;
    put_olga(&world, Some(until)).await;
    assert!(end_of(&olga.certificate) > until);
    let mut users = world.users(olga.identity()).await;
    let local_proxy = SessionRequester::LocalProxy.into();
    let database = proto::IssueSessionCertificateRequest {
        route: Some(route("pg")),
        public_key: Key::new().spki,
        requester: local_proxy,
        ..Default::default()
    };
    let issued = users.issue_session_certificate(database).await.unwrap().into_inner();
    assert!(end_of(&issued.certificate) <= until);
    let node = proto::IssueSessionCertificateRequest {
        route: Some(node_route("host", "root")),
        ssh_public_key: ssh_public_key(),
        requester: local_proxy,
        ..Default::default()
    };
    let issued = users.issue_session_certificate(node).await.unwrap().into_inner();
    let ssh = Certificate::from_openssh(&issued.ssh_certificate).unwrap();
    assert!(SystemTime::UNIX_EPOCH + Duration::from_secs(ssh.valid_before()) <= until);
}

#[tokio::test]
async fn a_session_of_a_browser_ends_with_the_user_also_when_the_user_is_given_more_time() {
    let world = World::new().await;
    let mut olga = world.person_with_key("olga", &["access"]).await;
    put_olga(&world, Some(world.time.now() + Duration::from_secs(300))).await;
    let mut browser = Browser::new(&world);
    browser.sign_in(&mut olga).await.ok();
    put_olga(&world, None).await;
    browser.call("devices/list", json!({})).await.ok();
    world.clock.advance(Duration::from_secs(301));
    assert_eq!(browser.call("devices/list", json!({})).await.refused().0, 401);
}

#[tokio::test]
async fn what_a_sidecar_shows_to_a_host_ends_with_the_user() {
    let world = World::new().await;
    let (sidecar, _) = world.guard_nodes(&[("host", "dev")]).await;
    world.person_with_key("olga", &["access"]).await;
    let mut client = world.sidecars(&sidecar).await;
    let ask = || proto::IssueUpstreamSshCertificateRequest {
        target_name: "host".to_owned(),
        login: "root".to_owned(),
        user: "olga".to_owned(),
        ssh_public_key: ssh_public_key(),
    };
    let until = world.time.now() + HALF_AN_HOUR;
    put_olga(&world, Some(until)).await;
    let issued = client.issue_upstream_ssh_certificate(ask()).await.unwrap().into_inner();
    let ssh = Certificate::from_openssh(&issued.ssh_certificate).unwrap();
    assert!(SystemTime::UNIX_EPOCH + Duration::from_secs(ssh.valid_before()) <= until);
    assert!(from_unix_millis(issued.not_after).unwrap() <= until);
    world.clock.advance(HALF_AN_HOUR);
    client.issue_upstream_ssh_certificate(ask()).await.unwrap_err();
}
