//! Programs between client and database that this tool starts: itself in other roles, haproxy, nginx.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use e2e::{Daemon, mortal, poll};

use super::Other;
use crate::{door::Protocol, files::Files, null::listening};

const STARTING: Duration = Duration::from_secs(20);

/// A program, and where it listens.
pub(super) type Started = (Daemon, SocketAddr);

/// This program as a null upstream.
pub(super) fn null(files: &Files, protocol: Protocol) -> Result<Started> {
    ourselves("null upstream", &["null", protocol.word()], files)
}

/// This program as the bare relay to a database.
pub(super) fn bare_relay(files: &Files, port: u16) -> Result<Started> {
    ourselves("bare relay", &["relay", &port.to_string()], files)
}

fn ourselves(name: &str, arguments: &[&str], files: &Files) -> Result<Started> {
    let mut command = mortal(std::env::current_exe()?, "KILL");
    command.args(arguments).arg("--files").arg(files.path(""));
    let daemon = Daemon::start(name, command)?;
    let address = daemon.wait_for("it to listen", STARTING, listening)?;
    Ok((daemon, address))
}

/// haproxy that passes bytes through; `None` where it is not installed.
pub(super) fn haproxy_tcp(files: &Files, name: &str, port: u16) -> Result<Option<Started>> {
    haproxy(files, &format!("haproxy-{name}"), "", &format!("127.0.0.1:{port}"))
}

/// haproxy that ends mutual TLS on both legs, TLS first as it alone can; `None` where it is not installed.
pub(super) fn haproxy_mtls(files: &Files, upstream: SocketAddr) -> Result<Option<Started>> {
    let path = |name: &str| files.path(name).display().to_string();
    let bind = format!(
        "ssl crt {} ca-file {} verify required alpn postgresql no-tls-tickets",
        path("server.pem"),
        path("clients.crt")
    );
    let server = format!(
        "{upstream} ssl crt {} ca-file {} verify required verifyhost localhost alpn postgresql no-ssl-reuse",
        path("client.pem"),
        path("databases.crt")
    );
    haproxy(files, "haproxy-mtls", &bind, &server)
}

fn haproxy(files: &Files, name: &str, bind: &str, server: &str) -> Result<Option<Started>> {
    let Some(program) = installed("haproxy") else { return Ok(None) };
    let address = free_address()?;
    let configuration = files.path(&format!("{name}.cfg"));
    // Resumption would spare it the handshakes that are measured.
    fs::write(
        &configuration,
        format!(
            "global\n  maxconn 4000\n  tune.ssl.cachesize 0\n\
             defaults\n  mode tcp\n  timeout connect 10s\n  timeout client 1h\n  timeout server 1h\n\
             listen it\n  bind {address} {bind}\n  server s {server}\n"
        ),
    )?;
    let mut command = mortal(program, "KILL");
    command.args(["-db", "-f"]).arg(&configuration);
    until_it_answers(name, command, address).map(Some)
}

/// nginx that passes bytes through; `None` where it or its module is not installed. One process, so that its costs are in
/// one place.
pub(super) fn nginx_tcp(files: &Files, name: &str, port: u16) -> Result<Option<Started>> {
    let module = Path::new("/usr/lib/nginx/modules/ngx_stream_module.so");
    let (Some(program), true) = (installed("nginx"), module.is_file()) else { return Ok(None) };
    let address = free_address()?;
    let configuration = files.path(&format!("nginx-{name}.conf"));
    fs::write(
        &configuration,
        format!(
            "load_module {};\ndaemon off;\nmaster_process off;\npid {};\nerror_log stderr;\n\
             events {{ worker_connections 4000; }}\n\
             stream {{ server {{ listen {address}; tcp_nodelay on; proxy_pass 127.0.0.1:{port}; }} }}\n",
            module.display(),
            files.path(&format!("nginx-{name}.pid")).display()
        ),
    )?;
    let mut command = mortal(program, "KILL");
    command.arg("-c").arg(&configuration);
    until_it_answers("nginx", command, address).map(Some)
}

/// A peer by its own command line, before what listens at `upstream`.
pub(super) fn other(files: &Files, other: &Other, upstream: SocketAddr) -> Result<Started> {
    let address = free_address()?;
    let words = other.command(address, upstream, files);
    let (program, arguments) = words.split_first().context("a peer without a command")?;
    let mut command = mortal(program, "KILL");
    command.args(arguments);
    until_it_answers(other.name, command, address)
}

fn until_it_answers(name: &str, command: Command, address: SocketAddr) -> Result<Started> {
    let mut daemon = Daemon::start(name, command)?;
    let answered = poll(&format!("{name} to listen"), STARTING, || {
        let answer = TcpStream::connect(address).ok();
        ensure!(answer.is_some() || daemon.wait(Duration::ZERO).is_err(), "{name} has ended");
        Ok(answer)
    });
    answered.with_context(|| daemon.log().join("\n"))?;
    Ok((daemon, address))
}

fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    folders.map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// Free until somebody else takes it between our look and the program's start.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}
