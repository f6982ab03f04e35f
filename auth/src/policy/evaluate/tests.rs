//! The table of decisions (`tests/cases.txt`), and what a table cannot say.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use super::*;
use crate::{
    identity::{RoleName, TargetName, Traits},
    policy::PolicyError,
    resource::{AuthPreference, Resource, Role, parse_documents, preset},
};

const ROLES: &str = include_str!("tests/roles.yaml");
const CASES: &str = include_str!("tests/cases.txt");

static KNOWN: LazyLock<BTreeMap<String, Arc<Role>>> = LazyLock::new(|| {
    let written = parse_documents(ROLES).unwrap().into_iter().map(|parsed| match parsed.resource {
        Resource::Role(role) => role,
        other => panic!("{other:?}"),
    });
    written
        .chain([preset::access(), preset::editor(), preset::auditor()])
        .map(|role| (role.name().to_string(), Arc::new(role)))
        .collect()
});

fn traits(of: &str) -> Traits {
    let pairs: &[(&str, &[&str])] = match of {
        "nobody" => &[],
        "ann" => &[
            ("logins", &["ann", "bad login", "x,root", "-oops"]),
            ("db_users", &["ann"]),
            ("db_names", &["app"]),
            ("team", &["red", "blue", ""]),
            ("email", &["broken", "Ann <ann@example.com>"]),
            ("groups", &["other", "db-reader"]),
            ("odd name", &["odd"]),
            ("forbidden", &["root"]),
        ],
        "wild" => &[("db_users", &["*"]), ("db_names", &["*"]), ("logins", &["ann"])],
        "banned" => &[("banned_team", &["red"])],
        "broken" => &[("banned_team", &["^($"]), ("team", &["^($", "^("])],
        other => panic!("no such person: {other}"),
    };
    pairs
        .iter()
        .map(|(name, values)| ((*name).to_owned(), values.iter().map(|&v| v.to_owned()).collect()))
        .collect()
}

fn target(text: &str) -> Target {
    let (protocol, labels) = text.split_once(' ').unwrap_or((text, ""));
    let (kind, protocol) = match protocol {
        "pg" => (TargetKind::Database, Protocol::Postgres),
        "my" => (TargetKind::Database, Protocol::Mysql),
        "ssh" => (TargetKind::Node, Protocol::Ssh),
        other => panic!("no such protocol: {other}"),
    };
    let labels = labels.split(',').filter(|pair| !pair.is_empty()).map(|pair| {
        let (key, value) = pair.split_once('=').unwrap();
        (key.to_owned(), value.to_owned())
    });
    Target { kind, name: TargetName::new("target").unwrap(), protocol, labels: labels.collect() }
}

fn login(text: &str, protocol: Protocol) -> Login {
    let text = text.trim_matches('"');
    if let Some(login) = text.strip_prefix("ssh:") {
        return Login::Node { login: login.to_owned() };
    }
    match text.split_once('/') {
        Some((user, name)) => Login::Database { user: user.to_owned(), name: name.to_owned() },
        None if protocol == Protocol::Ssh => Login::Node { login: text.to_owned() },
        None => Login::Database { user: text.to_owned(), name: String::new() },
    }
}

fn describe(decision: Result<Decision, PolicyError>) -> String {
    match decision {
        Ok(Decision::Allow { role }) => format!("allow {role}"),
        Ok(Decision::MfaRequired { by: MfaRequiredBy::Cluster }) => "mfa cluster".to_owned(),
        Ok(Decision::MfaRequired { by: MfaRequiredBy::Role(role) }) => format!("mfa {role}"),
        Ok(Decision::Deny { by: DeniedBy::Role { role, list } }) => {
            format!("deny {role} by {}", list.as_str())
        }
        Ok(Decision::Deny { by: DeniedBy::NothingMatched }) => "nothing".to_owned(),
        Err(PolicyError::UnknownRole(role)) => format!("unknown {role}"),
        Err(PolicyError::SettingConflict { setting, first, second }) => {
            format!("conflict {first} {second} over {setting}")
        }
    }
}

/// A question and the roles to ask, as a line of the table writes them.
fn question(
    roles: &str,
    target_text: &str,
    login_text: &str,
    mfa: MfaStatus,
) -> (Result<RoleSet, PolicyError>, Access) {
    let mut preference = AuthPreference::default();
    let mut person = "nobody";
    let mut names = Vec::new();
    for word in roles.split_whitespace() {
        match word.strip_prefix('@') {
            Some(who) => person = who,
            None if word == "cluster-mfa" => preference.require_session_mfa = true,
            None => names.push(RoleName::new(word).unwrap()),
        }
    }
    let traits = traits(person);
    let set = RoleSet::resolve(&names, &traits, &|name| KNOWN.get(name.as_str()).cloned(), &preference);
    let target = target(target_text);
    let login = login(login_text, target.protocol);
    (set, Access { roles: names, traits, target: Arc::new(target), login, mfa })
}

