//! MariaDB's own programs, and sysbench.

use anyhow::{Result, ensure};
use e2e::Way;

use crate::stage::Stage;

#[test]
fn mariadbs_programs_say_the_same_every_way() -> Result<()> {
    let stage = Stage::new()?;
    stage.world.mariadb.client().query(SHOP)?.output()?;

    // Text, warnings, errors among statements, several results; compressed, and not.
    for compress in ["0", "1"] {
        let said = stage.alike(|way| {
            let client = stage.mariadb(way)?.with("compress", compress).with("local-infile", "1");
            let mut command = client.command("mariadb")?;
            command.args(["--table", "--force", "--show-warnings", "--comments", "--column-type-info"]);
            let file = stage.world.path().join("lines.tsv");
            let script = SCRIPT.replace("FILE", &file.display().to_string());
            let finished = e2e::run(command, &script, crate::stage::PATIENCE)?;
            Ok(format!("{}{}", finished.stdout, finished.stderr))
        })?;
        for line in ["20000", "libmariadb", "ERROR 1054 (42S22)", "Code 1365", "zwei", "ERROR 1644 (45000)"] {
            ensure!(said.contains(line), "{line} is not in:\n{said}");
        }
    }

    // A dump is the same text, and what it restores is what was there.
    let dump = stage.alike(|way| {
        let client = stage.mariadb(way)?.without("database").without("connect-timeout");
        let options = ["--skip-dump-date", "--triggers", "--hex-blob", "--single-transaction"];
        client.program("mariadb-dump", &[&options[..], &["app"]].concat())?.output()
    })?;
    ensure!(dump.contains("VIEW `revenue`") && dump.contains("TRIGGER touch"), "{dump}");
    // Only who makes it may be somebody else than who it was dumped from.
    let dump = dump.replace("DEFINER=`jerry`@`localhost`", "DEFINER=CURRENT_USER");
    let before = stage.world.mariadb.admin("app", CHECKSUM)?;
    for way in Way::PROXIED {
        stage.world.mariadb.admin("app", "DROP VIEW revenue; DROP TABLE sales, customers")?;
        let restored = e2e::run(stage.mariadb(way)?.command("mariadb")?, &dump, crate::stage::PATIENCE)?;
        restored.output()?;
        assert_eq!(stage.world.mariadb.admin("app", CHECKSUM)?, before, "{way:?}");
    }
    Ok(())
}

/// Many sessions at the same time, each with many statements.
#[test]
fn load_programs_run_to_their_end() -> Result<()> {
    let stage = Stage::new()?;
    for way in Way::PROXIED {
        let client = stage.mariadb(way)?.without("database").without("connect-timeout");
        let slap = ["--concurrency=8", "--number-of-queries=800", "--create-schema=app"];
        for more in
            [["--query=SELECT * FROM orders", "--silent"], ["--query=SELECT * FROM orders", "--compress"]]
        {
            let said = client.program("mariadb-slap", &[&slap[..], &more].concat())?;
            said.output()?;
        }
        let admin = client.program("mariadb-admin", &["ping"])?.output()?;
        assert_eq!(admin, "mysqld is alive\n");
    }
    Ok(())
}

const SCRIPT: &str = "
SELECT 1 AS one, 'zw\u{f6}lf' AS text, NULL AS nothing, 1.50 AS money, x'00ff' AS bytes;
SELECT attr_name, attr_value FROM performance_schema.session_account_connect_attrs
    WHERE processlist_id = CONNECTION_ID() AND attr_name IN ('_client_name', 'program_name') ORDER BY attr_name;
SELECT nonsense;
SELECT 1 / 0;
CALL three_results(7);
SELECT 1; SELECT 2;
CREATE TEMPORARY TABLE loaded (i INT, t TEXT);
LOAD DATA LOCAL INFILE 'FILE' INTO TABLE loaded;
SELECT COUNT(*), MD5(GROUP_CONCAT(t ORDER BY i)) FROM loaded;
PREPARE s FROM 'SELECT ? + 1 AS next'; SET @a = 41; EXECUTE s USING @a; DEALLOCATE PREPARE s;
SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'ours';
USE information_schema
SELECT schema_name FROM schemata WHERE schema_name = 'app';
USE nowhere
SELECT LENGTH(REPEAT('x', 20000000)) AS length;
SELECT seq FROM app.orders JOIN seq_1_to_3 ORDER BY id, seq;
SHOW WARNINGS;
";

const SHOP: &str = "
CREATE TABLE customers (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(100) NOT NULL UNIQUE, notes JSON);
CREATE TABLE sales (id BIGINT AUTO_INCREMENT PRIMARY KEY, customer INT NOT NULL, state ENUM('new', 'paid', 'sent') NOT NULL,
    amount DECIMAL(12, 2), at DATETIME(3) NOT NULL, picture LONGBLOB, FOREIGN KEY (customer) REFERENCES customers (id));
INSERT INTO customers (name, notes) SELECT CONCAT('customer ', seq), JSON_OBJECT('n', seq, 'text', REPEAT('\u{fc}', seq % 50))
    FROM seq_1_to_500;
INSERT INTO sales (customer, state, amount, at, picture)
    SELECT 1 + seq % 500, ELT(1 + seq % 3, 'new', 'paid', 'sent'), seq / 7, '2026-01-01' + INTERVAL seq HOUR,
           UNHEX(REPEAT(MD5(seq), 20)) FROM seq_1_to_5000;
CREATE VIEW revenue AS SELECT customer, SUM(amount) AS total FROM sales GROUP BY customer;
CREATE TRIGGER touch BEFORE UPDATE ON sales FOR EACH ROW SET NEW.at = NEW.at;
";

const CHECKSUM: &str =
    "CHECKSUM TABLE customers, sales, revenue EXTENDED; SELECT COUNT(*), SUM(total) FROM revenue";
