//! Replicas: the binary log as the database writes it, where a role lets it out.

use anyhow::{Result, ensure};
use e2e::Way;

use crate::stage::Stage;

#[test]
fn the_binary_log_is_the_same_bytes_every_way() -> Result<()> {
    let stage = Stage::new()?;
    let grants = "GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* TO jerry@'%', jerry@localhost;
                  SET binlog_format = ROW; INSERT INTO app.orders SELECT seq, REPEAT('x', 90) FROM app.seq_10_to_2000; FLUSH BINARY LOGS";
    stage.world.mariadb.admin("app", grants)?;
    let read = |way: Way| -> Result<Vec<u8>> {
        let dir = stage.scratch(&format!("binlog-{way:?}"))?;
        let client = stage.mariadb(way)?.without("database").without("connect-timeout");
        let result = format!("--result-file={}/", dir.display());
        let args = ["--read-from-remote-server", "--raw", &result, "binlog.000001"];
        client.program("mariadb-binlog", &args)?.output()?;
        Ok(std::fs::read(dir.join("binlog.000001"))?)
    };
    let plain = read(Way::Plain)?;
    ensure!(plain.len() > 100_000, "{} bytes", plain.len());
    for way in Way::PROXIED {
        ensure!(read(way)? == plain, "another log by way of {way:?}");
    }
    stage.world.tctl.wait_for_audit("db.session.mysql.replication", |_| true)?;
    Ok(())
}
