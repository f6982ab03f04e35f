//! The capability flags of both legs: which are relayed, which belong to one leg alone, and which are not done.
//!
//! A flag changes how commands or answers are encoded, so a session holds together only where both legs speak
//! with the same ones: the client is offered no more than the upstream can, and the upstream is told no more
//! than the client can. Then every command and every answer can be forwarded as it came.
//! (MySQL "Capabilities Flags"; MariaDB "Connection", "Capabilities".)

use std::fmt;
use std::ops::BitOr;

/// A set of flags: the 32 of MySQL, and above them the 32 that MariaDB added (its "extended capabilities").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Capabilities(u64);

/// A flag by its bit.
const fn flag(bit: u32) -> Capabilities {
    Capabilities(1 << bit)
}

impl Capabilities {
    /// Said by everybody but MariaDB's servers and their clients, who say by its absence that the extended
    /// flags mean something (MariaDB's name: `CLIENT_MYSQL`). Relayed: MariaDB stays MariaDB.
    pub const LONG_PASSWORD: Self = flag(0);
    /// An OK counts rows found, not changed. Relayed: the upstream counts.
    pub const FOUND_ROWS: Self = flag(1);
    /// Longer column flags. Relayed.
    pub const LONG_FLAG: Self = flag(2);
    /// A database is named at login. Of each leg: set where one is.
    pub const CONNECT_WITH_DB: Self = flag(3);
    /// `database.table.column` is an error. Relayed.
    pub const NO_SCHEMA: Self = flag(4);
    /// zlib. Of the client's leg alone (see [`Capabilities::COMPRESSIONS`]).
    pub const COMPRESS: Self = flag(5);
    /// Nothing any more. Relayed.
    pub const ODBC: Self = flag(6);
    /// `LOAD DATA LOCAL`. Relayed: the relay decides whether the upstream may ask for a file.
    pub const LOCAL_FILES: Self = flag(7);
    /// Blanks before `(`. Relayed.
    pub const IGNORE_SPACE: Self = flag(8);
    /// The protocol since 4.1. Needed on both legs.
    pub const PROTOCOL_41: Self = flag(9);
    /// `interactive_timeout` in place of `wait_timeout`. Relayed.
    pub const INTERACTIVE: Self = flag(10);
    /// TLS. Of each leg.
    pub const SSL: Self = flag(11);
    /// The client's own business. Relayed.
    pub const IGNORE_SIGPIPE: Self = flag(12);
    /// Status flags in OK and EOF. Relayed.
    pub const TRANSACTIONS: Self = flag(13);
    /// Nothing any more. Relayed.
    pub const RESERVED: Self = flag(14);
    /// Authentication since 4.1. Needed on both legs.
    pub const SECURE_CONNECTION: Self = flag(15);
    /// Several statements in a query. Relayed; the tap sees the whole text.
    pub const MULTI_STATEMENTS: Self = flag(16);
    /// Several results. Relayed.
    pub const MULTI_RESULTS: Self = flag(17);
    /// Several results of a prepared statement. Relayed.
    pub const PS_MULTI_RESULTS: Self = flag(18);
    /// Authentication plugins. Of each leg; needed at the upstream.
    pub const PLUGIN_AUTH: Self = flag(19);
    /// Connection attributes. Relayed, and the attributes with it.
    pub const CONNECT_ATTRS: Self = flag(20);
    /// An authentication response of more than 255 bytes. Of each leg.
    pub const PLUGIN_AUTH_LENENC: Self = flag(21);
    /// A session in which the password must be changed first. Relayed: without it, the upstream refuses.
    pub const EXPIRED_PASSWORDS: Self = flag(22);
    /// OK says what changed in the session. Relayed.
    pub const SESSION_TRACK: Self = flag(23);
    /// OK in the place of EOF. Relayed.
    pub const DEPRECATE_EOF: Self = flag(24);
    /// Results without metadata, where the session asks for that. Relayed.
    pub const OPTIONAL_METADATA: Self = flag(25);
    /// zstd. Of the client's leg alone (see [`Capabilities::COMPRESSIONS`]).
    pub const ZSTD: Self = flag(26);
    /// Attributes in front of a query. Relayed.
    pub const QUERY_ATTRIBUTES: Self = flag(27);
    /// A second and third password. Not done: the client proves itself by certificate, and we have one proof.
    pub const MULTI_FACTOR: Self = flag(28);
    /// MariaDB's progress reports, as its older clients ask for them. Relayed.
    pub const PROGRESS_OBSOLETE: Self = flag(29);
    /// MariaDB's extended: progress reports, which look like an ERR of number 65,535. Relayed.
    pub const MARIADB_PROGRESS: Self = flag(32);
    /// MariaDB's extended: several commands in one packet (`COM_MULTI`, withdrawn). Not done: it would hide
    /// commands from the tap.
    pub const MARIADB_MULTI: Self = flag(33);
    /// MariaDB's extended: `COM_STMT_BULK_EXECUTE`. Relayed.
    pub const MARIADB_BULK: Self = flag(34);
    /// MariaDB's extended: names of types in column definitions. Relayed.
    pub const MARIADB_METADATA: Self = flag(35);
    /// MariaDB's extended: metadata is left out when it did not change. Relayed.
    pub const MARIADB_CACHE_METADATA: Self = flag(36);
    /// MariaDB's extended: a result for each row of a bulk. Relayed.
    pub const MARIADB_BULK_UNITS: Self = flag(37);

