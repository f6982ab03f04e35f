//! The targets, and what a run says about each: met, missed, or not looked at. A missed one stays in the table.

use serde::{Deserialize, Serialize};

use crate::{
    door::Protocol,
    report::{OnWay, Report, Series},
    scenario::Scenario,
    spread::Spread,
    way,
};

/// What is wanted.
struct Target {
    name: &'static str,
    /// Whether it is about one core that everybody shares (true) or about several; `None`: about either.
    one_core: Option<bool>,
    must: f64,
    aim: Option<f64>,
    better: Better,
    measure: Measure,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Better {
    Higher,
    Lower,
}

/// How it is read from a report.
#[derive(Clone, Copy)]
enum Measure {
    /// Operations per second on one way against another, paired by round.
    Rate { at: At, way: &'static str, of: &'static str },
    /// The same of processor time per operation.
    Cpu { at: At, way: &'static str, of: &'static str },
    /// Calls per query with so many clients.
    Syscalls { clients: usize },
    /// KiB of an idle connection.
    Idle { after_result: bool },
    /// Certificates per second of authd on a core of its own, for so many people at once.
    Issue { clients: usize },
    /// Milliseconds of one of those, 99th percentile; in the open loop, or with people who ask as fast as they are answered.
    IssueP99 { clients: usize, open_loop: bool },
}

#[derive(Clone, Copy)]
struct At {
    protocol: Protocol,
    scenario: Scenario,
    clients: usize,
}

/// What came of a target.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Verdict {
    pub(crate) name: String,
    pub(crate) must: f64,
    pub(crate) aim: Option<f64>,
    pub(crate) better: Better,
    pub(crate) measured: Option<Spread>,
    /// For rates: what the processor time of everybody says about the same.
    pub(crate) by_cost: Option<Spread>,
    pub(crate) outcome: Outcome,
}

/// The median decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    AimMet,
    Met,
    Missed,
    NotMeasured,
}

impl Outcome {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::AimMet => "aim met",
            Self::Met => "met",
            Self::Missed => "MISSED",
            Self::NotMeasured => "not measured",
        }
    }
}

const fn postgres(scenario: Scenario, clients: usize) -> At {
    At { protocol: Protocol::Postgres, scenario, clients }
}

const fn mysql(scenario: Scenario, clients: usize) -> At {
    At { protocol: Protocol::Mysql, scenario, clients }
}

const fn ssh(scenario: Scenario) -> At {
    At { protocol: Protocol::Ssh, scenario, clients: 1 }
}

const fn rate(name: &'static str, at: At, way: &'static str, must: f64, aim: f64) -> Target {
    let measure = Measure::Rate { at, way, of: way::DIRECT };
    Target { name, one_core: Some(true), must, aim: Some(aim), better: Better::Higher, measure }
}

const fn both_cores(target: Target) -> Target {
    Target { one_core: Some(false), ..target }
}

const fn at_most(name: &'static str, must: f64, aim: Option<f64>, measure: Measure) -> Target {
    Target { name, one_core: None, must, aim, better: Better::Lower, measure }
}

use Scenario::{Connect, Download, Prepared, Simple, SshBulk, SshConnect};

/// Session certificates a second at which the time of one is judged.
pub(crate) const ISSUE_RATE: f64 = 500.0;

