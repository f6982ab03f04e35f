//! A real MySQL 9 in a directory of its own, from a tree that `scripts/mysql9.sh` made (`make suites`): nothing of it is
//! installed, so its programs are started by the tree's own loader.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use protocols::{Credential, Endpoint, Secret, UpstreamAddress, UpstreamTls};
use tempfile::TempDir;

use super::Authority;
use super::mariadb::{free_port, give_away, unprivileged};
use super::upstream::plaintext;

/// Users by what they prove. There is no `mysql_native_password` any more: all are of `caching_sha2_password`.
const USERS: &str = "create database prod; \
    create user alice@'%' require subject '/CN=alice'; create user alice@localhost; \
    create user plain@'%' identified by 'secret'; create user tls@'%' identified by 'secret' require ssl; \
    grant all on prod.* to alice@'%', alice@localhost, plain@'%', tls@'%'; grant process on *.* to alice@'%';";

/// The tree: `$TOUCHSTONE_MYSQL9`, else `target/mysql9`.
fn tree() -> PathBuf {
    let usual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/mysql9");
    let tree = std::env::var_os("TOUCHSTONE_MYSQL9").map_or(usual, PathBuf::from);
    std::fs::canonicalize(&tree)
        .unwrap_or_else(|_| panic!("no MySQL 9 in {}: run `make suites`", tree.display()))
}

/// A program of the tree.
pub(crate) fn program(path: &str) -> Command {
    with_loader(|loader| Command::new(loader), path)
}

fn with_loader(start: impl FnOnce(&str) -> Command, path: &str) -> Command {
    let tree = tree();
    let file = |path: &str| tree.join(path).display().to_string();
    let libraries = format!("{}:{}", file("usr/lib/x86_64-linux-gnu"), file("usr/lib/mysql/private"));
    let mut command = start(&file("usr/lib64/ld-linux-x86-64.so.2"));
    command.args(["--library-path", &libraries, &file(path), "--no-defaults"]);
    command
}

pub(crate) struct Mysql9 {
    child: Child,
    directory: TempDir,
    port: u16,
}

impl Mysql9 {
    /// Starts one whose certificates are the authority's.
    pub(crate) fn start(authority: &Authority) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let directory = TempDir::new().unwrap();
        let path = directory.path();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        authority.leaf("localhost").write(path, "server");
        std::fs::write(path.join("ca.crt"), authority.pem()).unwrap();
        give_away(path);
        give_away(&path.join("server.key"));
        let file = |option: &str, name: &str| format!("--{option}={}", path.join(name).display());
        let places = [
            file("datadir", "data"),
            format!("--basedir={}", tree().join("usr").display()),
            format!("--plugin-dir={}", tree().join("usr/lib/mysql/plugin").display()),
        ];
        let made = with_loader(unprivileged, "usr/sbin/mysqld")
            .args(["--initialize-insecure"])
            .args(&places)
            .current_dir(path)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let port = free_port();
        let child = with_loader(unprivileged, "usr/sbin/mysqld")
            .args([
                "--bind-address=127.0.0.1",
                "--skip-name-resolve",
                "--mysqlx=OFF",
                "--local-infile=1",
                "--secure-file-priv=NULL",
            ])
            .args(["--innodb-flush-log-at-trx-commit=0", "--max-allowed-packet=64M"])
            .args(&places)
            .args([file("socket", "mysqld.sock"), file("pid-file", "pid"), format!("--port={port}")])
            .args([file("ssl-cert", "server.crt"), file("ssl-key", "server.key"), file("ssl-ca", "ca.crt")])
            .current_dir(path)
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(path.join("log")).unwrap())
            .spawn()
            .unwrap();
        let mut server = Self { child, directory, port };
        server.wait();
        server
    }

    /// Until it answers, and the users are there.
    fn wait(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let created = self.administer(USERS);
            if created.status.success() {
                return;
            }
            let log = std::fs::read_to_string(self.directory.path().join("log")).unwrap();
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < deadline, "{created:?}\n{log}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// What the superuser says directly, around the sidecar.
    pub(crate) fn administer(&self, sql: &str) -> Output {
        self.client("root").args(["-e", sql]).output().unwrap()
    }

    /// Its own client, at its own socket.
    pub(crate) fn client(&self, user: &str) -> Command {
        let mut client = program("usr/bin/mysql");
        client.args(["--batch", "--skip-column-names", "--user", user]);
        client.arg(format!("--socket={}", self.directory.path().join("mysqld.sock").display()));
        client
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

    /// Forgets which passwords were right: the next login is one in full.
    pub(crate) fn forget(&self) {
        assert!(self.administer("flush privileges").status.success());
    }
}

impl Drop for Mysql9 {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
