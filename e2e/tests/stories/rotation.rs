//! New keys for the cluster's authorities, under people who go on working.

use std::time::Duration;

use anyhow::{Result, ensure};
use cli::home::Home;
use e2e::{Sidecar, World, process::poll};

/// Longest that a busy machine may take for what takes a second or two.
const SOON: Duration = Duration::from_secs(60);

fn step(world: &World, kind: &str, phase: &str) -> Result<()> {
    let (kind, to) = (format!("--type={kind}"), format!("--phase={phase}"));
    let said = world.tctl.ok(&["auth", "rotate", &kind, "--manual", &to])?;
    ensure!(
        said.contains(&format!("Updated rotation phase to \"{phase}\". To check status use 'tctl status'")),
        "{said}"
    );
    Ok(())
}

/// As soon as no sidecar would be locked out.
fn step_host(world: &World, phase: &str) -> Result<()> {
    poll("the sidecars to show their new certificates", SOON, || {
        Ok((!world.tctl.ok(&["status"])?.contains("the next phase waits for sidecar")).then_some(()))
    })?;
    step(world, "host", phase)
}

fn wait_until_renewed(sidecar: &mut Sidecar, times: usize) -> Result<()> {
    let daemon = sidecar.daemon();
    poll("the sidecar to renew its certificate", SOON, || {
        let renewed = daemon.log().iter().filter(|line| line.contains("certificate renewed")).count();
        Ok((renewed >= times).then_some(()))
    })
}

/// What Jerry reads who types `tsh db connect dev-pg`, without another login.
fn connects(world: &World) -> Result<()> {
    let mut psql = world.jerry.at_terminal(&["db", "connect", "dev-pg"])?;
    psql.expect("app=> ")?;
    psql.send("SELECT 'at ' || 'work';")?;
    psql.expect("at work")?;
    Ok(())
}

#[test]
fn the_host_authority_is_replaced_and_nobody_logs_in_again() -> Result<()> {
    let mut world = World::jerry_and_olga()?;
    let mut live = world.jerry.at_terminal(&["db", "connect", "dev-pg"])?;
    live.expect("app=> ")?;
    // What a native client trusts: as exported before all this.
    let native = world.psql_with_login(&world.dev)?;
    native.query("SELECT 1")?.output()?;

    step(&world, "host", "init")?;
    wait_until_renewed(&mut world.dev, 1)?;
    wait_until_renewed(&mut world.prod, 1)?;
    let status = world.tctl.ok(&["status"])?;
    ensure!(status.contains("host CA       initialized (mode: manual, started: "), "{status}");
    ensure!(status.matches("CA pin").count() == 2, "{status}");
    // Whoever works in between learns of the new authority.
    connects(&world)?;
    native.query("SELECT 1")?.output()?;

    step_host(&world, "update_clients")?;
    step_host(&world, "update_servers")?;
    wait_until_renewed(&mut world.dev, 2)?;
    wait_until_renewed(&mut world.prod, 2)?;
    connects(&world)?;
    let error = native.query("SELECT 1")?.error()?;
    ensure!(error.contains("certificate verify failed"), "an old export must be replaced in time: {error}");

    step_host(&world, "standby")?;
    wait_until_renewed(&mut world.dev, 3)?;
    wait_until_renewed(&mut world.prod, 3)?;
    connects(&world)?;
    let status = world.tctl.ok(&["status"])?;
    ensure!(status.contains("host CA       rotated ") && status.matches("CA pin").count() == 1, "{status}");

    live.send("SELECT 'never ' || 'noticed';")?;
    live.expect("never noticed")?;
    drop(live);

    // Everybody starts again from what they keep on disk.
    world.authd.stop()?;
    world.authd.resume()?;
    world.dev.daemon().stop()?;
    world.dev.resume()?;
    connects(&world)?;
    Ok(())
}

#[test]
fn the_authorities_between_sidecar_and_database_are_replaced_with_two_visits_to_the_database() -> Result<()> {
    let mut world = World::jerry_and_olga()?;
    let psql = world.psql_with_login(&world.dev)?;
    // Who signed for the sidecar, as the database sees it.
    let issuer = "SELECT issuer_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let before = psql.query(issuer)?.output()?;
    ensure!(before.contains("db-client authority"), "{before}");

    step(&world, "db", "init")?;
    step(&world, "db-client", "init")?;
    world.postgres.certify(&world.tctl)?;
    assert_eq!(psql.query(issuer)?.output()?, before);
    for phase in ["update_clients", "update_servers"] {
        step(&world, "db", phase)?;
        step(&world, "db-client", phase)?;
    }
    // It keeps a certificate for an hour; started again, it asks for another.
    world.dev.daemon().stop()?;
    world.dev.resume()?;
    let after = psql.query(issuer)?.output()?;
    ensure!(after.contains("db-client authority") && after != before, "{before} {after}");

    step(&world, "db", "standby")?;
    step(&world, "db-client", "standby")?;
    assert_eq!(psql.query(issuer)?.output()?, after);
    world.postgres.certify(&world.tctl)?;
    assert_eq!(psql.query(issuer)?.output()?, after);
    Ok(())
}

