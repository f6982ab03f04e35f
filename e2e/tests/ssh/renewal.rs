//! The certificate that clients know a sidecar by is renewed while it runs. authd runs in this process, under a clock that
//! we set: so the first certificate is nearly over when it is got.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use auth::{clock::Clock, identity::ClusterName};
use authd::{config::Config, server::Server};
use e2e::{ACCESS_DEV, OpenSsh, PREFERENCE, Sidecar, Sshd, Tctl, Tsh, directory, guard, role_for};

use crate::stage::output;

/// What a sidecar's certificate lives.
const LIFE: Duration = Duration::from_secs(24 * 3600);
/// What is left of it: a client must be able to see it, and it is renewed at two thirds.
const LEFT: Duration = Duration::from_secs(36);

/// What ssh says of the certificate that it was shown: its dates behind everything else.
fn shown(ssh: &OpenSsh) -> Result<String> {
    let said = output(ssh.ssh(&["-v", "-o", "BatchMode=yes"], &["true"])?, b"")?;
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    let line = said.lines().find(|line| line.contains("Server host certificate:"));
    Ok(line.with_context(|| format!("no host certificate in:\n{said}"))?.to_owned())
}

fn part<'a>(line: &'a str, begins: &str) -> Result<&'a str> {
    let (_, rest) = line.split_once(begins).with_context(|| format!("no {begins:?} in {line}"))?;
    Ok(rest)
}

/// tctl and tsh are waited for by this thread, authd answers on the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_host_certificate_is_shown_without_a_restart_and_live_sessions_go_on() -> Result<()> {
    let dir = directory()?;
    let now = SystemTime::now();
    let (time, clock) = Clock::fixed(now - LIFE + LEFT);
    let config = Config {
        data_dir: dir.path().join("authd"),
        cluster_name: Some(ClusterName::new("main")?),
        listen: "127.0.0.1:0".parse()?,
        ..Config::default()
    };
    let server = Server::start(&config, time).await?;
    let tctl = Tctl::new(&config.data_dir);
    let sshd = Sshd::start(&dir.path().join("sshd"), &tctl)?;
    for document in [PREFERENCE, &role_for(ACCESS_DEV, sshd.account(), "")] {
        tctl.create(document)?;
    }
    let mut sidecar = Sidecar::join(
        &dir.path().join("dev-node"),
        server.public_addr(),
        &tctl,
        guard("dev-node", "env=dev", &sshd),
    )?;
    // From now on everything has its usual life. That the node was announced is long ago now: it is announced again.
    clock.set(SystemTime::now());
    sidecar.daemon().stop()?;
    sidecar.resume()?;
    let announced = |line: &str| line.contains("\"announced\"").then_some(());
    sidecar.daemon().wait_for("the sidecar to announce itself", LEFT, announced)?;
    let jerry = Tsh::new(dir.path(), "jerry")?;
    jerry.register(&tctl.invite("jerry", "access-dev")?)?;
    jerry.login(server.public_addr())?;
    let ssh = OpenSsh::to(&sidecar, &jerry, server.public_addr(), sshd.account())?;

    let mut live = ssh.at_terminal(&["-tt"], &["sh"])?;
    live.send("echo read''y")?;
    live.expect("ready")?;
    let first = shown(&ssh)?;
    let (process, address) = (sidecar.daemon().id(), sidecar.address());

    let renewed = |line: &str| line.contains("certificate renewed").then_some(());
    sidecar.daemon().wait_for("the renewal", LEFT, renewed)?;
    let second = shown(&ssh)?;
    ensure!(part(&first, "valid from ")? != part(&second, "valid from ")?, "{first}\n{second}");
    let key = |line: &str| {
        Ok::<_, anyhow::Error>(part(line, "SHA256:")?.split([' ', ',']).next().map(str::to_owned))
    };
    assert_eq!(key(&first)?, key(&second)?, "the key stays, for clients that know no certificates");

    // Also when the first one is over.
    e2e::poll("the first certificate to be over", LEFT, || {
        Ok((SystemTime::now() > now + LEFT).then_some(()))
    })?;
    assert_eq!(ssh.run("echo in''side")?.output()?, "inside\n");
    live.send("echo still he''re")?;
    live.expect("still here")?;
    assert_eq!((sidecar.daemon().id(), sidecar.address()), (process, address));
    live.send("exit")?;
    live.finish()?;
    server.stop().await;
    Ok(())
}
