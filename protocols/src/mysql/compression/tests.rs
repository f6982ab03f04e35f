use std::io::Write as _;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use crate::Malformed;
use crate::mysql::desk::{Desk, FileState, State};
use crate::mysql::framing;

use super::*;

const BOTH: [Algorithm; 2] = [Algorithm::Zlib, Algorithm::Zstd(3)];

/// A compressed packet, as the other side packs.
fn pack(algorithm: Algorithm, number: u8, content: &[u8]) -> Vec<u8> {
    let packed = match algorithm {
        Algorithm::Zlib => {
            let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
            zlib.write_all(content).unwrap();
            zlib.finish().unwrap()
        }
        Algorithm::Zstd(level) => zstd::bulk::compress(content, level.into()).unwrap(),
    };
    envelope(number, &packed, content.len())
}

/// With whatever length it says to hold.
fn envelope(number: u8, content: &[u8], unpacked: usize) -> Vec<u8> {
    let [a, b, c, ..] = (content.len() as u32).to_le_bytes();
    let [x, y, z, ..] = (unpacked as u32).to_le_bytes();
    [&[a, b, c, number, x, y, z], content].concat()
}

/// A stream of compressed packets, unpacked.
fn unpacked(algorithm: Algorithm, bytes: &[u8]) -> Vec<u8> {
    let (out, malformed) = unpack_all(algorithm, bytes, bytes.len().max(1), 4096);
    assert_eq!(malformed, None);
    out
}

fn query(length: usize) -> Vec<u8> {
    let text: Vec<u8> =
        b"\x03select ".iter().copied().chain((0..length).map(|place| (place % 7) as u8)).collect();
    framing::packet(0, &text)
}

#[test]
fn what_was_packed_comes_out_however_it_is_cut() {
    for algorithm in BOTH {
        let commands = [query(10), query(3_000), query(200_000)];
        let mut bytes = envelope(0, &commands[0], 0);
        bytes.extend(pack(algorithm, 0, &commands[1]));
        // One command in several compressed packets, cut anywhere: their numbers go on.
        for (number, piece) in (0..).zip(commands[2].chunks(70_001)) {
            bytes.extend(pack(algorithm, number, piece));
        }
        for (step, space) in [(bytes.len(), 65_536), (1, 65_536), (7, 5), (1_000, 1), (bytes.len(), 3)] {
            let (out, malformed) = unpack_all(algorithm, &bytes, step, space);
            assert!(malformed.is_none() && out == commands.concat(), "{step} {space} {malformed:?}");
        }
    }
}

/// As on a slow line, where a session is polled for other reasons many times before the rest of a packet is there.
#[test]
fn asking_again_before_more_is_there_changes_nothing() {
    for algorithm in BOTH {
        let content = query(200_000);
        let bytes = pack(algorithm, 0, &content);
        let (mut unpacking, mut numbers) = (Unpacking::new(algorithm), Numbers::new(Desk::new()));
        let (mut out, mut space) = (Vec::new(), vec![0; 65_536]);
        let (header, content_packed) = bytes.split_at(HEADER);
        for mut fresh in std::iter::once(header).chain(content_packed.chunks(1)) {
            for _ in 0..20 {
                let step = unpacking.unpack(fresh, &mut space, &mut numbers).unwrap();
                out.extend_from_slice(&space[..step.given]);
                fresh = &fresh[step.taken..];
            }
        }
        assert!(out == content, "{algorithm:?}");
    }
}

#[test]
fn what_says_to_hold_another_length_is_refused() {
    for algorithm in BOTH {
        let content = query(1_000);
        let honest = pack(algorithm, 0, &content);
        let packed = &honest[HEADER..];
        for (bytes, reason) in [
            (envelope(0, packed, content.len() - 1), "it holds more than it says"),
            (envelope(0, packed, 1), "it holds more than it says"),
            (envelope(0, packed, content.len() + 1), "it holds less than it says"),
            (envelope(0, packed, 0xFF_FFFF), "it holds less than it says"),
            (envelope(0, &[packed, b"more"].concat(), content.len()), "something stands behind its end"),
            (envelope(0, &packed[..packed.len() - 1], content.len()), "it is cut short"),
            (envelope(0, &packed[..3], content.len()), "it is cut short"),
            (envelope(0, b"this is neither", content.len()), "it cannot be unpacked"),
            (envelope(0, b"", 0), "it is empty"),
            (envelope(0, b"", 10), "it is empty"),
        ] {
            for step in [1, 50, bytes.len()] {
                let (_, malformed) = unpack_all(algorithm, &bytes, step, 4096);
                assert_eq!(malformed, Some(Malformed::Compression(reason)), "{algorithm:?} {step}");
            }
        }
    }
}

