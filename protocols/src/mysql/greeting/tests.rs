//! Greetings of named versions, read and given again.

use mysql_common::packets::HandshakePacket;
use mysql_common::proto::MyDeserialize;

use super::*;

/// MariaDB 10.11.19 of Debian 12, as captured.
const MARIADB: &[u8] = b"\x0a5.5.5-10.11.19-MariaDB-0+deb12u1\0\x03\0\0\0a[$@VpP~\0\xfe\xff-\x02\0\xff\x81\x15\0\0\0\0\0\0\x1d\0\0\0MEPDEie=An)}\0mysql_native_password\0";

/// MySQL 9.7.4 of Debian's unstable suite, as captured.
const MYSQL_9: &[u8] = include_bytes!("mysql-9.7.4.bin");

/// Made by hand, as MySQL 8.4 lays it out.
const MYSQL: &[u8] = b"\x0a8.4.6\0\x0b\0\0\0\x11\x22\x33\x44\x55\x66\x77\x18\0\xff\xff\xff\x02\0\xff\xdf\x15\0\0\0\0\0\0\0\0\0\0\x21\x32\x43\x54\x65\x76\x07\x18\x29\x3a\x4b\x5c\0caching_sha2_password\0";

#[test]
fn a_mariadb_is_known_by_its_greeting() {
    let greeting = parse(MARIADB).unwrap();
    assert_eq!(greeting.facts.version, "5.5.5-10.11.19-MariaDB-0+deb12u1");
    assert!(greeting.facts.is_mariadb());
    assert!(greeting.facts.capabilities.contains(Capabilities::MARIADB_BULK | Capabilities::SSL));
    assert_eq!((greeting.facts.charset, greeting.facts.status, greeting.thread_id), (45, 2, 3));
    assert_eq!((greeting.scramble.len(), &greeting.plugin[..]), (SCRAMBLE, &b"mysql_native_password"[..]));
}

#[test]
fn a_mysql_is_known_by_its_greeting() {
    let greeting = parse(MYSQL).unwrap();
    assert!(!greeting.facts.is_mariadb());
    assert!(greeting.facts.capabilities.contains(Capabilities::QUERY_ATTRIBUTES | Capabilities::SSL));
    assert_eq!(greeting.facts.capabilities.extended(), 0);
    assert_eq!((greeting.scramble.len(), &greeting.plugin[..]), (SCRAMBLE, PLUGIN));
}

#[test]
fn a_mysql_9_is_known_by_its_greeting() {
    let greeting = parse(MYSQL_9).unwrap();
    let facts = &greeting.facts;
    assert_eq!((facts.version.as_str(), facts.charset, facts.status), ("9.7.4-2", 255, 2));
    assert!(!facts.is_mariadb() && greeting.plugin == PLUGIN && greeting.scramble.len() == SCRAMBLE);
    assert_eq!((facts.capabilities.flags(), facts.capabilities.extended()), (0xDFFF_FFFF, 0));
    let relayed = facts.capabilities.and(Capabilities::RELAYED);
    assert!(offer(facts).contains(relayed | Capabilities::QUERY_ATTRIBUTES | Capabilities::SESSION_TRACK));
}

#[test]
fn clients_are_greeted_with_the_upstreams_own_facts() {
    for captured in [MARIADB, MYSQL, MYSQL_9] {
        let upstream = parse(captured).unwrap();
        let offered = offer(&upstream.facts) | Capabilities::SSL;
        let scramble = scramble().unwrap();
        let ours = encode(&upstream.facts.version, &upstream.facts, offered, 1 << 31, &scramble);
        let read = parse(&ours).unwrap();
        assert_eq!(read.facts, UpstreamFacts { capabilities: offered, ..upstream.facts });
        assert_eq!((read.thread_id, &read.scramble[..], &read.plugin[..]), (1 << 31, &scramble[..], PLUGIN));
        let theirs = HandshakePacket::deserialize((), &mut mysql_common::io::ParseBuf(&ours)).unwrap();
        assert_eq!(theirs.nonce(), scramble);
        assert_eq!(theirs.capabilities().bits(), offered.flags());
        assert!(offered.contains(Capabilities::COMPRESS | Capabilities::ZSTD), "whatever the upstream can");
    }
}

#[test]
fn a_greeting_cut_short_at_any_byte_never_panics() {
    for whole in [MARIADB, MYSQL, MYSQL_9] {
        // The name of the plugin may end anywhere.
        let needed = whole.len() - parse(whole).unwrap().plugin.len() - 1;
        for end in 0..whole.len() {
            assert_eq!(parse(&whole[..end]).is_ok(), end >= needed, "{end}");
        }
    }
}

#[test]
fn what_is_no_greeting_is_refused() {
    let long = [&b"\x0a"[..], &[b'8'; MAX_VERSION + 1], &MYSQL[6..]].concat();
    for payload in [&b""[..], b"\x09old\0", b"\x0a\0", b"\x0a8\x1b[2J\0", b"\x0a\xff\0", &long] {
        assert!(parse(payload).is_err());
    }
    for length in 0..=u8::MAX {
        let mut strange = MYSQL.to_vec();
        strange[27] = length;
        // No length of a scramble is a panic.
        let _ = parse(&strange);
    }
}

#[test]
fn scrambles_are_fresh_and_hold_nothing_that_ends_or_separates() {
    let scrambles: Vec<_> = (0..100).map(|_| scramble().unwrap()).collect();
    assert!(scrambles.iter().flatten().all(|byte| (1..0x80).contains(byte) && *byte != b'$'));
    let distinct: std::collections::HashSet<_> = scrambles.iter().collect();
    assert_eq!(distinct.len(), scrambles.len());
}

#[test]
fn a_configured_version_is_shown_in_place_of_the_upstreams() {
    let facts = parse(MYSQL).unwrap().facts;
    assert_eq!(Greeting::unknown().version(&facts), "8.4.6");
    let configured = |version: &str| Greeting::unknown().with_version(version).version(&facts).to_owned();
    assert_eq!(configured("5.7.44"), "5.7.44");
    assert_eq!(configured("5.7\0.44\n"), "5.7.44");
    assert_eq!(configured(""), "8.4.6");
    assert_eq!(configured(&"9".repeat(200)).len(), MAX_VERSION);
}

#[test]
fn what_is_learned_is_known_to_every_copy() {
    let greeting = Greeting::unknown();
    let copy = greeting.clone();
    assert_eq!(copy.facts(), None);
    let facts = Arc::new(parse(MYSQL).unwrap().facts);
    greeting.learn(Arc::clone(&facts));
    assert_eq!(copy.facts(), Some(facts));
}
