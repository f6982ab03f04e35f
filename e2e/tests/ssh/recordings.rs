//! What terminals showed is kept: while it grows, after a kill, and as the roles ask.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use e2e::{NodeWorld, Terminal, poll, run};
use serde_json::Value;

use crate::stage::{PATIENCE, output};

/// The recordings that authd has: names without their ending, and their text.
fn kept(world: &NodeWorld) -> Result<Vec<(String, String)>> {
    let folder: PathBuf = world.authd.data_dir().join("recordings");
    let Ok(entries) = fs::read_dir(&folder) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_stem().and_then(|name| name.to_str()).context("a name")?.to_owned();
        found.push((name, String::from_utf8_lossy(&fs::read(&path)?).into_owned()));
    }
    Ok(found)
}

/// What a recording shows, without times.
fn shown(cast: &str) -> Result<String> {
    let mut text = String::new();
    for line in cast.lines().skip(1) {
        let event: Value = serde_json::from_str(line).with_context(|| format!("no event: {line}"))?;
        if event[1] == "o" {
            text.push_str(event[2].as_str().unwrap_or_default());
        }
    }
    Ok(text)
}

fn wait_for(world: &NodeWorld, text: &str) -> Result<(String, String)> {
    poll(&format!("a recording with {text:?}"), PATIENCE, || {
        Ok(kept(world)?.into_iter().find(|(_, cast)| shown(cast).is_ok_and(|shown| shown.contains(text))))
    })
}

fn shell(world: &NodeWorld) -> Result<Terminal> {
    let mut shell = world.ssh(&world.dev)?.at_terminal(&["-tt"], &["sh"])?;
    shell.send("echo read''y")?;
    shell.expect("ready")?;
    Ok(shell)
}

#[test]
fn a_terminal_is_recorded_shipped_while_it_grows_and_its_end_names_it() -> Result<()> {
    let world = NodeWorld::jerry_and_olga()?;
    let mut shell = shell(&world)?;
    shell.send("printf 'gr\\303\\274n \\033[1mbold\\033[0m\\n'")?;
    shell.expect("bold")?;
    // It is there while the session lives.
    let (id, _) = wait_for(&world, "\u{1b}[1mbold")?;
    // The quotes keep what is echoed from looking like what is said once nothing is echoed any more.
    shell.send("stty -echo; echo as''ked; read secret; echo got' 'it")?;
    shell.expect("asked")?;
    shell.send("hunter2")?;
    shell.expect("got it")?;
    shell.send("exit")?;
    shell.finish()?;
    world.tctl.wait_for_audit("session.upload", |event| event["sid"] == *id)?;
    let ended = world.tctl.wait_for_audit("session.end", |event| event["sid"] == *id)?;
    assert_eq!((&ended["interactive"], &ended["recordings"]), (&true.into(), &serde_json::json!([id])));
    let started = world.tctl.wait_for_audit("exec", |event| event["sid"] == *id)?;
    assert_eq!((&started["recording"], &started["terminal"]["columns"]), (&id.clone().into(), &200.into()));
    let (_, cast) = wait_for(&world, "got it")?;
    let header: Value = serde_json::from_str(cast.lines().next().context("a header")?)?;
    assert_eq!(
        (&header["version"], &header["width"], &header["height"]),
        (&2.into(), &200.into(), &50.into())
    );
    let text = shown(&cast)?;
    ensure!(text.contains("grün") && text.contains("ready"), "{text}");
    ensure!(!cast.contains("hunter2"), "what was typed unseen is not in it");

    // Jerry sees his own again.
    let listed = world.jerry.run(&["recordings", "ls"])?.output()?;
    ensure!(listed.contains(&id) && listed.contains("dev-node"), "{listed}");
    let played = world.jerry.run(&["play", "--format=text", &id])?.output()?;
    ensure!(played.contains("grün") && played.contains("got it"), "{played}");
    world.tctl.wait_for_audit("session.recording.access", |event| event["sid"] == *id)?;
    let played = world.jerry.run(&["play", "--format=yaml", &id])?.output()?;
    ensure!(played.starts_with("---\ntime: ") && played.contains("grün"), "{played}");
    ensure!(world.jerry.run(&["recordings", "ls", "--last=1h"])?.output()?.contains(&id));
    ensure!(!world.jerry.run(&["recordings", "ls", "--to-utc=2020-01-01"])?.output()?.contains(&id));

    // Administrators see everybody's; Jerry's roles do not make him one.
    let listed = world.tctl.ok(&["recordings", "ls", "--last=1h", "--format=json"])?;
    let listed: Value = serde_json::from_str(&listed)?;
    assert_eq!((&listed[0]["session_id"], &listed[0]["user"]), (&id.as_str().into(), &"jerry".into()));
    let refused = output(world.jerry.tctl(&["recordings", "ls"])?, b"")?;
    ensure!(!refused.status.success() && refused.stdout.is_empty());

    // A shell without a terminal is a session too.
    let shell = world.ssh(&world.dev)?.ssh(&["-T"], &[])?;
    let said = run(shell, "echo with''out a terminal\nexit\n", PATIENCE)?.output()?;
    ensure!(said.ends_with("without a terminal\n"), "{said}");
    let (id, cast) = wait_for(&world, "without a terminal\r\n")?;
    let shell = world.tctl.wait_for_audit("session.shell", |event| event["sid"] == *id)?;
    ensure!(shell["recording"] == *id && shell.get("terminal").is_none(), "{shell}");
    ensure!(!cast.contains("with''out"), "what a shell reads is not in it");

    // Of a command without a terminal nothing is recorded.
    world.ssh(&world.dev)?.run("echo unseen")?.output()?;
    let unseen = |event: &Value| event["command"] == "echo unseen";
    let exec = world.tctl.wait_for_audit("exec", unseen)?;
    ensure!(exec.get("recording").is_none(), "{exec}");
    ensure!(!kept(&world)?.iter().any(|(_, cast)| cast.contains("unseen")));
    Ok(())
}

