//! `tctl status`: the cluster at a glance.

use anyhow::Result;
use auth::proto::{StatusRequest, StatusResponse};
use serde_json::json;

use super::Admin;
use crate::{
    output::{self, Format, printable},
    times,
};

/// The cluster's name, version, authorities and CA pin.
#[derive(Debug, clap::Args)]
pub(super) struct Status {
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Status {
    pub(super) async fn run(&self, admin: &mut Admin) -> Result<()> {
        let status = admin.client.status(StatusRequest {}).await?.into_inner();
        let authorities: Vec<_> = status
            .authorities
            .iter()
            .map(|authority| {
                json!({
                    "type": authority.r#type,
                    "rotation": authority.rotation,
                    "not_after": times::rfc3339(times::from_millis(authority.not_after)),
                })
            })
            .collect();
        let value = json!({
            "cluster": status.cluster_name,
            "version": status.server_version,
            "authorities": authorities,
            "ca_pins": status.ca_pins,
        });
        output::print(self.format, &value, || text(&status))?;
        Ok(())
    }
}

fn text(status: &StatusResponse) -> String {
    let mut rows = vec![
        ("Cluster".to_owned(), status.cluster_name.clone()),
        ("Version".to_owned(), status.server_version.clone()),
    ];
    for authority in &status.authorities {
        let until = times::rfc1123(times::from_millis(authority.not_after));
        rows.push((
            format!("{} CA", authority.r#type),
            format!("{}, valid until {until}", authority.rotation),
        ));
    }
    rows.extend(status.ca_pins.iter().map(|pin| ("CA pin".to_owned(), pin.clone())));
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let lines: Vec<_> =
        rows.iter().map(|(name, value)| format!("{name:<width$}  {}", printable(value))).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use auth::proto::AuthorityStatus;

    use super::*;

    #[test]
    fn the_text_aligns_what_it_tells() {
        let status = StatusResponse {
            cluster_name: "main".to_owned(),
            server_version: "0.1.0".to_owned(),
            authorities: vec![AuthorityStatus {
                r#type: "db_client".to_owned(),
                rotation: "never rotated".to_owned(),
                not_after: 0,
            }],
            ca_pins: vec!["sha256:ab".to_owned()],
        };
        let expected = "\
Cluster       main
Version       0.1.0
db_client CA  never rotated, valid until Thu, 01 Jan 1970 00:00:00 UTC
CA pin        sha256:ab";
        assert_eq!(text(&status), expected);
    }
}
