//! HOT: commands as borrowed views, and what becomes of each (MySQL "Command Phase"; MariaDB "Text Protocol",
//! "Binary Protocol").
//!
//! What is not known is refused: the upstream may know it, and the tap would not see what it did.

use crate::event::mysql::{KillFate, attributes};
use crate::event::{Event, Malformed, MysqlEvent};
use crate::reader::{Reader, Short};

use super::responses::{Reply, Terms};
use super::statements::Statements;
use super::{error_packet, kill};

/// Command bytes (`enum_server_command`).
pub(super) const QUIT: u8 = 1;
const INIT_DB: u8 = 2;
pub(super) const QUERY: u8 = 3;
const FIELD_LIST: u8 = 4;
const CREATE_DB: u8 = 5;
const DROP_DB: u8 = 6;
const REFRESH: u8 = 7;
const SHUTDOWN: u8 = 8;
const STATISTICS: u8 = 9;
const PROCESS_INFO: u8 = 10;
const PROCESS_KILL: u8 = 12;
const DEBUG: u8 = 13;
const PING: u8 = 14;
const CHANGE_USER: u8 = 17;
const BINLOG_DUMP: u8 = 18;
const REGISTER_SLAVE: u8 = 21;
const STMT_PREPARE: u8 = 22;
pub(super) const STMT_EXECUTE: u8 = 23;
const STMT_SEND_LONG_DATA: u8 = 24;
const STMT_CLOSE: u8 = 25;
const STMT_RESET: u8 = 26;
const SET_OPTION: u8 = 27;
pub(super) const STMT_FETCH: u8 = 28;
const BINLOG_DUMP_GTID: u8 = 30;
const RESET_CONNECTION: u8 = 31;
pub(super) const STMT_BULK_EXECUTE: u8 = 250;

/// Bytes of a name that is shown.
const MAX_NAME: usize = 1024;

/// What becomes of a command.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Forwarded, and answered so.
    Forward(Reply),
    /// Forwarded, and not answered.
    Silent,
    /// Forwarded; then the session's settings are made again.
    Reset,
    /// This payload is forwarded in its place.
    Instead(Vec<u8>, Reply),
    /// Not forwarded. The client is told this.
    Refuse(Vec<u8>),
}

/// What the decision about a command depends on.
pub(super) struct Judge<K> {
    pub(super) terms: Terms,
    pub(super) replication_allowed: bool,
    /// What becomes of a KILL of one of our numbers; of another one it is not asked.
    pub(super) kill: K,
}

/// A command: the beginning of its payload, or all of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Command<'a> {
    /// The first byte.
    pub(super) kind: u8,
    /// What follows.
    pub(super) content: &'a [u8],
    /// Bytes that are not shown, at least.
    pub(super) cut: u64,
}

