//! The sidecar's command line.

use std::{
    collections::BTreeMap,
    io::IsTerminal as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use auth::{
    api::CaPin,
    identity::{Protocol, TargetName},
    log::{self, Log},
};
use clap::{Args, Parser, Subcommand, ValueEnum, error::ErrorKind};
use sidecar::{
    Sidecar,
    config::{
        Config, DEFAULT_DATA_DIR, DEFAULT_DRAIN_TIMEOUT, DEFAULT_RECORDINGS_BOUND, DEFAULT_ROOM,
        DEFAULT_SPOOL_BOUND, Labels, Parameters, SshUpstream, TargetConfig, Tls, Token, UpstreamConfig, Uri,
        parse_duration,
    },
};
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;
use tracing_subscriber::{
    EnvFilter, Layer as _, filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};
use zeroize::Zeroizing;

#[cfg(test)]
mod deployment;

/// As `version` and `--version` of all our programs say it.
const VERSION: &str = concat!("v", env!("CARGO_PKG_VERSION"));

/// Lets nobody in who does not hold a short-lived certificate for this very session.
#[derive(Parser)]
#[command(name = "sidecar", display_name = "Touchstone", version = VERSION)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Guards targets: those of a configuration file, or one given by flags.
    Start(Box<Start>),
    /// Checks a configuration file and says what it means.
    Check {
        /// The file.
        #[arg(short, long)]
        config: PathBuf,
    },
    /// Prints the version.
    Version,
}

#[derive(Args)]
struct Start {
    /// Configuration file; with it, no flag that describes a target is taken.
    #[arg(short, long, conflicts_with_all = ["auth_server", "ca_pins", "token", "token_file", "name", "protocol", "uri", "labels", "listen", "public_addr", "upstream_password_file", "upstream_tls", "mysql_server_version", "upstream_host_keys", "upstream_host_key_file", "upstream_host_cas", "upstream_host_names", "upstream_key_file"])]
    config: Option<PathBuf>,
    /// authd, HOST:PORT.
    #[arg(long, required_unless_present = "config")]
    auth_server: Option<String>,
    /// What authd's authority is checked against at the first contact; may be given more than once.
    #[arg(long = "ca-pin")]
    ca_pins: Vec<CaPin>,
    /// Join token. Other users of this host can see it; --token-file is better.
    #[arg(long, conflicts_with = "token_file")]
    token: Option<String>,
    /// File that holds the join token.
    #[arg(long)]
    token_file: Option<PathBuf>,
    /// Name of the target.
    #[arg(long, required_unless_present = "config")]
    name: Option<TargetNameArg>,
    /// What it speaks: postgres, mysql, which is MariaDB too, or ssh.
    #[arg(long, value_enum, required_unless_present = "config")]
    protocol: Option<ProtocolArg>,
    /// The upstream: HOST:PORT or unix:PATH of its socket.
    #[arg(long, required_unless_present = "config")]
    uri: Option<Uri>,
    /// What roles match: key=value,key=value.
    #[arg(long)]
    labels: Option<Labels>,
    /// Where clients are awaited.
    #[arg(long, required_unless_present = "config")]
    listen: Option<SocketAddr>,
    /// Where clients are told to go, HOST:PORT. Without it: the listen address; if that is 0.0.0.0, this machine's name.
    #[arg(long)]
    public_addr: Option<String>,
    /// Identity and audit spool [default: /var/lib/touchstone-sidecar].
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Where /metrics, /healthz and /readyz are served, such as 127.0.0.1:3000 [default: nowhere].
    #[arg(long)]
    diag_addr: Option<SocketAddr>,
    /// Log in to the upstream with the password in this file in place of a client certificate.
    #[arg(long)]
    upstream_password_file: Option<PathBuf>,
    /// verify-full, verify-ca, insecure, or insecure-plaintext [default: verify-full; on a socket, no TLS].
    #[arg(long)]
    upstream_tls: Option<Tls>,
    /// ssh: the host's key, a line such as `ssh-ed25519 AAAA…`; may be given more than once.
    #[arg(long = "upstream-host-key")]
    upstream_host_keys: Vec<String>,
    /// ssh: file of such lines (/etc/ssh/ssh_host_ed25519_key.pub).
    #[arg(long)]
    upstream_host_key_file: Option<PathBuf>,
    /// ssh: authority that certifies the host's key; may be given more than once.
    #[arg(long = "upstream-host-ca")]
    upstream_host_cas: Vec<String>,
    /// ssh: name that the host's certificate must carry, in place of the host in --uri.
    #[arg(long = "upstream-host-name")]
    upstream_host_names: Vec<String>,
    /// ssh: log in to the host with the private key in this file in place of a certificate.
    #[arg(long)]
    upstream_key_file: Option<PathBuf>,
    /// Greet MySQL clients with this version in place of the upstream's own.
    #[arg(long)]
    mysql_server_version: Option<String>,
    /// How long live sessions may go on after SIGTERM [default: 30s].
    #[arg(long, value_parser = parse_duration)]
    drain_timeout: Option<Duration>,
    /// Form of the log on standard error.
    #[arg(long, value_enum, default_value = "text")]
    log_format: LogFormat,
}

