//! What a command of MySQL's protocol says: Teleport's names and codes (`db.session.mysql.*`, TMY00I to TMY13I), and
//! some of our own for what Teleport does not record.
//!
//! | event | code | when |
//! |---|---|---|
//! | `.statements.prepare`, `.execute`, `.send_long_data`, `.close`, `.reset`, `.fetch`, `.bulk_execute` | TMY00I to TMY06I | before the command is forwarded |
//! | `.init_db`, `.create_db`, `.drop_db`, `.shut_down`, `.process_kill`, `.debug`, `.refresh` | TMY07I to TMY13I | the same |
//! | `.process_kill` | TMY11W | a KILL of a session that is somebody else's, or over: it is not forwarded |
//! | `.field_list`, `.set_option`, `.reset_connection` | TTS10I to TTS12I | before the command is forwarded |
//! | `.change_user`, `.unknown_command` | TTS13W, TTS17W | the client is refused |
//! | `.replication` | TTS14I, refused TTS14W | a replica registers, or asks for the binary log |
//! | `.local_infile` | TTS15I, refused TTS15W | the upstream asks for a file; the client does not know yet |
//! | `.local_infile.end` | TTS16I | the client has sent it; the upstream does not know yet that it was the whole |
//!
//! How each came out is a `db.session.query.result`; of a prepare that says the number (`statement_id`) by which executes
//! name it.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use protocols::{FileFate, KillFate, MysqlEvent, Value, Values as Sent};
use serde::Serialize;

use super::statement::{
    MAX_JSON_BYTES, MAX_PARAMETERS, MAX_TEXT_BYTES, Parameters, Text, bytes_of, fitting, json_cost, lossy,
    name,
};

/// The part of an event that says what the client did.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum Command {
    Prepare(Text),
    Execute {
        statement_id: u32,
        #[serde(flatten)]
        values: Values,
    },
    BulkExecute {
        statement_id: u32,
        #[serde(flatten)]
        values: Values,
    },
    LongData {
        statement_id: u32,
        parameter_id: u16,
        data_size: u64,
    },
    Close {
        statement_id: u32,
    },
    Reset {
        statement_id: u32,
    },
    Fetch {
        statement_id: u32,
        rows_count: u32,
    },
    InitDb {
        schema_name: String,
    },
    CreateDb {
        schema_name: String,
    },
    DropDb {
        schema_name: String,
    },
    ShutDown {},
    ProcessKill(Kill),
    Debug {},
    Refresh {
        /// As MySQL names the bits; a number where it names none.
        subcommand: String,
    },
    FieldList {
        table_name: String,
    },
    SetOption {
        multi_statements: bool,
    },
    ResetConnection {},
    ChangeUser {
        success: bool,
        /// What was asked for. `db_user` is whom the session is for.
        new_db_user: String,
        new_db_name: String,
    },
    Replication {
        success: bool,
        command: &'static str,
    },
    LocalInfile(File),
    LocalInfileEnd {
        file_bytes: u64,
    },
    Unknown {
        success: bool,
        command: u8,
    },
}

/// A KILL.
#[derive(Serialize)]
pub(crate) struct Kill {
    success: bool,
    /// As the client said it.
    process_id: u64,
    /// What the upstream was told in its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_process_id: Option<u32>,
    /// Where it was a query.
    #[serde(skip_serializing_if = "Option::is_none")]
    db_query: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
}

/// A file that the upstream asks the client for.
#[derive(Serialize)]
pub(crate) struct File {
    success: bool,
    file_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
}

