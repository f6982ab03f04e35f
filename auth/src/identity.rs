//! Who a certificate says is there, and what they ask for: the newtypes that the whole project shares.

use std::{collections::BTreeMap, fmt, net::IpAddr, time::SystemTime};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::text::may_stand;

/// The longest name accepted anywhere, in bytes.
pub const MAX_NAME_BYTES: usize = 255;

/// Why a string is not a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The name has no characters.
    #[error("{what} is empty")]
    Empty {
        /// Which kind of name.
        what: &'static str,
    },
    /// The name is longer than [`MAX_NAME_BYTES`].
    #[error("{what} is {length} bytes long, more than {MAX_NAME_BYTES}")]
    TooLong {
        /// Which kind of name.
        what: &'static str,
        /// Its length in bytes.
        length: usize,
    },
    /// A character that this kind of name may not contain. Commas and line breaks would split one SSH principal into
    /// two (CVE-2026-35414); control characters would forge log lines.
    #[error("{what} contains {character:?}")]
    Character {
        /// Which kind of name.
        what: &'static str,
        /// The first offending character.
        character: char,
    },
    /// White space at either end.
    #[error("{what} begins or ends with white space")]
    Padded {
        /// Which kind of name.
        what: &'static str,
    },
}

fn check_name(what: &'static str, name: &str, allowed: fn(char) -> bool) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty { what });
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(NameError::TooLong { what, length: name.len() });
    }
    if name.trim() != name {
        return Err(NameError::Padded { what });
    }
    match name.chars().find(|&c| !allowed(c)) {
        Some(character) => Err(NameError::Character { what, character }),
        None => Ok(()),
    }
}

/// Any printable text without a comma: e-mail addresses and names of every script are fine. What turns the direction of
/// writing is not: one name would read as another (Unicode TR 36, 3.7).
fn printable(c: char) -> bool {
    may_stand(c) && c != ','
}

/// What a host name may contain, so that a target's name can stand in a certificate.
fn host_like(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $allowed:path) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// Checks a name from outside.
            ///
            /// # Errors
            /// [`NameError`] says what is wrong with it.
            pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
                let name = name.into();
                check_name($what, &name, $allowed)?;
                Ok(Self(name))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(name: String) -> Result<Self, NameError> {
                Self::new(name)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name! {
    /// Whom a certificate names.
    UserName, "user name", printable
}
name! {
    /// Names a role.
    RoleName, "role name", printable
}
name! {
    /// Names the cluster: one authd and all that trusts it.
    ClusterName, "cluster name", host_like
}
name! {
    /// Names what a sidecar guards. ASCII letters, digits, `-`, `_`, `.`, so that it can be a certificate's SAN.
    TargetName, "target name", host_like
}

/// Names an MFA device, in certificates, locks and audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeviceId(pub Uuid);

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What is known about a user beyond roles: `logins`, `db_users`, `db_names`, and whatever else roles refer to by
/// `{{internal.…}}` and `{{external.…}}`. Ordered, so that equal traits compare, hash and serialise equally.
pub type Traits = BTreeMap<String, Vec<String>>;

/// What a target speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// PostgreSQL: database user and database name are both checked.
    Postgres,
    /// MySQL and MariaDB: the database user is checked; names are not (cross-database queries cannot be prevented).
    Mysql,
    /// SSH: the login is checked.
    Ssh,
}

impl Protocol {
    /// The word used in configuration, certificates and audit.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Mysql => "mysql",
            Self::Ssh => "ssh",
        }
    }

    /// Reads the word of [`Protocol::as_str`].
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Postgres, Self::Mysql, Self::Ssh].into_iter().find(|p| p.as_str() == word)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the client asks to be at the target.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Login {
    /// At a database.
    Database {
        /// Database user, compared byte for byte.
        user: String,
        /// Database name; empty only for MySQL, where a session may begin in none.
        name: String,
    },
    /// At an SSH host.
    Node {
        /// Operating system account.
        login: String,
    },
}

/// The one session that a session certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Name of the target.
    pub target: TargetName,
    /// What the target speaks.
    pub protocol: Protocol,
    /// What the session may ask to be.
    pub login: Login,
}

