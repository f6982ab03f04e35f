//! sysbench, as `oltp_point_select` is run.

use std::{fs, process::Command};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;

use super::{Round, Said, bare};
use crate::{load, scenario::Scenario, session::ROWS};

/// How it is told; `None` of what it does not play.
pub(super) fn arguments(scenario: Scenario) -> Option<&'static str> {
    Some(match scenario {
        Scenario::Simple => "--db-ps-mode=disable",
        Scenario::Prepared => "--db-ps-mode=auto",
        _ => return None,
    })
}

pub(super) fn command(round: &Round<'_>) -> Result<Command> {
    let (door, papers) = (round.door, &round.door.papers);
    // The names by which it finds them where it is run.
    for (path, name) in [
        (&papers.authorities, "cacert.pem"),
        (&papers.certificate, "client-cert.pem"),
        (&papers.key, "client-key.pem"),
    ] {
        fs::copy(path, round.directory.path().join(name))?;
    }
    let mut command = bare(e2e::mortal("sysbench", "KILL"), round);
    command.args(["oltp_point_select", "--tables=1", "--mysql-ssl=on", "--histogram=on"]);
    command.args(arguments(round.scenario));
    for (name, value) in [
        ("table-size", ROWS.to_string()),
        ("threads", round.clients.to_string()),
        ("time", round.time.as_secs().to_string()),
        ("mysql-host", door.address.ip().to_string()),
        ("mysql-port", door.address.port().to_string()),
        ("mysql-user", door.user.clone()),
        ("mysql-db", door.database.clone()),
    ] {
        command.arg(format!("--{name}={value}"));
    }
    command.arg("run");
    Ok(command)
}

pub(super) fn said(output: &str) -> Result<Said> {
    let counted = |name: &str| {
        let line = output.lines().find_map(|line| line.trim_start().strip_prefix(name));
        let mut words = line.with_context(|| format!("no {name:?}"))?.split_whitespace();
        let count: f64 = words.next().context("no count")?.parse()?;
        let rate: f64 = words.next().and_then(|word| word.strip_prefix('(')).context("no rate")?.parse()?;
        anyhow::Ok((count, rate))
    };
    let (operations, rate) = counted("transactions:")?;
    ensure!(operations > 0.0 && rate > 0.0, "nothing was done");
    for trouble in ["ignored errors:", "reconnects:"] {
        let (count, _) = counted(trouble)?;
        ensure!(count == 0.0, "{trouble} {count}");
    }
    Ok(Said { operations, rate, latency: histogram(output)? })
}

/// Lines of milliseconds, a bar of asterisks, and how many there were.
fn histogram(output: &str) -> Result<Histogram<u64>> {
    let mut latency = load::histogram();
    for line in output.lines() {
        let Some((value, rest)) = line.split_once(" |") else { continue };
        let milliseconds: f64 = value.trim().parse()?;
        let count = rest.split_whitespace().next_back().context("no count")?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the time of a query, in ns"
        )]
        let nanoseconds = (milliseconds * 1e6) as u64;
        latency.saturating_record_n(nanoseconds, count.parse()?);
    }
    ensure!(!latency.is_empty(), "no times");
    Ok(latency)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "\
Latency histogram (values are in milliseconds)
       value  ------------- distribution ------------- count
       0.270 |*************                            60
       4.569 |                                         1

SQL statistics:
    transactions:                        61     (60.52 per sec.)
    queries:                             61     (60.52 per sec.)
    ignored errors:                      0      (0.00 per sec.)
    reconnects:                          0      (0.00 per sec.)
";

    #[test]
    fn a_report_is_read_and_one_of_errors_is_refused() {
        let said = said(SAID).unwrap();
        assert_eq!((said.operations, said.rate, said.latency.len()), (61.0, 60.52, 61));
        assert!((269_000..=271_000).contains(&said.latency.value_at_percentile(50.0)));
        assert!(said.latency.max() > 4_560_000);
        let refused = |said: &str| super::said(said).unwrap_err().to_string();
        assert_eq!(
            refused(&SAID.replace("reconnects:                          0", "reconnects: 2")),
            "reconnects: 2"
        );
        assert_eq!(refused(&SAID.replace("61     (60.52", "0     (0.00")), "nothing was done");
        assert_eq!(refused("FATAL: unable to connect"), "no \"transactions:\"");
    }
}
