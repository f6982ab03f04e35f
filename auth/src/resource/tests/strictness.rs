//! Nothing unknown passes, and what has no effect is said and kept.

use super::*;

#[test]
fn an_unknown_field_is_named_with_its_line_and_what_is_known_there() {
    let message = error(&allow("login: [jerry]"));
    assert!(message.starts_with("line 6: spec.allow: unknown field \"login\"; known here: "), "{message}");
    assert!(message.contains("db_labels") && message.contains("logins"), "{message}");
}

#[test]
fn unknown_fields_are_refused_at_every_level() {
    assert!(
        error("kind: role\nversion: v6\nmetadata: {name: r}\nspecs: {}\n")
            .starts_with("line 4: unknown field \"specs\"")
    );
    assert!(
        error("kind: role\nversion: v6\nmetadata: {name: r}\nspec:\n  allows: {}\n")
            .starts_with("line 5: spec: ")
    );
    assert!(
        error("kind: role\nversion: v6\nmetadata:\n  name: r\n  label: {}\n")
            .starts_with("line 5: metadata: ")
    );
    assert!(
        error(&option("require_mfa: true"))
            .starts_with("line 6: spec.options: unknown field \"require_mfa\"")
    );
    assert!(
        error(&option("record_session: {defualt: strict}"))
            .starts_with("line 6: spec.options.record_session: ")
    );
    assert!(error(&allow("rules: [{resources: [role], verb: [list]}]")).contains("spec.allow.rules[0]"));
    assert!(error(&cap("require_mfa: true")).starts_with("line 5: spec: unknown field \"require_mfa\""));
    assert!(error(&cap("webauthn: {rpid: x}")).contains("spec.webauthn: unknown field \"rpid\""));
    for kind in [fixtures::USER, fixtures::TOKEN, fixtures::LOCK, fixtures::DATABASE, fixtures::NODE] {
        let misspelt = kind.replacen("spec:\n", "spec:\n  nonesuch: 1\n", 1);
        assert!(error(&misspelt).contains("spec: unknown field \"nonesuch\""), "{misspelt}");
    }
}

#[test]
fn from_json_is_as_strict() {
    let error = Resource::from_json(
        r#"{"kind":"role","version":"v6","metadata":{"name":"r"},"spec":{"allow":{"login":["x"]}}}"#,
    )
    .unwrap_err();
    assert_eq!(error.line, None);
    assert_eq!(error.field, "spec.allow");
    assert!(matches!(error.problem, Problem::UnknownField { field, .. } if field == "login"));
    assert!(matches!(Resource::from_json("{").unwrap_err().problem, Problem::Syntax(_)));
}

#[test]
fn a_field_that_json_has_twice_is_refused() {
    for spec in [
        r#"{"deny":{"logins":["root"]},"deny":{}}"#,
        r#"{"deny":{"logins":["root"],"log\u0069ns":[]}}"#,
        r#"{"allow":{"db_labels":{"env":"dev","env":"prod"}}}"#,
    ] {
        let json = format!(r#"{{"kind":"role","version":"v6","metadata":{{"name":"r"}},"spec":{spec}}}"#);
        let error = Resource::from_json(&json).unwrap_err().to_string();
        assert!(error.contains("appears twice"), "{error}");
    }
}

// Known fields that we do not act on

#[test]
fn known_fields_without_effect_are_reported_with_their_line_and_kept() {
    let yaml = allow("kubernetes_groups: [dev]")
        + "    app_labels: {env: dev}\n  deny:\n    host_sudoers: ['ALL']\n";
    let parsed = one(&yaml);
    assert_eq!(
        parsed.notices,
        [
            "line 7: spec.allow.app_labels is kept but not acted on",
            "line 6: spec.allow.kubernetes_groups is kept but not acted on",
            "line 9: spec.deny.host_sudoers is kept but not acted on",
        ]
    );
    let value = parsed.resource.to_value();
    assert_eq!(value["spec"]["allow"]["kubernetes_groups"], json!(["dev"]));
    assert_eq!(value["spec"]["allow"]["app_labels"], json!({"env": "dev"}));
    assert_eq!(value["spec"]["deny"]["host_sudoers"], json!(["ALL"]));
    assert_eq!(one(&parsed.resource.to_yaml()).resource, parsed.resource);
}

#[test]
fn kept_values_that_say_nothing_are_not_reported() {
    let yaml = option("{create_host_user: false, cert_extensions: [], desktop_clipboard: true}");
    assert_eq!(one(&yaml).notices, ["line 6: spec.options.desktop_clipboard is kept but not acted on"]);
}

#[test]
fn what_expects_something_of_ssh_that_is_not_done_is_reported_and_kept() {
    let parsed = one(&option("enhanced_recording: [disk]"));
    assert_eq!(parsed.notices, ["line 6: spec.options.enhanced_recording is kept but not acted on"]);
    let value = json!({"enhanced_recording": ["disk"]});
    assert_eq!(parsed.resource.to_value()["spec"]["options"], value);
    assert_eq!(one(&parsed.resource.to_yaml()).resource, parsed.resource);
    assert_eq!(one(&option("enhanced_recording: []")).notices, [""; 0]);
}

#[test]
fn options_that_are_enforced_are_not_reported() {
    for line in [
        "max_session_ttl: 8h",
        "client_idle_timeout: 5m",
        "disconnect_expired_cert: true",
        "max_connections: 2",
        "require_session_mfa: true",
        "mfa_verification_interval: 10m",
        "lock: strict",
        "pin_source_ip: true",
        "db_session_settings: {statement_timeout: 30s}",
        "db_replication: true",
        "db_local_infile: true",
        "max_sessions: 3",
        "port_forwarding: no",
        "ssh_file_copy: off",
        "forward_agent: true",
        "permit_x11_forwarding: true",
        "record_session: {default: strict}",
        "record_session: {default: best_effort, ssh: strict}",
    ] {
        assert_eq!(one(&option(line)).notices, [""; 0], "{line}");
    }
}

#[test]
fn presets_say_nothing_that_is_not_acted_on() {
    for role in [preset::access(), preset::editor(), preset::auditor()] {
        assert_eq!(one(&Resource::Role(role).to_yaml()).notices, [""; 0]);
    }
}

#[test]
fn a_role_as_teleport_exports_it_loads_and_survives() {
    let parsed = one(fixtures::EXPORTED_ROLE);
    assert_eq!(one(&parsed.resource.to_yaml()).resource, parsed.resource);
    let value = parsed.resource.to_value();
    assert_eq!(value["spec"]["options"]["cert_format"], "standard");
    assert_eq!(value["spec"]["options"]["idp"]["saml"]["enabled"], true);
    assert_eq!(value["metadata"]["id"], 1_686_000_000_000_000_000_u64);
    assert_eq!(value["spec"]["allow"]["namespaces"], json!(["default"]));
}
