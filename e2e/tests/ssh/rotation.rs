//! New keys for the authorities of hosts, while people work.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use e2e::{NodeWorld, process::poll};

use crate::stage::output;

fn step(world: &NodeWorld, kind: &str, phase: &str) -> Result<()> {
    let (kind, phase) = (format!("--type={kind}"), format!("--phase={phase}"));
    world.tctl.ok(&["auth", "rotate", &kind, "--manual", &phase]).map(drop)
}

/// As soon as no sidecar would be locked out.
fn step_host(world: &NodeWorld, phase: &str) -> Result<()> {
    poll("the sidecars to show their new certificates", Duration::from_secs(60), || {
        Ok((!world.tctl.ok(&["status"])?.contains("the next phase waits for sidecar")).then_some(()))
    })?;
    step(world, "host", phase)
}

/// Runs `true` at the host by way of the sidecar; who signed for the sidecar, as sshd says it.
fn signer(world: &NodeWorld) -> Result<String> {
    let said = output(world.ssh(&world.dev)?.ssh(&["-o", "BatchMode=yes"], &["true"])?, b"")?;
    ensure!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let log = world.sshd.log();
    let accepted = log.iter().rev().find(|line| line.contains("Accepted publickey"));
    let (_, signer) = accepted.and_then(|line| line.split_once(" CA ")).context("sshd let nobody in")?;
    Ok(signer.to_owned())
}

fn wait_until_renewed(world: &mut NodeWorld, times: usize) -> Result<()> {
    let daemon = world.dev.daemon();
    poll("the sidecar to renew its certificate", Duration::from_secs(60), || {
        let renewed = daemon.log().iter().filter(|line| line.contains("certificate renewed")).count();
        Ok((renewed >= times).then_some(()))
    })
}

#[test]
fn a_host_is_told_once_of_both_and_once_of_the_one_that_is_left() -> Result<()> {
    let mut world = NodeWorld::jerry_and_olga()?;
    let before = signer(&world)?;
    step(&world, "openssh", "init")?;
    world.sshd.trust(&world.tctl)?;
    assert_eq!(signer(&world)?, before);
    step(&world, "openssh", "update_clients")?;
    // It keeps a certificate for an hour; started again, it asks for another.
    world.dev.daemon().stop()?;
    world.dev.resume()?;
    let after = signer(&world)?;
    ensure!(after != before, "{before} {after}");
    step(&world, "openssh", "update_servers")?;
    step(&world, "openssh", "standby")?;
    world.sshd.trust(&world.tctl)?;
    assert_eq!(signer(&world)?, after);
    Ok(())
}

#[test]
fn a_sidecar_shows_a_host_certificate_of_the_new_authority_and_known_hosts_follow() -> Result<()> {
    let mut world = NodeWorld::jerry_and_olga()?;
    step(&world, "host", "init")?;
    wait_until_renewed(&mut world, 1)?;
    // Whoever opens a session in between learns of the new one.
    world.jerry.run(&["ssh", &format!("{}@dev-node", world.sshd.account()), "true"])?.output()?;
    let known = fs::read_to_string(world.jerry.known_hosts())?;
    assert_eq!(known.matches("@cert-authority").count(), 2, "{known}");
    step_host(&world, "update_clients")?;
    step_host(&world, "update_servers")?;
    wait_until_renewed(&mut world, 2)?;
    step_host(&world, "standby")?;
    signer(&world)?;
    world.jerry.run(&["ssh", &format!("{}@dev-node", world.sshd.account()), "true"])?.output()?;
    let known = fs::read_to_string(world.jerry.known_hosts())?;
    assert_eq!(known.matches("@cert-authority").count(), 1, "{known}");
    Ok(())
}
