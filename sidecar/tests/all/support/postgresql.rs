//! A real PostgreSQL in a directory of its own, stopped when the test ends.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::authd::{DB_NAME, DB_USER, DatabaseFiles};

/// What is asked of the database's own clients, by line of pg_hba.conf.
const HBA: &str = "local all postgres trust\nlocal all all trust\nlocal replication all trust\nhostssl all scram 127.0.0.1/32 scram-sha-256\nhostssl all all 127.0.0.1/32 cert\n";

pub(crate) struct Postgresql {
    child: Child,
    binaries: PathBuf,
    directory: TempDir,
    pub(crate) port: u16,
}

impl Postgresql {
    pub(crate) fn start(files: &DatabaseFiles) -> Self {
        let binaries = binaries();
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        fs::create_dir(&data).unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
        give_away(&data);
        let initdb = unprivileged(&binaries.join("initdb"))
            .args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D"])
            .arg(&data)
            .current_dir("/")
            .output()
            .unwrap();
        assert!(initdb.status.success(), "{}", String::from_utf8_lossy(&initdb.stderr));
        let port = free_port();
        configure(&data, directory.path(), port, files);
        let child = unprivileged(&binaries.join("postgres"))
            .arg("-D")
            .arg(&data)
            .current_dir("/")
            .stdout(Stdio::null())
            .stderr(fs::File::create(directory.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let server = Self { child, binaries, directory, port };
        server.prepare();
        server
    }

    fn prepare(&self) {
        let roles = format!(
            "create role {DB_USER} login; create role scram login password 'secret'; create database {DB_NAME};"
        );
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.psql(&roles).status.success() {
            let log = fs::read_to_string(self.directory.path().join("log")).unwrap();
            assert!(Instant::now() < deadline, "{log}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What the superuser says directly, around the sidecar.
    pub(crate) fn psql(&self, sql: &str) -> std::process::Output {
        let mut psql = self.program("psql");
        for statement in sql.split_inclusive(';') {
            psql.args(["-c", statement.trim()]);
        }
        psql.args(["-X", "-A", "-t", "-U", "postgres", "-d", "postgres", "-p", &self.port.to_string(), "-h"])
            .arg(self.directory.path())
            .output()
            .unwrap()
    }

    /// Sessions of the database user, as the database sees them.
    pub(crate) fn sessions(&self) -> usize {
        let output = self.psql(&format!("select count(*) from pg_stat_activity where usename = '{DB_USER}'"));
        String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
    }

    pub(crate) fn program(&self, name: &str) -> Command {
        Command::new(self.binaries.join(name))
    }

    pub(crate) fn unix_uri(&self) -> String {
        format!("unix:{}/.s.PGSQL.{}", self.directory.path().display(), self.port)
    }

    pub(crate) fn tcp_uri(&self) -> String {
        format!("localhost:{}", self.port)
    }
}

impl Drop for Postgresql {
    fn drop(&mut self) {
        // SIGQUIT: at once, and with all its processes.
        let _ = Command::new("kill").args(["-QUIT", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}

fn configure(data: &Path, socket: &Path, port: u16, files: &DatabaseFiles) {
    for (name, from) in [
        ("server.crt", &files.certificate),
        ("server.key", &files.key),
        ("server.cas", &files.client_authority),
    ] {
        let to = data.join(name);
        fs::copy(from, &to).unwrap();
        fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).unwrap();
        give_away(&to);
    }
    let settings = format!(
        "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{}'\nssl = on\nssl_cert_file = 'server.crt'\nssl_key_file = 'server.key'\nssl_ca_file = 'server.cas'\nfsync = off\nwal_level = logical\nmax_connections = 50\n",
        socket.display()
    );
    fs::write(data.join("postgresql.auto.conf"), settings).unwrap();
    fs::write(data.join("pg_hba.conf"), HBA).unwrap();
    give_away(socket);
}

/// The newest installed. These tests are about a real PostgreSQL: without one they fail.
fn binaries() -> PathBuf {
    let mut versions: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .expect("PostgreSQL is not installed (Debian: apt-get install postgresql)")
        .map(|entry| entry.unwrap().path().join("bin"))
        .filter(|binaries| binaries.join("postgres").exists())
        .collect();
    versions.sort();
    versions.pop().expect("PostgreSQL is not installed (Debian: apt-get install postgresql)")
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// PostgreSQL refuses to run as root.
fn unprivileged(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
    command
}

fn give_away(path: &Path) {
    if is_root() {
        let user = nix::unistd::User::from_name("postgres").unwrap().expect("there is no user postgres");
        chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
    }
}
