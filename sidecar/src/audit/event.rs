//! What an audit event says: Teleport's names, codes and fields, one JSON object each.
//!
//! | event | code | when |
//! |---|---|---|
//! | `db.session.start` | TDB00I, denied TDB00W | before the upstream is dialled |
//! | `db.session.query` | TDB02I | before a simple query is forwarded |
//! | `db.session.postgres.statements.parse`, `.bind`, `.execute`, `.close`, `db.session.postgres.function` | TPG00I to TPG04I | before the message is forwarded |
//! | `db.session.malformed_packet` | TDB06I | when the client breaks the protocol |
//! | `db.session.end` | TDB01I | last, on every way out |
//!
//! Text is made UTF-8 (what is not becomes U+FFFD) and cut at [`MAX_TEXT_BYTES`]. An event that was cut says how long the
//! text was and carries the SHA-256 of what was seen of it.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use auth::identity::DeviceId;
use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use protocols::{Event, Parameters, PreparedKind};
use serde::Serialize;
use time::{OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};
use uuid::Uuid;

/// Bytes of a query, or of all parameters of one message, that are written down.
pub(crate) const MAX_TEXT_BYTES: usize = 64 * 1024;
/// Bytes of the name of a statement or portal that are written down.
const MAX_NAME_BYTES: usize = 1024;
/// Parameters of one message that are written down; a message may hold 65,535.
const MAX_PARAMETERS: usize = 1024;

/// RFC 3339 in UTC, to the millisecond.
const TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// What every event of a session says.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Subject {
    /// The session.
    pub(crate) sid: Uuid,
    /// The cluster; empty while the replica has not said.
    pub(crate) cluster_name: String,
    /// The sidecar.
    pub(crate) server_id: String,
    /// Whom the certificate names; `None` where no genuine certificate was shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<String>,
    /// Name of the target.
    pub(crate) db_service: String,
    /// What it speaks.
    pub(crate) db_protocol: &'static str,
    /// Where the upstream is.
    pub(crate) db_uri: String,
    /// Database user that was asked for.
    pub(crate) db_user: String,
    /// Database that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) db_name: Option<String>,
    /// Whom the sidecar saw.
    #[serde(rename = "addr.remote")]
    pub(crate) remote: SocketAddr,
    /// The MFA device, where the session was MFA verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) with_mfa: Option<DeviceId>,
}

/// `db.session.start`, allowed.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Started {
    success: bool,
    /// The role that decided.
    decided_by: String,
    /// The evidence of the touch: an encoded `touchstone.auth.v1.Receipt`, base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<String>,
}

impl Started {
    pub(crate) fn new(decided_by: String, receipt: Option<&[u8]>) -> Self {
        Self { success: true, decided_by, receipt: receipt.map(|receipt| STANDARD.encode(receipt)) }
    }
}

/// `db.session.start`, denied.
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

/// `db.session.end`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Ending {
    /// Why, one word.
    pub(crate) reason: &'static str,
    /// Bytes from the client to the upstream, after login.
    pub(crate) bytes_from_client: u64,
    /// Bytes from the upstream to the client, after login.
    pub(crate) bytes_from_upstream: u64,
}

#[derive(Serialize)]
struct Lasted<'a> {
    #[serde(flatten)]
    ending: &'a Ending,
    duration_ms: u64,
}

/// Serialises a session's events. The subject's part is rendered once, not for each event.
#[derive(Debug)]
pub(crate) struct Renderer {
    /// `,"sid":…` without the closing brace: goes into the middle of each event.
    subject: String,
}

impl Renderer {
    pub(crate) fn new(subject: &Subject) -> Self {
        Self { subject: fields(subject) }
    }

    pub(crate) fn started(&self, ei: u64, now: SystemTime, started: &Started) -> String {
        self.event("db.session.start", "TDB00I", ei, now, started)
    }

    pub(crate) fn denied(&self, ei: u64, now: SystemTime, denied: &Denied) -> String {
        self.event("db.session.start", "TDB00W", ei, now, denied)
    }

