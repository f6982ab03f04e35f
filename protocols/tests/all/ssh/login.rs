//! Logins: who comes in, by which way, who does not, and what they are told; and what stands behind us.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsConnector;

use super::house::{House, Known, Plan, login, sign};

/// An option that names another key.
fn by(house: &House, key: &str) -> Vec<String> {
    let mut options = house.options();
    for option in &mut options {
        if option.starts_with("IdentityFile=") {
            *option = format!("IdentityFile={}", house.path(key).display());
        }
    }
    options
}

async fn with_key(house: &House, key: &str) -> std::process::Output {
    let mut command = tokio::process::Command::new("ssh");
    command.args(by(house, key)).args(["127.0.0.1", "echo in"]).env_remove("SSH_AUTH_SOCK");
    command.kill_on_drop(true).output().await.unwrap()
}

#[tokio::test]
async fn a_bare_key_does_not_come_in_and_neither_does_anything_else() {
    let Some(house) = House::open().await else { return };
    let bare = with_key(&house, "other").await;
    let error = String::from_utf8_lossy(&bare.stderr);
    assert!(error.contains("Permission denied (publickey)"), "{error}");
    // A password is asked for by nobody: it is no method here.
    let password = house
        .ssh(&[
            "-o",
            "PreferredAuthentications=password,keyboard-interactive",
            "-o",
            "PubkeyAuthentication=no",
        ])
        .arg("echo in")
        .output()
        .await
        .unwrap();
    assert!(String::from_utf8_lossy(&password.stderr).contains("Permission denied (publickey)"));
    assert!(!house.log.has("login"), "nobody got as far as that");
}

#[tokio::test]
async fn a_key_is_sized_up_by_its_certificate_whatever_its_type() {
    let Some(house) = House::open().await else { return };
    for (name, options) in
        [("p256", &["-t", "ecdsa", "-b", "256"][..]), ("rsa", &["-t", "rsa", "-b", "2048"][..])]
    {
        let path = house.path(name).display().to_string();
        let arguments: Vec<&str> =
            ["-q", "-N", "", "-f", &path].into_iter().chain(options.iter().copied()).collect();
        super::house::keygen(&arguments).await;
        sign(house.files.path(), "user_ca", name, &["-I", name, "-n", &login()]).await;
        let output = with_key(&house, name).await;
        assert_eq!(output.stdout, b"in\n", "{name}: {output:?}");
    }
}

#[tokio::test]
async fn inside_tls_both_certificates_are_told() {
    let Some(house) = House::open().await else { return };
    // What `tsh proxy ssh` does: TLS outside, and whatever `ssh` says inside.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let config = house.authority.client_config(&[protocols::ssh::ALPN]);
    let target = house.port;
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let outside = tokio::net::TcpStream::connect(("127.0.0.1", target)).await.unwrap();
        let name = "localhost".try_into().unwrap();
        let mut tls = TlsConnector::from(config).connect(name, outside).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut socket, &mut tls).await;
    });
    let mut options = house.options();
    for option in &mut options {
        if option.starts_with("Port=") {
            *option = format!("Port={port}");
        }
    }
    let output = tokio::process::Command::new("ssh")
        .args(options)
        .args(["127.0.0.1", "echo in"])
        .env_remove("SSH_AUTH_SOCK")
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    assert_eq!(output.stdout, b"in\n", "{output:?}");
    assert!(house.log.has(&format!("login {} \"ssh in tls\"", login())), "{:?}", house.log.seen());
}

#[tokio::test]
async fn tls_for_another_protocol_is_not_served() {
    let Some(mut house) = House::open().await else { return };
    let connector = TlsConnector::from(house.authority.client_config(&[]));
    let name = "localhost".try_into().unwrap();
    let mut tls = connector.connect(name, house.connect().await).await.unwrap();
    let mut said = Vec::new();
    let _ = tls.read_to_end(&mut said).await;
    assert!(said.is_empty());
    assert!(house.outcome().await.unwrap_err().contains("ALPN"));
}

#[tokio::test]
async fn a_client_that_waits_for_us_hears_who_we_are() {
    let Some(house) = House::open().await else { return };
    let mut socket = house.connect().await;
    let mut line = [0; 20];
    socket.read_exact(&mut line).await.unwrap();
    assert_eq!(&line, b"SSH-2.0-Touchstone\r\n");
}

#[tokio::test]
async fn silent_clients_keep_nobody_waiting() {
    let Some(house) = House::open().await else { return };
    let mut silent = Vec::new();
    for said in [&b""[..], b"S", b"\x16", b"\x16\x03\x01", b"SSH-2.0-silent\r\n"].iter().cycle().take(100) {
        let mut socket = house.connect().await;
        socket.write_all(said).await.unwrap();
        silent.push(socket);
    }
    assert_eq!(house.says(&[], "echo in").await, "in\n");
}

