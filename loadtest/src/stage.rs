//! The stage of a run: authd, databases, hosts, sidecars and peers as child processes, and every way between them, with
//! certificates that authd has issued through its own API.

use std::{net::SocketAddr, str::FromStr, sync::Arc};

use anyhow::{Context, Result};
use auth::{api::CaPin, proto::Route};
use e2e::{Authd, Daemon, Mariadb, Postgres, Sidecar, SidecarOptions, Sshd, Tctl};
use rustls_pki_types::{CertificateDer, ServerName};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::{
    accounting::Process,
    door::{Door, Opening, Protocol, client_config},
    files::Files,
    guard::Guard,
    machine,
    person::{Person, SessionCertificate},
    ssh::Destination,
    way::Way,
};

mod children;
mod databases;
mod hosts;
mod others;

pub(crate) use others::Other;

/// Who opens every session.
const PERSON: &str = "load";
/// Database user and database of every session.
const USER: &str = "jerry";
const DATABASE: &str = "app";

/// Everything that a sidecar decides by: a touch for each session, and an allowance.
const ROLE: &str = "\
kind: role
version: v6
metadata:
  name: load
spec:
  options:
    require_session_mfa: true
  allow:
    db_labels: {env: load}
    db_users: [jerry]
    db_names: [app]
    node_labels: {env: load}
    logins: [ACCOUNT]
";

/// What a run needs to be on stage.
#[derive(Clone, Debug)]
pub(crate) struct Cast {
    pub(crate) postgres: bool,
    pub(crate) mysql: bool,
    pub(crate) ssh: bool,
    /// Null upstreams of the databases; that of SSH is always there.
    pub(crate) null: bool,
    /// All but authd share one processor; authd, which in life is on another machine, has the other one.
    pub(crate) one_core: bool,
    /// haproxy, nginx and the bare relay, where they are installed.
    pub(crate) peers: bool,
    /// Further peers, by their command lines.
    pub(crate) others: Vec<Other>,
}

/// What is running. Stopped when dropped; the directory goes last.
pub(crate) struct Stage {
    pub(crate) ways: Vec<Way>,
    pub(crate) ssh_ways: Vec<Way<Destination>>,
    pub(crate) person: Person,
    /// Others like the person, as many as were needed so far.
    pub(crate) crowd: Vec<Person>,
    pub(crate) guard: Guard,
    pub(crate) runtime: Runtime,
    pub(crate) tctl: Tctl,
    /// Versions of what takes part.
    pub(crate) versions: Vec<String>,
    pub(crate) authd: Process,
    files: Files,
    database_authorities: Vec<CertificateDer<'static>>,
    children: Vec<Daemon>,
    sidecars: Vec<Sidecar>,
    postgres: Option<Postgres>,
    mariadb: Option<Mariadb>,
    hosts: Vec<Sshd>,
    daemon: Authd,
    dir: TempDir,
}

