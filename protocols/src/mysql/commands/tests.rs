use super::*;
use crate::mysql::capabilities::Capabilities;

fn decide(flags: Capabilities, kind: u8, content: &[u8]) -> Result<(String, Fate), Malformed> {
    let judge = Judge {
        terms: Terms::of(Capabilities::NEEDED | flags),
        replication_allowed: false,
        kill: |thread| match thread {
            1 => KillFate::Mapped { thread: 77 },
            2 => KillFate::NotOwner,
            3 => KillFate::UnknownThread,
            _ => KillFate::AsSent,
        },
    };
    let mut statements = Statements::default();
    let (event, fate) = judge.decide(Command { kind, content, cut: 0 }, &mut statements)?;
    Ok((format!("{event:?}"), fate))
}

fn fate(kind: u8, content: &[u8]) -> Fate {
    decide(Capabilities::NONE, kind, content).unwrap().1
}

/// The number of the ERR that the client is told.
fn refused(fate: &Fate) -> Option<u16> {
    match fate {
        Fate::Refuse(payload) => crate::mysql::responses::number_and_state(payload).0,
        _ => None,
    }
}

#[test]
fn every_command_is_answered_as_mysql_answers_it() {
    for (kind, content, expected) in [
        (INIT_DB, &b"prod"[..], Fate::Forward(Reply::One)),
        (QUERY, b"select 1", Fate::Forward(Reply::Results)),
        (FIELD_LIST, b"t\0%", Fate::Forward(Reply::Rows)),
        (STATISTICS, b"", Fate::Forward(Reply::Text)),
        (PROCESS_INFO, b"", Fate::Forward(Reply::Results)),
        (PING, b"", Fate::Forward(Reply::One)),
        (STMT_PREPARE, b"select ?", Fate::Forward(Reply::Prepared)),
        (STMT_EXECUTE, b"\x01\0\0\0\0\x01\0\0\0", Fate::Forward(Reply::Results)),
        (STMT_SEND_LONG_DATA, b"\x01\0\0\0\0\0x", Fate::Silent),
        (STMT_CLOSE, b"\x01\0\0\0", Fate::Silent),
        (STMT_RESET, b"\x01\0\0\0", Fate::Forward(Reply::One)),
        (STMT_FETCH, b"\x01\0\0\0\x05\0\0\0", Fate::Forward(Reply::Rows)),
        (STMT_BULK_EXECUTE, b"\x01\0\0\0\x80\0", Fate::Forward(Reply::Results)),
        (SET_OPTION, b"\0\0", Fate::Forward(Reply::One)),
        (RESET_CONNECTION, b"", Fate::Reset),
        (SHUTDOWN, b"\0", Fate::Forward(Reply::One)),
    ] {
        assert_eq!(fate(kind, content), expected, "{kind}");
    }
}

#[test]
fn what_is_not_known_or_hides_what_it_does_is_refused() {
    // COM_SLEEP, COM_CONNECT, COM_TIME, COM_TABLE_DUMP, COM_DAEMON, COM_CLONE, MariaDB's COM_MULTI, and none.
    for kind in [0, 11, 15, 19, 29, 32, 254, 255] {
        assert_eq!(refused(&fate(kind, b"x")), Some(1047), "{kind}");
    }
}

#[test]
fn another_user_is_refused_whoever_it_is() {
    let (event, fate) = decide(Capabilities::NONE, CHANGE_USER, b"root\0\x02ab\0").unwrap();
    assert_eq!(refused(&fate), Some(1045));
    assert!(event.contains("ChangeUser"), "{event}");
    assert!(decide(Capabilities::NONE, CHANGE_USER, b"root\0\x09ab\0").is_err());
}

#[test]
fn replication_is_refused_without_the_right_to_it() {
    for kind in [BINLOG_DUMP, BINLOG_DUMP_GTID, REGISTER_SLAVE] {
        assert_eq!(refused(&fate(kind, b"\x04\0\0\0\0\0\x01\0\0\0")), Some(1227), "{kind}");
    }
    let judge = Judge {
        terms: Terms::of(Capabilities::NEEDED),
        replication_allowed: true,
        kill: |_| KillFate::AsSent,
    };
    let command = Command { kind: BINLOG_DUMP, content: b"", cut: 0 };
    let mut statements = Statements::default();
    let (_, fate) = judge.decide(command, &mut statements).unwrap();
    assert_eq!(fate, Fate::Forward(Reply::Dump));
}

#[test]
fn a_kill_by_our_number_becomes_one_by_the_upstreams() {
    assert_eq!(fate(QUERY, b"KILL QUERY 1"), Fate::Instead(b"\x03KILL QUERY 77".to_vec(), Reply::Results));
    assert_eq!(fate(PROCESS_KILL, b"\x01\0\0\0"), Fate::Instead(vec![PROCESS_KILL, 77, 0, 0, 0], Reply::One));
    let attributes = decide(Capabilities::QUERY_ATTRIBUTES, QUERY, b"\0\x01KILL 1").unwrap().1;
    assert_eq!(attributes, Fate::Instead(b"\x03\0\x01KILL 77".to_vec(), Reply::Results));
}

#[test]
fn a_kill_of_somebody_elses_session_or_of_none_is_refused_as_mysql_refuses_it() {
    assert_eq!(refused(&fate(QUERY, b"KILL 2")), Some(1095));
    assert_eq!(refused(&fate(QUERY, b"KILL 3")), Some(1094));
    assert_eq!(refused(&fate(PROCESS_KILL, b"\x02\0\0\0")), Some(1095));
    assert_eq!(fate(QUERY, b"KILL 4"), Fate::Forward(Reply::Results), "the upstream decides");
}

#[test]
fn a_text_is_found_behind_its_attributes_or_the_command_is_malformed() {
    let (event, _) = decide(Capabilities::QUERY_ATTRIBUTES, QUERY, b"\0\x01select 1").unwrap();
    assert!(event.contains(&format!("{:?}", b"select 1")), "{event}");
    let cut_short = decide(Capabilities::QUERY_ATTRIBUTES, QUERY, b"\x05\x01");
    assert_eq!(cut_short.unwrap_err(), Malformed::Content(QUERY));
}

#[test]
fn commands_that_do_not_hold_what_they_say_are_malformed() {
    for (kind, content) in
        [(STMT_EXECUTE, &b"\x01\0"[..]), (PROCESS_KILL, b"\x01"), (SET_OPTION, b""), (STMT_CLOSE, b"")]
    {
        assert_eq!(decide(Capabilities::NONE, kind, content).unwrap_err(), Malformed::Content(kind));
    }
}
