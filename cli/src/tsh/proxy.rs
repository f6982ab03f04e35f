//! `tsh proxy db`: a local port for programs of one's own.

use std::net::SocketAddr;

use anyhow::ensure;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{
    arguments::ProxyDb,
    context::Context,
    db::{
        login,
        saved::SavedFiles,
        target::{self, Meant},
        tunnel::{PassThrough, Sessions},
    },
};
use crate::{
    client::{self, Local},
    output::print_text,
    tunnel::{LocalPort, Tunnel, Upstream},
};

pub(super) async fn run(context: &Context, arguments: &ProxyDb) -> anyhow::Result<()> {
    if arguments.tunnel {
        with_tunnel(context, arguments).await
    } else {
        passing_through(context, arguments).await
    }
}

async fn with_tunnel(context: &Context, arguments: &ProxyDb) -> anyhow::Result<()> {
    let connection = context.connect().await?;
    let Meant { target, protocol, route, .. } =
        Meant::by(context, &connection, &arguments.database.name, &arguments.database.login).await?;
    let cluster = connection.login.profile.cluster.to_string();
    let (user, name) = (route.login.clone(), route.db_name.clone());
    let port = LocalPort::bind(arguments.port).await?;
    let tunnel = Tunnel::new(port, Sessions::open(context, connection, protocol, route).await?);
    let local = Local { port: tunnel.address().port(), user: &user, database: &name };
    let shown = Shown {
        kind: protocol.display_name(),
        name: &target.name,
        cluster: &cluster,
        client: &client::shown(protocol, local).await,
    };
    print_text(&tunnel_text(&shown, tunnel.address(), arguments.port == 0))?;
    serve(tunnel).await
}

async fn passing_through(context: &Context, arguments: &ProxyDb) -> anyhow::Result<()> {
    ensure!(
        context.selection.identity.is_none(),
        "-i flag needs --tunnel here: without it the client brings the files of tsh db login"
    );
    let connection = context.connect().await?;
    let name = &arguments.database.name;
    let command = format!("tsh proxy db {name}");
    let saved = login::ensure(context, &connection, &arguments.database, &command).await?;
    let files = saved.files(&context.home, &connection.login.profile);
    let address = target::find(&connection.channel, name).await?.public_addr;
    let way = PassThrough { address, protocol: saved.protocol };
    let tunnel = Tunnel::new(LocalPort::bind(arguments.port).await?, way);
    print_text(&pass_through_text(name, tunnel.address(), arguments.port == 0, &files))?;
    serve(tunnel).await
}

/// Serves until Ctrl-C or SIGTERM.
async fn serve<U: Upstream>(tunnel: Tunnel<U>) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(tunnel.serve(shutdown.clone()));
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
    }
    shutdown.cancel();
    Ok(serving.await?)
}

const PORT_HINT: &str =
    "To avoid port randomization, you can choose the listening port using the --port flag.\n";

/// What is said about a tunnel.
struct Shown<'a> {
    /// `PostgreSQL`
    kind: &'a str,
    name: &'a str,
    cluster: &'a str,
    /// The client's command line.
    client: &'a str,
}

fn tunnel_text(shown: &Shown<'_>, address: SocketAddr, random_port: bool) -> String {
    let Shown { kind, name, cluster, client } = shown;
    let hint = if random_port { PORT_HINT } else { "" };
    format!(
        "\
Started authenticated tunnel for the {kind} database \"{name}\" in cluster \"{cluster}\" on {address}.
{hint}
Use the following command to connect to the database or to the address above using other database GUI/CLI clients:
  $ {client}
"
    )
}

fn pass_through_text(name: &str, address: SocketAddr, random_port: bool, files: &SavedFiles) -> String {
    let hint = if random_port { PORT_HINT } else { "" };
    format!(
        "\
Started DB proxy on {address}
{hint}
Use following credentials to connect to the {name} proxy:
  ca_file={}
  cert_file={}
  key_file={}
",
        files.authorities.display(),
        files.certificate.display(),
        files.key.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address() -> SocketAddr {
        "127.0.0.1:62652".parse().unwrap()
    }

    fn text(random_port: bool, kind: &str, client: &str) -> String {
        tunnel_text(&Shown { kind, name: "prod", cluster: "main", client }, address(), random_port)
    }

    #[test]
    fn the_tunnel_text_is_teleports() {
        let expected = "\
Started authenticated tunnel for the PostgreSQL database \"prod\" in cluster \"main\" on 127.0.0.1:62652.
To avoid port randomization, you can choose the listening port using the --port flag.

Use the following command to connect to the database or to the address above using other database GUI/CLI clients:
  $ psql postgres://alice@localhost:62652/postgres
";
        assert_eq!(text(true, "PostgreSQL", "psql postgres://alice@localhost:62652/postgres"), expected);
        let mysql = text(true, "MySQL", "mariadb --user alice");
        assert!(mysql.starts_with("Started authenticated tunnel for the MySQL database \"prod\""), "{mysql}");
        assert!(mysql.ends_with("  $ mariadb --user alice\n"), "{mysql}");
    }

    #[test]
    fn a_chosen_port_needs_no_hint() {
        let text = text(false, "PostgreSQL", "psql");
        assert!(!text.contains("randomization"));
        assert!(text.contains("62652.\n\nUse the following"), "{text}");
    }
}