impl Stage {
    /// Sets it up. Programs die with the thread that calls this.
    pub(crate) fn set(cast: &Cast) -> Result<Self> {
        let dir = e2e::directory()?;
        if cast.one_core {
            machine::keep_to(machine::last_core())?;
        }
        let mut daemon = Authd::start(&dir.path().join("authd"))?;
        if cast.one_core {
            machine::keep_to(0)?;
        }
        // A thread of its own, so that connections to authd answer its pings while a round runs; not on authd's core.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let authd = Process::new(daemon.daemon().id())?;
        let tctl = Tctl::new(daemon.data_dir());
        tctl.create(e2e::PREFERENCE)?;
        tctl.create(&ROLE.replace("ACCOUNT", &e2e::account()?))?;
        let person = enrol(&runtime, &daemon, &tctl, PERSON)?;
        let guard = runtime.block_on(Guard::join(
            &daemon.public_addr(),
            CaPin::from_str(&tctl.ca_pin()?)?,
            &tctl.join_token_for("db,node")?,
        ))?;
        let files = Files::at(&dir.path().join("files"));
        std::fs::create_dir(files.path(""))?;
        let mut stage = Self {
            ways: Vec::new(),
            ssh_ways: Vec::new(),
            person,
            crowd: Vec::new(),
            guard,
            runtime,
            tctl,
            versions: Vec::new(),
            authd,
            files,
            database_authorities: Vec::new(),
            children: Vec::new(),
            sidecars: Vec::new(),
            postgres: None,
            mariadb: None,
            hosts: Vec::new(),
            daemon,
            dir,
        };
        stage.certify()?;
        if cast.postgres {
            stage.add_postgres(cast.peers)?;
        }
        if cast.mysql {
            stage.add_mysql(cast.peers)?;
        }
        for (protocol, speaks) in [(Protocol::Postgres, cast.postgres), (Protocol::Mysql, cast.mysql)] {
            if cast.null && speaks {
                stage.add_null(protocol, cast.peers)?;
            }
        }
        if cast.ssh {
            stage.add_ssh(cast.peers)?;
        }
        for other in &cast.others {
            stage.add_other(other)?;
        }
        Ok(stage)
    }

    /// Brings so many people beside the first. A user's counts of attempts and a key's counter are for one touch after another.
    pub(crate) fn gather(&mut self, people: usize) -> Result<()> {
        while self.crowd.len() < people {
            let name = format!("{PERSON}-{}", self.crowd.len());
            self.crowd.push(enrol(&self.runtime, &self.daemon, &self.tctl, &name)?);
        }
        Ok(())
    }

    /// The certificates by which this tool, its null upstreams and its peers are known.
    fn certify(&mut self) -> Result<()> {
        let (client, authorities) = self.runtime.block_on(self.guard.certificate(USER))?;
        self.files.put("client", &client)?;
        self.files.put_authorities("databases.crt", &authorities)?;
        self.database_authorities = authorities;
        let out = self.files.path("server");
        let out = format!("--out={}", out.display());
        self.tctl.ok(&["auth", "sign", "--format=db", "--host=localhost,127.0.0.1", &out])?;
        let text = |name: &str| std::fs::read_to_string(self.files.path(name));
        std::fs::write(self.files.path("server.pem"), text("server.crt")? + &text("server.key")?)?;
        std::fs::copy(self.files.path("server.cas"), self.files.path("clients.crt"))?;
        Ok(())
    }

    /// Straight to a database, or to whatever passes its bytes through.
    fn direct_door(&self, protocol: Protocol, address: SocketAddr) -> Result<Door> {
        let tls = client_config(&self.database_authorities, &self.files.certified("client")?, None)?;
        Ok(Door {
            protocol,
            address,
            opening: Opening::Asked,
            tls,
            papers: self.files.papers("client", "databases.crt"),
            server_name: ServerName::try_from("localhost")?,
            user: USER.to_owned(),
            database: DATABASE.to_owned(),
        })
    }

    /// A sidecar in front of `uri`, and a way through it with a session certificate that was touched for.
    fn add_sidecar(
        &mut self,
        name: &'static str,
        protocol: Protocol,
        uri: String,
        database: Process,
    ) -> Result<()> {
        let target = format!("{name}-{}", protocol.word());
        let (address, process) = self.start_sidecar(protocol, &target, uri, None)?;
        let session = self.session(protocol, &target)?;
        self.files.put(&target, &session.client)?;
        self.files.put_authorities(&authorities_file(&target), &session.authorities)?;
        let door = self.session_door(protocol, &target, address, &session)?;
        self.ways.push(Way { name, door, process: Some(process), database: Some(database) });
        Ok(())
    }

