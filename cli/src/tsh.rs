//! The commands of `tsh`.

mod arguments;
mod clusters;
mod context;
mod db;
mod devices;
mod env;
mod listed;
mod login;
mod logout;
mod play;
mod proxy;
mod register;
mod scp;
mod ssh;
mod status;

pub use arguments::Arguments;
use arguments::{Command, DbCommand, MfaCommand, ProxyCommand};
use context::Context;
use play::arguments::Recordings;

use serde_json::json;

use crate::{VERSION, logging, output};

/// Runs one command.
///
/// # Errors
/// What to print after `ERROR: `.
pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    logging::start(arguments.debug);
    match &arguments.command {
        Command::Version(shown) => {
            let version = json!({ "version": VERSION });
            return Ok(output::print(shown.listing.format, &version, || format!("Touchstone {VERSION}"))?);
        }
        Command::Completion(completion) => return Ok(completion.print::<Arguments>()?),
        _ => {}
    }
    let context = Context::new(&arguments)?;
    match arguments.command {
        Command::Register(register) => register::run(&context, &register).await,
        Command::Login(login) => login::run(&context, &login).await,
        Command::Logout => logout::run(&context),
        Command::Status(status) => status::run(&context, status.format),
        Command::Env(env) => env::run(&context, &env),
        Command::Clusters(clusters) => clusters::run(&context, clusters.format).await,
        Command::Mfa(MfaCommand::Ls(list)) => devices::list(&context, &list).await,
        Command::Mfa(MfaCommand::Add(add)) => devices::add(&context, &add).await,
        Command::Mfa(MfaCommand::Rm(remove)) => devices::remove(&context, &remove.device).await,
        Command::Db(DbCommand::Ls(list)) => db::list::run(&context, &list).await,
        Command::Db(DbCommand::Login(login)) => db::login::run(&context, &login).await,
        Command::Db(DbCommand::Logout(which)) => db::logout::run(&context, which.name.as_deref()),
        Command::Db(DbCommand::Connect(connect)) => Box::pin(db::connect::run(&context, &connect)).await,
        Command::Db(DbCommand::Env(which)) => db::environment::run(&context, which.name.as_deref()),
        Command::Db(DbCommand::Config(config)) => db::config::run(&context, &config).await,
        Command::Proxy(ProxyCommand::Db(proxy)) => Box::pin(proxy::run(&context, &proxy)).await,
        Command::Proxy(ProxyCommand::Ssh(proxy)) => Box::pin(ssh::proxy::run(&context, &proxy)).await,
        Command::Ssh(ssh) => Box::pin(ssh::run(&context, &ssh)).await,
        Command::Scp(scp) => Box::pin(scp::run(&context, &scp)).await,
        Command::Play(play) => Box::pin(play::run(&context, &play)).await,
        Command::Recordings(Recordings::Ls(list)) => play::list(&context, &list).await,
        Command::Ls(list) => ssh::list::run(&context, &list).await,
        Command::Config(_) => ssh::config::run(&context).await,
        Command::Completion(_) | Command::Version(_) => Ok(()),
    }
}
