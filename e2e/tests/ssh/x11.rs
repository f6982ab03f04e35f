//! A window of the host's on the client's display, where the roles allow it.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::Command,
    thread,
};

use anyhow::{Context, Result, ensure};
use e2e::{NodeWorld, poll};
use serde_json::Value;

use crate::stage::{PATIENCE, noise, output, succeeds};

const COOKIE: [u8; 16] = *b"jerry's display!";
/// More than one window of a channel (2 MiB with OpenSSH).
const PIXELS: usize = 3_000_000;

/// What a client of X says first, and behind it pixels; what comes back goes to its standard output.
const CLIENT: &str = r#"
number=${DISPLAY##*:}; exec 3<>/dev/tcp/127.0.0.1/$((6000 + ${number%.*}))
cookie=$(xauth list "$DISPLAY" | sed 's/.* //')
{ printf 'l\0\013\0\0\0\022\0\020\0\0\0MIT-MAGIC-COOKIE-1\0\0'; printf "$(echo "$cookie" | sed 's/../\\x&/g')"; } >&3
cat pixels >&3 &
head -c 3000000 <&3
echo "cookie $cookie" >&2
wait
"#;

/// A listener on a port that is a display's: 6000 and its number.
fn display() -> Result<(TcpListener, u16)> {
    loop {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        if let Some(number) = listener.local_addr()?.port().checked_sub(6000) {
            return Ok((listener, number));
        }
    }
}

/// Takes one connection; its setup, once it has sent and got all pixels.
fn serve(listener: &TcpListener) -> Result<Vec<u8>> {
    let (mut stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // Byte order, version, lengths; the name padded to 20, the cookie.
    let mut setup = vec![0; 12 + 20 + 16];
    stream.read_exact(&mut setup)?;
    let shown = stream.try_clone()?;
    let showing = thread::spawn(move || read(shown));
    stream.write_all(&noise(PIXELS))?;
    let got = showing.join().ok().context("the reader panicked")??;
    ensure!(got == noise(PIXELS), "the display got other pixels");
    Ok(setup)
}

fn read(mut stream: TcpStream) -> Result<Vec<u8>> {
    let mut pixels = vec![0; PIXELS];
    stream.read_exact(&mut pixels)?;
    Ok(pixels)
}

fn xauth(file: &Path, words: &[&str]) -> Result<String> {
    let mut xauth = Command::new("xauth");
    xauth.arg("-f").arg(file).args(words);
    succeeds(xauth)
}

#[test]
fn a_window_of_the_hosts_opens_on_the_clients_display_with_its_own_cookie() -> Result<()> {
    shows_a_window(|world, command| world.ssh(&world.dev)?.ssh(&["-Y"], &[command]))
}

#[test]
fn a_window_of_the_hosts_opens_on_the_display_of_tsh_with_its_own_cookie() -> Result<()> {
    shows_a_window(|world, command| {
        let node = format!("{}@dev-node", world.sshd.account());
        world.jerry.command(&["ssh", "-Y", &node, command])
    })
}

#[test]
fn without_a_display_or_a_role_the_command_runs_all_the_same() -> Result<()> {
    let world = NodeWorld::with_options("permit_x11_forwarding: true", "")?;
    let (listener, number) = display()?;
    drop(listener);
    let node = |name: &str| format!("{}@{name}", world.sshd.account());
    let said = |flag: &str, display: &str, node: &str| -> Result<(String, String)> {
        let mut tsh = world.jerry.command(&["ssh", flag, node, "echo d=$DISPLAY"])?;
        tsh.env("DISPLAY", display).env("XAUTHORITY", world.path().join("none"));
        let said = output(tsh, b"")?;
        ensure!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        Ok((String::from_utf8(said.stdout)?, String::from_utf8(said.stderr)?))
    };
    let (out, err) = said("-X", "", &node("dev-node"))?;
    assert_eq!((out.as_str(), err.as_str()), ("d=\n", "WARNING: X11 is not forwarded: DISPLAY is not set\n"));
    // Nobody there makes a cookie for strangers, and tsh does not fall back to one for friends.
    let (out, err) = said("-X", &format!("127.0.0.1:{number}"), &node("dev-node"))?;
    ensure!(out == "d=\n" && err.contains("untrusted X11 forwarding setup failed"), "{out}{err}");
    // The role of this one lends no display.
    world.tctl.create(&e2e::role_for(e2e::ACCESS_DEV, world.sshd.account(), ""))?;
    let refused = || -> Result<Option<()>> {
        let (out, err) = said("-Y", &format!("127.0.0.1:{number}"), &node("dev-node"))?;
        Ok((out == "d=\n" && err.contains("WARNING: X11 forwarding was refused")).then_some(()))
    };
    poll("X11 to be refused", PATIENCE, refused)
}

fn shows_a_window(ssh: impl Fn(&NodeWorld, &str) -> Result<Command>) -> Result<()> {
    let world = NodeWorld::with_options("permit_x11_forwarding: true", "")?;
    let (listener, number) = display()?;
    let (name, authority) = (format!("127.0.0.1:{number}"), world.path().join("display_authority"));
    xauth(&authority, &["add", &name, "MIT-MAGIC-COOKIE-1", &hex::encode(COOKIE)])?;
    let folder = world.path().join("x11");
    fs::create_dir(&folder)?;
    fs::write(folder.join("pixels"), noise(PIXELS))?;
    fs::write(folder.join("client"), CLIENT)?;
    let display = thread::spawn(move || serve(&listener));

    let command = format!("cd {} && bash client", folder.display());
    let mut ssh = ssh(&world, &command)?;
    ssh.env("DISPLAY", &name).env("XAUTHORITY", &authority);
    let said = output(ssh, b"")?;
    let errors = String::from_utf8_lossy(&said.stderr).into_owned();
    ensure!(said.status.success(), "{errors}");
    ensure!(said.stdout == noise(PIXELS), "{} bytes came to the window: {errors}", said.stdout.len());

    let setup = display.join().ok().context("the display panicked")??;
    assert_eq!((setup[0], &setup[12..30]), (b'l', &b"MIT-MAGIC-COOKIE-1"[..]));
    assert_eq!(setup[32..], COOKIE, "the display is shown its own cookie");
    // And the host another one, which is worth nothing there.
    ensure!(errors.contains("cookie ") && !errors.contains(&hex::encode(COOKIE)), "{errors}");

    let asked = world.tctl.wait_for_audit("x11-forward", |_| true)?;
    assert_eq!((&asked["code"], &asked["success"]), (&"T3008I".into(), &true.into()));
    assert_eq!((&asked["user"], &asked["server_hostname"]), (&"jerry".into(), &"dev-node".into()));
    let of = |event: &Value| {
        event["sid"] == asked["sid"] && event["bytes_from_upstream"].as_u64() >= Some(PIXELS as u64)
    };
    // Two channels carried as much: the window's pixels, and what the command printed.
    world.tctl.wait_for_audit("session.channel.end", of)?;
    let ended = |event: &Value| event["sid"] == asked["sid"];
    world.tctl.wait_for_audit("session.end", ended)?;
    let carried = world.tctl.audit("session.channel.end")?.iter().filter(|event| of(event)).count();
    assert_eq!(carried, 2);
    Ok(())
}
