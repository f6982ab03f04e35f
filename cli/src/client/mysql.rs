//! `mariadb` or `mysql`, whichever is installed: options, environment, and how to tell them apart.
//!
//! Both speak to MySQL and to MariaDB. Their options for TLS differ, and each stops at those of the other; so before a
//! `mysql` is told anything it is asked whose it is: on many systems the name is a link to MariaDB's.

use std::{
    env,
    ffi::{OsStr, OsString},
    os::unix::fs::PermissionsExt,
    process::Stdio,
    time::Duration,
};

use tokio::{process::Command, time::timeout};

use super::Local;

/// What to do where there is none.
pub(super) const MISSING: &str = "neither mariadb nor mysql was found: install a MySQL client \
                                  (package mariadb-client or mysql-client)";

/// A client that has not said its version after this long will not.
const VERSION_DEADLINE: Duration = Duration::from_secs(5);

/// What of the clients' environment is the user's taste. Every other variable of theirs could lead the connection elsewhere,
/// bring a password, or add groups of options that turn on TLS towards the local port, so it is dropped.
const KEPT: &[&str] =
    &["MYSQL_HISTFILE", "MYSQL_HISTIGNORE", "MYSQL_PS1", "MARIADB_HISTFILE", "MARIADB_HISTIGNORE"];

/// How the clients' variables begin.
const THEIRS: &[&str] = &["MYSQL_", "MARIADB_", "LIBMYSQL_"];

/// Whose client it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// MariaDB's.
    Mariadb,
    /// Oracle's.
    Mysql,
}

/// A client that is installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Installed {
    /// The name to run it by.
    pub program: &'static str,
    /// Whose it is.
    pub flavour: Flavour,
}

impl Default for Installed {
    /// Where none is installed: what most documentation speaks of.
    fn default() -> Self {
        Self { program: "mysql", flavour: Flavour::Mysql }
    }
}

/// The client to use: `mariadb`, as Teleport prefers, else `mysql`.
pub async fn installed() -> Option<Installed> {
    let path = env::var_os("PATH").unwrap_or_default();
    if is_on(&path, "mariadb") {
        return Some(Installed { program: "mariadb", flavour: Flavour::Mariadb });
    }
    if !is_on(&path, "mysql") {
        return None;
    }
    let mut asked = Command::new("mysql");
    asked.arg("--version").stdin(Stdio::null()).kill_on_drop(true);
    let version = timeout(VERSION_DEADLINE, asked.output()).await.ok()?.ok()?;
    Some(Installed { program: "mysql", flavour: flavour(&version.stdout) })
}

fn is_on(path: &OsStr, program: &str) -> bool {
    env::split_paths(path).any(|folder| {
        let found = folder.join(program).metadata();
        found.is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    })
}

/// `mysql  Ver 15.1 Distrib 10.11.6-MariaDB, …`, `mysql  Ver 8.0.36 for Linux …`
fn flavour(version: &[u8]) -> Flavour {
    let says_mariadb = version.windows(7).any(|word| word.eq_ignore_ascii_case(b"mariadb"));
    if says_mariadb { Flavour::Mariadb } else { Flavour::Mysql }
}

/// The client at a local port. The user's arguments come first: some are only taken there, and what is said last counts.
pub(super) fn command(
    Installed { program, flavour }: Installed,
    local: Local<'_>,
    arguments: &[OsString],
    environment: impl Iterator<Item = (OsString, OsString)>,
) -> Command {
    let mut command = Command::new(program);
    command.env_clear().envs(environment.filter(|(name, _)| is_kept(name)));
    command.args(arguments).args(options(flavour, local));
    command
}

/// The same as a line for a shell.
pub(super) fn shown(Installed { program, flavour }: Installed, local: Local<'_>) -> String {
    let words = options(flavour, local);
    let quoted = words.iter().map(|word| shlex::try_quote(word).unwrap_or_default().into_owned());
    std::iter::once(program.to_owned()).chain(quoted).collect::<Vec<_>>().join(" ")
}

