use std::time::Duration;

use protocols::{PreparedKind, SqlState};

use super::*;

const QUERY: Event<'static> = Event::Query { text: b"select 1", cut: 0 };
const READY: Answer<'static> = Answer::Ready { transaction: None };

fn execute(max_rows: u32) -> Event<'static> {
    Event::Execute { portal: b"", max_rows }
}

fn completed(tag: &'static [u8]) -> Answer<'static> {
    Answer::Completed { tag }
}

fn failed() -> Answer<'static> {
    Answer::Failed { sql_state: SqlState::parse(b"42601"), number: None }
}

/// A session whose clock moves by a millisecond with each thing that happens.
struct Session {
    statements: Statements,
    now: Instant,
    ei: u64,
}

impl Session {
    fn new() -> Self {
        let now = Instant::now();
        Self { statements: Statements::new(now, None), now, ei: 0 }
    }

    fn tick(&mut self) -> Instant {
        self.now += Duration::from_millis(1);
        self.now
    }

    /// Returns the event's number.
    fn asks(&mut self, event: Event<'_>) -> u64 {
        self.ei += 1;
        let now = self.tick();
        self.statements.asked(&event, Some(self.ei), now);
        self.ei
    }

    fn answers(&mut self, answer: Answer<'_>) -> Option<Outcome> {
        let now = self.tick();
        self.statements.answered(&answer, now)
    }
}

fn milliseconds(outcome: &Outcome) -> u128 {
    outcome.duration_ms.unwrap().as_millis()
}

#[test]
fn a_simple_query_comes_out_with_its_round_and_its_rows_are_added_up() {
    let mut session = Session::new();
    let ei = session.asks(QUERY);
    assert_eq!(session.answers(completed(b"INSERT 0 3")), None);
    assert_eq!(session.answers(completed(b"SELECT 4")), None);
    let outcome = session.answers(READY).unwrap();
    assert_eq!((outcome.statement_ei, outcome.success, outcome.rows), (Some(ei), true, Some(7)));
    assert_eq!(milliseconds(&outcome), 3);
    let json = serde_json::to_value(&outcome).unwrap();
    assert_eq!(json["command_tags"], serde_json::json!(["INSERT 0 3", "SELECT 4"]));
    assert_eq!(json["statements"], 2);
}

#[test]
fn a_simple_query_that_fails_in_its_second_statement_has_failed() {
    let mut session = Session::new();
    let ei = session.asks(QUERY);
    session.answers(completed(b"SELECT 1"));
    let outcome = session.answers(failed()).unwrap();
    assert_eq!((outcome.statement_ei, outcome.success), (Some(ei), false));
    assert_eq!(outcome.sql_state, SqlState::parse(b"42601"));
    assert_eq!(session.answers(READY), None, "once");
}

#[test]
fn in_a_pipeline_each_execute_has_its_own_outcome_and_its_own_time() {
    let mut session = Session::new();
    let first = session.asks(execute(0));
    let second = session.asks(execute(0));
    session.asks(Event::Sync);
    let outcome = session.answers(completed(b"UPDATE 2")).unwrap();
    assert_eq!((outcome.statement_ei, outcome.rows, milliseconds(&outcome)), (Some(first), Some(2), 3));
    let outcome = session.answers(completed(b"UPDATE 5")).unwrap();
    assert_eq!((outcome.statement_ei, outcome.rows, milliseconds(&outcome)), (Some(second), Some(5), 1));
    assert_eq!(session.answers(READY), None);
}

#[test]
fn what_is_skipped_behind_an_error_has_no_outcome() {
    let mut session = Session::new();
    let first = session.asks(execute(0));
    session.asks(execute(0));
    session.asks(Event::Sync);
    let outcome = session.answers(failed()).unwrap();
    assert_eq!((outcome.statement_ei, outcome.success), (Some(first), false));
    assert_eq!(session.answers(READY), None);
    let next = session.asks(QUERY);
    session.answers(completed(b"SELECT 1"));
    assert_eq!(session.answers(READY).unwrap().statement_ei, Some(next));
}

#[test]
fn a_parse_that_fails_alone_is_a_failure_of_no_statement_in_particular() {
    let mut session = Session::new();
    session.asks(Event::Parse { statement: b"", text: b"selec", cut: 0 });
    session.asks(Event::Close { kind: PreparedKind::Statement, name: b"x" });
    session.asks(Event::Sync);
    let outcome = session.answers(failed()).unwrap();
    assert_eq!((outcome.statement_ei, outcome.success, outcome.duration_ms), (None, false, None));
}

#[test]
fn a_portal_with_more_rows_than_asked_for_is_suspended() {
    let mut session = Session::new();
    let ei = session.asks(execute(50));
    let outcome = session.answers(Answer::Suspended).unwrap();
    assert_eq!((outcome.statement_ei, outcome.rows, outcome.suspended), (Some(ei), Some(50), true));
}

#[test]
fn a_copy_is_one_statement_that_is_busy_until_its_end() {
    let mut session = Session::new();
    let ei = session.asks(QUERY);
    assert_eq!(session.answers(Answer::CopyIn), None);
    assert_eq!(session.statements.idle_since(), None);
    session.asks(Event::CopyEnd { failed: false });
    session.answers(completed(b"COPY 1000"));
    let outcome = session.answers(READY).unwrap();
    assert_eq!((outcome.statement_ei, outcome.rows), (Some(ei), Some(1000)));
    assert!(session.statements.idle_since().is_some());
}

