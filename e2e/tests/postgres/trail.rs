//! What the audit trail says about statements of the extended protocol, as `tctl audit ls` tells it.

use anyhow::{Context, Result, ensure};
use e2e::{SidecarOptions, interpreted, run};
use serde_json::{Value, json};

use crate::{scene::Scene, stage::PATIENCE};

const PARSE: &str = "db.session.postgres.statements.parse";
const BIND: &str = "db.session.postgres.statements.bind";
const EXECUTE: &str = "db.session.postgres.statements.execute";
const RESULT: &str = "db.session.query.result";

/// Runs the script; returns once everything that it did is in the trail.
fn play(scene: &Scene) -> Result<()> {
    let mut script = interpreted("with_parameters.py")?;
    for word in scene.psql()?.connection().split(' ') {
        let (name, value) = word.split_once('=').context("connection string")?;
        let name = if name == "dbname" { "DATABASE".to_owned() } else { name.to_uppercase() };
        script.env(format!("PG{name}"), value);
    }
    script.env_remove("PGOPTIONS").env_remove("PGCONNECT_TIMEOUT").env("PGCONNECT_TIMEOUT", "10");
    script.env_remove("PGSERVICE").env("HOME", scene.world.jerry.home());
    assert_eq!(run(script, "", PATIENCE)?.output()?, "[('lantern',), ('rope',)]\n22012\n");
    scene.world.tctl.wait_for_audit("db.session.end", |event| event["db_service"] == "late-pg")?;
    Ok(())
}

/// The event of that name in the session for which this holds.
fn event(scene: &Scene, name: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
    let events = scene.world.tctl.audit(name)?;
    let found = events.iter().find(|event| event["db_service"] == "late-pg" && wanted(event));
    found.cloned().with_context(|| format!("none of these {name} is it: {events:#?}"))
}

/// The parse, bind, execute and result of the statement with this text: each names or follows the one before.
fn statement(scene: &Scene, text: &str) -> Result<[Value; 4]> {
    let parse =
        event(scene, PARSE, |event| event["db_query"].as_str().is_some_and(|query| query.starts_with(text)))?;
    let after = |event: &Value, earlier: &Value| event["ei"].as_u64() > earlier["ei"].as_u64();
    let bind = event(scene, BIND, |event| after(event, &parse))?;
    let execute = event(scene, EXECUTE, |event| after(event, &bind))?;
    let result = event(scene, RESULT, |event| event["statement_ei"] == execute["ei"])?;
    Ok([parse, bind, execute, result])
}

#[test]
fn a_psycopg_statement_is_in_the_trail_with_its_values_rows_and_duration() -> Result<()> {
    let scene = Scene::new(&[])?;
    play(&scene)?;
    let [parse, bind, execute, result] = statement(&scene, "SELECT item FROM orders")?;
    ensure!(parse["db_query"].as_str().is_some_and(|text| text.contains("item <> $2")), "{parse}");
    assert_eq!(bind["parameters"], json!(["1", "hunter2", "AP8=", null]), "{bind}");
    assert_eq!(bind["parameters_base64"], json!([2]), "{bind}");
    assert_eq!((&execute["user"], &execute["db_user"]), (&"jerry".into(), &"jerry".into()), "{execute}");
    assert_eq!((&result["code"], &result["success"]), (&"TTS00I".into(), &true.into()), "{result}");
    assert_eq!((&result["rows"], &result["command_tags"]), (&2.into(), &json!(["SELECT 2"])), "{result}");
    ensure!(result["duration_ms"].as_f64().is_some_and(|took| took > 0.0), "{result}");
    Ok(())
}

#[test]
fn a_psycopg_statement_that_fails_is_in_the_trail_with_its_sqlstate() -> Result<()> {
    let scene = Scene::new(&[])?;
    play(&scene)?;
    let [_, bind, _, result] = statement(&scene, "SELECT 10 /")?;
    assert_eq!(bind["parameters"], json!(["0"]), "{bind}");
    assert_eq!((&result["code"], &result["success"]), (&"TTS00W".into(), &false.into()), "{result}");
    assert_eq!(result["sql_state"], "22012", "{result}");
    Ok(())
}

#[test]
fn a_target_that_withholds_values_has_none_in_the_trail() -> Result<()> {
    let scene = Scene::guarded(&[], |options| SidecarOptions { parameter_values: false, ..options })?;
    play(&scene)?;
    let [parse, bind, _, result] = statement(&scene, "SELECT item FROM orders")?;
    assert_eq!(bind["parameter_count"], 4, "{bind}");
    ensure!(bind.get("parameters").is_none() && parse["db_query"].is_string(), "{bind}");
    assert_eq!(result["rows"], 2, "{result}");
    let everything = scene.world.tctl.ok(&["audit", "ls", "--format=json", "--limit=1000"])?;
    ensure!(everything.contains(PARSE) && !everything.contains("hunter2"), "{everything}");
    Ok(())
}

#[test]
fn the_encoding_that_texts_are_read_in_is_in_the_trail_whoever_sets_it() -> Result<()> {
    let scene = Scene::new(&[])?;
    let encoding = "db.session.postgres.encoding";
    let with =
        |encoding: &str, sql: &str| scene.psql()?.with("client_encoding", encoding).query(sql)?.output();
    with("UTF8", "SELECT 'as asked'")?;
    scene.world.postgres.admin("app", "ALTER ROLE jerry SET client_encoding TO 'LATIN1'")?;
    scene
        .psql()?
        .query("SELECT 'as the role has it'; SET client_encoding TO 'SJIS'; RESET client_encoding")?
        .output()?;
    let mut psql = scene.psql()?.command("psql")?;
    psql.args(["--no-psqlrc", "--file=-"]).arg(scene.psql()?.connection());
    let script = "SELECT 'first';\nSET client_encoding TO 'SJIS';\nSELECT 'second';\nSELECT 'third';\n";
    run(psql, script, PATIENCE)?.output()?;
    scene.world.tctl.wait_for_audit("db.session.end", |event| event["db_service"] == "late-pg")?;
    let third = scene
        .world
        .tctl
        .wait_for_audit("db.session.query", |event| event["db_query"] == "SELECT 'third';")?;

    let told = scene.world.tctl.audit(encoding)?;
    let told: Vec<_> = told.iter().map(|event| (&event["sid"], event["client_encoding"].as_str())).collect();
    let of_the_script: Vec<_> =
        told.iter().filter(|(sid, _)| **sid == third["sid"]).map(|told| told.1).collect();
    assert_eq!(of_the_script, [Some("LATIN1"), Some("SJIS")], "{told:?}");
    let mut sessions: Vec<_> = told.iter().map(|(sid, _)| sid.as_str()).collect();
    sessions.dedup();
    assert_eq!(sessions.len(), 2, "{told:?}");
    // Each stands before what is read in it.
    let sjis = event(&scene, encoding, |event| event["client_encoding"] == "SJIS")?;
    let of = |text: &str| event(&scene, "db.session.query", |event| event["db_query"] == text);
    let (set, second) = (of("SET client_encoding TO 'SJIS';")?, of("SELECT 'second';")?);
    ensure!(set["ei"].as_u64() < sjis["ei"].as_u64() && sjis["ei"].as_u64() < second["ei"].as_u64());
    Ok(())
}
