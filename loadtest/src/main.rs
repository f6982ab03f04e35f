//! How fast: what the sidecar costs, measured against no sidecar, against peers, and against nothing at all.
//!
//! A run sets a [`stage`] of real programs (authd, databases, sidecars, haproxy, nginx) with certificates that authd has issued
//! through its own API, and lets the ways between client and database take turns: A B C, B C A, C A B. A figure of one way
//! means nothing on a machine that does other things too; the *ratio* of two ways in the same round does, and its spread over
//! the rounds says how much. Processor time is the kernel's own account of the process in between.
//!
//! | file | idea |
//! |---|---|
//! | `run.rs` | a run: ways take turns in rounds |
//! | `scenario.rs`, `special.rs` | what is done on a way |
//! | `load.rs`, `session.rs`, `link.rs`, `postgres.rs`, `mysql.rs` | clients that cost little themselves |
//! | `issue.rs` | people who ask authd for session certificates |
//! | `usual.rs` | pgbench and sysbench instead |
//! | `ssh.rs` | OpenSSH's own client, a process for each connection |
//! | `stage.rs`, `person.rs`, `guard.rs` | programs and certificates |
//! | `null.rs`, `relay.rs` | this program in other roles: an upstream that does nothing, a relay that decides nothing |
//! | `fanout.rs` | what many sidecars ask of one authd |
//! | `benches.rs` | criterion's figures as ratios, against recorded ones |
//! | `accounting.rs`, `trace.rs` | what a process costs, as the kernel counts it |
//! | `spread.rs`, `report.rs`, `target.rs` | what came of it, and what was wanted |

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand};

mod accounting;
mod benches;
mod door;
mod fanout;
mod files;
mod guard;
mod issue;
mod link;
mod load;
mod machine;
mod mysql;
mod null;
mod person;
mod postgres;
mod relay;
mod report;
mod run;
mod scenario;
mod session;
mod special;
mod spread;
mod ssh;
mod stage;
mod target;
mod trace;
mod usual;
mod way;

use door::Protocol;
use report::Report;
use run::Plan;
use scenario::{Measure, Scenario};
use stage::{Cast, Other};

/// Seconds of a round of new SSH connections, all with one session certificate.
const LONGEST_OF_SSH: f64 = 50.0;

/// Measures what the sidecar costs.
#[derive(Parser)]
#[command(name = "loadtest", disable_version_flag = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs scenarios on every way and reports.
    Run(Box<Run>),
    /// Makes tables and the page again from a JSON report.
    Report {
        /// What `run --json` wrote.
        json: PathBuf,
        /// Where the page goes.
        #[arg(long)]
        html: Option<PathBuf>,
    },
    /// Simulates sidecars that watch one authd while roles change.
    Fanout {
        /// Watch streams.
        #[arg(long, default_value_t = 1000)]
        watchers: usize,
        /// Mutual TLS connections that carry them; authd takes 512 of one address.
        #[arg(long, default_value_t = 400)]
        connections: usize,
        /// Changes of a role, one after another.
        #[arg(long, default_value_t = 10)]
        changes: usize,
    },
    /// Compares what `cargo bench` measured with what was recorded.
    Benches {
        /// Where criterion keeps its results.
        #[arg(long, default_value = "target/criterion")]
        criterion: PathBuf,
        /// The recorded ratios.
        #[arg(long)]
        baseline: PathBuf,
        /// Record them anew.
        #[arg(long)]
        record: bool,
    },
    /// A null upstream: speaks the protocol and knows every answer beforehand. Started by `run`.
    #[command(hide = true)]
    Null {
        #[arg(value_enum)]
        protocol: Protocol,
        #[arg(long)]
        files: PathBuf,
    },
    /// The bare relay to a PostgreSQL on 127.0.0.1. Started by `run`.
    #[command(hide = true)]
    Relay {
        port: u16,
        #[arg(long)]
        files: PathBuf,
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
    },
}

