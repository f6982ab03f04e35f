//! What `tsh db login` leaves behind is what a client needs: the service file, the environment, the printed files.

use std::{process::Command, thread};

use anyhow::{Context, Result, ensure};
use e2e::{Psql, Sidecar, World, guard, interpreted, run};

use crate::stage::PATIENCE;

fn logged_in() -> Result<World> {
    let world = World::jerry_and_olga()?;
    world.jerry.at_terminal(&["db", "login", "--db-user=jerry", "--db-name=app", "dev-pg"])?.succeed()?;
    Ok(world)
}

const WHO: &str = "SELECT current_user || '@' || current_database()";

#[test]
fn the_service_file_serves_psql_and_psycopg() -> Result<()> {
    let world = logged_in()?;
    let written = std::fs::read_to_string(world.jerry.home().join(".pg_service.conf"))?;
    let service =
        written.lines().find_map(|line| line.strip_prefix('[')?.strip_suffix(']')).context("service")?;

    let mut psql = Psql::to("unused:1", world.path()).command("psql")?;
    psql.envs(world.jerry.environment()).arg(format!("service={service}"));
    psql.args(["--no-psqlrc", "--tuples-only", "--no-align", "--command", WHO]);
    assert_eq!(run(psql, "", PATIENCE)?.output()?, "jerry@app\n");

    let mut psycopg = interpreted("with_service.py")?;
    psycopg.envs(world.jerry.environment()).env("PGSERVICE", service);
    assert_eq!(run(psycopg, "", PATIENCE)?.output()?, "psycopg jerry@app\npsycopg2 jerry@app\n");

    world.jerry.run(&["db", "logout", "dev-pg"])?.output()?;
    let left = std::fs::read_to_string(world.jerry.home().join(".pg_service.conf"))?;
    ensure!(!left.contains(service), "{left}");
    Ok(())
}

#[test]
fn of_two_logins_at_once_neither_loses_the_others_section() -> Result<()> {
    let world = World::jerry_and_olga()?;
    let target = guard("dev2-pg", "env=dev", &world.postgres);
    let _second = Sidecar::start(&world.path().join("dev2-pg"), &world.authd, &world.tctl, target)?;
    for round in 0..12 {
        thread::scope(|scope| {
            let logins = ["dev-pg", "dev2-pg"].map(|name| {
                let world = &world;
                scope.spawn(move || {
                    world.jerry.run(&["db", "login", "--db-user=jerry", "--db-name=app", name])?.output()
                })
            });
            logins.into_iter().try_for_each(|login| login.join().expect("a login").map(drop))
        })?;
        let written = std::fs::read_to_string(world.jerry.home().join(".pg_service.conf"))?;
        ensure!(written.matches('[').count() == 2, "round {round}:\n{written}");
        world.jerry.run(&["db", "logout"])?.output()?;
    }
    Ok(())
}

#[test]
fn what_db_env_and_db_config_print_serves_psql_psycopg_and_asyncpg() -> Result<()> {
    let world = logged_in()?;
    let exports = world.jerry.run(&["db", "env", "dev-pg"])?.output()?;
    let clients = interpreted("with_environment.py")?;
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{exports}\nexec \"$@\""), "sh"]);
    shell.arg(clients.get_program()).args(clients.get_args()).envs(world.jerry.environment());
    assert_eq!(
        run(shell, "", PATIENCE)?.output()?,
        "psycopg jerry@app\npsycopg2 jerry@app\nasyncpg jerry@app\n"
    );

    let command = world.jerry.run(&["db", "config", "--format=cmd", "dev-pg"])?.output()?;
    let mut shell = Command::new("sh");
    shell.envs(world.jerry.environment());
    shell.args([
        "-c",
        &format!("{} --no-psqlrc --tuples-only --no-align --command \"$0\"", command.trim()),
        WHO,
    ]);
    assert_eq!(run(shell, "", PATIENCE)?.output()?, "jerry@app\n");

    let printed = world.jerry.run(&["db", "config", "--format=json", "dev-pg"])?.output()?;
    let printed: serde_json::Value = serde_json::from_str(&printed)?;
    let word = |name: &str| printed[name].as_str().context("a word").map(str::to_owned);
    let address = format!("{}:{}", word("host")?, printed["port"]);
    let psql = Psql::to(&address, word("ca")?.as_ref())
        .certificate(word("cert")?.as_ref(), word("key")?.as_ref())
        .user(&word("user")?)
        .database(&word("database")?);
    assert_eq!(psql.query(WHO)?.output()?, "jerry@app\n");
    Ok(())
}
