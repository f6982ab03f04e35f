//! Plots as inline SVG: bars with their spread, and latency by percentile. Colours come from the page, which knows whether it
//! is light or dark.

use std::fmt::Write as _;

use crate::spread::Spread;

/// Width of every plot; the page scales it.
const WIDTH: f64 = 760.0;
const LABEL: f64 = 150.0;
const VALUE: f64 = 200.0;
const ROW: f64 = 30.0;
const BAR: f64 = 16.0;

/// One bar.
pub(super) struct Bar {
    pub(super) label: String,
    pub(super) value: Spread,
    pub(super) shown: String,
    /// Class of its colour.
    pub(super) class: &'static str,
}

/// Horizontal bars from zero, each with a whisker from quartile to quartile; `mark` is a line across them all.
pub(super) fn bars(bars: &[Bar], mark: Option<f64>) -> String {
    let largest =
        bars.iter().map(|bar| bar.value.high).chain(mark).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let scale = (WIDTH - LABEL - VALUE) / largest;
    let height = ROW * bars.len() as f64 + 6.0;
    let mut svg = open(height);
    for (row, bar) in bars.iter().enumerate() {
        let middle = ROW * row as f64 + ROW / 2.0 + 3.0;
        let Spread { low, median, high } = bar.value;
        let at = |value: f64| LABEL + value * scale;
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" class=\"label\" text-anchor=\"end\">{}</text>\
             <rect x=\"{LABEL}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{BAR}\" rx=\"3\" class=\"{}\"/>\
             <line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\" class=\"whisker\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" class=\"value\">{}</text>",
            LABEL - 10.0,
            middle + 4.0,
            escape(&bar.label),
            middle - BAR / 2.0,
            (median * scale).max(1.0),
            bar.class,
            at(low),
            at(high),
            at(high.max(median)) + 10.0,
            middle + 4.0,
            escape(&bar.shown)
        );
    }
    if let Some(mark) = mark {
        let x = LABEL + mark * scale;
        let _ = write!(svg, "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"0\" y2=\"{height:.1}\" class=\"mark\"/>");
    }
    svg + "</svg>"
}

/// One line of a latency plot.
pub(super) struct Curve<'a> {
    pub(super) label: &'a str,
    /// (percentile, microseconds)
    pub(super) points: &'a [(f64, f64)],
    pub(super) class: &'static str,
}

const PLOT: f64 = 230.0;
const LEFT: f64 = 64.0;
const BELOW: f64 = 34.0;

/// Latency by percentile: each step to the right is ten times rarer, each step up ten times slower.
pub(super) fn curves(curves: &[Curve<'_>]) -> String {
    let values = curves.iter().flat_map(|curve| curve.points.iter().map(|(_, value)| value.max(1.0)));
    let (low, high) =
        values.fold((f64::MAX, 1.0_f64), |(low, high), value| (low.min(value), high.max(value)));
    let (floor, ceiling) = (low.log10().floor(), high.log10().ceil().max(low.log10().floor() + 1.0));
    // 99.99 % at the right end.
    let x = |percentile: f64| LEFT + nines(percentile) / 4.0 * (WIDTH - LEFT - 120.0);
    let y = |value: f64| 8.0 + (ceiling - value.max(1.0).log10()) / (ceiling - floor) * PLOT;
    let mut svg = open(PLOT + BELOW + 8.0);
    for percentile in [0.0, 50.0, 90.0, 99.0, 99.9, 99.99] {
        let at = x(percentile);
        let _ = write!(
            svg,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"8\" y2=\"{:.1}\" class=\"grid\"/>\
             <text x=\"{at:.1}\" y=\"{:.1}\" class=\"axis\" text-anchor=\"middle\">{percentile} %</text>",
            PLOT + 8.0,
            PLOT + 26.0
        );
    }
    let mut decade = floor;
    while decade <= ceiling {
        let (value, at) = (10_f64.powf(decade), y(10_f64.powf(decade)));
        let _ = write!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\" class=\"grid\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" class=\"axis\" text-anchor=\"end\">{}</text>",
            WIDTH - 120.0,
            LEFT - 8.0,
            at + 4.0,
            time(value)
        );
        decade += 1.0;
    }
    for (number, curve) in curves.iter().enumerate() {
        let within = curve.points.iter().filter(|(percentile, _)| *percentile <= 99.99);
        let points: Vec<_> = within.map(|(p, value)| format!("{:.1},{:.1}", x(*p), y(*value))).collect();
        let legend = 20.0 + 20.0 * number as f64;
        let _ = write!(
            svg,
            "<polyline points=\"{}\" class=\"curve {}\"/>\
             <line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{legend}\" y2=\"{legend}\" class=\"curve {}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" class=\"axis\">{}</text>",
            points.join(" "),
            curve.class,
            WIDTH - 112.0,
            WIDTH - 94.0,
            curve.class,
            WIDTH - 88.0,
            legend + 4.0,
            escape(curve.label)
        );
    }
    svg + "</svg>"
}

fn nines(percentile: f64) -> f64 {
    -(1.0 - percentile.min(99.99) / 100.0).log10()
}

/// Microseconds for people.
fn time(microseconds: f64) -> String {
    if microseconds >= 1e6 {
        format!("{} s", microseconds / 1e6)
    } else if microseconds >= 1e3 {
        format!("{} ms", microseconds / 1e3)
    } else {
        format!("{microseconds} µs")
    }
}

fn open(height: f64) -> String {
    format!("<svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\">")
}

/// For text and attribute values of HTML.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
