//! The three ways from a sidecar to its database.

use anyhow::{Result, ensure};
use e2e::{Psql, Sidecar, SidecarOptions, World, guard};

/// A role for one more database, without a touch.
const ACCESS_LAB: &str = "
kind: role
version: v6
metadata: {name: access-lab}
spec:
  allow:
    db_labels: {env: lab}
    db_users: [jerry, scram, nobody-there]
    db_names: [app]
";

/// A world with a third sidecar, and a psql to it with Jerry's login.
fn with_lab(options: impl FnOnce(&World) -> Result<SidecarOptions>) -> Result<(World, Sidecar, Psql)> {
    let world = World::before_jerry()?;
    world.tctl.create(ACCESS_LAB)?;
    let url = world.invite("jerry", "access-lab")?;
    world.jerry.register(&url)?;
    world.jerry.login(&world.authd.public_addr())?;
    let options = options(&world)?;
    let lab = Sidecar::start(&world.path().join("lab"), &world.authd, &world.tctl, options)?;
    let psql = world.psql_with_login(&lab)?;
    Ok((world, lab, psql))
}

#[test]
fn by_client_certificate_the_database_knows_the_user_from_its_name() -> Result<()> {
    let (world, _lab, psql) = with_lab(|world| Ok(guard("lab", "env=lab", &world.postgres)))?;
    let sql = "SELECT current_user, client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let answer = psql.query(sql)?.output()?;
    ensure!(answer.starts_with("jerry|") && answer.contains("CN=jerry"), "{answer}");
    // The database refuses; its own words arrive, and nobody is told that they are logged in.
    let error = psql.user("nobody-there").query("SELECT 1")?.error()?;
    ensure!(!error.is_empty(), "{error}");
    drop(world);
    Ok(())
}

#[test]
fn by_unix_socket_no_credential_is_needed() -> Result<()> {
    let (_world, _lab, psql) = with_lab(|world| {
        let mut options = guard("lab", "env=lab", &world.postgres);
        options.uri = format!("unix:{}", world.postgres.socket().display());
        Ok(options)
    })?;
    let sql = "SELECT current_user, inet_client_addr() IS NULL";
    assert_eq!(psql.query(sql)?.output()?, "jerry|t\n");
    Ok(())
}

#[test]
fn by_password_the_sidecar_speaks_scram_and_the_client_needs_none() -> Result<()> {
    let (_world, _lab, psql) = with_lab(|world| {
        let mut options = guard("lab", "env=lab", &world.postgres);
        let file = world.path().join("password");
        std::fs::write(&file, "a password for the sidecar\n")?;
        options.password_file = Some(file);
        Ok(options)
    })?;
    assert_eq!(psql.user("scram").query("SELECT current_user")?.output()?, "scram\n");
    Ok(())
}

#[test]
fn a_wrong_password_is_told_as_the_upstreams_trouble_and_never_shown() -> Result<()> {
    let (_world, _lab, psql) = with_lab(|world| {
        let mut options = guard("lab", "env=lab", &world.postgres);
        let file = world.path().join("password");
        std::fs::write(&file, "hunter2\n")?;
        options.password_file = Some(file);
        Ok(options)
    })?;
    let error = psql.user("scram").query("SELECT 1")?.error()?;
    ensure!(error.contains("the sidecar cannot log in to the database"), "{error}");
    ensure!(!error.contains("hunter2"), "{error}");
    Ok(())
}
