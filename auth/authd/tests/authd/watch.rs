use std::time::Duration;

use auth::{
    clock::Clock,
    proto::{self, watch_event::Event},
    replica::Replica,
};
use tonic::Streaming;

use crate::world::*;

/// The events of a snapshot, and the stream that goes on.
pub(crate) async fn snapshot(world: &World, sidecar: &Sidecar) -> (Vec<Event>, Streaming<proto::WatchEvent>) {
    let mut stream = world.sidecars(sidecar).await.watch(proto::WatchRequest {}).await.unwrap().into_inner();
    let mut events = Vec::new();
    loop {
        match stream.message().await.unwrap().unwrap().event.unwrap() {
            Event::SnapshotEnd(_) => return (events, stream),
            event => events.push(event),
        }
    }
}

pub(crate) async fn next_change(stream: &mut Streaming<proto::WatchEvent>) -> Event {
    let change = async {
        loop {
            match stream.message().await.unwrap().unwrap().event.unwrap() {
                Event::Heartbeat(_) => {}
                event => return event,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(1), change).await.expect("a change is told within a second")
}

#[tokio::test]
async fn a_snapshot_holds_what_decisions_need_and_no_private_key() {
    let world = World::new().await;
    world.person_with_key("olga", &["access"]).await;
    let sidecar = world.sidecar(&["pg"]).await;
    let (events, _stream) = snapshot(&world, &sidecar).await;
    let Event::Cluster(facts) = &events[0] else { panic!("facts first") };
    assert_eq!((facts.cluster_name.as_str(), facts.webauthn_rp_id.as_str()), ("main", "localhost"));
    assert_eq!(facts.webauthn_origins, [format!("https://{}", world.server.public_addr())]);
    let text = format!("{events:?}");
    for needed in ["\"access\"", "cluster_auth_preference", "db_client", "olga"] {
        assert!(text.contains(needed), "{needed}");
    }
    for event in &events {
        if let Event::Put(proto::watch_event::Put {
            item: Some(proto::watch_event::put::Item::Authority(a)),
        }) = event
        {
            match a.r#type.as_str() {
                "openssh" => assert!(a.certificates.is_empty() && a.ssh_public_keys.len() == 1),
                _ => drop(x509_parser::parse_x509_certificate(&a.certificates[0]).unwrap()),
            }
        }
    }
    assert!(!text.contains("PRIVATE") && !text.contains("ssh_seed"));
}

#[tokio::test]
async fn a_change_is_told_within_a_second_and_a_login_is_none() {
    let world = World::new().await;
    let mut jerry = world.person_with_totp("jerry", &["access"]).await;
    let sidecar = world.sidecar(&["pg"]).await;
    let (_, mut stream) = snapshot(&world, &sidecar).await;
    world.login(&mut jerry).await;
    world.put("kind: lock\nversion: v2\nmetadata: {name: l1}\nspec: {target: {user: jerry}}\n").await;
    let Event::Put(proto::watch_event::Put { item: Some(proto::watch_event::put::Item::Resource(put)) }) =
        next_change(&mut stream).await
    else {
        panic!("not a resource")
    };
    assert_eq!((put.kind.as_str(), put.name.as_str()), ("lock", "l1"));
    let request = proto::DeleteResourceRequest { kind: "lock".into(), name: "l1".into() };
    world.admin().await.delete_resource(request).await.unwrap();
    let Event::Delete(gone) = next_change(&mut stream).await else { panic!("not a deletion") };
    assert_eq!((gone.kind.as_str(), gone.name.as_str()), ("lock", "l1"));

    world.cap("require_session_mfa: true").await;
    assert!(matches!(next_change(&mut stream).await, Event::Cluster(_)));
    assert!(matches!(next_change(&mut stream).await, Event::Put(_)));
}

#[tokio::test]
async fn a_replica_takes_every_event() {
    let world = World::new().await;
    world.person_with_key("olga", &["access", "editor"]).await;
    world.person_with_totp("jerry", &["auditor"]).await;
    let sidecar = world.sidecar(&["pg"]).await;
    let (events, _stream) = snapshot(&world, &sidecar).await;
    let replica = Replica::new(Clock::system());
    let end = Event::SnapshotEnd(proto::watch_event::SnapshotEnd {});
    for event in events.into_iter().chain([end]) {
        replica.apply(proto::WatchEvent { event: Some(event) }).unwrap();
    }
    assert!(replica.is_ready());
}

#[tokio::test]
async fn watching_ends_when_authd_stops() {
    let world = World::new().await;
    let sidecar = world.sidecar(&["pg"]).await;
    let (_, mut stream) = snapshot(&world, &sidecar).await;
    let stop = tokio::spawn(world.server.stop());
    let end = async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(5), end).await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), stop).await.unwrap().unwrap();
}
