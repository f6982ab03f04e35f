//! What the tap sees of MySQL's commands. A query is an [`crate::Event::Query`], as everywhere; where its text
//! or that of [`MysqlEvent::Prepare`] was cut, [`crate::Event::TextEnd`] follows.

mod values;

pub(crate) use values::{Bound, Layout, attributes};
pub use values::{Value, Values};

/// One command of MySQL's protocol, or what its answer made necessary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MysqlEvent<'a> {
    /// COM_STMT_PREPARE. [`crate::Answer::Prepared`] says under which number.
    Prepare {
        /// The text.
        text: &'a [u8],
        /// Bytes of the text that are not shown, at least.
        cut: u64,
    },
    /// COM_STMT_EXECUTE.
    Execute {
        /// The statement; `u32::MAX` is the last one prepared (MariaDB).
        statement: u32,
        /// What it is given.
        values: Values<'a>,
    },
    /// COM_STMT_BULK_EXECUTE (MariaDB): once for each row of values.
    BulkExecute {
        /// The statement; `u32::MAX` is the last one prepared.
        statement: u32,
        /// The rows, one behind the other.
        values: Values<'a>,
    },
    /// COM_STMT_SEND_LONG_DATA: a part of a parameter's value.
    LongData {
        /// The statement.
        statement: u32,
        /// The parameter, from 0.
        parameter: u16,
        /// Bytes of this part, at least: a command of 16 MiB and more goes on.
        bytes: u64,
    },
    /// COM_STMT_CLOSE.
    Close {
        /// The statement.
        statement: u32,
    },
    /// COM_STMT_RESET.
    Reset {
        /// The statement.
        statement: u32,
    },
    /// COM_STMT_FETCH: rows of a cursor.
    Fetch {
        /// The statement.
        statement: u32,
        /// Rows at most.
        rows: u32,
    },
    /// COM_INIT_DB: another default database.
    InitDb {
        /// Its name.
        schema: &'a [u8],
    },
    /// COM_CREATE_DB.
    CreateDb {
        /// Its name.
        schema: &'a [u8],
    },
    /// COM_DROP_DB.
    DropDb {
        /// Its name.
        schema: &'a [u8],
    },
    /// COM_FIELD_LIST: the columns of a table.
    FieldList {
        /// The table's name.
        table: &'a [u8],
    },
    /// COM_SHUTDOWN.
    ShutDown,
    /// COM_PROCESS_KILL, or a query that is a KILL of a number of ours.
    Kill {
        /// The query, where it is one.
        text: Option<&'a [u8]>,
        /// The number as the client said it.
        thread: u64,
        /// What becomes of it.
        fate: KillFate,
    },
    /// COM_DEBUG: the upstream writes its state to its log.
    Debug,
    /// COM_REFRESH: flush, as bits say.
    Refresh {
        /// What.
        bits: u8,
    },
    /// COM_SET_OPTION: whether a query may hold several statements.
    MultiStatements {
        /// It may.
        on: bool,
    },
    /// COM_RESET_CONNECTION.
    ResetConnection,
    /// COM_CHANGE_USER, which is refused.
    ChangeUser {
        /// The database user that was asked for.
        user: &'a [u8],
        /// The database.
        database: &'a [u8],
    },
    /// A command that copies the upstream: COM_BINLOG_DUMP and what belongs to it.
    Replication {
        /// Which.
        command: &'static str,
        /// It is forwarded.
        allowed: bool,
    },
    /// The upstream, in answer to a query, asks the client for a file (`LOAD DATA LOCAL INFILE`).
    LocalInfile {
        /// The file's name.
        name: &'a [u8],
        /// Whether the client hears of it.
        fate: FileFate,
    },
    /// The client has sent the file. Shown before the upstream knows that it was the whole.
    LocalInfileEnd {
        /// Its bytes.
        bytes: u64,
    },
    /// COM_PING, COM_STATISTICS, COM_PROCESS_INFO: nothing to write down.
    Harmless {
        /// The command byte.
        command: u8,
    },
    /// A command that is not known here. It is refused.
    Unknown {
        /// The command byte.
        command: u8,
    },
}

/// What becomes of a KILL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillFate {
    /// Forwarded as it is: the number is none of ours, and the upstream decides.
    AsSent,
    /// Forwarded with the upstream's own number for one of our sessions.
    Mapped {
        /// The upstream's number.
        thread: u32,
    },
    /// Not forwarded: none of our sessions has the number.
    UnknownThread,
    /// Not forwarded: the session is somebody else's.
    NotOwner,
}

/// What becomes of an upstream's wish for a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFate {
    /// The client is asked.
    Asked,
    /// Not without a role that says so.
    NotAllowed,
    /// The client's statement names no such file.
    NotNamed,
}

impl MysqlEvent<'_> {
    /// False for what the upstream never answers.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        !matches!(
            self,
            Self::LongData { .. }
                | Self::Close { .. }
                | Self::LocalInfile { .. }
                | Self::LocalInfileEnd { .. }
        )
    }
}
