use serde_json::Value;

use super::*;

fn renderer() -> Renderer {
    Renderer::new(&Subject {
        sid: Uuid::nil(),
        cluster_name: "main".to_owned(),
        server_id: "sidecar".to_owned(),
        user: Some("jerry \"the\" user".to_owned()),
        db_service: "prod-pg".to_owned(),
        db_protocol: "postgres",
        db_uri: "localhost:5432".to_owned(),
        db_user: "app".to_owned(),
        db_name: Some("app".to_owned()),
        remote: "[::1]:5000".parse().unwrap(),
        with_mfa: Some(DeviceId(Uuid::nil())),
    })
}

fn parse(json: &str) -> Value {
    assert!(!json.contains('\n'), "an event is one line");
    serde_json::from_str(json).unwrap()
}

fn query(text: &[u8], cut: u64) -> Value {
    parse(&renderer().observed(3, SystemTime::UNIX_EPOCH, &Event::Query { text, cut }))
}

#[test]
fn every_event_carries_the_session_and_its_own_fields() {
    let event = query(b"select 1", 0);
    for (field, value) in [
        ("event", "db.session.query"),
        ("code", "TDB02I"),
        ("time", "1970-01-01T00:00:00.000Z"),
        ("sid", "00000000-0000-0000-0000-000000000000"),
        ("cluster_name", "main"),
        ("user", "jerry \"the\" user"),
        ("db_service", "prod-pg"),
        ("addr.remote", "[::1]:5000"),
        ("with_mfa", "00000000-0000-0000-0000-000000000000"),
        ("db_query", "select 1"),
    ] {
        assert_eq!(event[field], value, "{field}");
    }
    assert_eq!(event["ei"], 3);
    assert!(event.get("db_query_bytes").is_none());
}

#[test]
fn a_long_query_is_cut_and_says_so() {
    let text = vec![b'x'; MAX_TEXT_BYTES + 1];
    let event = query(&text, 5);
    assert_eq!(event["db_query"].as_str().unwrap().len(), MAX_TEXT_BYTES);
    assert_eq!(event["db_query_bytes"], MAX_TEXT_BYTES as u64 + 6);
    let seen = hex::encode(digest::digest(&digest::SHA256, &text).as_ref());
    assert_eq!(event["db_query_sha256"], seen);
}

#[test]
fn bytes_that_json_escapes_longest_stay_within_one_record() {
    let text = vec![0x01; MAX_TEXT_BYTES * 2];
    let json = renderer().observed(1, SystemTime::now(), &Event::Query { text: &text, cut: 0 });
    assert!(json.len() <= super::super::MAX_RECORD_BYTES, "{}", json.len());
}

#[test]
fn a_query_in_another_encoding_is_recorded_lossily() {
    assert_eq!(query(b"select '\xff\n'", 0)["db_query"], "select '\u{fffd}\n'");
}

#[test]
fn the_receipt_is_in_the_start_event() {
    let started = Started::new("access-prod".to_owned(), Some(&[1, 2, 3]));
    let event = parse(&renderer().started(0, SystemTime::UNIX_EPOCH, &started));
    assert_eq!((&event["code"], &event["success"]), (&"TDB00I".into(), &true.into()));
    assert_eq!(event["receipt"], "AQID");
    assert_eq!(event["decided_by"], "access-prod");
}

#[test]
fn a_denied_start_says_what_the_client_was_told_and_what_it_was_not() {
    let denied =
        Denied::new("access to resource requires MFA", "mfa_required", "role access-prod".to_owned());
    let event = parse(&renderer().denied(0, SystemTime::UNIX_EPOCH, &denied));
    assert_eq!((&event["code"], &event["success"]), (&"TDB00W".into(), &false.into()));
    assert_eq!(event["error"], "access to resource requires MFA");
    assert_eq!(event["message"], event["error"]);
    assert_eq!(event["detail"], "role access-prod");
}
