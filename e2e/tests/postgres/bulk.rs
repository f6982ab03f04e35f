//! Much at once: a row of 100 MB and a COPY of 200 MB arrive whole, in either direction.

use std::{fs, path::Path, process::Command};

use anyhow::{Result, ensure};
use e2e::run;

use crate::stage::{PATIENCE, Stage};

/// 200,000 lines of 1,000 bytes and a line feed.
const LINES: &str = "SELECT rpad(repeat(md5(i::text), 31), 1000, '.') FROM generate_series(1, 200000) AS i";

#[test]
fn two_hundred_megabytes_are_copied_both_ways_unchanged() -> Result<()> {
    let stage = Stage::new()?;
    let folder = stage.scratch("copies")?;
    let plain = folder.join("Plain");
    stage.alike(|way| {
        let file = folder.join(format!("{way:?}"));
        let psql = stage.psql(way)?;
        psql.query(&format!("\\copy ({LINES}) TO '{}'", file.display()))?.output()?;
        sum(&file)
    })?;
    ensure!(fs::metadata(&plain)?.len() == 200_200_000, "{:?}", fs::metadata(&plain)?);

    stage.alike(|way| {
        let psql = stage.psql(way)?;
        psql.query("DROP TABLE IF EXISTS much; CREATE UNLOGGED TABLE much (line text)")?.output()?;
        psql.query(&format!("\\copy much FROM '{}'", plain.display()))?.output()?;
        psql.query("SELECT count(*), sum(hashtextextended(line, 0)) FROM much")?.output()
    })?;
    Ok(())
}

#[test]
fn a_row_of_a_hundred_megabytes_arrives_whole() -> Result<()> {
    let stage = Stage::new()?;
    let folder = stage.scratch("rows")?;
    stage.alike(|way| {
        let file = folder.join(format!("{way:?}"));
        let sql = "SELECT string_agg(md5(i::text), '') FROM generate_series(1, 3125000) AS i";
        let mut psql = stage.psql(way)?.query_command(sql)?;
        psql.args(["--no-psqlrc", "--tuples-only", "--no-align", "--output"]).arg(&file);
        run(psql, "", PATIENCE)?.output()?;
        ensure!(fs::metadata(&file)?.len() == 100_000_001, "{:?}", fs::metadata(&file)?);
        sum(&file)
    })?;
    // And in the other direction: a statement of that length.
    let line = fs::read_to_string(folder.join("Plain"))?;
    let sql = format!("SELECT length(t), md5(t) FROM (SELECT '{}'::text AS t) AS s;", line.trim_end());
    drop(line);
    stage.alike(|way| {
        let mut psql = stage.psql(way)?.command("psql")?;
        psql.arg(stage.psql(way)?.connection()).args(["--no-psqlrc", "--tuples-only", "--no-align"]);
        run(psql, &sql, PATIENCE)?.output()
    })?;
    Ok(())
}

fn sum(file: &Path) -> Result<String> {
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec sha256sum <\"$0\""]).arg(file);
    run(shell, "", PATIENCE)?.output()
}
