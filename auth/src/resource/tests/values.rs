//! How texts become truth values, durations, labels, names.

use super::*;

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

#[test]
fn a_time_that_is_in_no_year_of_four_digits_is_refused() {
    let yaml = |time: &str| format!("kind: role\nversion: v6\nmetadata: {{name: r, expires: \"{time}\"}}\n");
    for time in ["9999-12-31T23:59:59-01:00", "0000-01-01T00:00:00+01:00"] {
        assert!(error(&yaml(time)).contains("is not a time"), "{time}");
    }
    for time in ["9999-12-31T23:59:59Z", "0000-01-01T00:00:00Z"] {
        assert_eq!(role(&yaml(time)).to_value()["metadata"]["expires"], time);
    }
}