const TARGETS: [Target; 22] = [
    rate("PostgreSQL select-only, 1 client, of direct", postgres(Simple, 1), way::SIDECAR, 0.55, 0.65),
    rate("PostgreSQL select-only, 8 clients, of direct", postgres(Simple, 8), way::SIDECAR, 0.65, 0.76),
    rate("the same over a Unix socket, 1 client", postgres(Simple, 1), way::SIDECAR_UNIX, 0.70, 0.80),
    rate("the same over a Unix socket, 8 clients", postgres(Simple, 8), way::SIDECAR_UNIX, 0.80, 0.88),
    Target {
        one_core: Some(true),
        ..at_most(
            "CPU per query, of haproxy passing TCP through without TLS",
            1.1,
            Some(0.8),
            Measure::Cpu { at: postgres(Simple, 1), way: way::SIDECAR, of: way::HAPROXY_TCP },
        )
    },
    at_most("system calls per query, 1 client", 6.1, Some(4.0), Measure::Syscalls { clients: 1 }),
    at_most("system calls per query, 8 clients", 4.8, Some(3.0), Measure::Syscalls { clients: 8 }),
    both_cores(rate("new connections, 8 clients, of direct", postgres(Connect, 8), way::SIDECAR, 0.88, 0.95)),
    both_cores(rate("the same over a Unix socket", postgres(Connect, 8), way::SIDECAR_UNIX, 1.10, 1.3)),
    at_most(
        "CPU per new connection, of haproxy with mutual TLS",
        0.5,
        Some(0.35),
        Measure::Cpu { at: postgres(Connect, 8), way: way::NULL_SIDECAR, of: way::NULL_HAPROXY_MTLS },
    ),
    at_most("KiB of an idle connection", 40.0, Some(20.0), Measure::Idle { after_result: false }),
    at_most("the same after a 200 KB result", 40.0, Some(20.0), Measure::Idle { after_result: true }),
    both_cores(rate("bulk down, of direct", postgres(Download, 1), way::SIDECAR, 0.70, 0.88)),
    both_cores(rate(
        "bulk down over a Unix socket, of direct",
        postgres(Download, 1),
        way::SIDECAR_UNIX,
        0.95,
        1.2,
    )),
    Target {
        measure: Measure::Rate { at: postgres(Simple, 8), way: way::SIDECAR, of: way::BARE_RELAY },
        ..rate(
            "audit and policy on, of the bare relay without",
            postgres(Simple, 8),
            way::SIDECAR,
            0.95,
            0.98,
        )
    },
    rate("MySQL point select, 1 client, of direct", mysql(Prepared, 1), way::SIDECAR, 0.48, 0.55),
    rate("MySQL point select, 8 clients, of direct", mysql(Prepared, 8), way::SIDECAR, 0.60, 0.70),
    Target { one_core: None, ..rate("SSH bulk down, of direct", ssh(SshBulk), way::SIDECAR, 0.6, 0.85) },
    // One client, one connection after another: the direct way's rate against the sidecar's is the ratio of their times.
    at_most(
        "SSH time to connect, of direct",
        1.6,
        Some(1.25),
        Measure::Rate { at: ssh(SshConnect), way: way::DIRECT, of: way::SIDECAR },
    ),
    Target {
        name: "authd: session certificates per second on one core, 8 clients",
        one_core: Some(true),
        must: ISSUE_RATE,
        aim: Some(2000.0),
        better: Better::Higher,
        measure: Measure::Issue { clients: 8 },
    },
    Target {
        one_core: Some(true),
        ..at_most(
            "the same, 99th percentile, ms",
            10.0,
            Some(5.0),
            Measure::IssueP99 { clients: 8, open_loop: false },
        )
    },
    Target {
        one_core: Some(true),
        ..at_most(
            "99th percentile at 500 a second, open loop, ms",
            10.0,
            Some(5.0),
            Measure::IssueP99 { clients: 8, open_loop: true },
        )
    },
];

/// Every target; about some a run says nothing.
pub(crate) fn verdicts(report: &Report) -> Vec<Verdict> {
    let one_core = report.machine.cores == 1;
    let verdict = |target: &Target| {
        let fits = target.one_core.is_none_or(|wanted| wanted == one_core);
        let measured = target.measured(report).filter(|_| fits);
        Verdict {
            name: target.name.to_owned(),
            must: target.must,
            aim: target.aim,
            better: target.better,
            measured,
            by_cost: target.by_cost(report).filter(|_| fits),
            outcome: measured.map_or(Outcome::NotMeasured, |spread| target.judge(spread.median)),
        }
    };
    TARGETS.iter().map(verdict).collect()
}

