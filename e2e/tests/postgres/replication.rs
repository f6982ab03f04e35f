//! Replication copies everything: a role gives it expressly, and then PostgreSQL's own programs work.

use std::fs;

use anyhow::{Context, Result, ensure};
use e2e::{ACCESS_DEV, Finished, Psql, run};

use crate::{
    scene::{Scene, with_options},
    stage::PATIENCE,
};

const ALLOWED: [&str; 1] = ["db_replication: true"];

/// Development's role for somebody who makes copies.
fn copying(names: &str) -> String {
    ACCESS_DEV
        .replace("    db_users:\n", "    db_users:\n      - copier\n")
        .replace("      - app\n", &format!("      - app\n{names}"))
}

const OF_ALL: &str = "      - replication\n";

/// The database's name is not said: libpq says `replication`.
fn copier(scene: &Scene) -> Result<Psql> {
    Ok(scene.psql()?.user("copier").database("replication"))
}

fn program(psql: &Psql, name: &str, args: &[&str]) -> Result<Finished> {
    let mut command = psql.command(name)?;
    command.args(args).arg("--dbname").arg(psql.connection());
    run(command, "", PATIENCE)
}

#[test]
fn pg_basebackup_through_the_sidecar_makes_a_copy_that_verifies() -> Result<()> {
    let scene = Scene::new(&[with_options(&copying(OF_ALL), &ALLOWED)])?;
    let psql = copier(&scene)?;
    let copy = scene.world.path().join("copy").display().to_string();
    let into = format!("--pgdata={copy}");
    // The write-ahead log comes by a second connection.
    program(&psql, "pg_basebackup", &[&into, "--wal-method=stream", "--checkpoint=fast", "--no-sync"])?
        .output()?;
    let mut verify = psql.command("pg_verifybackup")?;
    verify.arg(&copy);
    let said = run(verify, "", PATIENCE)?.output()?;
    ensure!(said.contains("successfully verified"), "{said}");

    let start =
        scene.world.tctl.wait_for_audit("db.session.start", |event| event["replication"] == "physical")?;
    assert_eq!((&start["db_user"], &start["db_name"]), (&"copier".into(), &"replication".into()));
    Ok(())
}

#[test]
fn pg_receivewal_through_the_sidecar_receives_what_the_database_wrote() -> Result<()> {
    let scene = Scene::new(&[with_options(&copying(OF_ALL), &ALLOWED)])?;
    let postgres = &scene.world.postgres;
    let position =
        postgres.admin("app", "SELECT pg_current_wal_lsn(), pg_walfile_name(pg_current_wal_lsn())")?;
    let (lsn, segment) = position.trim().split_once('|').context("position")?;
    // It ends when it has received more than that.
    postgres.admin("app", "CREATE TABLE later AS SELECT generate_series(1, 1000) AS i")?;

    let folder = scene.world.path().join("wal");
    fs::create_dir(&folder)?;
    let into = format!("--directory={}", folder.display());
    let until = format!("--endpos={lsn}");
    program(&copier(&scene)?, "pg_receivewal", &[&into, &until, "--no-loop", "--no-sync"])?.output()?;

    let (_, low) = lsn.split_once('/').context("position")?;
    let length = usize::from_str_radix(low, 16)? % (16 << 20);
    let received = fs::read(folder.join(format!("{segment}.partial")))?;
    let written = fs::read(postgres.wal_dir().join(segment))?;
    ensure!(length > 0 && received[..length] == written[..length], "not what the database wrote");
    Ok(())
}

#[test]
fn without_db_replication_in_a_role_nothing_is_replicated() -> Result<()> {
    let scene = Scene::new(&[copying(OF_ALL)])?;
    let into = format!("--pgdata={}", scene.world.path().join("copy").display());
    let error = program(&copier(&scene)?, "pg_basebackup", &[&into])?.error()?;
    ensure!(error.contains("replication connections need a role with the option db_replication"), "{error}");
    // The same user may do everything else.
    assert_eq!(copier(&scene)?.database("app").query("SELECT 1")?.output()?, "1\n");
    let denied = scene.world.tctl.wait_for_audit("db.session.start", |event| event["success"] == false)?;
    assert_eq!(denied["reason"], "replication_not_allowed", "{denied}");
    Ok(())
}

#[test]
fn physical_replication_needs_the_database_name_replication_besides() -> Result<()> {
    let scene = Scene::new(&[with_options(&copying(""), &ALLOWED)])?;
    let into = format!("--directory={}", scene.world.path().display());
    let error = program(&copier(&scene)?, "pg_receivewal", &[&into, "--no-loop"])?.error()?;
    ensure!(error.contains("access to db denied"), "{error}");
    Ok(())
}
