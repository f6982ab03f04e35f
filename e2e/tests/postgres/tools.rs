//! Dump and restore: what comes back is what was there.

use anyhow::{Result, ensure};
use e2e::Way;

use crate::stage::Stage;

#[test]
fn a_dump_through_the_sidecar_restores_the_same_database() -> Result<()> {
    let stage = Stage::new()?;
    let plain = stage.psql(Way::Plain)?;
    plain.query(SHOP)?.output()?;
    let before = plain.query(CHECKSUM)?.output()?;
    ensure!(before.lines().count() == 4, "{before}");

    for way in Way::PROXIED {
        let psql = stage.psql(way)?;
        let dump = stage.scratch("dumps")?.join(format!("{way:?}"));
        let dump = dump.display().to_string();
        let file = format!("--file={dump}");
        let args = ["--format=directory", "--jobs=2", "--schema=shop", &file, "--dbname"];
        psql.program("pg_dump", &args)?.output()?;
        plain.query("DROP SCHEMA shop CASCADE")?.output()?;
        psql.program("pg_restore", &["--jobs=2", "--exit-on-error", &dump, "--dbname"])?.output()?;
        assert_eq!(psql.query(CHECKSUM)?.output()?, before, "{way:?}");
    }
    Ok(())
}

#[test]
fn a_dump_is_the_same_text_every_way() -> Result<()> {
    let stage = Stage::new()?;
    stage.psql(Way::Plain)?.query(SHOP)?.output()?;
    let dump = stage.alike(|way| {
        let text = stage.psql(way)?.program("pg_dump", &["--inserts", "--dbname"])?.output()?;
        // A key against injection, which newer versions draw by lot for each dump.
        let lot = |line: &&str| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict");
        Ok(text.lines().filter(lot).collect::<Vec<_>>().join("\n"))
    })?;
    ensure!(dump.contains("CREATE VIEW shop.revenue"), "{dump}");
    Ok(())
}

const SHOP: &str = "
CREATE SCHEMA shop;
CREATE TYPE shop.state AS ENUM ('new', 'paid', 'sent');
CREATE TABLE shop.customers (id serial PRIMARY KEY, name text NOT NULL UNIQUE, notes jsonb);
CREATE TABLE shop.sales (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer int NOT NULL REFERENCES shop.customers,
    state shop.state NOT NULL DEFAULT 'new',
    amount numeric(12, 2) CHECK (amount > 0),
    at timestamptz NOT NULL,
    picture bytea,
    tags text[]
);
CREATE INDEX ON shop.sales (at) WHERE state <> 'sent';
CREATE FUNCTION shop.touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.at := NEW.at; RETURN NEW; END $$;
INSERT INTO shop.customers (name, notes)
    SELECT 'customer ' || i, jsonb_build_object('n', i, 'text', repeat('ü', i % 50)) FROM generate_series(1, 500) AS i;
INSERT INTO shop.sales (customer, state, amount, at, picture, tags)
    SELECT 1 + i % 500, (ARRAY['new', 'paid', 'sent'])[1 + i % 3]::shop.state, i / 7.0 + 1,
           '2026-01-01 00:00:00+00'::timestamptz + i * interval '1 hour',
           decode(repeat(md5(i::text), 20), 'hex'), ARRAY['a b', NULL, i::text]
    FROM generate_series(1, 5000) AS i;
CREATE TRIGGER touch BEFORE UPDATE ON shop.sales FOR EACH ROW EXECUTE FUNCTION shop.touch();
CREATE VIEW shop.revenue AS SELECT customer, sum(amount) FROM shop.sales GROUP BY customer;
";

const CHECKSUM: &str = "
SELECT 'customers', count(*), md5(string_agg(c::text, ',' ORDER BY id)) FROM shop.customers AS c
UNION ALL SELECT 'sales', count(*), md5(string_agg(s::text, ',' ORDER BY id)) FROM shop.sales AS s
UNION ALL SELECT 'revenue', count(*), md5(string_agg(r::text, ',' ORDER BY customer)) FROM shop.revenue AS r
UNION ALL SELECT 'parts', count(*), md5(string_agg(relname || relkind::text, ',' ORDER BY relname))
    FROM pg_class WHERE relnamespace = 'shop'::regnamespace
";
