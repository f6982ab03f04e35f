//! Files: what `sftp` and `scp` do arrives as it is, and is told file by file.

use std::path::Path;
use std::process::{Output, Stdio};

use tokio::io::AsyncWriteExt;

use super::house::House;

/// Runs a batch of commands.
async fn batch(house: &House, commands: &str) -> Output {
    let mut child =
        house.client("sftp", &["-q", "-b", "-"], &["127.0.0.1"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(commands.as_bytes()).await.unwrap();
    child.wait_with_output().await.unwrap()
}

/// Some bytes that are not all the same.
fn content(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 7 + index / 251) as u8).collect()
}

fn name(path: &Path) -> String {
    path.display().to_string()
}

#[tokio::test]
async fn files_go_both_ways_and_each_is_told() {
    let Some(mut house) = House::open().await else { return };
    let (here, there, back) = (house.path("here"), house.path("there"), house.path("back"));
    std::fs::write(&here, content(3_000_001)).unwrap();
    let (directory, moved, link) = (house.path("directory"), house.path("moved"), house.path("link"));
    let commands = format!(
        "put {here} {there}\nget {there} {back}\nmkdir {directory}\nls {directory}\nrmdir {directory}\n\
         rename {there} {moved}\nsymlink {moved} {link}\nchmod 600 {moved}\nrm {link}\nln {moved} {link}\n",
        here = name(&here),
        there = name(&there),
        back = name(&back),
        directory = name(&directory),
        moved = name(&moved),
        link = name(&link),
    );
    house.succeeded(&batch(&house, &commands).await);
    assert_eq!(std::fs::read(&back).unwrap(), content(3_000_001));
    house.ended_by_client().await;
    let seen = house.log.seen().join("\n");
    for wanted in [
        format!("sftp File {}  read=0 written=3000001 Done", name(&there)),
        format!("sftp File {}  read=3000001 written=0 Done", name(&there)),
        format!("sftp MakeDirectory {}  read=0 written=0 Done", name(&directory)),
        format!("sftp List {}/  read=0 written=0 Done", name(&directory)),
        format!("sftp RemoveDirectory {}  read=0 written=0 Done", name(&directory)),
        format!("sftp Rename {} {} read=0 written=0 Done", name(&there), name(&moved)),
        format!("sftp Symlink {} {} read=0 written=0 Done", name(&link), name(&moved)),
        format!("sftp SetAttributes {}  read=0 written=0 Done", name(&moved)),
        format!("sftp Remove {}  read=0 written=0 Done", name(&link)),
        format!("sftp Hardlink {} {} read=0 written=0 Done", name(&moved), name(&link)),
    ] {
        assert!(seen.contains(&wanted), "{wanted}\nis not in\n{seen}");
    }
    assert!(house.log.has("Subsystem { name: [115, 102, 116, 112], file_copy: true }"));
}

#[tokio::test]
async fn what_fails_is_told_with_its_code() {
    let Some(mut house) = House::open().await else { return };
    let missing = house.path("missing");
    let output =
        batch(&house, &format!("-get {m} /dev/null\n-rm {m}\n-rmdir {m}\n", m = name(&missing))).await;
    house.succeeded(&output);
    house.ended_by_client().await;
    assert!(
        house.log.has(&format!("sftp Remove {}  read=0 written=0 Failed {{ code: 2 }}", name(&missing))),
        "{:#?}",
        house.log.seen()
    );
}

#[tokio::test]
async fn scp_copies_by_sftp_and_by_its_old_protocol() {
    let Some(house) = House::open().await else { return };
    let here = house.path("here");
    std::fs::write(&here, content(1_000_000)).unwrap();
    for (options, copied) in [(&["-q"][..], "by_sftp"), (&["-q", "-O"][..], "by_rcp")] {
        let there = house.path(copied);
        let target = format!("127.0.0.1:{}", there.display());
        let output =
            house.client("scp", options, &[&here.display().to_string(), &target]).output().await.unwrap();
        house.succeeded(&output);
        assert_eq!(std::fs::read(&there).unwrap(), content(1_000_000));
        let back = house.path(&format!("{copied}_back"));
        let output =
            house.client("scp", options, &[&target, &back.display().to_string()]).output().await.unwrap();
        house.succeeded(&output);
        assert_eq!(std::fs::read(&back).unwrap(), content(1_000_000));
    }
    let seen = house.log.seen().join("\n");
    assert!(seen.contains("by_sftp  read=0 written=1000000 Done"), "{seen}");
    assert!(seen.contains("exec scp -t") && seen.contains("exec scp -f"), "{seen}");
    assert!(!seen.contains("copy=false"), "{seen}");
}

#[tokio::test]
async fn a_directory_is_copied_with_all_that_is_in_it() {
    let Some(house) = House::open().await else { return };
    let source = house.path("tree");
    for directory in ["a", "b/c"] {
        std::fs::create_dir_all(source.join(directory)).unwrap();
    }
    for (index, file) in ["a/1", "a/2", "b/3", "b/c/4"].iter().enumerate() {
        std::fs::write(source.join(file), content(index * 40_000)).unwrap();
    }
    let target = house.path("copy");
    let output = house
        .client("scp", &["-q", "-r", "-p"], &[&name(&source), &format!("127.0.0.1:{}", target.display())])
        .output()
        .await
        .unwrap();
    house.succeeded(&output);
    for (index, file) in ["a/1", "a/2", "b/3", "b/c/4"].iter().enumerate() {
        assert_eq!(std::fs::read(target.join(file)).unwrap(), content(index * 40_000));
        assert!(house.log.has(&format!(
            "{}  read=0 written={} Done",
            name(&target.join(file)),
            index * 40_000
        )));
    }
}

#[tokio::test]
async fn a_file_that_is_never_closed_is_told_when_the_channel_ends() {
    let Some(mut house) = House::open().await else { return };
    let there = house.path("there");
    let here = house.path("here");
    std::fs::write(&here, content(50_000_000)).unwrap();
    let mut child = house
        .client("sftp", &["-q", "-b", "-", "-l", "20000"], &["127.0.0.1"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let put = format!("put {} {}\n", name(&here), name(&there));
    child.stdin.take().unwrap().write_all(put.as_bytes()).await.unwrap();
    while !there.exists() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    child.kill().await.unwrap();
    let _ = house.outcome().await;
    let seen = house.log.seen().join("\n");
    assert!(seen.contains(&format!("sftp File {}", name(&there))) && seen.contains("Unfinished"), "{seen}");
}
