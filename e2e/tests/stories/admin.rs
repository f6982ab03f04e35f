//! What administrators do: resources, tokens, explanations.

use anyhow::{Result, ensure};
use e2e::{Sidecar, World, guard};

/// The page's own YAML, with the indentation that its copy lost.
const PAGE: &str = "\
kind: cluster_auth_preference
metadata:
  name: cluster-auth-preference
spec:
  require_session_mfa: true
version: v2
---
kind: role
version: v6
metadata:
  name: example-role-with-mfa
spec:
  options:
    # require per-session MFA for this role
    require_session_mfa: true
  allow: {}
  deny: {}
---
# access-dev.yaml
kind: role
version: v6
metadata:
  name: access-dev
spec:
  allow:
    node_labels:
      env: dev
    logins:
      - jerry
---
# access-prod.yaml
kind: role
version: v6
metadata:
  name: access-prod
spec:
  options:
    # require per-session MFA for production access
    require_session_mfa: true
  allow:
    node_labels:
      env: prod
    logins:
      - jerry
  deny: {}
";

#[test]
fn the_pages_own_yaml_loads() -> Result<()> {
    let world = World::before_jerry()?;
    let said = world.tctl.create(PAGE)?;
    ensure!(said.contains("cluster auth preference has been updated"), "{said}");
    ensure!(said.contains("role 'example-role-with-mfa' has been created"), "{said}");
    ensure!(said.contains("role \"access-prod\" has been updated"), "{said}");
    Ok(())
}

#[test]
fn what_get_prints_can_be_created_again_and_changes_nothing() -> Result<()> {
    let world = World::before_jerry()?;
    for which in ["cap", "role/access-prod", "roles"] {
        // Each put counts the revision up; nothing else may differ.
        let get = || -> Result<(String, String)> {
            let yaml = world.tctl.ok(&["get", which])?;
            let lasting =
                yaml.lines().filter(|line| !line.trim().starts_with("revision:")).collect::<Vec<_>>();
            Ok((lasting.join("\n"), yaml))
        };
        let (before, yaml) = get()?;
        world.tctl.create(&yaml)?;
        assert_eq!(get()?.0, before, "{which}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&world.tctl.ok(&["get", "roles", "--format=json"])?)?;
    ensure!(json.as_array().is_some_and(|roles| roles.len() >= 5), "{json}");
    Ok(())
}

#[test]
fn session_mfa_for_the_whole_cluster_counts_for_development_too() -> Result<()> {
    let world = World::jerry_and_olga()?;
    let cap = world.tctl.ok(&["get", "cap"])?;
    let cap = cap.replace("require_session_mfa: false", "require_session_mfa: true");
    ensure!(cap.contains("require_session_mfa: true"), "{cap}");
    world.tctl.create(&cap)?;
    let mut psql = world.jerry.at_terminal(&["db", "connect", "dev-pg"])?;
    psql.expect("Tap any security key")?;
    psql.expect("app=> ")?;
    Ok(())
}

#[test]
fn without_force_nothing_is_replaced() -> Result<()> {
    let world = World::before_jerry()?;
    let file = world.path().join("role.yaml");
    std::fs::write(&file, e2e::ACCESS_DEV)?;
    let error = world.tctl.run(&["create", &file.display().to_string()])?.error()?;
    ensure!(error.starts_with("ERROR: ") && error.contains("already exists"), "{error}");
    Ok(())
}

#[test]
fn a_misspelt_field_is_an_error_with_its_line() -> Result<()> {
    let world = World::before_jerry()?;
    let error = world.tctl.create(&e2e::ACCESS_PROD.replace("require_session_mfa", "require_sesion_mfa"));
    let error = format!("{:#}", error.unwrap_err());
    ensure!(error.contains("require_sesion_mfa") && error.contains('9'), "{error}");
    Ok(())
}

#[test]
fn access_explain_names_the_deciding_role() -> Result<()> {
    let world = World::before_jerry()?;
    world.invite("jerry", "access-dev,access-prod")?;
    let explain = |target: &str, db_user: &str| {
        let target = format!("--target={target}");
        let db_user = format!("--db-user={db_user}");
        world.tctl.ok(&["access", "explain", "--user=jerry", &target, &db_user, "--db-name=app"])
    };
    let dev = explain("dev-pg", "jerry")?;
    ensure!(dev.contains("allowed, without MFA") && dev.contains("role \"access-dev\""), "{dev}");
    let prod = explain("prod-pg", "jerry")?;
    ensure!(prod.contains("allowed, with MFA") && prod.contains("role \"access-prod\""), "{prod}");
    let olga = explain("prod-pg", "olga")?;
    ensure!(olga.contains("denied") && olga.contains("no role allows it"), "{olga}");
    Ok(())
}

#[test]
fn what_sidecars_announce_is_listed() -> Result<()> {
    let world = World::before_jerry()?;
    let text = world.tctl.ok(&["db", "ls"])?;
    for word in ["dev-pg", "prod-pg", "env=dev", "env=prod", "postgres"] {
        ensure!(text.contains(word), "{text}");
    }
    Ok(())
}

#[test]
fn a_join_token_that_was_removed_lets_nobody_join() -> Result<()> {
    let world = World::before_jerry()?;
    let token = world.tctl.join_token()?;
    ensure!(world.tctl.ok(&["tokens", "ls"])?.contains(&token), "not a token of this cluster");
    world.tctl.ok(&["tokens", "rm", &token])?;
    let listed = world.tctl.ok(&["tokens", "ls"])?;
    ensure!(!listed.contains(&token), "{listed}");

    let late = guard("late-pg", "env=dev", &world.postgres);
    let error = Sidecar::refused(&world.path().join("late-pg"), &world.authd, &world.tctl, &token, late)?;
    ensure!(error.contains("ERROR: authd refused the join token: "), "{error}");
    let targets = world.tctl.ok(&["db", "ls"])?;
    ensure!(!targets.contains("late-pg"), "{targets}");
    Ok(())
}

#[test]
fn what_must_be_private_is_readable_by_its_owner_alone() -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let world = World::jerry_and_olga()?;
    let mut folders = vec![
        world.authd.data_dir().to_owned(),
        world.dev.data_dir().to_owned(),
        world.jerry.home().join(".tsh"),
    ];
    while let Some(folder) = folders.pop() {
        let mode = std::fs::metadata(&folder)?.permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", folder.display());
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
                continue;
            }
            let mode = entry.metadata()?.permissions().mode();
            assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", entry.path().display());
        }
    }
    Ok(())
}
