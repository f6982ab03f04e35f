//! What an event says about a statement: its text and its values.
//!
//! Text is made UTF-8 (what is not becomes U+FFFD, and stands in `db_query_base64` as it was sent) and cut at [`MAX_TEXT_BYTES`], sooner where it is mostly characters that
//! JSON writes as escapes. A text that was cut says so (`db_query_cut`), and `db_query_sha256` and `db_query_bytes` of the
//! *whole* text are on record: in the same event where the whole was at hand, else in `db.session.query.digest`, which comes
//! before the upstream gets the text's last bytes. Of values that were cut, `parameters_bytes` and `parameters_sha256` are those
//! of the message from its first value on, and on record in the same way.

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use protocols::{Event, PreparedKind};
use serde::Serialize;

use super::mysql::{Command, is_text};

/// Bytes of a text, or of all values of one message, that are written down.
pub(crate) const MAX_TEXT_BYTES: usize = 64 * 1024;
/// The same as JSON: three times as long, which is what a byte that is no UTF-8 becomes. authd takes lines of 256 KiB.
pub(super) const MAX_JSON_BYTES: usize = 3 * MAX_TEXT_BYTES;
/// Bytes of the name of a statement or portal that are written down.
const MAX_NAME_BYTES: usize = 1024;
/// Bytes by which PostgreSQL tells names of prepared statements and portals apart (`NAMEDATALEN` − 1).
const TOLD_APART_BYTES: usize = 63;
/// Bytes of such a name that are written down as they were sent: as many as 63 bytes can be in another encoding.
const MAX_SENT_BYTES: usize = 256;
/// Values of one message that are written down; a message may hold 65,535.
pub(super) const MAX_PARAMETERS: usize = 1024;

/// Whether the values of bound parameters are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parameters {
    /// They are.
    Recorded,
    /// Only how many there were.
    Withheld,
}

/// The part of an event that says what the client did.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum Body {
    Query(Text),
    Parse {
        #[serde(flatten)]
        statement: StatementName,
        #[serde(flatten)]
        text: Text,
    },
    Bind {
        #[serde(flatten)]
        statement: StatementName,
        #[serde(flatten)]
        portal: PortalName,
        #[serde(flatten)]
        values: Values,
    },
    Execute {
        #[serde(flatten)]
        portal: PortalName,
        max_rows: u32,
    },
    CloseStatement(StatementName),
    ClosePortal(PortalName),
    Function {
        function_oid: u32,
        #[serde(flatten)]
        values: Values,
    },
    Digest {
        statement_ei: u64,
        db_query_bytes: u64,
        db_query_sha256: String,
    },
    ValuesDigest {
        statement_ei: u64,
        parameters_bytes: u64,
        parameters_sha256: String,
    },
    /// In which alphabet the upstream reads the texts and values that follow.
    Encoding {
        client_encoding: Box<str>,
    },
    Mysql(Command),
    Malformed {
        error: String,
    },
}

/// The name of a prepared statement, as PostgreSQL tells it from others; empty for the unnamed one.
#[derive(Serialize)]
pub(crate) struct StatementName {
    statement_name: Box<str>,
    /// As it was sent, where that is longer, or no UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    statement_name_base64: Option<Box<str>>,
}

impl StatementName {
    fn new(name: &[u8]) -> Self {
        let (statement_name, statement_name_base64) = told_apart(name);
        Self { statement_name, statement_name_base64 }
    }
}

/// The same of a portal.
#[derive(Serialize)]
pub(crate) struct PortalName {
    portal_name: Box<str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    portal_name_base64: Option<Box<str>>,
}

impl PortalName {
    fn new(name: &[u8]) -> Self {
        let (portal_name, portal_name_base64) = told_apart(name);
        Self { portal_name, portal_name_base64 }
    }
}

/// The part of a name that counts, and where that is not the whole, or no UTF-8, what was sent in base64: two names that
/// read the same here are not always one.
fn told_apart(name: &[u8]) -> (Box<str>, Option<Box<str>>) {
    let counts = name.get(..TOLD_APART_BYTES).unwrap_or(name);
    let is_all = counts.len() == name.len() && std::str::from_utf8(name).is_ok();
    let sent = || STANDARD.encode(name.get(..MAX_SENT_BYTES).unwrap_or(name)).into_boxed_str();
    (lossy(counts).into_boxed_str(), (!is_all).then(sent))
}

