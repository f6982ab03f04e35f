//! What an audit event says: Teleport's names, codes and fields, one JSON object each; and a few of our own, codes `TTS…`,
//! for what Teleport does not record.
//!
//! | event | code | when |
//! |---|---|---|
//! | `db.session.start` | TDB00I, denied TDB00W | before the upstream is dialled |
//! | `session.rejected` | T1006W | allowed, but the user has as many sessions as its roles give |
//! | `db.session.query` | TDB02I | before a simple query is forwarded |
//! | `db.session.postgres.statements.parse`, `.bind`, `.execute`, `.close`, `db.session.postgres.function` | TPG00I to TPG04I | before the message is forwarded |
//! | `db.session.mysql.*` | TMY00I to TMY13I, TTS10I to TTS17W | before the command is forwarded: see [`mysql`] |
//! | `db.session.query.result` | TTS00I, failed TTS00W | when the upstream has answered: see [`outcome`] |
//! | `db.session.query.digest` | TTS01I | behind a text that was cut, before its last bytes are forwarded |
//! | `db.session.malformed_packet` | TDB06I | when the client breaks the protocol |
//! | `db.session.end` | TDB01I | last, on every way out |
//!
//! Of SSH sessions:
//!
//! | event | code | when |
//! |---|---|---|
//! | `session.start` | T2000I | before the upstream is dialled |
//! | `auth` | T3007W | denied |
//! | what happens in between | | see [`ssh`] |
//! | `client.disconnect` | T3006I | when we end the session: with the reason |
//! | `session.data`, `session.end` | T2006I, T2004I | last, on every way out |
//!
//! `ei` is the event's place in its session, without a gap. (Results may stand in the trail a little out of that order.)

use std::{
    collections::BTreeMap,
    io::Write as _,
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use auth::{identity::DeviceId, policy::SessionOptions};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use humantime::format_rfc3339_millis;
use protocols::Replication;
use serde::Serialize;
use uuid::Uuid;

use super::spool::append_members;

mod mysql;
mod outcome;
mod ssh;
mod statement;

pub use self::statement::Parameters;
pub(crate) use self::{
    outcome::Outcome,
    ssh::{
        Command, MAX_ENVIRONMENT_JSON_BYTES, MAX_NAME_BYTES, SshBody, Surroundings, json_bytes,
        text as ssh_text,
    },
    statement::Body,
};

/// Room for an event with a text of some length: longer ones grow.
const EVENT_BYTES: usize = 1024;

/// What every event of a session says.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Subject {
    /// The session.
    #[serde(skip)]
    pub(crate) sid: Uuid,
    /// The cluster; empty while the replica has not said.
    pub(crate) cluster_name: String,
    /// The sidecar.
    pub(crate) server_id: String,
    /// Whom the certificate names; `None` where no genuine certificate was shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<String>,
    /// The target, and what was asked of it.
    #[serde(flatten)]
    pub(crate) target: SubjectTarget,
    /// Whom the sidecar saw.
    #[serde(rename = "addr.remote")]
    pub(crate) remote: SocketAddr,
    /// The MFA device, where the session was MFA verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) with_mfa: Option<DeviceId>,
}

/// The target, and what was asked of it.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum SubjectTarget {
    /// A database.
    Database {
        /// Name of the target.
        db_service: String,
        /// What it speaks.
        db_protocol: &'static str,
        /// Where the upstream is.
        db_uri: String,
        /// Database user that was asked for.
        db_user: String,
        /// Database that was asked for.
        #[serde(skip_serializing_if = "Option::is_none")]
        db_name: Option<String>,
    },
    /// A node.
    Node {
        /// Name of the target.
        server_hostname: String,
        /// Its labels.
        server_labels: BTreeMap<String, String>,
        /// Where its sshd is.
        server_addr: String,
        /// The account that was asked for.
        login: String,
        /// What it speaks.
        proto: &'static str,
    },
}

/// `db.session.start` or `session.start`, allowed.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Started {
    success: bool,
    /// The role that decided.
    decided_by: String,
    /// The evidence of the touch: an encoded `touchstone.auth.v1.Receipt`, base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<String>,
    /// `physical` or `logical`; only where replication was asked for, and a role gives it.
    #[serde(skip_serializing_if = "Option::is_none")]
    replication: Option<&'static str>,
    /// What holds in the session from before its first statement on, by the roles.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    db_session_settings: BTreeMap<String, String>,
    /// What the client set at start-up, as `name=value`, in order. It decides how the texts that follow are read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    startup_parameters: Vec<String>,
    /// The same as it was sent, names and values each with a NUL behind it, where it is no UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    startup_parameters_base64: Option<String>,
}

