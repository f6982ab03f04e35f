//! What a run found out, as data: the JSON file is exactly this, and tables and pages are made from it.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::{door::Protocol, load::Sample, scenario::Scenario, spread::Spread, target::Verdict};

mod html;
mod plot;
mod table;

pub(crate) use html::page;
pub(crate) use table::print;

/// A run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    /// As it was typed.
    pub(crate) command: String,
    /// Beginning, RFC 3339 in UTC.
    pub(crate) began: String,
    pub(crate) machine: Machine,
    pub(crate) rounds: usize,
    pub(crate) seconds: f64,
    /// Session certificates a second of the open loop.
    pub(crate) issue_rate: f64,
    pub(crate) series: Vec<Series>,
    pub(crate) idle: Vec<Idle>,
    pub(crate) syscalls: Vec<Syscalls>,
    pub(crate) targets: Vec<Verdict>,
}

/// What it ran on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    /// Processors that this process and its children may use; 1 in one-core mode.
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    pub(crate) versions: Vec<String>,
    /// Load averages over a minute, before and after: what else the machine did.
    pub(crate) load: [f64; 2],
}

/// One scenario in one protocol, on several ways.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Series {
    pub(crate) protocol: Protocol,
    pub(crate) scenario: Scenario,
    pub(crate) clients: usize,
    /// Who asked, where it was not our own clients.
    #[serde(default)]
    pub(crate) program: Option<String>,
    /// The way that ratios are against.
    pub(crate) baseline: String,
    pub(crate) ways: Vec<OnWay>,
}

/// All rounds on one way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct OnWay {
    pub(crate) way: String,
    /// Operations a second, round by round.
    pub(crate) rates: Vec<f64>,
    pub(crate) rate: Spread,
    /// Against the baseline of the same round.
    pub(crate) ratio: Spread,
    /// Microseconds of processor time of the process in between for each operation, round by round; empty without one.
    pub(crate) cpu_rounds: Vec<f64>,
    pub(crate) cpu: Option<Spread>,
    /// The same of everybody: clients, process in between, database.
    pub(crate) everybody_rounds: Vec<f64>,
    /// The baseline's processor time of everybody against this way's, in the same round. What the rate's ratio comes to on
    /// one core that nobody else uses; other load on the machine hardly moves it.
    pub(crate) by_cost: Option<Spread>,
    /// Over all rounds.
    pub(crate) latency: Latency,
}

/// Microseconds; all of them 0 where nobody took the time of each operation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
    /// (percentile, microseconds), for plots.
    pub(crate) curve: Vec<(f64, f64)>,
}

/// What silent connections hold.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Idle {
    pub(crate) protocol: Protocol,
    pub(crate) way: String,
    pub(crate) connections: usize,
    /// Resident memory of the process before, in KiB.
    pub(crate) base_kib: u64,
    /// For each connection: after one query each.
    pub(crate) kib: f64,
    /// After a result of 200 KB on each, all silent again.
    pub(crate) kib_after_result: f64,
    /// The same as counted with shared pages in parts.
    pub(crate) pss_kib: f64,
    /// Resident memory of the process after all have gone, in KiB.
    pub(crate) after_close_kib: u64,
}

/// System calls that were counted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Syscalls {
    pub(crate) protocol: Protocol,
    pub(crate) way: String,
    pub(crate) clients: usize,
    pub(crate) queries: u64,
    pub(crate) per_query: f64,
    /// Of the threads that carry sessions alone.
    pub(crate) per_query_relay: f64,
    /// The tool: what perf and strace count is not to be compared.
    pub(crate) counted_by: String,
    pub(crate) by_name: Vec<(String, u64)>,
}

const CURVE: [f64; 15] =
    [0.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 97.5, 99.0, 99.5, 99.75, 99.9, 99.95, 99.99, 100.0];

impl Latency {
    pub(crate) fn is_known(&self) -> bool {
        self.max > 0.0
    }

    pub(crate) fn of(nanoseconds: &Histogram<u64>) -> Self {
        let at = |percentile| nanoseconds.value_at_percentile(percentile) as f64 / 1e3;
        Self {
            p50: at(50.0),
            p90: at(90.0),
            p99: at(99.0),
            p999: at(99.9),
            max: nanoseconds.max() as f64 / 1e3,
            curve: CURVE.map(|percentile| (percentile, at(percentile))).to_vec(),
        }
    }
}

impl OnWay {
    /// From the samples of all rounds, and the baseline's. `None` for no rounds.
    pub(crate) fn new(way: &str, samples: &[Sample], baseline: &[Sample]) -> Option<Self> {
        let rates: Vec<_> = samples.iter().map(Sample::rate).collect();
        let base: Vec<_> = baseline.iter().map(Sample::rate).collect();
        let cpu_rounds: Vec<_> = samples.iter().filter_map(Sample::cpu_each).collect();
        let everybody =
            |samples: &[Sample]| samples.iter().filter_map(Sample::everybody_each).collect::<Vec<_>>();
        let everybody_rounds = everybody(samples);
        let mut latency = crate::load::histogram();
        for sample in samples {
            // The bounds are the same.
            let _ = latency.add(&sample.latency);
        }
        Some(Self {
            way: way.to_owned(),
            rate: Spread::of(&rates)?,
            ratio: Spread::paired(&rates, &base)?,
            cpu: Spread::of(&cpu_rounds),
            by_cost: Spread::paired(&everybody(baseline), &everybody_rounds),
            everybody_rounds,
            cpu_rounds,
            latency: Latency::of(&latency),
            rates,
        })
    }
}

impl Series {
    pub(crate) fn way(&self, name: &str) -> Option<&OnWay> {
        self.ways.iter().find(|way| way.way == name)
    }

    pub(crate) fn title(&self) -> String {
        let clients =
            if self.clients == 1 { "1 client".to_owned() } else { format!("{} clients", self.clients) };
        let by = self.program.iter().map(|program| format!(" by {program}")).collect::<String>();
        format!("{}: {}, {clients}{by}", self.protocol.name(), self.scenario.title())
    }
}
