//! Every scenario on real servers for a moment: that the tool works and its report is sound. How fast anything was is not
//! asked here.
#![cfg(test)]

use std::{collections::BTreeSet, process::Command};

use serde_json::Value;

fn loadtest(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest")).args(arguments).output().unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{arguments:?}: {}{}", said(&output.stdout), said(&output.stderr));
    said(&output.stdout)
}

fn words<'a>(values: impl IntoIterator<Item = &'a Value>, field: &str) -> BTreeSet<String> {
    values.into_iter().map(|value| value[field].as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_scenario_runs_on_real_servers_and_its_report_is_sound() {
    let directory = tempfile::tempdir().unwrap();
    let (json, html) = (directory.path().join("report.json"), directory.path().join("report.html"));
    let table = loadtest(&[
        "run",
        "--quiet",
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
    let report: Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();

    let series = report["series"].as_array().unwrap();
    for protocol in ["postgres", "mysql"] {
        let of_protocol: Vec<_> = series.iter().filter(|series| series["protocol"] == protocol).collect();
        let played = words(of_protocol.iter().copied(), "scenario");
        for scenario in
            ["simple", "prepared", "connect", "connect-cold", "download", "upload", "mixed", "open-loop"]
        {
            assert!(played.contains(scenario), "{protocol} has played {played:?}");
        }
        let simple = of_protocol.iter().find(|series| series["scenario"] == "simple").unwrap();
        let ways = words(simple["ways"].as_array().unwrap(), "way");
        assert!(
            ways.is_superset(&["direct", "sidecar", "sidecar-unix"].map(str::to_owned).into()),
            "{ways:?}"
        );
        for scenario in ["simple", "connect"] {
            let before_null =
                |series: &&&Value| series["scenario"] == scenario && series["baseline"] == "null-direct";
            let ways =
                words(of_protocol.iter().find(before_null).unwrap()["ways"].as_array().unwrap(), "way");
            assert_eq!(ways, ["null-direct", "null-sidecar"].map(str::to_owned).into(), "{protocol}");
        }
    }
    // The real host, and behind it each time the null upstream.
    for (scenario, number) in [("ssh-connect", 4), ("ssh-bulk", 2), ("ssh-bulk-up", 2)] {
        let of_ssh = |series: &&Value| series["protocol"] == "ssh" && series["scenario"] == scenario;
        let played: Vec<_> = series.iter().filter(of_ssh).collect();
        assert_eq!(played.len(), number, "{scenario}");
        let ways: BTreeSet<_> =
            played.iter().flat_map(|series| words(series["ways"].as_array().unwrap(), "way")).collect();
        let expected = ["direct", "sidecar", "jump", "null-direct", "null-sidecar"];
        assert_eq!(ways, expected.map(str::to_owned).into(), "{scenario}");
    }
    for way in series.iter().flat_map(|series| series["ways"].as_array().unwrap()) {
        let number = |pointer: &str| way.pointer(pointer).unwrap().as_f64().unwrap();
        assert!(number("/rate/median") > 0.0 && number("/ratio/median") > 0.0, "{way}");
        assert!(number("/latency/p50") <= number("/latency/p99") && number("/latency/max") > 0.0, "{way}");
        let name = way["way"].as_str().unwrap();
        assert_eq!(way["cpu"].is_null(), ["direct", "null-direct"].contains(&name), "{way}");
        if name.ends_with("direct") {
            assert_eq!(number("/ratio/median"), 1.0, "the baseline is its own");
        }
    }
    assert!(series.iter().any(|series| series["scenario"] == "issue"));
    let idle = report["idle"].as_array().unwrap();
    assert!(words(idle, "way").contains("null-sidecar"));
    assert_eq!(words(idle, "protocol"), ["postgres", "mysql"].map(str::to_owned).into());
    let targets = report["targets"].as_array().unwrap();
    for name in ["SSH bulk down, of direct", "SSH time to connect, of direct"] {
        let target = targets.iter().find(|target| target["name"] == name).unwrap();
        assert_ne!(target["outcome"], "not-measured", "{target}");
        for figure in ["/measured/median", "/by_cost/median"] {
            assert!(target.pointer(figure).unwrap().as_f64().unwrap() > 0.0, "{target}");
        }
    }

    assert!(table.contains("Targets") && table.contains("ratio to direct"), "{table}");
    let page = std::fs::read_to_string(html).unwrap();
    assert!(
        page.contains("<svg") && !page.contains("http://") && !page.contains("https://"),
        "self-contained"
    );
    assert_eq!(page.matches("<section>").count(), page.matches("</section>").count());

    let again = loadtest(&["report", json.to_str().unwrap()]);
    assert!(again.contains("Targets"));
}

#[test]
fn every_watcher_hears_of_every_change() {
    let said = loadtest(&["fanout", "--watchers=6", "--connections=2", "--changes=2"]);
    let fanout: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(fanout["watchers"], 6);
    assert!(fanout["last_heard_ms"]["median"].as_f64().unwrap() > 0.0);
}
