//! Shells and commands: what OpenSSH sees of them through a sidecar is what the host says, to the last bit.

use std::os::unix::process::ExitStatusExt as _;

use anyhow::{Result, ensure};
use e2e::{NodeWorld, OpenSsh};

use crate::stage::{noise, output};

#[test]
fn commands_and_shells_with_a_login_certificate_are_as_at_the_host_itself() -> Result<()> {
    let world = NodeWorld::jerry_and_olga()?;
    let ssh = world.ssh(&world.dev)?;
    both_streams_and_the_exit_code_come_back(&ssh)?;
    a_signal_is_told_as_one(&ssh)?;
    input_ends_where_it_ends_and_output_goes_on(&ssh)?;
    what_is_large_comes_whole_both_ways(&ssh)?;
    the_environment_goes_where_the_host_takes_it(&ssh)?;
    a_shell_has_a_terminal_of_the_right_size(&ssh)?;
    ensure!(world.sshd.log().iter().any(|line| line.contains("ID jerry")), "the host's own log names jerry");
    Ok(())
}

fn both_streams_and_the_exit_code_come_back(ssh: &OpenSsh) -> Result<()> {
    for code in [0, 7, 255] {
        let said = output(ssh.ssh(&[], &[&format!("echo out; echo err >&2; exit {code}")])?, b"")?;
        assert_eq!(said.status.code(), Some(code), "{}", String::from_utf8_lossy(&said.stderr));
        assert_eq!((&said.stdout[..], &said.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
    }
    Ok(())
}

/// ssh itself reports it as 255.
fn a_signal_is_told_as_one(ssh: &OpenSsh) -> Result<()> {
    let said = output(ssh.ssh(&["-v"], &["kill -TERM $$"])?, b"")?;
    assert_eq!(said.status.code(), Some(255));
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    ensure!(said.contains("exit-signal"), "{said}");
    Ok(())
}

fn input_ends_where_it_ends_and_output_goes_on(ssh: &OpenSsh) -> Result<()> {
    let said = output(ssh.ssh(&[], &["cat | wc -c; echo more"])?, &noise(100_000))?;
    assert_eq!(
        String::from_utf8_lossy(&said.stdout).split_whitespace().collect::<Vec<_>>(),
        ["100000", "more"]
    );
    // The other way round: the host is done, and the client's input is not.
    let said = output(ssh.ssh(&[], &["head -c 5"])?, &noise(5_000_000))?;
    assert_eq!((said.stdout.len(), said.status.code()), (5, Some(0)));
    Ok(())
}

fn what_is_large_comes_whole_both_ways(ssh: &OpenSsh) -> Result<()> {
    let sent = noise(20_000_000);
    let said = output(ssh.ssh(&[], &["cat"])?, &sent)?;
    ensure!(said.stdout == sent, "{} bytes came back, of {}", said.stdout.len(), sent.len());
    Ok(())
}

fn the_environment_goes_where_the_host_takes_it(ssh: &OpenSsh) -> Result<()> {
    let options = ["-o", "SetEnv=TOUCHSTONE_A=one"];
    assert_eq!(ssh.run_with(&options, "echo $TOUCHSTONE_A", "")?.output()?, "one\n");
    Ok(())
}

fn a_shell_has_a_terminal_of_the_right_size(ssh: &OpenSsh) -> Result<()> {
    let mut shell = ssh.at_terminal(&[], &[])?;
    shell.send("stty size; echo term=$TERM; tty")?;
    shell.expect("50 200")?;
    shell.expect("term=dumb")?;
    shell.expect("/dev/pts/")?;
    shell.send("exit 3")?;
    let (text, status) = shell.finish()?;
    assert_eq!((status.code(), status.signal()), (Some(3), None), "{text}");
    // Ctrl-C goes to what runs there, not to ssh.
    let mut shell = ssh.at_terminal(&["-t"], &["sh"])?;
    shell.send("echo ready; sleep 60 || echo interrupted")?;
    shell.expect("ready\n")?;
    shell.interrupt()?;
    shell.send("echo still here")?;
    shell.expect("still here")?;
    shell.send("exit")?;
    shell.finish()?;
    Ok(())
}
