//! `tsh clusters`: the cluster that one is logged in to. There are no others to be reached through it.

use serde_json::json;

use super::context::Context;
use crate::output::{self, Format, Table};

pub(super) async fn run(context: &Context, format: Format) -> anyhow::Result<()> {
    let connection = context.connect().await?;
    let cluster = connection.login.profile.cluster.as_str();
    let value = json!([{
        "cluster_name": cluster,
        "status": "online",
        "cluster_type": "root",
        "labels": null,
        "selected": true,
    }]);
    Ok(output::print(format, &value, || table(cluster))?)
}

fn table(cluster: &str) -> String {
    let mut table = Table::new(["Cluster Name", "Status", "Cluster Type", "Labels", "Selected"]);
    table.row([cluster, "online", "root", "", "*"]);
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_teleports() {
        let expected = "\
Cluster Name Status Cluster Type Labels Selected
------------ ------ ------------ ------ --------
main         online root                *";
        assert_eq!(table("main"), expected);
    }
}
