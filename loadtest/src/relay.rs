//! The bare relay: the crate `protocols` between two mutual TLS legs, with nobody who decides and nobody who listens. What the
//! sidecar costs beyond it is policy, audit, metrics and housekeeping.

use std::{net::SocketAddr, path::Path, sync::Arc};

use anyhow::{Context, Result};
use protocols::{
    Client, Credential, Endpoint, Event, Limits, Protocol as _, Tap, TapClosed, UpstreamAddress, UpstreamTls,
    Verdict,
    postgres::{self, Postgres},
};
use tokio::net::TcpListener;

use crate::{
    door::{client_config, server_config},
    files::Files,
    null::say_listening,
};

/// Forwards everything.
struct Nobody;

impl Tap for Nobody {
    async fn observe(&mut self, _: Event<'_>) -> Result<Verdict, TapClosed> {
        Ok(Verdict::Forward)
    }
}

/// Serves PostgreSQL until killed. Says on standard output where.
pub(crate) async fn serve(files: &Path, port: u16, listen: SocketAddr) -> Result<()> {
    let files = Files::at(files);
    let own = files.certified("server")?;
    let tls = server_config(own.chain, own.key, &files.certificates("clients.crt")?, &[postgres::ALPN])?;
    let upstream = client_config(&files.certificates("databases.crt")?, &files.certified("client")?, None)?;
    let endpoint = Arc::new(Endpoint {
        address: UpstreamAddress::Tcp { host: "127.0.0.1".to_owned(), port },
        tls: Some(UpstreamTls { config: upstream, server_name: "localhost".try_into()? }),
        credential: Credential::None,
        settings: Vec::new(),
        replication_allowed: false,
        local_infile_allowed: false,
        ssh: None,
    });
    let protocol = Arc::new(Postgres::new(tls, Limits::default()));
    let listener = TcpListener::bind(listen).await?;
    say_listening(listener.local_addr()?);
    loop {
        let (socket, _) = listener.accept().await.context("accept")?;
        let (protocol, endpoint) = (Arc::clone(&protocol), Arc::clone(&endpoint));
        tokio::spawn(async move {
            let Some(accepted) = protocol.accept(socket).await? else { return Ok(()) };
            let session = protocol.dial(&endpoint, &accepted.login).await?;
            accepted.client.relay(session, Nobody, std::future::pending()).await?;
            anyhow::Ok(())
        });
    }
}
