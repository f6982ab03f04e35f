use auth::proto;
use tonic::Code;
use uuid::Uuid;

use crate::world::*;

fn batch(spool: Uuid, sequences: impl IntoIterator<Item = u64>) -> proto::EmitAuditRequest {
    let record = |sequence| {
        proto::AuditRecord {
        sequence,
        json: format!(
            r#"{{"event":"db.session.query","time":"2030-01-01T00:00:00Z","server_id":"forged","cluster_name":"forged","n":{sequence}}}"#
        )
        .into(),
    }
    };
    proto::EmitAuditRequest {
        spool_id: spool.to_string(),
        records: sequences.into_iter().map(record).collect(),
    }
}

#[tokio::test]
async fn events_are_acknowledged_once_and_kept_once_across_a_restart() {
    let world = World::new().await;
    let sidecar = world.sidecar(&["pg"]).await;
    let spool = Uuid::new_v4();
    let answer = world.sidecars(&sidecar).await.emit_audit(batch(spool, 1..=3)).await.unwrap().into_inner();
    assert_eq!(answer.acknowledged, 3);
    let world = world.restart().await;
    let answer = world.sidecars(&sidecar).await.emit_audit(batch(spool, 2..=5)).await.unwrap().into_inner();
    assert_eq!(answer.acknowledged, 5);
    let events = world.events("db.session.query").await;
    assert_eq!(events.iter().map(|e| e["n"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    // Whose they are is authd's word.
    assert!(events.iter().all(|event| event["server_id"] == sidecar.id.as_str()));
    assert!(events.iter().all(|event| event["cluster_name"] == "main"));
}

#[tokio::test]
async fn what_is_no_event_is_refused_whole() {
    let world = World::new().await;
    let sidecar = world.sidecar(&["pg"]).await;
    let mut client = world.sidecars(&sidecar).await;
    let spool = Uuid::new_v4();
    let mut broken = batch(spool, 1..=2);
    broken.records[1].json = "[1]".into();
    let mut backwards = batch(spool, [2, 1]);
    backwards.records[0].sequence = 2;
    let mut long = batch(spool, [1]);
    long.records[0].json = format!(r#"{{"event":"{}"}}"#, "x".repeat(300 * 1024)).into();
    let mut nameless = batch(spool, [1]);
    nameless.spool_id = "../../etc".into();
    for request in [broken, backwards, long, nameless] {
        assert_eq!(refused(client.emit_audit(request).await).0, Code::InvalidArgument);
    }
    assert!(world.events("db.session.query").await.is_empty());
}

#[tokio::test]
async fn a_sidecar_cannot_write_what_happened_at_authd() {
    let world = World::new().await;
    let sidecar = world.sidecar(&["pg"]).await;
    let mut client = world.sidecars(&sidecar).await;
    for head in [
        r#""event":"user.login","time":"2030-01-01T00:00:00Z""#,
        r#""event":"cert.create","time":"2030-01-01T00:00:00Z""#,
        r#""event":"lock.deleted","time":"2030-01-01T00:00:00Z""#,
        // Neither may it write what listings would not show.
        r#""event":"db.session.end""#,
        r#""event":"db.session.end","time":"yesterday""#,
        r#""event":7,"time":"2030-01-01T00:00:00Z""#,
    ] {
        let mut request = batch(Uuid::new_v4(), [1]);
        request.records[0].json = format!("{{{head}}}").into();
        assert_eq!(refused(client.emit_audit(request).await).0, Code::InvalidArgument, "{head}");
    }
    assert!(world.events("user.login").await.is_empty());
}

#[tokio::test]
async fn the_time_of_an_event_has_milliseconds() {
    let world = World::new().await;
    world.token(&["db"]).await;
    let events = world.events("join_token.create").await;
    let time = events[0]["time"].as_str().unwrap();
    assert_eq!(time.len(), "2030-01-01T00:00:00.000Z".len(), "{time}");
}
