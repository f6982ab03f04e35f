//! Jerry and Olga's story on a real MariaDB.

use anyhow::{Result, ensure};
use e2e::{
    ACCESS_DEV, Authd, Mariadb, MariadbClient, MariadbWorld, Sidecar, SidecarOptions, Tctl, directory,
};

mod live;
mod refused;
mod story;
mod terms;
mod upstream;
mod ways;

/// The role for development, without a touch, with these options, one a line; and for these database users.
fn development(options: &[&str], users: &[&str]) -> String {
    let options: String = options.iter().map(|option| format!("    {option}\n")).collect();
    let role =
        ACCESS_DEV.replacen("spec:\n", &format!("spec:\n  options:\n    max_session_ttl: 12h\n{options}"), 1);
    let users: String = users.iter().map(|user| format!("      - {user}\n")).collect();
    role.replacen("    db_users:\n      - jerry\n", &format!("    db_users:\n{users}"), 1)
}

/// A world, and one more sidecar in front of its database, with `env: dev`, that knows this role before it lets anybody in.
fn late(
    role: &str,
    change: impl FnOnce(&MariadbWorld, &mut SidecarOptions) -> Result<()>,
) -> Result<(MariadbWorld, Sidecar)> {
    let world = MariadbWorld::jerry_and_olga()?;
    world.tctl.create(role)?;
    let mut options = e2e::guard("late-mysql", "env=dev", &world.mariadb);
    change(&world, &mut options)?;
    let sidecar = Sidecar::start(&world.path().join("late-mysql"), &world.authd, &world.tctl, options)?;
    Ok((world, sidecar))
}

#[test]
fn the_database_itself_knows_its_users_by_their_certificates() -> Result<()> {
    let dir = directory()?;
    let authd = Authd::start(&dir.path().join("authd"))?;
    let tctl = Tctl::new(authd.data_dir());
    let mariadb = Mariadb::start(&dir.path().join("mariadb"), &tctl)?;
    assert_eq!(mariadb.client().query("SELECT CURRENT_USER()")?.output()?, "jerry@localhost\n");

    // From anywhere else it knows nobody without a certificate.
    let authorities = dir.path().join("db-authorities.pem");
    std::fs::write(&authorities, tctl.export("db")?)?;
    let error = MariadbClient::to(&mariadb.address(), &authorities).query("SELECT 1")?.error()?;
    ensure!(error.contains("ERROR 1045 (28000): Access denied for user 'jerry'@'127.0.0.1'"), "{error}");
    Ok(())
}
