//! `tsh db login`: a certificate on disk for programs of one's own, only where no touch is needed.

use anyhow::{Context as _, bail};
use auth::{
    identity::TargetName,
    proto::{Route, Target},
};

use super::{
    saved::Saved,
    target::{self, MFA_REASON, Meant},
};
use crate::{
    armour,
    connect::Connection,
    output::print_text,
    proxy_address::ProxyAddress,
    session,
    tsh::{arguments::Database, context::Context},
};

pub(in crate::tsh) async fn run(context: &Context, arguments: &Database) -> anyhow::Result<()> {
    context.refuse_identity()?;
    let connection = context.connect().await?;
    let Meant { target, route, .. } = Meant::anew(context, &connection, arguments).await?;
    let name = &target.name;
    log_in(context, &connection, &target, &route, &format!("tsh db login {name}")).await?;
    Ok(print_text(&text(name))?)
}

/// Saves a certificate for the route; `command` is what was typed, for the complaint.
pub(in crate::tsh) async fn log_in(
    context: &Context,
    connection: &Connection,
    target: &Target,
    route: &Route,
    command: &str,
) -> anyhow::Result<Saved> {
    if session::is_mfa_required(&connection.channel, route).await? {
        bail!(target::unsupported(command, &target.name, MFA_REASON));
    }
    let credential = session::open_for_disk(connection, route).await?;
    let address: ProxyAddress = credential.target.public_addr.parse()?;
    let saved = Saved {
        name: TargetName::new(target.name.as_str()).context("the database has no proper name")?,
        protocol: target::protocol(target)?,
        user: route.login.clone(),
        database: route.db_name.clone(),
        host: address.host().to_owned(),
        port: address.port(),
    };
    let (certificate, key) =
        (armour::certificate(&credential.certificate), armour::private_key(&credential.key));
    saved.keep(&context.home, &connection.login.profile, &certificate, &key).await?;
    Ok(saved)
}

/// The saved login for what is asked, or a new one where there is none in date.
pub(in crate::tsh) async fn ensure(
    context: &Context,
    connection: &Connection,
    arguments: &Database,
    command: &str,
) -> anyhow::Result<Saved> {
    let Meant { target, route, saved, .. } =
        Meant::by(context, connection, &arguments.name, &arguments.login).await?;
    if session::is_mfa_required(&connection.channel, &route).await? {
        bail!(target::unsupported(command, &target.name, MFA_REASON));
    }
    match saved {
        Some(saved) if saved.user == route.login && saved.database == route.db_name => Ok(saved),
        _ => log_in(context, connection, &target, &route, command).await,
    }
}

fn text(name: &str) -> String {
    format!(
        "\
Connection information for database \"{name}\" has been saved.

You can now connect to it using the following command:

  tsh db connect {name}

You can view the connect command for the native database CLI client:

  tsh db config --format=cmd {name}
"
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_text_is_teleports() {
        let expected = "\
Connection information for database \"prod\" has been saved.

You can now connect to it using the following command:

  tsh db connect prod

You can view the connect command for the native database CLI client:

  tsh db config --format=cmd prod
";
        assert_eq!(super::text("prod"), expected);
    }
}
