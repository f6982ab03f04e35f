//! `tsh db ls`.

use std::time::SystemTime;

use auth::proto::Target;
use serde::Serialize;

use super::{saved::Saved, target};
use crate::{
    output::{self, Table, labels},
    profile::Login,
    tsh::{
        arguments::ListDatabases,
        context::Context,
        listed::{Logins, Metadata},
    },
};

pub(in crate::tsh) async fn run(context: &Context, arguments: &ListDatabases) -> anyhow::Result<()> {
    let connection = context.connect().await?;
    let mut targets = target::list(&connection.channel).await?;
    targets.retain(|target| arguments.labelled.has(target));
    let saved = saved_names(context, &connection.login, &targets)?;
    let shown: Vec<Shown<'_>> = targets.iter().map(Shown::of).collect();
    output::print(arguments.listing.format, &shown, || table(&targets, &saved, arguments.verbose))?;
    Ok(())
}

fn saved_names(context: &Context, login: &Login, targets: &[Target]) -> anyhow::Result<Vec<String>> {
    let now = SystemTime::now();
    let mut names = Vec::new();
    for target in targets {
        let saved = Saved::current(&context.home, &login.profile, &target.name, now)?;
        names.extend(saved.map(|saved| saved.name.to_string()));
    }
    Ok(names)
}

/// A database in the shape of Teleport's resource.
#[derive(Serialize)]
struct Shown<'a> {
    kind: &'static str,
    version: &'static str,
    metadata: Metadata<'a>,
    spec: Spec<'a>,
    users: Logins<'a>,
}

#[derive(Serialize)]
struct Spec<'a> {
    protocol: &'a str,
    uri: &'a str,
    public_addr: &'a str,
}

impl<'a> Shown<'a> {
    fn of(target: &'a Target) -> Self {
        Self {
            kind: "db",
            version: "v3",
            metadata: Metadata::of(target),
            spec: Spec { protocol: &target.protocol, uri: &target.uri, public_addr: &target.public_addr },
            users: Logins::of(target),
        }
    }
}

fn table(targets: &[Target], saved: &[String], verbose: bool) -> String {
    let mut table = match verbose {
        true => Table::new([
            "Name",
            "Description",
            "Protocol",
            "Type",
            "URI",
            "Allowed Users",
            "Labels",
            "Connect",
        ]),
        false => Table::new(["Name", "Description", "Allowed Users", "Labels", "Connect"]),
    };
    for target in targets {
        let logged_in = saved.contains(&target.name);
        let name = if logged_in { format!("> {}", target.name) } else { target.name.clone() };
        let connect = if logged_in { format!("tsh db connect {}", target.name) } else { String::new() };
        let mut row = vec![name, target.description.clone()];
        if verbose {
            row.extend([target.protocol.clone(), "self-hosted".to_owned(), target.uri.clone()]);
        }
        row.extend([allowed_users(target), labels(&target.labels), connect]);
        table.row(row);
    }
    table.render()
}

fn allowed_users(target: &Target) -> String {
    let list = |values: &[String]| format!("[{}]", values.join(" "));
    match (&target.allowed_logins[..], &target.denied_logins[..]) {
        ([], _) => "(none)".to_owned(),
        (allowed, []) => list(allowed),
        (allowed, denied) => format!("{}, except: {}", list(allowed), list(denied)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(name: &str, description: &str, users: &[&str], denied: &[&str]) -> Target {
        let owned = |values: &[&str]| values.iter().map(|&value| value.to_owned()).collect();
        Target {
            name: name.to_owned(),
            description: description.to_owned(),
            labels: [("env".to_owned(), "dev".to_owned())].into(),
            protocol: "postgres".to_owned(),
            uri: "localhost:5432".to_owned(),
            allowed_logins: owned(users),
            denied_logins: owned(denied),
            ..Target::default()
        }
    }

    #[test]
    fn the_table_is_teleports() {
        let targets =
            [target("example", "Example MySQL", &["*"], &[]), target("pg", "Postgres", &["alice"], &[])];
        let expected = "\
Name    Description   Allowed Users Labels  Connect
------- ------------- ------------- ------- -----------------
example Example MySQL [*]           env=dev
> pg    Postgres      [alice]       env=dev tsh db connect pg";
        assert_eq!(table(&targets, &["pg".to_owned()], false), expected);
    }

    #[test]
    fn verbose_adds_protocol_type_and_uri() {
        let text = table(&[target("pg", "", &["*"], &[])], &[], true);
        assert!(text.contains("postgres self-hosted localhost:5432 [*]"), "{text}");
    }

    #[test]
    fn allowed_users_read_as_teleports() {
        assert_eq!(allowed_users(&target("a", "", &[], &["x"])), "(none)");
        assert_eq!(allowed_users(&target("a", "", &["alice", "bob"], &[])), "[alice bob]");
        assert_eq!(allowed_users(&target("a", "", &["*"], &["root"])), "[*], except: [root]");
    }
}
