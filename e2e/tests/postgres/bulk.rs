//! Much at once: a row of 100 MB and a COPY of 200 MB arrive whole, in either direction.

use std::{fs, path::Path, process::Command};

use anyhow::{Result, ensure};
use e2e::{Way, run};

use crate::stage::{PATIENCE, Stage};

/// 200,000 lines of 1,000 bytes and a line feed.
const LINES: &str = "SELECT rpad(repeat(md5(i::text), 31), 1000, '.') FROM generate_series(1, 200000) AS i";

/// One value of 100 MB, not the same all over.
const VALUE: &str = "SELECT string_agg(repeat(md5(i::text), 1000), '') FROM generate_series(1, 3125) AS i";

#[test]
fn two_hundred_megabytes_are_copied_both_ways_unchanged() -> Result<()> {
    let stage = Stage::new()?;
    let folder = stage.scratch("copies")?;
    stage.alike(|way| {
        let file = folder.join(format!("{way:?}"));
        patiently(&stage, way, &format!("\\copy ({LINES}) TO '{}'", file.display()))?;
        ensure!(fs::metadata(&file)?.len() == 200_200_000, "{:?}", fs::metadata(&file)?);
        sum(&file)
    })?;
    let plain = folder.join("Plain");
    stage.alike(|way| copied_in(&stage, way, &plain))?;
    Ok(())
}

#[test]
fn a_row_of_a_hundred_megabytes_arrives_whole_in_either_direction() -> Result<()> {
    let stage = Stage::new()?;
    let folder = stage.scratch("rows")?;
    stage.alike(|way| {
        let file = folder.join(format!("{way:?}"));
        patiently(&stage, way, &format!("{VALUE} \\g '{}'", file.display()))?;
        ensure!(fs::metadata(&file)?.len() == 100_000_001, "{:?}", fs::metadata(&file)?);
        sum(&file)
    })?;
    let plain = folder.join("Plain");
    stage.alike(|way| copied_in(&stage, way, &plain))?;
    Ok(())
}

#[test]
fn a_statement_of_ten_megabytes_is_answered_as_any_other() -> Result<()> {
    let stage = Stage::new()?;
    let sql = format!(
        "SELECT length(t), md5(t) FROM (SELECT '{}'::text AS t) AS s",
        "0123456789".repeat(1_000_000)
    );
    stage.alike(|way| patiently(&stage, way, &sql))?;
    Ok(())
}

fn copied_in(stage: &Stage, way: Way, file: &Path) -> Result<String> {
    patiently(stage, way, "DROP TABLE IF EXISTS much; CREATE UNLOGGED TABLE much (line text)")?;
    patiently(stage, way, &format!("\\copy much FROM '{}'", file.display()))?;
    patiently(stage, way, "SELECT count(*), sum(length(line)), sum(hashtextextended(line, 0)) FROM much")
}

/// Runs one statement, which may be too long for a command line, with the time that much data needs.
fn patiently(stage: &Stage, way: Way, sql: &str) -> Result<String> {
    let psql = stage.psql(way)?;
    let mut command = psql.command("psql")?;
    command.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"]);
    command.arg(psql.connection());
    let end = if sql.contains('\\') { "\n" } else { ";\n" };
    run(command, &format!("{sql}{end}"), PATIENCE)?.output()
}

fn sum(file: &Path) -> Result<String> {
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec sha256sum <\"$0\""]).arg(file);
    run(shell, "", PATIENCE)?.output()
}
