use crate::{
    denied::DenyReason,
    identity::RoleName,
    proto::watch_event::{Event, Heartbeat, SnapshotEnd},
    testing::{
        MINUTE, World,
        world::{ACCESS_DEV, delete, device, preference, resource},
    },
};

use super::*;

fn heartbeat() -> Event {
    Event::Heartbeat(Heartbeat { time: 0 })
}

fn knows(replica: &Replica, role: &str) -> bool {
    replica.snapshot().role(&RoleName::new(role).unwrap()).is_some()
}

#[test]
fn half_a_snapshot_is_never_seen() {
    let world = World::empty();
    let mut events = world.events();
    let end = events.pop().unwrap();
    for event in events {
        world.apply(event).unwrap();
        assert!(!world.replica.is_ready());
        assert!(!knows(&world.replica, "access-dev"));
        assert_eq!(world.refusal(&world.login(), "dev-pg"), DenyReason::ReplicaNotReady);
    }
    world.apply(end).unwrap();
    assert!(world.replica.is_ready());
    assert_eq!(world.replica.snapshot().generation(), 1);
}

#[test]
fn after_a_break_the_old_snapshot_holds_until_the_new_one_is_complete() {
    let world = World::new();
    let before = world.replica.snapshot().generation();
    world.replica.begin();
    world.apply(resource("role", "new", &ACCESS_DEV.replace("access-dev", "new"))).unwrap();
    assert!(!knows(&world.replica, "new") && knows(&world.replica, "access-dev"));
    assert_eq!(world.replica.snapshot().generation(), before);

    // It breaks off again and begins anew: what was half received is forgotten.
    world.replica.begin();
    for event in world.events() {
        world.apply(event).unwrap();
    }
    assert!(!knows(&world.replica, "new") && knows(&world.replica, "access-dev"));
    assert_eq!(world.replica.snapshot().generation(), before + 1);
}

#[test]
fn what_a_new_snapshot_does_not_bring_is_gone() {
    let world = World::new();
    world.replica.begin();
    for event in world.events() {
        if !matches!(&event, Event::Put(put) if format!("{put:?}").contains("access-prod")) {
            world.apply(event).unwrap();
        }
    }
    assert!(knows(&world.replica, "access-dev") && !knows(&world.replica, "access-prod"));
}

#[test]
fn each_change_is_a_new_generation_and_is_told() {
    let world = World::new();
    let changes = world.replica.changes();
    let before = world.replica.snapshot().generation();
    world.apply(delete("role", "access-dev")).unwrap();
    assert_eq!(world.replica.snapshot().generation(), before + 1);
    assert!(changes.has_changed().unwrap());
    assert_eq!(*changes.borrow(), before + 1);
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_changes_nothing_but_the_age() {
    let world = World::new();
    let changes = world.replica.changes();
    world.clock.advance(MINUTE);
    assert_eq!(world.replica.age(), Some(MINUTE));
    world.apply(heartbeat()).unwrap();
    assert_eq!(world.replica.age(), Some(Duration::ZERO));
    assert!(!changes.has_changed().unwrap());
}

#[test]
fn an_unfinished_snapshot_does_not_make_the_old_one_young() {
    let world = World::new();
    world.replica.begin();
    world.clock.advance(MINUTE);
    world.apply(heartbeat()).unwrap();
    world.apply(preference("")).unwrap();
    assert_eq!(world.replica.age(), Some(MINUTE));
}

#[tokio::test(start_paused = true)]
async fn a_clock_set_back_while_authd_is_away_does_not_make_the_snapshot_young() {
    let world = World::new();
    // Four minutes pass, and the clock is set back by four minutes; again and again.
    tokio::time::advance(MINUTE * 12).await;
    assert_eq!(world.replica.age(), Some(MINUTE * 12));
    // A machine that slept knows it by its wall clock alone.
    world.clock.advance(MINUTE * 20);
    assert_eq!(world.replica.age(), Some(MINUTE * 20));
    world.apply(heartbeat()).unwrap();
    assert_eq!(world.replica.age(), Some(Duration::ZERO));
}

#[test]
fn the_age_is_known_while_an_event_is_being_taken() {
    let world = World::new();
    let _taking = world.replica.incoming();
    assert!(world.replica.age().is_some());
    assert!(world.authorize(&world.login(), "dev-pg").is_ok(), "no decision waits for the stream");
}

#[test]
fn an_empty_replica_has_no_age() {
    assert_eq!(World::empty().replica.age(), None);
}

#[test]
fn a_snapshot_without_facts_or_preference_is_not_ready() {
    for missing in 0..World::empty().events().len() - 1 {
        let world = World::empty();
        let mut events = world.events();
        let gone = events.remove(missing);
        let essential = matches!(&gone, Event::Cluster(_)) || format!("{gone:?}").contains("auth_preference");
        events.into_iter().for_each(|event| world.apply(event).unwrap());
        assert_eq!(world.replica.is_ready(), !essential, "without {gone:?}");
    }
}

#[test]
fn a_preference_that_was_deleted_makes_the_replica_not_ready() {
    let world = World::new();
    world.apply(delete("cluster_auth_preference", "cluster-auth-preference")).unwrap();
    assert!(!world.replica.is_ready());
    world.apply(preference("")).unwrap();
    assert!(world.replica.is_ready());
}

#[test]
fn a_role_that_cannot_be_read_takes_its_predecessor_away() {
    let world = World::new();
    let error = world.apply(resource("role", "access-dev", "{")).unwrap_err();
    assert!(matches!(error, ReplicaError::Resource { .. }));
    assert!(!knows(&world.replica, "access-dev"));
    assert!(world.replica.is_ready(), "other roles still count");
}

#[test]
fn a_resource_under_another_name_is_refused() {
    let world = World::new();
    let error = world.apply(resource("role", "access-prod", ACCESS_DEV)).unwrap_err();
    assert!(matches!(error, ReplicaError::Misnamed { .. }));
    assert!(!knows(&world.replica, "access-prod"));
    let error = world.apply(resource("lock", "access-dev", ACCESS_DEV)).unwrap_err();
    assert!(matches!(error, ReplicaError::Misnamed { .. }));
    assert!(!world.replica.is_ready(), "it was meant to be a lock");
}

#[test]
fn a_device_that_cannot_be_read_takes_its_predecessor_away() {
    let world = World::new();
    let Event::Put(mut put) = device(&world.key, "jerry") else { unreachable!() };
    if let Some(proto::watch_event::put::Item::DeviceKey(device)) = &mut put.item {
        device.cose_public_key.clear();
    }
    let error = world.apply(Event::Put(put)).unwrap_err();
    assert!(matches!(error, ReplicaError::DeviceKey { .. }));
    assert!(world.replica.snapshot().device(world.key.id).is_none());
}

#[test]
fn events_that_say_nothing_are_reported_and_change_no_rights() {
    let world = World::new();
    for event in [
        Some(Event::Put(proto::watch_event::Put { item: None })),
        Some(delete("session", "x")),
        Some(Event::SnapshotEnd(SnapshotEnd {})),
        None,
    ] {
        let error = world.replica.apply(proto::WatchEvent { event }).unwrap_err();
        assert!(matches!(error, ReplicaError::UnknownEvent { .. }));
    }
    assert!(world.authorize(&world.login(), "dev-pg").is_ok());
}
