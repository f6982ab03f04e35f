//! Null upstreams: they speak the protocol, verify the client's certificate, and know every answer beforehand. What a round
//! before them costs is the way, not the database.

use std::{net::SocketAddr, path::Path, sync::Arc};

use anyhow::{Context, Result};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::{
    door::{Protocol, server_config},
    files::Files,
};

mod postgres;

/// Serves until killed. Says on standard output where.
pub(crate) async fn serve(protocol: Protocol, files: &Path) -> Result<()> {
    let files = Files::at(files);
    let own = files.certified("server")?;
    let alpn: &[&[u8]] = match protocol {
        Protocol::Postgres => &[b"postgresql"],
        Protocol::Mysql => &[],
    };
    let tls = server_config(own.chain, own.key, &files.certificates("clients.crt")?, alpn)?;
    let acceptor = TlsAcceptor::from(tls);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    say_listening(listener.local_addr()?);
    let answers = Arc::new(postgres::Answers::new()?);
    loop {
        let (socket, _) = listener.accept().await.context("accept")?;
        socket.set_nodelay(true)?;
        let (acceptor, answers) = (acceptor.clone(), Arc::clone(&answers));
        // A client that goes away in the middle is how rounds end.
        tokio::spawn(async move { postgres::serve(socket, acceptor, &answers).await });
    }
}

/// The line that whoever started us waits for.
pub(crate) fn say_listening(address: SocketAddr) {
    println!("listening on {address}");
}

/// The address in it.
pub(crate) fn listening(line: &str) -> Option<SocketAddr> {
    line.strip_prefix("listening on ")?.parse().ok()
}
