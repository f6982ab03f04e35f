use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    process::Stdio,
};

use tokio::{
    io::{Join, join},
    process::{ChildStdin, ChildStdout, Command},
};

use super::*;

/// OpenSSH's own server, at home in a directory.
async fn copying(home: &Path, recursive: bool, preserve: bool) -> Copying<Join<ChildStdout, ChildStdin>> {
    let mut server = Command::new("/usr/lib/openssh/sftp-server")
        .current_dir(home)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // It ends with its input.
    let pipes = join(server.stdout.take().unwrap(), server.stdin.take().unwrap());
    let sftp = Sftp::start(pipes).await.unwrap();
    Copying { sftp, recursive, preserve, shown: false, failed: 0 }
}

/// A tree with everything that is awkward.
fn tree(root: &Path) {
    fs::create_dir_all(root.join("d/empty")).unwrap();
    fs::create_dir(root.join("d/with space")).unwrap();
    fs::write(root.join("d/a"), "a").unwrap();
    fs::write(root.join("d/with space/ü \n?"), vec![7; 100_000]).unwrap();
    fs::set_permissions(root.join("d/a"), fs::Permissions::from_mode(0o750)).unwrap();
    symlink("a", root.join("d/link")).unwrap();
}

fn same(a: &Path, b: &Path) {
    assert_eq!(fs::read(a.join("a")).unwrap(), fs::read(b.join("a")).unwrap());
    assert_eq!(fs::read(b.join("with space/ü \n?")).unwrap(), vec![7; 100_000]);
    assert!(b.join("empty").is_dir());
    let link = fs::symlink_metadata(b.join("link")).unwrap();
    assert!(link.is_file(), "links are followed");
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

struct Places {
    here: tempfile::TempDir,
    there: tempfile::TempDir,
}

fn places() -> Places {
    Places { here: tempfile::tempdir().unwrap(), there: tempfile::tempdir().unwrap() }
}

#[tokio::test]
async fn a_tree_goes_there_and_back() {
    let Places { here, there } = places();
    tree(here.path());
    let failed = copying(there.path(), true, false).await;
    assert_eq!(failed.up(&[here.path().join("d")], Path::new("new")).await.unwrap(), 0);
    same(&here.path().join("d"), &there.path().join("new"));
    let back = here.path().join("back");
    let failed = copying(there.path(), true, false).await;
    assert_eq!(failed.down(&["new".into()], &back).await.unwrap(), 0);
    same(&here.path().join("d"), &back);
    assert_eq!(mode(&back.join("a")) & 0o700, 0o700, "the mode comes along");
}

#[tokio::test]
async fn into_a_directory_it_goes_under_its_own_name() {
    let Places { here, there } = places();
    tree(here.path());
    fs::write(here.path().join("f"), "f").unwrap();
    let paths = [here.path().join("d"), here.path().join("f")];
    assert_eq!(copying(there.path(), true, false).await.up(&paths, Path::new(".")).await.unwrap(), 0);
    same(&here.path().join("d"), &there.path().join("d"));
    let down = here.path().join("down");
    fs::create_dir(&down).unwrap();
    let copying = copying(there.path(), true, false).await;
    assert_eq!(copying.down(&["d".into(), "f".into()], &down).await.unwrap(), 0);
    same(&here.path().join("d"), &down.join("d"));
    assert_eq!(fs::read(down.join("f")).unwrap(), b"f");
}

#[tokio::test]
async fn times_and_modes_are_kept_where_that_is_asked_for() {
    let Places { here, there } = places();
    let (file, back) = (here.path().join("f"), here.path().join("back"));
    fs::write(&file, "f").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o604)).unwrap();
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
    fs::File::open(&file).unwrap().set_modified(at).unwrap();
    copying(there.path(), false, true).await.up(&[file], Path::new("f")).await.unwrap();
    let meta = fs::metadata(there.path().join("f")).unwrap();
    assert_eq!((meta.mtime(), meta.permissions().mode() & 0o777), (1_000_000, 0o604));
    copying(there.path(), false, true).await.down(&["f".into()], &back).await.unwrap();
    let meta = fs::metadata(&back).unwrap();
    assert_eq!((meta.mtime(), meta.permissions().mode() & 0o777), (1_000_000, 0o604));
}

#[tokio::test]
async fn a_program_does_not_arrive_with_somebodys_rights() {
    let Places { here, there } = places();
    fs::write(there.path().join("su"), "x").unwrap();
    fs::set_permissions(there.path().join("su"), fs::Permissions::from_mode(0o6755)).unwrap();
    let to = here.path().join("su");
    copying(there.path(), false, true).await.down(&["su".into()], &to).await.unwrap();
    assert_eq!(mode(&to), 0o755);
}

#[tokio::test]
async fn patterns_are_expanded_at_the_node() {
    let Places { here, there } = places();
    for name in ["a.log", "b.log", "c.txt", ".hidden.log", "lit*eral"] {
        fs::write(there.path().join(name), name).unwrap();
    }
    fs::create_dir(there.path().join("sub")).unwrap();
    fs::write(there.path().join("sub/d.log"), "d").unwrap();
    let copying_all = copying(there.path(), false, false).await;
    let paths = ["*.log".into(), "s*/[a-d].log".into(), "lit*eral".into()];
    assert_eq!(copying_all.down(&paths, here.path()).await.unwrap(), 0);
    let mut names: Vec<_> = fs::read_dir(here.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["a.log", "b.log", "d.log", "lit*eral"]);
    assert_eq!(
        copying(there.path(), false, false).await.down(&["*.none".into()], here.path()).await.unwrap(),
        1
    );
}

