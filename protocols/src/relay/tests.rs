//! The relay between two peers in memory, with chunks and ends at every place that a few hundred dice find.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::{JoinHandle, yield_now};

use super::*;
use crate::Event;
use crate::frame::{Boundaries, SHOWN, Splitter};
use crate::postgres::Messages;

/// Dice that fall the same each time (xorshift).
#[derive(Clone)]
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % limit
    }
}

fn message(kind: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap() + 4;
    [&[kind][..], &length.to_be_bytes(), content].concat()
}

/// A peer that says these bytes in chunks, then reads until it is left alone.
fn peer(mut stream: DuplexStream, says: Vec<u8>, mut dice: Dice) -> JoinHandle<Vec<u8>> {
    tokio::spawn(async move {
        let (mut reading, mut writing) = tokio::io::split(&mut stream);
        let hears = async {
            let mut heard = Vec::new();
            reading.read_to_end(&mut heard).await.unwrap();
            heard
        };
        let speaks = async {
            let mut rest = &says[..];
            while !rest.is_empty() {
                let (now, later) = rest.split_at(1 + dice.below(rest.len()));
                if writing.write_all(now).await.is_err() {
                    break;
                }
                rest = later;
                yield_now().await;
            }
        };
        tokio::join!(hears, speaks).0
    })
}

/// Remembers how long the texts were.
struct Lengths(Arc<Mutex<Vec<u64>>>);

impl Tap for Lengths {
    async fn observe(&mut self, event: Event<'_>) -> Result<Verdict, TapClosed> {
        yield_now().await;
        match event {
            Event::Query { text, cut } => self.0.lock().unwrap().push(text.len() as u64 + cut),
            Event::TextEnd { length, .. } => assert_eq!(self.0.lock().unwrap().last(), Some(&length)),
            _ => return Err(TapClosed),
        }
        Ok(Verdict::Forward)
    }
}

/// Counts events, and how often bytes came without one.
#[derive(Clone, Default)]
struct Signs(Arc<Mutex<(usize, usize)>>);

impl Signs {
    async fn has(&self, signs: (usize, usize)) {
        timeout(Duration::from_secs(20), async {
            while *self.0.lock().unwrap() != signs {
                yield_now().await;
            }
        })
        .await
        .unwrap_or_else(|_| panic!("{:?}, not {signs:?}", self.0.lock().unwrap()));
    }
}

impl Tap for Signs {
    async fn observe(&mut self, _: Event<'_>) -> Result<Verdict, TapClosed> {
        self.0.lock().unwrap().0 += 1;
        Ok(Verdict::Forward)
    }

    fn heard(&mut self) {
        self.0.lock().unwrap().1 += 1;
    }
}

#[tokio::test]
async fn of_a_client_that_is_in_the_middle_of_a_message_the_tap_hears_with_each_read() {
    let (mut client, mut client_far) = duplex(1_000_000);
    let (mut upstream, _upstream_far) = duplex(1_000_000);
    let signs = Signs::default();
    let long = vec![b'v'; 300_000];
    let length = u32::try_from(long.len()).unwrap().to_be_bytes();
    // Portal and statement without names, no format codes, one value, no result format codes.
    let content = [&[0, 0, 0, 0, 0, 1][..], &length, &long, &[0, 0]].concat();
    let bind = message(b'B', &content);
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let tap = signs.clone();
    let relay = tokio::spawn(async move {
        let ended = async {
            let _ = ended.await;
            refusal()
        };
        run(&mut client, &mut upstream, halves(), tap, ended, Duration::from_secs(1)).await
    });
    client_far.write_all(&bind[..1_000]).await.unwrap();
    signs.has((0, 1)).await;
    // Where it is shown, cut.
    client_far.write_all(&bind[1_000..SHOWN]).await.unwrap();
    signs.has((1, 1)).await;
    let mut heard = 1;
    // Before its last byte, its values are shown to be complete.
    for drop in bind[SHOWN..bind.len() - 1].chunks(50_000) {
        client_far.write_all(drop).await.unwrap();
        heard += 1;
        signs.has((1, heard)).await;
    }
    drop(end);
    relay.await.unwrap();
}

