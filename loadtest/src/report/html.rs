//! The page: one file that asks nobody for anything, in light and dark, on screen and on paper.

use std::fmt::Write as _;

use super::{
    OnWay, Report, Series,
    plot::{Bar, Curve, bars, curves, escape},
    table::number,
};
use crate::{
    scenario::Scenario,
    spread::Spread,
    target::{Better, Outcome, Verdict},
    way,
};

const STYLE: &str = include_str!("page.css");

/// The whole page.
pub(crate) fn page(report: &Report) -> String {
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <title>What Touchstone costs</title><style>{STYLE}</style><main><h1>What Touchstone costs</h1>"
    );
    page += &preface(report);
    page += &verdicts(&report.targets);
    for series in &report.series {
        page += &section(series);
    }
    page += &memory(report);
    page += &calls(report);
    page + "</main></html>"
}

fn preface(report: &Report) -> String {
    let machine = &report.machine;
    let used: Vec<_> = {
        let mut names: Vec<_> =
            report.series.iter().flat_map(|series| &series.ways).map(|way| way.way.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names
            .into_iter()
            .map(|name| format!("<dt>{}</dt><dd>{}</dd>", escape(name), way::blurb(name)))
            .collect()
    };
    format!(
        "<p class=\"facts\">{} × {} · {} · {} · {} rounds of {} s, ways taking turns · load average {:.1} before, {:.1} after · {}</p>\
         <pre>{}</pre>\
         <p>Every ratio is against the baseline of the same round; bars are medians, whiskers reach from quartile to quartile. \
         Machine noise hits both sides of a ratio alike; absolute figures are this machine's, on that day. \
         <i>By cost</i> is the same ratio as the processor time of everybody (clients, process in between, database) says it: \
         what one core would give that nobody else uses.</p>\
         <details><summary>The ways compared</summary><dl>{}</dl></details>",
        machine.cores,
        escape(&machine.processor),
        escape(&machine.kernel),
        escape(&machine.versions.join(", ")),
        report.rounds,
        report.seconds,
        machine.load[0],
        machine.load[1],
        escape(&report.began),
        escape(&report.command),
        used.concat()
    )
}

fn verdicts(verdicts: &[Verdict]) -> String {
    let looked_at: Vec<_> =
        verdicts.iter().filter(|verdict| verdict.outcome != Outcome::NotMeasured).collect();
    if looked_at.is_empty() {
        return String::new();
    }
    let mut table =
        "<h2>Targets</h2><div class=\"wide\"><table><thead><tr><th>target</th><th>must</th><th>aim</th>\
                     <th>measured</th><th>quartiles</th><th>by cost</th><th></th></tr></thead><tbody>"
            .to_owned();
    for verdict in looked_at {
        let sign = if verdict.better == Better::Higher { "≥" } else { "≤" };
        let class = match verdict.outcome {
            Outcome::AimMet | Outcome::Met => "good",
            Outcome::Missed => "bad",
            Outcome::NotMeasured => "",
        };
        let spread = verdict.measured.filter(|spread| spread.low < spread.high);
        let _ = write!(
            table,
            "<tr><td>{}</td><td class=\"n\">{sign} {}</td><td class=\"n\">{}</td><td class=\"n\"><b>{}</b></td>\
             <td class=\"n\">{}</td><td class=\"n\">{}</td><td><span class=\"badge {class}\">{}</span></td></tr>",
            escape(&verdict.name),
            number(verdict.must),
            verdict.aim.map(number).unwrap_or_default(),
            verdict.measured.map(|spread| number(spread.median)).unwrap_or_default(),
            spread
                .map(|spread| format!("{}–{}", number(spread.low), number(spread.high)))
                .unwrap_or_default(),
            verdict.by_cost.map(|spread| number(spread.median)).unwrap_or_default(),
            verdict.outcome.word()
        );
    }
    table + "</tbody></table></div>"
}

fn section(series: &Series) -> String {
    let mut html = format!("<section><h2>{}</h2>", escape(&series.title()));
    if !matches!(series.scenario, Scenario::Issue | Scenario::IssueOpenLoop) {
        let ratio = |way: &OnWay| {
            (
                way.ratio,
                format!(
                    "{:.2}  ({} {}/s)",
                    way.ratio.median,
                    thousands(way.rate.median),
                    series.scenario.unit()
                ),
            )
        };
        let _ = write!(
            html,
            "<h3>Throughput, of {}</h3>{}",
            series.baseline,
            bars(&bars_of(series, ratio), Some(1.0))
        );
    }
    if series.ways.iter().any(|way| way.cpu.is_some()) {
        let with_cpu: Vec<_> = series
            .ways
            .iter()
            .filter_map(|way| Some(bar(way, way.cpu?, format!("{} µs", number(way.cpu?.median)))))
            .collect();
        let _ = write!(
            html,
            "<h3>Processor time of the process in between, for each of the {}</h3>{}",
            series.scenario.unit(),
            bars(&with_cpu, None)
        );
    }
    let lines: Vec<_> = series
        .ways
        .iter()
        .filter(|way| way.latency.is_known())
        .map(|way| Curve { label: &way.way, points: &way.latency.curve, class: class(&way.way) })
        .collect();
    if !lines.is_empty() {
        let _ = write!(html, "<h3>Time of each, by percentile</h3>{}", curves(&lines));
    }
    html + &latencies(series) + "</section>"
}

fn latencies(series: &Series) -> String {
    let mut table = "<div class=\"wide\"><table><thead><tr><th>way</th><th>per second</th><th>ratio</th><th>p50 µs</th><th>p90 µs</th>\
                     <th>p99 µs</th><th>p99.9 µs</th><th>longest µs</th></tr></thead><tbody>"
        .to_owned();
    for way in &series.ways {
        let times = &way.latency;
        let _ = write!(
            table,
            "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{:.2} <small>[{:.2}–{:.2}]</small></td>",
            escape(&way.way),
            thousands(way.rate.median),
            way.ratio.median,
            way.ratio.low,
            way.ratio.high
        );
        for value in [times.p50, times.p90, times.p99, times.p999, times.max] {
            let shown = if times.is_known() { thousands(value) } else { "–".to_owned() };
            let _ = write!(table, "<td class=\"n\">{shown}</td>");
        }
        table += "</tr>";
    }
    table + "</tbody></table></div>"
}

fn memory(report: &Report) -> String {
    if report.idle.is_empty() {
        return String::new();
    }
    let flat = |value: f64| Spread { low: value, median: value, high: value };
    let rows: Vec<_> = report
        .idle
        .iter()
        .flat_map(|idle| {
            let bar = |when: &str, value: f64| Bar {
                label: format!("{}, {} {when}", idle.protocol.name(), idle.way.trim_start_matches("null-")),
                value: flat(value),
                shown: format!("{value:.1} KiB"),
                class: class(&idle.way),
            };
            [bar("idle", idle.kib), bar("after 200 KB", idle.kib_after_result)]
        })
        .collect();
    let connections = report.idle.first().map(|idle| idle.connections).unwrap_or_default();
    format!(
        "<section><h2>Memory of each of {connections} idle connections</h2>{}</section>",
        bars(&rows, Some(40.0))
    )
}

fn calls(report: &Report) -> String {
    if report.syscalls.is_empty() {
        return String::new();
    }
    let flat = |value: f64| Spread { low: value, median: value, high: value };
    let rows: Vec<_> = report
        .syscalls
        .iter()
        .map(|calls| Bar {
            label: format!("{} {}, {}", calls.way, calls.protocol.word(), calls.clients),
            value: flat(calls.per_query),
            shown: format!("{:.2}", calls.per_query),
            class: class(&calls.way),
        })
        .collect();
    format!(
        "<section><h2>System calls of the process in between, per query</h2><p>By way, protocol and clients.</p>{}</section>",
        bars(&rows, None)
    )
}

fn bars_of(series: &Series, value: impl Fn(&OnWay) -> (Spread, String)) -> Vec<Bar> {
    series
        .ways
        .iter()
        .map(|way| {
            let (spread, shown) = value(way);
            bar(way, spread, shown)
        })
        .collect()
}

fn bar(way: &OnWay, value: Spread, shown: String) -> Bar {
    Bar { label: way.way.clone(), value, shown, class: class(&way.way) }
}

/// A way keeps its colour on the whole page.
fn class(way: &str) -> &'static str {
    match way {
        way::DIRECT | way::NULL_DIRECT => "c0",
        way::SIDECAR | way::NULL_SIDECAR => "c1",
        way::SIDECAR_UNIX => "c2",
        way::BARE_RELAY => "c3",
        way::HAPROXY_TCP | way::NULL_HAPROXY_MTLS => "c4",
        way::NGINX_TCP => "c5",
        _ => "c6",
    }
}

/// 12,345
fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_told_apart() {
        assert_eq!(thousands(1_234_567.4), "1,234,567");
        assert_eq!(thousands(999.0), "999");
        assert_eq!(thousands(0.2), "0");
    }
}
