//! What the tests have in common.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use e2e::{command_line, poll};

/// Longest that one client may take for everything it does.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a client to its end with this input; whatever it says, as bytes, and its status.
pub(crate) fn output(mut command: Command, input: &[u8]) -> Result<Output> {
    let line = command_line(&command);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("start `{line}`"))?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    let input = input.to_vec();
    let writer = thread::spawn(move || {
        // Who does not read its input closes it early.
        let _ = stdin.write_all(&input);
    });
    let id = child.id();
    let waiter = thread::spawn(move || child.wait_with_output());
    let ended = poll(&format!("`{line}` to end"), PATIENCE, || Ok(waiter.is_finished().then_some(())));
    if ended.is_err() {
        // So that the waiter comes back.
        let _ = Command::new("kill").arg("-KILL").arg(id.to_string()).status();
    }
    let output = waiter.join().ok().context("the waiter panicked")?.context("wait")?;
    let _ = writer.join();
    ended.with_context(|| format!("it said:\n{}", String::from_utf8_lossy(&output.stderr)))?;
    Ok(output)
}

/// The same for a client that must succeed: its standard output as text.
pub(crate) fn succeeds(command: Command) -> Result<String> {
    let line = command_line(&command);
    let output = output(command, b"")?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "`{line}` failed ({}):\n{out}{err}", output.status);
    Ok(out.into_owned())
}

/// The same for a client that must fail: everything it said.
pub(crate) fn fails(command: Command) -> Result<String> {
    let line = command_line(&command);
    let output = output(command, b"")?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() {
        bail!("`{line}` succeeded, and should not have:\n{out}{err}");
    }
    Ok(format!("{out}{err}"))
}

/// Makes a key for SSH in `file`: its public half.
pub(crate) fn key(file: &Path) -> Result<String> {
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(file);
    succeeds(keygen)?;
    Ok(fs::read_to_string(file.with_extension("pub"))?.trim().to_owned())
}

/// A file of this many bytes that compress badly and are the same each time.
pub(crate) fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .flatten()
    .take(bytes)
    .collect()
}
