//! A run: the stage is set, the ways take turns round by round, and what they came to becomes a report.

use std::{collections::BTreeSet, time::SystemTime};

use anyhow::{Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    door::Protocol,
    issue,
    load::Sample,
    machine,
    report::{OnWay, Report, Series},
    scenario::{Measure, Scenario},
    special, ssh,
    stage::{self, Cast, Stage},
    target,
    usual::Program,
    way::{self, Way},
};

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) scenarios: Vec<Scenario>,
    pub(crate) protocols: Vec<Protocol>,
    pub(crate) clients: Vec<usize>,
    pub(crate) rounds: usize,
    pub(crate) measure: Measure,
    pub(crate) idle_connections: usize,
    /// Where they can, pgbench and sysbench play the clients of real databases.
    pub(crate) usual_clients: bool,
    /// Only these ways, and what they are compared with.
    pub(crate) ways: Vec<String>,
    pub(crate) cast: Cast,
    pub(crate) quiet: bool,
}

/// Sets the stage and plays it all.
pub(crate) fn run(plan: &Plan, command: String) -> Result<Report> {
    let (began, load_before) = (SystemTime::now(), machine::load());
    let progress = progress(plan);
    progress.set_message("setting the stage");
    let mut stage = Stage::set(&plan.cast)?;
    let to_databases = stage.ways.iter().map(|way| way.name);
    let there = to_databases.chain(stage.ssh_ways.iter().map(|way| way.name)).collect();
    refuse_unknown(&plan.ways, &there)?;
    for way in stage.ways.iter().filter(|way| plan.wants(way)) {
        special::knock(way)?;
    }
    for way in stage.ssh_ways.clone().iter().filter(|way| plan.wants(way)) {
        stage.touch_for(way)?;
        ssh::knock(way)?;
    }
    for (protocol, program) in [(Protocol::Postgres, Program::Pgbench), (Protocol::Mysql, Program::Sysbench)]
    {
        if plan.usual_clients && plan.protocols.contains(&protocol) {
            stage.versions.push(program.version()?);
        }
    }
    let mut report = Report {
        command,
        began: machine::rfc3339(began)?,
        machine: machine::describe(stage.versions.clone(), load_before),
        rounds: plan.rounds,
        seconds: plan.measure.time.as_secs_f64(),
        issue_rate: plan.measure.issue_rate,
        series: Vec::new(),
        idle: Vec::new(),
        syscalls: Vec::new(),
        targets: Vec::new(),
    };
    let mut player = Player { plan, progress: &progress, stage: &mut stage, report: &mut report };
    for scenario in &plan.scenarios {
        player.play(*scenario)?;
    }
    report.machine.load = [load_before, machine::load()];
    report.targets = target::verdicts(&report);
    progress.finish_and_clear();
    if let Err(error) = stage.close() {
        eprintln!("WARNING: {error:#}");
    }
    Ok(report)
}

/// A name that no way has would be wanted in vain: the baseline would be measured alone.
fn refuse_unknown(wanted: &[String], there: &BTreeSet<&str>) -> Result<()> {
    let Some(unknown) = wanted.iter().find(|name| !there.contains(name.as_str())) else { return Ok(()) };
    let there = there.iter().copied().collect::<Vec<_>>().join(", ");
    bail!("there is no way {unknown:?} in this run; there are: {there}")
}

impl Plan {
    fn wants<D>(&self, way: &Way<D>) -> bool {
        let baseline = [way::DIRECT, way::NULL_DIRECT].contains(&way.name);
        self.ways.is_empty() || baseline || self.ways.iter().any(|wanted| wanted == way.name)
    }
}

struct Player<'a> {
    plan: &'a Plan,
    progress: &'a ProgressBar,
    stage: &'a mut Stage,
    report: &'a mut Report,
}

