use std::collections::BTreeMap;

use super::*;
use crate::{
    identity::{Protocol, TargetName},
    resource::{Resource, parse_documents},
};

/// The set of roles whose `allow` and `deny` are these, one line each.
fn set(roles: &[&str], traits: &Traits) -> RoleSet {
    let mut known = BTreeMap::new();
    for (n, spec) in roles.iter().enumerate() {
        let yaml = format!("kind: role\nversion: v6\nmetadata: {{name: role-{n}}}\nspec: {{{spec}}}\n");
        let Resource::Role(role) = parse_documents(&yaml).unwrap().remove(0).resource else {
            panic!("not a role");
        };
        known.insert(role.name().clone(), Arc::new(role));
    }
    let names: Vec<RoleName> = known.keys().cloned().collect();
    RoleSet::resolve(&names, traits, &|name| known.get(name).cloned(), &AuthPreference::default()).unwrap()
}

fn database(env: &str) -> Target {
    Target {
        kind: TargetKind::Database,
        name: TargetName::new("pg").unwrap(),
        protocol: Protocol::Postgres,
        labels: BTreeMap::from([("env".to_owned(), env.to_owned())]),
    }
}

fn none() -> Traits {
    Traits::new()
}

#[test]
fn a_target_is_covered_by_labels_alone() {
    let roles = set(&["allow: {db_labels: {env: dev}}", "deny: {db_users: ['*']}"], &none());
    assert!(roles.covers(&database("dev")));
    assert!(!roles.covers(&database("prod")));
}

#[test]
fn a_target_that_labels_deny_is_not_covered() {
    let roles = set(&["allow: {db_labels: {'*': '*'}}", "deny: {db_labels: {env: prod}}"], &none());
    assert!(roles.covers(&database("dev")));
    assert!(!roles.covers(&database("prod")));
    assert_eq!(roles.allowed_db_users(&database("prod")), AllowedValues::default());
}

#[test]
fn allowed_values_come_from_the_roles_that_cover_the_target_sorted_and_once() {
    let roles = set(
        &[
            "allow: {db_labels: {env: dev}, db_users: [bob, alice], db_names: ['*']}",
            "allow: {db_labels: {env: '*'}, db_users: [alice], db_names: [app]}",
            "allow: {db_labels: {env: prod}, db_users: [admin]}",
        ],
        &none(),
    );
    assert_eq!(roles.allowed_db_users(&database("dev")).allowed, ["alice", "bob"]);
    assert_eq!(roles.allowed_db_users(&database("prod")).allowed, ["admin", "alice"]);
    assert_eq!(roles.allowed_db_names(&database("dev")).allowed, ["*", "app"]);
}

#[test]
fn denied_values_come_from_every_role() {
    let roles = set(
        &[
            "allow: {db_labels: {env: dev}, db_users: ['*']}",
            "deny: {db_users: [root]}",
            "deny: {db_users: [admin, root], db_names: [mysql]}",
        ],
        &none(),
    );
    let users = roles.allowed_db_users(&database("dev"));
    assert_eq!(
        (users.allowed, users.denied),
        (vec!["*".to_owned()], vec!["admin".to_owned(), "root".to_owned()])
    );
    assert_eq!(roles.allowed_db_names(&database("dev")).denied, ["mysql"]);
}

#[test]
fn allowed_values_are_expanded() {
    let traits = Traits::from([
        ("db_users".to_owned(), vec!["ann".to_owned(), "ann_rw".to_owned()]),
        ("logins".to_owned(), vec!["ann".to_owned(), "a,root".to_owned()]),
    ]);
    let spec = "allow: {db_labels: {'*': '*'}, node_labels: {'*': '*'}, \
                db_users: ['{{internal.db_users}}'], logins: ['{{internal.logins}}']}";
    let roles = set(&[spec], &traits);
    let node = Target { kind: TargetKind::Node, protocol: Protocol::Ssh, ..database("dev") };
    assert_eq!(roles.allowed_db_users(&database("dev")).allowed, ["ann", "ann_rw"]);
    assert_eq!(roles.allowed_logins(&node).allowed, ["ann"]);
}

