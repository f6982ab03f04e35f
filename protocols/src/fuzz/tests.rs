//! The fuzz targets' seeds, and mutations of them, on every compiler.

use std::path::Path;

use super::*;

const ROUNDS: u64 = 1_000;
/// For seeds that are too long to be shown whole.
const LONG_ROUNDS: u64 = 100;

/// Without what a fuzzer has found here: it names that by its SHA-1.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut files: Vec<_> = std::fs::read_dir(directory).unwrap().map(|file| file.unwrap().path()).collect();
    files.retain(|file| file.file_name().is_some_and(|name| name.len() != 40));
    files.sort();
    files.into_iter().map(|file| std::fs::read(file).unwrap()).collect()
}

/// A small generator (xorshift): the same mutations every time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }

    /// A few small damages, of the kinds that parsers trip over.
    fn mutate(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        for _ in 0..1 + self.below(4) {
            let place = self.below(bytes.len());
            match self.below(6) {
                0 => bytes.truncate(place),
                1 => bytes.insert(place.min(bytes.len()), self.below(256) as u8),
                2 => bytes.extend_from_slice(&other[self.below(other.len())..]),
                3 if !bytes.is_empty() => bytes[place] ^= 1 << self.below(8),
                4 if bytes.len() >= 4 => {
                    let at = self.below(bytes.len() - 3);
                    let edge = [0, 3, 4, 5, 0x7fff_ffff, 0x8000_0000, u32::MAX, 0x3fff_fffe][self.below(8)];
                    bytes[at..at + 4].copy_from_slice(&u32::to_be_bytes(edge));
                }
                _ if !bytes.is_empty() => {
                    bytes.remove(place);
                }
                _ => {}
            }
        }
    }
}

fn replay(target: &str, entry: fn(&[u8])) {
    let seeds = seeds(target);
    assert!(seeds.len() >= 4, "{target} has only {} seeds", seeds.len());
    entry(b"");
    for (index, seed) in seeds.iter().enumerate() {
        entry(seed);
        damage(seed, &seeds, index as u64, ROUNDS, entry);
    }
}

fn damage(seed: &[u8], seeds: &[Vec<u8>], number: u64, rounds: u64, entry: fn(&[u8])) {
    for round in 1..=rounds {
        let mut dice = Dice(round.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number);
        let mut bytes = seed.to_vec();
        let other = dice.below(seeds.len());
        dice.mutate(&mut bytes, &seeds[other]);
        entry(&bytes);
    }
}

#[test]
fn no_startup_packet_panics_or_changes_its_meaning() {
    replay("startup", startup);
}

#[test]
fn no_client_panics_the_splitter_or_shows_the_tap_two_faces() {
    replay("client", client);
}

#[test]
fn no_text_that_is_too_long_to_be_shown_is_hashed_two_ways() {
    let text = b"select 1 -- ".repeat(6_000);
    for (kind, content) in
        [(b'Q', [&text[..], b"\0"].concat()), (b'P', [b"s\0", &text[..], b"\0\0\0"].concat())]
    {
        let length = (content.len() as u32 + 4).to_be_bytes();
        let seed = [&[kind][..], &length, &content, b"S\0\0\0\x04"].concat();
        let (seen, passed, malformed) = split(&seed, seed.len());
        assert_eq!((seen.len(), passed, malformed), (3, seed.len(), None));
        client(&seed);
        damage(&seed, &seeds("client"), u64::from(kind), LONG_ROUNDS, client);
    }
}

#[test]
fn no_upstream_panics_the_relay_or_the_login() {
    replay("upstream", upstream);
}

#[test]
fn no_login_of_mysqls_panics() {
    replay("mysql_login", mysql_login);
}

#[test]
fn no_mysql_client_shows_the_tap_two_faces() {
    replay("mysql_client", mysql_client);
}

#[test]
fn no_mysql_upstream_panics_the_relay() {
    replay("mysql_upstream", mysql_upstream);
}

#[test]
fn no_compressed_packet_comes_out_two_ways() {
    replay("mysql_compressed", mysql_compressed);
}

#[test]
fn the_seeds_of_mysql_are_real() {
    for seed in seeds("mysql_client") {
        let asked = mysql::fuzz::ask(Capabilities::NONE, &seed, seed.len());
        assert!(!asked.seen.is_empty() && asked.malformed.is_none(), "{}", seed.escape_ascii());
    }
    let told: Vec<String> = seeds("mysql_upstream")
        .iter()
        .flat_map(|seed| mysql::fuzz::answer(Capabilities::NONE, seed, 7).told)
        .collect();
    for answer in ["Done", "Failed", "Prepared", "Ready"] {
        assert!(told.iter().any(|told| told.starts_with(answer)), "{answer}: {told:?}");
    }
}

#[test]
fn the_seeds_are_real() {
    for seed in seeds("client") {
        let (seen, passed, malformed) = split(&seed, seed.len());
        assert!(!seen.is_empty() && passed > 0 && malformed.is_none(), "{}", seed.escape_ascii());
    }
    let heard: Vec<String> = seeds("upstream").iter().flat_map(|seed| follow(seed, 7).0).collect();
    for answer in ["Completed", "Failed", "CopyIn", "CopyOut", "Ready", "Empty"] {
        assert!(heard.iter().any(|heard| heard.starts_with(answer)), "{answer}: {heard:?}");
    }
}

#[test]
fn nothing_before_an_ssh_login_panics_or_is_a_login_by_chance() {
    replay("ssh_login", ssh_login);
}

#[test]
fn nothing_in_an_ssh_session_panics_or_is_followed_two_ways() {
    replay("ssh_session", ssh_session);
}
