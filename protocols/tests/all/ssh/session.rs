//! Whole sessions by `ssh`: what runs, how it ends, and what does not go through.

use std::process::Stdio;

use protocols::{Allowed, End, RefusalCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::house::{House, Plan};

#[tokio::test]
async fn a_command_runs_with_its_output_its_errors_and_its_exit_status() {
    let Some(mut house) = House::open().await else { return };
    let output = house.ssh(&[]).arg("echo out; echo err >&2; exit 7").output().await.unwrap();
    assert_eq!(
        (output.status.code(), &*output.stdout, &*output.stderr),
        (Some(7), &b"out\n"[..], &b"err\n"[..]),
        "{}",
        house.sshd_log()
    );
    let transferred = house.ended_by_client().await;
    assert_eq!((transferred.from_client, transferred.from_upstream), (0, 8));
    assert!(house.log.has("exec echo out; echo err >&2; exit 7 copy=false"), "{:?}", house.log.seen());
    assert!(house.log.has("0 Close { exit: Some(Status(7)), from_client: 0, from_upstream: 8 }"));
}

#[tokio::test]
async fn a_signal_that_ends_a_command_is_told() {
    let Some(mut house) = House::open().await else { return };
    let output = house.ssh(&[]).arg("kill -TERM $$").output().await.unwrap();
    assert_eq!(output.status.code(), Some(255));
    house.ended_by_client().await;
    let close = "0 Close { exit: Some(Signal { name: [84, 69, 82, 77] })";
    assert!(house.log.has(close), "{:?}", house.log.seen());
}

#[tokio::test]
async fn input_is_half_closed_and_every_byte_arrives() {
    let Some(mut house) = House::open().await else { return };
    let mut child = house.ssh(&[]).arg("sha256sum; echo done").stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let block: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
    for _ in 0..20 {
        input.write_all(&block).await.unwrap();
    }
    drop(input);
    let output = child.wait_with_output().await.unwrap();
    house.succeeded(&output);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with(&sha256(&block, 20)) && text.ends_with("done\n"), "{text}");
    assert_eq!(house.ended_by_client().await.from_client, 20 << 20);
}

