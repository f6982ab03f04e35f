use protocols::{Event, FileFate, KillFate, MysqlEvent};
use serde_json::{Value as Json, json};

use super::*;
use crate::audit::event::Body;

/// What is written down, and under which name and code.
fn recorded(event: MysqlEvent<'_>) -> (Json, &'static str, &'static str) {
    let body = Body::of(&Event::Mysql(event), 0, Parameters::Recorded).unwrap();
    let (name, code) = body.name_and_code();
    (serde_json::to_value(&body).unwrap(), name, code)
}

#[test]
fn each_command_has_teleports_name_code_and_fields() {
    for (event, name, code, fields) in [
        (
            MysqlEvent::Prepare { text: b"select ?", cut: 0 },
            "statements.prepare",
            "TMY00I",
            json!({"db_query": "select ?"}),
        ),
        (
            MysqlEvent::LongData { statement: 1, parameter: 2, bytes: 3 },
            "statements.send_long_data",
            "TMY02I",
            json!({"statement_id": 1, "parameter_id": 2, "data_size": 3}),
        ),
        (MysqlEvent::Close { statement: 1 }, "statements.close", "TMY03I", json!({"statement_id": 1})),
        (MysqlEvent::Reset { statement: 1 }, "statements.reset", "TMY04I", json!({"statement_id": 1})),
        (
            MysqlEvent::Fetch { statement: 1, rows: 9 },
            "statements.fetch",
            "TMY05I",
            json!({"statement_id": 1, "rows_count": 9}),
        ),
        (MysqlEvent::InitDb { schema: b"a" }, "init_db", "TMY07I", json!({"schema_name": "a"})),
        (MysqlEvent::CreateDb { schema: b"a" }, "create_db", "TMY08I", json!({"schema_name": "a"})),
        (MysqlEvent::DropDb { schema: b"a" }, "drop_db", "TMY09I", json!({"schema_name": "a"})),
        (MysqlEvent::ShutDown, "shut_down", "TMY10I", json!({})),
        (MysqlEvent::Debug, "debug", "TMY12I", json!({})),
        (MysqlEvent::Refresh { bits: 0x05 }, "refresh", "TMY13I", json!({"subcommand": "grant,tables"})),
        (MysqlEvent::Refresh { bits: 0 }, "refresh", "TMY13I", json!({"subcommand": "0"})),
    ] {
        assert_eq!(recorded(event), (fields, &*format!("db.session.mysql.{name}"), code));
    }
}

#[test]
fn what_is_refused_says_so_and_has_a_code_of_warning() {
    let kill = |fate| MysqlEvent::Kill { text: Some(b"KILL 2147483649"), thread: 2_147_483_649, fate };
    for (event, code) in [
        (kill(KillFate::NotOwner), "TMY11W"),
        (kill(KillFate::UnknownThread), "TMY11W"),
        (MysqlEvent::ChangeUser { user: b"root", database: b"prod" }, "TTS13W"),
        (MysqlEvent::Replication { command: "COM_BINLOG_DUMP", allowed: false }, "TTS14W"),
        (MysqlEvent::LocalInfile { name: b"/etc/passwd", fate: FileFate::NotNamed }, "TTS15W"),
        (MysqlEvent::LocalInfile { name: b"a.csv", fate: FileFate::NotAllowed }, "TTS15W"),
        (MysqlEvent::Unknown { command: 254 }, "TTS17W"),
    ] {
        let (body, _, said) = recorded(event);
        assert_eq!((said, &body["success"]), (code, &json!(false)), "{body}");
    }
    for (event, code) in [
        (kill(KillFate::Mapped { thread: 7 }), "TMY11I"),
        (MysqlEvent::Replication { command: "COM_BINLOG_DUMP", allowed: true }, "TTS14I"),
        (MysqlEvent::LocalInfile { name: b"a.csv", fate: FileFate::Asked }, "TTS15I"),
    ] {
        let (body, _, said) = recorded(event);
        assert_eq!((said, &body["success"]), (code, &json!(true)), "{body}");
    }
}

#[test]
fn a_kill_names_both_numbers_and_its_text() {
    let (thread, fate) = (2_147_483_649, KillFate::Mapped { thread: 7 });
    let (body, ..) = recorded(MysqlEvent::Kill { text: Some(b"KILL QUERY 2147483649"), thread, fate });
    let expected = json!({
        "success": true,
        "process_id": 2_147_483_649_u64,
        "upstream_process_id": 7,
        "db_query": "KILL QUERY 2147483649",
    });
    assert_eq!(body, expected);
}

#[test]
fn a_ping_is_not_written_down() {
    let ping = Event::Mysql(MysqlEvent::Harmless { command: 14 });
    assert!(Body::of(&ping, 0, Parameters::Recorded).is_none());
}

fn room() -> Room {
    Room { text: MAX_TEXT_BYTES, json: MAX_JSON_BYTES }
}

fn empty() -> Values {
    let (in_parts, unset) = (Vec::new(), Vec::new());
    Values {
        parameter_count: None,
        parameters: None,
        parameters_base64: Vec::new(),
        parameters_in_parts: in_parts,
        parameters_unset: unset,
        parameters_cut: false,
    }
}

#[test]
fn every_value_is_written_as_people_write_it() {
    let time = (3, 4, 5, 60);
    for (value, text) in [
        (Value::Int(-7), "-7"),
        (Value::Unsigned(u64::MAX), "18446744073709551615"),
        (Value::Float(1.5), "1.5"),
        (Value::Double(-0.25), "-0.25"),
        (Value::Text { bytes: "é".as_bytes(), cut: 0 }, "é"),
        (Value::Bytes { bytes: b"plain", cut: 0 }, "plain"),
        (Value::Date { year: 2026, month: 1, day: 2, time: None }, "2026-01-02"),
        (Value::Date { year: 0, month: 0, day: 0, time: Some(time) }, "0000-00-00 03:04:05.000060"),
        (Value::Time { negative: true, days: 2, time: (3, 4, 5, 0) }, "-2 03:04:05"),
    ] {
        let mut values = empty();
        assert_eq!(values.value(0, &value, &mut room()).as_deref(), Some(text));
        assert!(values.parameters_base64.is_empty());
    }
}

#[test]
fn what_is_no_text_is_base64_and_what_is_not_there_is_null_with_a_reason() {
    let mut values = empty();
    let said = |values: &mut Values, index, value| values.value(index, &value, &mut room());
    assert_eq!(said(&mut values, 0, Value::Text { bytes: b"\xff\xfe", cut: 0 }).as_deref(), Some("//4="));
    assert_eq!(said(&mut values, 1, Value::Null), None);
    assert_eq!(said(&mut values, 2, Value::InParts), None);
    assert_eq!(said(&mut values, 3, Value::Default), None);
    assert_eq!(
        (values.parameters_base64, values.parameters_in_parts, values.parameters_unset),
        (vec![0], vec![2], vec![3])
    );
}

#[test]
fn a_character_that_is_cut_in_the_middle_makes_no_text_into_bytes() {
    assert!(is_text("é".as_bytes(), 2));
    assert!(is_text(b"x\xc3", 3));
    assert!(!is_text(b"x\xc3", 2));
    assert!(!is_text(b"\xc3x", 9));
}
