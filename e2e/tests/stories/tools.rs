//! The tools that people use, through the tunnel of `tsh proxy db`.

use anyhow::{Context, Result, ensure};
use e2e::{ACCESS_PROD, Psql, Terminal, World};

/// Starts a tunnel to production: one touch, then any number of connections.
fn tunnel(world: &World) -> Result<(Terminal, u16)> {
    let mut tunnel = world.jerry.at_terminal(&["proxy", "db", "--tunnel", "prod-pg"])?;
    tunnel.expect("Tap any security key")?;
    tunnel.expect("on 127.0.0.1:")?;
    let port = tunnel.expect(".\n")?.trim().parse().context("port of the tunnel")?;
    Ok((tunnel, port))
}

#[test]
fn one_touch_opens_a_tunnel_for_psql_pgbench_and_pg_dump() -> Result<()> {
    let world = World::jerry_and_olga()?;
    let (_tunnel, port) = tunnel(&world)?;
    let psql = Psql::through_tunnel(port);
    assert_eq!(psql.query("SELECT current_user || '@' || current_database()")?.output()?, "jerry@app\n");

    psql.program("pgbench", &["--initialize", "--scale=1", "--quiet"])?.output()?;
    for mode in ["simple", "extended", "prepared"] {
        let protocol = format!("--protocol={mode}");
        let said = psql
            .program("pgbench", &["--no-vacuum", "--client=4", "--jobs=2", "--transactions=25", &protocol])?
            .output()?;
        ensure!(said.contains("number of transactions actually processed: 100/100"), "{said}");
        ensure!(said.contains("number of failed transactions: 0"), "{said}");
    }

    let through = psql.program("pg_dump", &["--table=orders", "--dbname"])?.output()?;
    ensure!(through.contains("3\tlantern"), "{through}");
    Ok(())
}

#[test]
fn a_tunnel_asks_as_whoever_is_logged_in_now() -> Result<()> {
    let world = World::jerry_and_olga()?;
    // So short that every connection needs a touch of its own.
    let option = "require_session_mfa: true";
    world
        .tctl
        .create(&ACCESS_PROD.replace(option, &format!("{option}\n    mfa_verification_interval: 4s")))?;
    let (mut tunnel, port) = tunnel(&world)?;
    let psql = Psql::through_tunnel(port);
    assert_eq!(psql.query("SELECT 1")?.output()?, "1\n");
    tunnel.expect("Detected security key tap")?;

    world.jerry.run(&["logout"])?.output()?;
    let refused = psql.query("SELECT 1")?.error()?;
    ensure!(refused.contains("not logged in, run: tsh login"), "{refused}");

    world.jerry.login(&world.authd.public_addr())?;
    assert_eq!(psql.query("SELECT 1")?.output()?, "1\n");
    Ok(())
}

#[test]
fn large_answers_arrive_whole() -> Result<()> {
    let world = World::jerry_and_olga()?;
    let (_tunnel, port) = tunnel(&world)?;
    let psql = Psql::through_tunnel(port);
    let one = psql.query("SELECT length(x), x FROM (SELECT repeat('x', 8000000) AS x) AS t")?.output()?;
    assert_eq!(one.len(), "8000000|".len() + 8_000_000 + 1);
    let many = psql.query("SELECT i FROM generate_series(1, 100000) AS i")?.output()?;
    assert_eq!(many.lines().count(), 100_000);
    Ok(())
}

#[test]
fn copy_goes_both_ways() -> Result<()> {
    let world = World::jerry_and_olga()?;
    let (_tunnel, port) = tunnel(&world)?;
    let psql = Psql::through_tunnel(port);
    let sql = "CREATE TABLE copied (i int); COPY copied FROM PROGRAM 'seq 3'";
    let refused = psql.query(sql)?.error()?;
    ensure!(refused.contains("pg_execute_server_program"), "the database's own words: {refused}");

    let mut session = psql.session()?;
    session.send("CREATE TABLE copied (i int);")?;
    session.expect("CREATE TABLE")?;
    session.expect("=> ")?;
    session.send("COPY copied FROM STDIN;")?;
    session.expect(">> ")?;
    session.send("1\n2\n3\n\\.")?;
    session.expect("COPY 3")?;
    session.send("COPY copied TO STDOUT;")?;
    session.expect("1\n2\n3\n")?;
    Ok(())
}