#[test]
fn a_session_is_idle_since_its_last_answer_and_never_while_one_is_awaited() {
    let mut session = Session::new();
    assert_eq!(session.statements.idle_since(), Some(session.now));
    session.asks(QUERY);
    assert_eq!(session.statements.idle_since(), None);
    session.answers(completed(b"SELECT 1"));
    assert_eq!(session.statements.idle_since(), None, "the round is not over");
    session.answers(READY);
    assert_eq!(session.statements.idle_since(), Some(session.now));
    assert!(!session.statements.shown(), "nothing is owed");
    assert_eq!(session.statements.idle_since(), None, "the client waits for the queue");
    session.asks(execute(0));
    session.answers(completed(b"SELECT 1"));
    session.tick();
    session.asks(Event::Sync);
    assert_eq!(session.statements.idle_since(), None);
    session.answers(READY);
    assert_eq!(session.statements.idle_since(), Some(session.now));
}

#[test]
fn beyond_all_that_a_client_can_bring_about_results_are_not_kept_and_the_session_must_end() {
    let mut session = Session::new();
    let result = || Came { ei: 1, at: std::time::SystemTime::UNIX_EPOCH, outcome: Outcome::default() };
    for _ in 0..MAX_OWED {
        assert!(session.statements.owe(result()));
        assert!(session.statements.shown(), "what is owed goes first");
    }
    assert!(!session.statements.is_overrun());
    assert!(!session.statements.owe(result()));
    assert!(session.statements.is_overrun());
    assert_eq!(session.statements.take_owed().len(), MAX_OWED);
}

#[test]
fn a_statement_of_many_hours_is_not_said_to_be_shorter() {
    let mut outcome = Outcome::of(1);
    outcome.took(Duration::from_secs(36_000) + Duration::from_micros(5));
    assert_eq!(serde_json::to_value(&outcome).unwrap()["duration_ms"], 36_000_000.005);
}

#[test]
fn how_something_came_out_is_kept_where_nobody_can_tell_what_it_was() {
    let mut session = Session::new();
    // More than are followed.
    for _ in 0..10_000 {
        session.asks(execute(0));
    }
    session.asks(Event::Sync);
    assert_eq!(session.answers(completed(b"DELETE 5")), None);
    assert_eq!(session.answers(completed(b"DROP TABLE")), None);
    let outcome = session.answers(READY).unwrap();
    assert_eq!((outcome.statement_ei, outcome.success, outcome.rows), (None, true, Some(5)));
    assert_eq!(
        serde_json::to_value(&outcome).unwrap()["command_tags"],
        serde_json::json!(["DELETE 5", "DROP TABLE"])
    );
}

#[test]
fn what_a_query_has_said_is_its_own_also_when_the_rest_is_lost() {
    let mut session = Session::new();
    let ei = session.asks(QUERY);
    assert_eq!(session.answers(completed(b"DELETE 5")), None);
    for _ in 0..10_000 {
        session.asks(execute(0));
    }
    let outcome = session.answers(failed()).unwrap();
    assert_eq!((outcome.statement_ei, outcome.success, outcome.rows), (Some(ei), false, Some(5)));
}

#[test]
fn an_upstream_that_says_without_end_what_nobody_asked_fills_no_disk() {
    let mut session = Session::new();
    session.asks(QUERY);
    let results = |session: &mut Session, answer| (0..1_000).filter_map(|_| session.answers(answer)).count();
    // Its own, and one more than was asked.
    assert_eq!(results(&mut session, failed()), 3);
    assert!((0..1_000).all(|_| session.answers(completed(b"SELECT 1")).or(session.answers(READY)).is_none()));
}

#[test]
fn an_encoding_is_said_where_the_trail_says_another_and_once() {
    let says = |statements: &mut Statements, name: &'static [u8]| {
        assert!(statements.answered(&Answer::Encoding { name }, Instant::now()).is_none());
        let said = statements.encoding();
        assert_eq!(statements.shown(), said.is_some());
        said.inspect(|said| statements.encoding_recorded(said)).map(String::from)
    };
    let mut statements = Statements::new(Instant::now(), None);
    assert_eq!(says(&mut statements, b"UTF8"), None, "what it is where nothing is said");
    assert_eq!(says(&mut statements, b"SJIS").as_deref(), Some("SJIS"));
    assert_eq!(says(&mut statements, b"SJIS"), None);
    assert_eq!(says(&mut statements, b"UTF8").as_deref(), Some("UTF8"));
    let mut statements = Statements::new(Instant::now(), Some("euc-jp"));
    assert_eq!(says(&mut statements, b"EUC_JP"), None, "as it was asked for");
    assert_eq!(says(&mut statements, b"UTF8").as_deref(), Some("UTF8"), "a role has another");
}

#[test]
fn an_encoding_that_changes_while_it_is_recorded_is_not_lost() {
    let mut statements = Statements::new(Instant::now(), None);
    statements.answered(&Answer::Encoding { name: b"SJIS" }, Instant::now());
    let first = statements.encoding().unwrap();
    statements.answered(&Answer::Encoding { name: b"GBK" }, Instant::now());
    statements.encoding_recorded(&first);
    assert_eq!(statements.encoding().as_deref(), Some("GBK"));
}

#[test]
fn an_encoding_that_is_said_is_no_answer_to_a_statement() {
    let mut session = Session::new();
    let query = session.asks(QUERY);
    assert!(session.answers(Answer::Encoding { name: b"SJIS" }).is_none());
    assert!(session.answers(completed(b"SELECT 1")).is_none());
    assert_eq!(session.answers(READY).unwrap().statement_ei, Some(query));
}
