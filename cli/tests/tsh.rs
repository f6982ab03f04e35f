//! The built `tsh`, as it is typed: exit status, and what goes to which stream. No service is needed for these.
#![expect(clippy::unwrap_used, reason = "a test may panic freely")]

use std::process::{Command, Output};

fn tsh(arguments: &[&str]) -> Output {
    let home = tempfile::tempdir().unwrap();
    Command::new(env!("CARGO_BIN_EXE_tsh"))
        .args(arguments)
        .env_clear()
        .env("TSH_HOME", home.path().join("tsh"))
        .env("HOME", home.path())
        .output()
        .unwrap()
}

fn refused(arguments: &[&str]) -> String {
    let output = tsh(arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    assert!(output.stdout.is_empty(), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn the_version_is_one_line_however_it_is_asked_for() {
    let tctl = |arguments| Command::new(env!("CARGO_BIN_EXE_tctl")).args(arguments).output().unwrap();
    for output in [tsh(&["version"]), tsh(&["--version"]), tctl(["version"]), tctl(["--version"])] {
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(output.stdout, format!("Touchstone v{}\n", env!("CARGO_PKG_VERSION")).as_bytes());
    }
}

#[test]
fn help_goes_to_standard_output() {
    for arguments in [&["--help"][..], &["db", "connect", "--help"], &["proxy", "db", "--help"]] {
        let output = tsh(arguments);
        assert_eq!(output.status.code(), Some(0));
        assert!(output.stderr.is_empty());
        assert!(String::from_utf8(output.stdout).unwrap().contains("Usage: tsh"));
    }
}

#[test]
fn half_a_command_is_answered_with_its_help() {
    for (arguments, usage) in
        [(&[][..], "Usage: tsh "), (&["db"], "Usage: tsh db "), (&["proxy"], "Usage: tsh proxy ")]
    {
        let help = refused(arguments);
        assert!(help.contains(usage) && !help.contains("ERROR"), "{help}");
    }
}

#[test]
fn half_a_command_is_answered_with_its_help_whatever_the_environment_says() {
    for (program, half) in [(env!("CARGO_BIN_EXE_tsh"), "db"), (env!("CARGO_BIN_EXE_tctl"), "users")] {
        for set in ["TSH_PROXY", "TELEPORT_PROXY", "TSH_MFA_MODE"] {
            let value = if set == "TSH_MFA_MODE" { "otp" } else { "h:1" };
            let output = Command::new(program)
                .arg(half)
                .env_clear()
                .env(set, value)
                .env("TOUCHSTONE_DATA_DIR", "/nowhere")
                .output()
                .unwrap();
            let help = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1));
            assert!(
                help.contains(&format!(" {half} [OPTIONS] <COMMAND>")) && !help.contains("ERROR"),
                "{help}"
            );
        }
    }
}

#[test]
fn a_shell_learns_what_can_be_typed() {
    let words = |output: &Output| String::from_utf8(output.stdout.clone()).unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let script = words(&tsh(&["completion", shell]));
        assert!(script.contains("recordings") && script.contains("mfa-mode"), "{shell}");
    }
    assert!(refused(&["completion", "cmd.exe"]).contains("invalid value 'cmd.exe'"));
    // bash takes it, and completes.
    let script = "source <(\"$0\" completion bash); COMP_WORDS=(tsh reco); COMP_CWORD=1; _tsh tsh reco tsh; \
                  echo \"${COMPREPLY[@]}\"";
    let output = Command::new("bash").args(["-c", script, env!("CARGO_BIN_EXE_tsh")]).output().unwrap();
    assert_eq!(words(&output), "recordings\n", "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn teleports_way_to_ask_for_the_version_works_too() {
    assert_eq!(tsh(&["version", "--client"]).stdout, tsh(&["version"]).stdout);
    let json: serde_json::Value = serde_json::from_slice(&tsh(&["version", "-f", "json"]).stdout).unwrap();
    assert_eq!(json["version"], format!("v{}", env!("CARGO_PKG_VERSION")));
}

#[test]
fn without_a_login_one_is_told_what_to_run() {
    let expected = "ERROR: not logged in, run: tsh login --proxy=HOST:PORT --user=USER\n";
    for arguments in
        [&["db", "ls"][..], &["db", "connect", "pg"], &["mfa", "ls"], &["db", "env"], &["db", "logout"]]
    {
        assert_eq!(refused(arguments), expected, "{arguments:?}");
    }
    assert_eq!(refused(&["status"]), "ERROR: Not logged in.\n");
    assert!(refused(&["login"]).starts_with("ERROR: no proxy address specified"));
}

#[test]
fn a_variable_that_is_set_to_nothing_says_nothing() {
    let home = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_tsh"))
        .arg("status")
        .env_clear()
        .env("TSH_HOME", home.path())
        .envs(["TSH_PROXY", "TSH_USER", "TSH_MFA_MODE", "TSH_AUTH", "TSH_DEBUG"].map(|name| (name, "")))
        .envs(["TELEPORT_PROXY", "TELEPORT_CLUSTER", "TELEPORT_IDENTITY_FILE"].map(|name| (name, "")))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "ERROR: Not logged in.\n");
}

#[test]
fn logging_out_twice_is_no_error() {
    let output = tsh(&["logout"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stdout, b"Logged out all users from all proxies.\n");
}

#[test]
fn mistakes_on_the_command_line_are_errors_of_status_1() {
    assert!(refused(&["nonsense"]).starts_with("ERROR: unrecognized subcommand 'nonsense'"));
    assert!(refused(&["--insecure", "status"]).starts_with("ERROR: unexpected argument '--insecure'"));
    assert!(refused(&["login", "--proxy=ho st"]).contains("is not an address of the form HOST:PORT"));
    assert!(refused(&["login", "--ca-pin=sha256:00"]).starts_with("ERROR: invalid value"));
}

#[test]
fn what_is_no_invitation_is_refused_before_anything_is_dialled() {
    assert!(refused(&["register", "https://127.0.0.1:1/elsewhere"]).contains("an invitation looks like"));
}
