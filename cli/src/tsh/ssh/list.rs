//! `tsh ls`.

use auth::proto::Target;
use serde::Serialize;

use super::{
    arguments::{ListNodes, NodesFormat},
    node,
};
use crate::{
    output::{self, Format, Table, labels, printable},
    tsh::{
        context::Context,
        listed::{Logins, Metadata},
    },
};

pub(in crate::tsh) async fn run(context: &Context, arguments: &ListNodes) -> anyhow::Result<()> {
    let connection = context.connect().await?;
    let mut nodes = node::list(&connection.channel).await?;
    nodes.retain(|node| arguments.labelled.has(node));
    let shown: Vec<Shown<'_>> = nodes.iter().map(Shown::of).collect();
    let format = match arguments.format {
        NodesFormat::Names => return Ok(names(&nodes).map_or(Ok(()), |names| output::print_text(&names))?),
        NodesFormat::Text => Format::Text,
        NodesFormat::Json => Format::Json,
        NodesFormat::Yaml => Format::Yaml,
    };
    output::print(format, &shown, || table(&nodes, arguments.verbose))?;
    Ok(())
}

/// A node in the shape of Teleport's resource.
#[derive(Serialize)]
struct Shown<'a> {
    kind: &'static str,
    version: &'static str,
    metadata: Metadata<'a>,
    spec: Spec<'a>,
    logins: Logins<'a>,
}

#[derive(Serialize)]
struct Spec<'a> {
    addr: &'a str,
    hostname: &'a str,
}

impl<'a> Shown<'a> {
    fn of(node: &'a Target) -> Self {
        Self {
            kind: "node",
            version: "v2",
            metadata: Metadata::of(node),
            spec: Spec { addr: &node.public_addr, hostname: &node.hostname },
            logins: Logins::of(node),
        }
    }
}

/// One a line; `None` where there are none, which is no line.
fn names(nodes: &[Target]) -> Option<String> {
    let names: Vec<_> = nodes.iter().map(|node| printable(&node.name)).collect();
    if names.is_empty() { None } else { Some(names.join("\n")) }
}

fn table(nodes: &[Target], verbose: bool) -> String {
    let mut table = if verbose {
        Table::new(["Node Name", "Node ID", "Address", "Logins", "Labels"])
    } else {
        Table::new(["Node Name", "Address", "Labels"])
    };
    for node in nodes {
        let mut row = vec![node.name.clone()];
        if verbose {
            row.push(node.sidecar_id.clone());
        }
        row.push(node.public_addr.clone());
        if verbose {
            row.push(logins(node));
        }
        row.push(labels(&node.labels));
        table.row(row);
    }
    table.render()
}

fn logins(node: &Target) -> String {
    match (node.allowed_logins.join(","), node.denied_logins.join(",")) {
        (allowed, _) if allowed.is_empty() => "(none)".to_owned(),
        (allowed, denied) if denied.is_empty() => allowed,
        (allowed, denied) => format!("{allowed}, except: {denied}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> Target {
        Target {
            kind: "node".to_owned(),
            name: name.to_owned(),
            public_addr: "10.0.0.1:3022".to_owned(),
            labels: [("env".to_owned(), "prod".to_owned()), ("arch".to_owned(), "arm".to_owned())].into(),
            sidecar_id: "5ac9".to_owned(),
            allowed_logins: vec!["root".to_owned(), "ubuntu".to_owned()],
            ..Target::default()
        }
    }

    #[test]
    fn the_table_is_teleports() {
        let expected = "\
Node Name Address       Labels
--------- ------------- -----------------
prod-1    10.0.0.1:3022 arch=arm,env=prod";
        assert_eq!(table(&[node("prod-1")], false), expected);
        assert!(table(&[node("prod-1")], true).contains("prod-1    5ac9    10.0.0.1:3022 root,ubuntu"));
    }

    #[test]
    fn names_alone_are_for_programs() {
        assert_eq!(names(&[node("a"), node("b\n")]).unwrap(), "a\nb\u{fffd}");
        assert_eq!(names(&[]), None);
    }
}
