//! `tctl db ls` and `tctl nodes ls`: what sidecars have announced.

use anyhow::Result;
use auth::proto::{ListTargetsRequest, Target};
use serde_json::json;

use super::Admin;
use crate::{
    output::{self, Format, Table, labels},
    times,
};

/// Databases that sidecars have announced.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Db {
    /// List them, whoever may use them
    Ls(Ls),
}

/// Nodes that sidecars have announced.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Nodes {
    /// List them, whoever may use them
    Ls(Ls),
}

/// A listing.
#[derive(Debug, clap::Args)]
pub(super) struct Ls {
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Db {
    pub(super) async fn run(&self, admin: &mut Admin) -> Result<()> {
        let Self::Ls(ls) = self;
        let targets = fetch(admin, "database").await?;
        output::print(ls.format, &values(&targets), || databases(&targets))?;
        Ok(())
    }
}

impl Nodes {
    pub(super) async fn run(&self, admin: &mut Admin) -> Result<()> {
        let Self::Ls(ls) = self;
        let targets = fetch(admin, "node").await?;
        output::print(ls.format, &values(&targets), || nodes(&targets))?;
        Ok(())
    }
}

/// Announced targets of one kind, by name.
pub(super) async fn fetch(admin: &mut Admin, kind: &str) -> Result<Vec<Target>> {
    let request = ListTargetsRequest { kind: kind.to_owned() };
    let mut targets = admin.client.list_all_targets(request).await?.into_inner().targets;
    targets.sort_by(|a, b| a.name.cmp(&b.name).then_with(|| a.sidecar_id.cmp(&b.sidecar_id)));
    Ok(targets)
}

fn values(targets: &[Target]) -> Vec<serde_json::Value> {
    let value = |target: &Target| {
        json!({
            "kind": target.kind,
            "name": target.name,
            "description": target.description,
            "labels": target.labels,
            "protocol": target.protocol,
            "public_addr": target.public_addr,
            "uri": target.uri,
            "hostname": target.hostname,
            "sidecar_id": target.sidecar_id,
            "last_seen": times::rfc3339(times::from_millis(target.last_seen)),
        })
    };
    targets.iter().map(value).collect()
}

fn databases(targets: &[Target]) -> String {
    let mut table = Table::new(["Name", "Protocol", "Address", "URI", "Labels", "Sidecar"]);
    for target in targets {
        let Target { name, protocol, public_addr, uri, sidecar_id, .. } = target;
        table.row([name, protocol, public_addr, uri, &labels(&target.labels), sidecar_id]);
    }
    table.render()
}

fn nodes(targets: &[Target]) -> String {
    let mut table = Table::new(["Node Name", "Host", "Address", "Labels", "Sidecar"]);
    for target in targets {
        let Target { name, hostname, public_addr, sidecar_id, .. } = target;
        table.row([name, hostname, public_addr, &labels(&target.labels), sidecar_id]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_are_listed_with_what_an_administrator_looks_for() {
        let target = Target {
            name: "prod-pg".to_owned(),
            protocol: "postgres".to_owned(),
            public_addr: "localhost:5001".to_owned(),
            uri: "localhost:5432".to_owned(),
            labels: [("team".to_owned(), "pay".to_owned()), ("env".to_owned(), "prod".to_owned())].into(),
            sidecar_id: "42".to_owned(),
            ..Target::default()
        };
        let expected = "\
Name    Protocol Address        URI            Labels            Sidecar
------- -------- -------------- -------------- ----------------- -------
prod-pg postgres localhost:5001 localhost:5432 env=prod,team=pay 42";
        assert_eq!(databases(&[target]), expected);
    }

    #[test]
    fn nodes_are_listed_with_the_name_that_the_machine_gives_itself() {
        let target = Target {
            name: "prod-web".to_owned(),
            hostname: "ip-10-0-0-7".to_owned(),
            public_addr: "web.example.com:3022".to_owned(),
            labels: [("env".to_owned(), "prod".to_owned())].into(),
            sidecar_id: "42".to_owned(),
            ..Target::default()
        };
        let expected = "\
Node Name Host        Address              Labels   Sidecar
--------- ----------- -------------------- -------- -------
prod-web  ip-10-0-0-7 web.example.com:3022 env=prod 42";
        assert_eq!(nodes(&[target]), expected);
    }
}