/// 16 MiB of nothing in 16 KiB: no more of it is held than there is space for, and no more comes out than it says.
#[test]
fn a_bomb_goes_off_a_buffer_at_a_time() {
    for algorithm in BOTH {
        let bomb = pack(algorithm, 0, &vec![0; 0xFF_FFFF]);
        assert!(bomb.len() < 20_000, "{}", bomb.len());
        let mut numbers = Numbers::new(Desk::new());
        let mut unpacking = Unpacking::new(algorithm);
        let (mut space, mut at, mut given) = (vec![0; SHOWN], 0, 0);
        while given < 0xFF_FFFF {
            let step = unpacking.unpack(&bomb[at..], &mut space, &mut numbers).unwrap();
            assert!(step.given > 0 || step.taken > 0);
            (at, given) = (at + step.taken, given + step.given);
        }
        assert_eq!(given, 0xFF_FFFF);
        let armed = envelope(0, &bomb[HEADER..], 1_000_000);
        let (out, malformed) = unpack_all(algorithm, &armed, armed.len(), SHOWN);
        assert_eq!(malformed, Some(Malformed::Compression("it holds more than it says")));
        assert!(out.len() <= 1_000_000);
    }
}

/// A frame of zstd says itself how long a window it needs.
#[test]
fn a_window_that_is_longer_than_what_it_shows_is_not_made() {
    let mut zstd = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    zstd.set_parameter(zstd::stream::raw::CParameter::WindowLog(27)).unwrap();
    zstd.write_all(&query(100)).unwrap();
    zstd.flush().unwrap();
    let packed = zstd.finish().unwrap();
    let bytes = envelope(0, &packed, query(100).len());
    let (_, malformed) = unpack_all(Algorithm::Zstd(1), &bytes, bytes.len(), 4096);
    assert_eq!(malformed, Some(Malformed::Compression("it cannot be unpacked")));
}

#[test]
fn outer_numbers_are_checked_as_mysqls_own_library_checks_them() {
    let (first, second) = (query(10), query(100));
    let (front, back) = second.split_at(50);
    for (bytes, expected, found) in [
        (envelope(1, &first, 0), 0, 1),
        ([envelope(0, &first, 0), envelope(1, &first, 0)].concat(), 0, 1),
        ([envelope(0, front, 0), envelope(0, back, 0)].concat(), 1, 0),
        ([envelope(0, front, 0), envelope(2, back, 0)].concat(), 1, 2),
    ] {
        let (_, malformed) = unpack_all(Algorithm::Zlib, &bytes, bytes.len(), 4096);
        assert_eq!(malformed, Some(Malformed::Sequence { expected, found }));
    }
}

#[test]
fn inner_numbers_are_made_whatever_the_client_says() {
    // A command, and one that is continued: the second packet is number 1.
    let odd = b"\x02\0\0\x09\x03a".to_vec();
    assert_eq!(unpacked(Algorithm::Zlib, &envelope(0, &odd, 0)), b"\x02\0\0\0\x03a");
    let full = [b"\xff\xff\xff\x55".to_vec(), vec![3; 0xFF_FFFF], b"\x01\0\0\x55z".to_vec()].concat();
    let mut bytes = Vec::new();
    for (number, piece) in (0..).zip(full.chunks(10_000_000)) {
        bytes.extend(pack(Algorithm::Zlib, number, piece));
    }
    let out = unpacked(Algorithm::Zlib, &bytes);
    assert_eq!((out[3], &out[4 + 0xFF_FFFF..]), (0, &b"\x01\0\0\x01z"[..]));
}

fn with_state(desk: &Desk, change: impl FnOnce(&mut State)) {
    change(&mut desk.lock());
}

