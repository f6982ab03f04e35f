//! Start-up packets: what is kept, what is refused, and that no truncation panics.

use super::*;

const PACKET: &[u8] =
    b"user\0alice\0DateStyle\0caf\xe9\0database\0prod\0application_name\0psql\0DateStyle\0ISO\0\0";

fn refusal(content: &[u8]) -> (RefusalCode, String) {
    let refusal = parse(0, content).unwrap_err();
    (refusal.code, refusal.message)
}

fn opening(length: u32, code: u32) -> Opening {
    let mut first = [0; 8];
    first[..4].copy_from_slice(&length.to_be_bytes());
    first[4..].copy_from_slice(&code.to_be_bytes());
    Opening::decide(first)
}

#[test]
fn parameters_go_to_the_upstream_as_bytes_and_in_order() {
    let startup = parse(0, PACKET).unwrap();
    assert_eq!(startup.login.user, "alice");
    assert_eq!(startup.login.database.as_deref(), Some("prod"));
    let packet = encode(&startup.login, &[]).unwrap();
    assert_eq!(packet[..4], (packet.len() as u32).to_be_bytes());
    assert_eq!(
        packet[4..],
        b"\0\x03\0\0user\0alice\0database\0prod\0DateStyle\0caf\xe9\0application_name\0psql\0DateStyle\0ISO\0\0"[..]
    );
}

#[test]
fn what_the_client_sets_is_told_in_order_and_as_it_was_sent() {
    let startup = parse(0, PACKET).unwrap();
    let told: [(&[u8], &[u8]); 3] =
        [(b"DateStyle", b"caf\xe9"), (b"application_name", b"psql"), (b"DateStyle", b"ISO")];
    assert_eq!(parameters(&startup.login), told);
    assert!(parameters(&parse(0, b"user\0a\0\0").unwrap().login).is_empty());
}

#[test]
fn the_database_is_named_like_the_user_by_default() {
    for content in [&b"user\0alice\0\0"[..], b"user\0alice\0database\0\0\0"] {
        assert_eq!(parse(0, content).unwrap().login.database.as_deref(), Some("alice"));
    }
}

#[test]
fn a_packet_cut_short_at_any_byte_is_refused_and_never_panics() {
    for end in 0..PACKET.len() {
        assert_eq!(refusal(&PACKET[..end]).0, RefusalCode::ProtocolViolation, "{end}");
    }
}

#[test]
fn what_the_upstream_could_read_differently_is_refused() {
    let long = [b"user\0".as_slice(), &[b'a'; 64], b"\0\0"].concat();
    for (content, code) in [
        (&b"user\0alice\0user\0postgres\0\0"[..], RefusalCode::ProtocolViolation),
        (b"user\0alice\0database\0a\0database\0b\0\0", RefusalCode::ProtocolViolation),
        (b"user\0alice\0\0user\0postgres\0\0", RefusalCode::ProtocolViolation),
        (b"user\0al\xffice\0\0", RefusalCode::NotAuthenticated),
        (b"database\0prod\0\0", RefusalCode::NotAuthenticated),
        (b"user\0\0\0", RefusalCode::NotAuthenticated),
        (b"\0", RefusalCode::NotAuthenticated),
        (&long, RefusalCode::NotAuthenticated),
    ] {
        assert_eq!(refusal(content).0, code, "{}", String::from_utf8_lossy(content));
    }
}

#[test]
fn replication_is_read_as_postgresql_reads_it() {
    let asked = |value: &str| {
        let content = [b"user\0a\0database\0d\0replication\0", value.as_bytes(), b"\0\0"].concat();
        parse(0, &content).map(|startup| startup.login)
    };
    for (values, replication, sent) in [
        ("true TRUE t tru on ON y yes 1", Replication::Physical, "user\0a\0replication\0true\0\0"),
        ("database", Replication::Logical, "user\0a\0database\0d\0replication\0database\0\0"),
        ("false f fAl no n off of 0", Replication::None, "user\0a\0database\0d\0\0"),
    ] {
        for value in values.split(' ') {
            let login = asked(value).unwrap();
            assert_eq!(login.replication, replication, "{value}");
            assert_eq!(login.database.is_none(), replication == Replication::Physical, "{value}");
            assert_eq!(encode(&login, &[]).unwrap()[8..], *sent.as_bytes(), "{value}");
        }
    }
    for value in ["", "o", "Database", "databas", "truee", "onn", "10", "2"] {
        let refusal = asked(value).unwrap_err();
        assert_eq!(refusal.sql_state, SqlState::parse(b"22023"), "{value}");
    }
    let twice = b"user\0a\0replication\0false\0replication\0true\0\0";
    assert_eq!(refusal(twice).0, RefusalCode::ProtocolViolation);
}

#[test]
fn unknown_protocol_options_are_named_and_not_forwarded() {
    let startup = parse(9999, b"user\0a\0_pq_.x\0y\0\0").unwrap();
    assert!(startup.version.needs_negotiation());
    assert_eq!(startup.version.unknown_options, ["_pq_.x"]);
    assert!(!encode(&startup.login, &[]).unwrap().windows(5).any(|window| window == b"_pq_."));
    assert!(!parse(2, b"user\0a\0\0").unwrap().version.needs_negotiation());
}

#[test]
fn eight_bytes_decide() {
    assert_eq!(opening(8, 80_877_103), Opening::SslRequest);
    assert_eq!(opening(9, 80_877_103), Opening::BadLength);
    assert_eq!(opening(8, 80_877_104), Opening::GssEncRequest);
    assert_eq!(opening(16, 80_877_102), Opening::Cancel { length: 8 });
    assert_eq!(opening(268, 80_877_102), Opening::Cancel { length: 260 });
    assert_eq!(opening(15, 80_877_102), Opening::BadLength);
    assert_eq!(opening(269, 80_877_102), Opening::BadLength);
    assert_eq!(opening(10_000, 0x0003_0002), Opening::Startup { minor: 2, length: 9_992 });
    assert_eq!(opening(10_001, 0x0003_0000), Opening::BadLength);
    assert_eq!(opening(8, 0x0003_0000), Opening::BadLength);
    assert_eq!(opening(u32::MAX, 0x0003_0000), Opening::BadLength);
    assert_eq!(opening(100, 0x0002_0000), Opening::Unknown);
    assert_eq!(Opening::decide(*b"GET / HT"), Opening::Unknown);
}
