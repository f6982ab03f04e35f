//! psql: its address and its environment.

use std::ffi::{OsStr, OsString};

use tokio::process::Command;

/// What to do where there is none.
pub(super) const MISSING: &str =
    "psql was not found: install the PostgreSQL client (package postgresql-client)";

/// What of psql's environment is the user's taste. Every other `PG…` variable could lead the connection elsewhere, turn
/// on TLS towards the local port, or bring a password or certificate into play, so it is dropped.
const KEPT: &[&str] = &[
    "PGAPPNAME",
    "PGCLIENTENCODING",
    "PGCONNECT_TIMEOUT",
    "PGDATESTYLE",
    "PGGEQO",
    "PGLOCALEDIR",
    "PGOPTIONS",
    "PGTZ",
    "PG_COLOR",
    "PG_COLORS",
];

/// `postgres://user@localhost:port/database`, user and database percent-encoded.
#[must_use]
pub fn url(user: &str, port: u16, database: &str) -> String {
    format!("postgres://{}@localhost:{port}/{}", percent_encoded(user), percent_encoded(database))
}

/// Everything but RFC 3986's unreserved characters as `%XX`.
#[must_use]
pub fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// psql at a local port, with what of an environment is its business.
pub(super) fn command(
    url: &str,
    arguments: &[OsString],
    environment: impl Iterator<Item = (OsString, OsString)>,
) -> Command {
    let mut command = Command::new("psql");
    command.env_clear().envs(environment.filter(|(name, _)| is_kept(name)));
    // `localhost` in the URL may mean ::1 first, where somebody else may listen on the same port.
    command.env("PGHOSTADDR", "127.0.0.1").env("PGSSLMODE", "disable").env("PGGSSENCMODE", "disable");
    command.args(arguments).arg(url);
    command
}

fn is_kept(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    !name.starts_with("PG") || KEPT.contains(&&*name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment_of(command: &Command) -> Vec<(String, String)> {
        let text = |value: &OsStr| value.to_string_lossy().into_owned();
        command.as_std().get_envs().filter_map(|(name, value)| Some((text(name), text(value?)))).collect()
    }

    #[test]
    fn the_url_is_teleports_with_names_encoded() {
        assert_eq!(url("alice", 62652, "postgres"), "postgres://alice@localhost:62652/postgres");
        assert_eq!(
            url("a@b/c?d#e%", 1, "söme db&host=evil"),
            "postgres://a%40b%2Fc%3Fd%23e%25@localhost:1/s%C3%B6me%20db%26host%3Devil"
        );
    }

    #[test]
    fn nothing_in_the_environment_leads_psql_elsewhere() {
        let hostile = [
            "PGHOST",
            "PGHOSTADDR",
            "PGSERVICE",
            "PGSERVICEFILE",
            "PGPASSWORD",
            "PGPASSFILE",
            "PGSSLCERT",
            "PGSSLMODE",
            "PGREQUIREAUTH",
            "PGTARGETSESSIONATTRS",
            "PGSYSCONFDIR",
        ];
        let given = hostile.iter().map(|name| ((*name).into(), "evil".into()));
        let environment = environment_of(&command("url", &[], given));
        assert!(environment.iter().all(|(_, value)| value != "evil"), "{environment:?}");
        assert!(environment.contains(&("PGHOSTADDR".into(), "127.0.0.1".into())));
        assert!(environment.contains(&("PGSSLMODE".into(), "disable".into())));
    }

    #[test]
    fn the_users_taste_is_kept() {
        let given = ["PGOPTIONS", "PSQL_PAGER", "PAGER", "PGTZ"].map(|name| (name.into(), "mine".into()));
        let environment = environment_of(&command("url", &[], given.into_iter()));
        assert_eq!(environment.iter().filter(|(_, value)| value == "mine").count(), 4);
    }

    #[test]
    fn arguments_come_before_the_url() {
        let command = command("postgres://x", &["-c".into(), "select 1".into()], std::iter::empty());
        let arguments: Vec<_> = command.as_std().get_args().collect();
        assert_eq!(arguments, ["-c", "select 1", "postgres://x"]);
    }
}
