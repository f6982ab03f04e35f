//! Patterns in the name of a file at a node: `*`, `?`, `[a-z]`, and `\` before what shall be none.
//!
//! They are matched here, by us. A host that lists what nobody asked for does not get it written (CVE-2019-6111).

use std::{
    ffi::OsStr,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Component, Path, PathBuf},
};

use tokio::io::{AsyncRead, AsyncWrite};

use crate::ssh::sftp::{FileKind, Sftp, SftpError};

/// More paths than are copied by one command.
const MAX_PATHS: usize = 100_000;

/// The paths at the node that are meant. A file that is named exactly like this comes first, whatever it looks like.
pub(super) async fn expand<S>(sftp: &mut Sftp<S>, path: &Path) -> Result<Vec<PathBuf>, SftpError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let is_special = |byte: &u8| b"*?[\\".contains(byte);
    if !path.as_os_str().as_bytes().iter().any(is_special) {
        return Ok(vec![path.to_owned()]);
    }
    match sftp.stat(path).await {
        Ok(_) => return Ok(vec![path.to_owned()]),
        Err(error) if error.is_final() => return Err(error),
        Err(_) => {}
    }
    let mut found = vec![PathBuf::new()];
    for component in path.components() {
        let pattern = match component {
            Component::Normal(name) => name.as_bytes(),
            other => {
                found.iter_mut().for_each(|path| path.push(other));
                continue;
            }
        };
        found = step(sftp, found, pattern).await?;
        if found.len() > MAX_PATHS {
            return Err(SftpError::of(path, "too many files match"));
        }
    }
    if found.is_empty() { Err(SftpError::of(path, "No such file or directory")) } else { Ok(found) }
}

async fn step<S>(sftp: &mut Sftp<S>, within: Vec<PathBuf>, pattern: &[u8]) -> Result<Vec<PathBuf>, SftpError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if !pattern.iter().any(|byte| b"*?[".contains(byte)) {
        let name = PathBuf::from(std::ffi::OsString::from_vec(unescaped(pattern)));
        return Ok(within.into_iter().map(|path| path.join(&name)).collect());
    }
    let mut found = Vec::new();
    for directory in within {
        let here = if directory.as_os_str().is_empty() { Path::new(".") } else { &directory };
        match sftp.stat(here).await {
            Ok(attributes) if attributes.kind() == FileKind::Directory => {}
            Err(error) if error.is_final() => return Err(error),
            Ok(_) | Err(_) => continue,
        }
        let mut names = sftp.names(here).await?;
        names.retain(|name| matches_name(pattern, name.as_os_str()));
        names.sort();
        found.extend(names.into_iter().map(|name| directory.join(name)));
    }
    Ok(found)
}

fn matches_name(pattern: &[u8], name: &OsStr) -> bool {
    let name = name.as_bytes();
    // As in a shell, a dot at the beginning is matched by a dot alone.
    if name.first() == Some(&b'.') && pattern.first() != Some(&b'.') {
        return false;
    }
    matches(pattern, name)
}

/// The last `*` is gone back to where the rest does not fit: no pattern takes longer than pattern times name.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while n < name.len() {
        let rest = pattern.get(p..).unwrap_or_default();
        if rest.first() == Some(&b'*') {
            p += 1;
            back = Some((p, n));
            continue;
        }
        match name.get(n).and_then(|&byte| one(rest, byte)) {
            Some(used) => {
                p += used;
                n += 1;
            }
            None => {
                let Some((star, from)) = back else { return false };
                back = Some((star, from + 1));
                (p, n) = (star, from + 1);
            }
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|&byte| byte == b'*')
}

/// How much of the pattern matches this byte.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [b'?', ..] => Some(1),
        [b'[', set @ ..] => match class(set, byte) {
            Some((length, true)) => Some(length + 1),
            Some((_, false)) => None,
            // No class: a bracket that is not closed is a bracket.
            None => (byte == b'[').then_some(1),
        },
        [b'\\', escaped, ..] => (*escaped == byte).then_some(2),
        [plain, ..] => (*plain == byte).then_some(1),
        [] => None,
    }
}

/// Length of a class after its `[`, and whether the byte is in it; `None` where it is not closed.
fn class(set: &[u8], byte: u8) -> Option<(usize, bool)> {
    let negated = matches!(set.first(), Some(b'!' | b'^'));
    let mut at = usize::from(negated);
    let mut is_in = false;
    let mut first = true;
    loop {
        let rest = set.get(at..)?;
        match rest {
            [b']', ..] if !first => return Some((at + 1, is_in != negated)),
            [from, b'-', to, ..] if *to != b']' => {
                is_in |= (*from..=*to).contains(&byte);
                at += 3;
            }
            [one, ..] => {
                is_in |= *one == byte;
                at += 1;
            }
            [] => return None,
        }
        first = false;
    }
}

fn unescaped(pattern: &[u8]) -> Vec<u8> {
    let mut name = Vec::with_capacity(pattern.len());
    let mut bytes = pattern.iter();
    while let Some(&byte) = bytes.next() {
        name.push(if byte == b'\\' { bytes.next().copied().unwrap_or(byte) } else { byte });
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(pattern: &str, name: &str) -> bool {
        matches_name(pattern.as_bytes(), OsStr::new(name))
    }

    #[test]
    fn patterns_match_as_in_a_shell() {
        for (pattern, name) in [
            ("*.log", "a.log"),
            ("a?c", "abc"),
            ("[a-c]*", "bx"),
            ("[!a]", "b"),
            ("[]]", "]"),
            ("[", "["),
            ("\\*", "*"),
            ("a*b*c", "aXbYbZc"),
            (".*", ".hidden"),
            ("*", "a b\n"),
        ] {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("*.log", "a.txt"),
            ("*", ".hidden"),
            ("?", "ab"),
            ("[a-c]", "d"),
            ("[!a]", "a"),
            ("\\*", "x"),
            ("a*b", "aXc"),
            ("", "a"),
        ] {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn a_pattern_of_stars_takes_no_longer_than_it_must() {
        assert!(!fits(&"*a".repeat(200), &"a".repeat(150)));
    }

    #[test]
    fn what_is_escaped_is_itself() {
        assert_eq!(unescaped(b"a\\*b\\\\"), b"a*b\\");
    }
}