fn halves() -> (Splitter<Messages>, Boundaries<Messages>) {
    (Splitter::new(Messages), Boundaries::new(None))
}

fn refusal() -> Refusal {
    Refusal::new(RefusalCode::SessionExpired, "over")
}

#[tokio::test]
async fn an_ended_session_stops_between_two_messages_whenever_it_is_ended() {
    let mut places = std::collections::BTreeSet::new();
    for round in 0..400 {
        let mut dice = Dice::new(round);
        let (mut says, mut boundaries) = (Vec::new(), vec![0]);
        for _ in 0..dice.below(30) {
            says.extend(message(b'D', &vec![b'x'; dice.below(9_000)]));
            boundaries.push(says.len());
        }
        let (mut client, client_far) = duplex(1 + dice.below(5_000));
        let (mut upstream, upstream_far) = duplex(1 + dice.below(5_000));
        let client_peer = peer(client_far, Vec::new(), dice.clone());
        let upstream_peer = peer(upstream_far, says.clone(), dice.clone());
        let ended = async {
            for _ in 0..dice.below(60) {
                yield_now().await;
            }
            refusal()
        };
        let tap = Lengths(Arc::default());
        let second = Duration::from_secs(1);
        let outcome = run(&mut client, &mut upstream, halves(), tap, ended, second).await;
        drop((client, upstream));
        let heard = client_peer.await.unwrap();
        upstream_peer.await.unwrap();
        assert!(outcome.farewell.is_some(), "{round}");
        assert_eq!(outcome.transferred.end, End::Refused(RefusalCode::SessionExpired));
        assert_eq!(outcome.transferred.from_upstream, heard.len() as u64);
        assert!(says.starts_with(&heard) && boundaries.contains(&heard.len()), "{round}: {}", heard.len());
        places.insert(heard.len());
    }
    assert!(places.len() > 50, "the dice found only {} places", places.len());
}

#[tokio::test]
async fn the_upstream_hears_every_byte_and_the_tap_every_query_however_they_come() {
    for round in 0..60 {
        let mut dice = Dice::new(round);
        let (mut says, mut lengths) = (Vec::new(), Vec::new());
        for _ in 0..1 + dice.below(12) {
            let limit = if dice.below(4) == 0 { 200_000 } else { 200 };
            let mut text = vec![b'q'; dice.below(limit)];
            lengths.push(text.len() as u64);
            text.push(0);
            says.extend(message(b'Q', &text));
            says.extend(message(b'd', &vec![b'c'; dice.below(limit)]));
        }
        says.extend(message(b'X', b""));
        let (mut client, client_far) = duplex(1 + dice.below(100_000));
        let (mut upstream, mut upstream_far) = duplex(1 + dice.below(100_000));
        let client_peer = peer(client_far, says.clone(), dice.clone());
        let expected = says.len();
        let upstream_peer = tokio::spawn(async move {
            let mut heard = vec![0; expected];
            upstream_far.read_exact(&mut heard).await.unwrap();
            heard
        });
        let seen = Arc::new(Mutex::default());
        let tap = Lengths(Arc::clone(&seen));
        let second = Duration::from_secs(1);
        let outcome = run(&mut client, &mut upstream, halves(), tap, std::future::pending(), second).await;
        drop((client, upstream));
        client_peer.await.unwrap();
        assert_eq!(upstream_peer.await.unwrap(), says, "{round}");
        assert_eq!(*seen.lock().unwrap(), lengths, "{round}");
        assert_eq!(outcome.transferred.from_client, says.len() as u64);
        assert!(outcome.fault.is_none() && outcome.farewell.is_none());
    }
}
