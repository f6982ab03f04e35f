//! `db_session_settings`, `db_replication` and `db_local_infile`.

use std::collections::BTreeMap;

use super::*;

fn settings(map: &str) -> BTreeMap<String, String> {
    role(&option(&format!("db_session_settings: {map}"))).spec.options.db_session_settings
}

fn refused(map: &str) -> String {
    error(&option(&format!("db_session_settings: {map}")))
}

#[test]
fn a_settings_value_is_the_text_as_written_whatever_yaml_takes_it_for() {
    for text in ["on", "off", "yes", "No", "TRUE", "false", "30s", "4096", "1.10", "007", "0x10", "1e3", "-1"]
    {
        assert_eq!(settings(&format!("{{a: {text}}}"))["a"], text);
        assert_eq!(settings(&format!("{{a: '{text}'}}"))["a"], text);
    }
    assert_eq!(settings("{search_path: 'app, public', a: '', b: 'null'}")["search_path"], "app, public");
    assert_eq!(settings("{a: ''}")["a"], "");
}

#[test]
fn a_settings_value_is_the_same_text_after_each_form() {
    let yaml =
        option("db_session_settings: {default_transaction_read_only: on, a: 'null', b: 007, c: 'x: # y'}");
    let resource = one(&yaml).resource;
    assert_eq!(one(&resource.to_yaml()).resource, resource, "{}", resource.to_yaml());
    assert_eq!(Resource::from_json(&resource.to_json()).unwrap(), resource);
    let value = resource.to_value();
    assert_eq!(value["spec"]["options"]["db_session_settings"]["default_transaction_read_only"], "on");
}

#[test]
fn json_numbers_and_truth_values_are_texts_too() {
    let json = r#"{"kind":"role","version":"v6","metadata":{"name":"r"},
        "spec":{"options":{"db_session_settings":{"statement_timeout":5000,"default_transaction_read_only":true}}}}"#;
    let Resource::Role(role) = Resource::from_json(json).unwrap() else { panic!("not a role") };
    let settings = role.spec.options.db_session_settings;
    assert_eq!(settings["statement_timeout"], "5000");
    assert_eq!(settings["default_transaction_read_only"], "true");
}

#[test]
fn a_value_that_is_no_single_text_is_refused_where_it_stands() {
    let message = refused("\n      statement_timeout: 30s\n      work_mem: [1, 2]");
    assert_eq!(message, "line 8: spec.options.db_session_settings.work_mem: expected a text, found a list");
    assert!(refused("{a: {b: c}}").contains("expected a text, found a map"));
    assert!(refused("{a: }").contains("expected a text, found nothing"));
    assert!(refused("{a: null}").contains("expected a text, found nothing"));
    assert!(refused("[statement_timeout]").contains("expected a map, found a list"));
    assert!(refused("on").contains("expected a map, found a single value"));
}