#[derive(Clone)]
struct TargetNameArg(TargetName);

impl std::str::FromStr for TargetNameArg {
    type Err = auth::identity::NameError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        TargetName::new(text).map(Self)
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum ProtocolArg {
    Postgres,
    Mysql,
    Ssh,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

fn main() -> ExitCode {
    // First of all: whatever uses rustls without naming a provider must find this one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let cli = match parsed() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let (outcome, log) = match cli.command {
        Command::Start(start) => match Log::on_stderr() {
            Ok(log) => (run(*start, &log), Some(log)),
            Err(error) => (Err(error).context("cannot log to standard error"), None),
        },
        Command::Check { config } => (check(&config), None),
        Command::Version => {
            println!("Touchstone {VERSION}");
            (Ok(()), None)
        }
    };
    log::end(&outcome, log.as_ref())
}

/// Parses the command line as `tsh` and `tctl` do: help and version go to standard output; a mistake is an `ERROR: …` and status
/// 1, and half a command is answered with its help.
fn parsed() -> Result<Cli, ExitCode> {
    Cli::try_parse().map_err(|error| {
        let is_mistake =
            error.use_stderr() && error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
        match (is_mistake, error.to_string()) {
            (true, text) => eprintln!("ERROR: {}", text.strip_prefix("error: ").unwrap_or(&text).trim_end()),
            (false, _) => drop(error.print()),
        }
        if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    })
}

fn run(start: Start, log: &Log) -> anyhow::Result<()> {
    write_log(log, start.log_format);
    log::take_panics();
    let config = start.into_config()?;
    // For what keeps up with authd; sessions have threads of their own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(serve(config))
}

fn check(path: &Path) -> anyhow::Result<()> {
    let config = Config::read(path)?;
    for target in &config.targets {
        let UpstreamConfig { address, tls, credential, .. } = &target.upstream;
        println!(
            "{}: {} on {} → {address} ({tls:?}, {credential:?})",
            target.name, target.protocol, target.listen
        );
    }
    println!("{} is valid", path.display());
    Ok(())
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let mut stopped = async || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    info!(version = env!("CARGO_PKG_VERSION"), targets = config.targets.len(), "starting");
    let sidecar = tokio::select! {
        started = Sidecar::start(config) => started?,
        // Nobody was let in yet.
        () = stopped() => return Ok(()),
    };
    let expired = tokio::select! {
        () = stopped() => false,
        () = sidecar.expired() => true,
    };
    sidecar.drain().await;
    if expired {
        anyhow::bail!("the certificate of this sidecar has expired: it joins again when it is started again");
    }
    Ok(())
}

impl Start {
    fn into_config(self) -> anyhow::Result<Config> {
        let mut config = match &self.config {
            Some(path) => Config::read(path)?,
            None => self.one_target()?,
        };
        if let Some(data_dir) = self.data_dir {
            config.data_dir = data_dir;
        }
        config.diag_addr = self.diag_addr.or(config.diag_addr);
        config.drain_timeout = self.drain_timeout.unwrap_or(config.drain_timeout);
        Ok(config)
    }