/// After several results, MySQL's library counts a file's packets from the outer numbers, and the upstream from its own.
#[test]
fn a_files_packets_go_on_with_the_upstreams_numbers() {
    let desk = Desk::new();
    let mut numbers = Numbers::new(Arc::clone(&desk));
    let (mut leaving, mut written) = (Leaving::default(), Vec::new());
    numbers.arrive(0).unwrap();
    let mut command = query(10);
    numbers.renumber(&mut command);
    // Six packets of the upstream's in one of ours: its wish for the file is number 6, and ours is in number 1.
    let six: Vec<u8> = (1..=6).flat_map(|number| framing::packet(number, b"x")).collect();
    leaving.push(&mut written, Algorithm::Zlib, &mut numbers, &six);
    assert_eq!((written[3], &written[HEADER..]), (1, &six[..]));
    with_state(&desk, |state| (state.file, state.sequence) = (FileState::Flows, 7));
    numbers.arrive(2).unwrap();
    let mut file = b"\x01\0\0\x02a\x01\0\0\x03b".to_vec();
    numbers.renumber(&mut file);
    assert_eq!(file, b"\x01\0\0\x07a\x01\0\0\x08b");
    numbers.arrive(3).unwrap();
    let mut end = b"\0\0\0\x04".to_vec();
    numbers.renumber(&mut end);
    assert_eq!(end, b"\0\0\0\x09");
    with_state(&desk, |state| state.file = FileState::None);
    written.clear();
    leaving.push(&mut written, Algorithm::Zlib, &mut numbers, &framing::packet(10, b"OK"));
    assert_eq!((written[3], written[HEADER + 3]), (4, 4), "as MySQL counts on");
    numbers.arrive(0).unwrap();
    let mut next = b"\x01\0\0\x04\x0e".to_vec();
    numbers.renumber(&mut next);
    assert_eq!(next, b"\x01\0\0\0\x0e");
}

#[test]
fn each_answer_is_numbered_from_its_command_on() {
    let desk = Desk::new();
    let mut numbers = Numbers::new(Arc::clone(&desk));
    let mut leaving = Leaving::default();
    let mut leave = |numbers: &mut Numbers| {
        let mut written = Vec::new();
        leaving.push(&mut written, Algorithm::Zlib, numbers, &framing::packet(77, b"piece"));
        assert_eq!(written[3], written[HEADER + 3], "one packet in each");
        written[3]
    };
    // Two commands before any answer.
    for _ in 0..2 {
        numbers.arrive(0).unwrap();
        numbers.renumber(&mut query(10));
    }
    assert_eq!([leave(&mut numbers), leave(&mut numbers)], [1, 2]);
    with_state(&desk, |state| state.answers += 1);
    assert_eq!(leave(&mut numbers), 3);
    assert_eq!([leave(&mut numbers), leave(&mut numbers)], [1, 2]);
    with_state(&desk, |state| state.answers += 1);
    assert_eq!(leave(&mut numbers), 3);
    // A command in two packets: its answer begins with number 2.
    let command = query(100);
    let (front, back) = command.split_at(50);
    for (number, piece) in [(0, front), (1, back)] {
        numbers.arrive(number).unwrap();
        numbers.renumber(&mut piece.to_vec());
    }
    assert_eq!(leave(&mut numbers), 2);
}

/// MySQL's server sends what it has with each result, and takes the number anew.
#[test]
fn the_results_of_one_answer_are_numbered_as_mysql_numbers_them() {
    let desk = Desk::new();
    let mut numbers = Numbers::new(Arc::clone(&desk));
    let (mut leaving, mut written) = (Leaving::default(), Vec::new());
    let result = [framing::packet(1, b"a"), framing::packet(2, b"b")].concat();
    for round in 0..3 {
        written.clear();
        with_state(&desk, |state| state.results += 1);
        leaving.push(&mut written, Algorithm::Zlib, &mut numbers, &result);
        let first = 1 + round;
        assert_eq!((written[3], written[10], written[15]), (first, first, first + 1));
    }
}

