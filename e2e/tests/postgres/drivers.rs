//! Clients in other languages: each script is run against the database itself first, and must see the same through a
//! sidecar.

use anyhow::{Result, ensure};
use e2e::interpreted;

use crate::stage::Stage;

#[test]
fn psycopg_3_sees_no_difference() -> Result<()> {
    transcript_has(
        "with_psycopg.py",
        &["pipeline PIPELINE_ABORTED None None", "heard ['one', 'two', 'three']"],
    )
}

#[test]
fn psycopg2_sees_no_difference() -> Result<()> {
    transcript_has("with_psycopg2.py", &["refused: QueryCanceled 57014", "heard [('news', 'it is raining')]"])
}

#[test]
fn asyncpg_sees_no_difference_and_may_begin_with_tls() -> Result<()> {
    transcript_has("with_asyncpg.py", &["still here 1", "heard ('news', 'it is raining')", "pooled 39800"])
}

#[test]
fn pg8000_sees_no_difference() -> Result<()> {
    transcript_has("with_pg8000.py", &["copied in 5000", "prepared [[[1]], [[2]], [[3]]]"])
}

#[test]
fn node_postgres_sees_no_difference() -> Result<()> {
    transcript_has("with_pg.js", &["cancelled 57014", "heard news it is raining", "pooled 4950"])
}

fn transcript_has(script: &str, lines: &[&str]) -> Result<()> {
    let stage = Stage::new()?;
    let transcript = stage.alike(|way| stage.client(way, interpreted(script)?)?.output())?;
    for line in lines {
        ensure!(transcript.contains(line), "{line:?} is not in:\n{transcript}");
    }
    Ok(())
}