#[test]
fn a_rule_gives_its_verbs_on_its_resources() {
    let roles = set(&["allow: {rules: [{resources: [role, users], verbs: [list, read]}]}"], &none());
    assert!(roles.allows_rule("role", "list"));
    assert!(roles.allows_rule("user", "readnosecrets"));
    assert!(!roles.allows_rule("role", "create"));
    assert!(!roles.allows_rule("token", "list"));
}

#[test]
fn a_star_is_every_resource_and_every_verb() {
    let roles = set(&["allow: {rules: [{resources: ['*'], verbs: ['*']}]}"], &none());
    assert!(roles.allows_rule("lock", "delete"));
    let roles = set(&["allow: {rules: [{resources: ['*'], verbs: [list]}]}"], &none());
    assert!(roles.allows_rule("lock", "list") && !roles.allows_rule("lock", "delete"));
}

#[test]
fn a_denied_rule_goes_before_an_allowed_one() {
    let all = "allow: {rules: [{resources: ['*'], verbs: ['*']}]}";
    let roles = set(&[all, "deny: {rules: [{resources: [role], verbs: [create, update]}]}"], &none());
    assert!(!roles.allows_rule("role", "create"));
    assert!(roles.allows_rule("role", "delete") && roles.allows_rule("user", "create"));
    let roles = set(&[all, "deny: {rules: [{resources: ['*'], verbs: ['*']}]}"], &none());
    assert!(!roles.allows_rule("cluster_auth_preference", "read"));
}

#[test]
fn a_rule_with_a_condition_never_grants_and_always_denies() {
    let allow = "allow: {rules: [{resources: [session], verbs: [list], where: 'true'}]}";
    assert!(!set(&[allow], &none()).allows_rule("session", "list"));
    let all = "allow: {rules: [{resources: ['*'], verbs: ['*']}]}";
    let deny = "deny: {rules: [{resources: [session], verbs: [list], where: 'false'}]}";
    assert!(!set(&[all, deny], &none()).allows_rule("session", "list"));
}

#[test]
fn everybody_may_read_the_authentication_preference_and_change_nothing() {
    let roles = set(&[], &none());
    assert!(roles.allows_rule("cluster_auth_preference", "read"));
    assert!(!roles.allows_rule("cluster_auth_preference", "update"));
    for resource in ["role", "user", "token", "lock", "db", "node", "event", "*"] {
        for verb in ["list", "read", "create", "update", "delete", "*"] {
            assert!(!roles.allows_rule(resource, verb), "{verb} {resource}");
        }
    }
}

#[test]
fn presets_administer_as_they_say() {
    let roles = |role: Role| {
        let name = role.name().clone();
        let role = Arc::new(role);
        RoleSet::resolve(&[name], &none(), &|_| Some(role.clone()), &AuthPreference::default()).unwrap()
    };
    let editor = roles(preset::editor());
    assert!(!editor.allows_rule("cert_authority", "create"));
    assert!(editor.allows_rule("role", "create") && editor.allows_rule("token", "delete"));
    let auditor = roles(preset::auditor());
    assert!(auditor.allows_rule("event", "list") && !auditor.allows_rule("role", "list"));
    let access = roles(preset::access());
    assert!(!access.allows_rule("event", "list") && !access.allows_rule("role", "read"));
}

#[test]
fn an_unknown_role_is_an_error_that_names_it() {
    let name = RoleName::new("nonesuch").unwrap();
    let error = RoleSet::resolve(&[name], &none(), &|_| None, &AuthPreference::default()).unwrap_err();
    assert_eq!(error.to_string(), "role nonesuch does not exist");
}
