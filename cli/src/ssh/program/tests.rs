use nix::pty::{Winsize, openpty};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixListener,
};

use super::*;
use crate::ssh::{
    Settings,
    testing::{Seen, TestHost, WORDS},
};

fn command(command: &str) -> Program<'static> {
    Program {
        what: What::Command(command.to_owned()),
        pty: false,
        environment: Vec::new(),
        agent: false,
        x11: None,
        terminal: None,
        escape: Some(b'~'),
    }
}

struct Ran {
    ended: Result<Ended, ProgramError>,
    out: String,
    err: String,
}

async fn ran_with(settings: &Settings, host: &TestHost, program: &Program<'_>, input: &[u8]) -> Ran {
    let connection = SshConnection::open(&host.credential(), settings).await.unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut output = Output::plain(&mut out, &mut err);
    let input = io::Cursor::new(input.to_vec());
    let ended = run(&connection, program, Some(input), &mut output).await;
    Ran { ended, out: String::from_utf8(out).unwrap(), err: String::from_utf8(err).unwrap() }
}

async fn ran(program: &Program<'_>, input: &[u8]) -> Ran {
    ran_with(&Settings::default(), &TestHost::start().await, program, input).await
}

#[tokio::test]
async fn the_exit_status_is_the_commands() {
    for status in [0, 7, 255] {
        assert_eq!(ran(&command(&format!("exit {status}")), b"").await.ended.unwrap(), Ended::Status(status));
    }
    assert_eq!(ran(&command("killed"), b"").await.ended.unwrap(), Ended::Signal("TERM".to_owned()));
}

#[tokio::test]
async fn the_two_outputs_stay_apart() {
    let Ran { ended, out, err } = ran(&command("both"), b"").await;
    assert_eq!((ended.unwrap(), out.as_str(), err.as_str()), (Ended::Status(0), "out\n", "err\n"));
}

#[tokio::test]
async fn the_end_of_the_input_is_passed_on_and_output_still_comes() {
    let input = "x".repeat(300_000);
    let Ran { ended, out, .. } = ran(&command("cat"), input.as_bytes()).await;
    assert_eq!(ended.unwrap(), Ended::Status(0));
    assert_eq!(out, input);
}

#[tokio::test]
async fn a_session_that_the_sidecar_ends_is_told_in_its_words() {
    let error = ran(&command("kick"), b"").await.ended.unwrap_err();
    assert!(matches!(error, ProgramError::Ssh(SshError::Refused(_))));
    assert_eq!(error.to_string(), format!("{WORDS}\u{fffd}[2J"), "and they cannot drive the terminal");
}

#[tokio::test]
async fn a_command_that_is_not_granted_is_told() {
    let error = ran(&command("forbidden"), b"").await.ended.unwrap_err();
    assert_eq!(error.to_string(), "the command was refused by prod-1");
}

#[tokio::test]
async fn without_a_terminal_nothing_that_is_typed_is_an_escape() {
    let Ran { ended, out, .. } = ran(&command("cat"), b"~.\n").await;
    assert_eq!((ended.unwrap(), out.as_str()), (Ended::Status(0), "~.\n"));
}

#[tokio::test]
async fn a_shell_on_a_terminal_has_its_size_and_is_left_with_a_tilde_and_a_dot() {
    let size = Winsize { ws_row: 40, ws_col: 132, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(&size, None).unwrap();
    let terminal = RawTerminal::of(std::fs::File::from(pty.slave)).unwrap().unwrap();
    let environment = vec![("LANG".to_owned(), "C.UTF-8".to_owned())];
    let shell =
        Program { what: What::Shell, pty: true, environment, terminal: Some(&terminal), ..command("") };
    let mut host = TestHost::start().await;
    let Ran { ended, .. } = ran_with(&Settings::default(), &host, &shell, b"ls\r~.").await;
    assert_eq!(ended.unwrap(), Ended::HungUp);
    let Some(Seen::Pty(_, columns, rows)) = host.seen.recv().await else { panic!("no terminal") };
    assert_eq!((columns, rows), (132, 40));
    assert_eq!(host.seen.recv().await, Some(Seen::Env("LANG".to_owned(), "C.UTF-8".to_owned())));
}

#[tokio::test]
async fn the_agent_answers_a_host_that_may_ask_it() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("agent");
    let listener = UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut asked = [0; 4];
        client.read_exact(&mut asked).await.unwrap();
        assert_eq!(&asked, b"sign");
        client.write_all(b"signed").await.unwrap();
    });
    let settings = Settings { agent: Some(socket), ..Settings::default() };
    let mut host = TestHost::start().await;
    let program = Program { agent: true, ..command("agent") };
    let Ran { ended, out, .. } = ran_with(&settings, &host, &program, b"").await;
    assert_eq!((ended.unwrap(), out.as_str()), (Ended::Status(0), "signed"));
    assert_eq!(host.seen.recv().await, Some(Seen::Agent));
}

#[tokio::test]
async fn a_host_does_not_get_at_an_agent_that_was_not_forwarded() {
    assert_eq!(ran(&command("steal"), b"").await.out, "false");
}
