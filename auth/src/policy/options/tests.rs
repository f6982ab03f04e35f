use super::*;
use crate::resource::{Resource, parse_documents};

/// The options of roles with these `options`, one line each, in a cluster with this `spec`.
fn merged(roles: &[&str], cluster: &str) -> SessionOptions {
    try_merged(roles, cluster).unwrap()
}

/// As [`merged`], with the roles called `role-0`, `role-1`, ….
fn try_merged(roles: &[&str], cluster: &str) -> Result<SessionOptions, PolicyError> {
    let roles: Vec<Role> = roles.iter().enumerate().map(|(n, options)| role(n, options)).collect();
    let cap =
        format!("kind: cap\nversion: v2\nmetadata: {{name: cluster-auth-preference}}\nspec: {{{cluster}}}\n");
    let Resource::AuthPreference(preference) = parse_documents(&cap).unwrap().remove(0).resource else {
        panic!("not a preference");
    };
    SessionOptions::merge(roles.iter(), &preference)
}

fn role(n: usize, options: &str) -> Role {
    let yaml =
        format!("kind: role\nversion: v6\nmetadata: {{name: role-{n}}}\nspec: {{options: {{{options}}}}}\n");
    match parse_documents(&yaml).unwrap().remove(0).resource {
        Resource::Role(role) => role,
        other => panic!("{other:?}"),
    }
}

fn of(roles: &[&str]) -> SessionOptions {
    merged(roles, "")
}

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn a_role_that_says_nothing_has_teleports_defaults() {
    let expected = SessionOptions {
        max_session_ttl: 30 * HOUR,
        forward_agent: false,
        port_forwarding: true,
        ssh_file_copy: true,
        permit_x11_forwarding: false,
        client_idle_timeout: None,
        disconnect_expired_cert: false,
        max_sessions: None,
        max_connections: None,
        mfa_verification_interval: None,
        lock: LockingMode::BestEffort,
        pin_source_ip: false,
        record_session: RecordingMode::BestEffort,
        record_ssh_session: RecordingMode::BestEffort,
        db_session_settings: BTreeMap::new(),
        db_replication: false,
        db_local_infile: false,
    };
    assert_eq!(of(&[""]), expected);
    assert_eq!(of(&["", ""]), expected);
    assert_eq!(
        SessionOptions::merge(
            [&Role::new(RoleName::new("r").unwrap())].into_iter(),
            &AuthPreference::default()
        ),
        Ok(expected)
    );
}

#[test]
fn the_shortest_max_session_ttl_wins_and_none_is_longer_than_thirty_hours() {
    assert_eq!(of(&["max_session_ttl: 8h", "max_session_ttl: 12h", ""]).max_session_ttl, 8 * HOUR);
    assert_eq!(of(&["max_session_ttl: 100h"]).max_session_ttl, 30 * HOUR);
}

#[test]
fn one_role_suffices_to_give_agent_port_and_x11_forwarding() {
    assert!(of(&["forward_agent: yes", "forward_agent: no"]).forward_agent);
    assert!(!of(&["forward_agent: no", ""]).forward_agent);
    assert!(of(&["permit_x11_forwarding: yes", ""]).permit_x11_forwarding);
    assert!(of(&["port_forwarding: no", "port_forwarding: yes"]).port_forwarding);
}

#[test]
fn port_forwarding_is_given_by_a_role_that_does_not_speak_of_it() {
    assert!(of(&["port_forwarding: no", ""]).port_forwarding);
    assert!(!of(&["port_forwarding: no", "port_forwarding: no"]).port_forwarding);
}

#[test]
fn one_role_suffices_to_forbid_file_copy() {
    assert!(!of(&["ssh_file_copy: no", "ssh_file_copy: yes", ""]).ssh_file_copy);
    assert!(of(&["ssh_file_copy: yes", ""]).ssh_file_copy);
}

#[test]
fn the_shortest_idle_timeout_wins_over_never() {
    let roles = ["client_idle_timeout: never", "client_idle_timeout: 30m", "client_idle_timeout: 5m", ""];
    assert_eq!(of(&roles).client_idle_timeout, Some(HOUR / 12));
    assert_eq!(of(&["client_idle_timeout: never", "client_idle_timeout: 0s"]).client_idle_timeout, None);
}

#[test]
fn one_role_or_the_cluster_suffices_to_disconnect_at_expiry() {
    assert!(of(&["disconnect_expired_cert: yes", "disconnect_expired_cert: no"]).disconnect_expired_cert);
    assert!(merged(&["disconnect_expired_cert: no"], "disconnect_expired_cert: yes").disconnect_expired_cert);
    assert!(!of(&["disconnect_expired_cert: no"]).disconnect_expired_cert);
}

