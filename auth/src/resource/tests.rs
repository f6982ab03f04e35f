//! Files as people write them: what loads, what is refused and where, what comes out again.

mod fixtures;

use std::time::{Duration, SystemTime};

use serde_json::json;

use super::*;
use crate::policy::Template;

fn one(yaml: &str) -> Parsed {
    let mut documents = parse_documents(yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"));
    assert_eq!(documents.len(), 1);
    documents.remove(0)
}

fn role(yaml: &str) -> Role {
    match one(yaml).resource {
        Resource::Role(role) => role,
        other => panic!("{other:?}"),
    }
}

fn preference(yaml: &str) -> AuthPreference {
    match one(yaml).resource {
        Resource::AuthPreference(preference) => preference,
        other => panic!("{other:?}"),
    }
}

fn error(yaml: &str) -> String {
    match parse_documents(yaml) {
        Err(error) => error.to_string(),
        Ok(parsed) => panic!("accepted: {parsed:?}"),
    }
}

/// A role with one line in its `allow`; the line is line 6.
fn allow(line: &str) -> String {
    format!("kind: role\nversion: v6\nmetadata: {{name: r}}\nspec:\n  allow:\n    {line}\n")
}

/// A role with one line in its `options`; the line is line 6.
fn option(line: &str) -> String {
    format!("kind: role\nversion: v6\nmetadata: {{name: r}}\nspec:\n  options:\n    {line}\n")
}

/// A preference with one line in its `spec`; the line is line 5.
fn cap(line: &str) -> String {
    format!(
        "kind: cluster_auth_preference\nversion: v2\nmetadata: {{name: cluster-auth-preference}}\nspec:\n  {line}\n"
    )
}

fn texts(templates: &[Template]) -> Vec<&str> {
    templates.iter().map(Template::as_str).collect()
}

// What the documentation page shows

#[test]
fn the_roles_of_the_page_load() {
    let documents = parse_documents(fixtures::PAGE_ROLES).unwrap();
    let names: Vec<&str> = documents.iter().map(|parsed| parsed.resource.name()).collect();
    assert_eq!(names, ["access-dev", "access-prod"]);
    assert!(documents.iter().all(|parsed| parsed.notices.is_empty()));

    let Resource::Role(prod) = &documents[1].resource else { panic!("not a role") };
    assert_eq!(prod.version, RoleVersion::V6);
    assert_eq!(prod.spec.options.require_session_mfa, Some(true));
    assert_eq!(texts(&prod.spec.allow.logins), ["jerry"]);
    assert_eq!(prod.spec.allow.node_labels.as_ref().unwrap().0["env"][0].as_str(), "prod");
    assert_eq!(prod.spec.deny, Conditions::default());
}

#[test]
fn the_example_role_with_mfa_of_the_page_loads() {
    assert_eq!(role(fixtures::PAGE_EXAMPLE_ROLE).spec.options.require_session_mfa, Some(true));
}

#[test]
fn the_preference_of_the_page_loads_and_knows_security_keys() {
    let preference = preference(fixtures::PAGE_CAP);
    assert!(preference.require_session_mfa);
    assert_eq!(preference.second_factor, SecondFactor::On);
    assert!(preference.second_factor.allows_webauthn() && preference.second_factor.allows_otp());
}

// Unknown fields

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
fn a_role_as_teleport_exports_it_loads_and_survives() {
    let parsed = one(fixtures::EXPORTED_ROLE);
    assert_eq!(one(&parsed.resource.to_yaml()).resource, parsed.resource);
    let value = parsed.resource.to_value();
    assert_eq!(value["spec"]["options"]["cert_format"], "standard");
    assert_eq!(value["spec"]["options"]["idp"]["saml"]["enabled"], true);
    assert_eq!(value["metadata"]["id"], 1_686_000_000_000_000_000_u64);
    assert_eq!(value["spec"]["allow"]["namespaces"], json!(["default"]));
}

// Fields that would widen rights if they were ignored

#[test]
fn conditions_that_narrow_and_cannot_be_judged_are_refused() {
    for field in ["node_labels_expression", "db_labels_expression"] {
        let message = error(&allow(&format!("{field}: 'labels[\"env\"] == \"dev\"'")));
        assert!(message.starts_with(&format!("line 6: spec.allow.{field}: not supported: ")), "{message}");
        assert!(
            error(&allow("{}").replace("{}", "logins: [x]\n  deny: {F: x}").replace('F', field))
                .contains(field)
        );
    }
    assert!(error(&allow("require_session_join: [{name: x, count: 1}]")).contains("moderat"));
    assert!(one(&allow("node_labels_expression: ''")).notices.is_empty());
}

#[test]
fn hardware_key_requirements_are_refused_and_never_weakened() {
    for value in ["hardware_key", "hardware_key_touch", "hardware_key_pin", "hardware_key_touch_and_pin"] {
        let in_role = error(&option(&format!("require_session_mfa: {value}")));
        assert!(
            in_role.starts_with("line 6: spec.options.require_session_mfa: not supported: "),
            "{in_role}"
        );
        let in_cap = error(&cap(&format!("require_session_mfa: {value}")));
        assert!(in_cap.starts_with("line 5: spec.require_session_mfa: not supported: "), "{in_cap}");
    }
    assert!(error(&option("require_session_mfa: maybe")).contains("\"maybe\" is not true or false"));
    assert!(error(&option("require_session_mfa: [true]")).contains("expected a text, found a list"));
}

#[test]
fn device_trust_that_asks_for_nothing_is_kept_and_the_rest_refused() {
    assert_eq!(role(&option("device_trust_mode: off")).spec.options.kept["device_trust_mode"], "off");
    assert!(error(&option("device_trust_mode: required")).contains("no trusted devices"));
    assert!(error(&option("device_trust_mode: required-for-humans")).contains("no trusted devices"));
    assert!(error(&cap("device_trust: {mode: required}")).contains("spec.device_trust.mode: not supported"));
    let kept = preference(&cap("device_trust: {mode: optional}"));
    assert_eq!(kept.kept["device_trust"], json!({"mode": "optional"}));
}

#[test]
fn preferences_that_restrict_what_we_do_not_have_are_refused() {
    assert!(error(&cap("type: saml")).contains("no connectors"));
    assert!(error(&cap("allow_local_auth: false")).contains("nobody could log in"));
    assert!(error(&cap("webauthn: {attestation_allowed_cas: ['x']}")).contains("attestation"));
    assert!(error(&cap("webauthn: {attestation_denied_cas: ['x']}")).contains("attestation"));
    assert!(error(&cap("webauthn: {disabled: true}")).contains("second_factor: otp"));
    assert!(error(&cap("u2f: {device_attestation_cas: ['x']}")).contains("attestation"));
    assert!(error(&cap("hardware_key: {serial_number_validation: {enabled: true}}")).contains("attested"));
    assert!(error(&cap("second_factor: u2f")).contains("\"u2f\" is not a second factor"));
    assert!(preference(&cap("type: local")).kept.is_empty());
}

#[test]
fn logins_are_no_patterns_so_a_star_is_refused() {
    assert!(error(&allow("logins: ['*']")).starts_with("line 6: spec.allow.logins[0]: not supported: "));
    let deny = "kind: role\nversion: v6\nmetadata: {name: r}\nspec: {deny: {logins: ['*']}}\n";
    assert!(error(deny).contains("no wildcard"));
}

#[test]
fn namespaces_that_would_never_match_are_refused() {
    assert!(error(&allow("namespaces: [other]")).contains("the only namespace is default"));
    assert!(error(&allow("namespaces: []")).contains("the only namespace is default"));
    assert_eq!(role(&allow("namespaces: ['*']")).spec.allow.kept["namespaces"], json!(["*"]));
}

#[test]
fn locks_that_would_stop_nobody_are_refused() {
    let lock =
        |target: &str| format!("kind: lock\nversion: v2\nmetadata: {{name: l}}\nspec:\n  target: {target}\n");
    assert!(error(&lock("{}")).starts_with("line 5: spec.target: expected one of user"));
    assert!(error(&lock("{windows_desktop: x}")).contains("would stop nothing"));
    assert!(error(&lock("{user: jerry, access_request: x}")).contains("would stop nothing"));
    assert!(error(&lock("{mfa_device: key}")).contains("\"key\" is not the UUID of an MFA device"));
    assert!(error(&lock("{login: ''}")).contains("is not a login"));
    assert!(error(&lock("{node: a, server_id: b}")).contains("old name"));
    let Resource::Lock(lock) = one(&lock("{node: a}")).resource else { panic!("not a lock") };
    assert_eq!(lock.target.server_id.unwrap().as_str(), "a");
}

#[test]
fn secrets_are_refused_in_a_user() {
    let yaml = fixtures::USER.replace("  traits:", "  local_auth: {password_hash: xx}\n  traits:");
    assert!(error(&yaml).contains("spec.local_auth: not supported"));
}

#[test]
fn certificate_extensions_are_kept_and_restrictions_in_their_place_refused() {
    let given = role(&option("cert_extensions: [{type: ssh, mode: extension, name: a, value: b}]"));
    assert_eq!(given.spec.options.kept["cert_extensions"][0]["name"], "a");
    let message = error(&option("cert_extensions: [{mode: critical_option, name: force-command}]"));
    assert!(message.contains("cert_extensions[0].mode: \"critical_option\" is not extension"), "{message}");
}

#[test]
fn an_expiry_in_the_wrong_place_is_refused_and_gos_zero_time_is_none() {
    let at = |time: &str| fixtures::USER.replace("  traits:", &format!("  expires: '{time}'\n  traits:"));
    assert!(error(&at("2023-06-01T00:00:00Z")).contains("write metadata.expires"));
    let parsed = one(&at("0001-01-01T00:00:00Z"));
    assert_eq!(one(&parsed.resource.to_yaml()).resource, parsed.resource);
}

#[test]
fn labels_by_command_are_refused() {
    let database =
        fixtures::DATABASE.to_owned() + "  dynamic_labels: [{name: a, command: [date], period: 1m}]\n";
    assert!(error(&database).contains("spec.dynamic_labels: not supported"));
    let node = fixtures::NODE.to_owned() + "  cmd_labels: {a: {command: [date], period: 1m}}\n";
    assert!(error(&node).contains("spec.cmd_labels: not supported"));
}

#[test]
fn a_token_of_another_join_method_is_refused() {
    assert!(
        error(&fixtures::TOKEN.replace("join_method: token", "join_method: iam")).contains("join_method")
    );
    assert!(error(&fixtures::TOKEN.replace("[Node, Db]", "[Node, Proxy]")).contains("\"Proxy\" is not"));
    assert!(error(&fixtures::TOKEN.replace("[Node, Db]", "[]")).contains("at least one"));
}

// Values

#[test]
fn truth_is_read_as_yaml_1_1_writes_it() {
    for (text, truth) in [
        ("true", true),
        ("yes", true),
        ("Yes", true),
        ("on", true),
        ("\"true\"", true),
        ("'yes'", true),
        ("TRUE", true),
        ("false", false),
        ("no", false),
        ("off", false),
        ("\"false\"", false),
    ] {
        let role = role(&option(&format!("require_session_mfa: {text}")));
        assert_eq!(role.spec.options.require_session_mfa, Some(truth), "{text}");
    }
    assert_eq!(role(&option("require_session_mfa:")).spec.options.require_session_mfa, None);
    assert!(error(&option("require_session_mfa: 1")).contains("is not true or false"));
}

#[test]
fn second_factors_are_words_however_yaml_takes_them() {
    let factor = |text: &str| preference(&cap(text)).second_factor;
    assert_eq!(factor("second_factor: on"), SecondFactor::On);
    assert_eq!(factor("second_factor: \"on\""), SecondFactor::On);
    assert_eq!(factor("second_factor: true"), SecondFactor::On);
    assert_eq!(factor("second_factor: off"), SecondFactor::Off);
    assert_eq!(factor("second_factor: otp"), SecondFactor::Otp);
    assert_eq!(factor("second_factor: webauthn"), SecondFactor::Webauthn);
    assert_eq!(factor("second_factor: optional"), SecondFactor::Optional);
    assert_eq!(factor("second_factors: [webauthn]"), SecondFactor::Webauthn);
    assert_eq!(factor("second_factors: [otp, webauthn]"), SecondFactor::On);
    assert!(error(&cap("second_factors: [sso]")).contains("is not a second factor"));
    assert!(error(&cap("second_factors: []")).contains("list of second factors"));
    assert!(error(&cap("{second_factor: otp, second_factors: [webauthn]}")).contains("says something else"));
}

#[test]
fn a_scalar_is_a_list_of_one() {
    let lists = role(&allow("{logins: [jerry], db_users: ['*'], db_labels: {env: [prod]}}"));
    let scalars = role(&allow("{logins: jerry, db_users: '*', db_labels: {env: prod}}"));
    assert_eq!(lists, scalars);
    assert_eq!(scalars.to_value()["spec"]["allow"]["db_labels"], json!({"env": "prod"}));
}

#[test]
fn durations_are_read_as_go_writes_them() {
    let ttl =
        |text: &str| role(&option(&format!("max_session_ttl: {text}"))).spec.options.max_session_ttl.unwrap();
    assert_eq!(ttl("12h"), Duration::from_secs(12 * 3600));
    assert_eq!(ttl("1h30m"), Duration::from_secs(5400));
    assert_eq!(ttl("30m0s"), Duration::from_secs(1800));
    assert_eq!(ttl("1.5h"), Duration::from_secs(5400));
    assert_eq!(ttl("90s"), Duration::from_secs(90));
    assert_eq!(ttl("1500ms"), Duration::from_millis(1500));
    for wrong in [
        "12",
        "h",
        "-1h",
        "1d",
        "1h30",
        "never",
        "0s",
        "''",
        "1e9h",
        "99999999999h",
        "nan s",
        "0.1ms",
        "1..5h",
    ] {
        let message = error(&option(&format!("max_session_ttl: {wrong}")));
        assert!(message.starts_with("line 6: spec.options.max_session_ttl: "), "{wrong}: {message}");
    }
}

#[test]
fn never_and_zero_are_no_idle_timeout() {
    let idle =
        |text: &str| role(&option(&format!("client_idle_timeout: {text}"))).spec.options.client_idle_timeout;
    assert_eq!(idle("never"), Some(None));
    assert_eq!(idle("0s"), Some(None));
    assert_eq!(idle("0"), Some(None));
    assert_eq!(idle("15m"), Some(Some(Duration::from_secs(900))));
    assert_eq!(idle(""), None);
    assert!(error(&option("client_idle_timeout: 0.0001ms")).contains("is not a duration"));
}

#[test]
fn durations_are_written_as_go_writes_them() {
    for text in ["12h0m0s", "1h30m0s", "30m0s", "45s", "1.500s", "never"] {
        let value = role(&option(&format!("client_idle_timeout: {text}"))).to_value();
        assert_eq!(value["spec"]["options"]["client_idle_timeout"], text);
    }
}

#[test]
fn labels_that_mean_nothing_are_refused() {
    assert!(error(&allow("db_labels: {env: '^(dev$'}")).contains("spec.allow.db_labels.env: "));
    assert!(error(&allow("db_labels: {'*': dev}")).contains("only one meaning"));
    assert!(error(&allow("db_labels: {'*': ['*', dev]}")).contains("only one meaning"));
    assert!(
        error(&allow("db_labels: {'{{external.team}}': '*'}")).contains("variable in the name of a label")
    );
    assert!(error(&allow("db_labels: {env: []}")).contains("expected at least one value"));
    assert!(error(&allow("db_labels: {env: }")).contains("expected at least one value"));
    assert!(error(&allow("db_labels: [env]")).contains("expected a map, found a list"));
    assert!(error(&allow("db_labels: {env: {a: b}}")).contains("expected a text, found a map"));
}

#[test]
fn a_malformed_template_is_refused_where_it_stands() {
    let message = error(&allow("db_users:\n      - jerry\n      - '{{internal.user}}'"));
    assert!(
        message.starts_with("line 8: spec.allow.db_users[1]: unknown variable internal.user"),
        "{message}"
    );
    assert!(error(&allow("logins: '{{internal.logins'")).contains("template brackets"));
    assert!(error(&allow("db_labels: {env: '{{external.}}'}")).contains("spec.allow.db_labels.env"));
}

#[test]
fn rules_know_their_verbs() {
    let rules =
        role(&allow("rules: [{resources: [cap, roles, event], verbs: ['*'], where: 'x', actions: [log]}]"));
    assert_eq!(rules.spec.allow.rules[0].resources, ["cluster_auth_preference", "role", "event"]);
    assert_eq!(rules.spec.allow.rules[0].condition.as_deref(), Some("x"));
    assert!(
        error(&allow("rules: [{resources: [role], verbs: [write]}]")).contains("\"write\" is not a verb")
    );
    assert!(error(&allow("rules: [{resources: [role]}]")).contains("missing field \"verbs\""));
}

#[test]
fn kind_version_and_name_are_checked() {
    assert_eq!(
        error("kind: role\nversion: v8\nmetadata: {name: r}\n"),
        "line 2: version: \"v8\" is not a version of role: v3, v4, v5, v6 or v7"
    );
    assert!(error("kind: role\nmetadata: {name: r}\n").contains("missing field \"version\""));
    assert!(error("version: v6\nmetadata: {name: r}\n").contains("missing field \"kind\""));
    assert!(
        error("kind: roll\nversion: v6\nmetadata: {name: r}\n")
            .starts_with("line 1: kind: \"roll\" is not a kind")
    );
    assert!(error("kind: role\nversion: v6\nmetadata: {}\n").contains("metadata: missing field \"name\""));
    assert!(
        error("kind: role\nversion: v6\nmetadata:\n  name: 'a,b'\n")
            .starts_with("line 4: metadata.name: role name contains ','")
    );
    assert!(error("kind: user\nversion: v1\nmetadata: {name: u}\nspec: {}\n").contains("\"v1\" is not v2"));
    assert!(error("kind: db\nversion: v2\nmetadata: {name: u}\nspec: {}\n").contains("\"v2\" is not v3"));
    assert!(
        error(&cap("{}").replace("name: cluster-auth-preference", "name: mine"))
            .starts_with("line 3: metadata: \"mine\"")
    );
    assert!(
        error(&fixtures::LOCK.replace("name: ", "name: 'a/b' # ")).contains("resource name contains '/'")
    );
    assert!(
        error(&fixtures::USER.replace("[access-dev, access-prod]", "['a,b']"))
            .contains("spec.roles[0]: role name")
    );
}

#[test]
fn a_target_speaks_what_its_kind_can() {
    assert!(
        error(&fixtures::DATABASE.replace("postgres", "ssh"))
            .contains("\"ssh\" is not a protocol of databases")
    );
    assert!(error(&fixtures::DATABASE.replace("postgres", "oracle")).contains("postgres or mysql"));
}

#[test]
fn expiry_is_a_point_in_time() {
    let yaml = "kind: role\nversion: v6\nmetadata: {name: r, expires: \"2023-06-01T02:00:00+02:00\"}\n";
    let role = role(yaml);
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_685_577_600);
    assert_eq!(role.metadata.expires, Some(at));
    assert!(role.metadata.is_expired(at) && !role.metadata.is_expired(at - Duration::from_secs(1)));
    assert_eq!(role.to_value()["metadata"]["expires"], "2023-06-01T00:00:00Z");
    assert!(error(&yaml.replace("2023-06-01T02:00:00+02:00", "tomorrow")).contains("is not a time"));
}