impl Player<'_> {
    fn play(&mut self, scenario: Scenario) -> Result<()> {
        match scenario {
            Scenario::Idle => self.idle(),
            Scenario::Syscalls => self.syscalls(),
            Scenario::Issue | Scenario::IssueOpenLoop => self.issue(scenario),
            Scenario::ConnectCold => self.cold(),
            Scenario::SshConnect | Scenario::SshBulk | Scenario::SshBulkUp => self.ssh(scenario),
            _ => self.rounds(scenario),
        }
    }

    /// The ways in between which a scenario compares, the baseline first.
    fn ways(&self, protocol: Protocol) -> Vec<Way> {
        let ways = stage::compared(self.stage, protocol);
        ways.into_iter().filter(|way| self.plan.wants(way)).collect()
    }

    fn null_ways(&self, protocol: Protocol) -> Vec<Way> {
        stage::null(self.stage, protocol).into_iter().filter(|way| self.plan.wants(way)).collect()
    }

    fn rounds(&mut self, scenario: Scenario) -> Result<()> {
        for protocol in self.plan.protocols.iter().copied().filter(|protocol| scenario.is_for(*protocol)) {
            for clients in scenario.clients(&self.plan.clients) {
                let measure = self.plan.measure;
                let ways = self.ways(protocol);
                let program = Program::playing(scenario, protocol).filter(|_| self.plan.usual_clients);
                self.take_turns(protocol, scenario, clients, &ways, |_, way| match program {
                    Some(program) => program.round(way, scenario, clients, measure.time),
                    None => scenario.round(way, clients, measure),
                })?;
                if let Some(series) = self.report.series.last_mut() {
                    series.program = program.map(|program| program.name().to_owned());
                }
                if matches!(scenario, Scenario::Simple | Scenario::Connect) {
                    let ways = self.null_ways(protocol);
                    self.take_turns(protocol, scenario, clients, &ways, |_, way| {
                        scenario.round(way, clients, measure)
                    })?;
                }
            }
        }
        Ok(())
    }

    fn ssh(&mut self, scenario: Scenario) -> Result<()> {
        let ways: Vec<_> = self.stage.ssh_ways.iter().filter(|way| self.plan.wants(way)).cloned().collect();
        let (null, real): (Vec<_>, Vec<_>) = ways.into_iter().partition(Way::is_null);
        for clients in scenario.clients(&self.plan.clients) {
            let measure = self.plan.measure;
            for ways in [&real, &null] {
                self.take_turns(Protocol::Ssh, scenario, clients, ways, |stage, way| {
                    stage.touch_for(way)?;
                    scenario.ssh_round(way, clients, measure)
                })?;
            }
        }
        Ok(())
    }

    /// Every way once in each round, each round beginning with another: whatever drifts, drifts for all.
    fn take_turns<D>(
        &mut self,
        protocol: Protocol,
        scenario: Scenario,
        clients: usize,
        ways: &[Way<D>],
        mut round: impl FnMut(&mut Stage, &Way<D>) -> Result<Sample>,
    ) -> Result<()> {
        let Some(baseline) = ways.first() else { return Ok(()) };
        let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); ways.len()];
        // One more in the beginning, which does not count: it is slower for whoever goes first.
        for number in 0..=self.plan.rounds {
            let mut turn: Vec<_> = ways.iter().zip(samples.iter_mut()).collect();
            let first = number % turn.len();
            turn.rotate_left(first);
            for (way, samples) in turn {
                self.progress.set_message(format!(
                    "{}, {}, {clients} clients: {}",
                    protocol.name(),
                    scenario.title(),
                    way.name
                ));
                let sample = round(self.stage, way)?;
                if number > 0 {
                    samples.push(sample);
                }
            }
            self.progress.inc(1);
        }
        let base = samples.first().cloned().unwrap_or_default();
        let results = ways.iter().zip(&samples);
        self.report.series.push(Series {
            protocol,
            scenario,
            clients,
            program: None,
            baseline: baseline.name.to_owned(),
            ways: results.filter_map(|(way, samples)| OnWay::new(way.name, samples, &base)).collect(),
        });
        Ok(())
    }

    fn cold(&mut self) -> Result<()> {
        for protocol in self.plan.protocols.clone() {
            let touched = [way::DIRECT, way::SIDECAR, way::SIDECAR_UNIX];
            let ways = self.ways(protocol);
            let ways: Vec<_> = ways.into_iter().filter(|way| touched.contains(&way.name)).collect();
            let time = self.plan.measure.time;
            self.take_turns(protocol, Scenario::ConnectCold, 1, &ways, |stage, way| {
                special::cold(stage, way, time)
            })?;
        }
        Ok(())
    }

    fn issue(&mut self, scenario: Scenario) -> Result<()> {
        let Some(protocol) = self.plan.protocols.first().copied() else { return Ok(()) };
        let Some(way) = self.stage.way(protocol, way::SIDECAR).cloned() else { return Ok(()) };
        let Measure { time, issue_rate, .. } = self.plan.measure;
        let pace = match scenario {
            Scenario::IssueOpenLoop => issue::Pace::Rate(issue_rate),
            _ => issue::Pace::Answered,
        };
        for clients in scenario.clients(&self.plan.clients) {
            let ways = [way.clone()];
            self.take_turns(protocol, scenario, clients, &ways, |stage, _| {
                issue::round(stage, protocol, clients, pace, time)
            })?;
        }
        Ok(())
    }

    fn idle(&mut self) -> Result<()> {
        for protocol in self.plan.protocols.clone() {
            for way in self.null_ways(protocol).iter().filter(|way| way.process.is_some()) {
                self.progress
                    .set_message(format!("{} idle connections: {}", self.plan.idle_connections, way.name));
                self.report.idle.push(special::idle(way, self.plan.idle_connections)?);
                self.progress.inc(1);
            }
        }
        Ok(())
    }

    fn syscalls(&mut self) -> Result<()> {
        for protocol in self.plan.protocols.clone() {
            for way in self.ways(protocol).iter().filter(|way| way.process.is_some()) {
                for clients in &self.plan.clients {
                    self.progress.set_message(format!("system calls: {}, {clients} clients", way.name));
                    self.report.syscalls.extend(special::syscalls(way, *clients)?);
                    self.progress.inc(1);
                }
            }
        }
        Ok(())
    }
}

/// On standard error, where there is a terminal.
fn progress(plan: &Plan) -> ProgressBar {
    if plan.quiet {
        return ProgressBar::hidden();
    }
    let per_scenario = |scenario: &Scenario| match scenario.in_rounds() {
        true => scenario.clients(&plan.clients).len() * plan.protocols.len() * (plan.rounds + 1),
        false if matches!(scenario, Scenario::Issue | Scenario::IssueOpenLoop) => {
            scenario.clients(&plan.clients).len() * (plan.rounds + 1)
        }
        false => plan.protocols.len() * (plan.rounds + 1),
    };
    let steps: usize = plan.scenarios.iter().map(per_scenario).sum();
    let style = ProgressStyle::with_template("{elapsed:>4} [{bar:30}] {percent:>3} %  {wide_msg}");
    ProgressBar::new(steps as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_that_is_not_there_is_refused_with_those_that_are() {
        let there = BTreeSet::from([way::SIDECAR, way::DIRECT, "ours"]);
        let asked = |name: &str| refuse_unknown(&[way::SIDECAR.to_owned(), name.to_owned()], &there);
        assert!(asked("ours").is_ok() && refuse_unknown(&[], &there).is_ok());
        let error = asked("sidcar").unwrap_err().to_string();
        assert_eq!(error, "there is no way \"sidcar\" in this run; there are: direct, ours, sidecar");
    }
}
