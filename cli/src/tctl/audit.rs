//! `tctl audit ls` and `tctl audit verify`: the audit trail, and what in it proves itself.

mod proof;
mod trail;
mod verify;

use std::io::{self, IsTerminal};

use anyhow::{Context, Result};
use auth::proto::ListAuditRequest;
use serde_json::Value;

use super::Admin;
use crate::output::{self, Table, printable};

/// The audit trail.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Audit {
    /// List events, oldest first
    Ls(Ls),
    /// Check, session by session, whose security key approved what
    ///
    /// The trail itself says which key each device has (mfa.add) and what was touched for (the receipt of a session), so
    /// nobody's word is needed: not authd's, not a sidecar's. With files nothing is connected.
    Verify(verify::Verify),
}

/// Which events, and how.
#[derive(Debug, clap::Args)]
pub(super) struct Ls {
    /// Only events of this name, such as db.session.start
    #[arg(long)]
    event: Option<String>,
    /// The newest so many
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// How to print them
    #[arg(long, value_enum, default_value_t)]
    format: AuditFormat,
}

/// The forms of the trail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum AuditFormat {
    /// A table of what matters most
    #[default]
    Text,
    /// The events themselves, one a line
    Json,
}

impl Ls {
    pub(super) async fn run(self, admin: &mut Admin) -> Result<()> {
        let request = ListAuditRequest { since: 0, limit: self.limit, event: self.event.unwrap_or_default() };
        let events = admin.client.list_audit(request).await?.into_inner().events;
        match self.format {
            AuditFormat::Text => output::print_text(&text(&events)?)?,
            // A statement may hold anything; what drives a terminal must not reach one. Elsewhere, line by line as stored.
            AuditFormat::Json if io::stdout().is_terminal() => {
                events.iter().try_for_each(|event| output::print_text(&output::escaped_json(event)))?;
            }
            AuditFormat::Json => events.iter().try_for_each(|event| output::print_text(event))?,
        }
        Ok(())
    }
}

fn text(events: &[String]) -> Result<String> {
    let mut table = Table::new(["Time", "Code", "Event", "User", "Target", "Details"]);
    for event in events {
        let event: Value = serde_json::from_str(event).context("an event that is not JSON")?;
        let field = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let target = [field("db_service"), field("server_hostname"), field("target")]
            .into_iter()
            .find(|name| !name.is_empty());
        table.row([
            field("time"),
            field("code"),
            field("event"),
            field("user"),
            target.unwrap_or_default(),
            details(&event),
        ]);
    }
    Ok(table.render())
}

/// What distinguishes this event from the next of its kind.
fn details(event: &Value) -> String {
    let field = |name: &str| event.pointer(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let mut details = Vec::new();
    for (label, name) in [
        ("", "/db_query"),
        ("", "/command"),
        ("", "/path"),
        ("", "/error"),
        ("db_user=", "/db_user"),
        ("db_name=", "/db_name"),
        ("login=", "/login"),
        ("device=", "/mfa_device_name"),
        ("device=", "/mfa_device/mfa_device_name"),
        ("with_mfa=", "/with_mfa"),
        ("name=", "/name"),
    ] {
        details.extend(field(name).map(|value| format!("{label}{}", shortened(value))));
    }
    details.join(" ")
}

/// A query can be long; one line of a table cannot.
fn shortened(text: &str) -> String {
    const WIDTH: usize = 72;
    let text = printable(text);
    if text.chars().count() <= WIDTH {
        return text;
    }
    text.chars().take(WIDTH - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_session_shows_who_where_and_why() {
        let event = r#"{"event":"db.session.start","code":"TDB00W","time":"2021-04-27T23:03:05.226Z","user":"jerry",
            "db_service":"prod-pg","db_user":"jerry","db_name":"app","success":false,
            "error":"access to resource requires MFA"}"#;
        let table = text(&[event.to_owned()]).unwrap();
        let row = table.lines().last().unwrap();
        assert_eq!(
            row,
            "2021-04-27T23:03:05.226Z TDB00W db.session.start jerry prod-pg \
             access to resource requires MFA db_user=jerry db_name=app"
        );
    }

    #[test]
    fn a_command_shows_what_and_as_whom() {
        let event = r#"{"event":"exec","code":"T3002I","time":"2026-01-01T00:00:00Z","user":"jerry","login":"root",
            "server_hostname":"prod-host","command":"uptime"}"#;
        let table = text(&[event.to_owned()]).unwrap();
        let row = table.lines().last().unwrap();
        assert_eq!(row, "2026-01-01T00:00:00Z T3002I exec  jerry prod-host uptime login=root");
    }

    #[test]
    fn a_long_query_is_shortened_and_cannot_drive_the_terminal() {
        let event = serde_json::json!({ "db_query": format!("SELECT '\u{1b}[2J{}'", "x".repeat(500)) });
        let details = details(&event);
        assert!(details.chars().count() <= 72 && !details.contains('\u{1b}') && details.ends_with('…'));
    }
}
