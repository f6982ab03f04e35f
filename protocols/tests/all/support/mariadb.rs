//! A real MariaDB in a directory of its own, stopped when the test ends. Where none is installed, its tests have
//! nothing to say.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use protocols::{Credential, Endpoint, Secret, UpstreamAddress, UpstreamTls};
use tempfile::TempDir;

use super::Authority;
use super::upstream::plaintext;

/// Users by what they prove: a certificate, nothing but a reachable socket, and passwords.
const USERS: &str = "create database prod; create database other; \
    create user alice@'%' require subject '/CN=alice'; create user alice@localhost; \
    create user native@'%' identified via mysql_native_password using password('secret'); \
    create user ed@'%' identified via ed25519 using password('secret'); \
    create user tls@'%' identified by 'secret' require ssl; \
    grant all on prod.* to alice@'%', alice@localhost, native@'%', ed@'%', tls@'%';";

/// For the data directory and the server alike: small, and nothing has to survive a crash of the machine.
const ENGINE: [&str; 4] = [
    "--innodb-log-file-size=8M",
    "--innodb-buffer-pool-size=16M",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-flush-method=nosync",
];

pub(crate) struct Mariadb {
    child: Child,
    directory: TempDir,
    port: u16,
}

impl Mariadb {
    /// Starts one whose certificates are the authority's; `None` where none is installed.
    pub(crate) fn start(authority: &Authority) -> Option<Self> {
        Self::start_with(authority, &[])
    }

    /// The same with options of the server's own.
    pub(crate) fn start_with(authority: &Authority, options: &[&str]) -> Option<Self> {
        if !Path::new("/usr/sbin/mariadbd").exists() {
            return None;
        }
        let directory = TempDir::new().unwrap();
        let path = directory.path();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        authority.leaf("localhost").write(path, "server");
        std::fs::write(path.join("ca.crt"), authority.pem()).unwrap();
        give_away(path);
        give_away(&path.join("server.key"));
        // Temporary tables of two servers that are made at the same time have the same names.
        std::fs::create_dir(path.join("tmp")).unwrap();
        give_away(&path.join("tmp"));
        let file = |option: &str, name: &str| format!("--{option}={}", path.join(name).display());
        let places = [file("datadir", "data"), file("tmpdir", "tmp")];
        let installed = unprivileged("mariadb-install-db")
            .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"])
            .args(&places)
            .args(ENGINE)
            .current_dir(path)
            .output()
            .unwrap();
        assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
        let port = free_port();
        let child = unprivileged("mariadbd")
            .args(["--no-defaults", "--bind-address=127.0.0.1", "--skip-name-resolve"])
            .args(&places)
            .args([file("socket", "mysqld.sock"), file("pid-file", "pid"), format!("--port={port}")])
            .args([file("ssl-cert", "server.crt"), file("ssl-key", "server.key"), file("ssl-ca", "ca.crt")])
            .args(["--plugin-load-add=auth_ed25519", "--character-set-server=utf8mb4"])
            .args(ENGINE)
            .args(options)
            .current_dir(path)
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(path.join("log")).unwrap())
            .spawn()
            .unwrap();
        let server = Self { child, directory, port };
        server.wait();
        Some(server)
    }

    /// Until it answers, and the users are there.
    fn wait(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let created = self.administer(USERS);
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
        Command::new("mariadb")
            .args(["--no-defaults", "--batch", "--skip-column-names", "--user=root", "-e", sql])
            .arg(format!("--socket={}", self.directory.path().join("mysqld.sock").display()))
            .output()
            .unwrap()
    }

    pub(crate) fn unix(&self) -> Endpoint {
        let address = UpstreamAddress::Unix(self.directory.path().join("mysqld.sock"));
        Endpoint { address, ..plaintext(self.port) }
    }

    /// By TCP, in plaintext.
    pub(crate) fn tcp(&self) -> Endpoint {
        plaintext(self.port)
    }

    /// By client certificate, which names `alice`.
    pub(crate) fn tls(&self, authority: &Authority) -> Endpoint {
        let config = authority.client_config(&[]);
        let tls = UpstreamTls { config, server_name: "localhost".try_into().unwrap() };
        Endpoint { tls: Some(tls), ..self.tcp() }
    }

    /// By TLS without a client certificate, and a password.
    pub(crate) fn password(&self, authority: &Authority, password: &str) -> Endpoint {
        let mut endpoint = self.tls(authority);
        endpoint.tls.as_mut().unwrap().config = authority.anonymous_config();
        endpoint.credential = Credential::Password(Secret::new(password.as_bytes().to_vec()));
        endpoint
    }
}

impl Drop for Mariadb {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

/// MariaDB does not run as root. `setpriv` becomes the program, so that to end the child is to end it.
pub(super) fn unprivileged(program: &str) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=mysql", "--regid=mysql", "--clear-groups", "--pdeathsig", "KILL", "--", program]);
    command
}

/// Makes a file MariaDB's own, where it runs as somebody else.
pub(super) fn give_away(path: &Path) {
    if !is_root() {
        return;
    }
    let number = |option: &str| {
        let id = Command::new("id").args([option, "mysql"]).output().unwrap();
        String::from_utf8(id.stdout).unwrap().trim().parse().unwrap()
    };
    chown(path, Some(number("-u")), Some(number("-g"))).unwrap();
}

pub(super) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
