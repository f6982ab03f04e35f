use super::*;

/// Packets by their payloads, as MariaDB 10.11 and MySQL 8.4 lay them out.
const OK_PACKET: &[u8] = b"\x00\x03\x00\x02\x00\x00\x00";
const OK_MORE: &[u8] = b"\x00\x01\x00\x0a\x00\x00\x00";
const OK_AS_EOF: &[u8] = b"\xfe\x00\x00\x22\x00\x00\x00";
const EOF_PACKET: &[u8] = b"\xfe\x00\x00\x02\x00";
const EOF_MORE: &[u8] = b"\xfe\x00\x00\x0a\x00";
const EOF_CURSOR: &[u8] = b"\xfe\x00\x00\x42\x00";
const ERR_PACKET: &[u8] = b"\xff\x7a\x04#42S02Table 'prod.nothing' doesn't exist";
const DEFINITION: &[u8] = b"\x03def\x00\x00\x00\x011\x00\x0c\x3f\x00\x01\x00\x00\x00\x03\x81\x00\x00\x00\x00";
const ROW: &[u8] = b"\x011";
const PROGRESS_REPORT: &[u8] = b"\xff\xff\xff\x01\x01\x02\x10\x27\x00\x08altering";

const OLD: Capabilities = Capabilities::NEEDED;

fn terms(extra: Capabilities) -> Terms {
    Terms::of(OLD | extra)
}

/// What each packet comes to.
fn heard(terms: Terms, reply: Reply, packets: &[&[u8]]) -> Vec<Result<Heard, Wrong>> {
    let mut tracker = Tracker::new(terms);
    tracker.begin(reply);
    let each = |packet: &&[u8]| {
        let wanted = tracker.wanted(packet.len(), packet.first().copied());
        tracker.packet(packet.len(), &packet[..wanted])
    };
    packets.iter().map(each).collect()
}

/// Only the last of these packets ends the answer; what it comes to.
fn ended(terms: Terms, reply: Reply, packets: &[&[u8]]) -> Heard {
    let mut all = heard(terms, reply, packets);
    let last = all.pop().unwrap().unwrap();
    for (place, heard) in all.into_iter().enumerate() {
        let goes_on = match heard.unwrap() {
            Heard::Goes => true,
            Heard::Done { last, .. } | Heard::Prepared { last, .. } => !last,
            _ => false,
        };
        assert!(goes_on, "the answer ended with packet {place}");
    }
    last
}

fn done(rows: u64) -> Heard {
    Heard::Done { rows, in_transaction: Some(false), last: true }
}

#[test]
fn a_command_is_over_with_its_ok_or_its_error() {
    let failed = Heard::Failed { number: Some(1146), sql_state: SqlState::parse(b"42S02") };
    for reply in [Reply::Results, Reply::One] {
        assert_eq!(ended(terms(OLD), reply, &[OK_PACKET]), done(3));
        assert_eq!(ended(terms(OLD), reply, &[ERR_PACKET]), failed);
    }
    assert_eq!(ended(terms(OLD), Reply::One, &[EOF_PACKET]), done(0));
    for reply in [Reply::Prepared, Reply::Rows, Reply::Dump, Reply::Text] {
        assert_eq!(ended(terms(OLD), reply, &[ERR_PACKET]), failed);
    }
    assert_eq!(
        ended(terms(OLD), Reply::Text, &[b"Uptime: 5  Threads: 1"]),
        Heard::Done { rows: 0, in_transaction: None, last: true }
    );
}

#[test]
fn a_result_is_over_with_its_second_eof_or_with_an_ok_in_its_place() {
    let packets = [b"\x01", DEFINITION, EOF_PACKET, ROW, ROW, EOF_PACKET];
    assert_eq!(ended(terms(OLD), Reply::Results, &packets), done(2));
    let packets = [b"\x01", DEFINITION, ROW, OK_AS_EOF];
    assert_eq!(ended(terms(Capabilities::DEPRECATE_EOF), Reply::Results, &packets), done(1));
    let packets = [b"\x01", DEFINITION, EOF_PACKET, ROW, ERR_PACKET];
    assert!(matches!(ended(terms(OLD), Reply::Results, &packets), Heard::Failed { .. }));
}

#[test]
fn a_row_that_begins_like_an_end_is_a_row() {
    // A text of more than 16 MiB begins so; its packet is a full one.
    let huge = [&[0xFE, 0, 0, 0, 1, 0, 0, 0, 0][..], &vec![b'x'; MAX_PAYLOAD - 9]].concat();
    for (extra, end) in [(OLD, EOF_PACKET), (Capabilities::DEPRECATE_EOF, OK_AS_EOF)] {
        let mut packets: Vec<&[u8]> = vec![b"\x01", DEFINITION];
        packets.extend((extra == OLD).then_some(EOF_PACKET));
        packets.extend([&huge[..], end]);
        assert_eq!(ended(terms(extra), Reply::Results, &packets), done(1));
    }
    // The empty text, and NULL.
    let packets = [b"\x01", DEFINITION, EOF_PACKET, b"\x00", b"\xfb", EOF_PACKET];
    assert_eq!(ended(terms(OLD), Reply::Results, &packets), done(2));
}

