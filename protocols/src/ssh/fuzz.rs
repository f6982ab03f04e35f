//! What a fuzzer calls: whatever comes from outside is read without a panic, and the same however it is cut.

use super::algorithms::{self, Role};
use super::channels::From;
use super::front;
use super::host::HostKeys;
use super::key::ED25519_NAME;
use super::packet::Incoming;
use super::requests::{Open, Request};
use super::sftp::{Done, View};
use crate::reader::Reader;

/// What may come before login: packets in plaintext, proposals, login requests, keys and certificates.
pub(crate) fn login(bytes: &[u8]) {
    if let Ok(ours) = algorithms::proposal(Role::Server, &[ED25519_NAME], true) {
        let _ = algorithms::negotiate(bytes, &ours, None);
        let _ = algorithms::negotiate(&ours, bytes, Some(false));
    }
    assert!(!front::fuzz(bytes), "nobody has signed for this session");
    let known = HostKeys::default().with_name("target");
    assert!(known.judge(bytes, std::time::SystemTime::UNIX_EPOCH).is_err(), "nobody is known");
    packets(bytes);
}

/// An identification line, and packets behind it.
fn packets(bytes: &[u8]) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().build() else { return };
    runtime.block_on(async {
        let mut incoming = Incoming::new(bytes, bytes.len());
        let _ = incoming.line(253).await;
        while incoming.receive().await.is_ok() {
            assert!(!incoming.payload().is_empty(), "every message has a number");
        }
    });
}

/// What may come in a session: requests, and SFTP in both directions.
pub(crate) fn session(bytes: &[u8]) {
    for open in [From::Client, From::Upstream].into_iter().filter_map(|from| Open::parse(from, bytes).ok()) {
        assert_eq!(bytes.get(open.sender_at..open.sender_at + 4), Some(&open.sender.to_be_bytes()[..]));
    }
    if let Ok(request) = Request::parse(Reader::new(bytes)) {
        let _ = (request.channel_action(), request.global_action());
    }
    let step = 1 + usize::from(bytes.first().copied().unwrap_or(0)) % 97;
    let whole = follow(bytes, bytes.len().max(1));
    assert_eq!(follow(bytes, step), whole, "in steps of {step}");
}

/// The first half of the bytes asks, the second answers.
fn follow(bytes: &[u8], step: usize) -> (Vec<Done>, bool) {
    let (asked, answered) = bytes.split_at(bytes.len() / 2);
    let (mut view, mut done) = (View::default(), Vec::new());
    let lost = asked.chunks(step).any(|bytes| view.asked(bytes).is_err())
        || answered.chunks(step).any(|bytes| view.answered(bytes, &mut done).is_err());
    (done, lost)
}