impl Route {
    /// Whether the session that this is for may ask to be `asked`: exactly what the route says.
    ///
    /// At MySQL the name of a database says where a session begins and is no boundary: `USE` and queries across databases
    /// cannot be prevented, and policy does not look at it. So a route without a name leaves it open, and any session may
    /// begin in no database. Another database than the route's is refused all the same: nobody touched a key for it.
    #[must_use]
    pub fn covers(&self, asked: &Login) -> bool {
        match (self.protocol, &self.login, asked) {
            (Protocol::Mysql, Login::Database { user, name }, Login::Database { user: who, name: place }) => {
                user == who && (name == place || name.is_empty() || place.is_empty())
            }
            (_, login, asked) => login == asked,
        }
    }
}

/// What a certificate says about MFA. Only a security key leaves proof that a sidecar can check by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MfaEvidence {
    /// The certificate makes no claim.
    None,
    /// authd says that this device answered. For an OTP device its word is all there is.
    Claimed {
        /// The device named in the certificate.
        device: DeviceId,
    },
    /// The device's signature over the session's intent rides along. Not yet verified.
    Receipt {
        /// The device named in the certificate.
        device: DeviceId,
        /// Encoded `touchstone.auth.v1.Receipt`.
        receipt: Vec<u8>,
    },
}

/// Who a certificate says is there. Having one says nothing about whether the certificate was genuine: see
/// `certificate` for that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user.
    pub user: UserName,
    /// The cluster that issued the certificate.
    pub cluster: ClusterName,
    /// Never empty.
    pub roles: Vec<RoleName>,
    /// Traits at the time of issue.
    pub traits: Traits,
    /// SSH logins at the time of issue (certificate principals).
    pub logins: Vec<String>,
    /// What was said about MFA.
    pub mfa: MfaEvidence,
    /// The session that the certificate is for; `None` for a login certificate.
    pub route: Option<Route>,
    /// When the certificate used to obtain this one expires.
    pub previous_expiry: Option<SystemTime>,
    /// The address that logged in, as authd saw it.
    pub login_ip: Option<IpAddr>,
    /// End of the certificate's life.
    pub not_after: SystemTime,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(user: &str, name: &str) -> Login {
        Login::Database { user: user.to_owned(), name: name.to_owned() }
    }

    fn covers(protocol: Protocol, route: &Login, asked: &Login) -> bool {
        let target = TargetName::new("target").unwrap();
        Route { target, protocol, login: route.clone() }.covers(asked)
    }

    #[test]
    fn no_name_reads_as_another() {
        for name in ["yrrej\u{202e}", "je\u{200f}rry", "a\u{2028}b", "a\u{9b}b"] {
            assert!(UserName::new(name).is_err() && RoleName::new(name).is_err(), "{name:?}");
        }
        for name in ["jerry@example.com", "Olga 用户 ü", "שלום"] {
            assert!(UserName::new(name).is_ok(), "{name:?}");
        }
    }

    #[test]
    fn a_route_covers_its_own_login_alone() {
        let login = Login::Node { login: "root".to_owned() };
        assert!(covers(Protocol::Ssh, &login, &login));
        assert!(!covers(Protocol::Ssh, &login, &Login::Node { login: "Root".to_owned() }));
        for protocol in [Protocol::Postgres, Protocol::Mysql] {
            assert!(covers(protocol, &at("app", "shop"), &at("app", "shop")));
            for other in [
                at("root", "shop"),
                at("App", "shop"),
                at("app", "payroll"),
                at("app", "Shop"),
                at("", "shop"),
            ] {
                assert!(!covers(protocol, &at("app", "shop"), &other), "{protocol}: {other:?}");
            }
            assert!(!covers(protocol, &at("root", "root"), &login), "{protocol}");
        }
    }

    #[test]
    fn a_mysql_route_without_a_database_leaves_it_open_and_never_the_user() {
        assert!(covers(Protocol::Mysql, &at("app", ""), &at("app", "shop")));
        assert!(covers(Protocol::Mysql, &at("app", ""), &at("app", "")));
        assert!(!covers(Protocol::Mysql, &at("app", ""), &at("root", "shop")));
        assert!(covers(Protocol::Mysql, &at("app", "shop"), &at("app", "")), "it may begin in none");
        assert!(!covers(Protocol::Mysql, &at("app", "shop"), &at("root", "")));
        assert!(!covers(Protocol::Postgres, &at("app", "shop"), &at("app", "")));
        assert!(!covers(Protocol::Postgres, &at("app", ""), &at("app", "shop")));
    }
}
