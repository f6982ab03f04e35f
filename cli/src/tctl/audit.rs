//! `tctl audit ls` and `tctl audit verify`: the audit trail, and what in it proves itself.

mod proof;
mod trail;
mod verify;

use std::{
    io::{self, IsTerminal},
    time::SystemTime,
};

use anyhow::{Context, Result};
use auth::{clock::unix_millis, proto::ListAuditRequest};
use serde_json::Value;

use super::{Admin, moment};
use crate::{
    output::{self, Table, printable},
    report::eprint_line,
};

/// Events that the service lists at most in one answer.
const MAX_EVENTS: u32 = 10_000;
/// The size from which an answer may have been cut: it ends below 3 MiB.
const FULL_BYTES: usize = 2 << 20;

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
    /// Only events since then: 24h, 2026-01-31 or 2026-01-31T12:00:00Z
    #[arg(long, value_parser = moment::since)]
    since: Option<SystemTime>,
    /// The newest so many, at most 10000
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_EVENTS)))]
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
        let event = self.event.unwrap_or_default();
        let events = list(admin, &event, self.since, self.limit).await?;
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

/// The newest events of a name, or of any where it is empty, oldest first. Who may miss some is told.
async fn list(admin: &mut Admin, event: &str, since: Option<SystemTime>, limit: u32) -> Result<Vec<String>> {
    let request = ListAuditRequest { since: since.map_or(0, unix_millis), limit, event: event.to_owned() };
    let events = admin.client.list_audit(request).await?.into_inner().events;
    if let Some(notice) = notice(&events, event, limit) {
        // On standard error: a pipe reads the answers alone.
        eprint_line(&notice);
    }
    Ok(events)
}

/// What is said where older events may have been left out that were asked for: of an answer that is full, whether by the number
/// that the service gives at most or by its size.
fn notice(events: &[String], event: &str, limit: u32) -> Option<String> {
    let (most, asked) = (events.len() >= MAX_EVENTS as usize, events.len() >= limit as usize);
    let full = events.iter().map(String::len).sum::<usize>() >= FULL_BYTES;
    let named = if event.is_empty() { "events".to_owned() } else { format!("events {}", printable(event)) };
    (most || full && !asked).then(|| {
        format!(
            "NOTICE: authd lists the newest {} {named} only; all are in the trail's files, DATA_DIR/log/*.log at authd",
            events.len()
        )
    })
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
    fn who_may_miss_events_is_told() {
        let events = |number: usize, length: usize| vec!["x".repeat(length); number];
        let said = |events: &[String], limit| notice(events, "", limit).is_some();
        assert!(said(&events(2_900, 1_000), MAX_EVENTS), "cut by its size");
        assert!(said(&events(10_000, 10), MAX_EVENTS), "cut by its number");
        assert!(!said(&events(9_999, 10), MAX_EVENTS), "all there is");
        assert!(!said(&events(100, 30_000), 100), "as many as asked for");
        let notice = notice(&events(10_000, 10), "db.session.start", MAX_EVENTS).unwrap();
        assert!(notice.starts_with("NOTICE: authd lists the newest 10000 events db.session.start only"));
    }

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
