//! pgbench, as `pgbench --select-only` and `pgbench --connect` are run.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;

use super::{Round, Said, bare};
use crate::{door::Door, load, scenario::Scenario, session::ROWS};

/// Threads for small queries, at most.
const THREADS: usize = 2;
/// Of so many transactions, the time is written down.
const SAMPLING: &str = "0.1";

/// How it is told; `None` of what it does not play.
pub(super) fn arguments(scenario: Scenario) -> Option<&'static [&'static str]> {
    Some(match scenario {
        Scenario::Simple => &["--protocol=simple"],
        Scenario::Extended => &["--protocol=extended"],
        Scenario::Prepared => &["--protocol=prepared"],
        Scenario::Connect => &["--protocol=simple", "--connect"],
        _ => return None,
    })
}

/// What its users call `--select-only`, without the count of a table that is not here.
fn script(scenario: Scenario) -> String {
    match scenario {
        Scenario::Connect => "SELECT 1;\n".to_owned(),
        _ => {
            format!("\\set aid random(1, {ROWS})\nSELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n")
        }
    }
}

pub(super) fn command(round: &Round<'_>) -> Result<Command> {
    let directory = round.directory.path();
    let file = directory.join("script");
    fs::write(&file, script(round.scenario))?;
    let mut command = bare(e2e::mortal(e2e::postgres_program("pgbench")?, "KILL"), round);
    command.args(["--no-vacuum".to_owned(), format!("--time={}", round.time.as_secs())]);
    // A thread connects for one client at a time: each has its own where that is what is measured.
    let connects = round.scenario == Scenario::Connect;
    let threads = if connects { round.clients } else { round.clients.min(THREADS) };
    command.arg(format!("--client={}", round.clients)).arg(format!("--jobs={threads}"));
    command.args(arguments(round.scenario).unwrap_or_default()).arg("--file").arg(&file);
    if !connects {
        command.arg("--log").arg("--log-prefix").arg(directory.join("log"));
        command.arg(format!("--sampling-rate={SAMPLING}"));
    }
    command.arg(conninfo(round.door));
    Ok(command)
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

/// Of a connection it does not tell the time.
pub(super) fn said(output: &str, round: &Round<'_>) -> Result<Said> {
    let (operations, rate) = result(output)?;
    let told = round.scenario != Scenario::Connect;
    let latency = if told { logged(round.directory.path())? } else { load::histogram() };
    Ok(Said { operations, rate, latency })
}

/// Transactions, and transactions a second. One that failed is an error.
fn result(output: &str) -> Result<(f64, f64)> {
    let after = |name: &str| {
        let line = output.lines().find_map(|line| line.strip_prefix(name));
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

/// The times that it has written down.
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
    time.with_context(|| format!("its log says {line:?}"))
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
