//! Files as people write them: what loads, what is refused and where, what comes out again.

mod db_settings;
mod files;
mod fixtures;
mod pages;
mod refusals;
mod round_trip;
mod strictness;
mod values;

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