#[derive(Args)]
struct Run {
    /// What to do on each way.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "simple,extended,prepared,connect,connect-cold,download,upload,mixed,open-loop,idle,syscalls,issue,issue-open-loop,ssh-connect,ssh-bulk,ssh-bulk-up"
    )]
    scenarios: Vec<Scenario>,
    /// What is spoken.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "postgres,mysql,ssh")]
    protocols: Vec<Protocol>,
    /// Numbers of clients.
    #[arg(long, value_delimiter = ',', default_value = "1,8")]
    clients: Vec<usize>,
    /// How often the ways take turns; the first turn of all does not count.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Seconds of each way in each round.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Questions a second in the open loop.
    #[arg(long, default_value_t = 2000.0)]
    rate: f64,
    /// Session certificates a second in their open loop.
    #[arg(long, default_value_t = target::ISSUE_RATE)]
    issue_rate: f64,
    /// Megabytes of one large result, or of one large statement.
    #[arg(long, default_value_t = 50)]
    megabytes: u32,
    /// Megabytes of one transfer by SSH.
    #[arg(long, default_value_t = 500)]
    ssh_megabytes: u32,
    /// Idle connections.
    #[arg(long, default_value_t = 1000)]
    idle: usize,
    /// Only these ways, beside the baseline: sidecar,haproxy-tcp.
    #[arg(long, value_delimiter = ',')]
    ways: Vec<String>,
    /// A further peer, which is started for the run: NAME=PROTOCOL:COMMAND; may be given more than once.
    ///
    /// In COMMAND, {listen} and {port} say where it must listen, {upstream} and {upstream-port} where the database or the host
    /// is, and {files} is a folder with certificates: server.crt, server.key and clients.crt for TLS with clients, client.crt,
    /// client.key and databases.crt for TLS with the database. For example:
    /// --peer 'socat=mysql:socat TCP-LISTEN:{port},fork,reuseaddr TCP:{upstream}'
    #[arg(long = "peer", value_name = "NAME=PROTOCOL:COMMAND")]
    peers: Vec<Other>,
    /// Neither haproxy nor nginx nor the bare relay.
    #[arg(long)]
    no_peers: bool,
    /// Small queries of PostgreSQL, and new connections, by pgbench, those of MySQL by sysbench, instead of our own lean
    /// clients; in whole seconds.
    #[arg(long)]
    usual_clients: bool,
    /// Clients, databases and everything in between share one processor: the cleanest ratio there is.
    #[arg(long)]
    one_core: bool,
    /// Where the report goes as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Where it goes as a page.
    #[arg(long)]
    html: Option<PathBuf>,
    /// No progress bar.
    #[arg(long)]
    quiet: bool,
}

fn main() -> ExitCode {
    // First of all: whatever uses rustls without naming a provider must find this one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match carry_out(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ERROR: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out(command: Command) -> Result<()> {
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match command {
        Command::Run(run) => {
            let plan = run.plan()?;
            let report = run::run(&plan, command_line())?;
            if let Some(path) = &run.json {
                std::fs::write(path, serde_json::to_string_pretty(&report)?)?;
            }
            show(&report, run.html.as_ref())
        }
        Command::Report { json, html } => {
            let text = std::fs::read_to_string(&json).with_context(|| json.display().to_string())?;
            show(&serde_json::from_str(&text)?, html.as_ref())
        }
        Command::Fanout { watchers, connections, changes } => fanout::run(watchers, connections, changes),
        Command::Benches { criterion, baseline, record } => benches::run(&criterion, &baseline, record),
        Command::Null { protocol, files } => runtime()?.block_on(null::serve(protocol, &files)),
        Command::Relay { port, files, listen } => runtime()?.block_on(relay::serve(&files, port, listen)),
    }
}

fn show(report: &Report, html: Option<&PathBuf>) -> Result<()> {
    report::print(report);
    if let Some(path) = html {
        std::fs::write(path, report::page(report)).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// As it was typed, without the program's folder.
fn command_line() -> String {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    format!("loadtest {}", arguments.join(" "))
}

impl Run {
    fn plan(&self) -> Result<Plan> {
        ensure!(
            self.rounds > 0 && self.seconds > 0.0 && self.rate > 0.0 && self.issue_rate > 0.0,
            "rounds, seconds and rates are more than nothing"
        );
        ensure!(self.clients.iter().all(|clients| (1..=1000).contains(clients)), "1 to 1000 clients");
        // Whoever has no part is not brought on stage.
        let speaks = |protocol| {
            let plays = |scenario: &Scenario| scenario.is_for(protocol);
            self.protocols.contains(&protocol) && self.scenarios.iter().any(plays)
        };
        ensure!(
            self.seconds <= LONGEST_OF_SSH || !speaks(Protocol::Ssh),
            "a session certificate of SSH is good for a minute: at most {LONGEST_OF_SSH} seconds"
        );
        for peer in &self.peers {
            ensure!(
                speaks(peer.protocol),
                "{} is for {}, which is no part of this run",
                peer.name,
                peer.protocol.name()
            );
        }
        let has = |scenarios: &[Scenario]| self.scenarios.iter().any(|scenario| scenarios.contains(scenario));
        let in_between = [Scenario::Simple, Scenario::Connect, Scenario::Idle];
        Ok(Plan {
            scenarios: self.scenarios.clone(),
            protocols: self.protocols.clone(),
            clients: self.clients.clone(),
            rounds: self.rounds,
            measure: Measure {
                time: Duration::from_secs_f64(self.seconds),
                rate: self.rate,
                issue_rate: self.issue_rate,
                megabytes: self.megabytes,
                ssh_megabytes: self.ssh_megabytes,
            },
            idle_connections: self.idle,
            usual_clients: self.usual_clients,
            ways: self.ways.clone(),
            cast: Cast {
                postgres: speaks(Protocol::Postgres),
                mysql: speaks(Protocol::Mysql),
                ssh: speaks(Protocol::Ssh),
                null: has(&in_between),
                one_core: self.one_core,
                peers: !self.no_peers,
                others: self.peers.clone(),
            },
            quiet: self.quiet,
        })
    }
}