#[test]
fn logins_of_before_end_with_the_authority_that_signed_them() -> Result<()> {
    let world = World::jerry_and_olga()?;
    let psql = world.psql_with_login(&world.dev)?;
    for phase in ["init", "update_clients", "update_servers"] {
        step(&world, "user", phase)?;
        assert_eq!(psql.query("SELECT 'still in'")?.output()?, "still in\n");
    }
    step(&world, "user", "standby")?;
    let error = poll("the sidecar to hear of it", SOON, || {
        let finished = psql.query("SELECT 1")?;
        Ok(finished.error().ok())
    })?;
    ensure!(error.contains("the certificate was not issued by this cluster"), "{error}");
    ensure!(error.contains("tsh login"), "{error}");
    let said = world.jerry.at_terminal(&["db", "connect", "dev-pg"])?.fail()?;
    ensure!(
        said.contains("not issued by an authority of this cluster") && said.contains("log in again"),
        "{said}"
    );
    world.jerry.login(&world.authd.public_addr())?;
    connects(&world)?;
    let refused =
        world.tctl.run(&["auth", "rotate", "--type=user", "--manual", "--phase=standby"])?.error()?;
    ensure!(refused.contains("can not switch to phase standby from standby"), "{refused}");
    Ok(())
}

#[test]
fn the_host_authority_waits_for_a_sidecar_that_is_away_and_force_leaves_it_behind() -> Result<()> {
    let mut world = World::jerry_and_olga()?;
    world.dev.daemon().stop()?;
    step(&world, "host", "init")?;
    wait_until_renewed(&mut world.prod, 1)?;
    step(&world, "host", "update_clients")?;
    let status = poll("the other to show its new certificate", SOON, || {
        let status = world.tctl.ok(&["status"])?;
        Ok((status.matches("the next phase waits for sidecar").count() == 1).then_some(status))
    })?;
    ensure!(status.contains("(dev-pg), last seen "), "{status}");
    let servers = ["auth", "rotate", "--type=host", "--manual", "--phase=update_servers"];
    let refused = world.tctl.run(&servers)?.error()?;
    ensure!(
        refused.contains("phase update_servers would lock out a sidecar: ") && refused.contains("(dev-pg)"),
        "{refused}"
    );
    // It comes back, and all is well.
    world.dev.resume()?;
    wait_until_renewed(&mut world.dev, 1)?;
    connects(&world)?;
    step_host(&world, "update_servers")?;
    wait_until_renewed(&mut world.dev, 2)?;
    connects(&world)?;

    world.dev.daemon().stop()?;
    step(&world, "host", "rollback")?;
    let standby = ["auth", "rotate", "--type=host", "--manual", "--phase=standby"];
    let refused = world.tctl.run(&standby)?.error()?;
    ensure!(refused.contains("--force"), "{refused}");
    let forced = [&standby[..], &["--force"]].concat();
    world.tctl.ok(&forced)?;
    let trail = world.tctl.ok(&["audit", "ls", "--event=cert_authority.rotate", "--format=json"])?;
    ensure!(trail.contains("left_behind"), "{trail}");
    Ok(())
}

#[test]
fn a_login_that_opens_nothing_any_more_is_no_login_to_tsh_login() -> Result<()> {
    let world = World::jerry_and_olga()?;
    let proxy = world.authd.public_addr();
    // In date, and good.
    world.jerry.run(&["login"])?.output()?;
    world.tctl.ok(&["users", "update", "jerry", "--set-roles=auditor"])?;
    world.jerry.at_terminal(&["login"])?.expect("Enter password")?;
    // What one does who was away while the host authority got another key.
    let home = Home::at(world.jerry.home().join(".tsh"));
    std::fs::remove_dir_all(home.authorities(&proxy.parse()?))?;
    world.jerry.at_terminal(&["login"])?.expect("The authenticity of")?;
    Ok(())
}
