//! What a fuzzer calls: a session's two halves, alone, with bytes that come in steps of any size.

use std::sync::{Arc, Mutex, PoisonError};

use crate::answer::{Answer, Answers};
use crate::event::{Event, Malformed, MysqlEvent};
use crate::frame::{Course, Follow, Inspect, SHOWN, Step};

use super::capabilities::Capabilities;
use super::connection_id::ConnectionIds;
use super::desk::{Desk, FileState, Waiting};
use super::follower::Follower;
use super::inspector::{Charter, Inspector};
use super::responses::{Reply, Terms};

/// What a client's bytes came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    /// The events, as text.
    pub(crate) seen: Vec<String>,
    /// What the upstream gets.
    pub(crate) forwarded: Vec<u8>,
    /// How many bytes were decided about.
    pub(crate) decided: usize,
    pub(crate) malformed: Option<Malformed>,
}

/// A client's bytes, after login; what is asked is answered as soon as somebody waits for that.
pub(crate) fn ask(flags: Capabilities, bytes: &[u8], step: usize) -> Asked {
    let desk = Desk::new();
    let charter = Charter {
        terms: Terms::of(Capabilities::NEEDED | flags),
        replication_allowed: true,
        settings: Some(b"\x03SET a = 1".to_vec()),
        ids: ConnectionIds::new(Box::new(|_, _| false)),
        peer: Arc::default(),
    };
    let (mut inspector, mut asked, mut there) =
        (Inspector::new(Arc::clone(&desk), charter), Asked::default(), 0);
    while there < bytes.len() {
        there = bytes.len().min(there + step);
        while let Some(rest) = bytes.get(asked.decided..there).filter(|rest| !rest.is_empty()) {
            let (view, _) = rest.split_at(rest.len().min(SHOWN));
            let (mut said, mut replaced) = (None, None);
            let (event, count) = match inspector.step(view) {
                Ok(Step::Starved) => break,
                Ok(Step::Busy) => {
                    answer_all(&desk);
                    continue;
                }
                Ok(Step::Pass(count)) => (None, count),
                Ok(Step::Last(count)) => {
                    asked.decided += count;
                    return asked;
                }
                Ok(Step::Show(event, count)) => (Some(describe(&event)), count),
                Ok(Step::Instead(event, count, bytes)) => {
                    replaced = Some(bytes);
                    (Some(describe(&event)), count)
                }
                Ok(Step::Refuse(event, count, answer)) => {
                    (said, replaced) = (Some(answer), Some(Vec::new()));
                    (Some(describe(&event)), count)
                }
                Err(malformed) => return Asked { malformed: Some(malformed), ..asked },
            };
            assert!((1..=view.len()).contains(&count), "a step of {count} bytes");
            asked.seen.extend(event);
            let (front, _) = view.split_at(count);
            asked.forwarded.extend_from_slice(replaced.as_deref().unwrap_or(front));
            asked.decided += count;
            if let Some(answer) = said {
                inspector.say(answer);
            }
        }
    }
    asked
}

fn answer_all(desk: &Desk) {
    let mut state = desk.lock();
    let prepares =
        state.waiting.iter().filter(|waiting| matches!(waiting, Waiting::Client(Reply::Prepared, _)));
    let prepared = prepares.map(|_| (1, 1)).collect();
    state.prepared = prepared;
    state.waiting.clear();
}

/// The event, and every value in it.
fn describe(event: &Event<'_>) -> String {
    match event {
        Event::Mysql(MysqlEvent::Execute { values, .. } | MysqlEvent::BulkExecute { values, .. }) => {
            format!("{:?} {:?}", values.count(), values.iter().collect::<Vec<_>>())
        }
        _ => format!("{event:?}"),
    }
}

/// What an upstream's bytes came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answered {
    /// The answers, as text.
    pub(crate) told: Vec<String>,
    /// What the client gets. Of a session that is lost, some of it may have been on its way.
    pub(crate) heard: Option<Vec<u8>>,
    /// It ends with a packet.
    pub(crate) boundary: bool,
}

#[derive(Clone, Default)]
struct Ear(Arc<Mutex<Vec<String>>>);

impl Answers for Ear {
    fn answered(&mut self, answer: Answer<'_>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{answer:?}"));
    }
}

/// An upstream's bytes, after login, in answer to one command of each kind, again and again.
pub(crate) fn answer(flags: Capabilities, bytes: &[u8], step: usize) -> Answered {
    const REPLIES: [Reply; 5] = [Reply::Results, Reply::Prepared, Reply::Rows, Reply::One, Reply::Text];
    let (desk, ear) = (Desk::new(), Ear::default());
    for reply in REPLIES.into_iter().cycle().take(100) {
        desk.lock().waiting.push_back(Waiting::Client(reply, vec![b"a".to_vec()]));
        if reply == Reply::Rows {
            desk.lock().waiting.push_back(Waiting::Settings);
        }
    }
    let terms = Terms::of(Capabilities::NEEDED | flags);
    let mut follower = Follower::new(Arc::clone(&desk), terms, false, Some(Box::new(ear.clone())));
    let (mut heard, mut at, mut there) = (Some(Vec::new()), 0, 0);
    while there < bytes.len() && heard.is_some() {
        there = bytes.len().min(there + step);
        at = follow(&mut follower, &desk, bytes, (at, there), &mut heard);
    }
    let told = std::mem::take(&mut *ear.0.lock().unwrap_or_else(PoisonError::into_inner));
    Answered { told, boundary: heard.is_some() && follower.at_boundary(), heard }
}

/// As far as these bytes go; returns where that is.
fn follow(
    follower: &mut Follower,
    desk: &Desk,
    bytes: &[u8],
    (mut at, there): (usize, usize),
    heard: &mut Option<Vec<u8>>,
) -> usize {
    loop {
        while let Some(said) = follower.say() {
            heard.iter_mut().for_each(|heard| heard.extend_from_slice(&said));
        }
        let Some(rest) = bytes.get(at..there).filter(|rest| !rest.is_empty()) else { return at };
        let (view, _) = rest.split_at(rest.len().min(SHOWN));
        match follower.follow(view) {
            Course::Forward { bytes: count, boundary } => {
                assert!((1..=view.len()).contains(&count) && boundary.is_none_or(|end| end <= count));
                heard.iter_mut().for_each(|heard| heard.extend_from_slice(view.split_at(count).0));
                at += count;
            }
            Course::Drop(count) => {
                assert!((1..=view.len()).contains(&count));
                at += count;
            }
            Course::Starved => {
                let mut state = desk.lock();
                let FileState::Wished { fate, .. } = &state.file else { return at };
                state.file = FileState::Seen(*fate);
            }
            Course::Lost(_) => {
                *heard = None;
                return at;
            }
        }
    }
}
