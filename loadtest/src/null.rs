//! Null upstreams: they speak the protocol, verify the client's certificate, and know every answer beforehand. What a round
//! before them costs is the way, not the database.

use std::{net::SocketAddr, path::Path, sync::Arc};

use anyhow::{Context, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::{
    door::{Protocol, server_config},
    files::Files,
};

mod mysql;
mod postgres;
mod ssh;

pub(crate) use ssh::{AUTHORITIES, HOST_KEY};

/// Serves until killed. Says on standard output where.
pub(crate) async fn serve(protocol: Protocol, files: &Path) -> Result<()> {
    let files = Files::at(files);
    match protocol {
        Protocol::Postgres => {
            let (tls, answers) = (acceptor(&files, &[b"postgresql"])?, Arc::new(postgres::Answers::new()?));
            each(move |socket| {
                let (tls, answers) = (tls.clone(), Arc::clone(&answers));
                async move { postgres::serve(socket, tls, &answers).await }
            })
            .await
        }
        Protocol::Mysql => {
            let (tls, greeting) = (acceptor(&files, &[])?, Arc::new(mysql::greeting().await?));
            each(move |socket| {
                let (tls, greeting) = (tls.clone(), Arc::clone(&greeting));
                async move { mysql::serve(socket, tls, &greeting).await }
            })
            .await
        }
        Protocol::Ssh => {
            let host = Arc::new(ssh::Host::new(&files)?);
            each(move |socket| {
                let host = Arc::clone(&host);
                async move { host.serve(socket).await }
            })
            .await
        }
    }
}

fn acceptor(files: &Files, alpn: &[&[u8]]) -> Result<TlsAcceptor> {
    let own = files.certified("server")?;
    let tls = server_config(own.chain, own.key, &files.certificates("clients.crt")?, alpn)?;
    Ok(TlsAcceptor::from(tls))
}

/// Listens, and serves each connection in a task of its own.
async fn each<S>(serve: impl Fn(TcpStream) -> S) -> Result<()>
where
    S: Future<Output = Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    say_listening(listener.local_addr()?);
    loop {
        let (socket, _) = listener.accept().await.context("accept")?;
        socket.set_nodelay(true)?;
        // A client that goes away in the middle is how rounds end.
        tokio::spawn(serve(socket));
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
