//! psql: what one person sees.

use anyhow::{Result, ensure};
use e2e::{Terminal, Way};

use crate::stage::Stage;

#[test]
fn psql_shows_the_same_for_everything_one_session_can_do() -> Result<()> {
    let stage = Stage::new()?;
    let transcript = stage.alike(|way| Ok(without_numbers(&stage.script(way, SESSION)?)))?;
    for shown in [
        "character varying(7)",
        "ERROR:  22012: division by zero",
        "current transaction is aborted",
        "notice 20",
        "COPY 5000",
        "the large object is the same",
        "invalid input syntax for type integer",
        "the end",
    ] {
        ensure!(transcript.contains(shown), "{shown:?} is not in:\n{transcript}");
    }
    Ok(())
}

#[test]
fn a_notification_reaches_the_session_that_listens() -> Result<()> {
    let stage = Stage::new()?;
    for listening in Way::ALL {
        for telling in Way::ALL {
            let mut listener = listener(&stage, listening)?;
            let mut teller = stage.psql(telling)?.session()?;
            teller.send("NOTIFY news, 'it is raining';")?;
            teller.expect("NOTIFY")?;
            teller.expect("=> ")?;
            // psql looks for notifications after each command.
            listener.send("SELECT 'looked';")?;
            listener.expect("Asynchronous notification \"news\" with payload \"it is raining\" received")?;
        }
    }
    Ok(())
}

fn listener(stage: &Stage, way: Way) -> Result<Terminal> {
    let mut listener = stage.psql(way)?.session()?;
    listener.send("LISTEN news;")?;
    listener.expect("LISTEN")?;
    listener.expect("=> ")?;
    Ok(listener)
}

/// Object identifiers differ from run to run.
fn without_numbers(transcript: &str) -> String {
    let line = |line: &str| match line.split_once(' ') {
        Some((word @ ("lo_import" | "lo_unlink"), _)) => format!("{word} OID"),
        _ => line.to_owned(),
    };
    transcript.lines().map(line).collect::<Vec<_>>().join("\n")
}

const SESSION: &str = r#"
\set VERBOSITY verbose
\pset null '(null)'
SELECT 1 AS one, 'zwei' AS two, NULL AS three;
SELECT 'äöü €' AS "names with ünicode", E'\\x00ff'::bytea;
SELECT;
;
\echo several statements in one message
SELECT 1 \; SELECT 2 WHERE false \; CREATE TEMP TABLE temporary () \; SELECT 3;
\echo described without being run
SELECT 1::int AS i, now() AS t, 'x'::varchar(7) AS v \gdesc
SELECT nonsense \gdesc
\echo fetched by cursor
\set FETCH_COUNT 7
SELECT i, repeat('x', i % 5) AS x FROM generate_series(1, 50) AS i;
SELECT 10 / (40 - i) FROM generate_series(1, 50) AS i;
\unset FETCH_COUNT
\echo notices, in order
DO $$ BEGIN FOR i IN 1..20 LOOP RAISE NOTICE 'notice %', i; RAISE WARNING 'warning %', i; END LOOP; END $$;
SELECT 'between';
\echo errors in the middle
SELECT 1 \; SELECT 1 / 0 \; SELECT 3;
\errverbose
BEGIN;
SELECT 1;
SELECT nonsense;
SELECT 2;
ROLLBACK;
SAVEPOINT outside;
PREPARE statement (int) AS SELECT $1 * 2;
EXECUTE statement (21);
EXECUTE nothing;
SET search_path = nowhere;
SHOW search_path;
RESET search_path;
SHOW application_name;
SHOW client_encoding;
SELECT current_user, session_user, current_database();
\encoding LATIN1
SHOW client_encoding;
\encoding UTF8
\echo COPY
CREATE TABLE copied (i int, t text, b bytea);
INSERT INTO copied SELECT i, repeat('tab	and \ ', i % 9), decode(md5(i::text), 'hex') FROM generate_series(1, 5000) AS i;
\copy copied TO 'text.copy'
\copy copied TO 'binary.copy' (FORMAT binary)
\copy copied TO 'csv.copy' (FORMAT csv, HEADER)
CREATE TABLE again (LIKE copied);
\copy again FROM 'text.copy'
\copy again FROM 'binary.copy' (FORMAT binary)
\copy again FROM 'csv.copy' (FORMAT csv, HEADER)
SELECT count(*), md5(string_agg(again::text, ',' ORDER BY i)) FROM again;
COPY again (i) FROM STDIN;
1
not a number
3
\.
SELECT 'after a COPY that failed';
COPY again (i) FROM STDIN;
\.
COPY (SELECT i FROM generate_series(1, 3) AS i) TO STDOUT;
COPY (SELECT 1 / (2 - i) FROM generate_series(1, 3) AS i) TO STDOUT;
COPY (SELECT 1) TO STDOUT \; SELECT 'after it, in the same message';
\echo large objects
\lo_import 'text.copy' 'a comment'
\lo_export :LASTOID 'exported'
\! cmp text.copy exported && echo the large object is the same
\lo_unlink :LASTOID
\lo_export 4711 'nothing'
\echo describing
\d copied
\dt
DROP TABLE copied, again;
\echo the end
"#;
