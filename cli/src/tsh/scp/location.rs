//! A path here, or `[user@]host:path`.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::PathBuf,
};

use crate::ssh::{Destination, Hosts, destination::DestinationError};

/// Where something is copied from, or to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Location {
    Here(PathBuf),
    There(Remote),
}

/// A path at a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Remote {
    pub(super) login: Option<String>,
    pub(super) hosts: Hosts,
    /// Relative to the home of the account.
    pub(super) path: PathBuf,
}

impl Location {
    /// As scp has it: a colon before any slash makes it a path at a host.
    pub(super) fn parse(text: &OsStr) -> Result<Self, DestinationError> {
        let bytes = text.as_bytes();
        let bracketed = bytes
            .iter()
            .position(|&byte| byte == b'[')
            .is_some_and(|open| open == 0 || bytes.get(open - 1) == Some(&b'@'));
        let end = if bracketed {
            bytes.windows(2).position(|pair| pair == b"]:").map(|at| at + 1)
        } else {
            bytes
                .iter()
                .position(|&byte| byte == b':' || byte == b'/')
                .filter(|&at| bytes.get(at) == Some(&b':'))
        };
        let (Some(host), Some(path)) =
            (end.and_then(|end| bytes.get(..end)), end.and_then(|end| bytes.get(end + 1..)))
        else {
            return Ok(Self::Here(text.into()));
        };
        if host.is_empty() {
            return Ok(Self::Here(text.into()));
        }
        let host = String::from_utf8_lossy(host).replace(['[', ']'], "");
        let Destination { login, hosts } = host.parse()?;
        Ok(Self::There(Remote { login, hosts, path: in_home(path) }))
    }
}

impl Remote {
    pub(super) fn is_same_host(&self, other: &Self) -> bool {
        self.login == other.login && self.hosts == other.hosts
    }
}

/// SFTP knows no `~`: what is relative is relative to the home.
fn in_home(path: &[u8]) -> PathBuf {
    let path = match path {
        b"" | b"~" => b".",
        path => path.strip_prefix(b"~/").unwrap_or(path),
    };
    let path = if path.is_empty() { b"." } else { path };
    PathBuf::from(OsString::from_vec(path.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Location {
        Location::parse(OsStr::new(text)).unwrap()
    }

    fn there(login: Option<&str>, host: &str, path: &str) -> Location {
        let hosts = Hosts::Name(host.to_owned());
        Location::There(Remote { login: login.map(str::to_owned), hosts, path: path.into() })
    }

    #[test]
    fn a_colon_before_any_slash_names_a_host() {
        assert_eq!(parsed("root@prod-1:/etc/hosts"), there(Some("root"), "prod-1", "/etc/hosts"));
        assert_eq!(parsed("prod-1:with space"), there(None, "prod-1", "with space"));
        assert_eq!(parsed("prod-1:a:b"), there(None, "prod-1", "a:b"));
        assert_eq!(parsed("root@[::1]:x"), there(Some("root"), "::1", "x"));
        for here in ["file", "./a:b", "/a:b", "dir/a:b", ":x", "."] {
            assert_eq!(parsed(here), Location::Here(here.into()));
        }
    }

    #[test]
    fn the_home_of_the_account_is_where_relative_paths_begin() {
        for (typed, meant) in [("h:", "."), ("h:~", "."), ("h:~/", "."), ("h:~/a", "a"), ("h:~x/a", "~x/a")] {
            assert_eq!(parsed(typed), there(None, "h", meant));
        }
    }
}