impl Body {
    /// What there is to write down about an event, if anything. `text_ei` is that of the query or parse before it.
    pub(crate) fn of(event: &Event<'_>, text_ei: u64, parameters: Parameters) -> Option<Self> {
        Some(match *event {
            Event::Query { text, cut } => Self::Query(Text::new(text, cut)),
            Event::Parse { statement, text, cut } => {
                Self::Parse { statement: StatementName::new(statement), text: Text::new(text, cut) }
            }
            Event::Bind { portal, statement, parameters: values, cut } => Self::Bind {
                statement: StatementName::new(statement),
                portal: PortalName::new(portal),
                values: Values::new(values, cut, parameters),
            },
            Event::Execute { portal, max_rows } => {
                Self::Execute { portal: PortalName::new(portal), max_rows }
            }
            Event::Close { kind: PreparedKind::Statement, name } => {
                Self::CloseStatement(StatementName::new(name))
            }
            Event::Close { kind: PreparedKind::Portal, name } => Self::ClosePortal(PortalName::new(name)),
            Event::FunctionCall { function, arguments, cut } => {
                Self::Function { function_oid: function, values: Values::new(arguments, cut, parameters) }
            }
            Event::TextEnd { sha256, length } => Self::Digest {
                statement_ei: text_ei,
                db_query_bytes: length,
                db_query_sha256: hex::encode(sha256),
            },
            Event::ValuesEnd { .. } if parameters == Parameters::Withheld => return None,
            Event::ValuesEnd { sha256, length } => Self::ValuesDigest {
                statement_ei: text_ei,
                parameters_bytes: length,
                parameters_sha256: hex::encode(sha256),
            },
            Event::Mysql(ref command) => Self::Mysql(Command::of(command, parameters)?),
            Event::Malformed { reason } => Self::Malformed { error: reason.to_string() },
            Event::Describe { .. } | Event::Sync | Event::CopyEnd { .. } | Event::Ssh(_) => return None,
        })
    }

    pub(super) fn name_and_code(&self) -> (&'static str, &'static str) {
        match self {
            Self::Query(_) => ("db.session.query", "TDB02I"),
            Self::Parse { .. } => ("db.session.postgres.statements.parse", "TPG00I"),
            Self::Bind { .. } => ("db.session.postgres.statements.bind", "TPG01I"),
            Self::Execute { .. } => ("db.session.postgres.statements.execute", "TPG02I"),
            Self::CloseStatement(_) | Self::ClosePortal(_) => {
                ("db.session.postgres.statements.close", "TPG03I")
            }
            Self::Function { .. } => ("db.session.postgres.function", "TPG04I"),
            Self::Digest { .. } | Self::ValuesDigest { .. } => ("db.session.query.digest", "TTS01I"),
            Self::Encoding { .. } => ("db.session.postgres.encoding", "TTS02I"),
            Self::Mysql(command) => command.name_and_code(),
            Self::Malformed { .. } => ("db.session.malformed_packet", "TDB06I"),
        }
    }

    /// Bytes of its texts and values; not of names, which are short.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Query(text) | Self::Parse { text, .. } => text.bytes(),
            Self::Bind { values, .. } | Self::Function { values, .. } => {
                bytes_of(values.parameters.as_deref())
            }
            Self::Mysql(command) => command.bytes(),
            Self::Execute { .. }
            | Self::CloseStatement(_)
            | Self::ClosePortal(_)
            | Self::Digest { .. }
            | Self::ValuesDigest { .. }
            | Self::Encoding { .. }
            | Self::Malformed { .. } => 0,
        }
    }

    /// Is a digest to follow, if the text or the values go on?
    pub(crate) fn has_text(&self) -> bool {
        matches!(
            self,
            Self::Query(_)
                | Self::Parse { .. }
                | Self::Bind { .. }
                | Self::Function { .. }
                | Self::Mysql(Command::Prepare(_))
        )
    }
}

/// The text of a statement.
#[derive(Serialize)]
pub(crate) struct Text {
    db_query: String,
    /// The same bytes, where they are no UTF-8: nobody here knows what alphabet they are in.
    #[serde(skip_serializing_if = "Option::is_none")]
    db_query_base64: Option<String>,
    /// Not all of it is here.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    db_query_cut: bool,
    /// Of the whole text; only where it was cut here and not on its way.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    whole: Option<Whole>,
}

#[derive(Serialize)]
struct Whole {
    db_query_bytes: usize,
    db_query_sha256: String,
}