#[test]
fn several_results_are_one_answer() {
    let packets = [
        b"\x01", DEFINITION, EOF_PACKET, ROW, EOF_MORE, OK_MORE, b"\x01", DEFINITION, EOF_PACKET, EOF_MORE,
        OK_PACKET,
    ];
    let all = heard(terms(OLD), Reply::Results, &packets);
    let rows: Vec<_> = all
        .into_iter()
        .filter_map(|heard| match heard.unwrap() {
            Heard::Done { rows, last, .. } => Some((rows, last)),
            _ => None,
        })
        .collect();
    assert_eq!(rows, [(1, false), (1, false), (0, false), (3, true)]);
}

#[test]
fn a_cursor_is_an_answer_without_rows_and_a_fetch_rows_without_a_head() {
    assert_eq!(ended(terms(OLD), Reply::Results, &[b"\x01", DEFINITION, EOF_CURSOR]), done(0));
    let opened = [b"\x01", DEFINITION, b"\xfe\x00\x00\x42\x00\x00\x00"];
    assert_eq!(ended(terms(Capabilities::DEPRECATE_EOF), Reply::Results, &opened), done(0));
    assert_eq!(ended(terms(OLD), Reply::Rows, &[ROW, ROW, EOF_CURSOR]), done(2));
    assert_eq!(ended(terms(Capabilities::DEPRECATE_EOF), Reply::Rows, &[ROW, OK_AS_EOF]), done(1));
}

#[test]
fn a_prepare_is_over_with_its_last_definition() {
    let head = |parameters: u8, columns: u8| vec![0, 7, 0, 0, 0, columns, 0, parameters, 0, 0, 0, 0];
    for (parameters, columns) in [(0, 0), (2, 0), (0, 1), (2, 1)] {
        for (extra, eofs) in [(OLD, true), (Capabilities::DEPRECATE_EOF, false)] {
            let head = head(parameters, columns);
            let mut packets: Vec<&[u8]> = vec![&head];
            for count in [parameters, columns] {
                packets.extend((0..count).map(|_| DEFINITION));
                packets.extend((count > 0 && eofs).then_some(EOF_PACKET));
            }
            let last = ended(terms(extra), Reply::Prepared, &packets);
            match packets.len() {
                1 => assert_eq!(last, Heard::Prepared { statement: 7, parameters: 0, last: true }),
                _ => assert_eq!(last, Heard::End),
            }
        }
    }
}

#[test]
fn definitions_are_left_out_where_the_upstream_says_so() {
    for extra in [Capabilities::OPTIONAL_METADATA, Capabilities::MARIADB_CACHE_METADATA] {
        let both = terms(extra | Capabilities::DEPRECATE_EOF);
        assert_eq!(ended(both, Reply::Results, &[b"\x01\x01", DEFINITION, ROW, OK_AS_EOF]), done(1));
        assert_eq!(ended(both, Reply::Results, &[b"\x01\x00", ROW, OK_AS_EOF]), done(1));
        assert_eq!(ended(terms(extra), Reply::Results, &[b"\x01\x00", EOF_PACKET, ROW, EOF_PACKET]), done(1));
    }
    let without = [0, 7, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0];
    let optional = terms(Capabilities::OPTIONAL_METADATA | Capabilities::DEPRECATE_EOF);
    let last = ended(optional, Reply::Prepared, &[&without]);
    assert_eq!(last, Heard::Prepared { statement: 7, parameters: 1, last: true });
}

#[test]
fn a_progress_report_is_no_error_where_it_was_asked_for() {
    for flag in [Capabilities::MARIADB_PROGRESS, Capabilities::PROGRESS_OBSOLETE] {
        assert_eq!(
            ended(terms(flag), Reply::Results, &[PROGRESS_REPORT, PROGRESS_REPORT, OK_PACKET]),
            done(3)
        );
    }
    assert!(matches!(ended(terms(OLD), Reply::Results, &[PROGRESS_REPORT]), Heard::Failed { .. }));
}

#[test]
fn a_file_is_wished_for_in_answer_to_a_query_alone() {
    assert_eq!(heard(terms(OLD), Reply::Results, &[b"\xfb/etc/passwd"]), [Ok(Heard::File)]);
    for reply in [Reply::Prepared, Reply::One, Reply::Dump] {
        assert!(heard(terms(OLD), reply, &[b"\xfb/etc/passwd"])[0].is_err());
    }
    assert_eq!(heard(terms(OLD), Reply::Rows, &[b"\xfb/etc/passwd"]), [Ok(Heard::Goes)], "a row with a NULL");
}

#[test]
fn an_open_transaction_is_heard_of() {
    let open = Heard::Done { rows: 0, in_transaction: Some(true), last: true };
    assert_eq!(ended(terms(OLD), Reply::One, &[b"\x00\x00\x00\x03\x00\x00\x00"]), open);
}

#[test]
fn an_answer_that_is_none_is_wrong_and_none_panics() {
    for (reply, packet) in [
        (Reply::Results, &b""[..]),
        (Reply::Results, b"\x00\x01"),
        (Reply::Results, b"\xfc\x01"),
        (Reply::Prepared, b"\x00\x01\x00"),
        (Reply::Prepared, b"\xfe\x00\x00\x02\x00"),
        (Reply::One, b"\x05"),
        (Reply::Dump, b"\x05"),
    ] {
        assert!(heard(terms(OLD), reply, &[packet])[0].is_err(), "{reply:?} {packet:?}");
    }
    assert!(heard(terms(OLD), Reply::Results, &[b"\x01", DEFINITION, ROW])[2].is_err());
}
