//! A real MariaDB: a data directory of its own in the world's directory, on a loopback port of its own.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{
    Tctl, binaries,
    mariadb_client::MariadbClient,
    owner::Owner,
    process::{self, Daemon, poll},
};

/// Longest that making the data directory or the server's start may take on a busy machine.
const STARTING: Duration = Duration::from_secs(60);

/// For the data directory and the server alike: small, and nothing has to survive a crash of the machine.
const ENGINE: [&str; 4] = [
    "--innodb-log-file-size=8M",
    "--innodb-buffer-pool-size=16M",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-flush-method=nosync",
];

/// A running MariaDB. Stopped when dropped.
pub struct Mariadb {
    server: Daemon,
    port: u16,
    socket: PathBuf,
}

impl Mariadb {
    /// Makes a data directory below `dir` with a certificate from `tctl auth sign` and starts it: database `app`; over TLS
    /// whoever has a client certificate of their own name (`REQUIRE SUBJECT '/CN=jerry'`), and `password` and `ed25519` with
    /// their passwords; on the Unix socket everybody who can reach it.
    ///
    /// # Errors
    /// When MariaDB is not installed or does not start.
    pub fn start(dir: &Path, tctl: &Tctl) -> Result<Self> {
        Self::start_with(dir, tctl, &[])
    }

    /// The same with options of the server's own: `--max-allowed-packet=64M`.
    ///
    /// # Errors
    /// When MariaDB is not installed or does not start.
    pub fn start_with(dir: &Path, tctl: &Tctl, options: &[&str]) -> Result<Self> {
        fs::create_dir(dir).context("directory of MariaDB")?;
        let (data, socket) = (dir.join("data"), dir.join("mysqld.sock"));
        let out = format!("--out={}", dir.join("server").display());
        tctl.ok(&["auth", "sign", "--format=db", "--host=localhost,127.0.0.1", &out])?;
        let owner = Owner::choose("mysql")?;
        owner.give(dir)?;
        for file in ["server.crt", "server.key", "server.cas"] {
            owner.give(&dir.join(file))?;
        }

        let mut install = owner.command(&binaries::mariadb("mariadb-install-db")?, "KILL");
        install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
        install
            .args(ENGINE)
            .args(own_tables(dir))
            .arg(format!("--datadir={}", data.display()))
            .current_dir(dir);
        process::run(install, "", STARTING)?.output()?;

        // The port is free until somebody else takes it between our look and the server's start: then another is tried.
        for _ in 0..5 {
            let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
            let mut command = owner.command(&binaries::mariadb("mariadbd")?, "KILL");
            command.args(server_options(dir, port)).args(ENGINE).args(own_tables(dir)).args(options);
            command.current_dir(dir);
            let server = Daemon::start("mariadbd", command)?;
            let ready = |line: &str| {
                let ready = line.contains("ready for connections");
                let taken = line.contains("Can't start server");
                (ready || taken).then_some(ready)
            };
            if server.wait_for("MariaDB to start", STARTING, ready)? {
                let mariadb = Self { server, port, socket };
                mariadb.admin("mysql", SETUP)?;
                return Ok(mariadb);
            }
        }
        bail!("no free port for MariaDB")
    }

    /// Where it listens with TLS: `localhost:PORT`, as its certificate says.
    #[must_use]
    pub fn address(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// The TCP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id of the server.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.server.id()
    }

    /// Its Unix socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// A client at the Unix socket, past any sidecar: the baseline.
    #[must_use]
    pub fn client(&self) -> MariadbClient {
        MariadbClient::at_socket(&self.socket)
    }

    /// Runs SQL as the superuser, directly, past any sidecar; rows as lines with tabs.
    ///
    /// # Errors
    /// When the database answers with one.
    pub fn admin(&self, database: &str, sql: &str) -> Result<String> {
        let mut client = Command::new(binaries::mariadb("mariadb")?);
        client.args(["--no-defaults", "--batch", "--skip-column-names", "--user=root"]);
        client.arg(format!("--socket={}", self.socket.display())).arg(format!("--database={database}"));
        process::run(client, sql, STARTING)?.output()
    }

    /// Waits until that many sessions of `user` are open, as the database itself sees it.
    ///
    /// # Errors
    /// When they are not `within` the time.
    pub fn wait_for_sessions(&self, user: &str, count: usize, within: Duration) -> Result<()> {
        let sql = format!("SELECT COUNT(*) FROM information_schema.processlist WHERE user = '{user}'");
        let expected = count.to_string();
        poll(&format!("{count} sessions of {user}"), within, || {
            Ok((self.admin("mysql", &sql)?.trim() == expected).then_some(()))
        })
    }

    /// Waits until some session runs a statement that contains `text`.
    ///
    /// # Errors
    /// When none does in time.
    pub fn wait_until_running(&self, text: &str) -> Result<()> {
        let sql = format!(
            "SELECT COUNT(*) FROM information_schema.processlist \
             WHERE command <> 'Sleep' AND id <> CONNECTION_ID() AND info LIKE '%{text}%'"
        );
        poll(&format!("{text} to run"), STARTING, || {
            Ok((self.admin("mysql", &sql)?.trim() != "0").then_some(()))
        })
    }

    /// The command line that started it.
    #[must_use]
    pub fn command(&self) -> &str {
        self.server.command()
    }

    /// Stops it.
    ///
    /// # Errors
    /// When it does not stop.
    pub fn stop(&mut self) -> Result<()> {
        self.server.stop().map(drop)
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.server.log()
    }
}

/// Temporary tables are named by process id alone: two servers that share a temporary directory, and not their process ids
/// (containers), take each other's.
fn own_tables(dir: &Path) -> [String; 1] {
    [format!("--tmpdir={}", dir.display())]
}

/// Names of hosts are not looked up, so that a client on loopback is `127.0.0.1` and never the `localhost` of the socket.
fn server_options(dir: &Path, port: u16) -> Vec<String> {
    let dir = dir.display();
    vec![
        "--no-defaults".to_owned(),
        format!("--datadir={dir}/data"),
        format!("--socket={dir}/mysqld.sock"),
        format!("--pid-file={dir}/mariadbd.pid"),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--port={port}"),
        format!("--ssl-cert={dir}/server.crt"),
        format!("--ssl-key={dir}/server.key"),
        format!("--ssl-ca={dir}/server.cas"),
        "--skip-name-resolve".to_owned(),
        "--plugin-load-add=auth_ed25519".to_owned(),
        "--character-set-server=utf8mb4".to_owned(),
    ]
}

const SETUP: &str = "\
CREATE DATABASE app;
CREATE USER jerry@'%' REQUIRE SUBJECT '/CN=jerry';
CREATE USER olga@'%' REQUIRE SUBJECT '/CN=olga';
CREATE USER reporting@'%' REQUIRE SUBJECT '/CN=reporting';
CREATE USER jerry@localhost, olga@localhost, reporting@localhost;
CREATE USER password@'%' IDENTIFIED BY 'a password for the sidecar' REQUIRE SSL;
CREATE USER ed25519@'%' IDENTIFIED VIA ed25519 USING PASSWORD('a password for the sidecar') REQUIRE SSL;
GRANT ALL ON app.* TO jerry@'%', jerry@localhost, olga@'%', olga@localhost;
GRANT SELECT ON app.* TO reporting@'%', reporting@localhost, password@'%', ed25519@'%';
CREATE TABLE app.orders (id INT PRIMARY KEY, item VARCHAR(100) NOT NULL);
INSERT INTO app.orders VALUES (1, 'anvil'), (2, 'rope'), (3, 'lantern');
";