#[test]
fn what_is_short_or_random_goes_as_it_is() {
    let random: Vec<u8> =
        (0..5_000_u32).map(|place| (place.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for algorithm in BOTH {
        for (piece, packs) in [(&b"short"[..], false), (&[b'x'; 49], false), (&[b'x'; 5_000], true)] {
            let mut bytes = Vec::new();
            packing::append(&mut bytes, algorithm, 0, piece);
            assert_eq!(bytes[4..7] != [0; 3], packs, "{}", piece.len());
            assert_eq!(bytes.len() < piece.len(), packs);
        }
        let mut bytes = Vec::new();
        packing::append(&mut bytes, algorithm, 0, &random);
        assert!(bytes.len() <= random.len() + HEADER);
    }
}

#[test]
fn a_client_gets_what_it_asks_for_and_zlib_before_zstd() {
    let asked = |flags, level| Algorithm::asked(flags, level);
    assert_eq!(asked(Capabilities::NEEDED, 3), None);
    assert_eq!(asked(Capabilities::COMPRESS | Capabilities::ZSTD, 3), Some(Algorithm::Zlib));
    assert_eq!(asked(Capabilities::ZSTD, 0), Some(Algorithm::Zstd(1)));
    assert_eq!(asked(Capabilities::ZSTD, 255), Some(Algorithm::Zstd(MAX_ZSTD_LEVEL)));
}

#[tokio::test]
async fn a_stream_carries_both_ways_and_a_broken_packet_is_the_clients_own_fault() {
    for algorithm in BOTH {
        let (mut near, mut far) = duplex(900);
        let command = query(60_000);
        let sent = [pack(algorithm, 0, &command), envelope(0, b"broken", 7_000)].concat();
        let client = tokio::spawn(async move {
            far.write_all(&sent).await.unwrap();
            let mut heard = Vec::new();
            far.read_to_end(&mut heard).await.unwrap();
            heard
        });
        let mut stream = Compressed::new(&mut near, algorithm, Desk::new());
        let mut got = vec![0; command.len()];
        stream.read_exact(&mut got).await.unwrap();
        assert_eq!(got, command);
        let error = stream.read_u8().await.unwrap_err();
        let reason = error.get_ref().unwrap().downcast_ref::<Malformed>();
        assert_eq!(reason, Some(&Malformed::Compression("it cannot be unpacked")));
        let answer = framing::packet(1, &vec![b'a'; 200_000]);
        stream.write_all(&answer).await.unwrap();
        stream.flush().await.unwrap();
        let goodbye = framing::packet(2, b"goodbye");
        let last = stream.last_words(&goodbye);
        near.write_all(&last).await.unwrap();
        drop(near);
        let heard = client.await.unwrap();
        assert!(heard.len() < 10_000);
        // Numbers begin with 1 in an answer.
        let (mut out, mut rest, mut number) = (Vec::new(), &heard[..], 1);
        while let Some((header, content)) = rest.split_at_checked(HEADER) {
            let length = u32::from_le_bytes([header[0], header[1], header[2], 0]) as usize;
            assert_eq!(header[3], number);
            number += 1;
            let (content, behind) = content.split_at(length);
            let length = u32::from_le_bytes([header[4], header[5], header[6], 0]) as usize;
            out.extend(match (length, algorithm) {
                (0, _) => content.to_vec(),
                (length, Algorithm::Zlib) => {
                    let mut plain = vec![0; length];
                    let mut zlib = flate2::Decompress::new(true);
                    zlib.decompress(content, &mut plain, flate2::FlushDecompress::Finish).unwrap();
                    plain
                }
                (length, Algorithm::Zstd(_)) => zstd::bulk::decompress(content, length).unwrap(),
            });
            rest = behind;
        }
        assert_eq!(out, [answer, goodbye].concat());
    }
}

/// mysql-connector-python reads a packet from two compressed ones at most, and takes what it has for the whole.
#[test]
fn a_packet_leaves_whole_however_it_comes() {
    for (length, packs) in
        [(0, false), (20, false), (60_000, true), (262_140, true), (262_141, false), (0xFF_FFFF, false)]
    {
        for step in [7_001, 65_536] {
            let mut numbers = Numbers::new(Desk::new());
            let (mut leaving, mut written) = (Leaving::default(), Vec::new());
            let answer = [framing::packet(1, b"first"), framing::packet(2, &vec![b'r'; length])].concat();
            for piece in answer.chunks(step) {
                leaving.push(&mut written, Algorithm::Zlib, &mut numbers, piece);
            }
            let (mut rest, mut count, mut plain, mut packed) = (&written[..], 0, 0, false);
            while let Some((header, behind)) = rest.split_at_checked(HEADER) {
                let [a, b, c, number, x, y, z] = header.try_into().unwrap();
                count += 1;
                assert_eq!(number, count);
                let length = u32::from_le_bytes([a, b, c, 0]) as usize;
                let unpacked = u32::from_le_bytes([x, y, z, 0]) as usize;
                packed |= unpacked > 0;
                plain += if unpacked > 0 { unpacked } else { length };
                rest = behind.split_at(length).1;
            }
            // What lies before it, the packet in two at most, and the empty one that ends a full one.
            assert!(count <= 4, "{length} in {count}");
            assert_eq!((packed, plain), (packs, answer.len()), "{length}");
            assert!(leaving.gathered.is_empty());
        }
    }
}