#[tokio::test]
async fn what_cannot_be_copied_is_counted_and_the_rest_is_copied() {
    let Places { here, there } = places();
    fs::write(there.path().join("good"), "good").unwrap();
    fs::create_dir(there.path().join("dir")).unwrap();
    let paths = ["missing".into(), "dir".into(), "good".into()];
    assert_eq!(copying(there.path(), false, false).await.down(&paths, here.path()).await.unwrap(), 2);
    assert_eq!(fs::read(here.path().join("good")).unwrap(), b"good");
    assert!(!here.path().join("dir").exists());
    let several = [here.path().join("good"), here.path().join("good")];
    assert!(copying(there.path(), false, false).await.up(&several, Path::new("x")).await.is_err());
}

/// From the node with the one home to that with the other.
async fn across(
    from: &Path,
    to: &Path,
    recursive: bool,
    preserve: bool,
) -> Across<Join<ChildStdout, ChildStdin>> {
    let same_host = from == to;
    let from = copying(from, recursive, preserve).await.sftp;
    Across { from, to: copying(to, recursive, preserve).await, same_host }
}

#[tokio::test]
async fn a_tree_goes_from_one_node_to_another() {
    let Places { here: one, there: other } = places();
    tree(one.path());
    let copy = across(one.path(), other.path(), true, false).await;
    assert_eq!(copy.copy(&["d".into()], Path::new("new")).await.unwrap(), 0);
    same(&one.path().join("d"), &other.path().join("new"));
    // Into what is there, by a pattern, with times and modes.
    let copy = across(one.path(), other.path(), true, true).await;
    assert_eq!(copy.copy(&["?".into()], Path::new("new")).await.unwrap(), 0);
    same(&one.path().join("d"), &other.path().join("new/d"));
    let times = |path: &Path| fs::metadata(path).unwrap().mtime();
    let (from, to) = (one.path().join("d/a"), other.path().join("new/d/a"));
    assert_eq!((mode(&from), times(&from)), (mode(&to), times(&to)));
}

#[tokio::test]
async fn what_one_of_two_nodes_refuses_is_told_and_the_rest_goes_on() {
    let Places { here: one, there: other } = places();
    for name in ["a", "b", "c"] {
        fs::write(one.path().join(name), vec![7; 300_000]).unwrap();
    }
    // A directory is in the way of one of them.
    fs::create_dir_all(other.path().join("to/b")).unwrap();
    let copy = across(one.path(), other.path(), false, false).await;
    let paths: Vec<PathBuf> = ["a", "b", "missing", "c"].map(Into::into).into();
    assert_eq!(copy.copy(&paths, Path::new("to")).await.unwrap(), 2);
    for name in ["a", "c"] {
        assert_eq!(fs::read(other.path().join("to").join(name)).unwrap(), vec![7; 300_000]);
    }
    let copy = across(one.path(), other.path(), false, false).await;
    assert!(copy.copy(&paths, Path::new("nowhere")).await.is_err(), "several files, and no directory");
}

#[tokio::test]
async fn a_file_that_would_be_copied_onto_itself_is_kept() {
    let Places { here: one, .. } = places();
    fs::write(one.path().join("a"), "kept").unwrap();
    let copy = across(one.path(), one.path(), false, false).await;
    assert_eq!(copy.copy(&["a".into()], Path::new("./a")).await.unwrap(), 1);
    assert_eq!(fs::read(one.path().join("a")).unwrap(), b"kept");
    let copy = across(one.path(), one.path(), false, false).await;
    assert_eq!(copy.copy(&["a".into()], Path::new("b")).await.unwrap(), 0);
    assert_eq!(fs::read(one.path().join("b")).unwrap(), b"kept");
}

#[tokio::test]
async fn a_loop_of_links_has_an_end() {
    let Places { here, there } = places();
    fs::create_dir(there.path().join("d")).unwrap();
    symlink(".", there.path().join("d/self")).unwrap();
    let to = here.path().join("d");
    assert!(copying(there.path(), true, false).await.down(&["d".into()], &to).await.unwrap() > 0);
}

#[test]
fn files_of_one_host_need_one_session() {
    let remote = |text: &str| match Location::parse(text.as_ref()).unwrap() {
        Location::There(remote) => remote,
        Location::Here(_) => panic!("{text}"),
    };
    let hosts = by_host(vec![remote("a:1"), remote("root@a:2"), remote("a:3")]);
    let paths: Vec<_> = hosts.into_iter().map(|(_, paths)| paths.len()).collect();
    assert_eq!(paths, [2, 1]);
}

#[test]
fn what_makes_no_sense_is_told() {
    let copy = |paths: &[&str]| {
        let paths = paths.iter().map(Into::into).collect();
        Copy::of(&Scp { recursive: false, preserve: false, quiet: false, port: None, jumphost: None, paths })
            .err()
    };
    assert!(copy(&["a", "h:b"]).is_none());
    assert!(copy(&["h:a", "b"]).is_none());
    assert!(copy(&["h:a", "i:b", "j:c"]).is_none());
    for wrong in [&["a", "b"][..], &["a", "h:b", "i:c"], &["a", "h:b", "c"]] {
        assert!(copy(wrong).is_some(), "{wrong:?}");
    }
}
