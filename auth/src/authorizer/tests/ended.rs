//! Logins from before a reset, a recovery or the end of an account open nothing, in whatever form they are presented.

use super::*;
use crate::testing::{
    SshDraft,
    world::{ended_logins, node_request, ssh_key_sha256},
};

/// Where certificates of the tests begin.
fn begin() -> SystemTime {
    now() - MINUTE
}

/// One second later than that: the least that certificates can tell apart.
fn later() -> SystemTime {
    begin() + Duration::from_secs(1)
}

fn ended() -> DenyReason {
    DenyReason::LoginEnded { user: UserName::new("jerry").unwrap(), at: later() }
}

fn ssh(world: &World, draft: &SshDraft) -> Result<Permit, AccessDenied> {
    let certificate = draft.wire();
    let credential = Credential::Ssh { certificate: &certificate };
    world.authorizer.authorize(&credential, &node_request("dev-host", "jerry"))
}

#[test]
fn certificates_from_before_are_refused_and_those_from_after_are_not() {
    let world = World::new();
    let session = world.touched("prod-pg");
    world.apply(ended_logins("jerry", later())).unwrap();
    assert_eq!(world.refusal(&world.login(), "dev-pg"), ended());
    assert_eq!(world.refusal(&session, "prod-pg"), ended());
    let after = Draft { not_before: later(), ..Draft::user(&world.login(), world.spki.clone()) };
    let after = [world.user_ca.sign(&after)];
    assert!(world.authorizer.authorize(&Credential::X509(&after), &request("dev-pg")).is_ok());

    world.apply(ended_logins("jerry", begin())).unwrap();
    assert!(world.authorize(&world.login(), "dev-pg").is_ok(), "exactly then is after");
}

#[test]
fn certificates_of_ssh_too() {
    let world = World::new();
    let login = SshDraft::new(&world.login());
    let session = SshDraft::new(&world.node_touched("dev-host", "jerry", &ssh_key_sha256()));
    assert!(ssh(&world, &login).is_ok() && ssh(&world, &session).is_ok());
    world.apply(ended_logins("jerry", later())).unwrap();
    for draft in [login, session] {
        assert_eq!(ssh(&world, &draft).unwrap_err().reason, ended());
        assert!(ssh(&world, &SshDraft { after: later(), ..draft }).is_ok());
    }
}

#[test]
fn a_login_from_before_is_refused_inside_a_new_one() {
    let world = World::new();
    let outer = Draft { not_before: later(), ..Draft::user(&world.login(), world.spki.clone()) };
    let chain = [world.user_ca.sign(&outer)];
    let inner = SshDraft::new(&world.login());
    let judge = |inner: &SshDraft| {
        let certificate = inner.wire();
        let credential = Credential::SshInTls { chain: &chain, certificate: &certificate };
        world.authorizer.authorize(&credential, &node_request("dev-host", "jerry"))
    };
    assert!(judge(&inner).is_ok());
    world.apply(ended_logins("jerry", later())).unwrap();
    assert_eq!(judge(&inner).unwrap_err().reason, ended());
    assert!(judge(&SshDraft { after: later(), ..inner }).is_ok());
}

#[test]
fn who_was_let_in_before_is_asked_again() {
    let world = World::new();
    let chain = [world.certify(&world.touched("prod-pg"))];
    let again = || world.authorizer.authorize(&Credential::X509(&chain), &request("prod-pg"));
    assert!(again().is_ok());
    world.apply(ended_logins("jerry", later())).unwrap();
    let denied = again().unwrap_err();
    assert_eq!(denied.reason, ended());
    assert_eq!(denied.identity.unwrap().user.as_str(), "jerry", "for the audit trail");
    world.apply(delete("ended_logins", "jerry")).unwrap();
    assert!(again().is_ok());
}

#[test]
fn the_logins_of_others_go_on() {
    let world = World::new();
    for other in ["olga", "Jerry", "jerry@example.com"] {
        world.apply(ended_logins(other, later())).unwrap();
    }
    assert!(world.authorize(&world.login(), "dev-pg").is_ok());
}

#[test]
fn a_moment_that_cannot_be_read_ends_all_logins_of_the_user() {
    let world = World::new();
    world.apply(ended_logins("jerry", SystemTime::UNIX_EPOCH)).unwrap_err();
    assert!(matches!(world.refusal(&world.login(), "dev-pg"), DenyReason::LoginEnded { .. }));
}
