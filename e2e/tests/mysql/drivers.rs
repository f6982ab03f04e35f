//! Clients in other languages: each script is run against the database itself first, and must see the same through a
//! sidecar.

use anyhow::{Result, ensure};
use e2e::interpreted;

use crate::stage::Stage;

const LARGE: &str = "large row 20971520";
const KILLED: &str = "Query execution was interrupted";

#[test]
fn pymysql_sees_no_difference() -> Result<()> {
    transcript_has(
        &["with_pymysql.py"],
        &[LARGE, KILLED, "statement of a packet 16777214", "loaded (20000, "],
    )
}

#[test]
fn mysqlclient_sees_no_difference() -> Result<()> {
    transcript_has(&["with_mysqlclient.py"], &[LARGE, KILLED, "large row 3145728", "loaded (20000, "])
}

#[test]
fn mysqls_connector_in_pure_python_sees_no_difference() -> Result<()> {
    transcript_has(&["with_mysql_connector.py", "pure"], &[LARGE, "prepared (12, "])
}

/// Its C extension is MySQL 9's client library.
#[test]
fn mysqls_connector_in_c_sees_no_difference() -> Result<()> {
    transcript_has(&["with_mysql_connector.py", "c"], &[LARGE, "large row 3145728", "prepared (12, "])
}

#[test]
fn mysql2_sees_no_difference() -> Result<()> {
    transcript_has(&["with_mysql2.js"], &[LARGE, KILLED, "pooled 4950"])
}

#[test]
fn mariadbs_connector_for_node_sees_no_difference() -> Result<()> {
    transcript_has(&["with_mariadb.js"], &[LARGE, KILLED, "in flight 44850"])
}

fn transcript_has(script: &[&str], lines: &[&str]) -> Result<()> {
    let stage = Stage::new()?;
    let [script, args @ ..] = script else { return Ok(()) };
    let transcript = stage.alike(|way| {
        let mut command = interpreted(script)?;
        command.args(args);
        stage.client(way, command)?.output()
    })?;
    for line in lines {
        ensure!(transcript.contains(line), "{line:?} is not in:\n{transcript}");
    }
    Ok(())
}
