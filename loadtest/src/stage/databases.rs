//! The databases, their tables, and the ways to them.

use std::net::SocketAddr;

use anyhow::Result;
use e2e::{Mariadb, Postgres};

use super::{DATABASE, Stage, children, with_alpn};
use crate::{
    accounting::Process,
    door::{Door, Opening, Protocol},
    session::ROWS,
    way::{self, Way},
};

impl Stage {
    pub(super) fn add_postgres(&mut self, peers: bool) -> Result<()> {
        let postgres = Postgres::start(&self.dir.path().join("postgres"), &self.tctl)?;
        // Not what is measured.
        for quiet in ["ALTER SYSTEM SET log_connections = off", "SELECT pg_reload_conf()"] {
            postgres.admin(DATABASE, quiet)?;
        }
        postgres.admin(DATABASE, &postgres_tables())?;
        self.versions
            .push(postgres.admin(DATABASE, "SELECT 'PostgreSQL ' || current_setting('server_version')")?);
        let address = SocketAddr::from(([127, 0, 0, 1], postgres.port()));
        let database = Process::new(postgres.id())?;
        let door = self.direct_door(Protocol::Postgres, address)?;
        self.ways.push(Way { name: way::DIRECT, door, process: None, database: Some(database) });
        let uri = format!("localhost:{}", postgres.port());
        self.add_sidecar(way::SIDECAR, Protocol::Postgres, uri, database)?;
        let socket = format!("unix:{}", postgres.socket().display());
        self.add_sidecar(way::SIDECAR_UNIX, Protocol::Postgres, socket, database)?;
        if peers {
            self.add_bare_relay(postgres.port(), database)?;
            self.add_blind_peers(Protocol::Postgres, postgres.port(), database)?;
        }
        self.postgres = Some(postgres);
        Ok(())
    }

    pub(super) fn add_mysql(&mut self, peers: bool) -> Result<()> {
        let options = ["--max-allowed-packet=64M", "--max-connections=200"];
        let mariadb = Mariadb::start_with(&self.dir.path().join("mariadb"), &self.tctl, &options)?;
        mariadb.admin(DATABASE, &mysql_tables())?;
        self.versions.push(format!("MariaDB {}", mariadb.admin(DATABASE, "SELECT VERSION()")?.trim()));
        let address = SocketAddr::from(([127, 0, 0, 1], mariadb.port()));
        let database = Process::new(mariadb.id())?;
        let door = self.direct_door(Protocol::Mysql, address)?;
        self.ways.push(Way { name: way::DIRECT, door, process: None, database: Some(database) });
        let uri = format!("localhost:{}", mariadb.port());
        self.add_sidecar(way::SIDECAR, Protocol::Mysql, uri, database)?;
        let socket = format!("unix:{}", mariadb.socket().display());
        self.add_sidecar(way::SIDECAR_UNIX, Protocol::Mysql, socket, database)?;
        if peers {
            self.add_blind_peers(Protocol::Mysql, mariadb.port(), database)?;
        }
        self.mariadb = Some(mariadb);
        Ok(())
    }

    pub(super) fn add_null(&mut self, protocol: Protocol, peers: bool) -> Result<()> {
        let (daemon, address) = children::null(&self.files, protocol)?;
        let database = Process::new(daemon.id())?;
        self.children.push(daemon);
        let door = self.direct_door(protocol, address)?;
        self.ways.push(Way { name: way::NULL_DIRECT, door, process: None, database: Some(database) });
        let uri = format!("localhost:{}", address.port());
        self.add_sidecar(way::NULL_SIDECAR, protocol, uri, database)?;
        // Nobody else knows how TLS begins in MySQL, where the server speaks first.
        let peers = peers && protocol == Protocol::Postgres;
        if peers && let Some((daemon, between)) = children::haproxy_mtls(&self.files, address)? {
            let door = self.direct_door(Protocol::Postgres, between)?;
            // haproxy does not know SSLRequest: TLS comes first, on both legs.
            let door = Door { opening: Opening::Direct, tls: with_alpn(&door.tls), ..door };
            self.add_peer(way::NULL_HAPROXY_MTLS, door, daemon, database)?;
        }
        Ok(())
    }

    fn add_bare_relay(&mut self, port: u16, database: Process) -> Result<()> {
        let (daemon, address) = children::bare_relay(&self.files, port)?;
        let door = self.direct_door(Protocol::Postgres, address)?;
        self.add_peer(way::BARE_RELAY, door, daemon, database)
    }

    fn add_blind_peers(&mut self, protocol: Protocol, port: u16, database: Process) -> Result<()> {
        let haproxy = children::haproxy_tcp(&self.files, protocol.word(), port)?;
        let nginx = children::nginx_tcp(&self.files, protocol.word(), port)?;
        for (name, started) in [(way::HAPROXY_TCP, haproxy), (way::NGINX_TCP, nginx)] {
            if let Some((daemon, address)) = started {
                let door = self.direct_door(protocol, address)?;
                self.add_peer(name, door, daemon, database)?;
            }
        }
        Ok(())
    }

    /// A way through a peer that was started before a database.
    pub(super) fn add_peer(
        &mut self,
        name: &'static str,
        door: Door,
        daemon: e2e::Daemon,
        database: Process,
    ) -> Result<()> {
        let process = Some(Process::new(daemon.id())?);
        self.ways.push(Way { name, door, process, database: Some(database) });
        self.children.push(daemon);
        Ok(())
    }
}

/// pgbench's table at scale 1, and a sink that nothing is ever put into.
fn postgres_tables() -> String {
    format!(
        "CREATE TABLE pgbench_accounts (aid int PRIMARY KEY, bid int, abalance int, filler char(84));\n\
         INSERT INTO pgbench_accounts SELECT aid, 1, 0, '' FROM generate_series(1, {ROWS}) aid;\n\
         CREATE TABLE sink (line text);\n\
         ALTER TABLE pgbench_accounts OWNER TO jerry;\n\
         ALTER TABLE sink OWNER TO jerry;\n\
         ANALYZE pgbench_accounts;"
    )
}

/// sysbench's table.
fn mysql_tables() -> String {
    format!(
        "CREATE TABLE sbtest1 (id INT PRIMARY KEY, k INT NOT NULL, c CHAR(120) NOT NULL, pad CHAR(60) NOT NULL);\n\
         INSERT INTO sbtest1 SELECT seq, seq, REPEAT('c', 120), REPEAT('p', 60) FROM seq_1_to_{ROWS};"
    )
}
