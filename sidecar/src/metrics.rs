//! What is counted, for `/metrics`. The children of a target are resolved once, so that counting is one addition.

use std::time::Duration;

use prometheus::{
    Encoder as _, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

mod cancels;

pub(crate) use self::cancels::{CancelMetrics, Cancelled};

/// The labels of everything that belongs to a target.
const TARGET: [&str; 2] = ["target", "protocol"];
/// From a cached upstream certificate on the same host to a database across the world.
const SETUP_BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
/// From one query to a working day.
const DURATION_BUCKETS: [f64; 10] =
    [0.1, 1.0, 10.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 28_800.0, 86_400.0];

/// All metrics of the process.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    connections: IntCounterVec,
    unknown_evicted: IntCounterVec,
    started: IntCounterVec,
    active: IntGaugeVec,
    ended: IntCounterVec,
    refused: IntCounterVec,
    decisions: IntCounterVec,
    setup: HistogramVec,
    durations: HistogramVec,
    bytes: IntCounterVec,
    cancels: IntCounterVec,
    probes: IntCounterVec,
    /// Denied events that were counted and not written.
    pub(crate) audit_suppressed: IntCounter,
    /// Events that could not be recorded, wherever they came from; most refuse or end a session.
    pub(crate) audit_failures: IntCounter,
    pub(crate) process: Process,
}

/// What is read when somebody looks.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) replica_ready: IntGauge,
    pub(crate) replica_age: Gauge,
    pub(crate) certificate_expiry: IntGauge,
    pub(crate) audit_spool_bytes: IntGauge,
    pub(crate) recordings_bytes: IntGauge,
    pub(crate) audit_unshipped: IntGauge,
    pub(crate) audit_ship_failures: IntGauge,
    pub(crate) audit_damaged_bytes: IntGauge,
    pub(crate) audit_rejected: IntGauge,
    pub(crate) upstream_certificates: IntGauge,
    pub(crate) log_lost: IntGauge,
}

/// What a client was, as far as MFA goes, when policy was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Allowed, and the security key's signature was verified.
    AllowedWithMfa,
    /// Allowed where no MFA is asked for.
    Allowed,
    /// Refused for want of a touch.
    MfaRequired,
    /// Refused for what the certificate or its receipt says.
    NotAuthenticated,
    /// Refused by policy or a lock.
    Denied,
    /// Nothing could be decided: the replica is not complete, or too old.
    Undecided,
}

impl Outcome {
    const ALL: [Self; 6] = [
        Self::AllowedWithMfa,
        Self::Allowed,
        Self::MfaRequired,
        Self::NotAuthenticated,
        Self::Denied,
        Self::Undecided,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::AllowedWithMfa => "allowed_with_mfa",
            Self::Allowed => "allowed",
            Self::MfaRequired => "mfa_required",
            Self::NotAuthenticated => "not_authenticated",
            Self::Denied => "denied",
            Self::Undecided => "undecided",
        }
    }
}

/// The metrics of one target.
#[derive(Clone, Debug)]
pub(crate) struct TargetMetrics {
    pub(crate) connections: IntCounter,
    pub(crate) unknown_evicted: IntCounter,
    pub(crate) over_limit: IntCounter,
    pub(crate) started: IntCounter,
    pub(crate) active: IntGauge,
    pub(crate) setup: Histogram,
    pub(crate) durations: Histogram,
    pub(crate) bytes_from_client: IntCounter,
    pub(crate) bytes_from_upstream: IntCounter,
    decisions: [IntCounter; Outcome::ALL.len()],
    target: String,
    protocol: &'static str,
    refused: IntCounterVec,
    ended: IntCounterVec,
}

/// The looks at one target's upstream, by how they went.
#[derive(Clone, Debug)]
pub(crate) struct ProbeMetrics {
    pub(crate) seen: IntCounter,
    pub(crate) failed: IntCounter,
}

impl TargetMetrics {
    pub(crate) fn decided(&self, outcome: Outcome) {
        if let Some(counter) = self.decisions.get(outcome as usize) {
            counter.inc();
        }
    }

    /// Not on the hot path: a refusal resolves its child when it happens.
    pub(crate) fn refused(&self, reason: &'static str) {
        self.refused.with_label_values(&[self.target.as_str(), self.protocol, reason]).inc();
    }

    pub(crate) fn ended(&self, reason: &'static str, lasted: Duration) {
        self.durations.observe(lasted.as_secs_f64());
        self.ended.with_label_values(&[self.target.as_str(), self.protocol, reason]).inc();
    }
}

