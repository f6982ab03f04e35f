//! Every scenario on real servers for a moment: that the tool works and its report is sound. How fast anything was is not
//! asked here.
#![cfg(test)]

use std::{collections::BTreeSet, fs, process::Command};

use serde_json::Value;
use tempfile::TempDir;

fn loadtest(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest")).args(arguments).output().unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{arguments:?}: {}{}", said(&output.stdout), said(&output.stderr));
    said(&output.stdout)
}

fn words<'a>(values: impl IntoIterator<Item = &'a Value>, field: &str) -> BTreeSet<String> {
    values.into_iter().map(|value| value[field].as_str().unwrap().to_owned()).collect()
}

struct Played {
    report: Value,
    table: String,
    page: String,
    /// Both reports, for as long as they are read.
    directory: TempDir,
}

impl Played {
    fn new(protocols: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (json, html) = (directory.path().join("report.json"), directory.path().join("report.html"));
        let table = loadtest(&[
            "run",
            "--quiet",
            "--protocols",
            protocols,
            "--rounds=1",
            "--seconds=0.05",
            "--clients=1,2",
            "--idle=5",
            "--rate=100",
            "--megabytes=1",
            "--ssh-megabytes=1",
            "--no-peers",
            "--json",
            json.to_str().unwrap(),
            "--html",
            html.to_str().unwrap(),
        ]);
        let report = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
        let page = fs::read_to_string(html).unwrap();
        let played = Self { report, table, page, directory };
        played.series().iter().flat_map(|series| series["ways"].as_array().unwrap()).for_each(is_sound);
        played
    }

    fn series(&self) -> &[Value] {
        self.report["series"].as_array().unwrap()
    }

    /// Names of the ways of every series of a protocol's scenario, a set for each.
    fn ways(&self, protocol: &str, scenario: &str) -> Vec<BTreeSet<String>> {
        let fits = |series: &&Value| series["protocol"] == protocol && series["scenario"] == scenario;
        self.series()
            .iter()
            .filter(fits)
            .map(|series| words(series["ways"].as_array().unwrap(), "way"))
            .collect()
    }
}

fn set<const N: usize>(words: [&str; N]) -> BTreeSet<String> {
    words.map(str::to_owned).into()
}

fn is_sound(way: &Value) {
    let number = |pointer: &str| way.pointer(pointer).unwrap().as_f64().unwrap();
    assert!(number("/rate/median") > 0.0 && number("/ratio/median") > 0.0, "{way}");
    assert!(number("/latency/p50") <= number("/latency/p99") && number("/latency/max") > 0.0, "{way}");
    let name = way["way"].as_str().unwrap();
    assert_eq!(way["cpu"].is_null(), ["direct", "null-direct"].contains(&name), "{way}");
    if name.ends_with("direct") {
        assert_eq!(number("/ratio/median"), 1.0, "the baseline is its own");
    }
}

fn every_scenario_is_played_and_its_report_is_sound(protocol: &str) {
    let played = Played::new(protocol);
    for scenario in
        ["simple", "prepared", "connect", "connect-cold", "download", "upload", "mixed", "open-loop"]
    {
        assert!(!played.ways(protocol, scenario).is_empty(), "{protocol} has not played {scenario}");
    }
    for scenario in ["simple", "connect"] {
        let ways = played.ways(protocol, scenario);
        assert!(ways.iter().any(|ways| ways.is_superset(&set(["direct", "sidecar", "sidecar-unix"]))));
        assert!(ways.contains(&set(["null-direct", "null-sidecar"])), "{protocol} {scenario}: {ways:?}");
    }
    assert!(played.series().iter().any(|series| series["scenario"] == "issue"));
    let idle = played.report["idle"].as_array().unwrap();
    assert_eq!((words(idle, "way"), words(idle, "protocol")), (set(["null-sidecar"]), set([protocol])));
    // What two clients on two cores do for MySQL is no target; memory of PostgreSQL's sessions is.
    let targets = played.report["targets"].as_array().unwrap();
    let judged = targets.iter().any(|target| !target["measured"].is_null());
    assert_eq!(judged, protocol == "postgres");

    assert!(played.table.contains("ratio to direct"), "{}", played.table);
    assert_eq!(played.table.contains("Targets"), judged, "{}", played.table);
    let page = &played.page;
    assert!(
        page.contains("<svg") && !page.contains("http://") && !page.contains("https://"),
        "self-contained"
    );
    assert_eq!(page.matches("<section>").count(), page.matches("</section>").count());

    let json = played.directory.path().join("report.json");
    let again = loadtest(&["report", json.to_str().unwrap()]);
    assert_eq!(again.contains("Targets"), judged);
}

#[test]
fn every_scenario_of_postgresql_runs_on_a_real_server() {
    every_scenario_is_played_and_its_report_is_sound("postgres");
}

#[test]
fn every_scenario_of_mysql_runs_on_a_real_server() {
    every_scenario_is_played_and_its_report_is_sound("mysql");
}

