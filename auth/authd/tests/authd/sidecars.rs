use std::time::Duration;

use auth::{certificate::x509, proto};
use tonic::Code;

use crate::world::*;

#[tokio::test]
async fn a_token_gives_a_certificate_that_the_auth_crate_reads() {
    let world = World::new().await;
    let sidecar = world.sidecar(&["prod-pg"]).await;
    let request = proto::ListAuthoritiesRequest { r#type: "host".into() };
    let list = world.admin().await.list_authorities(request).await.unwrap().into_inner().authorities;
    let chain = [sidecar.certificate.clone().into()];
    let identity =
        x509::verify_sidecar(&chain, &[list[0].certificates[0].clone().into()], world.time.now()).unwrap();
    assert_eq!(identity.id.to_string(), sidecar.id);
    assert_eq!(identity.cluster.as_str(), "main");
    assert_eq!(identity.target_names.iter().map(|n| n.as_str()).collect::<Vec<_>>(), ["prod-pg"]);
}

#[tokio::test]
async fn a_wrong_and_an_expired_token_are_refused_alike() {
    let world = World::new().await;
    let token = world.token(&["db"]).await;
    let wrong = refused(world.join("made-up", &["pg"]).await);
    world.clock.advance(Duration::from_secs(30 * 60));
    assert_eq!(refused(world.join(&token, &["pg"]).await), wrong);
    assert_eq!(wrong.0, Code::NotFound);
}

#[tokio::test]
async fn a_token_for_databases_does_not_cover_a_node_nor_other_names() {
    let world = World::new().await;
    let sidecar = world.sidecar(&["one"]).await;
    let mut client = world.sidecars(&sidecar).await;
    let node = proto::Target { kind: "node".into(), protocol: "ssh".into(), ..database("one", &[]) };
    for target in [node, database("two", &[])] {
        let request = proto::AnnounceRequest { targets: vec![target], ..Default::default() };
        assert_eq!(refused(client.announce(request).await).0, Code::InvalidArgument);
    }
}

#[tokio::test]
async fn a_renewal_keeps_the_id_and_gains_no_name() {
    let world = World::new().await;
    let sidecar = world.sidecar(&["one", "two"]).await;
    let mut client = world.sidecars(&sidecar).await;
    let key = Key::new();
    let renewed = client.renew_certificate(certificate_request(&key, &["one"])).await.unwrap().into_inner();
    assert_eq!(renewed.sidecar_id, sidecar.id);
    for names in [&["three"][..], &["one", "three"]] {
        assert_eq!(
            refused(client.renew_certificate(certificate_request(&key, names)).await).0,
            Code::InvalidArgument
        );
    }
    let mut request = certificate_request(&key, &["one"]);
    request.hosts.push("elsewhere.example.com".into());
    assert_eq!(refused(client.renew_certificate(request).await).0, Code::InvalidArgument);
    let request = certificate_request(&key, &["authd.touchstone.internal"]);
    assert_eq!(refused(client.renew_certificate(request).await).0, Code::InvalidArgument);
}

#[tokio::test]
async fn an_expired_sidecar_certificate_renews_nothing() {
    let world = World::new().await;
    let sidecar = world.sidecar(&["one"]).await;
    let mut client = world.sidecars(&sidecar).await;
    world.clock.advance(Duration::from_secs(24 * 3600 + 1));
    let (code, text) = refused(client.renew_certificate(certificate_request(&Key::new(), &["one"])).await);
    assert_eq!(code, Code::Unauthenticated);
    assert!(text.contains("expired"), "{text}");
}

#[tokio::test]
async fn an_upstream_certificate_is_for_databases_that_this_sidecar_guards() {
    let world = World::new().await;
    let (mine, other) = (world.guard("mine", &[]).await, world.guard("other", &[]).await);
    let request = |target: &str| proto::IssueUpstreamCertificateRequest {
        target_name: target.to_owned(),
        db_user: "alice".to_owned(),
        public_key: Key::new().spki,
    };
    let mut client = world.sidecars(&mine).await;
    let issued = client.issue_upstream_certificate(request("mine")).await.unwrap().into_inner();
    let (_, certificate) = x509_parser::parse_x509_certificate(&issued.certificate).unwrap();
    let name = certificate.subject().iter_common_name().next().unwrap().as_str().unwrap();
    assert_eq!(name, "alice");
    assert_eq!(refused(client.issue_upstream_certificate(request("other")).await).0, Code::NotFound);
    let mut control = request("mine");
    control.db_user = "a\nb".into();
    assert_eq!(refused(client.issue_upstream_certificate(control).await).0, Code::InvalidArgument);
    // Such a certificate is no key to the API.
    let key = Key::new();
    let mut upstream = request("other");
    upstream.public_key = key.spki.clone();
    let mut client = world.sidecars(&other).await;
    let issued = client.issue_upstream_certificate(upstream).await.unwrap().into_inner();
    let mut users = world.users(key.with(issued.certificate)).await;
    let refusal = refused(users.list_targets(proto::ListTargetsRequest::default()).await);
    assert_eq!(refusal.0, Code::Unauthenticated);
}

#[tokio::test]
async fn what_is_no_longer_announced_is_gone_at_once() {
    let world = World::new().await;
    let sidecar = world.guard("one", &[]).await;
    world.sidecars(&sidecar).await.announce(proto::AnnounceRequest::default()).await.unwrap();
    let all = world.admin().await.list_all_targets(proto::ListTargetsRequest::default()).await.unwrap();
    assert!(all.into_inner().targets.is_empty());
}

#[tokio::test]
async fn administrators_see_each_sidecar_of_a_target_and_users_one() {
    let world = World::new().await;
    let (one, two) = (world.guard("pg", &[("env", "dev")]).await, world.guard("pg", &[("env", "dev")]).await);
    let all = world.admin().await.list_all_targets(proto::ListTargetsRequest::default()).await.unwrap();
    let mut sidecars: Vec<_> = all.into_inner().targets.into_iter().map(|target| target.sidecar_id).collect();
    let mut wanted = vec![one.id, two.id];
    sidecars.sort();
    wanted.sort();
    assert_eq!(sidecars, wanted);
    let get = proto::GetResourcesRequest { kind: "db".into(), ..Default::default() };
    assert_eq!(world.admin().await.get_resources(get).await.unwrap().into_inner().resources.len(), 1);
}

#[tokio::test]
async fn a_locked_sidecar_gets_nothing_more() {
    let world = World::new().await;
    let sidecar = world.guard("one", &[]).await;
    let mut client = world.sidecars(&sidecar).await;
    // However its hexadecimal digits are written.
    for id in [sidecar.id.clone(), sidecar.id.to_uppercase()] {
        world
            .put(&format!(
                "kind: lock\nversion: v2\nmetadata: {{name: l}}\nspec: {{target: {{server_id: {id}}}}}\n"
            ))
            .await;
        let renewal = client.renew_certificate(certificate_request(&Key::new(), &["one"])).await;
        assert_eq!(refused(renewal).0, Code::PermissionDenied, "{id}");
        assert_eq!(refused(client.watch(proto::WatchRequest {}).await).0, Code::PermissionDenied, "{id}");
    }
}

#[tokio::test]
async fn the_token_of_a_locked_sidecar_lets_nobody_in_under_another_id() {
    let world = World::new().await;
    let [known, other] = [world.token(&["db"]).await, world.token(&["db"]).await];
    let sidecar = world.join(&known, &["one"]).await.unwrap();
    let lock = |target: &str| {
        format!("kind: lock\nversion: v2\nmetadata: {{name: l}}\nspec: {{target: {{{target}}}}}\n")
    };
    // A lock on sessions through it does not lock it out.
    world.put(&lock(&format!("server_id: {}, user: jerry", sidecar.id))).await;
    world.join(&known, &["one"]).await.unwrap();
    world.put(&lock(&format!("server_id: {}", sidecar.id.to_uppercase()))).await;
    let (code, said) = refused(world.join(&known, &["one"]).await);
    assert_eq!(code, Code::PermissionDenied);
    assert!(said.contains("is in force") && said.contains("joined with this token: use another"), "{said}");
    world.join(&other, &["one"]).await.unwrap();
    let request = proto::DeleteResourceRequest { kind: "lock".into(), name: "l".into() };
    world.admin().await.delete_resource(request).await.unwrap();
    world.join(&known, &["one"]).await.unwrap();
}
