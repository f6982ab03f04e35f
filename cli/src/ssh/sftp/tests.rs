use std::{
    fs,
    io::Write,
    os::unix::fs::{MetadataExt, PermissionsExt},
    process::Stdio,
};

use tokio::{
    io::{DuplexStream, Join, join},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use super::*;

type Pipes = Join<ChildStdout, ChildStdin>;

/// OpenSSH's own server, without SSH around it.
async fn openssh() -> (Sftp<Pipes>, Child) {
    let mut server = Command::new("/usr/lib/openssh/sftp-server")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let pipes = join(server.stdout.take().unwrap(), server.stdin.take().unwrap());
    (Sftp::start(pipes).await.unwrap(), server)
}

/// Bytes that are nowhere the same.
fn contents(length: usize) -> Vec<u8> {
    (0..length).map(|at| ((at % 251) ^ (at / 65_536)) as u8).collect()
}

#[tokio::test]
async fn files_of_every_length_arrive_as_they_were() {
    let directory = tempfile::tempdir().unwrap();
    let (mut sftp, _server) = openssh().await;
    for length in [0, 1, 32_767, 32_768, 32_769, 5_000_000] {
        let (source, there, back) =
            (directory.path().join("a"), directory.path().join("b c"), directory.path().join("d"));
        fs::write(&source, contents(length)).unwrap();
        let open = sftp.create(&there, 0o640).await.unwrap();
        let file = tokio::fs::File::open(&source).await.unwrap();
        let mut told = 0;
        sftp.upload(file, &source, &open, &mut |bytes| told = bytes).await.unwrap();
        sftp.close(open).await.unwrap();
        assert_eq!((told, fs::metadata(&there).unwrap().len()), (length as u64, length as u64));

        let open = sftp.open(&there).await.unwrap();
        let file = tokio::fs::File::create(&back).await.unwrap();
        sftp.download(&open, length as u64, file, &back, &mut |_| ()).await.unwrap();
        sftp.close(open).await.unwrap();
        assert_eq!(fs::read(&back).unwrap(), contents(length), "{length}");
    }
}

#[tokio::test]
async fn a_file_that_does_not_tell_its_size_is_read_to_its_end() {
    let directory = tempfile::tempdir().unwrap();
    let (mut sftp, _server) = openssh().await;
    let status = Path::new("/proc/self/status");
    assert_eq!(sftp.stat(status).await.unwrap().size, Some(0));
    let open = sftp.open(status).await.unwrap();
    let here = directory.path().join("status");
    let file = tokio::fs::File::create(&here).await.unwrap();
    sftp.download(&open, 0, file, &here, &mut |_| ()).await.unwrap();
    assert!(fs::read_to_string(&here).unwrap().contains("sftp-server"));
}

#[tokio::test]
async fn modes_times_and_names_are_as_the_host_has_them() {
    let directory = tempfile::tempdir().unwrap();
    let (mut sftp, _server) = openssh().await;
    let inside = directory.path().join("d");
    sftp.make_directory(&inside, 0o700).await.unwrap();
    let file = inside.join("with space\nand line");
    fs::File::create(&file).unwrap().write_all(b"x").unwrap();
    sftp.set(&file, Attributes { mode: Some(0o600), times: Some((5, 7)), size: None }).await.unwrap();
    let meta = fs::metadata(&file).unwrap();
    assert_eq!((meta.permissions().mode() & 0o777, meta.atime(), meta.mtime()), (0o600, 5, 7));
    assert_eq!(sftp.names(&inside).await.unwrap(), [PathBuf::from("with space\nand line")]);
    assert_eq!(sftp.stat(&inside).await.unwrap().kind(), FileKind::Directory);
    assert!(sftp.real_path(Path::new(".")).await.unwrap().is_absolute());
}

#[tokio::test]
async fn what_cannot_be_done_is_said_and_the_rest_goes_on() {
    let (mut sftp, _server) = openssh().await;
    let error = sftp.stat(Path::new("/no/such")).await.unwrap_err();
    assert_eq!(error.to_string(), "/no/such: No such file or directory");
    assert!(error.is_missing() && !error.is_final());
    assert!(sftp.make_directory(Path::new("/proc/x"), 0o700).await.is_err());
    assert!(sftp.stat(Path::new("/")).await.is_ok());
}

#[tokio::test]
async fn a_full_disk_is_told_each_time_and_the_connection_stays_good() {
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("a");
    fs::write(&source, contents(5_000_000)).unwrap();
    let (mut sftp, _server) = openssh().await;
    for _ in 0..4 {
        let open = sftp.create(Path::new("/dev/full"), 0o600).await.unwrap();
        let file = tokio::fs::File::open(&source).await.unwrap();
        let error = sftp.upload(file, &source, &open, &mut |_| ()).await.unwrap_err();
        assert!(!error.is_final(), "{error}");
        let _ = sftp.close(open).await;
        assert!(sftp.early.is_empty(), "nothing is left behind");
    }
    assert!(sftp.stat(Path::new("/")).await.is_ok());
}

/// A host that answers every request with these packets, in turn, then hangs up.
fn hostile(answers: Vec<Vec<u8>>) -> DuplexStream {
    let (near, mut far) = tokio::io::duplex(1 << 20);
    tokio::spawn(async move {
        for answer in answers {
            let length = far.read_u32().await.unwrap();
            far.read_exact(&mut vec![0; length as usize]).await.unwrap();
            far.write_u32(answer.len() as u32).await.unwrap();
            far.write_all(&answer).await.unwrap();
        }
    });
    near
}

fn packet(kind: u8, id: u32, fields: &[&[u8]]) -> Vec<u8> {
    let mut packet = vec![kind];
    packet.extend(id.to_be_bytes());
    for field in fields {
        packet.extend((field.len() as u32).to_be_bytes());
        packet.extend_from_slice(field);
    }
    packet
}

const VERSION: [u8; 5] = [2, 0, 0, 0, 3];

#[tokio::test]
async fn a_name_that_leads_out_of_its_directory_is_never_taken() {
    for name in [&b"../evil"[..], b"/etc/cron.d/x", b"", b"a\0b", b"..//"] {
        let mut names = packet(104, 1, &[]);
        names.extend(1_u32.to_be_bytes());
        names.extend(&packet(0, 0, &[name, b""])[5..]);
        names.extend([0; 4]);
        let answers = vec![VERSION.to_vec(), packet(102, 0, &[b"h"]), names, packet(101, 2, &[])];
        let mut sftp = Sftp::start(hostile(answers)).await.unwrap();
        let error = sftp.names(Path::new("d")).await.unwrap_err();
        assert!(matches!(error, SftpError::Name(_)), "{error}");
    }
    assert_eq!(checked(b"..").unwrap(), None);
    assert_eq!(checked(b"..x").unwrap(), Some("..x".into()));
}

#[tokio::test]
async fn a_host_that_breaks_the_rules_is_left() {
    let status = packet(101, 0, &[]);
    let too_much = vec![packet(102, 0, &[b"h"]), packet(103, 1, &[&vec![0; 40_000]])];
    for answers in [
        vec![packet(103, 0, &[b"x"])],
        vec![packet(102, 5, &[b"h"])],
        vec![vec![9; 9]],
        vec![status],
        too_much,
    ] {
        let mut sftp = Sftp::start(hostile([vec![VERSION.to_vec()], answers].concat())).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let here = directory.path().join("x");
        let copied = async {
            let open = sftp.open(Path::new("x")).await?;
            let file = tokio::fs::File::create(&here).await.unwrap();
            sftp.download(&open, 10, file, &here, &mut |_| ()).await
        };
        assert!(copied.await.unwrap_err().is_final());
    }
    assert!(Sftp::start(hostile(vec![vec![2, 0, 0, 0, 2]])).await.is_err(), "version 2");
}

#[tokio::test]
async fn a_length_that_is_a_lie_takes_no_memory() {
    let (near, mut far) = tokio::io::duplex(64);
    far.write_all(&[0xff; 8]).await.unwrap();
    let error = Sftp::start(near).await.err().unwrap();
    assert_eq!(error.to_string(), "the host broke the rules of SFTP: a packet that is too long");
}