#[test]
fn every_scenario_of_ssh_runs_on_real_hosts_and_is_judged() {
    let played = Played::new("ssh");
    // New connections with one client and with two, bulk with one.
    for (scenario, times) in [("ssh-connect", 2), ("ssh-bulk", 1), ("ssh-bulk-up", 1)] {
        let each = [set(["direct", "sidecar", "jump"]), set(["null-direct", "null-sidecar"])];
        assert_eq!(played.ways("ssh", scenario), vec![each; times].concat(), "{scenario}");
    }
    let targets = played.report["targets"].as_array().unwrap();
    for name in ["SSH bulk down, of direct", "SSH time to connect, of direct"] {
        let target = targets.iter().find(|target| target["name"] == name).unwrap();
        assert_ne!(target["outcome"], "not-measured", "{target}");
        for figure in ["/measured/median", "/by_cost/median"] {
            assert!(target.pointer(figure).unwrap().as_f64().unwrap() > 0.0, "{target}");
        }
        assert!(played.table.contains(name) && played.page.contains(name), "{}", played.table);
    }
    assert!(played.table.contains("OpenSSH"), "{}", played.table);
}

/// What they say of a query and of a connection becomes a report like any other.
fn the_usual_client_plays_where_it_is_asked_to(protocol: &str, program: &str, scenarios: &[&str]) {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("report.json");
    let arguments = ["run", "--quiet", "--usual-clients", "--ways=sidecar", "--clients=1", "--rounds=1"];
    let asked = [format!("--scenarios={}", scenarios.join(",")), format!("--protocols={protocol}")];
    let asked = asked.iter().map(String::as_str).chain(["--json", json.to_str().unwrap()]);
    let table = loadtest(&arguments.into_iter().chain(asked).collect::<Vec<_>>());
    let report: Value = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
    let (theirs, ours): (Vec<_>, Vec<_>) =
        report["series"].as_array().unwrap().iter().partition(|series| series["program"] == program);
    let wanted = scenarios.iter().map(|&scenario| scenario.to_owned()).collect();
    assert_eq!(words(theirs.iter().copied(), "scenario"), wanted, "{table}");
    for series in theirs {
        for way in series["ways"].as_array().unwrap() {
            let number = |pointer: &str| way.pointer(pointer).unwrap().as_f64().unwrap();
            assert!(number("/rate/median") > 0.0 && number("/ratio/median") > 0.0, "{way}");
            assert!(number("/everybody_rounds/0") > 0.0, "{way}");
            // Nobody takes the time of a connection there.
            assert_eq!(number("/latency/max") > 0.0, series["scenario"] != "connect", "{way}");
        }
    }
    assert!(ours.iter().all(|series| series["baseline"] == "null-direct"), "{table}");
    assert!(
        table.contains(&format!("1 client by {program}")) && table.contains(&format!(", {program} ")),
        "{table}"
    );
}

#[test]
fn pgbench_plays_the_clients_of_postgresql_where_it_is_asked_to() {
    the_usual_client_plays_where_it_is_asked_to("postgres", "pgbench", &["simple", "connect"]);
}

#[test]
fn sysbench_plays_the_clients_of_mysql_where_it_is_asked_to() {
    the_usual_client_plays_where_it_is_asked_to("mysql", "sysbench", &["prepared"]);
}

#[test]
fn every_watcher_hears_of_every_change() {
    let said = loadtest(&["fanout", "--watchers=6", "--connections=2", "--changes=2"]);
    let fanout: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(fanout["watchers"], 6);
    assert!(fanout["last_heard_ms"]["median"].as_f64().unwrap() > 0.0);
}

#[test]
fn a_peer_is_started_before_the_database_and_measured_beside_the_others() {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("report.json");
    let relay = env!("CARGO_BIN_EXE_loadtest");
    let peer = format!("ours=postgres:{relay} relay {{upstream-port}} --files {{files}} --listen {{listen}}");
    let run = |peer: &str| {
        let arguments = ["run", "--quiet", "--scenarios=simple", "--protocols=postgres", "--rounds=1"];
        let mut run = Command::new(relay);
        run.args(arguments).args(["--seconds=0.05", "--clients=1", "--no-peers", "--peer", peer]);
        run.arg("--json").arg(&json).output().unwrap()
    };
    let played = run(&peer);
    assert!(played.status.success(), "{}", String::from_utf8_lossy(&played.stderr));
    let report: Value = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
    let ways = report["series"][0]["ways"].as_array().unwrap();
    assert!(words(ways, "way").is_superset(&set(["direct", "sidecar", "ours"])), "{ways:?}");
    let ours = ways.iter().find(|way| way["way"] == "ours").unwrap();
    assert!(ours["cpu"]["median"].as_f64().unwrap() > 0.0, "{ours}");

    // One that does not come, and one that has nobody to pass on to.
    for (peer, reason) in [
        ("late=postgres:false {listen}", "late"),
        ("far=mysql:sleep {port}", "far is for MySQL, which is no part of this run"),
    ] {
        let refused = run(peer);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains(reason), "{peer}: {said}");
    }
}
