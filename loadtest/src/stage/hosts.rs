//! The hosts, the ways to them, and what OpenSSH must know to take these: keys, certificates, and one configuration file.

use std::{
    fmt::Write as _,
    fs,
    net::{Ipv4Addr, SocketAddr},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use auth::proto::Route;
use e2e::Sshd;
use russh::keys::PublicKey;

use super::{
    Other, PERSON, Stage,
    children::{self, Started},
};
use crate::{
    accounting::Process,
    door::Protocol,
    null::{AUTHORITIES, HOST_KEY},
    ssh::{self, Destination},
    way::{self, Way},
};

/// The key of whoever goes straight to a host, and that of a session through a sidecar.
const OWN_KEY: &str = "host_login";
const SESSION_KEY: &str = "ssh_session";
const CONFIG: &str = "ssh_config";
const KNOWN_HOSTS: &str = "known_hosts";
const JUMP_HOST: &str = "jump-host";

/// What is alike on all ways. Key exchange: the one that OpenSSH 9 and the sidecar have in common. Every connection is new and
/// proves everything; nobody is asked anything.
const ALIKE: &str = "\
  HostName 127.0.0.1
  KexAlgorithms curve25519-sha256
  Ciphers aes128-gcm@openssh.com
  Compression no
  IdentitiesOnly yes
  IdentityAgent none
  PreferredAuthentications publickey
  BatchMode yes
  StrictHostKeyChecking yes
  GlobalKnownHostsFile none
  UpdateHostKeys no
  ControlMaster no
  RequestTTY no
  LogLevel ERROR
";

impl Stage {
    pub(super) fn add_ssh(&mut self, peers: bool) -> Result<()> {
        ssh::adopt_orphans()?;
        self.versions.push(ssh::version()?);
        // What an account's shell does when it starts is everybody's own affair, and can be most of a connection.
        let home = self.files.path("home");
        fs::create_dir(&home)?;
        let bare = format!("SetEnv HOME={}\n", home.display());
        let host = Sshd::start_with(&self.dir.path().join("sshd"), &self.tctl, &bare)?;
        let gate = Sshd::start(&self.dir.path().join("gate"), &self.tctl)?;
        fs::write(self.files.path(AUTHORITIES), self.tctl.export("openssh")?)?;
        for key in [OWN_KEY, SESSION_KEY, HOST_KEY] {
            self.make_key(key)?;
        }
        let key = self.public_key(OWN_KEY)?.to_bytes()?;
        let certificate = self.guard.ssh_certificate(PERSON, host.account(), key);
        let certificate = self.runtime.block_on(certificate)?;
        fs::write(self.files.path(&certificate_of(OWN_KEY)), certificate + "\n")?;
        self.know("host", host.host_key())?;
        self.know("gate", gate.host_key())?;
        let authority = self.tctl.export("host")?;
        append(&self.files.path(KNOWN_HOSTS), &authority)?;

        let sshd = Process::new(host.id())?;
        let at = |address: &str| address.parse::<SocketAddr>().context("an address");
        let address = at(&host.address())?;
        self.add_host(way::DIRECT, "host", address, "", None, sshd)?;
        self.add_ssh_sidecar(way::SIDECAR, address, host.host_key(), sshd)?;
        self.write_entry(JUMP_HOST, "gate", at(&gate.address())?, "")?;
        let through = Some(Process::new(gate.id())?);
        self.add_host(way::JUMP, "host", address, "  ProxyJump jump-host\n", through, sshd)?;
        if peers && let Some(started) = children::haproxy_tcp(&self.files, "ssh", address.port())? {
            self.add_peer_host(way::HAPROXY_TCP, started, sshd)?;
        }

        let (daemon, address) = children::null(&self.files, Protocol::Ssh)?;
        let null = Process::new(daemon.id())?;
        self.children.push(daemon);
        let key = self.public_key(HOST_KEY)?.to_openssh()?;
        self.know("null", &key)?;
        self.add_host(way::NULL_DIRECT, "null", address, "", None, null)?;
        self.add_ssh_sidecar(way::NULL_SIDECAR, address, &key, null)?;

        let known = self.files.path(KNOWN_HOSTS);
        let alike = format!("Host *\n  User {}\n  UserKnownHostsFile {}\n", host.account(), known.display());
        append(&self.files.path(CONFIG), &(alike + ALIKE))?;
        self.hosts = vec![host, gate];
        Ok(())
    }

    /// A peer by its own command line, before the host.
    pub(super) fn add_other_host(&mut self, other: &Other) -> Result<()> {
        let host = self.hosts.first().context("the peer's host")?;
        let (upstream, sshd) = (host.address().parse().context("an address")?, Process::new(host.id())?);
        let started = children::other(&self.files, other, upstream)?;
        self.add_peer_host(other.name, started, sshd)
    }

    /// A way through a peer that passes an SSH connection on to the host, which is known by its own key.
    fn add_peer_host(&mut self, name: &'static str, (daemon, between): Started, sshd: Process) -> Result<()> {
        self.add_host(name, "host", between, "", Some(Process::new(daemon.id())?), sshd)?;
        self.children.push(daemon);
        Ok(())
    }

    /// A way on which the host itself is shown the certificate that it trusts.
    fn add_host(
        &mut self,
        name: &'static str,
        known_as: &str,
        address: SocketAddr,
        options: &str,
        process: Option<Process>,
        database: Process,
    ) -> Result<()> {
        self.write_entry(name, known_as, address, options)?;
        self.add_ssh_way(name, None, process, database);
        Ok(())
    }

    fn write_entry(&self, name: &str, known_as: &str, address: SocketAddr, options: &str) -> Result<()> {
        self.write_host(name, known_as, address, (OWN_KEY, OWN_KEY), options)
    }

    fn add_ssh_sidecar(
        &mut self,
        name: &'static str,
        upstream: SocketAddr,
        host_key: &str,
        database: Process,
    ) -> Result<()> {
        let target = format!("{name}-{}", Protocol::Ssh.word());
        let key = Some(host_key.to_owned());
        let (address, process) = self.start_sidecar(Protocol::Ssh, &target, upstream.to_string(), key)?;
        let known_as = format!("{target}.{}", e2e::CLUSTER);
        self.write_host(name, &known_as, address, (SESSION_KEY, &target), "")?;
        self.add_ssh_way(name, Some(target), Some(process), database);
        Ok(())
    }

    fn add_ssh_way(
        &mut self,
        name: &'static str,
        target: Option<String>,
        process: Option<Process>,
        database: Process,
    ) {
        let door = Destination { config: self.files.path(CONFIG), host: name.to_owned(), target };
        self.ssh_ways.push(Way { name, door, process, database: Some(database) });
    }

    fn write_host(
        &self,
        name: &str,
        known_as: &str,
        address: SocketAddr,
        (key, certificate): (&str, &str),
        options: &str,
    ) -> Result<()> {
        ensure!(address.ip() == Ipv4Addr::LOCALHOST, "hosts are on 127.0.0.1");
        let mut entry = format!("Host {name}\n  Port {}\n  HostKeyAlias {known_as}\n", address.port());
        let (key, certificate) = (self.files.path(key), self.files.path(&certificate_of(certificate)));
        write!(
            entry,
            "  IdentityFile {}\n  CertificateFile {}\n{options}",
            key.display(),
            certificate.display()
        )?;
        append(&self.files.path(CONFIG), &entry)
    }

    fn know(&self, name: &str, key: &str) -> Result<()> {
        append(&self.files.path(KNOWN_HOSTS), &format!("{name} {key}\n"))
    }

    fn make_key(&self, name: &str) -> Result<()> {
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(self.files.path(name));
        let made = keygen.status().context("start ssh-keygen")?;
        ensure!(made.success(), "ssh-keygen ended with {made}");
        Ok(())
    }

    fn public_key(&self, name: &str) -> Result<PublicKey> {
        let text = fs::read_to_string(self.files.path(&format!("{name}.pub")))?;
        Ok(PublicKey::from_openssh(&text)?)
    }

    /// Touches for a way through a sidecar: its session certificate, which is good for a minute, begins now.
    pub(crate) fn touch_for(&mut self, way: &Way<Destination>) -> Result<()> {
        let Some(target) = &way.door.target else { return Ok(()) };
        let route = Route {
            target_kind: "node".to_owned(),
            target_name: target.clone(),
            protocol: Protocol::Ssh.word().to_owned(),
            login: e2e::account()?,
            db_name: String::new(),
        };
        let session = self.person.open_ssh(&route, self.public_key(SESSION_KEY)?.to_bytes()?);
        let certificate = self.runtime.block_on(session);
        let certificate = certificate.with_context(|| format!("a session certificate for {target}"))?;
        Ok(fs::write(self.files.path(&certificate_of(target)), certificate + "\n")?)
    }
}

/// As OpenSSH calls the certificate of a key.
fn certificate_of(name: &str) -> String {
    format!("{name}-cert.pub")
}

fn append(path: &std::path::Path, text: &str) -> Result<()> {
    let mut file = fs::OpenOptions::new().create(true).append(true).open(path)?;
    Ok(std::io::Write::write_all(&mut file, text.as_bytes())?)
}