impl Metrics {
    /// # Errors
    /// A metric is declared twice: our own mistake.
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        let make = Maker(Registry::new());
        let build = make.gauges("touchstone_build_info", "Always 1.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let per = |label| [TARGET[0], TARGET[1], label];
        Ok(Self {
            connections: make.counters("touchstone_connections_total", "Connections accepted.", &TARGET)?,
            unknown_evicted: make.counters(
                "touchstone_unknown_connections_evicted_total",
                "Connections closed before login to make room for newer ones.",
                &TARGET,
            )?,
            started: make.counters("touchstone_sessions_started_total", "Sessions started.", &TARGET)?,
            active: make.gauges("touchstone_sessions_active", "Sessions that are live.", &TARGET)?,
            ended: make.counters("touchstone_sessions_ended_total", "Sessions ended.", &per("reason"))?,
            refused: make.counters("touchstone_refusals_total", "Clients turned away.", &per("reason"))?,
            decisions: make.counters(
                "touchstone_mfa_decisions_total",
                "Decisions by outcome.",
                &per("outcome"),
            )?,
            setup: make.histograms(
                "touchstone_connection_setup_seconds",
                "From accept to a logged-in upstream.",
                &SETUP_BUCKETS,
            )?,
            durations: make.histograms(
                "touchstone_session_duration_seconds",
                "Length of sessions.",
                &DURATION_BUCKETS,
            )?,
            bytes: make.counters("touchstone_session_bytes_total", "Bytes carried.", &per("from"))?,
            cancels: make.counters(
                "touchstone_certified_cancels_total",
                "Cancel requests with the right key and a certificate, by what the certificate was found to be.",
                &per("outcome"),
            )?,
            probes: make.counters(
                "touchstone_upstream_probes_total",
                "Looks at an upstream whose version clients must be greeted with.",
                &per("outcome"),
            )?,
            audit_suppressed: make.counter(
                "touchstone_audit_suppressed_events_total",
                "Denied events, of unknown clients or of one user, that were too many and only counted.",
            )?,
            audit_failures: make.counter(
                "touchstone_audit_failed_events_total",
                "Audit events that could not be recorded.",
            )?,
            process: Process {
                replica_ready: make.gauge("touchstone_replica_ready", "1 once the replica is complete.")?,
                replica_age: make
                    .seconds("touchstone_replica_age_seconds", "Since authd was last heard of.")?,
                certificate_expiry: make.gauge(
                    "touchstone_certificate_expiry_timestamp_seconds",
                    "When this sidecar's certificate ends, in Unix time; 0 before it has joined.",
                )?,
                recordings_bytes: make
                    .gauge("touchstone_recordings_bytes", "Bytes of recordings that authd does not have in full.")?,
                audit_spool_bytes: make
                    .gauge("touchstone_audit_spool_bytes", "Bytes of audit on disk here.")?,
                audit_unshipped: make.gauge(
                    "touchstone_audit_unshipped_events",
                    "Events of this process that authd has not.",
                )?,
                audit_ship_failures: make
                    .gauge("touchstone_audit_ship_failures", "Times that authd did not take events.")?,
                audit_damaged_bytes: make
                    .gauge("touchstone_audit_damaged_bytes", "Bytes of torn lines, never acknowledged.")?,
                audit_rejected: make
                    .gauge("touchstone_audit_rejected_events", "Events that authd refused for good, set aside.")?,
                upstream_certificates: make
                    .gauge("touchstone_upstream_certificates", "Upstream client certificates held ready.")?,
                log_lost: make
                    .gauge("touchstone_log_lost_lines", "Lines of the log that were lost for want of a reader.")?,
            },
            registry: make.0,
        })
    }

    /// The metrics of one target, resolved.
    pub(crate) fn target(&self, name: &str, protocol: &'static str) -> TargetMetrics {
        let target = [name, protocol];
        let of = |counters: &IntCounterVec, last| counters.with_label_values(&[name, protocol, last]);
        TargetMetrics {
            connections: self.connections.with_label_values(&target),
            unknown_evicted: self.unknown_evicted.with_label_values(&target),
            over_limit: of(&self.refused, "too_many_connections"),
            started: self.started.with_label_values(&target),
            active: self.active.with_label_values(&target),
            setup: self.setup.with_label_values(&target),
            durations: self.durations.with_label_values(&target),
            bytes_from_client: of(&self.bytes, "client"),
            bytes_from_upstream: of(&self.bytes, "upstream"),
            decisions: Outcome::ALL.map(|outcome| of(&self.decisions, outcome.label())),
            target: name.to_owned(),
            protocol,
            refused: self.refused.clone(),
            ended: self.ended.clone(),
        }
    }

