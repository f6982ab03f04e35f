//! The ways from a sidecar to MariaDB, and one that is not there.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::{ACCESS_DEV, MariadbClient, MariadbWorld, Sidecar, poll};

use super::{development, late};

const PASSWORD: &str = "a password for the sidecar\n";

/// A sidecar that logs in with this password, and a client to it with Jerry's login.
fn with_password(password: &str) -> Result<(MariadbWorld, Sidecar, MariadbClient)> {
    let role = development(&[], &["jerry", "password", "ed25519"]);
    let (world, late) = late(&role, |world, options| {
        let file = world.path().join("password");
        std::fs::write(&file, password)?;
        options.password_file = Some(file);
        Ok(())
    })?;
    let client = world.client_with_login(&late)?;
    Ok((world, late, client))
}

#[test]
fn by_client_certificate_the_database_knows_the_user_from_its_subject() -> Result<()> {
    let world = MariadbWorld::jerry_and_olga()?;
    let client = world.client_with_login(&world.dev)?;
    assert_eq!(client.query("SELECT CURRENT_USER()")?.output()?, "jerry@%\n");
    let cipher = client.query("SHOW STATUS LIKE 'Ssl_cipher'")?.output()?;
    ensure!(cipher.contains("TLS_"), "{cipher}");
    Ok(())
}

#[test]
fn by_unix_socket_no_credential_is_needed() -> Result<()> {
    let (world, late) = late(ACCESS_DEV, |world, options| {
        options.uri = format!("unix:{}", world.mariadb.socket().display());
        Ok(())
    })?;
    let client = world.client_with_login(&late)?;
    assert_eq!(client.query("SELECT CURRENT_USER()")?.output()?, "jerry@localhost\n");
    Ok(())
}

#[test]
fn by_password_each_of_mariadbs_methods_is_spoken_and_the_client_needs_none() -> Result<()> {
    let (_world, _late, client) = with_password(PASSWORD)?;
    for user in ["password", "ed25519"] {
        let said = client.clone().user(user).query("SELECT CURRENT_USER()")?.output()?;
        assert_eq!(said, format!("{user}@%\n"));
    }
    Ok(())
}

#[test]
fn a_wrong_password_is_told_as_the_upstreams_trouble_and_never_shown() -> Result<()> {
    let (_world, _late, client) = with_password("hunter2\n")?;
    for user in ["password", "ed25519"] {
        let error = client.clone().user(user).query("SELECT 1")?.error()?;
        ensure!(error.contains("ERROR 1045 (28000): the sidecar cannot log in to the database"), "{error}");
        ensure!(!error.contains("hunter2"), "{error}");
    }
    Ok(())
}

#[test]
fn an_upstream_that_goes_down_is_told_before_anybody_is_logged_in() -> Result<()> {
    let mut world = MariadbWorld::jerry_and_olga()?;
    world.mariadb.stop()?;
    let error = world.client_with_login(&world.dev)?.query("SELECT 1")?.error()?;
    ensure!(error.contains("ERROR 1105 (08S01): the database cannot be reached"), "{error}");
    ensure!(!error.contains(&world.mariadb.port().to_string()), "{error}");
    Ok(())
}

#[test]
fn while_the_upstream_was_never_seen_nobody_is_greeted_with_a_made_up_version() -> Result<()> {
    let world = MariadbWorld::jerry_and_olga()?;
    let mut options = e2e::guard("late-mysql", "env=dev", &world.mariadb);
    // A name that leads nowhere yet.
    let socket = world.path().join("later.sock");
    options.uri = format!("unix:{}", socket.display());
    let late = Sidecar::start_unready(&world.path().join("late-mysql"), &world.authd, &world.tctl, options)?;
    let answer = late.get("/readyz")?;
    ensure!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    let client = world.client_with_login(&late)?;
    let error = client.query("SELECT 1")?.error()?;
    ensure!(error.contains("1105") && error.contains("has not been reached yet"), "{error}");

    // Nobody has to start anything anew when the database is there.
    std::os::unix::fs::symlink(world.mariadb.socket(), &socket)?;
    poll("the upstream to be seen", Duration::from_secs(30), || Ok(late.is_ready().then_some(())))?;
    assert_eq!(client.query("SELECT CURRENT_USER()")?.output()?, "jerry@localhost\n");
    ensure!(late.metric("touchstone_upstream_probes_total")? >= 2.0);
    Ok(())
}
