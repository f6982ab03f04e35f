//! What identifies a decision: all that it depends on, as one value that is cheap to hash and to compare. HOT.
//!
//! Somebody may hold a thousand roles, and a decision is asked for at each connection and again with each change of policy. So
//! the names are read once for each certificate, and SHA-256 stands for them. Each part is written behind its length and each
//! list behind its number of parts: different questions are different texts, and no two texts with one SHA-256 are known.

use aws_lc_rs::digest::{SHA256, digest};

use crate::{
    identity::{Login, RoleName, Traits},
    policy::{MfaStatus, Target, TargetKind},
};

/// What policy looks at of an identity: its roles in their order, and its traits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Holdings([u8; 32]);

/// What policy is asked: all of an [`Access`](crate::policy::Access).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Question([u8; 32]);

impl Holdings {
    pub(crate) fn of(roles: &[RoleName], traits: &Traits) -> Self {
        let mut text = Text::default();
        text.list(roles.iter().map(RoleName::as_str));
        text.count(traits.len());
        for (name, values) in traits {
            text.part(name);
            text.list(values.iter().map(String::as_str));
        }
        Self(text.sha256())
    }
}

impl Question {
    pub(crate) fn of(holdings: &Holdings, target: &Target, login: &Login, mfa: MfaStatus) -> Self {
        let Target { kind, name, protocol, labels } = target;
        let mut text = Text(holdings.0.to_vec());
        text.part(match kind {
            TargetKind::Database => "database",
            TargetKind::Node => "node",
        });
        text.part(name.as_str());
        text.part(protocol.as_str());
        text.count(labels.len());
        for (label, value) in labels {
            text.list([label.as_str(), value].into_iter());
        }
        match login {
            Login::Database { user, name } => text.list(["database", user, name].into_iter()),
            Login::Node { login } => text.list(["node", login].into_iter()),
        }
        text.part(match mfa {
            MfaStatus::Verified => "verified",
            MfaStatus::NotVerified => "not verified",
        });
        Self(text.sha256())
    }
}

/// What is hashed.
#[derive(Default)]
struct Text(Vec<u8>);

impl Text {
    fn count(&mut self, count: usize) {
        self.0.extend_from_slice(&count.to_be_bytes());
    }

    fn part(&mut self, part: &str) {
        self.count(part.len());
        self.0.extend_from_slice(part.as_bytes());
    }

    fn list<'p>(&mut self, parts: impl ExactSizeIterator<Item = &'p str>) {
        self.count(parts.len());
        parts.for_each(|part| self.part(part));
    }

    fn sha256(&self) -> [u8; 32] {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, &self.0).as_ref());
        hash
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use super::*;
    use crate::identity::{Protocol, TargetName};

    fn holdings(roles: &[&str], traits: &[(&str, &[&str])]) -> Holdings {
        let roles: Vec<_> = roles.iter().map(|role| RoleName::new(*role).unwrap()).collect();
        let owned = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
        let traits = traits.iter().map(|(name, values)| ((*name).to_owned(), owned(values))).collect();
        Holdings::of(&roles, &traits)
    }

    #[test]
    fn who_holds_something_else_holds_something_else_however_it_is_cut() {
        let all = [
            holdings(&["ab"], &[]),
            holdings(&["a", "b"], &[]),
            holdings(&["b", "a"], &[]),
            holdings(&["a"], &[]),
            holdings(&["a"], &[("b", &[])]),
            holdings(&["a"], &[("b", &[""])]),
            holdings(&["a"], &[("b", &["c"])]),
            holdings(&["a"], &[("b", &["c", "d"])]),
            holdings(&["a"], &[("b", &["cd"])]),
            holdings(&["a"], &[("b", &["c"]), ("d", &[])]),
            holdings(&["a"], &[("bc", &[])]),
            holdings(&["a", "b", "c"], &[]),
        ];
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
        assert_eq!(holdings(&["a", "b"], &[("c", &["d"])]), holdings(&["a", "b"], &[("c", &["d"])]));
    }

    fn target(kind: TargetKind, name: &str, protocol: Protocol, labels: &[(&str, &str)]) -> Target {
        let labels: BTreeMap<_, _> =
            labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Target { kind, name: TargetName::new(name).unwrap(), protocol, labels }
    }

    fn database(user: &str, name: &str) -> Login {
        Login::Database { user: user.to_owned(), name: name.to_owned() }
    }

    #[test]
    fn every_part_of_a_question_makes_it_another() {
        use TargetKind::{Database, Node};
        let (mine, others) = (holdings(&["a"], &[]), holdings(&["b"], &[]));
        let pg = |labels| target(Database, "pg", Protocol::Postgres, labels);
        let node = |login: &str| Login::Node { login: login.to_owned() };
        let (yes, no) = (MfaStatus::Verified, MfaStatus::NotVerified);
        let questions = [
            Question::of(&mine, &pg(&[("env", "dev")]), &database("app", "shop"), no),
            Question::of(&others, &pg(&[("env", "dev")]), &database("app", "shop"), no),
            Question::of(&mine, &pg(&[("env", "dev")]), &database("app", "shop"), yes),
            Question::of(&mine, &pg(&[("env", "dev")]), &database("apps", "hop"), no),
            Question::of(&mine, &pg(&[("env", "dev")]), &database("appshop", ""), no),
            Question::of(&mine, &pg(&[("env", "dev")]), &database("", "appshop"), no),
            Question::of(&mine, &pg(&[("env", "dev")]), &node("app"), no),
            Question::of(&mine, &pg(&[("env", "prod")]), &database("app", "shop"), no),
            Question::of(&mine, &pg(&[("envd", "ev")]), &database("app", "shop"), no),
            Question::of(&mine, &pg(&[("env", "dev"), ("a", "b")]), &database("app", "shop"), no),
            Question::of(&mine, &pg(&[]), &database("app", "shop"), no),
            Question::of(&mine, &target(Database, "pg", Protocol::Mysql, &[]), &database("app", "shop"), no),
            Question::of(&mine, &target(Node, "pg", Protocol::Postgres, &[]), &database("app", "shop"), no),
            Question::of(
                &mine,
                &target(Database, "my", Protocol::Postgres, &[]),
                &database("app", "shop"),
                no,
            ),
        ];
        assert_eq!(questions.iter().collect::<HashSet<_>>().len(), questions.len());
    }
}
