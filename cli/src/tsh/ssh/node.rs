//! Which node is meant, and as whom.

use anyhow::bail;
use auth::proto::{ListTargetsRequest, Route, Target, users_client::UsersClient};
use tonic::transport::Channel;

use crate::{environment, output::printable, ssh::Labels, tsh::listed::ANY};

/// The nodes that the user's roles cover, by name.
pub(in crate::tsh) async fn list(channel: &Channel) -> anyhow::Result<Vec<Target>> {
    let request = ListTargetsRequest { kind: "node".to_owned() };
    let mut nodes = UsersClient::new(channel.clone()).list_targets(request).await?.into_inner().targets;
    nodes.retain(|node| node.kind == "node" && node.protocol == "ssh");
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(nodes)
}

/// One node: by its name, by `NAME.CLUSTER`, or by what the machine calls itself where no other does. OpenSSH writes names
/// in small letters; where no other node is meant, that is understood.
pub(in crate::tsh) fn find(nodes: Vec<Target>, wanted: &str, cluster: &str) -> anyhow::Result<Target> {
    let short = wanted.strip_suffix(cluster).and_then(|short| short.strip_suffix('.'));
    let by_name = |name: &str| nodes.iter().find(|node| node.name == name);
    if let Some(node) = by_name(wanted).or_else(|| by_name(short?)) {
        return Ok(node.clone());
    }
    let named = |node: &&Target| {
        let is = |name: Option<&str>| name.is_some_and(|name| node.name.eq_ignore_ascii_case(name));
        node.hostname == wanted || is(Some(wanted)) || is(short)
    };
    let mut others = nodes.iter().filter(named);
    match (others.next(), others.next()) {
        (Some(node), None) => Ok(node.clone()),
        (Some(a), Some(b)) => {
            let (a, b) = (printable(&a.name), printable(&b.name));
            bail!("ambiguous host could match multiple nodes: {a}, {b}; name one of them")
        }
        (None, _) => bail!("node \"{}\" not found, run: tsh ls", printable(wanted)),
    }
}

/// All nodes with these labels.
pub(in crate::tsh) fn select(mut nodes: Vec<Target>, labels: &Labels) -> anyhow::Result<Vec<Target>> {
    nodes.retain(|node| labels.select(&node.labels));
    if nodes.is_empty() {
        bail!("no nodes match the labels {}, run: tsh ls", printable(&labels.to_string()));
    }
    Ok(nodes)
}

/// What a session at a node is for.
pub(in crate::tsh) fn route(node: &Target, login: &str) -> Route {
    Route {
        target_kind: "node".to_owned(),
        target_name: node.name.clone(),
        protocol: "ssh".to_owned(),
        login: login.to_owned(),
        db_name: String::new(),
    }
}

/// The same address with another port.
pub(in crate::tsh) fn at_port(address: &str, port: u16) -> String {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    format!("{host}:{port}")
}

/// As whom a node is entered: what was typed; else what `TSH_LOGIN` says; else one's own name where roles allow it; else the only account that they
/// allow; else one's own name.
pub(in crate::tsh) fn login_at(node: &Target, typed: Option<&str>) -> String {
    let here = nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten().map(|user| user.name);
    let set = || environment::value("TSH_LOGIN").and_then(|login| login.into_string().ok());
    typed.map(str::to_owned).or_else(set).unwrap_or_else(|| default_login(node, here.as_deref()))
}

fn default_login(node: &Target, here: Option<&str>) -> String {
    let has = |list: &[String], name: &str| list.iter().any(|entry| entry == name);
    let denied = |name: &str| has(&node.denied_logins, name) || has(&node.denied_logins, ANY);
    let allowed =
        |name: &&str| !denied(name) && (has(&node.allowed_logins, name) || has(&node.allowed_logins, ANY));
    let mut concrete = node.allowed_logins.iter().filter(|login| *login != ANY && !denied(login));
    let only = match (concrete.next(), concrete.next()) {
        (Some(login), None) => Some(login.as_str()),
        _ => None,
    };
    here.filter(allowed).or(only).or(here).unwrap_or("root").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, hostname: &str, logins: &[&str], denied: &[&str]) -> Target {
        let owned = |values: &[&str]| values.iter().map(|&value| value.to_owned()).collect();
        Target {
            kind: "node".to_owned(),
            name: name.to_owned(),
            hostname: hostname.to_owned(),
            labels: [("env".to_owned(), name.to_owned())].into(),
            allowed_logins: owned(logins),
            denied_logins: owned(denied),
            ..Target::default()
        }
    }

    fn nodes() -> Vec<Target> {
        vec![node("a", "ip-1", &[], &[]), node("b", "ip-2", &[], &[]), node("c", "ip-2", &[], &[])]
    }

    fn found(wanted: &str) -> Result<String, String> {
        find(nodes(), wanted, "main").map(|node| node.name).map_err(|error| error.to_string())
    }

    #[test]
    fn a_node_is_found_by_its_names() {
        assert_eq!(found("a").unwrap(), "a");
        assert_eq!(found("a.main").unwrap(), "a");
        assert_eq!(found("ip-1").unwrap(), "a");
        assert_eq!(
            found("ip-2").unwrap_err(),
            "ambiguous host could match multiple nodes: b, c; name one of them"
        );
        assert_eq!(found("a.other").unwrap_err(), "node \"a.other\" not found, run: tsh ls");
        assert!(found("amain").is_err());
        assert_eq!(found("A.main").unwrap(), "a");
    }

    #[test]
    fn labels_that_nobody_has_are_said() {
        assert_eq!(select(nodes(), &"env=b".parse().unwrap()).unwrap().len(), 1);
        assert!(select(nodes(), &"env=x".parse().unwrap()).is_err());
    }

    #[test]
    fn the_account_is_ones_own_or_the_only_one() {
        let login =
            |logins: &[&str], denied: &[&str]| default_login(&node("a", "", logins, denied), Some("olga"));
        assert_eq!(login(&["root", "olga"], &[]), "olga");
        assert_eq!(login(&["*"], &[]), "olga");
        assert_eq!(login(&["root"], &[]), "root");
        assert_eq!(login(&["root", "olga"], &["olga"]), "root");
        assert_eq!(login(&["root", "ubuntu"], &[]), "olga", "refused in the service's words");
    }

    #[test]
    fn another_port_leaves_the_host() {
        assert_eq!(at_port("[::1]:22", 2222), "[::1]:2222");
        assert_eq!(at_port("h:22", 2222), "h:2222");
    }
}
