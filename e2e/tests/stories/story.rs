//! Jerry and Olga's story: production asks for a touch, development does not, and a thief gets nowhere.

use anyhow::{Result, ensure};
use e2e::{Terminal, World};

/// Asks psql at a terminal who and where it is, and ends it.
fn ask_and_leave(mut psql: Terminal) -> Result<String> {
    psql.expect("app=> ")?;
    psql.send("SELECT string_agg(item, '+' ORDER BY id) FROM orders;")?;
    psql.expect("anvil+rope+lantern")?;
    psql.expect("app=> ")?;
    psql.send("\\q")?;
    psql.succeed()
}

#[test]
fn development_needs_no_touch() -> Result<()> {
    let world = World::jerry_and_olga()?;
    let shown = ask_and_leave(world.jerry.at_terminal(&["db", "connect", "dev-pg"])?)?;
    ensure!(!shown.contains("Tap any security key"), "{shown}");
    Ok(())
}

#[test]
fn production_asks_for_a_touch_and_then_answers() -> Result<()> {
    let world = World::jerry_and_olga()?;
    let mut psql = world.jerry.at_terminal(&["db", "connect", "prod-pg"])?;
    psql.expect("Tap any security key")?;
    ask_and_leave(psql)?;

    let start = world.tctl.wait_for_audit("db.session.start", |event| event["db_service"] == "prod-pg")?;
    assert_eq!(start["code"], "TDB00I");
    assert_eq!(start["user"], "jerry");
    assert!(start["with_mfa"].as_str().is_some_and(|device| !device.is_empty()), "{start}");
    Ok(())
}

#[test]
fn a_one_time_code_is_accepted_where_the_person_asks_for_it() -> Result<()> {
    let mut world = World::jerry_and_olga()?;
    world.jerry.add_otp_device("phone")?;
    let mut psql = world.jerry.at_terminal(&["--mfa-mode=otp", "db", "connect", "prod-pg"])?;
    psql.expect("Enter an OTP code from a device:")?;
    psql.send(&world.jerry.otp_code()?)?;
    ask_and_leave(psql)?;
    Ok(())
}

#[test]
fn the_certificate_on_disk_alone_is_refused_by_production_with_a_hint() -> Result<()> {
    let world = World::jerry_and_olga()?;
    // The same two files open development, so it is not the files that are wrong.
    assert_eq!(world.psql_with_login(&world.dev)?.query("SELECT 1")?.output()?, "1\n");

    let error = world.psql_with_login(&world.prod)?.query("SELECT 1")?.error()?;
    ensure!(error.contains("access to resource requires MFA"), "{error}");
    ensure!(error.contains("HINT:") && error.contains("tsh db connect prod-pg"), "{error}");

    let denied = world.tctl.wait_for_audit("db.session.start", |event| event["db_service"] == "prod-pg")?;
    assert_eq!(denied["code"], "TDB00W");
    assert_eq!(denied["success"], false);
    assert_eq!(denied["error"], "access to resource requires MFA");
    Ok(())
}

#[test]
fn nobody_gets_in_without_a_certificate() -> Result<()> {
    let world = World::before_jerry()?;
    let error = world.psql(&world.dev)?.query("SELECT 1")?.error()?;
    ensure!(error.contains("certificate") && error.contains("HINT:"), "{error}");
    Ok(())
}

#[test]
fn another_database_user_is_refused_before_anybody_is_asked_to_touch() -> Result<()> {
    let world = World::jerry_and_olga()?;
    let shown = world.jerry.at_terminal(&["db", "connect", "--db-user=olga", "prod-pg"])?.fail()?;
    ensure!(!shown.contains("Tap any security key"), "{shown}");

    let stolen = world.psql_with_login(&world.prod)?;
    let error = stolen.user("olga").query("SELECT 1")?.error()?;
    let expected = "access to db denied. User does not have permissions. Confirm database user and name.";
    ensure!(error.contains(expected), "{error}");
    Ok(())
}

#[test]
fn the_trail_tells_the_whole_story() -> Result<()> {
    let world = World::jerry_and_olga()?;
    let mut psql = world.jerry.at_terminal(&["db", "connect", "prod-pg"])?;
    psql.expect("Tap any security key")?;
    ask_and_leave(psql)?;

    for (event, code) in [
        ("role.created", "T9000I"),
        ("user.create", "T1002I"),
        ("mfa.add", "T1006I"),
        ("user.login", "T1000I"),
        ("cert.create", "TC000I"),
        ("db.session.start", "TDB00I"),
        ("db.session.query", "TDB02I"),
        ("db.session.end", "TDB01I"),
    ] {
        let event = world.tctl.wait_for_audit(event, |found| found["code"] == code)?;
        for field in ["uid", "time", "cluster_name"] {
            assert!(event[field].is_string(), "{field} of {event}");
        }
    }
    let queries = world.tctl.audit("db.session.query")?;
    assert!(queries[0]["db_query"].as_str().unwrap().starts_with("SELECT string_agg(item"));
    let start = &world.tctl.audit("db.session.start")?[0];
    assert_eq!(queries[0]["sid"], start["sid"]);
    Ok(())
}
