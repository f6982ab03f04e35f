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
        ..proto::AuditRecord::default()
    }
    };
    proto::EmitAuditRequest {
        spool_id: spool.to_string(),
        records: sequences.into_iter().map(record).collect(),
        sessions: Vec::new(),
    }
}

/// The same, with what the events have in common apart.
fn in_parts(mut batch: proto::EmitAuditRequest, common: &str) -> proto::EmitAuditRequest {
    for record in &mut batch.records {
        let own = format!(
            r#"{{"event":"db.session.query","time":"2030-01-01T00:00:00Z","n":{}}}"#,
            record.sequence
        );
        (record.json, record.own) = (Vec::new().into(), own.into());
    }
    batch.sessions = vec![common.to_owned().into()];
    batch
}

#[tokio::test]
async fn what_events_have_in_common_is_in_each_of_them_in_the_trail() {
    let world = World::new().await;
    let sidecar = world.sidecar(&["pg"]).await;
    let mut client = world.sidecars(&sidecar).await;
    let common = r#"{"user":"jerry","server_id":"forged","db_service":"pg"}"#;
    let mut mixed = in_parts(batch(Uuid::new_v4(), 1..=3), common);
    mixed.records[1] = batch(Uuid::new_v4(), [2]).records.remove(0);
    assert_eq!(client.emit_audit(mixed).await.unwrap().into_inner().acknowledged, 3);
    let events = world.events("db.session.query").await;
    assert_eq!(events.iter().map(|e| e["n"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 3]);
    let said: Vec<_> = events.iter().map(|event| (&event["user"], &event["db_service"])).collect();
    assert_eq!(said[0], (&"jerry".into(), &"pg".into()));
    assert_eq!((said[1], said[2]), ((&serde_json::Value::Null, &serde_json::Value::Null), said[0]));
    assert!(events.iter().all(|event| event["server_id"] == sidecar.id.as_str()));
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
    let mut of_no_session = in_parts(batch(spool, 1..=2), "{}");
    of_no_session.records[1].session = 1;
    let unreadable = in_parts(batch(spool, [1]), "[]");
    let twice = in_parts(batch(spool, [1]), r#"{"n":7}"#);
    let empty = proto::AuditRecord { sequence: 1, ..proto::AuditRecord::default() };
    let empty = proto::EmitAuditRequest { records: vec![empty], ..batch(spool, []) };
    for request in [broken, backwards, long, nameless, of_no_session, unreadable, twice, empty] {
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
