//! HOT: events that are written at once, as lines of the spool.

use std::{collections::HashMap, ops::Range};

use bytes::Bytes;
use uuid::Uuid;

use super::{
    draft::Draft,
    event::Renderer,
    spool::{Record, append_line},
};

/// Where in the lines one event is.
#[derive(Debug)]
struct Place {
    sequence: u64,
    json: Range<usize>,
    /// Index of its session; `None` where the event says all itself.
    session: Option<usize>,
}

/// Lines in the making. What the events of a session have in common is in them once.
#[derive(Debug)]
pub(super) struct Gathered {
    lines: Vec<u8>,
    events: Vec<Place>,
    /// Where in the lines is what those of a session say, and by which index an event finds it.
    sessions: Vec<Range<usize>>,
    indexes: HashMap<Uuid, usize>,
    /// The number of the first session.
    first_session: u64,
}

impl Gathered {
    /// `room`: so many bytes are expected. `first_session`: no session of the spool had this number, or a higher one.
    pub(super) fn new(room: usize, first_session: u64) -> Self {
        let lines = Vec::with_capacity(room);
        Self { lines, events: Vec::new(), sessions: Vec::new(), indexes: HashMap::new(), first_session }
    }

    /// Adds an event, rendered.
    pub(super) fn push(&mut self, sequence: u64, event: &Draft) {
        let session = event.session().map(|renderer| self.session(renderer));
        let json = match session {
            Some(index) => {
                let number = self.number(index);
                let head = format_args!("{sequence}s{number}");
                append_line(&mut self.lines, head, |line| event.render_own(line))
            }
            None => append_line(&mut self.lines, sequence, |line| event.render(line)),
        };
        self.events.push(Place { sequence, json, session });
    }

    fn session(&mut self, renderer: &Renderer) -> usize {
        if let Some(&index) = self.indexes.get(&renderer.sid()) {
            return index;
        }
        let index = self.sessions.len();
        let (number, common) = (self.number(index), renderer.common().as_bytes());
        let place =
            append_line(&mut self.lines, format_args!("s{number}"), |line| line.extend_from_slice(common));
        self.sessions.push(place);
        self.indexes.insert(renderer.sid(), index);
        index
    }

    fn number(&self, index: usize) -> u64 {
        self.first_session + index as u64
    }

    /// The first number that is free for those of the next.
    pub(super) fn next_session(&self) -> u64 {
        self.number(self.sessions.len())
    }

    pub(super) fn lines(&self) -> &[u8] {
        &self.lines
    }

    /// Sequence of the first event.
    pub(super) fn first(&self) -> Option<u64> {
        self.events.first().map(|place| place.sequence)
    }

    /// Gives back the room that was there for more: what is kept is counted by what it holds.
    pub(super) fn finish(self) -> Written {
        let lines = Bytes::from(self.lines.into_boxed_slice());
        Written { lines, events: self.events, sessions: self.sessions }
    }
}

/// Lines that are made.
#[derive(Debug)]
pub(super) struct Written {
    lines: Bytes,
    events: Vec<Place>,
    sessions: Vec<Range<usize>>,
}

impl Written {
    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    /// The events, parts of the lines.
    pub(super) fn records(&self) -> impl Iterator<Item = Record> {
        let part = |place: &Range<usize>| self.lines.slice(place.clone());
        let sessions: Vec<Bytes> = self.sessions.iter().map(part).collect();
        self.events.iter().map(move |Place { sequence, json, session }| Record {
            sequence: *sequence,
            json: part(json),
            session: session.and_then(|index| sessions.get(index).cloned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::SystemTime};

    use super::{
        super::{
            draft::Came,
            event::{Outcome, Subject, SubjectTarget},
            spool::{Sessions, read_batch},
        },
        *,
    };

    fn session(user: &str, db_name: &str) -> Arc<Renderer> {
        Arc::new(Renderer::new(&Subject {
            sid: Uuid::new_v4(),
            cluster_name: "main".to_owned(),
            server_id: "sidecar".to_owned(),
            user: Some(user.to_owned()),
            target: SubjectTarget::Database {
                db_service: "pg".to_owned(),
                db_protocol: "postgres",
                db_uri: "localhost:5432".to_owned(),
                db_user: "app".to_owned(),
                db_name: Some(db_name.to_owned()),
            },
            remote: "127.0.0.1:1".parse().unwrap(),
            with_mfa: None,
        }))
    }

    fn result(renderer: &Arc<Renderer>, ei: u64) -> Draft {
        let result = Came { ei, at: SystemTime::UNIX_EPOCH, outcome: Outcome::of(ei) };
        Draft::Result { renderer: Arc::clone(renderer), result }
    }

    fn whole(records: impl IntoIterator<Item = Record>) -> Vec<serde_json::Value> {
        records.into_iter().map(|record| serde_json::from_slice(&record.whole().json).unwrap()).collect()
    }

    #[test]
    fn what_a_session_s_events_have_in_common_is_there_once_and_in_each_again_when_read() {
        let (alice, bob) = (session("alice", "shop"), session("bob", "shop"));
        let mut gathered = Gathered::new(0, 5);
        gathered.push(1, &Draft::Rendered(r#"{"event":"other"}"#.to_owned()));
        for ei in 0..10 {
            gathered.push(2 * ei + 2, &result(&alice, ei));
            gathered.push(2 * ei + 3, &result(&bob, ei));
        }
        assert_eq!((gathered.first(), gathered.next_session()), (Some(1), 7));
        let text = String::from_utf8(gathered.lines().to_vec()).unwrap();
        assert_eq!((text.matches("alice").count(), text.matches("bob").count()), (1, 1), "{text}");

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("segment");
        std::fs::write(&path, gathered.lines()).unwrap();
        let written = gathered.finish();
        let fresh: Vec<_> = written.records().collect();
        let read = read_batch(&path, 0, None, &mut Sessions::default()).unwrap();
        assert_eq!((read.records.clone(), read.next), (fresh.clone(), written.len() as u64));
        for (place, event) in whole(fresh).iter().enumerate().skip(1) {
            let user = if place % 2 == 1 { "alice" } else { "bob" };
            assert_eq!(
                (event["user"].as_str(), event["ei"].as_u64()),
                (Some(user), Some((place as u64 - 1) / 2))
            );
        }
    }

    #[test]
    fn a_session_s_lines_are_numbered_anew_in_each_group() {
        let alice = session("alice", "shop");
        let mut first = Gathered::new(0, 1);
        first.push(1, &result(&alice, 1));
        let mut second = Gathered::new(0, first.next_session());
        second.push(2, &result(&alice, 2));
        assert!(first.lines().starts_with(b"s1 ") && second.lines().starts_with(b"s2 "));
    }

    #[test]
    fn what_is_long_is_left_in_each_event() {
        let alice = session("alice", &"x".repeat(5_000));
        let mut gathered = Gathered::new(0, 1);
        gathered.push(1, &result(&alice, 1));
        let records: Vec<_> = gathered.finish().records().collect();
        assert!(records[0].session.is_none());
        assert_eq!(whole(records)[0]["user"], "alice");
    }
}