impl<K: Fn(u64) -> KillFate> Judge<K> {
    /// What a command is, and what becomes of it.
    ///
    /// # Errors
    /// It does not hold what it says.
    pub(super) fn decide<'a>(
        &self,
        command: Command<'a>,
        statements: &'a mut Statements,
    ) -> Result<(Event<'a>, Fate), Malformed> {
        let wrong = |Short| Malformed::Content(command.kind);
        match command.kind {
            QUERY => return self.query(command).map_err(wrong),
            STMT_PREPARE..=STMT_RESET | STMT_FETCH | STMT_BULK_EXECUTE => {
                let (event, fate) = self.statement(command, statements).map_err(wrong)?;
                return Ok((Event::Mysql(event), fate));
            }
            _ => {}
        }
        let (event, fate) = self.other(command).map_err(wrong)?;
        if event == MysqlEvent::ResetConnection {
            statements.clear();
        }
        Ok((Event::Mysql(event), fate))
    }

    fn query<'a>(&self, Command { content, cut, .. }: Command<'a>) -> Result<(Event<'a>, Fate), Short> {
        let mut reader = Reader::new(content);
        if self.terms.query_attributes {
            // Attributes that are longer than the view leave no text in it: nobody could say what was run.
            attributes(&mut reader)?;
        }
        let text = reader.rest();
        let forwarded = (Event::Query { text, cut }, Fate::Forward(Reply::Results));
        let Some((place, thread)) = kill::find(text).filter(|_| cut == 0) else { return Ok(forwarded) };
        let killed = (self.kill)(thread);
        let fate = match killed {
            KillFate::AsSent => return Ok(forwarded),
            KillFate::Mapped { thread } => {
                let front = content.get(..content.len() - text.len()).ok_or(Short)?;
                let payload = [&[QUERY], front, &kill::replace(text, place, thread)].concat();
                Fate::Instead(payload, Reply::Results)
            }
            KillFate::UnknownThread | KillFate::NotOwner => no_kill(killed, thread),
        };
        Ok((Event::Mysql(MysqlEvent::Kill { text: Some(text), thread, fate: killed }), fate))
    }

    fn statement<'a>(
        &self,
        Command { kind, content, cut }: Command<'a>,
        statements: &'a mut Statements,
    ) -> Result<(MysqlEvent<'a>, Fate), Short> {
        if kind == STMT_PREPARE {
            return Ok((MysqlEvent::Prepare { text: content, cut }, Fate::Forward(Reply::Prepared)));
        }
        let mut reader = Reader::new(content);
        let statement = reader.u32_le()?;
        Ok(match kind {
            STMT_EXECUTE => {
                let values = statements.execute(statement, reader.rest(), self.terms.query_attributes, cut);
                (MysqlEvent::Execute { statement, values }, Fate::Forward(Reply::Results))
            }
            STMT_BULK_EXECUTE => {
                let values = statements.bulk(statement, reader.rest(), cut);
                (MysqlEvent::BulkExecute { statement, values }, Fate::Forward(Reply::Results))
            }
            STMT_SEND_LONG_DATA => {
                let parameter = reader.u16_le()?;
                statements.part(statement, parameter);
                let bytes = reader.rest().len() as u64 + cut;
                (MysqlEvent::LongData { statement, parameter, bytes }, Fate::Silent)
            }
            STMT_CLOSE => {
                statements.close(statement);
                (MysqlEvent::Close { statement }, Fate::Silent)
            }
            STMT_RESET => {
                statements.reset(statement);
                (MysqlEvent::Reset { statement }, Fate::Forward(Reply::One))
            }
            _ => (MysqlEvent::Fetch { statement, rows: reader.u32_le()? }, Fate::Forward(Reply::Rows)),
        })
    }

    fn other<'a>(
        &self,
        Command { kind: command, content, .. }: Command<'a>,
    ) -> Result<(MysqlEvent<'a>, Fate), Short> {
        let mut reader = Reader::new(content);
        let name = content.get(..MAX_NAME).unwrap_or(content);
        let one = Fate::Forward(Reply::One);
        Ok(match command {
            INIT_DB => (MysqlEvent::InitDb { schema: name }, one),
            CREATE_DB => (MysqlEvent::CreateDb { schema: name }, one),
            DROP_DB => (MysqlEvent::DropDb { schema: name }, one),
            FIELD_LIST => {
                let table = reader.text().unwrap_or(content);
                let table = table.get(..MAX_NAME).unwrap_or(table);
                (MysqlEvent::FieldList { table }, Fate::Forward(Reply::Rows))
            }
            REFRESH => (MysqlEvent::Refresh { bits: reader.u8()? }, one),
            SHUTDOWN => (MysqlEvent::ShutDown, one),
            DEBUG => (MysqlEvent::Debug, one),
            PING => (MysqlEvent::Harmless { command }, one),
            STATISTICS => (MysqlEvent::Harmless { command }, Fate::Forward(Reply::Text)),
            PROCESS_INFO => (MysqlEvent::Harmless { command }, Fate::Forward(Reply::Results)),
            SET_OPTION => (MysqlEvent::MultiStatements { on: reader.u16_le()? == 0 }, one),
            RESET_CONNECTION => (MysqlEvent::ResetConnection, Fate::Reset),
            PROCESS_KILL => self.process_kill(reader.u32_le()?),
            CHANGE_USER => change_user(reader)?,
            BINLOG_DUMP => self.replication("COM_BINLOG_DUMP", Reply::Dump),
            BINLOG_DUMP_GTID => self.replication("COM_BINLOG_DUMP_GTID", Reply::Dump),
            REGISTER_SLAVE => self.replication("COM_REGISTER_SLAVE", Reply::One),
            _ => {
                let refused = error_packet::error(1047, b"08S01", "this command is not offered here");
                (MysqlEvent::Unknown { command }, Fate::Refuse(refused))
            }
        })
    }

    fn process_kill<'a>(&self, number: u32) -> (MysqlEvent<'a>, Fate) {
        let thread = u64::from(number);
        let killed = (self.kill)(thread);
        let fate = match killed {
            KillFate::AsSent => Fate::Forward(Reply::One),
            KillFate::Mapped { thread } => {
                Fate::Instead([&[PROCESS_KILL][..], &thread.to_le_bytes()].concat(), Reply::One)
            }
            KillFate::UnknownThread | KillFate::NotOwner => no_kill(killed, thread),
        };
        (MysqlEvent::Kill { text: None, thread, fate: killed }, fate)
    }

    fn replication<'a>(&self, command: &'static str, reply: Reply) -> (MysqlEvent<'a>, Fate) {
        let allowed = self.replication_allowed;
        let fate = match allowed {
            true => Fate::Forward(reply),
            false => Fate::Refuse(error_packet::error(
                1227,
                b"42000",
                "replication is not allowed; a role needs the option db_replication",
            )),
        };
        (MysqlEvent::Replication { command, allowed }, fate)
    }
}

/// As MySQL says it.
fn no_kill(fate: KillFate, thread: u64) -> Fate {
    Fate::Refuse(match fate {
        KillFate::NotOwner => {
            error_packet::error(1095, b"HY000", &format!("You are not owner of thread {thread}"))
        }
        _ => error_packet::error(1094, b"HY000", &format!("Unknown thread id: {thread}")),
    })
}

/// User, an answer to a scramble, and a database (MySQL `COM_CHANGE_USER`).
fn change_user<'a>(mut reader: Reader<'a>) -> Result<(MysqlEvent<'a>, Fate), Short> {
    let user = reader.text()?;
    let length = reader.u8()?;
    reader.take(length.into())?;
    let database = reader.text()?;
    let shown = |name: &'a [u8]| name.get(..MAX_NAME).unwrap_or(name);
    let refused = error_packet::error(
        1045,
        b"28000",
        "a session is for one database user; open a new one for another (COM_RESET_CONNECTION resets this one)",
    );
    Ok((MysqlEvent::ChangeUser { user: shown(user), database: shown(database) }, Fate::Refuse(refused)))
}

#[cfg(test)]
mod tests;
