//! Production asks for a touch, or a code, for each connection.

use anyhow::{Context, Result, ensure};
use e2e::{NodeWorld, Terminal};
use serde_json::Value;

use crate::stage::fails;

const QUESTION: &str = "Enter an OTP code from a device:";

fn of_prod(event: &Value) -> bool {
    event["server_hostname"] == "prod-node"
}

#[test]
fn a_login_alone_is_refused_with_words_that_say_what_to_run_and_is_on_record() -> Result<()> {
    let world = NodeWorld::jerry_and_olga()?;
    let said = fails(world.ssh(&world.prod)?.ssh(&["-o", "BatchMode=yes"], &["true"])?)?;
    ensure!(said.contains("access to resource requires MFA"), "{said}");
    ensure!(said.contains(&format!("run: tsh ssh {}@prod-node", world.sshd.account())), "{said}");
    let denied = world.tctl.wait_for_audit("auth", of_prod)?;
    assert_eq!((&denied["code"], &denied["success"]), (&"T3007W".into(), &false.into()));
    assert_eq!((&denied["user"], &denied["reason"]), (&"jerry".into(), &"mfa_required".into()));
    assert_eq!(denied["login"], world.sshd.account());
    ensure!(world.tctl.audit("session.start")?.iter().all(|event| !of_prod(event)), "a session started");
    ensure!(!world.sshd.log().iter().any(|line| line.contains("Accepted")), "somebody got to the host");

    // Another account than the roles give, where no touch is asked for either.
    let stranger = world.ssh(&world.dev)?.as_account("nobody-at-all");
    let said = fails(stranger.ssh(&["-o", "BatchMode=yes"], &["true"])?)?;
    ensure!(said.contains("the certificate is not for this login"), "{said}");
    Ok(())
}

#[test]
fn a_code_opens_one_connection_and_is_bound_to_it() -> Result<()> {
    let mut world = NodeWorld::jerry_and_olga()?;
    world.jerry.add_otp_device("phone")?;

    // A wrong one, then a right one.
    let mut shell = asked(&world)?;
    shell.send("000000")?;
    shell.expect("not accepted")?;
    shell.expect(QUESTION)?;
    let code = world.jerry.otp_code()?;
    shell.send(&code)?;
    works(shell)?;
    let started = world.tctl.wait_for_audit("session.start", of_prod)?;
    assert_eq!((&started["code"], &started["success"]), (&"T2000I".into(), &true.into()));
    ensure!(started["with_mfa"].is_string(), "{started}");
    for (code, success) in [("T1016W", false), ("T1016I", true)] {
        let judged = |event: &Value| event["code"] == code && event["success"] == success;
        world.tctl.wait_for_audit("mfa_auth_challenge.validate", judged)?;
    }

    // The same code again opens nothing, here or anywhere.
    let mut thief = asked(&world)?;
    thief.send(&code)?;
    thief.expect("not accepted")?;
    thief.expect(QUESTION)?;
    // The next connection asks anew.
    let code = world.jerry.otp_code()?;
    thief.send(&code)?;
    works(thief)?;

    // Where nobody can be asked, the refusal says what to run.
    let said = fails(world.ssh(&world.prod)?.ssh(&["-o", "BatchMode=yes"], &["true"])?)?;
    ensure!(said.contains("Permission denied") || said.contains("requires MFA"), "{said}");
    Ok(())
}

#[test]
fn a_cluster_of_security_keys_alone_asks_for_no_code() -> Result<()> {
    let mut world = NodeWorld::jerry_and_olga()?;
    world.jerry.add_otp_device("phone")?;
    world.tctl.create(&e2e::PREFERENCE.replace("second_factor: \"on\"", "second_factor: webauthn"))?;
    // The change is in force at the sidecar within a second; until then it may ask.
    e2e::poll("the sidecar to know", crate::stage::PATIENCE, || {
        let mut ssh = world.ssh(&world.prod)?.at_terminal(&[], &["true"])?;
        let (which, _) = ssh.expect_any(&[QUESTION, "access to resource requires MFA"])?;
        Ok((which == 1 && !ssh.text().contains(QUESTION)).then_some(()))
    })
}

fn asked(world: &NodeWorld) -> Result<Terminal> {
    let mut shell = world.ssh(&world.prod)?.at_terminal(&["-t"], &["sh"])?;
    shell.expect("access to resource requires MFA").context("why a code is asked for")?;
    shell.expect(QUESTION)?;
    Ok(shell)
}

fn works(mut shell: Terminal) -> Result<()> {
    // ssh throws away what was typed ahead of its question's end.
    shell.expect_any(&["# ", "$ "])?;
    shell.send("echo in''side")?;
    shell.expect("inside")?;
    shell.send("exit")?;
    shell.finish().map(drop)
}