impl Command {
    /// Bytes of its texts and values; not of names, which are short.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Prepare(text) => text.bytes(),
            Self::Execute { values, .. } | Self::BulkExecute { values, .. } => {
                bytes_of(values.parameters.as_deref())
            }
            Self::ProcessKill(Kill { db_query, .. }) => db_query.as_ref().map_or(0, String::len),
            _ => 0,
        }
    }

    /// What there is to write down about a command, if anything.
    pub(super) fn of(event: &MysqlEvent<'_>, parameters: Parameters) -> Option<Self> {
        Some(match *event {
            MysqlEvent::Prepare { text, cut } => Self::Prepare(Text::new(text, cut)),
            MysqlEvent::Execute { statement, values } => {
                Self::Execute { statement_id: statement, values: Values::new(&values, parameters) }
            }
            MysqlEvent::BulkExecute { statement, values } => {
                Self::BulkExecute { statement_id: statement, values: Values::new(&values, parameters) }
            }
            MysqlEvent::LongData { statement, parameter, bytes } => {
                Self::LongData { statement_id: statement, parameter_id: parameter, data_size: bytes }
            }
            MysqlEvent::Close { statement } => Self::Close { statement_id: statement },
            MysqlEvent::Reset { statement } => Self::Reset { statement_id: statement },
            MysqlEvent::Fetch { statement, rows } => {
                Self::Fetch { statement_id: statement, rows_count: rows }
            }
            MysqlEvent::InitDb { schema } => Self::InitDb { schema_name: name(schema) },
            MysqlEvent::CreateDb { schema } => Self::CreateDb { schema_name: name(schema) },
            MysqlEvent::DropDb { schema } => Self::DropDb { schema_name: name(schema) },
            MysqlEvent::ShutDown => Self::ShutDown {},
            MysqlEvent::Kill { text, thread, fate } => Self::ProcessKill(Kill::new(text, thread, fate)),
            MysqlEvent::Debug => Self::Debug {},
            MysqlEvent::Refresh { bits } => Self::Refresh { subcommand: refreshed(bits) },
            MysqlEvent::FieldList { table } => Self::FieldList { table_name: name(table) },
            MysqlEvent::MultiStatements { on } => Self::SetOption { multi_statements: on },
            MysqlEvent::ResetConnection => Self::ResetConnection {},
            MysqlEvent::ChangeUser { user, database } => {
                Self::ChangeUser { success: false, new_db_user: name(user), new_db_name: name(database) }
            }
            MysqlEvent::Replication { command, allowed } => Self::Replication { success: allowed, command },
            MysqlEvent::LocalInfile { name, fate } => Self::LocalInfile(File::new(name, fate)),
            MysqlEvent::LocalInfileEnd { bytes } => Self::LocalInfileEnd { file_bytes: bytes },
            MysqlEvent::Unknown { command } => Self::Unknown { success: false, command },
            MysqlEvent::Harmless { .. } => return None,
        })
    }

    pub(super) fn name_and_code(&self) -> (&'static str, &'static str) {
        match self {
            Self::Prepare(_) => ("db.session.mysql.statements.prepare", "TMY00I"),
            Self::Execute { .. } => ("db.session.mysql.statements.execute", "TMY01I"),
            Self::LongData { .. } => ("db.session.mysql.statements.send_long_data", "TMY02I"),
            Self::Close { .. } => ("db.session.mysql.statements.close", "TMY03I"),
            Self::Reset { .. } => ("db.session.mysql.statements.reset", "TMY04I"),
            Self::Fetch { .. } => ("db.session.mysql.statements.fetch", "TMY05I"),
            Self::BulkExecute { .. } => ("db.session.mysql.statements.bulk_execute", "TMY06I"),
            Self::InitDb { .. } => ("db.session.mysql.init_db", "TMY07I"),
            Self::CreateDb { .. } => ("db.session.mysql.create_db", "TMY08I"),
            Self::DropDb { .. } => ("db.session.mysql.drop_db", "TMY09I"),
            Self::ShutDown {} => ("db.session.mysql.shut_down", "TMY10I"),
            Self::ProcessKill(Kill { success: true, .. }) => ("db.session.mysql.process_kill", "TMY11I"),
            Self::ProcessKill(_) => ("db.session.mysql.process_kill", "TMY11W"),
            Self::Debug {} => ("db.session.mysql.debug", "TMY12I"),
            Self::Refresh { .. } => ("db.session.mysql.refresh", "TMY13I"),
            Self::FieldList { .. } => ("db.session.mysql.field_list", "TTS10I"),
            Self::SetOption { .. } => ("db.session.mysql.set_option", "TTS11I"),
            Self::ResetConnection {} => ("db.session.mysql.reset_connection", "TTS12I"),
            Self::ChangeUser { .. } => ("db.session.mysql.change_user", "TTS13W"),
            Self::Replication { success: true, .. } => ("db.session.mysql.replication", "TTS14I"),
            Self::Replication { .. } => ("db.session.mysql.replication", "TTS14W"),
            Self::LocalInfile(File { success: true, .. }) => ("db.session.mysql.local_infile", "TTS15I"),
            Self::LocalInfile(_) => ("db.session.mysql.local_infile", "TTS15W"),
            Self::LocalInfileEnd { .. } => ("db.session.mysql.local_infile.end", "TTS16I"),
            Self::Unknown { .. } => ("db.session.mysql.unknown_command", "TTS17W"),
        }
    }
}

impl Kill {
    fn new(text: Option<&[u8]>, thread: u64, fate: KillFate) -> Self {
        let (upstream_process_id, error) = match fate {
            KillFate::AsSent => (None, None),
            KillFate::Mapped { thread } => (Some(thread), None),
            KillFate::UnknownThread => (None, Some("no session has this number")),
            KillFate::NotOwner => (None, Some("the session with this number is somebody else's")),
        };
        Self {
            success: error.is_none(),
            process_id: thread,
            upstream_process_id,
            db_query: text.map(name),
            error,
        }
    }
}

impl File {
    fn new(file: &[u8], fate: FileFate) -> Self {
        let error = match fate {
            FileFate::Asked => None,
            FileFate::NotAllowed => Some("no role allows it (db_local_infile)"),
            FileFate::NotNamed => Some("the statement does not name it: the upstream may be hostile"),
        };
        Self { success: error.is_none(), file_name: name(file), error }
    }
}