#[test]
fn the_smallest_number_above_zero_wins() {
    let options = of(&[
        "max_sessions: 0, max_connections: 7",
        "max_sessions: 5",
        "max_sessions: 9, max_connections: 2",
    ]);
    assert_eq!((options.max_sessions, options.max_connections), (Some(5), Some(2)));
    assert_eq!(of(&["max_sessions: 0"]).max_sessions, None);
}

#[test]
fn the_shortest_mfa_verification_interval_wins() {
    let roles =
        ["mfa_verification_interval: 1h", "mfa_verification_interval: 10m", "mfa_verification_interval: 0s"];
    assert_eq!(of(&roles).mfa_verification_interval, Some(HOUR / 6));
    assert_eq!(of(&[""]).mfa_verification_interval, None);
}

#[test]
fn one_strict_lock_suffices_and_a_role_goes_before_the_cluster() {
    assert_eq!(of(&["lock: best_effort", "lock: strict"]).lock, LockingMode::Strict);
    assert_eq!(merged(&["", ""], "locking_mode: strict").lock, LockingMode::Strict);
    assert_eq!(merged(&["lock: best_effort", ""], "locking_mode: strict").lock, LockingMode::BestEffort);
    assert_eq!(merged(&["lock: strict"], "locking_mode: best_effort").lock, LockingMode::Strict);
}

#[test]
fn one_role_suffices_to_pin_the_address() {
    assert!(of(&["pin_source_ip: yes", "pin_source_ip: no", ""]).pin_source_ip);
    assert!(!of(&["pin_source_ip: no"]).pin_source_ip);
}

#[test]
fn the_strictest_recording_wins_and_ssh_may_differ() {
    let options = of(&[
        "record_session: {default: strict, ssh: best_effort}",
        "record_session: {default: best_effort}",
    ]);
    assert_eq!(options.record_session, RecordingMode::Strict);
    assert_eq!(options.record_ssh_session, RecordingMode::BestEffort);
    let options = of(&["record_session: {default: strict}", "record_session: {ssh: best_effort}"]);
    assert_eq!(
        (options.record_session, options.record_ssh_session),
        (RecordingMode::Strict, RecordingMode::Strict)
    );
    assert_eq!(of(&["record_session: {ssh: strict}"]).record_session, RecordingMode::BestEffort);
}

#[test]
fn one_role_suffices_to_give_replication_and_none_gives_it_unasked() {
    assert!(of(&["db_replication: yes", "db_replication: no", ""]).db_replication);
    assert!(!of(&["db_replication: no", ""]).db_replication);
}

#[test]
fn one_role_suffices_to_give_local_files_and_none_gives_them_unasked() {
    assert!(of(&["db_local_infile: yes", "db_local_infile: no", ""]).db_local_infile);
    assert!(!of(&["db_local_infile: no", ""]).db_local_infile);
    assert!(!of(&["db_replication: yes"]).db_local_infile);
}

#[test]
fn the_settings_of_all_roles_hold() {
    let options = of(&[
        "db_session_settings: {statement_timeout: 30s, default_transaction_read_only: on}",
        "db_session_settings: {search_path: app, Statement_Timeout: 30s}",
        "",
    ]);
    let settings: Vec<(&str, &str)> =
        options.db_session_settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(
        settings,
        [("default_transaction_read_only", "on"), ("search_path", "app"), ("statement_timeout", "30s")]
    );
}

#[test]
fn roles_that_differ_about_a_setting_resolve_to_nothing_and_are_named() {
    let error = try_merged(
        &[
            "db_session_settings: {work_mem: 4MB}",
            "db_session_settings: {work_mem: 4MB, statement_timeout: 30s}",
            "",
            "db_session_settings: {work_mem: 4MB, Statement_Timeout: 30000ms}",
        ],
        "",
    )
    .unwrap_err();
    let [first, second] = ["role-1", "role-3"].map(|name| RoleName::new(name).unwrap());
    assert_eq!(
        error,
        PolicyError::SettingConflict { setting: "statement_timeout".to_owned(), first, second }
    );
    assert_eq!(
        error.to_string(),
        "roles role-1 and role-3 give statement_timeout different values in db_session_settings"
    );
}

#[test]
fn settings_conflict_in_either_order_and_against_an_empty_value() {
    for (one, other) in [("on", "off"), ("off", "on"), ("''", "x"), ("x", "''"), ("on", "'On'")] {
        let roles = [one, other].map(|value| format!("db_session_settings: {{a: {value}}}"));
        let error = try_merged(&[&roles[0], &roles[1]], "").unwrap_err();
        assert!(matches!(error, PolicyError::SettingConflict { setting, .. } if setting == "a"));
    }
}

#[test]
fn options_of_every_role_count_whether_it_matches_or_not() {
    // A session's options do not depend on its target: both roles give nothing at all.
    assert_eq!(of(&["max_session_ttl: 1h", "max_session_ttl: 2h"]).max_session_ttl, HOUR);
}
