//! A real PostgreSQL: a cluster of its own in the world's directory, on a loopback port of its own.

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
    owner::Owner,
    process::{self, Daemon, poll},
};

/// Longest that `initdb` or the server's start may take on a busy machine.
const STARTING: Duration = Duration::from_secs(60);

/// Database user that the story's people become.
pub(crate) const DATABASE: &str = "app";

/// A running PostgreSQL. Stopped when dropped.
pub struct Postgres {
    server: Daemon,
    port: u16,
    dir: PathBuf,
    socket_dir: PathBuf,
}

impl Postgres {
    /// Makes a cluster below `dir` with a certificate from `tctl auth sign` and starts it: database `app`; over TLS
    /// anybody with a client certificate of their own name (`copier` for replication, too), and `scram` with its password; on the Unix socket everybody
    /// who can reach it.
    ///
    /// # Errors
    /// When PostgreSQL is not installed or does not start.
    pub fn start(dir: &Path, tctl: &Tctl) -> Result<Self> {
        fs::create_dir(dir).context("directory of PostgreSQL")?;
        let data = dir.join("data");
        let socket_dir = dir.join("socket");
        fs::create_dir(&socket_dir)?;
        let owner = Owner::choose("postgres")?;
        sign(dir, &owner, tctl)?;
        owner.give(dir)?;
        owner.give(&socket_dir)?;

        let mut initdb = owner.command(&binaries::postgres("initdb")?, "KILL");
        initdb.args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C"]);
        initdb.arg("--pgdata").arg(&data).current_dir(dir);
        process::run(initdb, "", STARTING)?.output()?;
        fs::write(data.join("pg_hba.conf"), HBA)?;

        // The port is free until somebody else takes it between our look and the server's start: then another is tried.
        for _ in 0..5 {
            let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
            fs::write(data.join("postgresql.auto.conf"), configuration(dir, port))?;
            let mut command = owner.command(&binaries::postgres("postgres")?, "QUIT");
            command.arg("-D").arg(&data).current_dir(dir);
            let server = Daemon::start("postgres", command)?;
            let ready = |line: &str| {
                let ready = line.contains("database system is ready to accept connections");
                let taken = line.contains("could not create any TCP/IP sockets");
                (ready || taken).then_some(ready)
            };
            if server.wait_for("PostgreSQL to start", STARTING, ready)? {
                let postgres = Self { server, port, dir: dir.to_owned(), socket_dir };
                postgres.admin("postgres", SETUP)?;
                postgres.admin(DATABASE, TABLES)?;
                return Ok(postgres);
            }
        }
        bail!("no free port for PostgreSQL")
    }

    /// A new certificate, and whom to trust for clients, from `tctl auth sign`: new connections see them in a moment.
    ///
    /// # Errors
    /// When the files cannot be made, or the server does not read them.
    pub fn certify(&self, tctl: &Tctl) -> Result<()> {
        sign(&self.dir, &Owner::choose("postgres")?, tctl)?;
        self.admin("postgres", "SELECT pg_reload_conf()").map(drop)
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

    /// The process id of the server, whose children serve sessions.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.server.id()
    }

    /// Its Unix socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.socket_dir.join(format!(".s.PGSQL.{}", self.port))
    }

    /// Runs SQL as the superuser, directly, past any sidecar; rows as `a|b` lines.
    ///
    /// # Errors
    /// When the database answers with one.
    pub fn admin(&self, database: &str, sql: &str) -> Result<String> {
        let mut psql = Command::new(binaries::postgres("psql")?);
        psql.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"]);
        psql.args(["--username=postgres", "--dbname", database, "--port", &self.port.to_string()]);
        psql.arg("--host").arg(&self.socket_dir);
        process::run(psql, sql, STARTING)?.output()
    }

    /// Waits until that many sessions of `user` are open, as the database itself sees it.
    ///
    /// # Errors
    /// When they are not `within` the time.
    pub fn wait_for_sessions(&self, user: &str, count: usize, within: Duration) -> Result<()> {
        let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{user}'");
        let expected = count.to_string();
        poll(&format!("{count} sessions of {user}"), within, || {
            Ok((self.admin("postgres", &sql)?.trim() == expected).then_some(()))
        })
    }

    /// Waits until some session runs a statement that contains `text`.
    ///
    /// # Errors
    /// When none does in time.
    pub fn wait_until_running(&self, text: &str) -> Result<()> {
        let sql = format!(
            "SELECT count(*) FROM pg_stat_activity \
             WHERE state = 'active' AND pid <> pg_backend_pid() AND query LIKE '%{text}%'"
        );
        poll(&format!("{text} to run"), STARTING, || {
            Ok((self.admin("postgres", &sql)?.trim() != "0").then_some(()))
        })
    }

    /// The command line that started it.
    #[must_use]
    pub fn command(&self) -> &str {
        self.server.command()
    }

    /// Where it keeps its write-ahead log.
    #[must_use]
    pub fn wal_dir(&self) -> PathBuf {
        self.socket_dir.with_file_name("data").join("pg_wal")
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.server.log()
    }
}

/// The server's certificate, its key, and the authorities of its clients.
fn sign(dir: &Path, owner: &Owner, tctl: &Tctl) -> Result<()> {
    let out = format!("--out={}", dir.join("server").display());
    tctl.ok(&["auth", "sign", "--format=db", "--host=localhost,127.0.0.1", "--overwrite", &out])?;
    for file in ["server.crt", "server.key", "server.cas"] {
        owner.give(&dir.join(file))?;
    }
    Ok(())
}

fn configuration(dir: &Path, port: u16) -> String {
    let dir = dir.display();
    format!(
        "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{dir}/socket'\n\
         ssl = on\nssl_cert_file = '{dir}/server.crt'\nssl_key_file = '{dir}/server.key'\nssl_ca_file = '{dir}/server.cas'\n\
         password_encryption = 'scram-sha-256'\nlog_connections = on\n\
         fsync = off\nfull_page_writes = off\nsynchronous_commit = off\nshared_buffers = '16MB'\nmax_connections = 60\n"
    )
}

const HBA: &str = "\
# The directory of the socket is the owner's alone.
local    all  all                  trust
hostssl  all  scram  127.0.0.1/32  scram-sha-256
hostssl  all  all    127.0.0.1/32  cert
# `all` is every database, and physical replication opens none.
hostssl  replication  copier  127.0.0.1/32  cert
";

const SETUP: &str = "\
CREATE ROLE jerry LOGIN;
CREATE ROLE olga LOGIN;
CREATE ROLE reporting LOGIN;
CREATE ROLE copier LOGIN REPLICATION;
CREATE ROLE scram LOGIN PASSWORD 'a password for the sidecar';
CREATE DATABASE app OWNER jerry;
";

const TABLES: &str = "\
SET ROLE jerry;
CREATE TABLE orders (id int PRIMARY KEY, item text NOT NULL);
INSERT INTO orders VALUES (1, 'anvil'), (2, 'rope'), (3, 'lantern');
";