    fn start_sidecar(
        &mut self,
        protocol: Protocol,
        target: &str,
        uri: String,
        host_key: Option<String>,
    ) -> Result<(SocketAddr, Process)> {
        let options = SidecarOptions {
            protocol: protocol.word(),
            name: target.to_owned(),
            labels: "env=load".to_owned(),
            uri,
            password_file: None,
            parameter_values: true,
            mysql_server_version: None,
            host_key,
            host_authority: None,
            host_name: None,
            key_file: None,
        };
        let data_dir = self.dir.path().join(target);
        let mut sidecar = Sidecar::start(&data_dir, &self.daemon, &self.tctl, options)?;
        let started = (sidecar.address(), Process::new(sidecar.daemon().id())?);
        self.sidecars.push(sidecar);
        Ok(started)
    }

    /// A new session certificate for a target.
    fn session(&mut self, protocol: Protocol, target: &str) -> Result<SessionCertificate> {
        let session = self.runtime.block_on(self.person.open(&route(protocol, target)));
        session.with_context(|| format!("a session certificate for {target}"))
    }

    /// The door that it opens.
    fn session_door(
        &self,
        protocol: Protocol,
        target: &str,
        address: SocketAddr,
        session: &SessionCertificate,
    ) -> Result<Door> {
        let name = auth::api::target_server_name(&auth::identity::TargetName::new(target)?);
        Ok(Door {
            protocol,
            address,
            opening: Opening::Asked,
            tls: client_config(&session.authorities, &session.client, None)?,
            papers: self.files.papers(target, &authorities_file(target)),
            server_name: ServerName::try_from(name)?,
            user: USER.to_owned(),
            database: DATABASE.to_owned(),
        })
    }

    /// The same door with a certificate that was touched for just now, as a person does for each session.
    pub(crate) fn touch_again(&mut self, way: &Way) -> Result<Door> {
        let target = format!("{}-{}", way.name, way.door.protocol.word());
        let session = self.session(way.door.protocol, &target)?;
        self.session_door(way.door.protocol, &target, way.door.address, &session)
    }

    /// Ends the programs as an administrator would, and not by a kill: one that was built to take a profile writes it then.
    pub(crate) fn close(&mut self) -> Result<()> {
        for sidecar in &mut self.sidecars {
            sidecar.daemon().stop()?;
        }
        self.daemon.stop()
    }

    /// A way by its name.
    pub(crate) fn way(&self, protocol: Protocol, name: &str) -> Option<&Way> {
        self.ways.iter().find(|way| way.door.protocol == protocol && way.name == name)
    }
}

/// Who must be behind a target's sidecar.
fn authorities_file(target: &str) -> String {
    format!("{target}-authorities.crt")
}

fn enrol(runtime: &Runtime, authd: &Authd, tctl: &Tctl, user: &str) -> Result<Person> {
    let (pin, invitation) = (CaPin::from_str(&tctl.ca_pin()?)?, tctl.invite(user, "load")?);
    runtime.block_on(Person::enrol(&authd.public_addr(), pin, user, &invitation))
}

/// What a session certificate is for.
pub(crate) fn route(protocol: Protocol, target: &str) -> Route {
    Route {
        target_kind: "database".to_owned(),
        target_name: target.to_owned(),
        protocol: protocol.word().to_owned(),
        login: USER.to_owned(),
        db_name: DATABASE.to_owned(),
    }
}

/// Ways that are worth comparing in a protocol, the baseline first.
pub(crate) fn compared(stage: &Stage, protocol: Protocol) -> Vec<Way> {
    let real = |way: &&Way| way.door.protocol == protocol && !way.is_null();
    stage.ways.iter().filter(real).cloned().collect()
}

/// The null upstream of a protocol and what stands before it, the baseline first.
pub(crate) fn null(stage: &Stage, protocol: Protocol) -> Vec<Way> {
    let null = |way: &&Way| way.door.protocol == protocol && way.is_null();
    stage.ways.iter().filter(null).cloned().collect()
}

/// `Arc` of a TLS configuration that also says ALPN `postgresql`, for TLS at once.
fn with_alpn(tls: &Arc<rustls::ClientConfig>) -> Arc<rustls::ClientConfig> {
    let mut config = rustls::ClientConfig::clone(tls);
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Arc::new(config)
}
