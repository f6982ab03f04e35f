//! The way to the host: by what the sidecar knows its sshd, by what sshd knows the sidecar, and what happens where that
//! is not so.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use e2e::{NodeWorld, Sidecar, SidecarOptions, Sshd, guard};
use serde_json::Value;

use crate::stage::{fails, key, succeeds};

const OTHER_HOST: &str = "the host's key is not the one that the sidecar knows";
const NO_LOGIN: &str = "the sidecar cannot log in to the host";

/// A host whose key has a host's certificate by the authority in `by`, made with these words more.
fn certified(world: &NodeWorld, name: &str, by: &Path, words: &[&str]) -> Result<Sshd> {
    signed(world, name, by, &[&["-h"], words].concat())
}

/// The same with a certificate of whatever kind.
fn signed(world: &NodeWorld, name: &str, by: &Path, words: &[&str]) -> Result<Sshd> {
    Sshd::prepared(&world.path().join(name), &world.tctl, |dir| {
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-I", "a host", "-s"]).arg(by).args(words).arg(dir.join("host_key.pub"));
        succeeds(keygen).map(drop)
    })
}

/// A host that certifies itself, and an authority that it does so by.
struct Certified {
    world: NodeWorld,
    authority: PathBuf,
    public: String,
}

impl Certified {
    fn new() -> Result<Self> {
        let world = NodeWorld::jerry_and_olga()?;
        let authority = world.path().join("authority");
        let public = key(&authority)?;
        Ok(Self { world, authority, public })
    }

    /// Known by the authority, under this name where there is one.
    fn known(&self, sidecar: &str, sshd: &Sshd, name: Option<&str>) -> SidecarOptions {
        SidecarOptions {
            host_key: None,
            host_authority: Some(self.public.clone()),
            host_name: name.map(str::to_owned),
            ..guard(sidecar, "env=dev", sshd)
        }
    }
}

fn stand(world: &NodeWorld, options: SidecarOptions) -> Result<Sidecar> {
    Sidecar::start(&world.path().join(&options.name), &world.authd, &world.tctl, options)
}

/// Jerry gets in, and the trail has his session's whole life.
fn works(world: &NodeWorld, sidecar: &Sidecar) -> Result<()> {
    assert_eq!(world.ssh(sidecar)?.run("echo in''side")?.output()?, "inside\n");
    let of = |event: &Value| event["server_hostname"] == sidecar.name();
    let ended = world.tctl.wait_for_audit("session.end", of)?;
    assert_eq!(ended["reason"], "client_closed");
    Ok(())
}

/// Jerry is told so; the log says why; nothing was run, nobody heard that he is logged in, and the trail says what became
/// of the session that was to be.
fn does_not(world: &NodeWorld, mut sidecar: Sidecar, told: &str, reason: &str, why: &str) -> Result<()> {
    let name = sidecar.name().to_owned();
    let marker = world.path().join(format!("{name}-was-here"));
    let command = format!("touch {}", marker.display());
    let said = fails(world.ssh(&sidecar)?.ssh(&["-v", "-o", "BatchMode=yes"], &[&command])?)?;
    ensure!(said.contains(told), "{said}");
    ensure!(!said.contains("Authenticated to"), "{name}: {said}");
    ensure!(!marker.exists(), "{name}: something was run there");
    let of = |event: &Value| event["server_hostname"] == name;
    let ended = world.tctl.wait_for_audit("session.end", of)?;
    assert_eq!(ended["reason"], reason, "{name}");
    let started = world.tctl.audit("session.start")?.into_iter().find(|event| event["sid"] == ended["sid"]);
    assert_eq!(started.context("no start on record")?["user"], "jerry");
    let log = sidecar.daemon().log().join("\n");
    ensure!(log.contains(why), "{why:?} is not in the log of {name}:\n{log}");
    ensure!(world.tctl.audit("exec")?.iter().all(|event| !of(event)), "a command is on record");
    Ok(())
}

