//! What the options of roles say about a MySQL session.

use std::{fs, time::Duration};

use anyhow::{Result, ensure};
use e2e::{ACCESS_DEV, MariadbWorld};

use super::{development, late};

#[test]
fn session_settings_hold_from_the_first_statement_and_are_on_record() -> Result<()> {
    let options = ["db_session_settings:", "  max_statement_time: 7", "  sql_mode: ANSI_QUOTES"];
    let (world, late) = late(&development(&options, &["jerry"]), |_, _| Ok(()))?;
    let client = world.client_with_login(&late)?;
    let sql = "SELECT CONCAT(@@session.max_statement_time, ' ', @@session.sql_mode)";
    assert_eq!(client.query(sql)?.output()?, "7.000000 ANSI_QUOTES\n");
    let start = world.tctl.wait_for_audit("db.session.start", |event| event["db_service"] == "late-mysql")?;
    assert_eq!(start["db_session_settings"]["sql_mode"], "ANSI_QUOTES");
    Ok(())
}

#[test]
fn an_idle_session_is_told_why_it_ends_and_a_long_statement_is_not_ended() -> Result<()> {
    let (world, late) = late(&development(&["client_idle_timeout: 1s"], &["jerry"]), |_, _| Ok(()))?;
    let mut mysql = world.client_with_login(&late)?.session()?;
    mysql.send("SELECT CONCAT('slept ', SLEEP(2.5));")?;
    mysql.expect("slept 0")?;
    world.mariadb.wait_for_sessions("jerry", 0, Duration::from_secs(10))?;
    mysql.send("SELECT 1;")?;
    mysql.expect("ERROR 4031 (HY000)")?;
    mysql.expect("it was idle for 1s")?;
    Ok(())
}

#[test]
fn a_setting_that_the_database_does_not_take_lets_nobody_in() -> Result<()> {
    let options = ["db_session_settings:", "  no_such_setting: 1"];
    let (world, late) = late(&development(&options, &["jerry"]), |_, _| Ok(()))?;
    let error = world.client_with_login(&late)?.query("SELECT 1")?.error()?;
    ensure!(
        error.contains("ERROR 1045 (28000): the session settings of your roles cannot be applied"),
        "{error}"
    );
    ensure!(!error.contains("no_such_setting"), "{error}");
    Ok(())
}

/// What of a file arrives when Jerry loads it into a table.
fn loaded(world: &MariadbWorld, sidecar: &e2e::Sidecar) -> Result<String> {
    let file = world.path().join("orders.tsv");
    fs::write(&file, "7\tbellows\n8\ttongs\n")?;
    let client = world.client_with_login(sidecar)?.with("local-infile", "1");
    let load = format!("LOAD DATA LOCAL INFILE '{}' INTO TABLE orders", file.display());
    // Where it may not, it is for the database whether loading nothing is an error.
    let _ = client.query(&load)?;
    world.mariadb.admin("app", "SELECT item FROM orders WHERE id > 3 ORDER BY id")
}

#[test]
fn a_file_of_the_clients_is_loaded_only_where_a_role_says_so_and_is_on_record() -> Result<()> {
    let (world, late) = late(&development(&["db_local_infile: true"], &["jerry"]), |_, _| Ok(()))?;
    assert_eq!(loaded(&world, &late)?, "bellows\ntongs\n");
    let event = world.tctl.wait_for_audit("db.session.mysql.local_infile", |_| true)?;
    assert_eq!(event["code"], "TTS15I");
    ensure!(event.to_string().contains("orders.tsv"), "{event}");
    Ok(())
}

#[test]
fn without_the_option_the_database_gets_an_empty_file() -> Result<()> {
    let (world, late) = late(ACCESS_DEV, |_, _| Ok(()))?;
    assert_eq!(loaded(&world, &late)?, "");
    let event = world.tctl.wait_for_audit("db.session.mysql.local_infile", |_| true)?;
    assert_eq!(event["code"], "TTS15W");
    Ok(())
}