#[test]
fn names_are_one_or_two_words() {
    let longest = "a".repeat(63);
    for name in ["a", "_a", "A9_", "app.user", "_._", longest.as_str(), &format!("{longest}.{longest}")] {
        assert_eq!(settings(&format!("{{'{name}': x}}")).len(), 1, "{name}");
    }
    let long = "a".repeat(64);
    for name in [
        "",
        ".",
        "a.",
        ".a",
        "a.b.c",
        "9a",
        "a.9",
        "a-b",
        "a b",
        " a",
        "a ",
        "a=b",
        "a;b",
        "@@a",
        "a\u{e9}",
        "\u{17f}ession_authorization",
        long.as_str(),
        &format!("a.{long}"),
        &format!("{long}.a"),
    ] {
        let message = refused(&format!("{{'{name}': x}}"));
        assert!(message.contains("is not the name of a setting"), "{name}: {message}");
    }
    assert!(refused(r#"{"a\0b": x}"#).contains("is not the name of a setting"));
    assert!(refused(r#"{"a\n": x}"#).contains("is not the name of a setting"));
}

#[test]
fn names_are_the_same_in_any_case() {
    assert_eq!(settings("{TimeZone: UTC, App.User: Jerry}"), settings("{timezone: UTC, app.user: Jerry}"));
    assert!(refused("{TimeZone: UTC, timezone: CET}").contains("field \"timezone\" appears twice"));
    assert!(refused("{timezone: UTC, TIMEZONE: UTC}").contains("field \"TIMEZONE\" appears twice"));
}

#[test]
fn settings_that_change_who_the_session_is_are_refused() {
    for name in ["role", "ROLE", "session_authorization", "Session_Authorization"] {
        let message = refused(&format!("{{{name}: postgres}}"));
        let start = format!("line 6: spec.options.db_session_settings.{name}: not supported: ");
        assert!(message.starts_with(&start) && message.contains("somebody else's"), "{message}");
    }
    assert!(refused("{password: x}").contains("change the user's password"));
}

#[test]
fn settings_that_load_code_are_refused() {
    for name in ["session_preload_libraries", "local_preload_libraries", "Local_Preload_Libraries"] {
        assert!(refused(&format!("{{{name}: x}}")).contains("would load code"), "{name}");
    }
}

#[test]
fn startup_parameters_are_no_settings() {
    for name in ["user", "database", "options", "replication", "Replication", "_pq_.x", "_PQ_.command"] {
        assert!(refused(&format!("{{{name}: x}}")).contains("a start-up parameter"), "{name}");
    }
}

#[test]
fn scopes_of_mysql_are_no_part_of_a_name() {
    for name in ["global.read_only", "GLOBAL.read_only", "persist.read_only", "persist_only.read_only"] {
        assert!(refused(&format!("{{{name}: off}}")).contains("beyond the session"), "{name}");
    }
    for name in ["session.sql_mode", "local.sql_mode"] {
        assert!(refused(&format!("{{{name}: ''}}")).contains("write the name alone"), "{name}");
    }
}

#[test]
fn names_that_merely_resemble_a_refused_one_are_settings() {
    let map = "{search_path: app, role_x: a, app.role: a, app.user: a, users: a, application_name: a}";
    assert_eq!(settings(map).len(), 6);
}

#[test]
fn values_are_short_and_hold_no_control_characters() {
    assert_eq!(settings(&format!("{{a: {}}}", "x".repeat(1024)))["a"].len(), 1024);
    assert!(refused(&format!("{{a: {}}}", "x".repeat(1025))).contains("too large: more than 1024 bytes"));
    assert!(refused(&format!("{{a: {}}}", "\u{e9}".repeat(513))).contains("too large: more than 1024 bytes"));
    for escape in ["\\0", "\\n", "\\r", "\\t", "\\e", "\\x7f", "\\u0085"] {
        let message = refused(&format!("{{a: \"x{escape}y\"}}"));
        assert!(message.contains("control characters are not allowed"), "{escape}: {message}");
    }
}

#[test]
fn a_variable_in_a_value_is_refused_since_nobody_would_expand_it() {
    assert!(refused("{app.user: '{{external.email}}'}").contains("variables are not expanded"));
    assert_eq!(settings(r#"{app.claims: '{"a": {"b": 1}}'}"#)["app.claims"], r#"{"a": {"b": 1}}"#);
}

#[test]
fn a_role_has_at_most_sixty_four_settings() {
    let map = |n: usize| format!("{{{}}}", (0..n).map(|i| format!("a{i}: x")).collect::<Vec<_>>().join(", "));
    assert_eq!(settings(&map(64)).len(), 64);
    assert!(refused(&map(65)).contains("db_session_settings.a64: too large: more than 64 settings"));
}

#[test]
fn no_settings_say_nothing() {
    assert!(settings("{}").is_empty());
    assert!(settings("").is_empty());
    let written = role(&option("db_session_settings: {}")).to_value();
    assert_eq!(written["spec"]["options"], json!({}));
}

#[test]
fn replication_is_a_truth_value_and_survives() {
    let given = |text: &str| role(&option(&format!("db_replication: {text}"))).spec.options.db_replication;
    assert_eq!(given("yes"), Some(true));
    assert_eq!(given("off"), Some(false));
    assert_eq!(given(""), None);
    assert!(error(&option("db_replication: database")).contains("is not true or false"));
    let resource = one(&option("db_replication: true")).resource;
    assert_eq!(one(&resource.to_yaml()).resource, resource);
}

#[test]
fn local_files_are_a_truth_value_and_survive() {
    let given = |text: &str| role(&option(&format!("db_local_infile: {text}"))).spec.options.db_local_infile;
    assert_eq!(given("yes"), Some(true));
    assert_eq!(given("off"), Some(false));
    assert_eq!(given(""), None);
    assert!(error(&option("db_local_infile: /home")).contains("is not true or false"));
    let resource = one(&option("db_local_infile: true")).resource;
    assert_eq!(one(&resource.to_yaml()).resource, resource);
}

#[test]
fn our_options_belong_under_options_alone() {
    assert!(error(&allow("db_replication: true")).contains("unknown field \"db_replication\""));
    assert!(error(&allow("db_local_infile: true")).contains("unknown field \"db_local_infile\""));
    assert!(error(&cap("db_session_settings: {}")).contains("unknown field \"db_session_settings\""));
}
