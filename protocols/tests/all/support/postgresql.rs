//! A real PostgreSQL in a directory of its own, stopped when the test ends. Where none is installed, its
//! tests have nothing to say.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use protocols::{Credential, Endpoint, Secret, UpstreamAddress, UpstreamTls};
use tempfile::TempDir;

use super::Authority;

const ROLES: &str = "create role alice login superuser; create role scram login password 'secret'; \
    set password_encryption = 'md5'; create role md5 login password 'secret'; create database prod;";

pub(crate) struct Postgresql {
    child: Child,
    binaries: PathBuf,
    directory: TempDir,
    port: u16,
}

impl Postgresql {
    /// Starts one whose certificates are the authority's; `None` where none is installed.
    pub(crate) fn start(authority: &Authority) -> Option<Self> {
        let binaries = binaries()?;
        let directory = TempDir::new().unwrap();
        let data = directory.path().join("data");
        std::fs::create_dir(&data).unwrap();
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o700)).unwrap();
        give_away(&data);
        let initdb = unprivileged(&binaries.join("initdb"))
            .args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D"])
            .arg(&data)
            .current_dir("/")
            .output()
            .unwrap();
        assert!(initdb.status.success(), "{}", String::from_utf8_lossy(&initdb.stderr));
        let port = free_port();
        configure(&data, directory.path(), port, authority);
        let child = unprivileged(&binaries.join("postgres"))
            .arg("-D")
            .arg(&data)
            .current_dir("/")
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(directory.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let server = Self { child, binaries, directory, port };
        server.wait();
        Some(server)
    }

    /// Until it answers, and the roles are there.
    fn wait(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let created = self.administer(ROLES);
            if created.status.success() {
                return;
            }
            let log = std::fs::read_to_string(self.directory.path().join("log")).unwrap();
            assert!(Instant::now() < deadline, "{created:?}\n{log}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What the superuser says directly, around the sidecar.
    pub(crate) fn administer(&self, sql: &str) -> std::process::Output {
        let mut psql = self.program("psql");
        for statement in sql.split_inclusive(';') {
            psql.args(["-c", statement.trim()]);
        }
        psql.args(["-X", "-A", "-t", "-U", "postgres", "-d", "postgres", "-p", &self.port.to_string(), "-h"])
            .arg(self.directory.path())
            .output()
            .unwrap()
    }

    /// A program of the same version.
    pub(crate) fn program(&self, name: &str) -> Command {
        Command::new(self.binaries.join(name))
    }

    pub(crate) fn unix(&self) -> Endpoint {
        let path = self.directory.path().join(format!(".s.PGSQL.{}", self.port));
        Endpoint {
            address: UpstreamAddress::Unix(path),
            tls: None,
            credential: Credential::None,
            settings: Vec::new(),
            replication_allowed: false,
            local_infile_allowed: false,
            ssh: None,
        }
    }

    /// By client certificate, which names `alice`.
    pub(crate) fn tls(&self, authority: &Authority) -> Endpoint {
        let tls = UpstreamTls {
            config: authority.client_config(&[]),
            server_name: "localhost".try_into().unwrap(),
        };
        let address = UpstreamAddress::Tcp { host: "127.0.0.1".into(), port: self.port };
        Endpoint {
            address,
            tls: Some(tls),
            credential: Credential::None,
            settings: Vec::new(),
            replication_allowed: false,
            local_infile_allowed: false,
            ssh: None,
        }
    }

    /// By TLS without a client certificate, and a password.
    pub(crate) fn password(&self, authority: &Authority, password: &str) -> Endpoint {
        let mut endpoint = self.tls(authority);
        endpoint.tls.as_mut().unwrap().config = authority.anonymous_config();
        endpoint.credential = Credential::Password(Secret::new(password.as_bytes().to_vec()));
        endpoint
    }
}

impl Drop for Postgresql {
    fn drop(&mut self) {
        // SIGQUIT: at once, and with all its processes.
        let _ = Command::new("kill").args(["-QUIT", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}

/// The newest installation in Debian's place.
fn binaries() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    versions
        .filter_map(|version| Some(version.ok()?.path().join("bin")))
        .filter(|binaries| binaries.join("initdb").exists() && binaries.join("postgres").exists())
        .max()
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

/// PostgreSQL does not run as root.
fn unprivileged(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--pdeathsig", "QUIT", "--"]);
    command.arg(program);
    command
}

/// Makes a file PostgreSQL's own, where it runs as somebody else.
fn give_away(path: &Path) {
    if !is_root() {
        return;
    }
    let number = |option: &str| {
        let id = Command::new("id").args([option, "postgres"]).output().unwrap();
        String::from_utf8(id.stdout).unwrap().trim().parse().unwrap()
    };
    chown(path, Some(number("-u")), Some(number("-g"))).unwrap();
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn configure(data: &Path, sockets: &Path, port: u16, authority: &Authority) {
    authority.leaf("localhost").write(data, "server");
    std::fs::write(data.join("ca.crt"), authority.pem()).unwrap();
    give_away(sockets);
    give_away(&data.join("server.key"));
    std::fs::write(
        data.join("pg_hba.conf"),
        "local all all trust\n\
         local replication all trust\n\
         hostssl replication alice 127.0.0.1/32 cert\n\
         hostssl all scram 127.0.0.1/32 scram-sha-256\n\
         hostssl all md5 127.0.0.1/32 md5\n\
         hostssl all all 127.0.0.1/32 cert\n",
    )
    .unwrap();
    let settings = format!(
        "port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\nfsync = off\nwal_level = logical\n\
         ssl = on\nssl_cert_file = 'server.crt'\nssl_key_file = 'server.key'\nssl_ca_file = 'ca.crt'\n",
        sockets.display()
    );
    let file = data.join("postgresql.conf");
    let before = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, before + &settings).unwrap();
}