impl Text {
    /// `unseen`: bytes behind what is at hand.
    pub(super) fn new(text: &[u8], unseen: u64) -> Self {
        let mut shown = fitting(text, MAX_TEXT_BYTES, MAX_JSON_BYTES);
        let is_text = is_text(shown, text.len().saturating_add(beyond(unseen)));
        if !is_text {
            // There must be room for both.
            shown = fitting(text, MAX_TEXT_BYTES / 2, MAX_JSON_BYTES / 2);
        }
        let shortened = shown.len() < text.len();
        let whole = (shortened && unseen == 0).then(|| Whole {
            db_query_bytes: text.len(),
            db_query_sha256: hex::encode(digest::digest(&digest::SHA256, text).as_ref()),
        });
        let db_query_base64 = (!is_text).then(|| STANDARD.encode(shown));
        Self { db_query: lossy(shown), db_query_base64, db_query_cut: shortened || unseen > 0, whole }
    }

    pub(super) fn bytes(&self) -> usize {
        self.db_query.len() + self.db_query_base64.as_ref().map_or(0, String::len)
    }
}

/// Values of a bind or a function call, in order.
#[derive(Serialize)]
pub(crate) struct Values {
    parameter_count: usize,
    /// Text as text, binary and what is no UTF-8 as base64, NULL as null; missing where values are withheld.
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Vec<Option<String>>>,
    /// Which of them are base64, counted from 0.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parameters_base64: Vec<usize>,
    /// Values are missing or shortened.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    parameters_cut: bool,
    /// Of the whole message from its first value on; only where values were cut here and not on its way.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    whole: Option<Box<WholeValues>>,
}

#[derive(Serialize)]
struct WholeValues {
    parameters_bytes: usize,
    parameters_sha256: String,
}

impl Values {
    fn new(sent: protocols::Parameters<'_>, unseen: u64, parameters: Parameters) -> Self {
        let mut values = Self {
            parameter_count: sent.count(),
            parameters: None,
            parameters_base64: Vec::new(),
            parameters_cut: false,
            whole: None,
        };
        if parameters == Parameters::Recorded {
            values.record(sent);
            values.whole = (values.parameters_cut && unseen == 0).then(|| {
                let sha256 = digest::digest(&digest::SHA256, sent.sent());
                Box::new(WholeValues {
                    parameters_bytes: sent.sent().len(),
                    parameters_sha256: hex::encode(sha256.as_ref()),
                })
            });
            values.parameters_cut |= unseen > 0;
        }
        values
    }

    fn record(&mut self, sent: protocols::Parameters<'_>) {
        let (mut room, mut json_room) = (MAX_TEXT_BYTES, MAX_JSON_BYTES);
        let mut recorded = Vec::with_capacity(sent.count().min(MAX_PARAMETERS));
        for (index, parameter) in sent.iter().enumerate() {
            if index == MAX_PARAMETERS || room == 0 || json_room == 0 {
                self.parameters_cut = true;
                break;
            }
            recorded.push(parameter.value.map(|value| {
                let shown = fitting(value, room, json_room);
                self.parameters_cut |= shown.len() < value.len() || parameter.cut > 0;
                room -= shown.len();
                json_room = json_room.saturating_sub(shown.iter().map(json_cost).sum());
                if parameter.binary || !is_text(shown, value.len().saturating_add(beyond(parameter.cut))) {
                    self.parameters_base64.push(index);
                    STANDARD.encode(shown)
                } else {
                    lossy(shown)
                }
            }));
        }
        self.parameters = Some(recorded);
    }
}

/// So many bytes that are not at hand.
fn beyond(unseen: u64) -> usize {
    usize::try_from(unseen).unwrap_or(usize::MAX)
}

/// Bytes that values take.
pub(super) fn bytes_of(values: Option<&[Option<String>]>) -> usize {
    let values = values.unwrap_or_default();
    size_of_val(values) + values.iter().flatten().map(String::len).sum::<usize>()
}

/// As much from the beginning as may be written down.
pub(super) fn fitting(bytes: &[u8], room: usize, json_room: usize) -> &[u8] {
    let bytes = bytes.get(..room).unwrap_or(bytes);
    let mut used = 0;
    let fits = bytes.iter().position(|byte| {
        used += json_cost(byte);
        used > json_room
    });
    bytes.get(..fits.unwrap_or(bytes.len())).unwrap_or(bytes)
}

/// Bytes of JSON that a byte may become: `\u0001`, `\"`, U+FFFD, or itself.
pub(super) fn json_cost(byte: &u8) -> usize {
    match byte {
        0..=0x1f => 6,
        b'"' | b'\\' => 2,
        0x80.. => 3,
        _ => 1,
    }
}

pub(super) fn name(name: &[u8]) -> String {
    lossy(name.get(..MAX_NAME_BYTES).unwrap_or(name))
}

pub(super) fn lossy(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}