// Files

#[test]
fn several_documents_in_one_file_are_all_read() {
    let file =
        format!("---\n{}---\n{}---\n\n---\n{}...\n", fixtures::USER, fixtures::LOCK, fixtures::PAGE_CAP);
    let kinds: Vec<Kind> =
        parse_documents(&file).unwrap().iter().map(|parsed| parsed.resource.kind()).collect();
    assert_eq!(kinds, [Kind::User, Kind::Lock, Kind::AuthPreference]);
    assert!(parse_documents("").unwrap().is_empty());
    assert!(parse_documents("# nothing\n---\n").unwrap().is_empty());
}

#[test]
fn the_line_of_an_error_in_a_later_document_counts_from_the_top() {
    let file = format!("{}---\n{}", fixtures::PAGE_CAP, allow("login: x"));
    let expected = fixtures::PAGE_CAP.lines().count() + 1 + 6;
    assert_eq!(parse_documents(&file).unwrap_err().line, Some(expected));
}

#[test]
fn json_is_read_as_yaml_too() {
    let role = role(fixtures::PAGE_EXAMPLE_ROLE);
    let json = Resource::Role(role.clone()).to_json();
    assert_eq!(one(&json).resource, Resource::Role(role));
}

#[test]
fn what_is_no_resource_is_refused() {
    assert_eq!(error("jerry"), "line 1: expected a map, found a single value");
    assert_eq!(error("- a\n- b\n"), "line 1: expected a map, found a list");
    assert!(error("a: [b\n").contains("syntax error"));
    assert!(error("? [a]\n: b\n").contains("expected a field name, found a list"));
    assert!(error("kind: role\nkind: user\n").starts_with("line 2: field \"kind\" appears twice"));
    assert!(error("kind: *nobody\n").contains("syntax error"));
}