impl Started {
    pub(crate) fn new(decided_by: String, receipt: Option<&[u8]>) -> Self {
        Self {
            success: true,
            decided_by,
            receipt: receipt.map(|receipt| STANDARD.encode(receipt)),
            replication: None,
            db_session_settings: BTreeMap::new(),
            startup_parameters: Vec::new(),
            startup_parameters_base64: None,
        }
    }

    /// The same, saying on which terms.
    #[must_use]
    pub(crate) fn with_terms(self, replication: Replication, options: &SessionOptions) -> Self {
        let replication = match replication {
            Replication::None => None,
            Replication::Physical => Some("physical"),
            Replication::Logical => Some("logical"),
        };
        Self { replication, db_session_settings: options.db_session_settings.clone(), ..self }
    }

    /// The encoding that the client asked for (PostgreSQL), the last one where it did so twice.
    pub(crate) fn client_encoding(&self) -> Option<&str> {
        let set = self.startup_parameters.iter().rev().filter_map(|set| set.split_once('='));
        set.into_iter().find(|(name, _)| name.eq_ignore_ascii_case("client_encoding")).map(|(_, value)| value)
    }

    /// The same, saying what the client set. Protocols bound it: PostgreSQL's is of 10,000 bytes at most.
    #[must_use]
    pub(crate) fn with_parameters<T: AsRef<[u8]>>(self, parameters: &[(T, T)]) -> Self {
        let sent =
            || parameters.iter().flat_map(|(name, value)| [name.as_ref(), b"\0", value.as_ref(), b"\0"]);
        let is_text = sent().all(|part| std::str::from_utf8(part).is_ok());
        let said = |(name, value): &(T, T)| {
            format!("{}={}", String::from_utf8_lossy(name.as_ref()), String::from_utf8_lossy(value.as_ref()))
        };
        Self {
            startup_parameters: parameters.iter().map(said).collect(),
            startup_parameters_base64: (!is_text)
                .then(|| STANDARD.encode(sent().collect::<Vec<_>>().concat())),
            ..self
        }
    }
}

/// `session.rejected`: one session more than the user may have.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Rejected {
    /// What the client was told.
    pub(crate) reason: &'static str,
    /// How many the user may have.
    pub(crate) maximum: u32,
}

/// `db.session.start` or `auth`, denied.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Denied {
    success: bool,
    /// What the client was told.
    error: String,
    /// The same: Teleport has both.
    message: String,
    /// The kind of refusal, one word: the label of the refusals metric.
    reason: &'static str,
    /// What the client was not told, for auditors: which rule of the receipt, which role.
    detail: String,
}

impl Denied {
    /// `told` is what the client was told, `detail` what only auditors read.
    #[must_use]
    pub(crate) fn new(told: &str, reason: &'static str, detail: String) -> Self {
        Self { success: false, error: told.to_owned(), message: told.to_owned(), reason, detail }
    }
}

/// `db.session.end` or `session.end`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Ending {
    /// Why, one word.
    pub(crate) reason: &'static str,
    /// A side left or failed; else it was ended by us.
    #[serde(skip)]
    pub(crate) by_itself: bool,
    /// Bytes from the client to the upstream, after login.
    pub(crate) bytes_from_client: u64,
    /// Bytes from the upstream to the client, after login.
    pub(crate) bytes_from_upstream: u64,
}

impl Ending {
    /// Of a session in which nothing was carried.
    pub(crate) fn before_login(reason: &'static str) -> Self {
        Self { reason, by_itself: true, bytes_from_client: 0, bytes_from_upstream: 0 }
    }
}

#[derive(Serialize)]
struct Lasted<'a> {
    #[serde(flatten)]
    ending: &'a Ending,
    duration_ms: u64,
}

/// `session.data`: Teleport's words, from the client's side.
#[derive(Serialize)]
struct Data {
    rx: u64,
    tx: u64,
}

/// `session.end` of SSH.
#[derive(Serialize)]
struct SshEnd<'a> {
    #[serde(flatten)]
    lasted: Lasted<'a>,
    /// There was a terminal.
    interactive: bool,
    /// Its recordings: the first has the session's id.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    recordings: Vec<Uuid>,
}

/// `client.disconnect`.
#[derive(Serialize)]
struct Disconnected {
    reason: &'static str,
}

/// Serialises a session's events. What all of them say is rendered once, not for each event.
#[derive(Debug)]
pub(crate) struct Renderer {
    sid: Uuid,
    /// What all of them say but `sid`: one JSON object.
    common: String,
    is_node: bool,
}

impl Renderer {
    pub(crate) fn new(subject: &Subject) -> Self {
        let common = serde_json::to_string(subject).unwrap_or_default();
        Self { sid: subject.sid, common, is_node: matches!(subject.target, SubjectTarget::Node { .. }) }
    }

