//! What a database speaks, as far as tsh can speak it.

use serde::{Deserialize, Serialize};

/// The protocols whose databases tsh can reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DatabaseProtocol {
    /// PostgreSQL. A session is always in one database.
    #[default]
    Postgres,
    /// MySQL and MariaDB. A session may begin in no database, and may leave the one in which it began.
    Mysql,
}

impl DatabaseProtocol {
    /// Reads the service's word for it.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "postgres" => Some(Self::Postgres),
            "mysql" => Some(Self::Mysql),
            _ => None,
        }
    }

    /// What such a database is called in texts: Teleport's words.
    #[must_use]
    pub fn display_name(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL",
            Self::Mysql => "MySQL",
        }
    }

    /// What the sidecar offers to tunnels: TLS first, then the protocol in the plain.
    #[must_use]
    pub fn tunnel_alpn(self) -> &'static [u8] {
        match self {
            Self::Postgres => b"touchstone-postgres",
            Self::Mysql => b"touchstone-mysql",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_the_services() {
        for (protocol, word) in [(DatabaseProtocol::Postgres, "postgres"), (DatabaseProtocol::Mysql, "mysql")]
        {
            assert_eq!(DatabaseProtocol::parse(word), Some(protocol));
            assert_eq!(serde_json::to_value(protocol).unwrap(), word);
        }
        for other in ["ssh", "", "MySQL", "oracle"] {
            assert_eq!(DatabaseProtocol::parse(other), None);
        }
    }
}