#[test]
fn merge_keys_are_no_way_to_hide_a_field() {
    assert!(error(&allow("<<: {logins: [root]}")).contains("unknown field \"<<\""));
}

#[test]
fn aliases_are_expanded_and_their_cost_is_counted() {
    let shared = "kind: role\nversion: v6\nmetadata: {name: r}\nspec:\n  allow:\n    db_users: &names [a, b]\n    db_names: *names\n";
    assert_eq!(texts(&role(shared).spec.allow.db_names), ["a", "b"]);

    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for n in 1..9 {
        let before = format!("*a{}, ", n - 1).repeat(10);
        bomb.push_str(&format!("a{n}: &a{n} [{before}]\n"));
    }
    assert!(error(&bomb).contains("too large: more than 50000 values"));
}

#[test]
fn size_and_depth_are_bounded() {
    assert!(error(&"#".repeat((1 << 20) + 1)).contains("too large: more than 1048576 bytes"));
    assert!(
        error(&format!("{}{}", "[".repeat(200), "]".repeat(200))).contains("too large: more than 32 levels")
    );
    let blocks: String = (0..40).map(|n| format!("{}a:\n", " ".repeat(n))).collect();
    assert!(error(&blocks).contains("too large: more than 32 levels"));
}

#[test]
fn a_file_cut_anywhere_does_not_panic() {
    for text in [fixtures::EXPORTED_ROLE, fixtures::PAGE_ROLES, fixtures::LOCK, fixtures::FULL_CAP] {
        for end in (0..text.len()).filter(|&end| text.is_char_boundary(end)) {
            let _ = parse_documents(&text[..end]);
        }
    }
}

