//! Files of options in sections, which people write too: `~/.my.cnf`, `~/.pg_service.conf`. Sections of ours come and go;
//! everything else stays as it is, byte for byte.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};

use crate::files;

/// A section of ours.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Section {
    /// What stands between the brackets.
    pub(super) name: String,
    /// One option each, as the file's readers want it.
    pub(super) lines: Vec<String>,
}

/// A file that a variable of the environment names, where it is set and not empty.
pub(super) fn named_by(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Puts sections at the end of the file, in place of those of the same names. One without options is only taken out.
pub(super) fn put(path: &Path, sections: &[Section]) -> anyhow::Result<()> {
    let mut lines = sections.iter().flat_map(|section| &section.lines);
    ensure!(
        !lines.any(|line| line.chars().any(char::is_control)),
        "a value for {} holds control characters",
        path.display()
    );
    let names: Vec<_> = sections.iter().map(|section| section.name.clone()).collect();
    change(path, |before| with(without(before, &names), sections))
}

/// Takes sections out of the file.
pub(super) fn remove(path: &Path, names: &[String]) -> anyhow::Result<()> {
    change(path, |before| without(before, names))
}

fn change(path: &Path, edit: impl FnOnce(&[u8]) -> Vec<u8>) -> anyhow::Result<()> {
    // The file itself, where its name is a link.
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let shown = path.display();
    let before = files::read_optional(&path).with_context(|| format!("cannot read {shown}"))?;
    let after = edit(before.as_deref().unwrap_or_default());
    if before.is_none() && after.is_empty() || before.as_ref() == Some(&after) {
        return Ok(());
    }
    files::write_private(&path, &after).with_context(|| format!("cannot write {shown}"))
}

/// A section ends where the next one begins, or an `!include` of MySQL's. Empty lines and comments before that are not the
/// section's: they stay.
fn without(before: &[u8], names: &[String]) -> Vec<u8> {
    let headers: Vec<_> = names.iter().map(|name| format!("[{name}]")).collect();
    let (mut kept, mut aside, mut inside) = (Vec::with_capacity(before.len()), Vec::new(), false);
    for line in before.split_inclusive(|&byte| byte == b'\n') {
        let text = line.trim_ascii();
        match text.first() {
            Some(b'[') => inside = headers.iter().any(|header| text == header.as_bytes()),
            Some(b'!') => inside = false,
            None | Some(b'#' | b';') if inside => {
                aside.extend_from_slice(line);
                continue;
            }
            // An option of the section: what stands between two of them goes with them.
            Some(_) if inside => aside.clear(),
            _ => {}
        }
        kept.append(&mut aside);
        if !inside {
            kept.extend_from_slice(line);
        }
    }
    kept.append(&mut aside);
    kept
}

fn with(before: Vec<u8>, sections: &[Section]) -> Vec<u8> {
    let mut after = before;
    if !after.is_empty() && !after.ends_with(b"\n") {
        after.push(b'\n');
    }
    for Section { name, lines } in sections.iter().filter(|section| !section.lines.is_empty()) {
        after.extend_from_slice(format!("[{name}]\n").as_bytes());
        for line in lines {
            after.extend_from_slice(format!("{line}\n").as_bytes());
        }
    }
    after
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHERS: &[u8] =
        b"# mine, in Latin-1: \xe4\r\n[client]\nuser = me \n\n\n[mysql]\nprompt='\\u> '\n!includedir /etc/mine";

    fn sections() -> Vec<Section> {
        let section = |name: &str, lines: &[&str]| Section {
            name: name.to_owned(),
            lines: lines.iter().map(|&line| line.to_owned()).collect(),
        };
        vec![section("a_main-prod", &["host=localhost", "port=1"]), section("b_main-prod", &["dbname=shop"])]
    }

    fn names() -> Vec<String> {
        sections().into_iter().map(|section| section.name).collect()
    }

    const OURS: &[u8] = b"[a_main-prod]\nhost=localhost\nport=1\n[b_main-prod]\ndbname=shop\n";

    #[test]
    fn sections_are_added_after_what_is_there() {
        assert_eq!(with(OTHERS.to_owned(), &sections()), [OTHERS, b"\n", OURS].concat());
        assert_eq!(with(vec![], &sections()), OURS);
    }

    #[test]
    fn what_was_there_before_is_there_afterwards_byte_for_byte() {
        for before in [
            b"".as_slice(),
            b"\n\n# nothing\n\n\n",
            b"[a_main-prod2]\r\nhost=x\r\n\r\n# mine\r\n",
            b"# mine\n[work]\nhost=db.example.com\n\n[other]\nhost=o\n",
        ] {
            let once = with(before.to_owned(), &sections());
            assert_eq!(with(without(&once, &names()), &sections()), once);
            assert_eq!(without(&once, &names()), before);
        }
        // Ours begin on a line of their own: that line break is all that may be new.
        let once = with(OTHERS.to_owned(), &sections());
        assert_eq!(without(&once, &names()), [OTHERS, b"\n"].concat());
    }

    #[test]
    fn what_somebody_wrote_around_a_section_stays() {
        let above = b"# mine\r\n[work]\r\nhost=h\r\n\r\n# ours comes next\n";
        for below in [
            b"\n# my other server\n[mine]\nhost=h\n!include /etc/x\nuser=y\n\n\n".as_slice(),
            b"\r\n; mine\r\n[mine]\r\nhost=h\r\n",
            b"# the end\n",
            b"\n\n",
        ] {
            let file = [above, OURS, below].concat();
            assert_eq!(without(&file, &names()), [above.as_slice(), below].concat());
        }
    }

    #[test]
    fn a_sections_own_comments_go_with_it_and_do_not_become_another_sections_options() {
        let file = b"[mysqld]\nport=1\n[a_main-prod]\nhost=x\n# between\nprompt=mine\n[mysqldump]\nquick\n";
        assert_eq!(without(file, &names()), b"[mysqld]\nport=1\n[mysqldump]\nquick\n");
    }

    #[test]
    fn a_section_whose_lines_end_as_on_windows_is_still_ours() {
        assert_eq!(without(b"[a_main-prod]\r\nhost=x\r\n[mine]\r\n", &names()), b"[mine]\r\n");
    }

    #[test]
    fn a_value_cannot_add_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("options");
        let evil = Section { name: "s".to_owned(), lines: vec!["user=a\nsslmode=disable".to_owned()] };
        assert!(put(&path, &[evil]).is_err() && !path.exists());
    }

    #[test]
    fn a_file_comes_with_the_first_section_and_a_link_to_it_stays_one() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("options"), folder.path().join("link"));
        remove(&path, &names()).unwrap();
        assert!(!path.exists());
        std::os::unix::fs::symlink(&path, &link).unwrap();
        put(&path, &sections()).unwrap();
        remove(&link, &names()).unwrap();
        assert!(link.is_symlink() && std::fs::read(&path).unwrap().is_empty());
    }
}
