//! pgbench: many statements, many connections, and PostgreSQL's own pipelines.

use std::fs;

use anyhow::{Result, ensure};
use e2e::Way;

use crate::stage::Stage;

#[test]
fn pgbench_processes_every_transaction_in_every_mode() -> Result<()> {
    let stage = Stage::new()?;
    stage.psql(Way::Plain)?.program("pgbench", &["--initialize", "--scale=1", "--quiet"])?.output()?;
    let folder = stage.scratch("pgbench")?;
    let pipeline = folder.join("pipeline.sql");
    fs::write(&pipeline, PIPELINE)?;
    let pipeline = format!("--file={}", pipeline.display());

    for way in Way::ALL {
        let psql = stage.psql(way)?;
        for mode in [
            &["--protocol=simple"][..],
            &["--protocol=extended"],
            &["--protocol=prepared"],
            &["--protocol=prepared", "--connect", "--select-only"],
            &["--protocol=extended", &pipeline],
            &["--protocol=prepared", &pipeline],
        ] {
            let mut args = vec!["--no-vacuum", "--client=4", "--jobs=2", "--transactions=10"];
            args.extend(mode);
            let said = psql.program("pgbench", &args)?.output()?;
            ensure!(said.contains("actually processed: 40/40"), "{way:?} {mode:?}: {said}");
            ensure!(said.contains("failed transactions: 0"), "{way:?} {mode:?}: {said}");
        }
    }
    Ok(())
}

const PIPELINE: &str = "\
\\set aid random(1, 100000)
\\startpipeline
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :aid;
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
SELECT count(*) FROM generate_series(1, 1000);
COMMIT;
\\endpipeline
";
