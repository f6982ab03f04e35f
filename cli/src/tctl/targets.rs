//! `tctl db ls`, `tctl nodes ls` and `tctl inventory ls`: what sidecars have announced.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use auth::proto::{ListTargetsRequest, Target};
use serde::Serialize;
use serde_json::json;

use super::{
    Admin,
    tokens::{Invite, TokenType},
};
use crate::{
    labelled::Labelled,
    output::{self, Format, Table, labels},
    times,
};

/// Databases that sidecars have announced.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Db {
    /// List them, whoever may use them
    Ls(Ls),
}

/// Sidecars that have announced targets.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Inventory {
    /// List them, with what they guard
    Ls(Listing),
}

/// Nodes that sidecars have announced.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Nodes {
    /// List them, whoever may use them
    Ls(Ls),
    /// Make a token for a node, and show the command line of the sidecar that uses it
    Add(Invite),
}

/// A listing.
#[derive(Debug, clap::Args)]
pub(super) struct Ls {
    #[command(flatten)]
    listing: Listing,
    #[command(flatten)]
    labelled: Labelled,
}

/// How a listing is printed.
#[derive(Debug, clap::Args)]
pub(super) struct Listing {
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Db {
    pub(super) async fn run(&self, admin: &mut Admin) -> Result<()> {
        let Self::Ls(ls) = self;
        let targets = ls.fetch(admin, "database").await?;
        output::print(ls.listing.format, &values(&targets), || databases(&targets))?;
        Ok(())
    }
}

impl Nodes {
    pub(super) async fn run(self, admin: &mut Admin) -> Result<()> {
        let ls = match self {
            Self::Ls(ls) => ls,
            Self::Add(invite) => return invite.run(admin, TokenType::Node).await,
        };
        let targets = ls.fetch(admin, "node").await?;
        output::print(ls.listing.format, &values(&targets), || nodes(&targets))?;
        Ok(())
    }
}

impl Ls {
    async fn fetch(&self, admin: &mut Admin, kind: &str) -> Result<Vec<Target>> {
        let mut targets = fetch(admin, kind).await?;
        targets.retain(|target| self.labelled.has(target));
        Ok(targets)
    }
}

impl Inventory {
    pub(super) async fn run(&self, admin: &mut Admin) -> Result<()> {
        let Self::Ls(listing) = self;
        let sidecars = sidecars(&fetch(admin, "").await?);
        output::print(listing.format, &sidecars, || inventory(&sidecars))?;
        Ok(())
    }
}

/// A sidecar, as far as its targets tell.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Sidecar {
    server_id: String,
    hostname: String,
    services: BTreeSet<&'static str>,
    targets: Vec<String>,
    last_seen: String,
}

/// By their hosts' names, each with all that it guards.
fn sidecars(targets: &[Target]) -> Vec<Sidecar> {
    let mut by_id: BTreeMap<&str, Vec<&Target>> = BTreeMap::new();
    for target in targets {
        by_id.entry(&target.sidecar_id).or_default().push(target);
    }
    let sidecar = |(id, targets): (&str, Vec<&Target>)| Sidecar {
        server_id: id.to_owned(),
        hostname: targets.iter().map(|target| target.hostname.clone()).max().unwrap_or_default(),
        services: targets.iter().map(|target| if target.kind == "node" { "Node" } else { "Db" }).collect(),
        targets: targets.iter().map(|target| target.name.clone()).collect(),
        last_seen: times::rfc3339(times::from_millis(
            targets.iter().map(|target| target.last_seen).max().unwrap_or_default(),
        )),
    };
    let mut sidecars: Vec<_> = by_id.into_iter().map(sidecar).collect();
    sidecars.sort_by(|a, b| (&a.hostname, &a.server_id).cmp(&(&b.hostname, &b.server_id)));
    sidecars
}

fn inventory(sidecars: &[Sidecar]) -> String {
    let mut table = Table::new(["Server ID", "Hostname", "Services", "Targets", "Last Seen"]);
    for sidecar in sidecars {
        let services: Vec<_> = sidecar.services.iter().copied().collect();
        let (services, targets) = (services.join(","), sidecar.targets.join(","));
        table.row([&sidecar.server_id, &sidecar.hostname, &services, &targets, &sidecar.last_seen]);
    }
    table.render()
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
    fn a_sidecar_is_listed_with_all_that_it_guards() {
        let target = |kind: &str, name: &str, sidecar: &str, last_seen| Target {
            kind: kind.to_owned(),
            name: name.to_owned(),
            hostname: format!("host-{sidecar}"),
            sidecar_id: sidecar.to_owned(),
            last_seen,
            ..Target::default()
        };
        let targets = [
            target("database", "pg", "2", 1_000),
            target("node", "web", "1", 0),
            target("node", "pg-host", "2", 2_000),
        ];
        let expected = "\
Server ID Hostname Services Targets    Last Seen
--------- -------- -------- ---------- --------------------
1         host-1   Node     web        1970-01-01T00:00:00Z
2         host-2   Db,Node  pg,pg-host 1970-01-01T00:00:02Z";
        assert_eq!(inventory(&sidecars(&targets)), expected);
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
