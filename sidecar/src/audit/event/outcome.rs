//! How a statement came out: the second event about it.
//!
//! A statement has two events. The first is on its way to the trail before the statement is forwarded, so that no death of
//! the process hides what was run; the second, `db.session.query.result`, follows when the upstream has answered, and names
//! the first by its `ei`:
//!
//! ```json
//! {"event":"db.session.query","code":"TDB02I","ei":3,"db_query":"delete from orders where id = 7", …}
//! {"event":"db.session.query.result","code":"TTS00I","ei":4,"statement_ei":3,"success":true,"duration_ms":1.204,"rows":1,"command_tags":["DELETE 1"], …}
//! {"event":"db.session.query.result","code":"TTS00W","ei":6,"statement_ei":5,"success":false,"duration_ms":0.31,"sql_state":"42501", …}
//! ```
//! - MySQL says no command tags: `rows` is what a statement changed or returned, `error_code` its number of a failure.
//! - `statement_ei` is that of the query, execute or function call. It is missing where a failure belongs to none of them: a
//!   parse or bind that failed in a round of its own, or a session that the upstream ended. It is missing, too, where a client
//!   brought about that nobody can tell which statement an answer is of (see [`protocols::Ledger`]): then what was answered in
//!   one round is one result.
//! - A statement without a result was skipped by the upstream because of an error before it, or cut off with its session; or
//!   its result is one of those without `statement_ei` behind it.
//! - A simple query may hold several statements: `statements` says how many came to an end, `command_tags` what the first
//!   sixteen said, `rows` counts all of them.
//! - `duration_ms` is from when the statement was forwarded, or the answer before it came, to its own answer.
//! - Teleport's `db.session.query.failed` (TDB02W) is not used: it repeats a statement's text, and means that it was not run.

use std::time::Duration;

use protocols::{Answer, SqlState};
use serde::Serialize;

use super::statement::lossy;

/// Command tags of one simple query that are written down.
const MAX_TAGS: usize = 16;

/// How a statement came out.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Outcome {
    /// The `ei` of its event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) statement_ei: Option<u64>,
    pub(crate) success: bool,
    /// To the microsecond.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "milliseconds")]
    pub(crate) duration_ms: Option<Duration>,
    /// Sent, or changed: the numbers at the ends of the command tags, together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rows: Option<u64>,
    #[serde(flatten)]
    pub(crate) tags: Tags,
    /// There are more rows than were asked for at once.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) suspended: bool,
    /// Of a failure; missing where the upstream did not say.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "state")]
    pub(crate) sql_state: Option<SqlState>,
    /// Of a failure: MySQL's number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error_code: Option<u16>,
    /// Of a prepare (MySQL): the number by which executes name it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) statement_id: Option<u32>,
}

/// What the statements of one query said.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Tags {
    #[serde(rename = "command_tags", skip_serializing_if = "Vec::is_empty")]
    said: Vec<String>,
    /// How many came to an end; only where it is not one.
    #[serde(rename = "statements", skip_serializing_if = "is_one")]
    count: u64,
}

impl Outcome {
    pub(super) fn code(&self) -> &'static str {
        if self.success { "TTS00I" } else { "TTS00W" }
    }

    /// Of the statement with this `ei`; nothing is known yet.
    pub(crate) fn of(statement_ei: u64) -> Self {
        Self { statement_ei: Some(statement_ei), ..Self::default() }
    }

    /// It took so much longer.
    pub(crate) fn took(&mut self, time: Duration) {
        self.duration_ms = Some(self.duration_ms.unwrap_or_default().saturating_add(time));
    }

    /// One more answer about the same statement, or the next of the same query. `asked_rows` is what an execute may give.
    pub(crate) fn hear(&mut self, answer: &Answer<'_>, asked_rows: u32) {
        self.success = true;
        match *answer {
            Answer::Completed { tag } => {
                self.tags.count += 1;
                if self.tags.said.len() < MAX_TAGS {
                    self.tags.said.push(lossy(tag));
                }
                if let Some(rows) = answer.rows() {
                    self.rows = Some(self.rows.unwrap_or(0).saturating_add(rows));
                }
            }
            Answer::Suspended => {
                self.tags.count += 1;
                self.suspended = true;
                self.rows = Some(asked_rows.into());
            }
            Answer::Empty | Answer::Returned => self.tags.count += 1,
            Answer::Done { rows } => {
                self.tags.count += 1;
                self.rows = Some(self.rows.unwrap_or(0).saturating_add(rows));
            }
            Answer::Prepared { statement } => {
                self.tags.count += 1;
                self.statement_id = Some(statement);
            }
            Answer::Failed { sql_state, number } => {
                self.success = false;
                (self.sql_state, self.error_code) = (sql_state, number);
                self.tags.count += 1;
            }
            Answer::CopyIn
            | Answer::CopyOut
            | Answer::CopyBoth
            | Answer::Stepped
            | Answer::Encoding { .. }
            | Answer::Ready { .. } => {}
        }
    }
}

fn is_one(count: &u64) -> bool {
    *count == 1
}

fn milliseconds<S: serde::Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    let micros = duration.unwrap_or_default().as_secs_f64() * 1e6;
    serializer.serialize_f64(micros.round() / 1e3)
}

fn state<S: serde::Serializer>(state: &Option<SqlState>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(state.as_ref().map_or("", SqlState::as_str))
}
