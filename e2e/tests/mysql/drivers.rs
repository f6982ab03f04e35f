//! Clients in other languages: each script is run against the database itself first, and must see the same through a
//! sidecar.

use anyhow::{Result, ensure};
use e2e::interpreted;

use crate::stage::Stage;

#[test]
fn pymysql_and_mysqlclient_see_no_difference() -> Result<()> {
    let stage = Stage::new()?;
    for script in ["with_pymysql.py", "with_mysqlclient.py"] {
        transcript_has(
            &stage,
            &[script],
            &["large row 20971520", " 1317 Query execution was interrupted", "loaded (20000, "],
        )?;
    }
    Ok(())
}

#[test]
fn mysqls_own_connector_for_python_sees_no_difference() -> Result<()> {
    let stage = Stage::new()?;
    transcript_has(&stage, &["with_mysql_connector.py", "pure"], &["large row 20971520", "prepared (12, "])?;
    transcript_has(&stage, &["with_mysql_connector.py", "c"], &["large row 20971520", "prepared (12, "])
}

#[test]
fn nodes_clients_see_no_difference() -> Result<()> {
    let stage = Stage::new()?;
    transcript_has(&stage, &["with_mysql2.js"], &["large row 20971520", "refused: 1317", "pooled 4950"])?;
    transcript_has(&stage, &["with_mariadb.js"], &["large row 20971520", "refused: 1317", "in flight 44850"])
}

fn transcript_has(stage: &Stage, script: &[&str], lines: &[&str]) -> Result<()> {
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
