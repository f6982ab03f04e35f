//! `authd`: the auth service as a program.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::Context;
use auth::{clock::Clock, identity::ClusterName};
use authd::{
    config::{Config, LogFormat, Overrides, PublicAddr},
    server::Server,
};
use clap::{Args, Parser, Subcommand, ValueEnum, error::ErrorKind};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// As `version` and `--version` of all our programs say it.
const VERSION: &str = concat!("v", env!("CARGO_PKG_VERSION"));

/// The auth service of Touchstone.
#[derive(Parser)]
#[command(name = "authd", display_name = "Touchstone", version = VERSION)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the auth service.
    Start(Start),
    /// Print the version.
    Version,
}

#[derive(Args)]
struct Start {
    /// Configuration file (YAML); flags win over it.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory for keys, users and audit [default: /var/lib/touchstone].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Name of the cluster, fixed at the first start.
    #[arg(long, value_name = "NAME", value_parser = cluster_name)]
    cluster_name: Option<ClusterName>,
    /// Address of the API and the web pages [default: 0.0.0.0:3080].
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Where users and sidecars reach it.
    #[arg(long, value_name = "HOST:PORT", value_parser = public_addr)]
    public_addr: Option<PublicAddr>,
    /// How the log is written [default: text].
    #[arg(long)]
    log_format: Option<Format>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

fn cluster_name(text: &str) -> Result<ClusterName, auth::identity::NameError> {
    ClusterName::new(text)
}

fn public_addr(text: &str) -> Result<PublicAddr, authd::config::ConfigError> {
    PublicAddr::try_from(text.to_owned())
}

fn main() -> ExitCode {
    let arguments = match parsed() {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    let outcome = match arguments.command {
        Command::Version => {
            println!("Touchstone {VERSION}");
            Ok(())
        }
        Command::Start(start) => run(start),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ERROR: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Parses the command line as `tsh` and `tctl` do: help and version go to standard output; a mistake is an `ERROR: …` and status
/// 1, and half a command is answered with its help.
fn parsed() -> Result<Arguments, ExitCode> {
    Arguments::try_parse().map_err(|error| {
        let is_mistake =
            error.use_stderr() && error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
        match (is_mistake, error.to_string()) {
            (true, text) => eprintln!("ERROR: {}", text.strip_prefix("error: ").unwrap_or(&text).trim_end()),
            (false, _) => drop(error.print()),
        }
        if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    })
}

#[tokio::main]
async fn run(start: Start) -> anyhow::Result<()> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    // Whatever this process makes is its owner's alone.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    let flags = Overrides {
        data_dir: start.data_dir,
        cluster_name: start.cluster_name,
        listen: start.listen,
        public_addr: start.public_addr,
        log_format: start.log_format.map(|format| match format {
            Format::Text => LogFormat::Text,
            Format::Json => LogFormat::Json,
        }),
    };
    let config = Config::load(start.config.as_deref(), flags)?;
    init_log(config.log_format)?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let server = Server::start(&config, Clock::system()).await?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    server.stop().await;
    Ok(())
}

fn init_log(format: LogFormat) -> anyhow::Result<()> {
    let filter = match std::env::var("TOUCHSTONE_LOG") {
        Ok(text) => EnvFilter::try_new(text).context("TOUCHSTONE_LOG is not a log filter")?,
        // The libraries' own informations are not ours.
        Err(_) => EnvFilter::new("warn,authd=info"),
    };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_version_is_said_as_by_the_other_programs() {
        assert_eq!(Arguments::command().render_version(), format!("Touchstone v{}\n", authd::VERSION));
    }
}