fn decide(roles: &str, target: &str, login: &str, mfa: MfaStatus) -> Decision {
    let (set, access) = question(roles, target, login, mfa);
    evaluate(&set.unwrap(), &access)
}

#[test]
fn every_case_of_the_table_is_decided_as_it_says_and_by_the_role_it_says() {
    let mut failures = Vec::new();
    let mut claims = std::collections::BTreeSet::new();
    for line in CASES.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        let columns: Vec<&str> = line.split('|').map(str::trim).collect();
        let [claim, roles, target, login, touch, expected] = columns[..] else {
            panic!("not six columns: {line}");
        };
        assert!(claims.insert(claim), "claimed twice: {claim}");
        let mfa = match touch {
            "yes" => MfaStatus::Verified,
            "no" => MfaStatus::NotVerified,
            other => panic!("touch is yes or no, not {other}"),
        };
        let (set, access) = question(roles, target, login, mfa);
        let decision = describe(set.map(|set| evaluate(&set, &access)));
        if decision != expected {
            failures.push(format!("{claim}: expected {expected}, decided {decision}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(claims.len() >= 150, "only {} cases", claims.len());
}

#[test]
fn every_role_of_the_table_is_used_by_it() {
    for parsed in parse_documents(ROLES).unwrap() {
        let name = parsed.resource.name().to_owned();
        assert!(CASES.split_whitespace().any(|word| word == name), "{name} is not used");
    }
}

#[test]
fn a_touch_never_takes_a_right_away() {
    for line in CASES.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let columns: Vec<&str> = line.split('|').map(str::trim).collect();
        let (set, access) = question(columns[1], columns[2], columns[3], MfaStatus::NotVerified);
        let Ok(set) = set else { continue };
        let touched = evaluate(&set, &Access { mfa: MfaStatus::Verified, ..access.clone() });
        assert!(!matches!(touched, Decision::MfaRequired { .. }), "asked again after the touch: {line}");
        if let Decision::Allow { role } = evaluate(&set, &access) {
            assert_eq!(touched, Decision::Allow { role }, "{line}");
        }
    }
}

/// The decision about a name, for somebody who may be anyone at any database but `forbidden`.
fn asked_but_denied(forbidden: &str, protocol: Protocol, user: &str, name: &str) -> Decision {
    let role = format!(
        "kind: role\nversion: v6\nmetadata: {{name: any}}\nspec:\n  allow: {{db_labels: {{'*': '*'}}, db_users: ['*'], \
         db_names: ['*']}}\n  deny: {{db_users: [{forbidden}], db_names: [{forbidden}]}}\n"
    );
    let Resource::Role(role) = parse_documents(&role).unwrap().remove(0).resource else { panic!("no role") };
    let (role, names) = (Arc::new(role), vec![RoleName::new("any").unwrap()]);
    let known = |_: &RoleName| Some(Arc::clone(&role));
    let roles = RoleSet::resolve(&names, &Traits::new(), &known, &AuthPreference::default()).unwrap();
    let access = Access {
        roles: names,
        traits: Traits::new(),
        target: Arc::new(Target {
            kind: TargetKind::Database,
            name: TargetName::new("db").unwrap(),
            protocol,
            labels: BTreeMap::new(),
        }),
        login: Login::Database { user: user.to_owned(), name: name.to_owned() },
        mfa: MfaStatus::NotVerified,
    };
    evaluate(&roles, &access)
}

#[test]
fn a_name_that_the_database_would_cut_to_a_denied_one_is_nobodys() {
    const NOBODYS: Decision = Decision::Deny { by: DeniedBy::NothingMatched };
    let (postgres, mysql) = ("p".repeat(63), "ü".repeat(32));
    let longer = |name: &str| format!("{name}x");
    for (user, name) in [(longer(&postgres), "shop".to_owned()), ("app".to_owned(), longer(&postgres))] {
        assert_eq!(asked_but_denied(&postgres, Protocol::Postgres, &user, &name), NOBODYS);
    }
    assert_eq!(asked_but_denied(&mysql, Protocol::Mysql, &longer(&mysql), ""), NOBODYS);
    for (protocol, forbidden) in [(Protocol::Postgres, &postgres), (Protocol::Mysql, &mysql)] {
        let denied = asked_but_denied(forbidden, protocol, forbidden, "shop");
        assert!(matches!(denied, Decision::Deny { by: DeniedBy::Role { .. } }), "{protocol}");
        let whole = asked_but_denied("other", protocol, forbidden, "shop");
        assert!(matches!(whole, Decision::Allow { .. }), "{protocol}: as long as may be");
    }
}

#[test]
fn a_name_that_mysql_would_take_out_of_its_quotes_is_nobodys() {
    let asked = |protocol, user: &str| asked_but_denied("root", protocol, user, "shop");
    for quoted in ["'root'", "''", "'other'"] {
        let nobodys = Decision::Deny { by: DeniedBy::NothingMatched };
        assert_eq!(asked(Protocol::Mysql, quoted), nobodys, "{quoted}");
        assert!(matches!(asked(Protocol::Postgres, quoted), Decision::Allow { .. }), "{quoted}");
    }
    for whole in ["'", "'root", "o'neill", "\"root\""] {
        assert!(matches!(asked(Protocol::Mysql, whole), Decision::Allow { .. }), "{whole}");
    }
}

#[test]
fn one_more_role_that_only_denies_never_gives_a_right() {
    for line in CASES.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let columns: Vec<&str> = line.split('|').map(str::trim).collect();
        let roles = format!("{} deny-everything", columns[1]);
        let (set, access) = question(&roles, columns[2], columns[3], MfaStatus::Verified);
        let Ok(set) = set else { continue };
        assert!(matches!(evaluate(&set, &access), Decision::Deny { .. }), "{line}");
    }
}

#[test]
fn roles_resolved_for_somebody_else_give_nothing() {
    let (set, access) = question("dba", "pg", "jerry/app", MfaStatus::Verified);
    let set = set.unwrap();
    let nothing = Decision::Deny { by: DeniedBy::NothingMatched };

    let other_roles = Access { roles: vec![RoleName::new("access-dev").unwrap()], ..access.clone() };
    let other_traits = Access { traits: traits("ann"), ..access.clone() };

    assert!(matches!(evaluate(&set, &access), Decision::Allow { .. }));
    assert_eq!(evaluate(&set, &other_roles), nothing);
    assert_eq!(evaluate(&set, &other_traits), nothing);
}

#[test]
fn an_explanation_has_one_line_a_role_and_says_why() {
    let roles = "access-dev no-labels two-keys no-root prod-plain access-prod no-prod";
    let (set, access) = question(roles, "pg env=prod,team=red", "writer/app", MfaStatus::NotVerified);

    let explanation = explain(&set.unwrap(), &access);

    assert_eq!(explanation.decision.to_string(), "denied: role no-prod forbids it in deny.labels");
    assert_eq!(
        explanation.reasons,
        [
            "role access-dev: db_labels: no value match: got 'prod' want: 'dev'",
            "role no-labels: db_labels: no match, empty selector",
            "role two-keys: db_labels: no value match: got 'prod' want: 'dev'",
            "role no-root: db_labels: no match, empty selector",
            "role prod-plain: db_users: no value match: 'writer' is not listed",
            "role access-prod: db_users: no value match: 'writer' is not listed",
            "role no-prod: deny matches by db_labels",
        ]
    );
}

#[test]
fn an_explanation_names_the_missing_label_and_the_role_that_asks() {
    let (set, access) = question("access-prod dba any-env", "pg", "jerry/app", MfaStatus::NotVerified);
    let reasons = explain(&set.unwrap(), &access).reasons;
    assert_eq!(reasons[0], "role access-prod: db_labels: no key match: 'env'");
    assert_eq!(reasons[1], "role dba: allow matches");

    let (set, access) = question("access-dev access-prod", "ssh env=prod", "jerry", MfaStatus::NotVerified);
    let explanation = explain(&set.unwrap(), &access);
    assert_eq!(explanation.decision.to_string(), "MFA required by role access-prod");
    assert_eq!(explanation.reasons[1], "role access-prod: allow matches, and asks for MFA");
}

#[test]
fn the_deciding_role_is_at_hand() {
    let allowed = decide("access-dev", "pg env=dev", "jerry/app", MfaStatus::NotVerified);
    let nothing = decide("access-dev", "pg env=prod", "jerry/app", MfaStatus::NotVerified);
    assert_eq!(allowed.role().map(RoleName::as_str), Some("access-dev"));
    assert_eq!(nothing.role(), None);
}
