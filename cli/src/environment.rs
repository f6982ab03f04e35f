//! Variables of the environment: ours, and Teleport's names for those that mean the same, so that whoever comes from there need
//! not set them anew. Ours win; one that is set to nothing counts as not set.

use std::{env, ffi::OsString};

/// Ours, and what Teleport calls it.
const TELEPORTS: &[(&str, &str)] = &[
    ("TSH_AUTH", "TELEPORT_AUTH"),
    ("TSH_CLUSTER", "TELEPORT_CLUSTER"),
    ("TSH_DEBUG", "TELEPORT_DEBUG"),
    ("TSH_HOME", "TELEPORT_HOME"),
    ("TSH_IDENTITY_FILE", "TELEPORT_IDENTITY_FILE"),
    ("TSH_LOGIN", "TELEPORT_LOGIN"),
    ("TSH_MFA_MODE", "TELEPORT_MFA_MODE"),
    ("TSH_PROXY", "TELEPORT_PROXY"),
    ("TSH_USER", "TELEPORT_USER"),
    ("TOUCHSTONE_AUTH_SERVER", "TELEPORT_AUTH_SERVER"),
];

/// Teleport's name for a variable of ours.
pub(crate) fn teleports(ours: &str) -> Option<&'static str> {
    TELEPORTS.iter().find(|(name, _)| *name == ours).map(|(_, teleports)| *teleports)
}

/// True where a variable is set to something.
pub(crate) fn is_set(name: &str) -> bool {
    env::var_os(name).is_some_and(|value| !value.is_empty())
}

/// What a variable of ours is set to, under either name.
pub(crate) fn value(ours: &str) -> Option<OsString> {
    value_in(ours, |name| env::var_os(name))
}

fn value_in(ours: &str, read: impl Fn(&str) -> Option<OsString>) -> Option<OsString> {
    let set = |name| read(name).filter(|value| !value.is_empty());
    set(ours).or_else(|| set(teleports(ours)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_win_over_teleports_and_nothing_is_not_set() {
        let value = |set: &[(&str, &str)]| {
            let read = |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, value)| value.into());
            value_in("TSH_HOME", read).map(|value| value.into_string().unwrap())
        };
        assert_eq!(value(&[("TSH_HOME", "/a"), ("TELEPORT_HOME", "/b")]).unwrap(), "/a");
        assert_eq!(value(&[("TSH_HOME", ""), ("TELEPORT_HOME", "/b")]).unwrap(), "/b");
        assert_eq!(value(&[("TELEPORT_HOME", "")]), None);
        assert_eq!(teleports("TSH_SOFTWARE_KEY"), None, "only what Teleport has");
    }
}
