use serde_json::Value;

use aws_lc_rs::digest;
use protocols::{
    Event, Malformed, PreparedKind,
    frame::{Frame, Framing as _},
    postgres::Messages,
};

use super::{statement::MAX_TEXT_BYTES, *};

fn renderer() -> Renderer {
    Renderer::new(&Subject {
        sid: Uuid::nil(),
        cluster_name: "main".to_owned(),
        server_id: "sidecar".to_owned(),
        user: Some("jerry \"the\" user".to_owned()),
        target: SubjectTarget::Database {
            db_service: "prod-pg".to_owned(),
            db_protocol: "postgres",
            db_uri: "localhost:5432".to_owned(),
            db_user: "app".to_owned(),
            db_name: Some("app".to_owned()),
        },
        remote: "[::1]:5000".parse().unwrap(),
        with_mfa: Some(DeviceId(Uuid::nil())),
    })
}

fn rendered(append: impl FnOnce(&Renderer, &mut Vec<u8>)) -> String {
    let (renderer, mut line) = (renderer(), Vec::new());
    append(&renderer, &mut line);
    append_members(&mut line, renderer.common().as_bytes());
    String::from_utf8(line).unwrap()
}

fn parse(json: &str) -> Value {
    assert!(!json.contains('\n'), "an event is one line");
    serde_json::from_str(json).unwrap()
}

fn observed_with(event: &Event<'_>, parameters: Parameters) -> Value {
    let body = Body::of(event, 2, parameters).unwrap();
    parse(&rendered(|renderer, line| renderer.observed(line, 3, SystemTime::UNIX_EPOCH, &body)))
}

fn observed(event: &Event<'_>) -> Value {
    observed_with(event, Parameters::Recorded)
}

fn query(text: &[u8], cut: u64) -> Value {
    observed(&Event::Query { text, cut })
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
fn a_long_query_is_cut_and_says_so_with_length_and_hash_of_the_whole() {
    let text = vec![b'x'; MAX_TEXT_BYTES + 1];
    let event = query(&text, 0);
    assert_eq!(event["db_query"].as_str().unwrap().len(), MAX_TEXT_BYTES);
    assert_eq!((&event["db_query_cut"], &event["db_query_bytes"]), (&true.into(), &text.len().into()));
    assert_eq!(event["db_query_sha256"], hex::encode(digest::digest(&digest::SHA256, &text).as_ref()));
    assert!(query(b"select 1", 0).get("db_query_cut").is_none());
}

#[test]
fn of_a_query_that_is_not_all_at_hand_no_hash_is_given_that_might_be_taken_for_the_wholes() {
    let event = query(&vec![b'x'; MAX_TEXT_BYTES + 1], 5);
    assert_eq!(event["db_query_cut"], true);
    assert!(event.get("db_query_sha256").is_none() && event.get("db_query_bytes").is_none());
}

#[test]
fn whatever_bytes_come_the_event_is_one_that_authd_takes() {
    for byte in [0x01, b'"', b'\\', 0xff, b'x'] {
        let text = vec![byte; MAX_TEXT_BYTES * 2];
        let bind = bind_message(&[(false, Some(&text)), (true, Some(&text)), (false, Some(b"x"))]);
        for event in [Event::Query { text: &text, cut: 0 }, bound(&bind)] {
            let body = Body::of(&event, 0, Parameters::Recorded).unwrap();
            let json = rendered(|renderer, line| renderer.observed(line, 1, SystemTime::now(), &body));
            assert!(json.len() < crate::audit::spool::MAX_RECORD_BYTES - 4096, "{byte}: {}", json.len());
        }
    }
}

/// A Bind as it is sent: portal `p`, statement `s`; values are binary or text, and bytes or NULL.
fn bind_message(values: &[(bool, Option<&[u8]>)]) -> Vec<u8> {
    let count = u16::try_from(values.len()).unwrap().to_be_bytes();
    let mut content = b"p\0s\0".to_vec();
    content.extend(count);
    content.extend(values.iter().flat_map(|(binary, _)| u16::from(*binary).to_be_bytes()));
    content.extend(count);
    for (_, value) in values {
        content.extend(value.map_or(-1, |value| i32::try_from(value.len()).unwrap()).to_be_bytes());
        content.extend(value.unwrap_or_default());
    }
    content.extend([0, 0]);
    let length = u32::try_from(content.len() + 4).unwrap().to_be_bytes();
    [b"B", &length[..], &content].concat()
}

fn bound(message: &[u8]) -> Event<'_> {
    Messages.event(Frame { bytes: message, cut: 0 }).unwrap()
}

