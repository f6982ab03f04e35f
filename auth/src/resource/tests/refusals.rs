//! Fields whose being ignored would give people more than was meant.

use super::*;

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