#[test]
fn a_host_is_known_by_its_certificate_for_the_right_name() -> Result<()> {
    let house = Certified::new()?;
    let (world, by) = (&house.world, &house.authority);
    let named = certified(world, "named", by, &["-n", "web.example,other.example", "-V", "+1h"])?;
    works(world, &stand(world, house.known("by-name", &named, Some("web.example")))?)?;
    let addressed = certified(world, "addressed", by, &["-n", "127.0.0.1", "-V", "+1h"])?;
    works(world, &stand(world, house.known("by-address", &addressed, None))?)
}

#[test]
fn a_host_with_another_key_or_a_certificate_that_will_not_do_is_not_logged_in_at() -> Result<()> {
    let house = Certified::new()?;
    let (world, by) = (&house.world, &house.authority);
    let refused = |options: SidecarOptions, why| {
        does_not(world, stand(world, options)?, OTHER_HOST, "upstream_host_key", why)
    };
    let another = world.path().join("another");
    let another_key = key(&another)?;
    let pinned =
        SidecarOptions { host_key: Some(another_key), ..guard("another-key", "env=dev", &world.sshd) };
    refused(pinned, "is not known")?;

    let right = ["-n", "web.example", "-V", "+1h"];
    let named = certified(world, "named", by, &right)?;
    refused(house.known("another-name", &named, Some("db.example")), "is for other names")?;
    refused(house.known("no-name", &named, None), "is for other names")?;
    let everyones = certified(world, "everyones", by, &["-V", "+1h"])?;
    refused(house.known("everyones-name", &everyones, Some("web.example")), "is for other names")?;
    let expired = certified(world, "expired", by, &["-n", "web.example", "-V", "-2h:-1h"])?;
    refused(house.known("expired-host", &expired, Some("web.example")), "is not valid now")?;
    let early = certified(world, "early", by, &["-n", "web.example", "-V", "+1h:+2h"])?;
    refused(house.known("early-host", &early, Some("web.example")), "is not valid now")?;
    let forged = certified(world, "forged", &another, &right)?;
    refused(house.known("forged-host", &forged, Some("web.example")), "unknown authority")?;
    let users = signed(world, "users", by, &right)?;
    refused(house.known("a-users", &users, Some("web.example")), "is not a host's")?;
    // One that has a key and no certificate: there is nothing to agree on.
    let plain = house.known("plain-host", &world.sshd, Some("web.example"));
    does_not(world, stand(world, plain)?, "the host cannot be reached", "upstream_protocol", "host key")
}

#[test]
fn a_key_from_a_file_logs_in_where_the_host_takes_it_and_can_be_changed_in_place() -> Result<()> {
    let world = NodeWorld::jerry_and_olga()?;
    let file = world.path().join("sidecars_key");
    let public = key(&file)?;
    let options =
        |name: &str| SidecarOptions { key_file: Some(file.clone()), ..guard(name, "env=dev", &world.sshd) };
    does_not(&world, stand(&world, options("stranger"))?, NO_LOGIN, "upstream_rejected", "publickey")?;

    world.sshd.authorize(&public)?;
    let sidecar = stand(&world, options("by-key"))?;
    works(&world, &sidecar)?;
    let accepted = |line: &String| line.contains("Accepted publickey") && !line.contains("CERT");
    ensure!(world.sshd.log().iter().any(accepted), "the host saw a certificate");

    // The host's administrator takes another key, and so does the sidecar's: no restart.
    for file in [file.clone(), file.with_extension("pub")] {
        fs::remove_file(file)?;
    }
    world.sshd.authorize(&key(&file)?)?;
    assert_eq!(world.ssh(&sidecar)?.run("echo again")?.output()?, "again\n");

    fs::write(&file, "no key")?;
    does_not(&world, stand(&world, options("damaged"))?, NO_LOGIN, "no_key", "cannot read a key from")?;
    fs::remove_file(&file)?;
    does_not(&world, stand(&world, options("without"))?, NO_LOGIN, "no_key", "cannot read a key from")
}
