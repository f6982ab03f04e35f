use super::*;
use crate::{
    authorizer::{Evidence, Mfa, SessionRequest},
    certificate::VerifiedCertificate,
    identity::Login,
    testing::{
        MINUTE, World, now,
        world::{ACCESS_DEV, request, resource},
    },
};

/// A session at dev-pg of whoever holds these roles.
fn session(world: &World, roles: &[&str], user: &str) -> Session {
    let roles = roles.iter().map(|role| RoleName::new(*role).unwrap()).collect();
    let identity = Identity { roles, ..world.login() };
    let certificate = VerifiedCertificate {
        identity,
        public_key_sha256: [0; 32],
        not_before: now(),
        serial_hex: String::new(),
    };
    let login = Login::Database { user: user.to_owned(), name: "shop".to_owned() };
    let evidence = Arc::new(Evidence::new(certificate, Mfa::NotVerified));
    Session::new(evidence, SessionRequest { login, ..request("dev-pg") })
}

fn judge(judge: &Judge, world: &World, session: &Session, at: SystemTime) -> Result<Decision, PolicyError> {
    let snapshot = world.replica.snapshot();
    let judgement = judge.judge(session, &snapshot, snapshot.auth_preference().unwrap(), at)?;
    Ok(judgement.decision.clone())
}

fn is_allowed(decision: &Decision) -> bool {
    matches!(decision, Decision::Allow { .. })
}

#[test]
fn a_judgement_is_found_again_and_for_nobody_else() {
    let (world, judges) = (World::new(), Judge::new());
    let ask =
        |roles: &[&str], user: &str| judge(&judges, &world, &session(&world, roles, user), now()).unwrap();
    for _ in 0..2 {
        assert!(is_allowed(&ask(&["access-dev"], "app")));
        assert!(is_allowed(&ask(&["access-prod", "access-dev"], "app")));
        assert!(!is_allowed(&ask(&["access-dev"], "root")), "another login");
        assert!(!is_allowed(&ask(&["access-prod"], "app")), "other roles");
    }
    judges.judgements.run_pending_tasks();
    assert_eq!(judges.judgements.entry_count(), 4);
}

#[test]
fn a_judgement_does_not_outlive_the_roles_that_it_was_made_with() {
    let (world, judges) = (World::new(), Judge::new());
    let expiring = ACCESS_DEV
        .replace(r#"{"name":"access-dev"}"#, r#"{"name":"access-dev","expires":"2026-01-01T00:10:00Z"}"#);
    world.apply(resource("role", "access-dev", &expiring)).unwrap();
    let session = session(&world, &["access-dev"], "app");
    assert!(is_allowed(&judge(&judges, &world, &session, now()).unwrap()));
    assert!(is_allowed(&judge(&judges, &world, &session, now() + MINUTE * 9).unwrap()));
    let unknown = PolicyError::UnknownRole(RoleName::new("access-dev").unwrap());
    assert_eq!(judge(&judges, &world, &session, now() + MINUTE * 10), Err(unknown));
}

#[test]
fn a_judgement_does_not_outlive_the_policy() {
    let (world, judges) = (World::new(), Judge::new());
    let session = session(&world, &["access-dev"], "app");
    assert!(is_allowed(&judge(&judges, &world, &session, now()).unwrap()));
    world.apply(resource("role", "access-dev", &ACCESS_DEV.replace(r#"["app"]"#, r#"["other"]"#))).unwrap();
    assert!(!is_allowed(&judge(&judges, &world, &session, now()).unwrap()));
}

#[test]
fn a_client_that_asks_for_ever_new_logins_does_not_fill_the_memory() {
    const ROOM: u64 = 100;
    let (world, judges) = (World::new(), Judge::with_room_for(ROOM));
    for n in 0..ROOM * 20 {
        let session = session(&world, &["access-dev"], &format!("{n}{}", "x".repeat(1_000)));
        judge(&judges, &world, &session, now()).unwrap();
    }
    judges.judgements.run_pending_tasks();
    assert!(judges.judgements.entry_count() <= ROOM);
    judges.roles.run_pending_tasks();
    assert_eq!(judges.roles.entry_count(), 1, "roles are compiled once for each who holds them");
}