    pub(crate) fn ended(&self, ei: u64, now: SystemTime, ending: &Ending, lasted: Duration) -> String {
        let duration_ms = u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX);
        self.event("db.session.end", "TDB01I", ei, now, &Lasted { ending, duration_ms })
    }

    /// What a client did.
    pub(crate) fn observed(&self, ei: u64, now: SystemTime, event: &Event<'_>) -> String {
        const QUERY: &str = "db.session.query";
        const PARSE: &str = "db.session.postgres.statements.parse";
        const BIND: &str = "db.session.postgres.statements.bind";
        const EXECUTE: &str = "db.session.postgres.statements.execute";
        const CLOSE: &str = "db.session.postgres.statements.close";
        const FUNCTION: &str = "db.session.postgres.function";
        const MALFORMED: &str = "db.session.malformed_packet";
        match *event {
            Event::Query { text, cut } => self.event(QUERY, "TDB02I", ei, now, &Query::new(text, cut)),
            Event::Parse { statement, text, cut } => {
                let body = Parse { statement_name: name(statement), query: Query::new(text, cut) };
                self.event(PARSE, "TPG00I", ei, now, &body)
            }
            Event::Bind { portal, statement, parameters, cut } => {
                let values = Values::new(parameters, cut);
                let body = Bind { statement_name: name(statement), portal_name: name(portal), values };
                self.event(BIND, "TPG01I", ei, now, &body)
            }
            Event::Execute { portal, max_rows } => {
                let body = Execute { portal_name: name(portal), max_rows };
                self.event(EXECUTE, "TPG02I", ei, now, &body)
            }
            Event::Close { kind, name: closed } => {
                let body = match kind {
                    PreparedKind::Statement => Close::Statement { statement_name: name(closed) },
                    PreparedKind::Portal => Close::Portal { portal_name: name(closed) },
                };
                self.event(CLOSE, "TPG03I", ei, now, &body)
            }
            Event::FunctionCall { function, arguments, cut } => {
                let body = Function { function_oid: function, values: Values::new(arguments, cut) };
                self.event(FUNCTION, "TPG04I", ei, now, &body)
            }
            Event::Malformed { reason } => {
                self.event(MALFORMED, "TDB06I", ei, now, &Malformed { error: reason.to_string() })
            }
        }
    }

    fn event(&self, event: &str, code: &str, ei: u64, now: SystemTime, body: &impl Serialize) -> String {
        let time = OffsetDateTime::from(now).format(TIME).unwrap_or_default();
        let uid = Uuid::new_v4();
        let body = fields(body);
        // Names and codes are constants, the rest of the head has no character that JSON escapes.
        format!(
            r#"{{"event":"{event}","code":"{code}","uid":"{uid}","time":"{time}","ei":{ei}{}{body}}}"#,
            self.subject
        )
    }
}

/// `,"a":1,"b":2`: the fields of a struct, to stand behind others. Our structs always serialise; their maps have string keys.
fn fields(value: &impl Serialize) -> String {
    let object = serde_json::to_string(value).unwrap_or_default();
    let inner = object.strip_prefix('{').and_then(|object| object.strip_suffix('}')).unwrap_or_default();
    if inner.is_empty() { String::new() } else { format!(",{inner}") }
}

#[derive(Serialize)]
struct Query {
    db_query: String,
    /// Length of the whole text; only where it was cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    db_query_bytes: Option<u64>,
    /// Of what the sidecar saw of it (at least as much as is written here); only where it was cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    db_query_sha256: Option<String>,
}

impl Query {
    fn new(text: &[u8], unseen: u64) -> Self {
        let shown = text.get(..MAX_TEXT_BYTES).unwrap_or(text);
        let cut = unseen > 0 || shown.len() < text.len();
        Self {
            db_query: String::from_utf8_lossy(shown).into_owned(),
            db_query_bytes: cut.then_some(text.len() as u64 + unseen),
            db_query_sha256: cut.then(|| hex::encode(digest::digest(&digest::SHA256, text).as_ref())),
        }
    }
}

#[derive(Serialize)]
struct Parse {
    statement_name: String,
    #[serde(flatten)]
    query: Query,
}

#[derive(Serialize)]
struct Bind {
    statement_name: String,
    portal_name: String,
    #[serde(flatten)]
    values: Values,
}

#[derive(Serialize)]
struct Execute {
    portal_name: String,
    max_rows: u32,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Close {
    Statement { statement_name: String },
    Portal { portal_name: String },
}

#[derive(Serialize)]
struct Function {
    function_oid: u32,
    #[serde(flatten)]
    values: Values,
}

#[derive(Serialize)]
struct Malformed {
    error: String,
}

/// Parameter values: text as text, binary as `base64:…`, NULL as null.
#[derive(Serialize)]
struct Values {
    parameters: Vec<Option<String>>,
    /// Set where values are missing or shortened.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    parameters_cut: bool,
}

impl Values {
    fn new(parameters: Parameters<'_>, unseen: u64) -> Self {
        let mut room = MAX_TEXT_BYTES;
        let mut values = Self { parameters: Vec::new(), parameters_cut: unseen > 0 };
        for parameter in parameters.iter() {
            if values.parameters.len() == MAX_PARAMETERS || room == 0 {
                values.parameters_cut = true;
                break;
            }
            values.parameters.push(parameter.value.map(|value| {
                let shown = value.get(..room).unwrap_or(value);
                values.parameters_cut |= shown.len() < value.len() || parameter.cut > 0;
                room -= shown.len();
                match parameter.binary {
                    true => format!("base64:{}", STANDARD.encode(shown)),
                    false => String::from_utf8_lossy(shown).into_owned(),
                }
            }));
        }
        values
    }
}

fn name(name: &[u8]) -> String {
    String::from_utf8_lossy(name.get(..MAX_NAME_BYTES).unwrap_or(name)).into_owned()
}

#[cfg(test)]
mod tests;
