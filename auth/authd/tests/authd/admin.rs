use std::time::Duration;

use auth::{
    api::touch,
    proto::{self, admin_client::AdminClient},
    resource::{Resource, parse_documents},
};
use tonic::Code;

use crate::{
    admin_touch::{touch_for, with},
    world::*,
};

fn put(yaml: &str, force: bool) -> proto::PutResourceRequest {
    let json = parse_documents(yaml).unwrap().remove(0).resource.to_json();
    proto::PutResourceRequest {
        resource: Some(proto::Resource { json, ..Default::default() }),
        force,
        expected_revision: 0,
    }
}

fn delete(kind: &str, name: &str) -> proto::DeleteResourceRequest {
    proto::DeleteResourceRequest { kind: kind.into(), name: name.into() }
}

fn get(kind: &str, name: &str) -> proto::GetResourcesRequest {
    proto::GetResourcesRequest { kind: kind.into(), name: name.into() }
}

const ROLE: &str = "kind: role\nversion: v7\nmetadata: {name: r}\nspec: {allow: {logins: [root]}}\n";

#[tokio::test]
async fn a_new_cluster_has_three_roles_and_a_preference() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let roles = admin.get_resources(get("roles", "")).await.unwrap().into_inner().resources;
    assert_eq!(roles.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["access", "auditor", "editor"]);
    let cap = admin.get_resources(get("cap", "")).await.unwrap().into_inner().resources;
    assert_eq!(cap.len(), 1);
    let status = admin.status(proto::StatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.cluster_name.as_str(), status.authorities.len()), ("main", 5));
}

#[tokio::test]
async fn what_is_there_is_replaced_only_by_force_or_by_revision() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    assert!(admin.put_resource(put(ROLE, false)).await.unwrap().into_inner().created);
    assert_eq!(refused(admin.put_resource(put(ROLE, false)).await).0, Code::AlreadyExists);
    assert!(!admin.put_resource(put(ROLE, true)).await.unwrap().into_inner().created);

    let stored = admin.get_resources(get("role", "r")).await.unwrap().into_inner().resources.remove(0);
    let Resource::Role(role) = Resource::from_json(&stored.json).unwrap() else { panic!("not a role") };
    let revision: u64 = role.metadata.revision.unwrap().parse().unwrap();
    let edit = proto::PutResourceRequest { expected_revision: revision, ..put(ROLE, false) };
    admin.put_resource(edit.clone()).await.unwrap();
    assert_eq!(refused(admin.put_resource(edit).await).0, Code::FailedPrecondition);
}