#[tokio::test]
async fn what_is_no_ssh_is_not_listened_to_for_long() {
    for (said, told) in [
        (b"GET / HTTP/1.1\r\n".repeat(1_000), "does not speak SSH 2.0"),
        (b"A".repeat(100_000), "does not speak SSH 2.0"),
        (b"SSH-1.5-old\r\n".to_vec(), "does not speak SSH 2.0"),
        ([&b"SSH-2.0-"[..], &[b'x'; 300], b"\r\n"].concat(), "does not speak SSH 2.0"),
        (b"SSH-2.0-huge\r\n\xff\xff\xff\xff".to_vec(), "impossible length 4294967295"),
        (b"SSH-2.0-zero\r\n\0\0\0\0\0\0\0\0".to_vec(), "impossible length 0"),
        (b"SSH-2.0-odd\r\n\0\0\0\x0d\0\0\0\0".to_vec(), "impossible length 13"),
        ([&b"SSH-2.0-kex\r\n\0\0\0\x0c\x0a"[..], &[20; 11]].concat(), "impossible length 12"),
        ([&b"SSH-2.0-kex\r\n\0\0\0\x0c\x04"[..], &[20; 11]].concat(), "ends before it should"),
    ] {
        let Some(mut house) = House::open().await else { return };
        let mut socket = house.connect().await;
        // It may be gone before it has heard all of that.
        let _ = socket.write_all(&said).await;
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer).await;
        let outcome = house.outcome().await.unwrap_err();
        assert!(outcome.contains(told), "{}: {outcome}", said[..20.min(said.len())].escape_ascii());
    }
}

#[tokio::test]
async fn a_host_with_another_key_or_name_is_not_logged_in_at() {
    for (host_keys, why) in [(Known::Other, "is not known"), (Known::OtherName, "for other names")] {
        let Some(mut house) = House::with(Plan { host_keys, ..Plan::default() }).await else { return };
        let output = house.ssh(&[]).arg("echo in").output().await.unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains("no way to the host") && !error.contains(why), "{error}");
        let outcome = house.outcome().await.unwrap_err();
        // Another key than the pinned one: its type is known, so it is asked for and judged.
        assert!(outcome.contains("the upstream is not known") && outcome.contains(why), "{outcome}");
        assert!(!house.sshd_log().contains("Accepted"), "{}", house.sshd_log());
    }
}

#[tokio::test]
async fn a_host_is_known_by_its_certificate() {
    let Some(house) = House::with(Plan { host_keys: Known::Certified, ..Plan::default() }).await else {
        return;
    };
    assert_eq!(house.says(&[], "echo in").await, "in\n");
}

#[tokio::test]
async fn a_host_that_does_not_take_our_certificate_is_told_apart() {
    let upstream_certificate = vec!["-n".into(), "nobody-else".into()];
    let Some(mut house) = House::with(Plan { upstream_certificate, ..Plan::default() }).await else { return };
    let output = house.ssh(&[]).arg("echo in").output().await.unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("no way to the host"), "{output:?}");
    let outcome = house.outcome().await.unwrap_err();
    assert!(outcome.contains("the upstream refused the login: the key is not accepted"), "{outcome}");
}

#[tokio::test]
async fn a_banner_of_the_hosts_is_shown() {
    let Some(house) = House::with(Plan { sshd: "Banner /etc/hostname".into(), ..Plan::default() }).await
    else {
        return;
    };
    let banner = std::fs::read_to_string("/etc/hostname").unwrap();
    let output = house.ssh(&["-v"]).arg("true").output().await.unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains(banner.trim()), "{output:?}");
}

/// `ssh` that answers questions by a program, which says these words one after the other.
async fn answering(house: &House, answers: &[&str]) -> std::process::Output {
    let (script, state) = (house.path("askpass"), house.path("answers"));
    std::fs::write(&state, answers.join("\n") + "\n").unwrap();
    let text = format!("#!/bin/sh\nhead -n 1 {0}\nsed -i 1d {0}\n", state.display());
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let options = house.options().into_iter().map(|option| option.replace("BatchMode=yes", "BatchMode=no"));
    tokio::process::Command::new("ssh")
        .args(options)
        .args(["127.0.0.1", "echo in"])
        .env_remove("SSH_AUTH_SOCK")
        .env("SSH_ASKPASS", &script)
        .env("SSH_ASKPASS_REQUIRE", "force")
        .env("DISPLAY", ":none")
        .kill_on_drop(true)
        .output()
        .await
        .unwrap()
}

#[tokio::test]
async fn a_client_is_asked_for_a_code_and_comes_in_with_the_right_one() {
    for answers in [&["123456"][..], &["000000", "123456"]] {
        let Some(house) = House::with(Plan { code: Some("123456"), ..Plan::default() }).await else { return };
        let output = answering(&house, answers).await;
        assert_eq!(output.stdout, b"in\n", "{output:?} {:?}", house.log.seen());
        assert_eq!(house.log.has("wrong 000000"), answers.len() == 2);
    }
}

#[tokio::test]
async fn a_client_without_the_code_is_told_what_it_needs() {
    let Some(house) = House::with(Plan { code: Some("123456"), ..Plan::default() }).await else { return };
    let output = answering(&house, &["1", "2", "3", "4"]).await;
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("access to resource requires MFA (run: tsh ssh)"), "{error}");
    assert!(output.stdout.is_empty());
    // One that does not answer goes by itself.
    let batch = house.ssh(&[]).arg("echo in").output().await.unwrap();
    assert!(batch.stdout.is_empty() && !batch.status.success());
    assert!(house.log.has("Gone"), "{:?}", house.log.seen());
}

#[tokio::test]
async fn new_connections_are_made_by_many_at_once() {
    let Some(house) = House::open().await else { return };
    let house = Arc::new(house);
    let mut running = tokio::task::JoinSet::new();
    for number in 0..10 {
        let house = Arc::clone(&house);
        running.spawn(async move { house.says(&[], &format!("echo {number}")).await });
    }
    let mut answers = running.join_all().await;
    answers.sort();
    assert_eq!(answers.concat(), "0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n");
}
