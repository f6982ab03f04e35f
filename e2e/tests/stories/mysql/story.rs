//! Production asks for a touch, development does not, and a thief gets nowhere.

use anyhow::{Result, ensure};
use e2e::{MariadbWorld, Terminal};

/// Asks at the client's prompt who it is, and ends it.
fn ask_and_leave(mut mysql: Terminal) -> Result<String> {
    mysql.expect("[(none)]> ")?;
    mysql.send("SELECT CONCAT(CURRENT_USER(), ' has ', COUNT(*)) FROM app.orders;")?;
    mysql.expect("jerry@% has 3")?;
    mysql.expect("[(none)]> ")?;
    mysql.send("\\q")?;
    mysql.succeed()
}

#[test]
fn development_needs_no_touch() -> Result<()> {
    let world = MariadbWorld::jerry_and_olga()?;
    let shown = ask_and_leave(world.jerry.at_terminal(&["db", "connect", "dev-mysql-instance"])?)?;
    ensure!(!shown.contains("Tap any security key"), "{shown}");
    ensure!(shown.contains("Welcome to the MariaDB monitor"), "{shown}");
    Ok(())
}

#[test]
fn production_asks_for_a_touch_and_then_answers() -> Result<()> {
    let world = MariadbWorld::jerry_and_olga()?;
    let mut mysql = world.jerry.at_terminal(&["db", "connect", "prod-mysql-instance"])?;
    mysql.expect("Tap any security key")?;
    ask_and_leave(mysql)?;

    let of_prod = |event: &serde_json::Value| event["db_service"] == "prod-mysql-instance";
    let start = world.tctl.wait_for_audit("db.session.start", of_prod)?;
    assert_eq!(start["code"], "TDB00I");
    assert_eq!(start["user"], "jerry");
    assert_eq!(start["db_protocol"], "mysql");
    let set = start["startup_parameters"][0].as_str();
    ensure!(set.is_some_and(|set| set.starts_with("collation=")), "{start}");
    ensure!(start["with_mfa"].as_str().is_some_and(|device| !device.is_empty()), "{start}");
    let query = world.tctl.wait_for_audit("db.session.query", |event| {
        event["db_query"].as_str().is_some_and(|text| text.contains("FROM app.orders"))
    })?;
    assert_eq!(query["sid"], start["sid"]);
    world.tctl.wait_for_audit("db.session.end", of_prod)?;
    Ok(())
}

#[test]
fn the_certificate_on_disk_alone_is_refused_by_production_with_a_hint() -> Result<()> {
    let world = MariadbWorld::jerry_and_olga()?;
    // The same two files open development, so it is not the files that are wrong.
    assert_eq!(world.client_with_login(&world.dev)?.query("SELECT 1")?.output()?, "1\n");

    let error = world.client_with_login(&world.prod)?.query("SELECT 1")?.error()?;
    let expected = "ERROR 1105 (HY000): access to resource requires MFA; \
                    run: tsh db connect prod-mysql-instance --db-user=jerry --db-name=app";
    ensure!(error.contains(expected), "{error}");

    let denied = world
        .tctl
        .wait_for_audit("db.session.start", |event| event["db_service"] == "prod-mysql-instance")?;
    assert_eq!(denied["code"], "TDB00W");
    assert_eq!(denied["error"], "access to resource requires MFA");
    Ok(())
}

#[test]
fn a_stolen_session_opens_its_own_target_only() -> Result<()> {
    let world = MariadbWorld::jerry_and_olga()?;
    let (certificate, key) = world.jerry.stolen_session("prod-mysql-instance")?;
    let thief = world.client(&world.dev)?.certificate(&certificate, &key);
    let error = thief.query("SELECT 1")?.error()?;
    ensure!(
        error.contains("the certificate is for target prod-mysql-instance, not dev-mysql-instance"),
        "{error}"
    );
    // It is good for what it was made for, in the database that it names or in none.
    let own = world.client(&world.prod)?.certificate(&certificate, &key);
    assert_eq!(own.query("SELECT DATABASE()")?.output()?, "app\n");
    assert_eq!(own.clone().without("database").query("SELECT DATABASE()")?.output()?, "NULL\n");
    let error = own.database("mysql").query("SELECT 1")?.error()?;
    ensure!(error.contains("the certificate is for database user \"jerry\" and database \"app\""), "{error}");
    Ok(())
}

#[test]
fn olga_asks_why_and_databases_do_not_count() -> Result<()> {
    let world = MariadbWorld::jerry_and_olga()?;
    let explain = |user: &str, name: &str| {
        let (user, name) = (format!("--db-user={user}"), format!("--db-name={name}"));
        let args = ["access", "explain", "--user=jerry", "--target=prod-mysql-instance", &user, &name];
        world.tctl.ok(&args)
    };
    for name in ["app", "a database that no role names"] {
        let said = explain("jerry", name)?;
        ensure!(said.contains("Decision:   allowed, with MFA for this session"), "{said}");
        ensure!(said.contains("Decided by: role \"access-prod\""), "{said}");
    }
    let said = explain("olga", "app")?;
    ensure!(said.contains("Decision:   denied"), "{said}");
    Ok(())
}
