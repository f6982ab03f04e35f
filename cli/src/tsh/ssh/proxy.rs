//! `tsh proxy ssh`: the way to a node for OpenSSH and whatever is built on it. The touch happens here; the session's certificate
//! rides on the TLS connection, and the SSH client speaks through it with the certificate of `tsh login`.

use std::{fs::File, io, sync::Arc};

use anyhow::Context as _;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{arguments::ProxySsh, node};
use crate::{
    session,
    ssh::{Destination, Hosts, stdio},
    terminal::Terminal,
    tsh::context::Context,
    tunnel::dial_node,
};

/// One read of either side.
const CHUNK_BYTES: usize = 64 * 1024;

pub(in crate::tsh) async fn run(context: &Context, arguments: &ProxySsh) -> anyhow::Result<()> {
    let (login, host) = destination(&arguments.destination)?;
    let connection = context.connect().await?;
    let cluster = connection.login.profile.cluster.as_str();
    let node = node::find(node::list(&connection.channel).await?, &host, cluster)?;
    let route = node::route(&node, &node::login_at(&node, login.as_deref()));
    let mut prompter = context.prompter(&connection.login.profile.proxy, &connection.channel);
    prompter.terminal = away_from_standard_input(prompter.terminal)?;
    let credential = session::open_once(&connection, &prompter, &route).await?;
    let sidecar = dial_node(&credential).await?;
    pump(stdio::input()?, stdio::output()?, sidecar).await.context("the connection broke")
}

/// `[user@]host[:port]`. The port is what the SSH client believes; where the sidecar is, the auth service knows.
fn destination(text: &str) -> anyhow::Result<(Option<String>, String)> {
    let Destination { login, hosts } = text.parse()?;
    let Hosts::Name(host) = hosts else { anyhow::bail!("labels may stand for several nodes: name one") };
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let host = match host.rsplit_once(':') {
        Some((host, port)) if is_port(port) => host,
        _ => &host,
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Ok((login, host.to_owned()))
}

/// Without a controlling terminal people would be asked on standard input; here that is the SSH client's.
fn away_from_standard_input(terminal: Arc<Terminal>) -> io::Result<Arc<Terminal>> {
    if terminal.is_controlling() {
        return Ok(terminal);
    }
    let nothing = File::open("/dev/null")?;
    let errors = std::os::fd::AsFd::as_fd(&io::stderr()).try_clone_to_owned()?;
    Ok(Arc::new(Terminal::without_person(nothing.into(), errors)))
}

/// Until the sidecar has nothing more to say. The client's end of input is passed on, and closes that direction alone.
async fn pump(
    input: impl AsyncRead + Unpin + Send + 'static,
    mut output: impl AsyncWrite + Unpin,
    sidecar: impl AsyncRead + AsyncWrite + Send + 'static,
) -> io::Result<()> {
    let (mut from, to) = tokio::io::split(sidecar);
    let upward = tokio::spawn(copy_and_close(input, to));
    let mut chunk = vec![0; CHUNK_BYTES];
    let ended: io::Result<()> = async {
        loop {
            let read = match from.read(&mut chunk).await {
                // A sidecar that is killed does not say goodbye in TLS; SSH inside tells whether it was the end.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
                read => read?,
            };
            let Some(bytes) = chunk.get(..read).filter(|bytes| !bytes.is_empty()) else { return Ok(()) };
            output.write_all(bytes).await?;
            output.flush().await?;
        }
    }
    .await;
    upward.abort();
    match ended {
        // The SSH client has gone, as it may.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        ended => ended,
    }
}

async fn copy_and_close(
    mut input: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = input.read(&mut chunk).await?;
        let Some(bytes) = chunk.get(..read).filter(|bytes| !bytes.is_empty()) else {
            return to.shutdown().await;
        };
        to.write_all(bytes).await?;
        to.flush().await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_what_openssh_makes_of_it() {
        let parsed =
            |text: &str| destination(text).map(|(login, host)| (login.unwrap_or_default(), host)).unwrap();
        let pair = |login: &str, host: &str| (login.to_owned(), host.to_owned());
        assert_eq!(parsed("root@prod-1.main:22"), pair("root", "prod-1.main"));
        assert_eq!(parsed("prod-1"), pair("", "prod-1"));
        assert_eq!(parsed("root@[::1]:22"), pair("root", "::1"));
        assert!(destination("root@env=prod:22").is_err());
        assert!(destination("").is_err());
    }

    #[tokio::test]
    async fn each_direction_closes_by_itself() {
        let (sidecar, mut far) = tokio::io::duplex(16);
        let (mut client, input) = tokio::io::duplex(16);
        let pumping = tokio::spawn(async move {
            let mut output = Vec::new();
            pump(input, &mut output, sidecar).await.unwrap();
            output
        });
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut question = Vec::new();
        far.read_to_end(&mut question).await.unwrap();
        assert_eq!(question, b"question");
        far.write_all(b"an answer longer than the buffer").await.unwrap();
        drop(far);
        assert_eq!(pumping.await.unwrap(), b"an answer longer than the buffer");
    }

    #[tokio::test]
    async fn a_client_that_is_still_typing_does_not_keep_a_session_that_is_over() {
        let (sidecar, far) = tokio::io::duplex(16);
        let (_client, input) = tokio::io::duplex(16);
        drop(far);
        pump(input, Vec::new(), sidecar).await.unwrap();
    }
}