#[test]
fn values_are_recorded_text_as_text_binary_as_base64_and_null_as_null() {
    let message = bind_message(&[
        (false, Some(b"O'Brien")),
        (true, Some(&[0, 0, 0, 7])),
        (false, None),
        (false, Some(b"AAAABw==")),
    ]);
    let event = observed(&bound(&message));
    assert_eq!(event["event"], "db.session.postgres.statements.bind");
    assert_eq!(event["code"], "TPG01I");
    assert_eq!((&event["statement_name"], &event["portal_name"]), (&"s".into(), &"p".into()));
    assert_eq!(event["parameters"], serde_json::json!(["O'Brien", "AAAABw==", null, "AAAABw=="]));
    assert_eq!(event["parameters_base64"], serde_json::json!([1]));
    assert_eq!(event["parameter_count"], 4);
    assert!(event.get("parameters_cut").is_none());
}

#[test]
fn values_that_are_withheld_leave_their_number_alone() {
    let message = bind_message(&[(false, Some(b"a secret")), (true, Some(b"another"))]);
    let event = observed_with(&bound(&message), Parameters::Withheld);
    assert_eq!(event["parameter_count"], 2);
    assert!(event.get("parameters").is_none() && event.get("parameters_base64").is_none(), "{event}");
    assert!(!event.to_string().contains("secret"));
}

#[test]
fn a_value_in_another_encoding_is_recorded_as_it_was_sent() {
    let event =
        observed(&bound(&bind_message(&[(false, Some(b"caf\xe9")), (false, Some("caf\u{e9}".as_bytes()))])));
    assert_eq!(event["parameters"], serde_json::json!(["Y2Fm6Q==", "caf\u{e9}"]));
    assert_eq!(event["parameters_base64"], serde_json::json!([0]));
}

#[test]
fn of_values_that_were_cut_length_and_hash_are_on_record() {
    // The last of them is a statement, behind more values than are written down.
    let mut values = vec![(false, Some(&b"x"[..])); 1024];
    values.push((false, Some(b"drop table orders")));
    let message = bind_message(&values);
    let event = observed(&bound(&message));
    let sent = &message[message.len() - (1024 * 5 + 21 + 2)..];
    assert_eq!((&event["parameters_cut"], &event["parameters_bytes"]), (&true.into(), &sent.len().into()));
    assert_eq!(event["parameters_sha256"], hex::encode(digest::digest(&digest::SHA256, sent).as_ref()));
    let end = Event::ValuesEnd { sha256: [7; 32], length: 70_000 };
    let event = observed(&end);
    assert_eq!((&event["event"], &event["code"]), (&"db.session.query.digest".into(), &"TTS01I".into()));
    assert_eq!((&event["statement_ei"], &event["parameters_bytes"]), (&2.into(), &70_000.into()));
    assert!(Body::of(&end, 2, Parameters::Withheld).is_none());
}

#[test]
fn names_read_the_same_where_postgresql_takes_them_for_one_and_tell_what_was_sent() {
    let parsed = |statement: &[u8]| observed(&Event::Parse { statement, text: b"select 1", cut: 0 });
    // It tells them apart by 63 bytes.
    let [one, other] = [b'1', b'2'].map(|last| parsed(&[&[b'n'; 63][..], &[last]].concat()));
    assert_eq!(one["statement_name"], "n".repeat(63));
    assert_eq!(one["statement_name"], other["statement_name"]);
    assert_ne!(one["statement_name_base64"], other["statement_name_base64"]);
    // In LATIN1, these are two.
    let [one, other] = [&b"\xe8"[..], b"\xe9"]
        .map(|name| observed(&Event::Execute { portal: name, max_rows: 0 })["portal_name_base64"].clone());
    assert_eq!((one, other), ("6A==".into(), "6Q==".into()));
    assert!(parsed(b"s").get("statement_name_base64").is_none());
    let close = Event::Close { kind: PreparedKind::Portal, name: &[b'p'; 64] };
    assert_eq!(observed(&close)["portal_name"], "p".repeat(63));
}

#[test]
fn more_values_than_are_written_down_are_said_to_be_more() {
    let message = bind_message(&vec![(false, Some(&b"x"[..])); 1025]);
    let event = observed(&bound(&message));
    assert_eq!((&event["parameter_count"], &event["parameters_cut"]), (&1025.into(), &true.into()));
    assert_eq!(event["parameters"].as_array().unwrap().len(), 1024);
}

