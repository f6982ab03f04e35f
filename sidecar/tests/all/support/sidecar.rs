//! A sidecar in this process, and one target.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    time::Duration,
};

use ::sidecar::{
    Room, Sidecar,
    config::{Config, Token},
};
use tempfile::TempDir;
use zeroize::Zeroizing;

use super::{authd::Authd, eventually};

pub(crate) struct Guarded {
    pub(crate) sidecar: Option<Sidecar>,
    pub(crate) address: SocketAddr,
    pub(crate) diag: SocketAddr,
    pub(crate) data: TempDir,
}

/// A configuration with one target, whose label `env` is the beginning of its name.
pub(crate) fn config(authd: &Authd, data_dir: &Path, target: &str, upstream: &str) -> Config {
    let environment = target.split('-').next().unwrap();
    let yaml = format!(
        "auth_server: {}\ndata_dir: {}\ndiag_addr: 127.0.0.1:0\ndrain_timeout: 1s\ntargets:\n  - name: {target}\n    protocol: postgres\n    labels: {{env: {environment}}}\n    listen: 127.0.0.1:0\n    upstream: {upstream}\n",
        authd.address,
        data_dir.display(),
    );
    let mut config = Config::parse(Path::new("sidecar.yaml"), &yaml).unwrap();
    config.ca_pins = authd.pins.clone();
    config
}

impl Guarded {
    /// Joins with a fresh token, and waits until it is ready.
    pub(crate) async fn start(authd: &mut Authd, target: &str, upstream: &str) -> Self {
        Self::start_with(authd, target, upstream, |_| {}).await
    }

    pub(crate) async fn start_with(
        authd: &mut Authd,
        target: &str,
        upstream: &str,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let data = tempfile::tempdir().unwrap();
        let mut config = config(authd, data.path(), target, upstream);
        config.token = Some(Token::Literal(Zeroizing::new(authd.token().await)));
        change(&mut config);
        let guarded = Self::from_config(config, data).await;
        eventually("announced", async || authd.targets().await.iter().any(|known| known.name == target))
            .await;
        guarded
    }

    pub(crate) async fn from_config(config: Config, data: TempDir) -> Self {
        let sidecar = Sidecar::start(config).await.unwrap();
        let (address, diag) = (sidecar.addresses[0].1, sidecar.diag.unwrap());
        let guarded = Self { sidecar: Some(sidecar), address, diag, data };
        eventually("ready", async || guarded.get("/readyz").await.0 == 200).await;
        guarded
    }

    /// Status and body of a page of the diagnostic address.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        get(self.diag, path).await
    }

    pub(crate) async fn drain(&mut self) {
        self.sidecar.take().unwrap().drain().await;
    }
}

pub(crate) async fn get(diag: SocketAddr, path: &str) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    tokio::task::spawn_blocking(move || {
        let mut socket = TcpStream::connect(diag).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket.write_all(request.as_bytes()).unwrap();
        let mut response = String::new();
        socket.read_to_string(&mut response).unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    })
    .await
    .unwrap()
}

pub(crate) const FEW: Room = Room { connections: 300, unknown: 64, unknown_per_address: 32 };
