//! `tctl auth rotate`: new keys for an authority, in Teleport's phases.

use std::time::Duration;

use anyhow::{Result, bail};
use auth::proto::RotateAuthorityRequest;

use super::super::{Admin, ttl};
use crate::output;

/// Replace an authority's keys.
#[derive(Debug, clap::Args)]
pub(in super::super) struct Rotate {
    /// Which authority
    #[arg(long = "type", value_enum)]
    kind: RotateType,
    /// One phase now, instead of all of them over the grace period
    #[arg(long, requires = "phase")]
    manual: bool,
    /// The phase to go to
    #[arg(long, value_enum, requires = "manual")]
    phase: Option<Phase>,
    /// Go to the phase though it locks sidecars out, which then have to join anew
    #[arg(long, requires = "manual")]
    force: bool,
    /// How long all phases take together [default: 48h, at least 3m]
    #[arg(long, value_parser = ttl::parse, conflicts_with = "manual")]
    grace_period: Option<Duration>,
}

/// Which authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum RotateType {
    /// Signs people's certificates
    User,
    /// Signs the certificates of authd and the sidecars
    Host,
    /// Signs databases' own certificates
    Db,
    /// Signs what sidecars show to databases
    #[value(alias = "db_client")]
    DbClient,
    /// Signs what sidecars show to hosts
    Openssh,
}

/// In their order; see docs/administration.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
enum Phase {
    /// The new keys are there to be trusted
    Init,
    /// They sign for people and sidecars
    UpdateClients,
    /// They sign for authd and the sidecars as servers
    UpdateServers,
    /// The end: the old keys are gone; after rollback, the new ones
    Standby,
    /// Back to the old keys
    Rollback,
}

impl Rotate {
    pub(in super::super) async fn run(self, admin: &mut Admin) -> Result<()> {
        let request = self.request();
        let is_led = request.phase.is_empty();
        let phase = admin.change(request).await?.phase;
        if phase.is_empty() {
            bail!("the auth service did not say which phase is in force");
        }
        output::print_text(&text(is_led, &phase))?;
        Ok(())
    }

    fn request(&self) -> RotateAuthorityRequest {
        let kind = match self.kind {
            RotateType::User => "user",
            RotateType::Host => "host",
            RotateType::Db => "db",
            RotateType::DbClient => "db_client",
            RotateType::Openssh => "openssh",
        };
        let phase = match self.phase {
            None => "",
            Some(Phase::Init) => "init",
            Some(Phase::UpdateClients) => "update_clients",
            Some(Phase::UpdateServers) => "update_servers",
            Some(Phase::Standby) => "standby",
            Some(Phase::Rollback) => "rollback",
        };
        RotateAuthorityRequest {
            r#type: kind.to_owned(),
            phase: phase.to_owned(),
            grace_seconds: ttl::seconds(self.grace_period),
            force: self.force,
        }
    }
}

fn text(is_led: bool, phase: &str) -> String {
    if is_led {
        "Initiated certificate authority rotation. To check status use 'tctl status'".to_owned()
    } else {
        format!("Updated rotation phase to \"{phase}\". To check status use 'tctl status'")
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        rotate: Rotate,
    }

    fn asked(line: &str) -> Result<RotateAuthorityRequest, clap::Error> {
        let words = std::iter::once("rotate").chain(line.split_whitespace());
        Line::try_parse_from(words).map(|line| line.rotate.request())
    }

    #[test]
    fn a_line_asks_for_one_phase_or_for_all_of_them() {
        let request = |kind: &str, phase: &str, grace_seconds| RotateAuthorityRequest {
            r#type: kind.to_owned(),
            phase: phase.to_owned(),
            grace_seconds,
            force: false,
        };
        for (line, wanted) in [
            ("--type=user", request("user", "", 0)),
            ("--type=db-client --grace-period=1h30m", request("db_client", "", 5400)),
            ("--type=db_client --manual --phase=update_clients", request("db_client", "update_clients", 0)),
            ("--type=openssh --manual --phase=rollback", request("openssh", "rollback", 0)),
        ] {
            assert_eq!(asked(line).ok(), Some(wanted), "{line}");
        }
        let line = "--type=host --manual --phase=standby --force";
        let forced = RotateAuthorityRequest { force: true, ..request("host", "standby", 0) };
        assert_eq!(asked(line).ok(), Some(forced));
        for wrong in [
            "",
            "--type=host --force",
            "--type=jwt",
            "--type=user --manual",
            "--type=user --phase=init",
            "--type=user --manual --phase=init --grace-period=1h",
            "--type=user --manual --phase=update-clients",
        ] {
            assert!(asked(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_said_is_what_teleport_says() {
        let one = r#"Updated rotation phase to "init". To check status use 'tctl status'"#;
        assert_eq!(text(false, "init"), one);
        assert!(text(true, "init").starts_with("Initiated certificate authority rotation."));
    }
}
