use clap::Parser as _;

use super::*;
use crate::tsh::arguments::{Arguments, Command};

fn asked(line: &[&str]) -> anyhow::Result<Asked> {
    let line = ["tsh", "ssh"].iter().chain(line);
    let Command::Ssh(arguments) = Arguments::try_parse_from(line)?.command else { panic!("not ssh") };
    Asked::of(&arguments)
}

fn command(line: &[&str]) -> Option<String> {
    match asked(line).unwrap().what {
        Some(What::Command(command)) => Some(command),
        _ => None,
    }
}

#[test]
fn what_follows_the_host_is_the_commands() {
    assert_eq!(command(&["h", "ls", "-l", "-d"]).unwrap(), "ls -l -d");
    assert_eq!(command(&["-t", "root@h", "--", "ls", "-N"]).unwrap(), "ls -N");
    assert_eq!(command(&["h", "echo", "a b"]).unwrap(), "echo a b", "as ssh joins them");
    assert_eq!(asked(&["h"]).unwrap().what, Some(What::Shell));
    assert_eq!(asked(&["-N", "-L", "1:h:2", "h"]).unwrap().what, None);
    assert!(asked(&["-N", "h", "ls"]).is_err());
}

#[test]
fn the_account_comes_from_the_flag_then_the_host_then_the_option() {
    let login = |line: &[&str]| asked(line).unwrap().login;
    assert_eq!(login(&["-l", "a", "b@h"]).as_deref(), Some("a"));
    assert_eq!(login(&["-o", "User=c", "b@h"]).as_deref(), Some("b"));
    assert_eq!(login(&["-o", "User=c", "h"]).as_deref(), Some("c"));
    assert_eq!(login(&["h"]), None);
}

#[test]
fn a_terminal_is_for_shells_unless_it_is_asked_for() {
    let pty = |line: &[&str], here| {
        let asked = asked(line).unwrap();
        asked.pty(asked.what.as_ref().unwrap(), here)
    };
    assert!(pty(&["h"], true));
    assert!(!pty(&["h"], false));
    assert!(!pty(&["h", "ls"], true));
    assert!(pty(&["-t", "h", "ls"], true));
    assert!(!pty(&["-t", "h", "ls"], false));
    assert!(pty(&["-tt", "h", "ls"], false));
    assert!(!pty(&["-T", "h"], true));
    assert!(pty(&["-o", "RequestTTY=force", "h", "ls"], false));
}

#[test]
fn a_host_is_trusted_with_the_display_only_where_that_is_said() {
    let x11 = |line: &[&str]| asked(&[line, &["h"]].concat()).unwrap().x11;
    assert_eq!(x11(&[]), None);
    assert_eq!(x11(&["-o", "ForwardX11Trusted=yes"]), None, "it says how, not whether");
    assert_eq!(x11(&["-X"]), Some(Trusted::No));
    assert_eq!(x11(&["-o", "ForwardX11=yes"]), Some(Trusted::No));
    for trusted in [&["-Y"][..], &["-XY"], &["-X", "-o", "ForwardX11Trusted=yes"]] {
        assert_eq!(x11(trusted), Some(Trusted::Yes), "{trusted:?}");
    }
    assert_eq!(x11(&["-x", "-o", "ForwardX11=yes"]), None);
}

#[test]
fn a_remote_port_may_lead_wherever_socks_clients_ask() {
    assert_eq!(asked(&["-R", "8080", "h"]).unwrap().remote.len(), 1);
}

#[test]
fn flags_are_ssh_s_and_what_is_unknown_is_a_mistake() {
    let asked_for =
        asked(&["-A", "-p", "22", "-L", "1:a:2", "-R", "3:b:4", "-D", "5", "-o", "Port=9", "h"]).unwrap();
    assert!(asked_for.agent && asked_for.forwards());
    assert_eq!(asked_for.port, Some(22));
    assert_eq!((asked_for.local.len(), asked_for.remote.len(), asked_for.dynamic.len()), (1, 1, 1));
    assert!(asked(&["-o", "NoSuchOption=1", "h"]).is_err());
    assert!(asked(&["-L", "nonsense", "h"]).is_err());
    assert!(asked(&[]).is_err());
    let quiet = asked(&["-o", "ServerAliveInterval=0", "h"]).unwrap();
    assert_eq!(quiet.settings(None).keepalive, None);
}

#[test]
fn an_end_by_a_signal_is_told_as_ssh_tells_it() {
    let status = |ended| outcome(Ok(ended)).err().and_then(|error| error.downcast_ref().copied());
    assert_eq!(status(Ended::Status(0)), None);
    assert_eq!(status(Ended::Status(3)), Some(RemoteStatus(3)));
    assert_eq!(status(Ended::Status(4711)), Some(RemoteStatus(255)));
    assert_eq!(status(Ended::Signal("KILL".to_owned())), Some(RemoteStatus(255)));
}