#[test]
fn each_message_has_teleports_name_and_code() {
    let statement = PreparedKind::Statement;
    for (event, name, code) in [
        (
            Event::Parse { statement: b"s", text: b"select $1", cut: 0 },
            "db.session.postgres.statements.parse",
            "TPG00I",
        ),
        (Event::Execute { portal: b"p", max_rows: 5 }, "db.session.postgres.statements.execute", "TPG02I"),
        (Event::Close { kind: statement, name: b"s" }, "db.session.postgres.statements.close", "TPG03I"),
        (
            Event::Close { kind: PreparedKind::Portal, name: b"p" },
            "db.session.postgres.statements.close",
            "TPG03I",
        ),
        (Event::Malformed { reason: Malformed::UnknownType(0) }, "db.session.malformed_packet", "TDB06I"),
    ] {
        let recorded = observed(&event);
        assert_eq!((&recorded["event"], &recorded["code"]), (&name.into(), &code.into()));
    }
    let call = [&b"F\0\0\0\x0e"[..], &[0, 0, 0, 7, 0, 0, 0, 0, 0, 0]].concat();
    let called = observed(&Messages.event(Frame { bytes: &call, cut: 0 }).unwrap());
    assert_eq!(
        (&called["event"], &called["code"]),
        (&"db.session.postgres.function".into(), &"TPG04I".into())
    );
    assert_eq!(called["function_oid"], 7);
}

#[test]
fn the_example_of_the_documentation_is_what_is_written() {
    let mut outcome = Outcome::of(3);
    outcome.hear(&protocols::Answer::Completed { tag: b"DELETE 1" }, 0);
    outcome.took(Duration::from_micros(1204));
    let json = rendered(|renderer, line| renderer.result(line, 4, SystemTime::UNIX_EPOCH, &outcome));
    let own = r#""statement_ei":3,"success":true,"duration_ms":1.204,"rows":1,"command_tags":["DELETE 1"],"#;
    assert!(json.contains(own), "{json}");
    assert!(include_str!("outcome.rs").contains(own));
}

#[test]
fn a_session_too_many_is_rejected_by_teleports_name() {
    let rejected = Rejected { reason: "max_connections limit reached", maximum: 2 };
    let event = parse(&renderer().rejected(0, SystemTime::UNIX_EPOCH, &rejected));
    assert_eq!((&event["event"], &event["code"]), (&"session.rejected".into(), &"T1006W".into()));
    assert_eq!((&event["reason"], &event["maximum"]), (&rejected.reason.into(), &2.into()));
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
fn what_the_client_set_is_in_the_start_event_in_order() {
    let parameters: [(&[u8], &[u8]); 3] =
        [(b"client_encoding", b"SJIS"), (b"options", b"-c role=admin"), (b"client_encoding", b"GBK")];
    let started = Started::new("access-prod".to_owned(), None).with_parameters(&parameters);
    let event = parse(&renderer().started(0, SystemTime::UNIX_EPOCH, &started));
    assert_eq!(
        event["startup_parameters"],
        serde_json::json!(["client_encoding=SJIS", "options=-c role=admin", "client_encoding=GBK"])
    );
    assert!(event.get("startup_parameters_base64").is_none());
    assert_eq!(started.client_encoding(), Some("GBK"));
    let started = Started::new("access-prod".to_owned(), None).with_parameters(&[(b"a", b"\xe9")]);
    let event = parse(&renderer().started(0, SystemTime::UNIX_EPOCH, &started));
    assert_eq!(event["startup_parameters_base64"], "YQDpAA==");
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

/// The codes that a file of ours writes, without tests.
fn codes(source: &str) -> Vec<&str> {
    let code = source.split("#[cfg(test)]").next().unwrap();
    let is_code = |text: &&str| {
        text.len() == 6
            && text.starts_with('T')
            && text.ends_with(['I', 'W', 'E'])
            && text.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase())
    };
    code.split('"').filter(is_code).collect()
}

#[test]
fn every_event_is_on_the_page_of_its_protocol() {
    let (of_all, results) = (codes(include_str!("../event.rs")), codes(include_str!("outcome.rs")));
    let statements = codes(include_str!("statement.rs"));
    let (common, nodes): (Vec<_>, Vec<_>) = of_all.into_iter().partition(|code| code.starts_with("TDB"));
    let databases = [common, results, vec!["T1006W", "TDB02I", "TDB06I", "TTS01I"]].concat();
    for (page, words, written) in [
        ("postgresql.md", include_str!("../../../../docs/postgresql.md"), statements),
        ("mysql.md", include_str!("../../../../docs/mysql.md"), codes(include_str!("mysql.rs"))),
        ("ssh.md", include_str!("../../../../docs/ssh.md"), codes(include_str!("ssh.rs"))),
    ] {
        assert!(!written.is_empty());
        let of_all = if page == "ssh.md" { &nodes } else { &databases };
        for code in written.iter().chain(of_all) {
            // Where the page has the code of what went well, it says what those of the rest look like.
            let went_well = format!("{}I", &code[..5]);
            assert!(words.contains(code) || words.contains(&went_well), "{code} is not in {page}");
        }
    }
}
