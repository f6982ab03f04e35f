//! What the documentation shows is what we read.

use std::collections::BTreeSet;

use super::*;

const ADMINISTRATION: &str = include_str!("../../../../docs/administration.md");

/// The blocks of YAML on a page.
fn blocks(page: &str) -> Vec<&str> {
    page.split("```yaml\n").skip(1).map(|rest| rest.split_once("```").unwrap().0).collect()
}

#[test]
fn the_preference_that_the_documentation_shows_is_read_without_a_remark() {
    let page = include_str!("../../../../docs/mfa.md");
    let (_, rest) = page.split_once("```yaml\n").unwrap();
    let (yaml, _) = rest.split_once("```").unwrap();
    let parsed = one(yaml);
    assert!(parsed.notices.is_empty(), "{:?}", parsed.notices);
    assert_eq!(preference(yaml).webauthn_rp_id.as_deref(), Some("example.com"));
}

#[test]
fn the_resources_that_administrators_are_shown_are_read_without_a_remark() {
    let shown: Vec<Parsed> =
        blocks(ADMINISTRATION).into_iter().flat_map(|yaml| parse_documents(yaml).unwrap()).collect();
    let kinds: Vec<Kind> = shown.iter().map(|parsed| parsed.resource.kind()).collect();
    assert_eq!(kinds, [Kind::Role, Kind::Role, Kind::Role, Kind::AuthPreference, Kind::Lock]);
    for Parsed { resource, notices } in &shown {
        assert!(notices.is_empty(), "{}: {notices:?}", resource.name());
    }
}

#[test]
fn the_page_of_administrators_has_every_option_that_is_acted_on_and_no_other() {
    let (_, table) = ADMINISTRATION.split_once("| option |").unwrap();
    let (table, _) = table.split_once("\n\n").unwrap();
    let described: BTreeSet<&str> =
        table.lines().filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0)).collect();

    let Err(ResourceError { problem: Problem::UnknownField { known, .. }, .. }) =
        parse_documents(&option("no_such_option: true"))
    else {
        panic!("an unknown option was read");
    };
    let acted_on: BTreeSet<&str> = known.into_iter().filter(|name| is_acted_on(name)).collect();
    assert_eq!(described, acted_on);
}

/// Whether some value of it leaves something behind beside what is kept.
fn is_acted_on(name: &str) -> bool {
    ["true", "1h", "1", "strict", "{default: strict}"].into_iter().any(|value| {
        let Ok(mut documents) = parse_documents(&option(&format!("{name}: {value}"))) else { return false };
        let Resource::Role(Role { spec: RoleSpec { mut options, .. }, .. }) = documents.remove(0).resource
        else {
            panic!("not a role");
        };
        options.kept = Default::default();
        options != RoleOptions::default()
    })
}
