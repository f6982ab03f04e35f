use std::{pin::pin, time::Duration};

use futures_util::FutureExt;

use super::*;
use crate::{
    authorizer::Authorizer,
    testing::{
        HOUR, MINUTE, World, now,
        world::{ACCESS_DEV, ACCESS_PROD, delete, ended_logins, lock, preference, resource},
    },
};

/// Long enough that a session which does not end now does not end.
const LONG: Duration = Duration::from_secs(3600 * 24);

async fn goes_on(ended: &mut (impl Future<Output = Ended> + Unpin)) -> bool {
    ended.now_or_never().is_none()
}

#[tokio::test]
async fn a_session_that_nothing_happens_to_goes_on() {
    let world = World::new();
    let permit = world.authorize(&world.touched("prod-pg"), "prod-pg").unwrap();
    let mut ended = pin!(permit.ended());
    assert!(goes_on(&mut ended).await);
    world.clock.advance(HOUR * 3);
    assert!(goes_on(&mut ended).await, "expiry alone ends no session");
}

#[tokio::test]
async fn a_lock_ends_the_session() {
    let world = World::new();
    let permit = world.authorize(&world.touched("prod-pg"), "prod-pg").unwrap();
    let mut ended = pin!(permit.ended());
    assert!(goes_on(&mut ended).await);
    world.apply(lock(r#""user":"jerry""#)).unwrap();
    let message = r#"lock targeting User:"jerry" is in force: Suspicious activity."#.to_owned();
    assert_eq!(ended.await, Ended::Locked { message });
}

#[tokio::test]
async fn a_lock_that_came_between_decision_and_watching_ends_the_session() {
    let world = World::new();
    let permit = world.authorize(&world.login(), "dev-pg").unwrap();
    world.apply(lock(r#""server_id":"dev-pg""#)).unwrap();
    assert!(matches!(permit.ended().await, Ended::Locked { .. }));
}

#[tokio::test]
async fn a_login_that_is_ended_ends_the_sessions_opened_with_it() {
    let world = World::new();
    let touched = world.authorize(&world.touched("prod-pg"), "prod-pg").unwrap();
    let untouched = world.authorize(&world.login(), "dev-pg").unwrap();
    let (mut first, mut second) = (pin!(touched.ended()), pin!(untouched.ended()));
    let begin = now() - MINUTE;
    world.apply(ended_logins("jerry", begin)).unwrap();
    assert!(goes_on(&mut first).await && goes_on(&mut second).await, "they are of a login from after");
    let at = begin + Duration::from_secs(1);
    world.apply(ended_logins("jerry", at)).unwrap();
    assert_eq!(first.await, Ended::LoginEnded { at });
    assert_eq!(second.await, Ended::LoginEnded { at });
}

#[tokio::test]
async fn a_lock_on_the_device_ends_what_was_opened_with_it_and_nothing_else() {
    let world = World::new();
    let touched = world.authorize(&world.touched("prod-pg"), "prod-pg").unwrap();
    let untouched = world.authorize(&world.login(), "dev-pg").unwrap();
    world.apply(lock(&format!(r#""mfa_device":"{}""#, world.key.id))).unwrap();
    assert!(matches!(touched.ended().await, Ended::Locked { .. }));
    assert!(goes_on(&mut pin!(untouched.ended())).await);
}

#[tokio::test]
async fn a_policy_change_that_takes_the_right_away_ends_the_session() {
    let world = World::new();
    let permit = world.authorize(&world.login(), "dev-pg").unwrap();
    let mut ended = pin!(permit.ended());
    assert!(goes_on(&mut ended).await);
    world.apply(resource("role", "access-dev", &ACCESS_DEV.replace(r#"["app"]"#, r#"["other"]"#))).unwrap();
    assert_eq!(ended.await, Ended::PolicyChanged);
}

#[tokio::test]
async fn a_policy_change_that_leaves_the_right_leaves_the_session() {
    let world = World::new();
    let permit = world.authorize(&world.login(), "dev-pg").unwrap();
    let mut ended = pin!(permit.ended());
    assert!(goes_on(&mut ended).await);
    let wider = ACCESS_DEV.replace(r#"["app"]"#, r#"["app","other"]"#);
    world.apply(resource("role", "access-dev", &wider)).unwrap();
    assert!(goes_on(&mut ended).await);
}

#[tokio::test]
async fn a_touch_that_becomes_required_ends_sessions_without_one() {
    let world = World::new();
    let untouched = world.authorize(&world.login(), "dev-pg").unwrap();
    let touched = world.authorize(&world.touched("prod-pg"), "prod-pg").unwrap();
    world.apply(preference(r#""require_session_mfa":true"#)).unwrap();
    assert_eq!(untouched.ended().await, Ended::PolicyChanged);
    assert!(goes_on(&mut pin!(touched.ended())).await);
}

#[tokio::test]
async fn a_touch_that_grows_too_old_ends_no_session_that_has_begun() {
    let world = World::new();
    let permit = world.authorize(&world.touched("prod-pg"), "prod-pg").unwrap();
    let mut ended = pin!(permit.ended());
    let interval = r#""options":{"mfa_verification_interval":"30m","#;
    world.apply(resource("role", "access-prod", &ACCESS_PROD.replace(r#""options":{"#, interval))).unwrap();
    world.clock.advance(HOUR * 5);
    assert!(goes_on(&mut ended).await);
}

#[tokio::test]
async fn a_role_that_goes_away_ends_the_session() {
    let world = World::new();
    let permit = world.authorize(&world.login(), "dev-pg").unwrap();
    world.apply(delete("role", "access-dev")).unwrap();
    assert_eq!(permit.ended().await, Ended::PolicyChanged);
}

#[tokio::test]
async fn a_lock_that_cannot_be_read_ends_the_session() {
    let world = World::new();
    let permit = world.authorize(&world.login(), "dev-pg").unwrap();
    world.apply(resource("lock", "stop", "{}")).unwrap_err();
    assert_eq!(permit.ended().await, Ended::PolicyChanged);
}

#[tokio::test(start_paused = true)]
async fn where_asked_for_a_session_ends_when_the_login_behind_it_expires() {
    let world = World::new();
    world.apply(preference(r#""disconnect_expired_cert":true"#)).unwrap();
    let permit = world.authorize(&world.touched("prod-pg"), "prod-pg").unwrap();
    let mut ended = pin!(permit.ended());
    world.clock.set(now() + MINUTE * 30);
    assert!(goes_on(&mut ended).await, "the session certificate's own minute does not count");
    world.clock.set(now() + HOUR);
    assert_eq!(ended.await, Ended::CertificateExpired { at: now() + HOUR });
}

#[tokio::test(start_paused = true)]
async fn where_asked_for_a_session_of_a_login_certificate_ends_with_it() {
    let world = World::new();
    world.apply(preference(r#""disconnect_expired_cert":true"#)).unwrap();
    let permit = world.authorize(&world.login(), "dev-pg").unwrap();
    let mut ended = pin!(permit.ended());
    assert!(goes_on(&mut ended).await);
    world.clock.set(now() + HOUR);
    assert_eq!(ended.await, Ended::CertificateExpired { at: now() + HOUR });
}

#[tokio::test(start_paused = true)]
async fn disconnecting_that_is_switched_on_later_holds_for_live_sessions() {
    let world = World::new();
    let permit = world.authorize(&world.login(), "dev-pg").unwrap();
    world.clock.set(now() + HOUR * 2);
    let mut ended = pin!(permit.ended());
    assert!(goes_on(&mut ended).await);
    world.apply(preference(r#""disconnect_expired_cert":true"#)).unwrap();
    assert_eq!(ended.await, Ended::CertificateExpired { at: now() + HOUR });
}

#[tokio::test(start_paused = true)]
async fn a_stale_replica_ends_the_session_where_locking_is_strict() {
    let world = World::new();
    world.apply(preference(r#""locking_mode":"strict""#)).unwrap();
    let permit = world.authorize(&world.login(), "dev-pg").unwrap();
    let mut ended = pin!(permit.ended());
    assert!(goes_on(&mut ended).await);
    world.clock.advance(STALE_AFTER);
    assert_eq!(ended.await, Ended::ReplicaStale);
}

#[tokio::test(start_paused = true)]
async fn a_stale_replica_does_not_end_the_session_where_locking_is_best_effort() {
    let world = World::new();
    let permit = world.authorize(&world.login(), "dev-pg").unwrap();
    world.clock.advance(STALE_AFTER * 100);
    assert!(tokio::time::timeout(LONG, permit.ended()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_role_that_expires_ends_the_session() {
    let world = World::new();
    let named = r#"{"name":"access-dev","expires":"2026-01-01T00:10:00Z"}"#;
    world
        .apply(resource("role", "access-dev", &ACCESS_DEV.replace(r#"{"name":"access-dev"}"#, named)))
        .unwrap();
    let permit = world.authorize(&world.login(), "dev-pg").unwrap();
    let mut ended = pin!(permit.ended());
    assert!(goes_on(&mut ended).await);
    world.clock.advance(MINUTE * 10);
    assert_eq!(ended.await, Ended::PolicyChanged);
}

#[test]
fn a_permit_and_its_end_can_move_between_tasks() {
    fn is_send<T: Send>(_: T) {}
    let world = World::new();
    let permit = world.authorize(&world.login(), "dev-pg").unwrap();
    is_send(permit.ended());
    is_send(permit);
    is_send::<Authorizer>(world.authorizer);
}
