//! Who is not let in, in MySQL's own words: a number, a state, and what to do.

use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};
use authd::ca::AuthorityKind;
use e2e::{MariadbWorld, poll};

use super::{development, late};
use crate::forge::{DAY, Forgery, identity, stolen_authority};

#[test]
fn nobody_gets_in_without_a_certificate_or_without_tls() -> Result<()> {
    let world = MariadbWorld::jerry_and_olga()?;
    let error = world.client(&world.dev)?.query("SELECT 1")?.error()?;
    ensure!(error.contains("ERROR 1045 (28000): a client certificate is required"), "{error}");
    ensure!(error.contains("run: tsh db connect dev-mysql-instance"), "{error}");

    let plain =
        world.client(&world.dev)?.without("ssl-ca").without("ssl-verify-server-cert").with("ssl", "0");
    let error = plain.query("SELECT 1")?.error()?;
    ensure!(error.contains("ERROR 3159 (HY000): TLS is required"), "{error}");
    Ok(())
}

#[test]
fn another_database_user_is_refused_by_policy_and_by_tsh_before_anybody_touches() -> Result<()> {
    let world = MariadbWorld::jerry_and_olga()?;
    let shown =
        world.jerry.at_terminal(&["db", "connect", "--db-user=olga", "prod-mysql-instance"])?.fail()?;
    ensure!(!shown.contains("Tap any security key"), "{shown}");

    let error = world.client_with_login(&world.dev)?.user("olga").query("SELECT 1")?.error()?;
    let expected = "ERROR 1045 (28000): access to db denied. User does not have permissions. \
                    Confirm database user and name.";
    ensure!(error.contains(expected), "{error}");
    Ok(())
}

#[test]
fn a_name_in_quotes_is_nobodys() -> Result<()> {
    // MySQL takes quotes off a name at login: 'olga' would be judged as one user and arrive as another.
    let (world, late) = late(&development(&[], &["jerry", "\"'olga'\""]), |_, _| Ok(()))?;
    let error = world.client_with_login(&late)?.user("'olga'").query("SELECT 1")?.error()?;
    ensure!(error.starts_with("ERROR 1045 (28000)"), "{error}");
    Ok(())
}

/// Users of MySQL's are told apart by case, and so are those of roles.
#[test]
fn a_user_of_another_case_is_another_user() -> Result<()> {
    let world = MariadbWorld::jerry_and_olga()?;
    for user in ["JERRY", "Jerry", "jerry "] {
        let error = world.client_with_login(&world.dev)?.user(user).query("SELECT 1")?.error()?;
        ensure!(error.contains("ERROR 1045 (28000): access to db denied"), "{user}: {error}");
    }
    Ok(())
}

#[test]
fn policy_leaves_mysqls_databases_to_mysql() -> Result<()> {
    let world = MariadbWorld::jerry_and_olga()?;
    // Roles name `app` alone, and the database's own grants decide.
    let client = world.client_with_login(&world.dev)?;
    assert_eq!(client.clone().without("database").query("SELECT 1")?.output()?, "1\n");
    let error = client.database("mysql").query("SELECT 1")?.error()?;
    ensure!(error.contains("ERROR 1044 (42000)") && error.contains("to database 'mysql'"), "{error}");
    Ok(())
}

#[test]
fn an_expired_certificate_is_told_so_with_the_time() -> Result<()> {
    let world = MariadbWorld::jerry_and_olga()?;
    let (certificate, _key) = world.jerry.login_files(&world.authd.public_addr())?;
    let jerry = identity(&world.tctl, &certificate)?;
    let authority = stolen_authority(&world.authd, AuthorityKind::User)?;
    let now = SystemTime::now();
    let shown = |forgery: Forgery| {
        let (certificate, key) = forgery.files(world.path(), &authority)?;
        world.client(&world.dev)?.certificate(&certificate, &key).query("SELECT 'let in'")
    };
    // One that nothing is wrong with is let in: the forger's tools work.
    assert_eq!(shown(Forgery::of(&jerry)?)?.output()?, "let in\n");
    let error = shown(Forgery::of(&jerry)?.between(now - 2 * DAY, now - DAY))?.error()?;
    ensure!(error.contains("ERROR 1045 (28000): the certificate expired at"), "{error}");
    ensure!(error.contains("run: tsh login"), "{error}");
    Ok(())
}

#[test]
fn one_session_more_than_max_connections_is_told_1040() -> Result<()> {
    let (world, late) = late(&development(&["max_connections: 1"], &["jerry"]), |_, _| Ok(()))?;
    let client = world.client_with_login(&late)?;
    let first = client.session()?;
    let error = client.query("SELECT 1")?.error()?;
    ensure!(error.contains("ERROR 1040 (08004): max_connections limit reached"), "{error}");
    let rejected = world.tctl.wait_for_audit("session.rejected", |event| event["user"] == "jerry")?;
    assert_eq!(rejected["maximum"], 1);

    // The seat is free again when the session is over.
    drop(first);
    world.mariadb.wait_for_sessions("jerry", 0, Duration::from_secs(10))?;
    poll("the seat to be free", Duration::from_secs(10), || {
        Ok(client.query("SELECT 1")?.output().is_ok().then_some(()))
    })
}