/// What COM_REFRESH flushes, as MySQL names it (`REFRESH_…`).
fn refreshed(bits: u8) -> String {
    const NAMES: [&str; 8] = ["grant", "log", "tables", "hosts", "status", "threads", "replica", "source"];
    let set = NAMES.iter().enumerate().filter(|(bit, _)| bits >> bit & 1 == 1);
    let names = set.map(|(_, name)| *name).collect::<Vec<_>>().join(",");
    if names.is_empty() { bits.to_string() } else { names }
}

/// Values of an execute, in order; of a bulk, row after row.
#[derive(Serialize)]
pub(crate) struct Values {
    /// In each row; missing where it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    parameter_count: Option<u16>,
    /// As text; missing where values are withheld.
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Vec<Option<String>>>,
    /// Which of them are base64, counted from 0.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parameters_base64: Vec<usize>,
    /// Which of them were sent before, in parts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parameters_in_parts: Vec<usize>,
    /// Which of them were left to the database: a default, or what is there already.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parameters_unset: Vec<usize>,
    /// Values are missing or shortened.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    parameters_cut: bool,
}

/// What is left of the room for the values of one event.
struct Room {
    text: usize,
    json: usize,
}

impl Values {
    fn new(sent: &Sent<'_>, parameters: Parameters) -> Self {
        let mut values = Self {
            parameter_count: sent.count(),
            parameters: None,
            parameters_base64: Vec::new(),
            parameters_in_parts: Vec::new(),
            parameters_unset: Vec::new(),
            parameters_cut: false,
        };
        if parameters == Parameters::Recorded {
            values.record(sent);
        }
        values
    }

    fn record(&mut self, sent: &Sent<'_>) {
        let mut room = Room { text: MAX_TEXT_BYTES, json: MAX_JSON_BYTES };
        let mut recorded = Vec::new();
        for (index, value) in sent.iter().enumerate() {
            if index == MAX_PARAMETERS || room.text == 0 || room.json == 0 {
                self.parameters_cut = true;
                break;
            }
            recorded.push(self.value(index, &value, &mut room));
        }
        let all = match sent.count() {
            Some(count) if !sent.is_bulk() => recorded.len() == usize::from(count),
            known => known.is_some(),
        };
        self.parameters_cut |= !all || sent.cut() > 0;
        self.parameters = Some(recorded);
    }

    fn value(&mut self, index: usize, value: &Value<'_>, room: &mut Room) -> Option<String> {
        let text = match *value {
            Value::Null => return None,
            Value::InParts => {
                self.parameters_in_parts.push(index);
                return None;
            }
            Value::Default | Value::Ignored => {
                self.parameters_unset.push(index);
                return None;
            }
            Value::Text { bytes, cut } | Value::Bytes { bytes, cut } => {
                return Some(self.bytes(index, bytes, cut, room));
            }
            Value::Int(number) => number.to_string(),
            Value::Unsigned(number) => number.to_string(),
            Value::Float(number) => number.to_string(),
            Value::Double(number) => number.to_string(),
            Value::Date { year, month, day, time: None } => format!("{year:04}-{month:02}-{day:02}"),
            Value::Date { year, month, day, time: Some(time) } => {
                format!("{year:04}-{month:02}-{day:02} {}", clock(time))
            }
            Value::Time { negative, days, time } => {
                format!("{}{days} {}", if negative { "-" } else { "" }, clock(time))
            }
        };
        room.take(text.as_bytes());
        Some(text)
    }

    /// Characters as they are; what is none as base64, whatever type the client gave it.
    fn bytes(&mut self, index: usize, bytes: &[u8], cut: u64, room: &mut Room) -> String {
        let shown = fitting(bytes, room.text, room.json);
        self.parameters_cut |= shown.len() < bytes.len() || cut > 0;
        room.take(shown);
        if is_text(shown, bytes.len() + usize::try_from(cut).unwrap_or(usize::MAX / 2)) {
            return lossy(shown);
        }
        self.parameters_base64.push(index);
        STANDARD.encode(shown)
    }
}

impl Room {
    fn take(&mut self, shown: &[u8]) {
        self.text = self.text.saturating_sub(shown.len());
        self.json = self.json.saturating_sub(shown.iter().map(json_cost).sum());
    }
}

/// Is it UTF-8, as far as it goes? The last character may be cut where the value is.
pub(super) fn is_text(shown: &[u8], whole: usize) -> bool {
    match std::str::from_utf8(shown) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none() && shown.len() < whole,
    }
}

fn clock((hour, minute, second, micro): (u8, u8, u8, u32)) -> String {
    match micro {
        0 => format!("{hour:02}:{minute:02}:{second:02}"),
        _ => format!("{hour:02}:{minute:02}:{second:02}.{micro:06}"),
    }
}

#[cfg(test)]
mod tests;