/// The hash of a block so many times, in hex.
fn sha256(block: &[u8], times: usize) -> String {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    (0..times).for_each(|_| context.update(block));
    context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn much_output_arrives_by_every_cipher_across_new_keys() {
    let plan = Plan { new_keys_after: Some(1 << 20), ..Plan::default() };
    let Some(house) = House::with(plan).await else { return };
    let expected = sha256(&[0; 1 << 20], 6);
    for cipher in [
        "aes128-gcm@openssh.com",
        "aes256-gcm@openssh.com",
        "chacha20-poly1305@openssh.com",
        "aes128-ctr",
        "aes256-ctr",
    ] {
        let macs = if cipher == "aes128-ctr" { "hmac-sha2-512-etm" } else { "hmac-sha2-256-etm" };
        let options = ["-c", cipher, "-m", &format!("{macs}@openssh.com"), "-o", "RekeyLimit=2M"];
        let output = house.ssh(&options).arg("head -c 6291456 /dev/zero").output().await.unwrap();
        house.succeeded(&output);
        assert_eq!(sha256(&output.stdout, 1), expected, "{cipher}");
    }
}

#[tokio::test]
async fn both_ways_at_once_across_new_keys_that_both_sides_begin() {
    let plan = Plan { new_keys_after: Some(1 << 20), sshd: "RekeyLimit 1500K".into(), ..Plan::default() };
    let Some(house) = House::with(plan).await else { return };
    let mut child = house.ssh(&["-o", "RekeyLimit=1100K"]).arg("cat").stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let block: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
    let expected = sha256(&block, 10);
    let write = tokio::spawn(async move {
        for _ in 0..10 {
            input.write_all(&block).await.unwrap();
        }
    });
    let output = child.wait_with_output().await.unwrap();
    write.await.unwrap();
    house.succeeded(&output);
    assert_eq!(sha256(&output.stdout, 1), expected);
}

#[tokio::test]
async fn a_terminal_is_shown_to_the_tap_and_changes_its_size() {
    let Some(mut house) = House::open().await else { return };
    // `script` gives the client a terminal of its own, so that it asks for one.
    let ssh = format!(
        "stty rows 30 cols 100; ssh {} -tt 127.0.0.1 'stty size; read line; stty size; echo got $line; exit 3'",
        house.options().iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ")
    );
    let mut child = tokio::process::Command::new("script")
        .args(["-qec", &ssh, "/dev/null"])
        .env("TERM", "xterm-256color")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut shown = String::new();
    let mut output = child.stdout.take().unwrap();
    while !shown.contains("30 100") {
        let mut bytes = [0; 256];
        let read = output.read(&mut bytes).await.unwrap();
        assert!(read > 0, "{shown} {:?} {}", house.log.seen(), house.sshd_log());
        shown.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
    input.write_all(b"hello\n").await.unwrap();
    output.read_to_string(&mut shown).await.unwrap();
    assert!(shown.contains("got hello"), "{shown}");
    assert_eq!(child.wait().await.unwrap().code(), Some(3));
    house.ended_by_client().await;
    assert!(
        house.log.has("pty xterm-256color TerminalSize { columns: 100, rows: 30 }"),
        "{:?}",
        house.log.seen()
    );
    assert!(house.log.has("output 30 100") && house.log.has("Input { length: "), "{:?}", house.log.seen());
    assert!(house.log.has("got hello"), "what is shown is shown to the tap");
}

#[tokio::test]
async fn environment_and_subsystems_go_through() {
    let Some(house) = House::open().await else { return };
    let text = house.says(&["-o", "SetEnv=GREETING=hello"], "echo $GREETING").await;
    assert_eq!(text, "hello\n");
    assert!(house.log.has("env GREETING=hello"), "{:?}", house.log.seen());
    let missing = house.ssh(&["-s"]).arg("no-such-subsystem").output().await.unwrap();
    assert!(String::from_utf8_lossy(&missing.stderr).contains("subsystem request failed"), "{missing:?}");
}

#[tokio::test]
async fn what_is_not_allowed_is_refused_as_ssh_refuses_it() {
    let allowed = Allowed { exec: true, max_channels: 10, ..Allowed::default() };
    let Some(house) = House::with(Plan { allowed, ..Plan::default() }).await else { return };
    assert_eq!(house.says(&[], "echo yes").await, "yes\n");
    for (options, command, told) in [
        (&["-tt"][..], "true", "PTY allocation request failed"),
        (&[][..], "scp -t /tmp", "exec request failed"),
        (&["-s"][..], "sftp", "subsystem request failed"),
        (&["-W", "127.0.0.1:1"][..], "", "stdio forwarding failed"),
    ] {
        let mut command_line = house.ssh(options);
        if !command.is_empty() {
            command_line.arg(command);
        }
        let output = command_line.output().await.unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains(told), "{options:?} {command}: {output:?}");
    }
    let shell = house.ssh(&["-T"]).output().await.unwrap();
    assert!(String::from_utf8_lossy(&shell.stderr).contains("shell request failed"), "{shell:?}");
    assert!(house.log.has("NOT ALLOWED 0 pty"), "{:?}", house.log.seen());
    assert!(house.log.has("NOT ALLOWED 0 exec scp -t /tmp copy=true"));
    assert!(house.log.has("NOT ALLOWED 0 Shell"));
}

#[tokio::test]
async fn what_the_tap_refuses_is_refused_and_what_it_forbids_ends_the_session() {
    let Some(mut house) = House::open().await else { return };
    let refused = house.ssh(&[]).arg("echo refuse me").output().await.unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("exec request failed"), "{refused:?}");
    house.ended_by_client().await;
    let Some(mut house) = House::open().await else { return };
    let ended = house.ssh(&[]).arg("echo forbidden").output().await.unwrap();
    assert!(String::from_utf8_lossy(&ended.stderr).contains("not this one"), "{ended:?}");
    assert!(ended.stdout.is_empty());
    assert_eq!(house.outcome().await.unwrap().end, End::Refused(RefusalCode::AccessDenied));
}

#[tokio::test]
async fn a_permit_that_ends_tells_the_client_why() {
    let Some(mut house) = House::open().await else { return };
    let mut child = house.ssh(&[]).arg("echo ready; sleep 60").spawn().unwrap();
    let mut line = [0; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut line).await.unwrap();
    house.end();
    let output = child.wait_with_output().await.unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("the permit is over (run: tsh login)"), "{error}");
    assert_eq!(output.status.code(), Some(255));
    assert_eq!(house.outcome().await.unwrap().end, End::Refused(RefusalCode::SessionExpired));
    assert!(house.log.has("0 Close { exit: None"), "every channel is told to have ended");
}