#[test]
fn a_window_that_is_pulled_larger_is_larger_at_the_host_and_in_the_recording() -> Result<()> {
    let world = NodeWorld::jerry_and_olga()?;
    let mut shell = shell(&world)?;
    shell.send("stty size")?;
    shell.expect("50 200")?;
    for (rows, columns) in [(33, 120), (61, 233)] {
        shell.resize(rows, columns)?;
        // ssh hears of it by a signal, and of what is typed by its input: whichever it looks at first.
        let size = format!("\n{rows} {columns}\n");
        poll("the host to know", PATIENCE, || {
            shell.send("stty size; echo as''ked")?;
            let (_, before) = shell.expect_any(&["asked"])?;
            Ok(before.contains(&size).then_some(()))
        })?;
    }
    shell.send("exit")?;
    shell.finish()?;
    let ended = world.tctl.wait_for_audit("session.upload", |_| true)?;
    let (_, cast) = kept(&world)?.into_iter().find(|(id, _)| ended["sid"] == **id).context("no recording")?;
    let header: Value = serde_json::from_str(cast.lines().next().context("a header")?)?;
    assert_eq!((&header["width"], &header["height"]), (&200.into(), &50.into()));
    let mut sizes = Vec::new();
    for line in cast.lines().skip(1) {
        let event: Value = serde_json::from_str(line)?;
        if event[1] == "r" {
            sizes.push(event[2].as_str().context("a size")?.to_owned());
        }
    }
    assert_eq!(sizes, ["120x33", "233x61"]);
    Ok(())
}

#[test]
fn a_killed_sidecar_loses_nothing_that_was_shown() -> Result<()> {
    let mut world = NodeWorld::jerry_and_olga()?;
    let mut shell = shell(&world)?;
    let (id, acknowledged) = wait_for(&world, "ready")?;
    for number in 0..50 {
        shell.send(&format!("echo line-{number}-''end"))?;
    }
    shell.expect("line-49-end")?;
    world.dev.daemon().kill()?;
    drop(shell);
    world.dev.resume()?;
    world.tctl.wait_for_audit("session.upload", |event| event["sid"] == *id)?;
    let (_, cast) = wait_for(&world, "line-49-end")?;
    ensure!(cast.starts_with(&acknowledged), "what was acknowledged has changed");
    let text = shown(&cast)?;
    for number in 0..50 {
        ensure!(text.contains(&format!("line-{number}-end")), "line {number} is missing in:\n{text}");
    }
    let left = fs::read_dir(world.dev.data_dir().join("recordings"))?.count();
    poll("the sidecar to forget it", Duration::from_secs(20), || {
        let left = fs::read_dir(world.dev.data_dir().join("recordings"))?.count();
        Ok((left == 0).then_some(()))
    })
    .with_context(|| format!("{left} files"))
}

/// A place where no recording can be made.
fn spoil(world: &NodeWorld) -> Result<()> {
    let folder = world.dev.data_dir().join("recordings");
    fs::remove_dir_all(&folder)?;
    fs::write(folder, b"a file where the directory was")?;
    Ok(())
}

#[test]
fn a_terminal_that_cannot_be_recorded_goes_on_or_ends_as_the_roles_say() -> Result<()> {
    let world = NodeWorld::jerry_and_olga()?;
    spoil(&world)?;
    let mut goes_on = shell(&world)?;
    goes_on.send("exit")?;
    goes_on.finish()?;
    let failed = world.tctl.wait_for_audit("session.unrecorded", |_| true)?;
    assert_eq!((&failed["code"], &failed["record_session"]), (&"TTS25W".into(), &"best_effort".into()));

    let world = NodeWorld::with_options("record_session: { default: strict }", "")?;
    // Commands without a terminal are not recorded, and may run.
    spoil(&world)?;
    assert_eq!(world.ssh(&world.dev)?.run("echo fine")?.output()?, "fine\n");
    let ended = world.ssh(&world.dev)?.at_terminal(&["-tt"], &["echo sho''wn"])?.fail()?;
    ensure!(ended.contains("its recording cannot go on") && !ended.contains("shown"), "{ended}");
    world.tctl.wait_for_audit("session.end", |event| event["reason"] == "recording_failed")?;
    Ok(())
}
