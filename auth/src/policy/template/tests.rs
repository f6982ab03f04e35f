use super::*;

fn traits(pairs: &[(&str, &[&str])]) -> Traits {
    pairs
        .iter()
        .map(|(name, values)| ((*name).to_owned(), values.iter().map(|&v| v.to_owned()).collect()))
        .collect()
}

fn expand(source: &str, pairs: &[(&str, &[&str])]) -> Vec<String> {
    Template::parse(source).unwrap().expand(&traits(pairs))
}

fn error(source: &str) -> String {
    Template::parse(source).unwrap_err().to_string()
}

#[test]
fn a_literal_is_itself() {
    assert_eq!(expand("jerry", &[]), ["jerry"]);
    assert_eq!(expand("a{b}c", &[]), ["a{b}c"]);
    assert_eq!(expand("*", &[]), ["*"]);
    assert!(expand("", &[]).is_empty());
}

#[test]
fn a_variable_becomes_every_value_of_its_trait() {
    let ann: &[(&str, &[&str])] = &[("logins", &["ann", "root"]), ("odd name", &["x"]), ("a-b", &["y"])];
    assert_eq!(expand("{{internal.logins}}", ann), ["ann", "root"]);
    assert_eq!(expand("{{ external.logins }}", ann), ["ann", "root"]);
    assert_eq!(expand(r#"{{external["odd name"]}}"#, ann), ["x"]);
    assert_eq!(expand(r#"{{internal["logins"]}}"#, ann), ["ann", "root"]);
    assert_eq!(expand("{{external.a-b}}", ann), ["y"]);
}

#[test]
fn what_stands_around_a_variable_stands_around_every_value() {
    let ann: &[(&str, &[&str])] = &[("foo", &["a", "b"])];
    assert_eq!(expand("IAM#{{external.foo}};", ann), ["IAM#a;", "IAM#b;"]);
    assert_eq!(expand("  p-{{external.foo}}-s  ", ann), ["p-a-s", "p-b-s"]);
}

#[test]
fn an_unknown_trait_and_an_empty_value_give_nothing() {
    assert!(expand("p-{{external.nonesuch}}", &[]).is_empty());
    assert_eq!(expand("p-{{external.foo}}", &[("foo", &["", "a"])]), ["p-a"]);
}

#[test]
fn email_local_takes_what_stands_before_the_at() {
    let local = |address: &str| expand("{{email.local(external.email)}}", &[("email", &[address])]);
    assert_eq!(local("ann@example.com"), ["ann"]);
    assert_eq!(local("Ann Lee <ann.lee@example.com>"), ["ann.lee"]);
    for broken in ["", "ann", "@example.com", "ann@", "a b@example.com", "root@a@b", "<ann@example.com"] {
        assert!(local(broken).is_empty(), "{broken}");
    }
}

#[test]
fn regexp_replace_rewrites_what_matches_and_drops_the_rest() {
    let groups: &[(&str, &[&str])] = &[("groups", &["db-reader", "web", "db-admin"])];
    let source = r#"{{regexp.replace(external.groups, "^db-(.*)$", "$1")}}"#;
    assert_eq!(expand(source, groups), ["reader", "admin"]);
    let source = r#"{{regexp.replace(external.groups, "^db-(?P<name>.*)$", "x_${name}_y")}}"#;
    assert_eq!(expand(source, groups), ["x_reader_y", "x_admin_y"]);
    let source = r#"{{regexp.replace(email.local(external.e), "^a{1}(\\d)$", `u$1`)}}"#;
    assert_eq!(expand(source, &[("e", &["a7@x", "aa7@x"])]), ["u7"]);
}

#[test]
fn a_malformed_template_is_an_error_that_says_why() {
    for brackets in ["{{internal.logins", "internal.logins}}", "{{a}}{{b", "{{{internal.logins}}}"] {
        assert!(Template::parse(brackets).is_err(), "{brackets}");
    }
    assert!(error("x}}").contains("has template brackets"));
    assert!(error("{{}}").contains("expected internal.NAME"));
    assert!(error("{{logins}}").contains("expected '.'"));
    assert!(error("{{internal.logins}}-{{internal.logins}}").contains("unexpected"));
    assert!(error("{{internal.logins internal.logins}}").contains("unexpected"));
    assert!(error("{{external[foo]}}").contains("expected '\"'"));
    assert!(error("{{external.}}").contains("expected internal.NAME"));
    assert!(error("{{email.domain(external.email)}}").contains("unknown function email.domain"));
    assert!(error(r#"{{regexp.match("x")}}"#).contains("known: email.local, regexp.replace"));
    assert!(error("{{email.local(external.email}}").contains("expected ')'"));
    assert!(error(r#"{{regexp.replace(external.x, "(", "")}}"#).contains("unclosed group"));
    assert!(error(r#"{{regexp.replace(external.x, "a", "b}}"#).contains("not closed"));
}

#[test]
fn an_internal_variable_that_nothing_sets_is_an_error() {
    assert!(
        error("{{internal.login}}").starts_with("unknown variable internal.login; known: logins, db_names")
    );
}

#[test]
fn functions_within_functions_are_bounded() {
    let deep = format!("{{{{{}external.x{}}}}}", "email.local(".repeat(1000), ")".repeat(1000));
    assert!(error(&deep).contains("too many functions"));
}
