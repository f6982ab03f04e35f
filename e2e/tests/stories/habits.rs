//! What people who know Teleport type without thinking: its variables, `-c`, `tsh env`, identity files.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
};

use anyhow::{Context, Result, ensure};
use e2e::{PASSWORD, Terminal, Tsh, World};

/// Runs it to its end; standard output and standard error.
fn said(command: &mut Command) -> Result<(bool, String, String)> {
    let output = command.stdin(std::process::Stdio::null()).output()?;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Ok((output.status.success(), text(&output.stdout), text(&output.stderr)))
}

fn ok(command: &mut Command) -> Result<String> {
    let (success, out, err) = said(command)?;
    ensure!(success && err.is_empty(), "{out}{err}");
    Ok(out)
}

fn refused(command: &mut Command) -> Result<String> {
    let (success, out, err) = said(command)?;
    ensure!(!success, "{out}{err}");
    Ok(err)
}

#[test]
fn teleports_variables_mean_the_same_and_ours_win() -> Result<()> {
    let world = World::jerry_and_olga()?;
    let jerry = &world.jerry;
    let status = |set: &[(&str, &str)]| -> Result<Command> {
        let mut command = jerry.command(&["status"])?;
        command.env_remove("TSH_HOME").env("HOME", world.path());
        command.env("TELEPORT_HOME", jerry.home().join(".tsh")).envs(set.iter().copied());
        Ok(command)
    };
    ensure!(ok(&mut status(&[])?)?.contains("Logged in as:       jerry"));
    let elsewhere = ("TELEPORT_PROXY", "elsewhere.example.com:3080");
    ensure!(refused(&mut status(&[elsewhere])?)?.contains("Not logged in."));
    let proxy = world.authd.public_addr();
    ensure!(ok(&mut status(&[elsewhere, ("TSH_PROXY", &proxy)])?)?.contains("jerry"));
    ensure!(ok(&mut status(&[elsewhere, ("TELEPORT_PROXY", "")])?)?.contains("jerry"), "nothing is not set");
    ensure!(refused(&mut status(&[("TELEPORT_USER", "olga")])?)?.contains("Not logged in."));
    let other = ("TELEPORT_CLUSTER", "other");
    let told = refused(&mut status(&[other])?)?;
    ensure!(told.starts_with("ERROR: cluster \"other\" is not found, you are logged in to "), "{told}");
    let env = ok(jerry.command(&["env"])?.envs([("TELEPORT_CLUSTER", "")]))?;
    let cluster = env.lines().find_map(|line| line.strip_prefix("export TSH_CLUSTER=")).context("cluster")?;
    ensure!(env.contains(&format!("export TSH_PROXY={proxy}\n")), "{env}");
    ensure!(ok(&mut status(&[other, ("TSH_CLUSTER", cluster)])?)?.contains("jerry"));
    let (_, _, log) = said(jerry.command(&["db", "ls"])?.env("TELEPORT_DEBUG", "1"))?;
    ensure!(log.contains("DEBUG"), "{log}");
    let mfa = refused(jerry.command(&["db", "ls"])?.env("TELEPORT_MFA_MODE", "sms"))?;
    ensure!(mfa.contains("invalid value 'sms' for '--mfa-mode"), "{mfa}");
    Ok(())
}

#[test]
fn a_cluster_may_be_named_where_it_is_the_one() -> Result<()> {
    let world = World::jerry_and_olga()?;
    let clusters = world.jerry.run(&["clusters", "--format=json"])?.output()?;
    let clusters: serde_json::Value = serde_json::from_str(&clusters)?;
    let cluster = clusters[0]["cluster_name"].as_str().context("a name")?;
    for command in
        [&["db", "ls"][..], &["ls"], &["mfa", "ls"], &["status"], &["login"], &["recordings", "ls"]]
    {
        world.jerry.run(&[command, &["-c", cluster]].concat())?.output()?;
        let told = world.jerry.run(&[command, &["--cluster=other"]].concat())?.error()?;
        ensure!(told.contains("cluster \"other\" is not found"), "{command:?}: {told}");
        ensure!(!told.contains("assword"), "{told}");
    }
    world.jerry.run(&["login", cluster])?.output()?;
    Ok(())
}

/// Password and touch, as asked.
fn prove(mut login: Terminal) -> Result<String> {
    login.expect("Enter password")?;
    login.expect(":")?;
    login.send(PASSWORD)?;
    login.expect("Tap any security key")?;
    login.succeed()
}

fn log_in_to_file(person: &Tsh, more: &[&str]) -> Result<String> {
    let login = ["login", "--mfa-mode=cross-platform", "--out=robot"];
    prove(person.at_terminal(&[&login, more].concat())?)
}

fn mode(path: &Path) -> Result<u32> {
    Ok(fs::metadata(path)?.permissions().mode() & 0o777)
}