impl Target {
    fn judge(&self, median: f64) -> Outcome {
        let reaches = |bound: f64| match self.better {
            Better::Higher => median >= bound,
            Better::Lower => median <= bound,
        };
        match self.aim {
            Some(aim) if reaches(aim) => Outcome::AimMet,
            _ if reaches(self.must) => Outcome::Met,
            _ => Outcome::Missed,
        }
    }

    /// Processor time of everybody on the other way, against that on this one; of certificates, how many authd makes in a
    /// second of processor time, whatever it waits for meanwhile.
    fn by_cost(&self, report: &Report) -> Option<Spread> {
        match self.measure {
            Measure::Rate { at, way, of } => paired(report, at, of, way, |way| &way.everybody_rounds),
            Measure::Issue { clients } => {
                let rounds =
                    issue(report, Scenario::Issue, clients)?.cpu_rounds.iter().map(|each| 1e6 / each);
                Spread::of(&rounds.collect::<Vec<_>>())
            }
            _ => None,
        }
    }

    fn measured(&self, report: &Report) -> Option<Spread> {
        match self.measure {
            Measure::Rate { at, way, of } => paired(report, at, way, of, |way| &way.rates),
            Measure::Cpu { at, way, of } => paired(report, at, way, of, |way| &way.cpu_rounds),
            Measure::Syscalls { clients } => {
                let of_sidecar = |calls: &&crate::report::Syscalls| {
                    calls.way == way::SIDECAR
                        && calls.protocol == Protocol::Postgres
                        && calls.clients == clients
                };
                exact(report.syscalls.iter().find(of_sidecar)?.per_query)
            }
            Measure::Idle { after_result } => {
                let of_sidecar = |idle: &&crate::report::Idle| {
                    idle.way == way::NULL_SIDECAR && idle.protocol == Protocol::Postgres
                };
                let idle = report.idle.iter().find(of_sidecar)?;
                exact(if after_result { idle.kib_after_result } else { idle.kib })
            }
            Measure::Issue { clients } => Some(issue(report, Scenario::Issue, clients)?.rate),
            Measure::IssueP99 { clients, open_loop } => {
                let scenario = if open_loop { Scenario::IssueOpenLoop } else { Scenario::Issue };
                if open_loop && report.issue_rate != ISSUE_RATE {
                    return None;
                }
                exact(issue(report, scenario, clients)?.latency.p99 / 1e3)
            }
        }
    }
}

fn issue(report: &Report, scenario: Scenario, clients: usize) -> Option<&OnWay> {
    let fits = |series: &&Series| series.scenario == scenario && series.clients == clients;
    report.series.iter().find(fits)?.ways.first()
}

fn exact(value: f64) -> Option<Spread> {
    Spread::of(&[value])
}

/// Ratios of the same round. The null upstream's series are kept under the same protocol and scenario as the real ones.
fn paired(
    report: &Report,
    at: At,
    way: &str,
    of: &str,
    values: impl Fn(&OnWay) -> &Vec<f64>,
) -> Option<Spread> {
    let fits = report.series.iter().filter(|series| {
        series.protocol == at.protocol && series.scenario == at.scenario && series.clients == at.clients
    });
    let (one, other) = fits.filter_map(|series| series.way(way).zip(series.way(of))).next()?;
    Spread::paired(values(one), values(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_decides_and_a_target_that_is_just_reached_is_met() {
        let [first, ..] = &TARGETS;
        assert_eq!(first.judge(0.549), Outcome::Missed);
        assert_eq!(first.judge(0.55), Outcome::Met);
        assert_eq!(first.judge(0.65), Outcome::AimMet);
        let lower = at_most("x", 6.1, Some(4.0), Measure::Syscalls { clients: 1 });
        assert_eq!(lower.judge(6.2), Outcome::Missed);
        assert_eq!(lower.judge(4.0), Outcome::AimMet);
    }
}