    /// The session.
    pub(crate) fn sid(&self) -> Uuid {
        self.sid
    }

    /// What all its events say, but for `sid`, as one JSON object with one member at least.
    pub(crate) fn common(&self) -> &str {
        &self.common
    }

    pub(crate) fn started(&self, ei: u64, now: SystemTime, started: &Started) -> String {
        let (event, code) =
            if self.is_node { ("session.start", "T2000I") } else { ("db.session.start", "TDB00I") };
        self.event(event, code, ei, now, started)
    }

    pub(crate) fn denied(&self, ei: u64, now: SystemTime, denied: &Denied) -> String {
        let (event, code) = if self.is_node { ("auth", "T3007W") } else { ("db.session.start", "TDB00W") };
        self.event(event, code, ei, now, denied)
    }

    /// A session's last events, in order, the first of them with this index.
    pub(crate) fn ended(
        &self,
        first: u64,
        now: SystemTime,
        ending: &Ending,
        lasted: Duration,
        (recordings, interactive): (Vec<Uuid>, bool),
    ) -> Vec<String> {
        let duration_ms = u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX);
        let lasted = Lasted { ending, duration_ms };
        if !self.is_node {
            return vec![self.event("db.session.end", "TDB01I", first, now, &lasted)];
        }
        let (rx, tx) = (ending.bytes_from_client, ending.bytes_from_upstream);
        let mut events = Vec::with_capacity(3);
        let mut ei = first;
        if !ending.by_itself {
            let reason = ending.reason;
            events.push(self.event("client.disconnect", "T3006I", ei, now, &Disconnected { reason }));
            ei += 1;
        }
        events.push(self.event("session.data", "T2006I", ei, now, &Data { rx, tx }));
        let end = SshEnd { lasted, interactive, recordings };
        events.push(self.event("session.end", "T2004I", ei + 1, now, &end));
        events
    }

    /// What was asked for, or has happened, in an SSH session.
    pub(crate) fn ssh(&self, ei: u64, now: SystemTime, body: &SshBody) -> String {
        let (event, code) = body.name_and_code();
        self.event(event, code, ei, now, body)
    }

    pub(crate) fn rejected(&self, ei: u64, now: SystemTime, rejected: &Rejected) -> String {
        self.event("session.rejected", "T1006W", ei, now, rejected)
    }

    /// Appends what a client did, without [`common`](Self::common).
    pub(crate) fn observed(&self, line: &mut Vec<u8>, ei: u64, at: SystemTime, body: &Body) {
        let (event, code) = body.name_and_code();
        self.append(line, (event, code), ei, at, body);
    }

    /// Appends how it came out, without [`common`](Self::common).
    pub(crate) fn result(&self, line: &mut Vec<u8>, ei: u64, at: SystemTime, outcome: &Outcome) {
        self.append(line, ("db.session.query.result", outcome.code()), ei, at, outcome);
    }

    fn event(&self, event: &str, code: &str, ei: u64, now: SystemTime, body: &impl Serialize) -> String {
        let mut line = Vec::with_capacity(EVENT_BYTES);
        self.append(&mut line, (event, code), ei, now, body);
        append_members(&mut line, self.common.as_bytes());
        String::from_utf8(line).unwrap_or_default()
    }

    /// HOT: twice for each query, and so into one buffer from head to tail. With `sid`: an event whose session's line is lost is
    /// still known to be of it.
    fn append(
        &self,
        line: &mut Vec<u8>,
        (event, code): (&str, &str),
        ei: u64,
        now: SystemTime,
        body: &impl Serialize,
    ) {
        // A clock before 1970 is no reason to lose an event.
        let time = format_rfc3339_millis(now.max(SystemTime::UNIX_EPOCH));
        let uid = Uuid::new_v4();
        // Names and codes are constants, the rest of the head has no character that JSON escapes. Writing into memory does
        // not fail.
        let _ = write!(
            line,
            r#"{{"event":"{event}","code":"{code}","uid":"{uid}","time":"{time}","ei":{ei},"sid":"{}""#,
            self.sid
        );
        append_fields(line, body);
        line.push(b'}');
    }
}

/// `,"a":1,"b":2`: the fields of a struct, to stand behind others. Our structs always serialise; their maps have string keys.
fn append_fields(line: &mut Vec<u8>, value: &impl Serialize) {
    let start = line.len();
    if serde_json::to_writer(&mut *line, value).is_err() {
        line.truncate(start);
        return;
    }
    let _closing = line.pop();
    if line.len() == start + 1 {
        // No fields.
        line.truncate(start);
    } else if let Some(opening) = line.get_mut(start) {
        *opening = b',';
    }
}

#[cfg(test)]
mod tests;