    /// What neither leg does without.
    pub const NEEDED: Self = Self(Self::PROTOCOL_41.0 | Self::SECURE_CONNECTION.0);

    /// What both legs do alike, or neither. A flag that is not named here is not understood, and not relayed;
    /// nor are those that only clients know (`SSL_VERIFY_SERVER_CERT`, `REMEMBER_OPTIONS`).
    pub const RELAYED: Self = Self(
        Self::LONG_PASSWORD.0
            | Self::FOUND_ROWS.0
            | Self::LONG_FLAG.0
            | Self::NO_SCHEMA.0
            | Self::ODBC.0
            | Self::LOCAL_FILES.0
            | Self::IGNORE_SPACE.0
            | Self::PROTOCOL_41.0
            | Self::INTERACTIVE.0
            | Self::IGNORE_SIGPIPE.0
            | Self::TRANSACTIONS.0
            | Self::RESERVED.0
            | Self::SECURE_CONNECTION.0
            | Self::MULTI_STATEMENTS.0
            | Self::MULTI_RESULTS.0
            | Self::PS_MULTI_RESULTS.0
            | Self::CONNECT_ATTRS.0
            | Self::EXPIRED_PASSWORDS.0
            | Self::SESSION_TRACK.0
            | Self::DEPRECATE_EOF.0
            | Self::OPTIONAL_METADATA.0
            | Self::QUERY_ATTRIBUTES.0
            | Self::PROGRESS_OBSOLETE.0
            | Self::MARIADB_PROGRESS.0
            | Self::MARIADB_BULK.0
            | Self::MARIADB_METADATA.0
            | Self::MARIADB_CACHE_METADATA.0
            | Self::MARIADB_BULK_UNITS.0,
    );

    /// What the relay does on the client's leg whatever the upstream can, where a client asks for it. The upstream's leg
    /// is never compressed.
    pub const COMPRESSIONS: Self = Self(Self::COMPRESS.0 | Self::ZSTD.0);

    /// What is ours to offer to a client, beside TLS.
    pub const OURS: Self = Self(
        Self::CONNECT_WITH_DB.0 | Self::PLUGIN_AUTH.0 | Self::PLUGIN_AUTH_LENENC.0 | Self::COMPRESSIONS.0,
    );

    /// None.
    pub const NONE: Self = Self(0);

    /// MySQL's flags, and MariaDB's extended ones.
    #[must_use]
    pub const fn new(flags: u32, extended: u32) -> Self {
        Self(flags as u64 | (extended as u64) << 32)
    }

    /// MySQL's 32 flags.
    #[must_use]
    pub const fn flags(self) -> u32 {
        (self.0 & 0xFFFF_FFFF) as u32
    }

    /// MariaDB's 32 extended flags.
    #[must_use]
    pub const fn extended(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// True when all of `other` are in here.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// What is in both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What is in here and not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl BitOr for Capabilities {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use mysql_common::constants::{CapabilityFlags, MariadbCapabilities};

    use super::*;

    #[test]
    fn the_flags_are_mysqls_and_mariadbs() {
        for (ours, theirs) in [
            (Capabilities::SSL, CapabilityFlags::CLIENT_SSL),
            (Capabilities::LOCAL_FILES, CapabilityFlags::CLIENT_LOCAL_FILES),
            (Capabilities::SECURE_CONNECTION, CapabilityFlags::CLIENT_SECURE_CONNECTION),
            (Capabilities::PLUGIN_AUTH_LENENC, CapabilityFlags::CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA),
            (Capabilities::DEPRECATE_EOF, CapabilityFlags::CLIENT_DEPRECATE_EOF),
            (Capabilities::QUERY_ATTRIBUTES, CapabilityFlags::CLIENT_QUERY_ATTRIBUTES),
            (Capabilities::MULTI_FACTOR, CapabilityFlags::MULTI_FACTOR_AUTHENTICATION),
            (Capabilities::PROGRESS_OBSOLETE, CapabilityFlags::CLIENT_PROGRESS_OBSOLETE),
        ] {
            assert_eq!((ours.flags(), ours.extended()), (theirs.bits(), 0));
        }
        for (ours, theirs) in [
            (Capabilities::MARIADB_BULK, MariadbCapabilities::MARIADB_CLIENT_STMT_BULK_OPERATIONS),
            (Capabilities::MARIADB_BULK_UNITS, MariadbCapabilities::MARIADB_CLIENT_BULK_UNIT_RESULTS),
        ] {
            assert_eq!((ours.flags(), ours.extended()), (0, theirs.bits()));
        }
    }

    #[test]
    fn what_belongs_to_one_leg_is_not_relayed() {
        for of_one_leg in [
            Capabilities::SSL,
            Capabilities::COMPRESS,
            Capabilities::ZSTD,
            Capabilities::CONNECT_WITH_DB,
            Capabilities::PLUGIN_AUTH,
            Capabilities::MULTI_FACTOR,
            Capabilities::MARIADB_MULTI,
            flag(30),
            flag(31),
            flag(63),
        ] {
            assert_eq!(Capabilities::RELAYED.and(of_one_leg), Capabilities::NONE, "{of_one_leg}");
        }
    }
}
