//! Tables for the terminal.

use super::{Report, Series};
use crate::{
    spread::Spread,
    target::{Outcome, Verdict},
};

/// Prints everything that a run found out.
pub(crate) fn print(report: &Report) {
    let machine = &report.machine;
    println!("{}", report.command);
    println!(
        "{} × {}, {}; {}; load {:.1} before, {:.1} after; {} rounds of {} s",
        machine.cores,
        machine.processor,
        machine.kernel,
        machine.versions.join(", "),
        machine.load[0],
        machine.load[1],
        report.rounds,
        report.seconds
    );
    report.series.iter().for_each(print_series);
    if !report.idle.is_empty() {
        println!("\nIdle connections: KiB of resident memory for each");
        let mut table = Table::new(&[
            "protocol",
            "way",
            "connections",
            "idle",
            "after a 200 KB result",
            "PSS, idle",
            "base MB",
            "after close MB",
        ]);
        for idle in &report.idle {
            table.row(vec![
                idle.protocol.word().to_owned(),
                idle.way.clone(),
                idle.connections.to_string(),
                format!("{:.1}", idle.kib),
                format!("{:.1}", idle.kib_after_result),
                format!("{:.1}", idle.pss_kib),
                format!("{:.1}", idle.base_kib as f64 / 1024.0),
                format!("{:.1}", idle.after_close_kib as f64 / 1024.0),
            ]);
        }
        table.print();
    }
    if !report.syscalls.is_empty() {
        println!("\nSystem calls per query");
        let mut table =
            Table::new(&["protocol", "way", "clients", "per query", "relay threads", "counted by", "which"]);
        for calls in &report.syscalls {
            let which = calls.by_name.iter().filter(|(_, count)| *count * 50 > calls.queries);
            let each =
                |(name, count): &(String, u64)| format!("{name} {:.2}", *count as f64 / calls.queries as f64);
            table.row(vec![
                calls.protocol.word().to_owned(),
                calls.way.clone(),
                calls.clients.to_string(),
                format!("{:.2}", calls.per_query),
                format!("{:.2}", calls.per_query_relay),
                calls.counted_by.clone(),
                which.map(each).collect::<Vec<_>>().join(", "),
            ]);
        }
        table.print();
    }
    let looked_at: Vec<_> =
        report.targets.iter().filter(|verdict| verdict.outcome != Outcome::NotMeasured).collect();
    if !looked_at.is_empty() {
        println!("\nTargets");
        print_verdicts(&looked_at);
    }
}

fn print_series(series: &Series) {
    println!(
        "\n{} ({}/s; ratio to {}, median and quartiles)",
        series.title(),
        series.scenario.unit(),
        series.baseline
    );
    let mut table = Table::new(&[
        "way",
        "per s",
        "ratio",
        "",
        "by cost",
        "",
        "CPU µs each",
        "everybody's",
        "p50 µs",
        "p99 µs",
        "p99.9 µs",
    ]);
    for way in &series.ways {
        let latency = &way.latency;
        let time = |value: f64| if latency.is_known() { format!("{value:.0}") } else { String::new() };
        table.row(vec![
            way.way.clone(),
            number(way.rate.median),
            format!("{:.2}", way.ratio.median),
            quartiles(&way.ratio),
            way.by_cost.map(|spread| format!("{:.2}", spread.median)).unwrap_or_default(),
            way.by_cost.map(|spread| quartiles(&spread)).unwrap_or_default(),
            way.cpu.map(|cpu| format!("{:.1}", cpu.median)).unwrap_or_default(),
            Spread::of(&way.everybody_rounds).map(|cpu| number(cpu.median)).unwrap_or_default(),
            time(latency.p50),
            time(latency.p99),
            time(latency.p999),
        ]);
    }
    table.print();
}

fn quartiles(spread: &Spread) -> String {
    format!("[{:.2}–{:.2}]", spread.low, spread.high)
}

fn print_verdicts(verdicts: &[&Verdict]) {
    let mut table = Table::new(&["target", "must", "aim", "measured", "", "by cost", "", ""]);
    for verdict in verdicts {
        let measured = verdict.measured;
        table.row(vec![
            verdict.name.clone(),
            number(verdict.must),
            verdict.aim.map(number).unwrap_or_default(),
            measured.map(|spread| number(spread.median)).unwrap_or_default(),
            measured
                .filter(|spread| spread.low < spread.high)
                .map(|spread| quartiles(&spread))
                .unwrap_or_default(),
            verdict.by_cost.map(|spread| number(spread.median)).unwrap_or_default(),
            verdict.by_cost.map(|spread| quartiles(&spread)).unwrap_or_default(),
            verdict.outcome.word().to_owned(),
        ]);
    }
    table.print();
}

/// With as many digits as mean something.
pub(super) fn number(value: f64) -> String {
    if value.abs() >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

/// Columns as wide as what is in them; numbers to the right.
struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    fn new(head: &[&str]) -> Self {
        Self { rows: vec![head.iter().map(|word| (*word).to_owned()).collect()] }
    }

    fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    fn print(&self) {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| Some(row.get(column)?.chars().count()))
                .max()
                .unwrap_or_default()
        };
        let widths: Vec<_> = (0..columns).map(width).collect();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).map(|(cell, width)| {
                let is_number = cell.starts_with(|first: char| first.is_ascii_digit() || first == '[');
                if is_number { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            });
            println!("  {}", cells.collect::<Vec<_>>().join("  ").trim_end());
        }
    }
}
