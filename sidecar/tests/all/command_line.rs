//! The program itself.

use std::process::{Command, Output};

fn sidecar(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sidecar")).args(arguments).output().unwrap()
}

fn error_of(arguments: &[&str]) -> String {
    let output = sidecar(arguments);
    assert!(!output.status.success(), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn it_says_its_version() {
    for way in ["version", "--version"] {
        let output = sidecar(&[way]);
        assert!(output.status.success());
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            format!("Touchstone v{}\n", env!("CARGO_PKG_VERSION"))
        );
    }
}

#[test]
fn mistakes_on_the_command_line_are_errors_of_status_1() {
    let output = sidecar(&["start", "--nonsense"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().starts_with("ERROR: unexpected argument '--nonsense'"));
    assert!(error_of(&[]).contains("Usage: sidecar") && !error_of(&[]).contains("ERROR"));
}

#[test]
fn the_example_file_is_valid() {
    let output = sidecar(&["check", "-c", concat!(env!("CARGO_MANIFEST_DIR"), "/sidecar.yaml")]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("prod-pg: postgres on 0.0.0.0:5432 → db1.internal:5432"), "{text}");
}

#[test]
fn a_broken_file_is_named_with_line_and_key() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sidecar.yaml");
    std::fs::write(&path, "auth_server: a:1\ntarget: []\n").unwrap();
    let error = error_of(&["check", "-c", path.to_str().unwrap()]);
    for part in ["ERROR: ", "sidecar.yaml", "line 2", "target"] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
}

#[test]
fn a_host_that_would_be_taken_on_trust_is_refused() {
    let error = one_target("ssh", &[]);
    for part in
        ["upstream.host_key_file or upstream.host_ca must say how sshd is known", "--upstream-host-key-file"]
    {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
}

#[test]
fn who_listens_on_every_address_is_told_to_say_where_clients_reach_it() {
    let data = tempfile::tempdir().unwrap();
    let start = ["start", "--auth-server", "localhost:1", "--name", "db", "--protocol", "postgres"];
    let place = ["--uri", "localhost:3306", "--data-dir", data.path().to_str().unwrap(), "--listen"];
    let error = |more: &[&str]| error_of(&[&start[..], &place, more].concat());
    let hint = "--public-addr";
    assert!(error(&["0.0.0.0:0"]).contains(hint));
    assert!(!error(&["0.0.0.0:0", "--public-addr=db.example.com:5432"]).contains(hint));
    assert!(!error(&["127.0.0.1:0"]).contains(hint));
}

#[test]
fn protocols_that_nobody_knows_are_refused() {
    let error = one_target("telnet", &[]);
    assert!(error.contains("telnet"), "{error}");
}

#[test]
fn a_version_for_greetings_is_refused_where_nobody_is_greeted() {
    let error = one_target("postgres", &["--mysql-server-version", "8.4.6"]);
    assert!(error.contains("mysql.server_version goes with protocol: mysql"), "{error}");
}

fn one_target(protocol: &str, more: &[&str]) -> String {
    let start = ["start", "--auth-server", "localhost:1", "--name", "db", "--protocol", protocol];
    let place = ["--uri", "localhost:3306", "--listen", "127.0.0.1:0"];
    error_of(&[&start[..], &place, more].concat())
}

#[test]
fn a_file_and_flags_for_a_target_exclude_each_other() {
    let error = error_of(&["start", "-c", "sidecar.yaml", "--name", "db"]);
    assert!(error.contains("cannot be used with"), "{error}");
}

#[test]
fn its_help_names_the_defaults() {
    let output = sidecar(&["start", "--help"]);
    let help = String::from_utf8(output.stdout).unwrap();
    let drain = format!("[default: {}s]", sidecar::config::DEFAULT_DRAIN_TIMEOUT.as_secs());
    let data_dir = format!("[default: {}]", sidecar::config::DEFAULT_DATA_DIR);
    for default in [drain.as_str(), &data_dir, "[default: nowhere]"] {
        assert!(help.contains(default), "{default} is not in: {help}");
    }
}

#[test]
fn its_log_has_no_colours_in_a_file() {
    let data = tempfile::tempdir().unwrap();
    let start = ["start", "--auth-server", "localhost:1", "--name", "db", "--protocol", "postgres"];
    let place = ["--uri", "localhost:3306", "--listen", "127.0.0.1:0", "--data-dir"];
    let log = error_of(&[&start[..], &place, &[data.path().to_str().unwrap()]].concat());
    assert!(log.contains("INFO sidecar: starting") && !log.contains('\x1b'), "{log:?}");
}
