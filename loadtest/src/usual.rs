//! The load generators that everybody measures with, in the place of our lean clients: pgbench and sysbench. What targets and
//! peers' figures are drawn up from. A driver and its TLS library cost more than our clients do, and so do all ways.

use std::{process::Command, time::Duration};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;

use crate::{
    door::{Door, Protocol},
    load::{Account, Sample},
    scenario::Scenario,
    way::Way,
};

mod pgbench;
mod sysbench;

/// Beyond the time it was given: connecting, and the end.
const PATIENCE: Duration = Duration::from_secs(60);

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    Pgbench,
    Sysbench,
}

/// What one has said of a round.
#[derive(Debug)]
struct Said {
    operations: f64,
    /// A second, as it counts them: connecting is not in it, unless that is what is measured.
    rate: f64,
    /// Empty where it does not tell.
    latency: Histogram<u64>,
}

impl Program {
    /// Whoever plays this scenario.
    pub(crate) fn playing(scenario: Scenario, protocol: Protocol) -> Option<Self> {
        match protocol {
            Protocol::Postgres => pgbench::arguments(scenario).map(|_| Self::Pgbench),
            Protocol::Mysql => sysbench::arguments(scenario).map(|_| Self::Sysbench),
            Protocol::Ssh => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pgbench => "pgbench",
            Self::Sysbench => "sysbench",
        }
    }

    /// Its name and version.
    pub(crate) fn version(self) -> Result<String> {
        let mut command = match self {
            Self::Pgbench => e2e::mortal(e2e::postgres_program(self.name())?, "KILL"),
            Self::Sysbench => e2e::mortal(self.name(), "KILL"),
        };
        command.arg("--version");
        let said = e2e::run(command, "", PATIENCE).and_then(e2e::Finished::output);
        let said = said.with_context(|| format!("is {} installed?", self.name()))?;
        // pgbench (PostgreSQL) 15.18 (Debian …); sysbench 1.0.20
        let number =
            said.split_whitespace().find(|word| word.starts_with(|first: char| first.is_ascii_digit()));
        Ok(format!("{} {}", self.name(), number.unwrap_or_default()))
    }

    /// One round on one way, in whole seconds, at least one. What connecting takes before the clock starts is in the account of
    /// processor time, and not in the rate.
    pub(crate) fn round(
        self,
        way: &Way,
        scenario: Scenario,
        clients: usize,
        time: Duration,
    ) -> Result<Sample> {
        let time = Duration::from_secs(time.as_secs() + u64::from(time.subsec_nanos() > 0));
        let round = Round { door: &way.door, scenario, clients, time, directory: &tempfile::tempdir()? };
        let played = || {
            let command = match self {
                Self::Pgbench => pgbench::command(&round)?,
                Self::Sysbench => sysbench::command(&round)?,
            };
            let before = Account::of(way)?;
            let output = e2e::run(command, "", time + PATIENCE)?.output()?;
            let (cpu, everybody) = Account::of(way)?.since(&before);
            let said = match self {
                Self::Pgbench => pgbench::said(&output, &round),
                Self::Sysbench => sysbench::said(&output),
            };
            let said = said.with_context(|| format!("{} says: {output}", self.name()))?;
            let elapsed = Duration::from_secs_f64(said.operations / said.rate);
            Ok(Sample { operations: said.operations, elapsed, cpu, everybody, latency: said.latency })
        };
        let sample: Result<Sample> = played();
        sample.with_context(|| format!("the way {}", way.name))
    }
}

/// What one is told.
struct Round<'a> {
    door: &'a Door,
    scenario: Scenario,
    clients: usize,
    /// Whole seconds.
    time: Duration,
    /// For scripts, certificates and logs.
    directory: &'a tempfile::TempDir,
}

/// One that finds nothing but what is given to it, and dies with us.
fn bare(mut command: Command, round: &Round<'_>) -> Command {
    command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    // Where libraries would look for other certificates and options.
    command.env("HOME", round.directory.path()).current_dir(round.directory.path());
    command
}