    /// The cancels of one target, resolved.
    pub(crate) fn cancels(&self, name: &str, protocol: &'static str) -> CancelMetrics {
        CancelMetrics::new(&self.cancels, [name, protocol])
    }

    /// The looks at one target's upstream, resolved.
    pub(crate) fn probes(&self, name: &str, protocol: &'static str) -> ProbeMetrics {
        let of = |outcome| self.probes.with_label_values(&[name, protocol, outcome]);
        ProbeMetrics { seen: of("seen"), failed: of("failed") }
    }

    /// In the Prometheus text format.
    pub(crate) fn render(&self) -> Vec<u8> {
        let mut text = Vec::new();
        // Fails only where the writer does, and a vector does not.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        text
    }
}

struct Maker(Registry);

impl Maker {
    fn keep<T: prometheus::core::Collector + Clone + 'static>(
        &self,
        metric: T,
    ) -> Result<T, prometheus::Error> {
        self.0.register(Box::new(metric.clone())).map(|()| metric)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
        self.keep(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.keep(IntCounter::new(name, help)?)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
        self.keep(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.keep(IntGauge::new(name, help)?)
    }

    fn seconds(&self, name: &str, help: &str) -> Result<Gauge, prometheus::Error> {
        self.keep(Gauge::new(name, help)?)
    }

    fn histograms(&self, name: &str, help: &str, buckets: &[f64]) -> Result<HistogramVec, prometheus::Error> {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.keep(HistogramVec::new(options, &TARGET)?)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    #[test]
    fn outcomes_are_counted_under_their_own_label() {
        let metrics = Metrics::new().unwrap();
        let target = metrics.target("prod-pg", "postgres");
        for (count, outcome) in Outcome::ALL.into_iter().enumerate() {
            (0..=count).for_each(|_| target.decided(outcome));
        }
        let text = String::from_utf8(metrics.render()).unwrap();
        for (count, outcome) in Outcome::ALL.into_iter().enumerate() {
            let line = format!(
                r#"touchstone_mfa_decisions_total{{outcome="{}",protocol="postgres",target="prod-pg"}} {}"#,
                outcome.label(),
                count + 1
            );
            assert!(text.contains(&line), "{line}\n{text}");
        }
    }

    #[test]
    fn a_refusal_is_counted_by_reason() {
        let metrics = Metrics::new().unwrap();
        metrics.target("prod-pg", "postgres").refused("mfa_required");
        let text = String::from_utf8(metrics.render()).unwrap();
        assert!(text.contains(
            r#"touchstone_refusals_total{protocol="postgres",reason="mfa_required",target="prod-pg"} 1"#
        ));
    }

    /// Type and labels of each metric, as the page for administrators says them.
    fn described() -> BTreeMap<String, (String, BTreeSet<String>)> {
        let page = include_str!("../../docs/administration.md");
        let rows = page.lines().filter(|line| line.starts_with("| `touchstone_"));
        rows.map(|row| {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let labels = cells[3].split(',').map(|label| label.trim().to_owned());
            let labels = labels.filter(|label| !label.is_empty()).collect();
            (cells[1].trim_matches('`').to_owned(), (cells[2].to_owned(), labels))
        })
        .collect()
    }

    #[test]
    fn the_page_of_administrators_has_every_metric_with_its_type_and_labels() {
        let metrics = Metrics::new().unwrap();
        // What has labels is there once it was counted.
        let target = metrics.target("shop", "mysql");
        target.refused("policy");
        target.ended("locked", Duration::from_secs(1));
        metrics.cancels("shop", "mysql").count(Cancelled::Refused);
        metrics.probes("shop", "mysql").seen.inc();

        let gathered = metrics.registry.gather().into_iter().map(|family| {
            let kind = format!("{:?}", family.get_field_type()).to_lowercase();
            let labels = family.get_metric()[0].get_label().iter().map(|label| label.name().to_owned());
            (family.name().to_owned(), (kind, labels.collect()))
        });
        assert_eq!(described(), gathered.collect());
    }

    #[test]
    fn the_page_of_deployment_alerts_on_metrics_that_there_are() {
        let (page, described) = (include_str!("../../docs/deployment.md"), described());
        let mut named = 0;
        for (at, _) in page.match_indices("touchstone_") {
            let name = page[at..].split(|c: char| !(c.is_ascii_lowercase() || c == '_')).next().unwrap();
            assert!(described.contains_key(name), "there is no {name}");
            named += 1;
        }
        assert!(named > 10, "{named}");
    }
}
