//! pgbench, PostgreSQL's own load generator, in the place of the lean clients: a real driver with OpenSSL, whose own work is in
//! every way's account. What peers are published with, and what the targets were drawn up from.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;

use crate::{
    door::{Door, Protocol},
    load::{self, Account, Sample},
    scenario::Scenario,
    session::ROWS,
    way::Way,
};

/// Threads of one pgbench, at most.
const THREADS: usize = 2;
/// Beyond the time it was given: connecting, and the end.
const PATIENCE: Duration = Duration::from_secs(60);
/// Of every so many transactions, one is written down with its time.
const SAMPLING: &str = "0.1";

/// Whether it can do that.
pub(crate) fn plays(scenario: Scenario, protocol: Protocol) -> bool {
    protocol == Protocol::Postgres && arguments(scenario).is_some()
}

/// How it is told.
fn arguments(scenario: Scenario) -> Option<&'static [&'static str]> {
    Some(match scenario {
        Scenario::Simple => &["--protocol=simple"],
        Scenario::Extended => &["--protocol=extended"],
        Scenario::Prepared => &["--protocol=prepared"],
        Scenario::Connect => &["--protocol=simple", "--connect"],
        _ => return None,
    })
}

/// What its users call `--select-only`; without the count of branches before it, which is of a table that is not here.
fn script(scenario: Scenario) -> String {
    match scenario {
        Scenario::Connect => "SELECT 1;\n".to_owned(),
        _ => {
            format!("\\set aid random(1, {ROWS})\nSELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n")
        }
    }
}

/// What `pgbench --version` says.
pub(crate) fn version() -> Result<String> {
    let mut command = e2e::mortal(e2e::postgres_program("pgbench")?, "KILL");
    command.arg("--version");
    let said = e2e::run(command, "", PATIENCE)?.output()?;
    // pgbench (PostgreSQL) 15.18 (Debian …)
    let number = said.split_whitespace().nth(2).unwrap_or_default();
    Ok(format!("pgbench {number}"))
}

/// One round on one way. Its time is in whole seconds, at least one. What connecting takes before the clock starts is in the
/// account of processor time, and not in the rate.
pub(crate) fn round(way: &Way, scenario: Scenario, clients: usize, time: Duration) -> Result<Sample> {
    let played = || {
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("script");
        fs::write(&file, script(scenario))?;
        let seconds = time.as_secs_f64().ceil().max(1.0);
        let connects = scenario == Scenario::Connect;
        let mut command = e2e::mortal(e2e::postgres_program("pgbench")?, "KILL");
        command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        // Where libpq would look for other certificates.
        command.env("HOME", directory.path());
        command.args(["--no-vacuum", &format!("--time={seconds}"), &format!("--client={clients}")]);
        command.arg(format!("--jobs={}", clients.min(THREADS)));
        command.args(arguments(scenario).unwrap_or_default()).arg("--file").arg(&file);
        if !connects {
            command.arg("--log").arg("--log-prefix").arg(directory.path().join("log"));
            command.arg(format!("--sampling-rate={SAMPLING}"));
        }
        command.arg(conninfo(&way.door));
        let before = Account::of(way)?;
        let said = e2e::run(command, "", Duration::from_secs_f64(seconds) + PATIENCE)?.output()?;
        let (cpu, everybody) = Account::of(way)?.since(&before);
        let (operations, rate) = result(&said).with_context(|| format!("pgbench says: {said}"))?;
        let latency = if connects { load::histogram() } else { logged(directory.path())? };
        let elapsed = Duration::from_secs_f64(operations / rate);
        Ok(Sample { operations, elapsed, cpu, everybody, latency })
    };
    let sample: Result<Sample> = played();
    sample.with_context(|| format!("the way {}", way.name))
}

/// Everything proves who it is, as on every way.
fn conninfo(door: &Door) -> String {
    let papers = &door.papers;
    let words = [
        ("host", door.server_name.to_str().into_owned()),
        ("hostaddr", door.address.ip().to_string()),
        ("port", door.address.port().to_string()),
        ("user", door.user.clone()),
        ("dbname", door.database.clone()),
        ("sslmode", "verify-full".to_owned()),
        ("gssencmode", "disable".to_owned()),
        ("sslcert", papers.certificate.display().to_string()),
        ("sslkey", papers.key.display().to_string()),
        ("sslrootcert", papers.authorities.display().to_string()),
    ];
    let quoted = |value: &str| value.replace('\\', r"\\").replace('\'', r"\'");
    words.map(|(name, value)| format!("{name}='{}'", quoted(&value))).join(" ")
}

/// Transactions, and transactions a second, out of pgbench's report. One that failed is an error.
fn result(said: &str) -> Result<(f64, f64)> {
    let after = |name: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(name));
        let word = line.and_then(|line| line.split_whitespace().next());
        word.with_context(|| format!("no {name:?}"))
    };
    let failed = after("number of failed transactions:")?;
    ensure!(failed == "0", "{failed} transactions failed");
    let operations: f64 = after("number of transactions actually processed:")?.parse()?;
    let rate: f64 = after("tps =")?.parse()?;
    ensure!(operations > 0.0 && rate > 0.0, "nothing was done");
    Ok((operations, rate))
}

/// The times that pgbench has written down.
fn logged(directory: &Path) -> Result<Histogram<u64>> {
    let mut latency = load::histogram();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("log.") {
            for line in fs::read_to_string(entry.path())?.lines() {
                latency.saturating_record(microseconds(line)? * 1000);
            }
        }
    }
    Ok(latency)
}

/// Client, number of the transaction, microseconds, and more.
fn microseconds(line: &str) -> Result<u64> {
    let time = line.split(' ').nth(2).and_then(|word| word.parse().ok());
    time.with_context(|| format!("pgbench's log says {line:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "\
transaction type: /tmp/script
number of transactions actually processed: 24188
number of failed transactions: 0 (0.000%)
latency average = 0.330 ms
initial connection time = 22.100 ms
tps = 24227.381001 (without initial connection time)
";

    #[test]
    fn a_report_is_read_and_one_of_failures_is_refused() {
        assert_eq!(result(SAID).unwrap(), (24_188.0, 24_227.381_001));
        let failed = SAID.replace("failed transactions: 0", "failed transactions: 3");
        assert_eq!(result(&failed).unwrap_err().to_string(), "3 transactions failed");
        let nothing = SAID.replace("24188", "0");
        assert_eq!(result(&nothing).unwrap_err().to_string(), "nothing was done");
        assert!(result("").unwrap_err().to_string().contains("number of failed"));
    }

    #[test]
    fn a_line_of_the_log_says_how_long_a_transaction_took() {
        assert_eq!(microseconds("0 199 2241 0 1175850568 995598").unwrap(), 2241);
        assert!(microseconds("0 199").is_err());
    }
}
