//! Documents in a file, lines, bounds.

use super::*;

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

    // Few values, each of them large: five hundred times 100 kB.
    let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(100_000), "*a, ".repeat(500));
    assert!(error(&long).contains("too large: more than 1048576 bytes"));
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

#[test]
fn line_ends_and_byte_order_marks_of_other_systems_are_no_matter() {
    let unix = parse_documents(fixtures::PAGE_ROLES).unwrap();
    assert_eq!(parse_documents(&fixtures::PAGE_ROLES.replace('\n', "\r\n")).unwrap(), unix);
    assert_eq!(parse_documents(&format!("\u{feff}{}", fixtures::PAGE_ROLES)).unwrap(), unix);
    assert_eq!(parse_documents(fixtures::PAGE_ROLES.trim_end()).unwrap(), unix);
}
