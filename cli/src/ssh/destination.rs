//! What is typed for a host: `host`, `user@host`, or a label selector, `user@env=prod,team=payments`.

use std::collections::BTreeMap;

/// Whom to reach, and as which account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The account, where it was said.
    pub login: Option<String>,
    /// The node, or the nodes.
    pub hosts: Hosts,
}

/// One node by its name, or all that carry some labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hosts {
    /// A name: the node's, `NAME.CLUSTER`, or what the machine calls itself.
    Name(String),
    /// All of these.
    Labels(Labels),
}

/// Labels that must all be there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(BTreeMap<String, String>);

/// Why a text names no host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DestinationError {
    /// Nothing, or nothing where something must stand.
    #[error("{0:?} is not of the form [user@]host or [user@]key=value,…")]
    Shape(String),
    /// Selectors are pairs.
    #[error("{0:?} is not a label of the form key=value")]
    Label(String),
}

impl std::str::FromStr for Destination {
    type Err = DestinationError;

    /// An account may hold an `@` (a Windows or mail name), and so may the value of a label, but a node's name and the key of
    /// a label do not: the account ends at the last `@` before the first `=`.
    fn from_str(text: &str) -> Result<Self, DestinationError> {
        let shape = || DestinationError::Shape(text.to_owned());
        let (before, _) = text.split_once('=').unwrap_or((text, ""));
        let (login, host) = match before.rfind('@') {
            Some(at) => {
                let (login, host) = (text.get(..at), text.get(at + 1..));
                (login, host.ok_or_else(shape)?)
            }
            None => (None, text),
        };
        if host.is_empty() || login.is_some_and(|login| login.is_empty() || login.starts_with('-')) {
            return Err(shape());
        }
        let hosts =
            if host.contains('=') { Hosts::Labels(host.parse()?) } else { Hosts::Name(host.to_owned()) };
        Ok(Self { login: login.map(str::to_owned), hosts })
    }
}

impl std::str::FromStr for Labels {
    type Err = DestinationError;

    /// `key=value,key=value`. The same key twice is a contradiction, or a mistake.
    fn from_str(text: &str) -> Result<Self, DestinationError> {
        let mut labels = BTreeMap::new();
        for pair in text.split(',').map(str::trim) {
            let wrong = || DestinationError::Label(pair.to_owned());
            let (key, value) = pair.split_once('=').ok_or_else(wrong)?;
            if key.is_empty() || labels.insert(key.to_owned(), value.to_owned()).is_some() {
                return Err(wrong());
            }
        }
        Ok(Self(labels))
    }
}

impl Labels {
    /// True where all of them are among `labels`.
    #[must_use]
    pub fn select(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}

impl std::fmt::Display for Labels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pairs: Vec<_> = self.0.iter().map(|(key, value)| format!("{key}={value}")).collect();
        f.write_str(&pairs.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (Option<String>, String) {
        let Destination { login, hosts } = text.parse().unwrap();
        let hosts = match hosts {
            Hosts::Name(name) => name,
            Hosts::Labels(labels) => format!("labels {labels}"),
        };
        (login, hosts)
    }

    fn login(name: &str) -> Option<String> {
        Some(name.to_owned())
    }

    #[test]
    fn hosts_and_accounts_are_told_apart() {
        assert_eq!(parsed("prod-1"), (None, "prod-1".to_owned()));
        assert_eq!(parsed("root@prod-1.main"), (login("root"), "prod-1.main".to_owned()));
        assert_eq!(parsed("a@b.example@prod-1"), (login("a@b.example"), "prod-1".to_owned()));
    }

    #[test]
    fn a_selector_is_a_list_of_labels() {
        assert_eq!(parsed("root@env=prod"), (login("root"), "labels env=prod".to_owned()));
        assert_eq!(parsed("env=prod,team=pay"), (None, "labels env=prod,team=pay".to_owned()));
        assert_eq!(parsed("root@owner=a@b"), (login("root"), "labels owner=a@b".to_owned()));
        assert_eq!(parsed("env="), (None, "labels env=".to_owned()));
    }

    #[test]
    fn what_names_nobody_is_refused() {
        for wrong in ["", "@host", "root@", "=x", "root@=x", "env=prod,", "env=a,env=b", "-oX@host"] {
            assert!(wrong.parse::<Destination>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn all_labels_must_be_there() {
        let labels: Labels = "env=prod,team=pay".parse().unwrap();
        let of = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
        };
        assert!(labels.select(&of(&[("env", "prod"), ("team", "pay"), ("more", "")])));
        assert!(!labels.select(&of(&[("env", "prod")])));
        assert!(!labels.select(&of(&[("env", "prod"), ("team", "Pay")])));
    }
}
