//! The fuzz target's seeds, and mutations of them, on every compiler.

use std::path::Path;

use super::*;

/// Each signs once, which is most of what it costs.
const ROUNDS: u64 = 10;

fn seeds() -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/openssh_certificate");
    let mut files: Vec<_> = std::fs::read_dir(directory).unwrap().map(|file| file.unwrap().path()).collect();
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

    /// One small damage, of the kinds that parsers trip over.
    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        let place = self.below(bytes.len());
        match self.below(4) {
            0 => bytes.truncate(place),
            1 => bytes[place] ^= 1 << self.below(8),
            2 => bytes[place] = self.below(256) as u8,
            _ => {
                let at = place.min(bytes.len() - 4);
                let edge = [0, 1, 3, 0x7fff_ffff, 0x8000_0000, u32::MAX][self.below(6)];
                bytes[at..at + 4].copy_from_slice(&u32::to_be_bytes(edge));
            }
        }
    }
}

#[test]
fn the_seeds_and_what_is_near_them_hold() {
    let seeds = seeds();
    assert!(seeds.len() >= 4, "only {} seeds", seeds.len());
    openssh_certificate(b"");
    let mut dice = Dice(7);
    for seed in &seeds {
        openssh_certificate(seed);
        for _ in 0..ROUNDS {
            let mut damaged = seed.clone();
            dice.mutate(&mut damaged);
            openssh_certificate(&damaged);
        }
    }
}

#[test]
fn a_seed_is_accepted_once_it_is_signed_by_whom_we_trust() {
    let authority = authority().unwrap();
    let trusted = [authority.public_key().clone()];
    let accepted = seeds().into_iter().filter_map(|seed| openssh::parse(&seed).ok()).filter(|certificate| {
        sign_again(certificate, &authority).is_some_and(|signed| judge(&signed, &trusted))
    });
    assert!(accepted.count() >= 2, "the seeds do not get far");
}
