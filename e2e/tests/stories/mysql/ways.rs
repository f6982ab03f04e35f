//! The ways in: tsh's client, tsh's tunnel for any other, and native TLS with what `tsh db login` kept.

use std::{path::PathBuf, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use e2e::{ACCESS_DEV, MariadbClient, MariadbWorld, run};

use super::late;

/// Longest that one client may take.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_tunnel_serves_any_client_without_tls() -> Result<()> {
    let world = MariadbWorld::jerry_and_olga()?;
    let mut tunnel = world.jerry.at_terminal(&["proxy", "db", "--tunnel", "prod-mysql-instance"])?;
    tunnel.expect("Tap any security key")?;
    tunnel.expect("for the MySQL database \"prod-mysql-instance\"")?;
    tunnel.expect("on 127.0.0.1:")?;
    let port = tunnel.expect(".\n")?.trim().parse().context("port of the tunnel")?;
    let shown = tunnel.expect("--skip-ssl")?;
    ensure!(shown.contains("mariadb --user jerry"), "{shown}");

    let client = MariadbClient::through_tunnel(port);
    let sql = "SELECT CONCAT(CURRENT_USER(), ' ', DATABASE())";
    // One touch, as many connections as the tool likes.
    for _ in 0..2 {
        assert_eq!(client.query(sql)?.output()?, "jerry@% app\n");
    }
    let error = client.user("olga").query(sql)?.error()?;
    ensure!(error.contains("ERROR 1045 (28000)") && error.contains("\"jerry\""), "{error}");
    Ok(())
}

#[test]
fn a_native_client_connects_with_what_db_login_kept() -> Result<()> {
    let world = MariadbWorld::jerry_and_olga()?;
    let tsh = |args: &[&str]| world.jerry.run(args)?.output();
    let said = tsh(&["db", "login", "--db-name=app", "dev-mysql-instance"])?;
    ensure!(said.contains("has been saved"), "{said}");
    let options = std::fs::read_to_string(world.jerry.home().join(".my.cnf"))?;
    ensure!(options.contains("[client_main-dev-mysql-instance]"), "{options}");
    assert_eq!(
        tsh(&["db", "env", "dev-mysql-instance"])?,
        "export MYSQL_GROUP_SUFFIX=_main-dev-mysql-instance\n"
    );

    // The option file alone leads there, over TLS that is verified.
    let ask = ["--batch", "--skip-column-names", "--execute=SELECT CONCAT(CURRENT_USER(), ' ', DATABASE())"];
    let mut command = bare()?;
    command.env("HOME", world.jerry.home()).env("MYSQL_GROUP_SUFFIX", "_main-dev-mysql-instance").args(ask);
    assert_eq!(run(command, "", PATIENCE)?.output()?, "jerry@% app\n");

    // And so does the line that `db config` prints, in a shell.
    let line = tsh(&["db", "config", "--format=cmd", "dev-mysql-instance"])?;
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{} \"$@\"", line.trim()), "sh"]).args(ask);
    assert_eq!(run(shell, "", PATIENCE)?.output()?, "jerry@% app\n");

    let said = tsh(&["db", "logout", "dev-mysql-instance"])?;
    ensure!(said.contains("Logged out of database"), "{said}");
    let options = std::fs::read_to_string(world.jerry.home().join(".my.cnf"))?;
    ensure!(!options.contains("dev-mysql-instance"), "{options}");
    Ok(())
}

#[test]
fn a_port_without_a_tunnel_carries_the_clients_own_tls() -> Result<()> {
    let world = MariadbWorld::jerry_and_olga()?;
    world.jerry.run(&["db", "login", "dev-mysql-instance"])?.output()?;
    let mut proxy = world.jerry.at_terminal(&["proxy", "db", "dev-mysql-instance"])?;
    proxy.expect("Started DB proxy on 127.0.0.1:")?;
    let port = proxy.expect("\n")?.trim().to_owned();
    let mut file = |name: &str| -> Result<PathBuf> {
        proxy.expect(&format!("{name}="))?;
        Ok(proxy.expect("\n")?.trim().into())
    };
    let (authorities, certificate, key) = (file("ca_file")?, file("cert_file")?, file("key_file")?);
    let client = MariadbClient::to(&format!("localhost:{port}"), &authorities);
    let sql = "SELECT CURRENT_USER()";
    assert_eq!(client.clone().certificate(&certificate, &key).query(sql)?.output()?, "jerry@%\n");
    // Whoever reaches the port has nothing without the files.
    let error = client.query(sql)?.error()?;
    ensure!(error.contains("ERROR 1045 (28000): a client certificate is required"), "{error}");
    Ok(())
}

#[test]
fn clients_are_greeted_with_the_databases_own_version_or_the_configured_one() -> Result<()> {
    let (world, late) = late(ACCESS_DEV, |_, options| {
        options.mysql_server_version = Some("8.0.36-shown".to_owned());
        Ok(())
    })?;
    // What the greeting said, not what a query answers.
    let greeted = |client: MariadbClient| client.without("database").program("mariadb-admin", &["version"]);
    let own = world.mariadb.admin("mysql", "SELECT VERSION()")?;
    let said = greeted(world.client_with_login(&world.dev)?)?.output()?;
    ensure!(said.contains(&format!("Server version\t\t{}", own.trim())), "{said}");
    let said = greeted(world.client_with_login(&late)?)?.output()?;
    ensure!(said.contains("Server version\t\t8.0.36-shown"), "{said}");
    Ok(())
}

/// The `mariadb` client, told nothing.
fn bare() -> Result<Command> {
    let program = MariadbClient::through_tunnel(0).command("mariadb")?.get_program().to_owned();
    let mut command = Command::new(program);
    command.env_clear();
    Ok(command)
}
