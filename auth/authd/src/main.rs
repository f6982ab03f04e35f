//! `authd`: the auth service as a program.

use std::{io::IsTerminal as _, net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::Context;
use auth::{
    clock::Clock,
    identity::ClusterName,
    log::{self, Log},
};
use authd::{
    config::{Config, LogFormat, Overrides, PublicAddr},
    server::Server,
};
use clap::{Args, Parser, Subcommand, ValueEnum, error::ErrorKind};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
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
    let (outcome, log) = match arguments.command {
        Command::Version => {
            println!("Touchstone {VERSION}");
            (Ok(()), None)
        }
        Command::Start(start) => match Log::on_stderr() {
            Ok(log) => (run(start, &log), Some(log)),
            Err(error) => (Err(error).context("cannot log to standard error"), None),
        },
    };
    log::end(&outcome, log.as_ref())
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
async fn run(start: Start, log: &Log) -> anyhow::Result<()> {
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
    init_log(log, config.log_format)?;
    log::take_panics();
    raise_open_files();
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

/// The soft limit of open files is for programs that know no better: thousands of sidecars take more. Where it cannot be
/// raised, authd goes on with what it has.
fn raise_open_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft < hard { setrlimit(Resource::RLIMIT_NOFILE, hard, hard) } else { Ok(()) }
    });
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
}

fn init_log(log: &Log, format: LogFormat) -> anyhow::Result<()> {
    let filter = match std::env::var("TOUCHSTONE_LOG") {
        Ok(text) => EnvFilter::try_new(text).context("TOUCHSTONE_LOG is not a log filter")?,
        // The libraries' own informations are not ours.
        Err(_) => EnvFilter::new("warn,authd=info"),
    };
    let log = log.clone();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || log.clone());
    // In a file or a journal colours are rubbish.
    let log = log.with_ansi(std::io::stderr().is_terminal());
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

    fn config_file(arguments: &[&str]) -> PathBuf {
        let parsed = Arguments::try_parse_from([&["authd"], arguments].concat());
        match parsed.unwrap_or_else(|error| panic!("{error}")).command {
            Command::Start(start) => start.config.unwrap(),
            Command::Version => panic!("another command: {arguments:?}"),
        }
    }

    fn read(text: &str) -> Config {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("authd.yaml");
        std::fs::write(&path, text).unwrap();
        Config::load(Some(&path), Overrides::default()).unwrap()
    }

    fn words(list: &serde_json::Value) -> Vec<&str> {
        list.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect()
    }

    /// Its folder is below the volume, and tctl finds it in the image.
    fn keeps_its_data_below(config: &Config, volume: &str) {
        assert_eq!(config.data_dir.parent(), Some(std::path::Path::new(volume)));
        let containerfile = include_str!("../../../deploy/Containerfile");
        assert!(containerfile.contains(&format!("ENV TOUCHSTONE_DATA_DIR={}\n", config.data_dir.display())));
    }

    #[test]
    fn the_pod_gives_authd_what_it_needs() {
        let manifests = include_str!("../../../deploy/kubernetes/authd.yaml");
        let documents: Vec<serde_json::Value> =
            manifests.split("\n---\n").map(|document| serde_saphyr::from_str(document).unwrap()).collect();
        let config = read(documents[0]["data"]["authd.yaml"].as_str().unwrap());
        let set = &documents[2]["spec"];
        assert_eq!(set["replicas"], 1, "there is one authd");
        let pod = &set["template"]["spec"];
        let container = &pod["containers"][0];
        assert_eq!(config_file(&words(&container["args"])).to_str(), Some("/etc/touchstone/authd.yaml"));
        keeps_its_data_below(&config, container["volumeMounts"][0]["mountPath"].as_str().unwrap());
        assert_eq!(container["ports"][0]["containerPort"], config.listen.port());
        assert_eq!(documents[1]["spec"]["ports"][0]["port"], config.listen.port());
        assert!(pod["terminationGracePeriodSeconds"].as_u64().unwrap() >= 20);
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        let context = &container["securityContext"];
        assert_eq!(
            (&context["readOnlyRootFilesystem"], &context["allowPrivilegeEscalation"]),
            (&true.into(), &false.into())
        );
        assert_eq!(context["capabilities"]["drop"], serde_json::json!(["ALL"]));
    }

    #[test]
    fn the_composed_authd_and_the_unit_start_with_what_it_takes() {
        let compose: serde_json::Value =
            serde_saphyr::from_str(include_str!("../../../deploy/compose/compose.yaml")).unwrap();
        let service = &compose["services"]["authd"];
        let file = config_file(&words(&service["command"]));
        assert!(words(&service["volumes"]).contains(&format!("./authd.yaml:{}:ro", file.display()).as_str()));
        let config = read(include_str!("../../../deploy/compose/authd.yaml"));
        keeps_its_data_below(&config, "/var/lib/touchstone");
        let unit = include_str!("../../../deploy/systemd/touchstone-authd.service");
        let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/bin/authd ")).unwrap();
        let file = config_file(&start.split_whitespace().collect::<Vec<_>>());
        assert_eq!(file.to_str(), Some("/etc/touchstone/authd.yaml"));
        assert!(unit.contains("\nStateDirectory=touchstone\n"));
    }
}
