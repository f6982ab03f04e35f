//! A session as a scenario drives it, whatever is spoken.

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use crate::{
    door::{Door, Protocol},
    mysql, postgres,
};

/// How a small query is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// Its text each time.
    Simple,
    /// Parsed, bound and executed each time: PostgreSQL's extended protocol as drivers use it for a query that they see once.
    /// MySQL has no such thing; there it is as `Simple`.
    Extended,
    /// Parsed once, executed each time.
    Prepared,
}

/// Rows of the table that small queries look into; their keys are 1 to this.
pub(crate) const ROWS: u32 = 100_000;

/// One logged-in connection.
pub(crate) trait Session: Send {
    /// One row by its key.
    fn query(&mut self, mode: Mode, key: u32) -> Result<()>;

    /// About so many bytes of result, in rows of 1 MB; what came.
    fn download(&mut self, megabytes: u32) -> Result<u64>;

    /// So many megabytes to the database, which reads and forgets them; what was sent.
    fn upload(&mut self, megabytes: u32) -> Result<u64>;

    /// One result of about 200 KB.
    fn blob(&mut self) -> Result<()>;

    /// From now on it is silent for long.
    fn rest(&mut self);

    /// Says goodbye.
    fn close(self: Box<Self>);
}

/// Connects and logs in.
pub(crate) fn connect(door: &Door) -> Result<Box<dyn Session>> {
    Ok(match door.protocol {
        Protocol::Postgres => Box::new(postgres::Connection::open(door)?),
        Protocol::Mysql => Box::new(mysql::Connection::open(door)?),
        Protocol::Ssh => bail!("SSH is spoken by OpenSSH's client"),
    })
}

/// Keys in an order that no cache loves, the same for every way (xorshift, Marsaglia 2003).
#[derive(Clone, Debug)]
pub(crate) struct Keys(u32);

impl Keys {
    pub(crate) fn new(client: usize) -> Self {
        Self(0x9E37_79B9 ^ (u32::try_from(client).unwrap_or_default() + 1).wrapping_mul(0x85EB_CA6B))
    }

    pub(crate) fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0 % ROWS + 1
    }
}
