//! What is written reads back equal.

use super::*;

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
        include_str!("../../policy/evaluate/tests/roles.yaml"),
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