    fn one_target(&self) -> anyhow::Result<Config> {
        // clap has made sure of these.
        let (Some(auth_server), Some(name), Some(protocol), Some(uri), Some(listen)) =
            (&self.auth_server, &self.name, self.protocol, &self.uri, self.listen)
        else {
            anyhow::bail!("--auth-server, --name, --protocol, --uri and --listen are needed, or --config");
        };
        let protocol = match protocol {
            ProtocolArg::Postgres => Protocol::Postgres,
            ProtocolArg::Mysql => Protocol::Mysql,
            ProtocolArg::Ssh => Protocol::Ssh,
        };
        let target = TargetConfig {
            name: name.0.clone(),
            description: String::new(),
            protocol,
            labels: self.labels.as_ref().map_or_else(BTreeMap::new, |labels| labels.0.clone()),
            listen,
            public_addr: self.public_addr.clone(),
            parameters: Parameters::Recorded,
            mysql_version: self.mysql_server_version.clone(),
            upstream: self.upstream(protocol, uri)?,
        };
        let literal = self.token.clone().map(|token| Token::Literal(Zeroizing::new(token)));
        let config = Config {
            auth_server: auth_server.clone(),
            ca_pins: self.ca_pins.clone(),
            token: literal.or_else(|| self.token_file.clone().map(Token::File)),
            data_dir: DEFAULT_DATA_DIR.into(),
            diag_addr: None,
            drain_timeout: DEFAULT_DRAIN_TIMEOUT,
            spool_bound: DEFAULT_SPOOL_BOUND,
            recordings_bound: DEFAULT_RECORDINGS_BOUND,
            room: DEFAULT_ROOM,
            targets: vec![target],
        };
        Ok(config.checked()?)
    }

    fn upstream(&self, protocol: Protocol, uri: &Uri) -> anyhow::Result<UpstreamConfig> {
        let ssh = SshUpstream {
            host_keys: self.upstream_host_keys.clone(),
            host_key_file: self.upstream_host_key_file.clone(),
            host_authorities: self.upstream_host_cas.clone(),
            host_names: self.upstream_host_names.clone(),
        };
        let tls = self.upstream_tls.as_ref().map(|tls| tls.0);
        if protocol == Protocol::Ssh {
            if tls.is_some() || self.upstream_password_file.is_some() {
                anyhow::bail!("--upstream-tls and --upstream-password-file mean nothing with --protocol=ssh");
            }
            return Ok(UpstreamConfig::node(uri.0.clone(), ssh, self.upstream_key_file.clone()));
        }
        if self.upstream_key_file.is_some() {
            anyhow::bail!("--upstream-key-file goes with --protocol=ssh");
        }
        let database = UpstreamConfig::new(uri.0.clone(), tls, self.upstream_password_file.clone());
        // Host keys are refused by the configuration's own check.
        Ok(UpstreamConfig { ssh, ..database })
    }
}

fn write_log(log: &Log, format: LogFormat) {
    let log = log.clone();
    let writer = move || log.clone();
    let directives = std::env::var("TOUCHSTONE_LOG").unwrap_or_else(|_| "info".to_owned());
    let lines = match format {
        LogFormat::Text => tracing_subscriber::fmt::layer()
            .with_writer(writer)
            // In a file or a journal colours are rubbish.
            .with_ansi(std::io::stderr().is_terminal())
            .boxed(),
        // The list would hold the same one span again, read from its text and written once more for each line.
        LogFormat::Json => {
            tracing_subscriber::fmt::layer().json().with_span_list(false).with_writer(writer).boxed()
        }
    };
    // A filter that asks for levels alone costs nothing where a session's task goes on, as it does with each message; one that
    // asks for spans looks them up each time.
    let filter = match directives.parse::<Targets>() {
        Ok(levels) => levels.boxed(),
        Err(_) => EnvFilter::try_new(directives).unwrap_or_else(|_| EnvFilter::new("info")).boxed(),
    };
    tracing_subscriber::registry().with(lines).with(filter).init();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `tctl tokens add` prints, as the tests of `tctl` hold it to.
    const INVITATION: &str = include_str!("../../cli/src/tctl/tokens/invitation.txt");

    #[test]
    fn the_commands_that_come_with_a_join_token_are_taken() {
        let commands: Vec<_> =
            INVITATION.split("\n\n").filter_map(|block| block.strip_prefix("> ")).collect();
        let configs = commands.iter().map(|command| {
            let words = command.split_whitespace().filter(|word| *word != "\\");
            match Cli::try_parse_from(words).map(|cli| cli.command) {
                Ok(Command::Start(start)) => start.into_config().unwrap(),
                Ok(_) => panic!("another command: {command}"),
                Err(error) => panic!("{error}"),
            }
        });
        let protocols: Vec<_> = configs.map(|config| config.targets[0].protocol).collect();
        assert_eq!(protocols, [Protocol::Postgres, Protocol::Ssh]);
    }
}
