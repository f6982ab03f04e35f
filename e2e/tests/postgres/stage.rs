//! One database and three ways to it, which a client must not be able to tell apart.

use std::{
    fs,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use e2e::{Finished, Psql, Terminal, Way, World, run, same_transcript};

/// Longest that one client may take for everything it does.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A world, and in it a tunnel and a login for the development database, which asks for no touch.
pub(crate) struct Stage {
    pub(crate) world: World,
    tunnel_port: u16,
    /// Hung up on at the end.
    tunnel: Terminal,
}

impl Stage {
    pub(crate) fn new() -> Result<Self> {
        let world = World::jerry_and_olga()?;
        let (tunnel, tunnel_port) = world.jerry.tunnel("dev-pg")?;
        Ok(Self { world, tunnel_port, tunnel })
    }

    /// psql, or another program of libpq's, that way.
    pub(crate) fn psql(&self, way: Way) -> Result<Psql> {
        Ok(match way {
            Way::Plain => Psql::through_tunnel(self.world.postgres.port()).with("host", self.socket_dir()?),
            Way::Native => self.world.psql_with_login(&self.world.dev)?,
            Way::Tunnel => Psql::through_tunnel(self.tunnel_port),
        })
    }

    /// The same as libpq's environment variables, which every language's clients know in part.
    pub(crate) fn environment(&self, way: Way) -> Result<Vec<(String, String)>> {
        let mut variables = vec![("TOUCHSTONE_WAY".to_owned(), format!("{way:?}").to_lowercase())];
        for word in self.psql(way)?.connection().split(' ') {
            let (name, value) = word.split_once('=').context("connection string")?;
            let name = match name {
                "dbname" => "PGDATABASE".to_owned(),
                "connect_timeout" => "PGCONNECT_TIMEOUT".to_owned(),
                name => format!("PG{}", name.to_uppercase()),
            };
            variables.push((name, value.to_owned()));
        }
        Ok(variables)
    }

    fn socket_dir(&self) -> Result<String> {
        let socket = self.world.postgres.socket();
        Ok(socket.parent().context("directory of the socket")?.display().to_string())
    }

    /// An empty directory for what a client writes.
    pub(crate) fn scratch(&self, name: &str) -> Result<PathBuf> {
        let dir = self.world.path().join(name);
        fs::create_dir_all(&dir)?;
        Ok(dir)
    }

    /// Runs psql on a script, in a directory of its own; both its streams as one, as a terminal would show them.
    pub(crate) fn script(&self, way: Way, sql: &str) -> Result<String> {
        let folder = self.scratch(&format!("psql-{way:?}"))?;
        let psql = self.psql(way)?;
        let inner = psql.command("psql")?;
        let mut shell = psql.command("sh")?;
        shell.args(["-c", "exec \"$@\" 2>&1", "sh"]).arg(inner.get_program()).current_dir(folder);
        shell.args(["--no-psqlrc", "--echo-all", "--file=-"]).arg(psql.connection());
        run(shell, sql, PATIENCE)?.output()
    }

    /// Runs the same for every way, and compares what came out: the baseline's transcript.
    pub(crate) fn alike(&self, mut play: impl FnMut(Way) -> Result<String>) -> Result<String> {
        let [plain, native, tunnel] = Way::ALL;
        let began = Instant::now();
        let expected = play(plain).context("against the database itself")?;
        eprintln!("{plain:?}: {:.1} s", began.elapsed().as_secs_f32());
        for way in [native, tunnel] {
            let got = play(way).with_context(|| {
                format!(
                    "{way:?}, after the database itself had said:\n{expected}\nand the tunnel:\n{}",
                    self.tunnel.text()
                )
            })?;
            same_transcript(&format!("{way:?}"), &expected, &got)?;
            eprintln!("{way:?}: {:.1} s", began.elapsed().as_secs_f32());
        }
        Ok(expected)
    }

    /// A client's command that goes that way.
    pub(crate) fn client(&self, way: Way, mut command: Command) -> Result<Finished> {
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        command.envs(self.environment(way)?).env("TZ", "UTC").env("LC_ALL", "C.UTF-8");
        run(command, "", PATIENCE)
    }
}
