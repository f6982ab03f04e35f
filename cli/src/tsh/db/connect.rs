//! `tsh db connect`: the database's own client through a tunnel inside this process.

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use super::{saved::Saved, target::Meant, tunnel::Sessions};
use crate::{
    client::{self, Local},
    tsh::{arguments::Connect, context::Context},
    tunnel::{LocalPort, Tunnel},
};

pub(in crate::tsh) async fn run(context: &Context, arguments: &Connect) -> anyhow::Result<()> {
    let connection = context.connect().await?;
    let Meant { protocol, route, .. } = match &arguments.name {
        Some(name) => Meant::by(context, &connection, name, &arguments.login).await?,
        None => {
            context.refuse_identity().context("name the database")?;
            let only = Saved::chosen(&context.home, &connection.login.profile, None)?;
            Meant::by(context, &connection, only.name.as_str(), &arguments.login).await?
        }
    };
    let (user, name) = (route.login.clone(), route.db_name.clone());
    let port = LocalPort::bind(0).await?;
    let tunnel = Tunnel::new(port, Sessions::open(context, connection, protocol, route).await?);
    let local = Local { port: tunnel.address().port(), user: &user, database: &name };
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(tunnel.serve(shutdown.clone()));
    let ended = client::connect(protocol, local, &arguments.arguments).await;
    shutdown.cancel();
    serving.await?;
    Ok(ended?)
}