/// `localhost` would mean a Unix socket to these clients, or ::1 first, where somebody else may listen on the same port. The
/// certificate is the tunnel's business: here there is no TLS, and no password to ask for.
fn options(flavour: Flavour, Local { port, user, database }: Local<'_>) -> Vec<String> {
    let mut options = vec!["--user".to_owned(), user.to_owned()];
    if !database.is_empty() {
        options.extend(["--database".to_owned(), database.to_owned()]);
    }
    options.extend(["--port".to_owned(), port.to_string()]);
    options.extend(["--host", "127.0.0.1", "--protocol", "TCP"].map(str::to_owned));
    let no_tls = match flavour {
        Flavour::Mariadb => "--skip-ssl",
        Flavour::Mysql => "--ssl-mode=DISABLED",
    };
    options.extend([no_tls, "--skip-password"].map(str::to_owned));
    options
}

fn is_kept(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    !THEIRS.iter().any(|prefix| name.starts_with(prefix)) || KEPT.contains(&&*name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: Local<'_> = Local { port: 62652, user: "alice", database: "shop" };

    const MARIADB: Installed = Installed { program: "mariadb", flavour: Flavour::Mariadb };

    #[test]
    fn whose_a_mysql_is_it_says_itself() {
        for (said, expected) in [
            ("mysql  Ver 15.1 Distrib 10.11.6-MariaDB, for debian-linux-gnu (x86_64)", Flavour::Mariadb),
            ("mysql from 11.4.2-MariaDB, client 15.2 for Linux (x86_64)", Flavour::Mariadb),
            ("mysql  Ver 8.0.36 for Linux on x86_64 (MySQL Community Server - GPL)", Flavour::Mysql),
            ("", Flavour::Mysql),
        ] {
            assert_eq!(flavour(said.as_bytes()), expected, "{said}");
        }
    }

    #[test]
    fn a_client_is_found_where_it_can_be_run() {
        let folder = tempfile::tempdir().unwrap();
        let (program, path) = (folder.path().join("mariadb"), folder.path().as_os_str().to_owned());
        assert!(!is_on(&path, "mariadb"));
        std::fs::write(&program, "").unwrap();
        assert!(!is_on(&path, "mariadb"), "it cannot be run");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(is_on(&path, "mariadb"));
        assert!(!is_on(&path, "mysql"));
    }

    #[test]
    fn each_client_is_told_in_its_own_words_to_do_without_tls() {
        assert_eq!(
            shown(MARIADB, LOCAL),
            "mariadb --user alice --database shop --port 62652 --host 127.0.0.1 --protocol TCP --skip-ssl --skip-password"
        );
        let mysql = shown(Installed::default(), LOCAL);
        assert!(mysql.starts_with("mysql ") && mysql.contains("--ssl-mode=DISABLED"), "{mysql}");
    }

    #[test]
    fn without_a_database_none_is_named() {
        assert!(!shown(MARIADB, Local { database: "", ..LOCAL }).contains("--database"));
    }

    #[test]
    fn a_shown_line_runs_nothing_else_in_a_shell() {
        let line = shown(MARIADB, Local { user: "a; rm -rf ~", database: "`x` 'y'", ..LOCAL });
        let words = shlex::split(&line).unwrap();
        assert_eq!(words[1..5], ["--user", "a; rm -rf ~", "--database", "`x` 'y'"]);
    }

    #[test]
    fn nothing_in_the_environment_leads_the_client_elsewhere() {
        let names = [
            "MYSQL_HOST",
            "MYSQL_PWD",
            "MYSQL_TCP_PORT",
            "MYSQL_GROUP_SUFFIX",
            "LIBMYSQL_PLUGINS",
            "MARIADB_HOME",
        ];
        let kept = ["MYSQL_PS1", "PAGER", "HOME"];
        let given = names.iter().map(|name| (name.into(), "evil".into()));
        let given = given.chain(kept.iter().map(|name| (name.into(), "mine".into())));
        let command = command(MARIADB, LOCAL, &[], given);
        let values: Vec<_> = command.as_std().get_envs().filter_map(|(_, value)| value).collect();
        assert_eq!(values, ["mine"; 3]);
    }

    #[test]
    fn the_users_own_arguments_cannot_say_the_last_word() {
        let given = ["--host=elsewhere".into(), "-e".into(), "select 1".into()];
        let command = command(MARIADB, LOCAL, &given, std::iter::empty());
        let arguments: Vec<_> = command.as_std().get_args().collect();
        assert_eq!(arguments[..3], ["--host=elsewhere", "-e", "select 1"]);
        assert!(arguments[3..].contains(&OsStr::new("127.0.0.1")));
    }
}