// Out and in again

#[test]
fn what_is_written_reads_back_equal_in_both_forms() {
    let files = [
        fixtures::PAGE_ROLES,
        fixtures::PAGE_EXAMPLE_ROLE,
        fixtures::PAGE_CAP,
        fixtures::EXPORTED_ROLE,
        fixtures::FULL_ROLE,
        fixtures::FULL_CAP,
        fixtures::USER,
        fixtures::TOKEN,
        fixtures::LOCK,
        fixtures::DATABASE,
        fixtures::NODE,
        include_str!("../policy/evaluate/tests/roles.yaml"),
    ];
    let presets = [preset::access(), preset::editor(), preset::auditor()].map(Resource::Role);
    let read =
        files.into_iter().flat_map(|file| parse_documents(file).unwrap()).map(|parsed| parsed.resource);
    for resource in read.chain(presets) {
        let yaml = resource.to_yaml();
        assert_eq!(one(&yaml).resource, resource, "{yaml}");
        assert_eq!(one(&yaml).resource.to_yaml(), yaml);
        assert_eq!(Resource::from_json(&resource.to_json()).unwrap(), resource);
    }
}

#[test]
fn the_default_preference_reads_back_equal() {
    let resource = Resource::AuthPreference(AuthPreference::default());
    assert_eq!(one(&resource.to_yaml()).resource, resource);
}

