//! In the root of an image: the program, what it is linked to, and nothing else; read-only, process 1, an account that nobody
//! knows. Laid out as `deploy/Containerfile` does it, with the kernel's own means in place of an engine.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::chown,
    path::Path,
    process::{Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};

use crate::support::{
    authd::{Authd, Jerry},
    client::connect,
    postgresql::Postgresql,
    sidecar::get,
};

/// The root of the image, a volume, and a folder of configuration; then whom to be. What an engine mounts beside them is `/proc`.
const ENGINE: &str = r#"
set -e
mount --bind "$1" "$1"
mount -t proc proc "$1/proc"
mount --bind "$2" "$1/volume"
mount --bind "$3" "$1/etc/touchstone"
mount -o remount,bind,ro "$1/etc/touchstone"
mount -o remount,bind,ro "$1"
exec env -i "$(command -v setpriv)" --no-new-privs -- "$(command -v chroot)" $4 "$1" \
    /usr/bin/sidecar start -c /etc/touchstone/sidecar.yaml
"#;
const NOBODY: u32 = 4711;

/// A command in namespaces of its own.
fn apart() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child=KILL"]);
    if !geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn it_needs_a_read_only_root_one_volume_and_nothing_else() {
    if !apart().arg("true").status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: this account may make no namespaces");
        return;
    }
    let mut authd = Authd::start().await;
    let jerry = Jerry::register(&mut authd).await;
    let files = authd.database_certificate(&["localhost"]).await;
    let postgresql = tokio::task::spawn_blocking(move || Postgresql::start(&files)).await.unwrap();

    let stage = tempfile::tempdir().unwrap();
    let [root, volume, etc] = ["root", "volume", "etc"].map(|name| stage.path().join(name));
    let laid_out = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/rootfs.sh"))
        .args([root.as_path(), Path::new(env!("CARGO_BIN_EXE_sidecar"))])
        .status();
    assert!(laid_out.unwrap().success());
    for directory in [&root.join("proc"), &root.join("volume"), &root.join("etc/touchstone"), &volume, &etc] {
        fs::create_dir(directory).unwrap();
    }
    // As an engine puts it there.
    fs::write(root.join("etc/hosts"), "127.0.0.1 localhost\n").unwrap();
    fs::write(etc.join("token"), authd.token().await).unwrap();
    let configuration = format!(
        "auth_server: {}\nca_pins: ['{}']\ntoken_file: /etc/touchstone/token\ndata_dir: /volume/data\n\
         diag_addr: 127.0.0.1:0\ntargets:\n  - name: dev-pg\n    protocol: postgres\n    labels: {{env: dev}}\n    \
         listen: 127.0.0.1:0\n    upstream: {{uri: '{}'}}\n",
        authd.address,
        authd.pins[0],
        postgresql.tcp_uri(),
    );
    fs::write(etc.join("sidecar.yaml"), configuration).unwrap();
    let whom = if geteuid().is_root() {
        chown(&volume, Some(NOBODY), Some(NOBODY)).unwrap();
        format!("--userspec={NOBODY}:{NOBODY} --groups={NOBODY}")
    } else {
        String::new()
    };

    let mut engine = apart()
        .args(["sh", "-c", ENGINE, "engine"])
        .args([&root, &volume, &etc])
        .arg(whom)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(engine.stderr.take().unwrap()).lines().map(Result::unwrap);
    let mut listening = || {
        let line = log.find(|line| line.contains("listening addr=")).expect("it listens");
        line.split_once("addr=").unwrap().1.split(' ').next().unwrap().parse().unwrap()
    };
    let (diag, address) = (listening(), listening());
    assert!(log.any(|line| line.contains("replica is complete")));
    assert_eq!(get(diag, "/readyz").await.0, 200);
    let session = connect(address, "dev-pg", &jerry.login).await.unwrap();
    assert_eq!(session.one("select 'in'").await, "in");
    drop(session);

    let children = format!("/proc/{0}/task/{0}/children", engine.id());
    let first = fs::read_to_string(children).unwrap().trim().parse().unwrap();
    let status = fs::read_to_string(format!("/proc/{first}/status")).unwrap();
    let says =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().split_whitespace();
    assert_eq!(says("NSpid:").next_back(), Some("1"));
    if geteuid().is_root() {
        assert_eq!(says("Uid:").next(), Some(NOBODY.to_string().as_str()));
        assert_eq!(says("CapEff:").next(), Some("0000000000000000"));
    }

    kill(Pid::from_raw(first), Signal::SIGTERM).unwrap();
    assert!(log.any(|line| line.contains("stopped")));
    assert!(engine.wait().unwrap().success());
    assert!(volume.join("data/identity.json").exists());
}