#[tokio::test]
async fn what_does_not_fit_is_refused() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    admin.put_resource(put(ROLE, false)).await.unwrap();
    let user =
        |role: &str| format!("kind: user\nversion: v2\nmetadata: {{name: u}}\nspec: {{roles: [{role}]}}\n");
    assert_eq!(refused(admin.put_resource(put(&user("none"), false)).await).0, Code::NotFound);
    assert_eq!(refused(admin.put_resource(put(&user(""), false)).await).0, Code::InvalidArgument);
    admin.put_resource(put(&user("r"), false)).await.unwrap();
    let (code, text) = refused(admin.delete_resource(delete("role", "r")).await);
    assert_eq!((code, text.as_str()), (Code::FailedPrecondition, r#"role "r" is used by user "u""#));
    admin.delete_resource(delete("user", "u")).await.unwrap();
    admin.delete_resource(delete("role", "r")).await.unwrap();
    assert_eq!(refused(admin.delete_resource(delete("role", "r")).await).0, Code::NotFound);
    let reserved = ROLE.replace("name: r", "name: Sidecar");
    assert_eq!(refused(admin.put_resource(put(&reserved, false)).await).0, Code::InvalidArgument);
    let request =
        proto::AddUserRequest { name: "x".into(), roles: vec!["none".into()], ..Default::default() };
    assert_eq!(refused(admin.add_user(request).await).0, Code::NotFound);
}

#[tokio::test]
async fn deleting_the_preference_brings_the_default_back() {
    let world = World::new().await;
    world.cap("require_session_mfa: true, second_factor: otp").await;
    let mut admin = world.admin().await;
    admin.delete_resource(delete("cap", "")).await.unwrap();
    let cap = admin.get_resources(get("cap", "")).await.unwrap().into_inner().resources.remove(0);
    let Resource::AuthPreference(preference) = Resource::from_json(&cap.json).unwrap() else { panic!() };
    assert!(!preference.require_session_mfa);
}

#[tokio::test]
async fn a_preference_that_locks_everybody_out_is_refused() {
    let world = World::new().await;
    let cap = "kind: cluster_auth_preference\nversion: v2\nmetadata: {name: cluster-auth-preference}\n\
               spec: {second_factor: webauthn, webauthn: {rp_id: example.com}}\n";
    assert_eq!(refused(world.admin().await.put_resource(put(cap, true)).await).0, Code::InvalidArgument);
}

#[tokio::test]
async fn users_administrate_as_far_as_their_rules_go() {
    let world = World::new().await;
    let mut editor = world.person_with_totp("editor-person", &["editor"]).await;
    let mut auditor = world.person_with_totp("auditor-person", &["auditor"]).await;
    let mut nobody = world.person_with_totp("user-person", &["access"]).await;
    for person in [&mut editor, &mut auditor, &mut nobody] {
        world.login(person).await;
    }
    let mut client = AdminClient::new(world.channel(Some(editor.identity())).await);
    world.clock.advance(Duration::from_secs(60));
    let call = put(ROLE, false);
    let mfa = touch_for(&world, &mut editor, &[touch::digest("PutResource", &call)]).await;
    client.put_resource(with(call, &mfa)).await.unwrap();
    client.list_audit(proto::ListAuditRequest::default()).await.unwrap();
    let mut client = AdminClient::new(world.channel(Some(auditor.identity())).await);
    client.list_audit(proto::ListAuditRequest::default()).await.unwrap();
    let (code, text) = refused(client.put_resource(put(ROLE, true)).await);
    assert_eq!(
        (code, text.as_str()),
        (Code::PermissionDenied, r#"access denied to perform action "create" on "role""#)
    );
    let mut client = AdminClient::new(world.channel(Some(nobody.identity())).await);
    assert_eq!(
        refused(client.list_audit(proto::ListAuditRequest::default()).await).0,
        Code::PermissionDenied
    );
}

#[tokio::test]
async fn a_join_token_is_shown_in_full_to_root_alone_and_never_in_the_audit_trail() {
    let world = World::new().await;
    let token = world.token(&["db"]).await;
    let mut editor = world.person_with_totp("editor-person", &["editor"]).await;
    world.login(&mut editor).await;
    let root = world.admin().await.get_resources(get("tokens", "")).await.unwrap().into_inner().resources;
    assert_eq!(root[0].name, token);
    let mut client = AdminClient::new(world.channel(Some(editor.identity())).await);
    let seen = client.get_resources(get("tokens", "")).await.unwrap().into_inner().resources;
    assert!(!seen[0].json.contains(&token) && !seen[0].name.contains(&token));
    let events = world.events("").await;
    assert!(events.iter().any(|event| event["event"] == "join_token.create"));
    assert!(!events.iter().any(|event| event.to_string().contains(&token)));
    world.admin().await.delete_resource(delete("token", &token)).await.unwrap();
    assert_eq!(refused(world.join(&token, &["pg"]).await).0, Code::NotFound);
}

#[tokio::test]
async fn an_explanation_names_the_decision_and_the_role() {
    let world = World::new().await;
    world.guard("pg", &[("env", "dev")]).await;
    world.person_with_totp("jerry", &["access"]).await;
    let mut admin = world.admin().await;
    let request = proto::ExplainAccessRequest { user: "jerry".into(), route: Some(route("pg")) };
    let answer = admin.explain_access(request.clone()).await.unwrap().into_inner();
    assert_eq!((answer.decision.as_str(), answer.role.as_str()), ("allow", "access"));
    world.cap("require_session_mfa: true").await;
    let answer = admin.explain_access(request).await.unwrap().into_inner();
    assert_eq!(answer.decision, "mfa_required");
    assert!(!answer.reasons.is_empty());
    // Asked for first, a touch would not help.
    world.person_with_totp("olga", &["auditor"]).await;
    let request = proto::ExplainAccessRequest { user: "olga".into(), route: Some(route("pg")) };
    let answer = admin.explain_access(request).await.unwrap().into_inner();
    assert_eq!(answer.decision, "deny");
}

#[tokio::test]
async fn a_database_gets_its_own_certificate() {
    let world = World::new().await;
    let request = proto::SignDatabaseCertificateRequest {
        public_key: Key::new().spki,
        hosts: vec!["db.example.com".into(), "127.0.0.1".into()],
        ttl_seconds: 0,
    };
    let signed = world.admin().await.sign_database_certificate(request).await.unwrap().into_inner();
    let (_, certificate) = x509_parser::parse_x509_certificate(&signed.certificate).unwrap();
    assert_eq!(certificate.subject().to_string(), "CN=db.example.com");
    assert_eq!(signed.client_authorities.len(), 1);
}

#[tokio::test]
async fn everything_is_kept_across_a_restart() {
    let world = World::new().await;
    let mut jerry = world.person_with_totp("jerry", &["access"]).await;
    let sidecar = world.guard("pg", &[]).await;
    let pins = world.server.ca_pins().to_vec();
    let mut world = world.restart().await;
    assert_eq!(world.server.ca_pins(), pins);
    world.login(&mut jerry).await;
    world = world.restart().await;
    // The code that was used before the restart is used after it.
    let challenge = world.begin_login("jerry", PASSWORD).await.unwrap();
    let again = Some(code_response(&jerry.code(world.time.now())));
    assert_eq!(refused(world.finish_login(&jerry.key, &challenge.challenge_id, again).await).1, CREDENTIALS);
    let mut users = world.users(jerry.identity()).await;
    let targets =
        users.list_targets(proto::ListTargetsRequest::default()).await.unwrap().into_inner().targets;
    assert_eq!((targets.len(), targets[0].sidecar_id.as_str()), (1, sidecar.id.as_str()));
}