#[test]
fn an_identity_file_opens_what_needs_no_touch_and_asks_for_the_touch_of_what_does() -> Result<()> {
    let world = World::jerry_and_olga()?;
    let jerry = &world.jerry;
    let proxy = world.authd.public_addr();
    let (certificate, _) = jerry.login_files(&proxy)?;
    let before = fs::read(&certificate)?;
    let shown = log_in_to_file(jerry, &[])?;
    ensure!(shown.ends_with("The certificate has been written to robot\n"), "{shown}");
    ensure!(fs::read(&certificate)? == before, "the login on disk is another one");
    let file = jerry.home().join("robot");
    assert_eq!(mode(&file)?, 0o600);
    let told = jerry.run(&["login", "--out=robot"])?.error()?;
    assert_eq!(told, "ERROR: robot exists already; --overwrite replaces it\n");

    jerry.run(&["logout"])?.output()?;
    let with = |more: &[&str]| jerry.run(&[&["-i", "robot", "--proxy", &proxy], more].concat());
    ensure!(with(&["db", "ls"])?.output()?.contains("dev-pg"));
    ensure!(with(&["status"])?.output()?.contains("Logged in as:       jerry"));
    let answer = with(&["db", "connect", "dev-pg", "--", "-Atc", "select 41 + 1"])?.output()?;
    assert_eq!(answer, "42\n");
    let connect = ["db", "connect", "prod-pg", "--", "-Atc", "select 41 + 1"];
    let shown = jerry.at_terminal(
        &[&["--mfa-mode=cross-platform", "-i", "robot", "--proxy", &proxy], &connect[..]].concat(),
    )?;
    let shown = shown.succeed()?;
    ensure!(shown.contains("Tap any security key") && shown.contains("42"), "{shown}");
    let started = world.tctl.wait_for_audit("db.session.start", |event| event["db_service"] == "prod-pg")?;
    ensure!(started["with_mfa"].is_string() && started["user"] == "jerry", "{started}");
    ensure!(!certificate.exists(), "nothing came back to the home");

    assert_eq!(
        jerry.run(&["-i", "robot", "db", "ls"])?.error()?,
        "ERROR: no proxy address specified, missed --proxy flag? An identity file needs it\n"
    );
    let told = with(&["--user=olga", "db", "ls"])?.error()?;
    assert_eq!(told, "ERROR: the identity file is of user jerry, not of olga\n");
    for command in [&["login"][..], &["logout"], &["config"], &["db", "login", "dev-pg"], &["db", "logout"]] {
        let told = with(command)?.error()?;
        ensure!(told.starts_with("ERROR: -i flag cannot be used here"), "{command:?}: {told}");
    }
    fs::set_permissions(&file, Permissions::from_mode(0o644))?;
    let listed = with(&["db", "ls"])?;
    ensure!(
        listed.success && listed.stderr.starts_with("WARNING: the identity file robot is open to others")
    );
    fs::set_permissions(&file, Permissions::from_mode(0o600))?;

    // Locked out is locked out, whatever one holds.
    world.tctl.ok(&["lock", "--user=jerry"])?;
    ensure!(with(&["db", "connect", "dev-pg", "--", "-c", "select 1"])?.error()?.contains("ERROR:"));
    Ok(())
}

#[test]
fn an_identity_file_is_written_for_openssh_and_for_tls_too() -> Result<()> {
    let world = World::jerry_and_olga()?;
    let jerry = &world.jerry;
    let path = |name: &str| jerry.home().join(name);
    let shown = log_in_to_file(jerry, &["--format=openssh"])?;
    ensure!(shown.ends_with("The certificate has been written to robot,robot-cert.pub\n"), "{shown}");
    let of = ok(Command::new("ssh-keygen").arg("-Lf").arg(path("robot-cert.pub")))?;
    let public = ok(Command::new("ssh-keygen").arg("-lf").arg(path("robot")))?;
    let fingerprint = public.split(' ').nth(1).context("a fingerprint")?;
    ensure!(of.contains("user certificate") && of.contains(fingerprint), "{of}{public}");
    assert_eq!((mode(&path("robot"))?, mode(&path("robot-cert.pub"))?), (0o600, 0o600));

    log_in_to_file(jerry, &["--format=tls"])?;
    let psql = world.psql(&world.dev)?.certificate(&path("robot.crt"), &path("robot.key"));
    let authorities = fs::read_to_string(path("robot.cas"))?;
    ensure!(authorities == world.tctl.export("tls-host")?, "{authorities}");
    assert_eq!(psql.query("select 41 + 1")?.output()?.trim(), "42");
    Ok(())
}

#[test]
fn an_administrators_first_day() -> Result<()> {
    let world = World::jerry_and_olga()?;
    let tctl = &world.tctl;
    let inventory = tctl.ok(&["inventory", "ls", "--format=json"])?;
    let inventory: serde_json::Value = serde_json::from_str(&inventory)?;
    let sidecars = inventory.as_array().context("a list")?;
    let guards = |name: &str| sidecars.iter().any(|sidecar| sidecar["targets"] == serde_json::json!([name]));
    ensure!(sidecars.len() == 2 && guards("dev-pg") && guards("prod-pg"), "{inventory}");
    ensure!(sidecars.iter().all(|sidecar| sidecar["hostname"] != "" && sidecar["services"][0] == "Db"));
    let prod = tctl.ok(&["db", "ls", "env=prod"])?;
    ensure!(prod.contains("prod-pg") && !prod.contains("dev-pg"), "{prod}");
    ensure!(tctl.ok(&["nodes", "add", "--ttl=5m"])?.contains("--protocol=ssh"));
    let both = tctl.ok(&["auth", "export"])?;
    assert_eq!(both, tctl.export("user")? + &tctl.export("host")?);
    for format in [&[][..], &["--format=file"], &["--format=openssh"]] {
        let sign = [&["auth", "sign", "--user=jerry", "--out=jerry"], format].concat();
        ensure!(
            tctl.run(&sign)?.error()?.starts_with("ERROR: tctl signs no user's certificate: "),
            "{sign:?}"
        );
    }
    let mut create = tctl.command(&["create"])?;
    let file = world.path().join("day-one.yaml");
    fs::write(&file, "kind: role\nversion: v7\nmetadata: {name: day-one}\nspec: {}\n")?;
    let created = create.stdin(fs::File::open(&file)?).output()?;
    assert_eq!(String::from_utf8(created.stdout)?, "role 'day-one' has been created\n");
    Ok(())
}
