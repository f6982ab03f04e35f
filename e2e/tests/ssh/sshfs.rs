//! A host's files as a file system: SFTP as the kernel asks for it, many requests at a time and in no order of a copy's.

use std::{
    fs::{self, OpenOptions},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{FileExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use e2e::{NodeWorld, mortal, poll};
use serde_json::Value;

use crate::stage::{PATIENCE, noise, succeeds};

/// Files of the large directory: several answers to one listing (sshd's hold 100 names).
const FILES: usize = 300;

/// A mounted directory of the host. Taken away when dropped.
struct Mount {
    at: PathBuf,
    sshfs: Child,
}

impl Mount {
    fn new(world: &NodeWorld, there: &Path) -> Result<Self> {
        let at = world.path().join("mounted");
        fs::create_dir(&at)?;
        let ssh = world.ssh(&world.dev)?.with("BatchMode=yes");
        let mut command = mortal("sshfs", "TERM");
        ssh.plain(&mut command);
        // Nothing is answered from its own memory, neither names nor bytes.
        command.args(["-f", "-o", "dir_cache=no", "-o", "direct_io", "-F"]);
        command.arg(ssh.config_file("sshfs_config")?);
        command.arg(format!("{}:{}", ssh.destination(), there.display())).arg(&at);
        let sshfs = command.stdin(Stdio::null()).spawn().context("start sshfs")?;
        let mut mount = Self { at, sshfs };
        poll("the file system", PATIENCE, || {
            if let Some(ended) = mount.sshfs.try_wait()? {
                anyhow::bail!("sshfs ended: {ended}");
            }
            Ok(is_mounted(&mount.at)?.then_some(()))
        })?;
        Ok(mount)
    }

    /// Takes it away, and waits until the connection is closed.
    fn unmount(mut self) -> Result<()> {
        let mut fusermount = Command::new("fusermount3");
        fusermount.arg("-u").arg(&self.at);
        succeeds(fusermount)?;
        let ended = poll("sshfs to end", PATIENCE, || Ok(self.sshfs.try_wait()?))?;
        ensure!(ended.success(), "sshfs: {ended}");
        Ok(())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if is_mounted(&self.at).unwrap_or(true) {
            let _ = Command::new("fusermount3").args(["-u", "-z", "-q"]).arg(&self.at).status();
        }
        let _ = self.sshfs.kill();
        let _ = self.sshfs.wait();
    }
}

fn is_mounted(at: &Path) -> Result<bool> {
    let name = at.to_str().context("a name in UTF-8")?;
    Ok(fs::read_to_string("/proc/self/mounts")?.lines().any(|line| line.split(' ').nth(1) == Some(name)))
}

/// Containers often have none, and whoever runs them would have to give it.
fn has_fuse() -> bool {
    OpenOptions::new().read(true).write(true).open("/dev/fuse").is_ok()
}

#[test]
fn a_hosts_directory_is_mounted_by_sshfs_and_is_what_it_is_there() -> Result<()> {
    if !has_fuse() {
        eprintln!("SKIPPED: nothing was mounted, for /dev/fuse cannot be opened on this machine");
        return Ok(());
    }
    let world = NodeWorld::jerry_and_olga()?;
    let there = world.path().join("there");
    fs::create_dir(&there)?;
    let mount = Mount::new(&world, &there)?;
    let here = mount.at.clone();
    files_are_read_written_changed_and_appended_to(&here, &there)?;
    names_are_made_moved_linked_and_removed(&here, &there)?;
    a_large_directory_is_listed_whole(&here, &there)?;
    the_room_that_is_left_is_the_hosts(&here, &there)?;
    mount.unmount()?;
    what_was_done_is_in_the_trail(&world)
}

fn files_are_read_written_changed_and_appended_to(here: &Path, there: &Path) -> Result<()> {
    let large = noise(5_000_000);
    fs::write(here.join("written"), &large)?;
    ensure!(fs::read(there.join("written"))? == large, "what was written here is not what is there");
    fs::write(there.join("read"), &large)?;
    ensure!(fs::read(here.join("read"))? == large, "what is there is not what is read here");

    // In the middle, where neither end is.
    let file = OpenOptions::new().read(true).write(true).open(here.join("written"))?;
    file.write_all_at(b"in the middle", 2_500_000)?;
    let mut middle = [0; 15];
    file.read_exact_at(&mut middle, 2_499_999)?;
    file.sync_all()?;
    drop(file);
    let mut expected = large.clone();
    expected[2_500_000..2_500_013].copy_from_slice(b"in the middle");
    assert_eq!(middle, expected[2_499_999..2_500_014]);
    ensure!(fs::read(there.join("written"))? == expected, "a change in the middle");

    for more in ["one", "two"] {
        let mut file = OpenOptions::new().append(true).open(here.join("written"))?;
        file.write_all(more.as_bytes())?;
        file.write_all(b", ")?;
    }
    expected.extend_from_slice(b"one, two, ");
    ensure!(fs::read(there.join("written"))? == expected, "what was appended");

    let mut file = OpenOptions::new().read(true).write(true).open(here.join("written"))?;
    file.set_len(1_000)?;
    file.seek(SeekFrom::End(-10))?;
    let mut end = Vec::new();
    file.read_to_end(&mut end)?;
    assert_eq!(end, expected[990..1_000]);
    assert_eq!(fs::metadata(there.join("written"))?.len(), 1_000);
    Ok(())
}

fn names_are_made_moved_linked_and_removed(here: &Path, there: &Path) -> Result<()> {
    fs::create_dir(here.join("folder"))?;
    fs::write(here.join("folder/a name with blanks, ä"), b"text")?;
    fs::rename(here.join("folder/a name with blanks, ä"), here.join("folder/moved"))?;
    assert_eq!(fs::read(there.join("folder/moved"))?, b"text");
    // Over what is there already, as editors save.
    fs::write(here.join("folder/new"), b"saved")?;
    fs::rename(here.join("folder/new"), here.join("folder/moved"))?;
    assert_eq!(fs::read(there.join("folder/moved"))?, b"saved");
    ensure!(!there.join("folder/new").exists());

    std::os::unix::fs::symlink("moved", here.join("folder/link"))?;
    assert_eq!(fs::read_link(there.join("folder/link"))?, Path::new("moved"));
    assert_eq!(fs::read_link(here.join("folder/link"))?, Path::new("moved"));
    fs::set_permissions(here.join("folder/moved"), fs::Permissions::from_mode(0o640))?;
    assert_eq!(fs::metadata(there.join("folder/moved"))?.permissions().mode() & 0o777, 0o640);

    // What cannot be done is told with the host's own reason.
    let kind = |outcome: std::io::Result<()>| outcome.err().map(|error| error.kind());
    let missing = fs::read(here.join("folder/nothing")).map(drop);
    assert_eq!(kind(missing), Some(std::io::ErrorKind::NotFound));
    ensure!(fs::remove_dir(here.join("folder")).is_err(), "a directory that is not empty was removed");
    for name in ["link", "moved"] {
        fs::remove_file(here.join("folder").join(name))?;
    }
    fs::remove_dir(here.join("folder"))?;
    ensure!(!there.join("folder").exists());
    Ok(())
}

fn a_large_directory_is_listed_whole(here: &Path, there: &Path) -> Result<()> {
    fs::create_dir(there.join("many"))?;
    for number in 0..FILES {
        fs::write(there.join(format!("many/file number {number}")), vec![b'x'; number])?;
    }
    let mut sizes = Vec::new();
    for entry in fs::read_dir(here.join("many"))? {
        let entry = entry?;
        let name = entry.file_name().into_string().ok().context("a name in UTF-8")?;
        let number: u64 = name.strip_prefix("file number ").context("another name")?.parse()?;
        ensure!(entry.metadata()?.len() == number, "the size of {name}");
        sizes.push(number);
    }
    sizes.sort_unstable();
    ensure!(sizes.iter().copied().eq(0..FILES as u64), "{} files are listed", sizes.len());
    // Many files at once, each by requests of its own.
    let folder = here.join("many");
    std::thread::scope(|scope| {
        let removing: Vec<_> = (0..4)
            .map(|part| {
                let folder = &folder;
                scope.spawn(move || {
                    (part..FILES).step_by(4).try_for_each(|number| {
                        let file = folder.join(format!("file number {number}"));
                        ensure!(fs::read(&file)?.len() == number, "the length of {}", file.display());
                        fs::remove_file(file).map_err(anyhow::Error::from)
                    })
                })
            })
            .collect();
        removing.into_iter().try_for_each(|it| it.join().ok().context("a thread panicked")?)
    })?;
    // libfuse moves what it takes for open out of the way, and leaves it there when it is closed meanwhile.
    for left in fs::read_dir(there.join("many"))? {
        let left = left?.file_name();
        ensure!(left.to_string_lossy().starts_with(".fuse_hidden"), "{left:?} is still there");
    }
    Ok(())
}

/// By `statvfs@openssh.com`.
fn the_room_that_is_left_is_the_hosts(here: &Path, there: &Path) -> Result<()> {
    let room = |path: &Path| {
        let mut stat = Command::new("stat");
        // Blocks and their size, files; not what is free, which changes.
        stat.args(["--file-system", "--format=%b %S %c"]).arg(path);
        succeeds(stat)
    };
    assert_eq!(room(here)?, room(there)?);
    Ok(())
}

fn what_was_done_is_in_the_trail(world: &NodeWorld) -> Result<()> {
    let of = |action: &'static str, end: &'static str| {
        move |event: &Value| {
            event["action"] == action
                && event["success"] == true
                && event["path"].as_str().is_some_and(|path| path.ends_with(end))
        }
    };
    let written = world.tctl.wait_for_audit("sftp", of("write", "/there/written"))?;
    assert_eq!(written["bytes_written"], 5_000_000);
    let read = world.tctl.wait_for_audit("sftp", of("read", "/there/read"))?;
    ensure!(read["bytes_read"].as_u64() >= Some(5_000_000), "{read}");
    for (action, path) in [
        ("mkdir", "/there/folder"),
        ("rename", "/there/folder/new"),
        ("symlink", "/there/folder/link"),
        ("setstat", "/there/folder/moved"),
        ("readdir", "/there/many"),
        ("remove", "/there/folder/link"),
        ("rmdir", "/there/folder"),
    ] {
        world.tctl.wait_for_audit("sftp", of(action, path))?;
    }
    // A mounted directory is one session for as long as it is mounted.
    let ended = world.tctl.wait_for_audit("session.end", |event| event["server_hostname"] == "dev-node")?;
    assert_eq!(ended["reason"], "client_closed");
    assert_eq!(world.tctl.audit("session.start")?.len(), 1);
    Ok(())
}