#[test]
fn yaml_comes_out_as_teleports_users_know_it() {
    let resource = one(fixtures::PAGE_CAP).resource;
    assert_eq!(resource.to_yaml(), fixtures::PAGE_CAP_WRITTEN);
    let resource = &parse_documents(fixtures::PAGE_ROLES).unwrap()[1].resource;
    assert_eq!(resource.to_yaml(), fixtures::ACCESS_PROD_WRITTEN);
}

#[test]
fn texts_that_look_like_something_else_stay_texts() {
    let yaml = allow(
        "{db_users: ['true', '007', 'null', '', '1.10', '*', ' a ', 'a: b', \"a\\nb\", '# x', 'yes'], db_labels: {'yes': 'on', '1': '2'}}",
    );
    let resource = one(&yaml).resource;
    assert_eq!(one(&resource.to_yaml()).resource, resource, "{}", resource.to_yaml());
    let Resource::Role(role) = resource else { panic!("not a role") };
    assert_eq!(texts(&role.spec.allow.db_users)[..5], ["true", "007", "null", "", "1.10"]);
}

#[test]
fn a_tokens_secret_is_not_in_its_debug_form() {
    let resource = one(fixtures::TOKEN).resource;
    assert!(!format!("{resource:?}").contains(resource.name()));
}

#[test]
fn kinds_are_read_as_people_type_them() {
    for (word, kind) in [
        ("cap", Kind::AuthPreference),
        ("cluster_auth_preference", Kind::AuthPreference),
        ("roles", Kind::Role),
        ("user", Kind::User),
        ("tokens", Kind::Token),
        ("db", Kind::Database),
        ("databases", Kind::Database),
        ("node", Kind::Node),
        ("locks", Kind::Lock),
    ] {
        assert_eq!(Kind::parse(word), Some(kind), "{word}");
    }
    assert!(Kind::ALL.iter().all(|&kind| Kind::parse(kind.as_str()) == Some(kind)));
    assert_eq!(Kind::parse("Role"), None);
}
