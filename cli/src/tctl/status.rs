//! `tctl status`: the cluster at a glance.

use anyhow::Result;
use auth::proto::{AuthorityStatus, SidecarBehind, StatusRequest, StatusResponse};
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
                let time = |millis| (millis != 0).then(|| times::rfc3339(times::from_millis(millis)));
                json!({
                    "type": authority.r#type,
                    "rotation": authority.rotation,
                    "not_after": times::rfc3339(times::from_millis(authority.not_after)),
                    "rotation_started": time(authority.started),
                    "rotation_ends": time(authority.ends),
                    "last_rotated": time(authority.last_rotated),
                    "behind": authority.behind.iter().map(|sidecar| json!({
                        "sidecar_id": sidecar.sidecar_id,
                        "target_names": sidecar.target_names,
                        "last_seen": time(sidecar.last_seen),
                        "not_after": time(sidecar.not_after),
                    })).collect::<Vec<_>>(),
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
            format!("{}, valid until {until}", rotation(authority)),
        ));
        rows.extend(authority.behind.iter().map(|sidecar| (String::new(), behind(sidecar))));
    }
    rows.extend(status.ca_pins.iter().map(|pin| ("CA pin".to_owned(), pin.clone())));
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let lines: Vec<_> =
        rows.iter().map(|(name, value)| format!("{name:<width$}  {}", printable(value))).collect();
    lines.join("\n")
}

/// How far the replacement of an authority's keys is.
fn rotation(authority: &AuthorityStatus) -> String {
    let date = |millis| times::rfc1123(times::from_millis(millis));
    match (authority.rotation.as_str(), authority.started, authority.last_rotated) {
        ("standby", _, 0) => "never updated".to_owned(),
        ("standby", _, rotated) => format!("rotated {}", date(rotated)),
        (phase, started, _) => {
            let ending = (authority.ends != 0).then(|| format!(", ending: {}", date(authority.ends)));
            let mode = if ending.is_some() { "auto" } else { "manual" };
            let (phase, ending) = (described(phase), ending.unwrap_or_default());
            format!("{phase} (mode: {mode}, started: {}{ending})", date(started))
        }
    }
}

/// A phase in Teleport's words for people.
fn described(phase: &str) -> &str {
    match phase {
        "init" => "initialized",
        "update_clients" => "rotating clients",
        "update_servers" => "rotating servers",
        "rollback" => "rolling back",
        other => other,
    }
}

/// A sidecar that the next phase waits for.
fn behind(sidecar: &SidecarBehind) -> String {
    let date = |millis| times::rfc1123(times::from_millis(millis));
    let seen = match sidecar.last_seen {
        0 => "never seen since it joined".to_owned(),
        seen => format!("last seen {}", date(seen)),
    };
    let (id, targets) = (&sidecar.sidecar_id, sidecar.target_names.join(", "));
    format!(
        "the next phase waits for sidecar {id} ({targets}), {seen}, at most until {}",
        date(sidecar.not_after)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_aligns_what_it_tells() {
        let status = StatusResponse {
            cluster_name: "main".to_owned(),
            server_version: "0.1.0".to_owned(),
            authorities: vec![AuthorityStatus {
                r#type: "db_client".to_owned(),
                rotation: "standby".to_owned(),
                ..AuthorityStatus::default()
            }],
            ca_pins: vec!["sha256:ab".to_owned()],
        };
        let expected = "\
Cluster       main
Version       0.1.0
db_client CA  never updated, valid until Thu, 01 Jan 1970 00:00:00 UTC
CA pin        sha256:ab";
        assert_eq!(text(&status), expected);
    }

    #[test]
    fn a_rotation_says_how_far_it_is() {
        let authority = |rotation: &str, started, ends, last_rotated| AuthorityStatus {
            rotation: rotation.to_owned(),
            started,
            ends,
            last_rotated,
            ..AuthorityStatus::default()
        };
        let rotated = "rotated Thu, 01 Jan 1970 00:01:00 UTC";
        assert_eq!(rotation(&authority("standby", 0, 0, 60_000)), rotated);
        let by_hand = "initialized (mode: manual, started: Thu, 01 Jan 1970 00:00:01 UTC)";
        assert_eq!(rotation(&authority("init", 1_000, 0, 60_000)), by_hand);
        let led = "rotating servers (mode: auto, started: Thu, 01 Jan 1970 00:00:01 UTC, \
                   ending: Thu, 01 Jan 1970 01:00:01 UTC)";
        assert_eq!(rotation(&authority("update_servers", 1_000, 3_601_000, 0)), led);
    }

    #[test]
    fn whom_the_next_phase_waits_for_is_named_below_the_authority() {
        let behind = SidecarBehind {
            sidecar_id: "6c1f9a5e".to_owned(),
            target_names: vec!["dev-pg".to_owned(), "prod-pg".to_owned()],
            last_seen: 1_000,
            not_after: 60_000,
        };
        let status = StatusResponse {
            authorities: vec![AuthorityStatus {
                r#type: "host".to_owned(),
                rotation: "update_servers".to_owned(),
                behind: vec![behind.clone(), SidecarBehind { last_seen: 0, ..behind }],
                ..AuthorityStatus::default()
            }],
            ..StatusResponse::default()
        };
        let text = text(&status);
        let seen = "
         the next phase waits for sidecar 6c1f9a5e (dev-pg, prod-pg), last seen Thu, 01 Jan 1970 00:00:01 UTC, \
                    at most until Thu, 01 Jan 1970 00:01:00 UTC";
        assert!(text.contains(seen), "{text}");
        assert!(text.contains("(dev-pg, prod-pg), never seen since it joined, at most"), "{text}");
    }
}
