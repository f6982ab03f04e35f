//! One database and three ways to it, which a client must not be able to tell apart.

use std::{
    fmt::Write as _,
    fs,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use e2e::{ACCESS_DEV, Finished, MariadbClient, MariadbWorld, Terminal, Way, run, same_transcript};

/// Longest that one client may take for everything it does.
pub(crate) const PATIENCE: Duration = Duration::from_secs(100);

/// A world, and in it a tunnel and a login for the development database, which asks for no touch.
pub(crate) struct Stage {
    pub(crate) world: MariadbWorld,
    pub(crate) tunnel_port: u16,
    /// Hung up on at the end.
    tunnel: Terminal,
}

impl Stage {
    /// A database that takes long rows, and a role that lets files in and replicas out.
    pub(crate) fn new() -> Result<Self> {
        let role = ACCESS_DEV.replacen(
            "spec:\n",
            "spec:\n  options:\n    db_local_infile: true\n    db_replication: true\n",
            1,
        );
        let server = [
            "--max-allowed-packet=64M",
            "--log-bin=binlog",
            "--server-id=1",
            "--log-bin-trust-function-creators=1",
            "--performance-schema=ON",
        ];
        let world = MariadbWorld::with(&[&role], &server)?;
        world.mariadb.admin("app", PROCEDURES)?;
        let (tunnel, tunnel_port) = world.jerry.tunnel("dev-mysql-instance")?;
        fs::write(world.path().join("lines.tsv"), lines())?;
        Ok(Self { world, tunnel_port, tunnel })
    }

    /// `mariadb`, or another of MariaDB's programs, that way.
    pub(crate) fn mariadb(&self, way: Way) -> Result<MariadbClient> {
        Ok(match way {
            Way::Plain => self.world.mariadb.client(),
            Way::Native => self.world.client_with_login(&self.world.dev)?,
            Way::Tunnel => MariadbClient::through_tunnel(self.tunnel_port),
        })
    }

    /// The same as environment variables, for clients in other languages.
    pub(crate) fn environment(&self, way: Way) -> Result<Vec<(String, String)>> {
        let client = self.mariadb(way)?;
        let file = self.world.path().join("lines.tsv").display().to_string();
        let mut variables = vec![
            ("TOUCHSTONE_WAY".to_owned(), format!("{way:?}").to_lowercase()),
            ("TOUCHSTONE_FILE".to_owned(), file),
        ];
        for name in ["host", "port", "socket", "user", "database", "ssl-ca", "ssl-cert", "ssl-key"] {
            if let Some(value) = client.option(name) {
                variables
                    .push((format!("MYSQL_{}", name.replace('-', "_").to_uppercase()), value.to_owned()));
            }
        }
        Ok(variables)
    }

    /// An empty directory for what a client writes.
    pub(crate) fn scratch(&self, name: &str) -> Result<PathBuf> {
        let dir = self.world.path().join(name);
        fs::create_dir_all(&dir)?;
        Ok(dir)
    }

    /// Runs the same for every way, and compares what came out: the baseline's transcript.
    pub(crate) fn alike(&self, mut play: impl FnMut(Way) -> Result<String>) -> Result<String> {
        let [plain, native, tunnel] = Way::ALL;
        let began = Instant::now();
        let expected = anywhere(&play(plain).context("against the database itself")?);
        eprintln!("{plain:?}: {:.1} s", began.elapsed().as_secs_f32());
        for way in [native, tunnel] {
            let got = play(way).with_context(|| {
                format!(
                    "{way:?}, after the database itself had said:\n{expected}\nand the tunnel:\n{}",
                    self.tunnel.text()
                )
            })?;
            same_transcript(&format!("{way:?}"), &expected, &anywhere(&got))?;
            eprintln!("{way:?}: {:.1} s", began.elapsed().as_secs_f32());
        }
        Ok(expected)
    }

    /// A client's command that goes that way.
    pub(crate) fn client(&self, way: Way, mut command: Command) -> Result<Finished> {
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("MYSQL") {
                command.env_remove(name);
            }
        }
        command.envs(self.environment(way)?).env("TZ", "UTC").env("LC_ALL", "C.UTF-8");
        command.env("HOME", self.world.path());
        run(command, "", PATIENCE)
    }
}

/// What is another address, however alike the ways are: where the database sees its user come from, and where a program
/// says that it went.
fn anywhere(said: &str) -> String {
    ["localhost", "127.0.0.1", "%"].iter().fold(said.to_owned(), |said, host| {
        said.replace(&format!("'jerry'@'{host}'"), "'jerry'@HOST")
            .replace(&format!("-- Host: {host} "), "-- Host: HOST ")
    })
}

/// A file to load: long enough to come in several packets.
fn lines() -> String {
    let mut lines = String::new();
    for number in 0..20_000 {
        let _ = writeln!(lines, "{number}\tline {number}, and some more of it");
    }
    lines
}

const PROCEDURES: &str = "
DELIMITER //
CREATE PROCEDURE three_results(IN n INT)
BEGIN SELECT n AS one; SELECT n + 1 AS two, 'zwei' AS words; UPDATE orders SET item = item; SELECT n + 2 AS three; END;//
";
