//! `tctl audit verify`: one line a session, then what it all comes to.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context, Result, bail};
use auth::clock::parse_rfc3339;
use serde_json::{Value, json};

use super::{
    super::{Admin, Place, moment},
    MAX_EVENTS, list,
    proof::{Proof, Unproved, judge},
    trail::{DEVICES, STARTS, Session, Trail},
};
use crate::{
    output::{self, Format, Table, printable},
    times,
};

/// Largest file that is read.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// Which sessions, and how they are shown.
#[derive(Debug, clap::Args)]
pub(in super::super) struct Verify {
    /// Files of the audit trail, oldest first; `-` is standard input [default: what authd has]
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Only sessions since then: 24h, 2026-01-31 or 2026-01-31T12:00:00Z
    #[arg(long, value_parser = moment::since)]
    since: Option<SystemTime>,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// A session and what its record comes to.
type Judged<'a> = (&'a Session, Result<Proof, Unproved>);

impl Verify {
    pub(in super::super) async fn run(self, place: &Place) -> Result<()> {
        let trail = match self.files.as_slice() {
            [] => self.recorded(&mut place.connect().await?).await?,
            files => read_files(files)?,
        };
        let judged: Vec<Judged<'_>> = trail
            .sessions
            .iter()
            .filter(|session| self.covers(session))
            .map(|session| (session, judge(session, &trail)))
            .collect();
        let summary = Summary::of(&judged);
        output::print(self.format, &value(&judged, &summary), || text(&judged, &summary))?;
        match summary.failed {
            0 => Ok(()),
            1 => bail!("the record of 1 session proves nothing"),
            failed => bail!("the records of {failed} sessions prove nothing"),
        }
    }

    /// One whose time cannot be read is looked at.
    fn covers(&self, session: &Session) -> bool {
        let time = parse_rfc3339(session.shown("time"));
        time.zip(self.since).is_none_or(|(time, since)| time >= since)
    }

    async fn recorded(&self, admin: &mut Admin) -> Result<Trail> {
        let mut events = Vec::new();
        for event in DEVICES {
            events.extend(list(admin, event, None, MAX_EVENTS).await?);
        }
        // In the order of time, so that a device is known before it is removed.
        events.sort_by_cached_key(|event| time_text(event));
        for event in STARTS {
            events.extend(list(admin, event, self.since, MAX_EVENTS).await?);
        }
        Ok(Trail::read(events.iter().map(String::as_str))?)
    }
}

fn time_text(event: &str) -> String {
    let event: Value = serde_json::from_str(event).unwrap_or_default();
    event.get("time").and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn read_files(files: &[PathBuf]) -> Result<Trail> {
    let mut text = String::new();
    for file in files {
        let name = if file == Path::new("-") { "standard input".into() } else { file.display().to_string() };
        let read = read(file, &mut text).with_context(|| format!("cannot read {name}"))?;
        if read > MAX_FILE_BYTES {
            bail!("{name} is larger than 1 GiB: split it, and keep the lines of mfa.add in each part");
        }
        if !text.ends_with('\n') {
            text.push('\n');
        }
    }
    Ok(Trail::read(text.lines())?)
}

fn read(file: &Path, text: &mut String) -> io::Result<u64> {
    let reader: Box<dyn Read> =
        if file == Path::new("-") { Box::new(io::stdin()) } else { Box::new(File::open(file)?) };
    reader.take(MAX_FILE_BYTES + 1).read_to_string(text).map(|read| read as u64)
}

/// How many of each.
#[derive(Debug, Default, PartialEq, Eq)]
struct Summary {
    proved: usize,
    otp: usize,
    without_mfa: usize,
    failed: usize,
}

impl Summary {
    fn of(judged: &[Judged<'_>]) -> Self {
        let mut summary = Self::default();
        for (_, proof) in judged {
            *match proof {
                Ok(Proof::Proved { .. }) => &mut summary.proved,
                Ok(Proof::Otp { .. }) => &mut summary.otp,
                Ok(Proof::NotClaimed) => &mut summary.without_mfa,
                Err(_) => &mut summary.failed,
            } += 1;
        }
        summary
    }
}

/// What the session was: `alice@shop`, or the SSH login.
fn login(session: &Session) -> String {
    match (session.shown("db_user"), session.shown("db_name")) {
        ("", _) => session.shown("login").to_owned(),
        (user, "") => user.to_owned(),
        (user, name) => format!("{user}@{name}"),
    }
}

fn target(session: &Session) -> &str {
    if session.kind == "session.start" {
        session.shown("server_hostname")
    } else {
        session.shown("db_service")
    }
}

fn text(judged: &[Judged<'_>], summary: &Summary) -> String {
    let mut table = Table::new(["Time", "User", "Target", "Login", "Proof", "Approved with"]);
    for (session, proof) in judged {
        let (word, with) = match proof {
            Ok(Proof::Proved { device, name, touched, user_verified }) => {
                let pin = if *user_verified { ", with PIN or fingerprint" } else { "" };
                ("proved", format!("{name} ({device}) at {}{pin}", times::rfc3339(*touched)))
            }
            Ok(Proof::Otp { device, name }) => {
                ("none possible", format!("a code of {name} ({device}), says authd"))
            }
            Ok(Proof::NotClaimed) => ("no MFA", String::new()),
            Err(why) => ("FAILED", why.to_string()),
        };
        let shown = |field| session.shown(field).to_owned();
        table.row([
            shown("time"),
            shown("user"),
            target(session).to_owned(),
            login(session),
            word.to_owned(),
            with,
        ]);
    }
    let Summary { proved, otp, without_mfa, failed } = summary;
    format!(
        "{}\n\n{} sessions: {proved} proved, {otp} by one-time code (no proof possible), {without_mfa} without MFA, \
         {failed} FAILED",
        table.render(),
        judged.len()
    )
}

fn value(judged: &[Judged<'_>], summary: &Summary) -> Value {
    let sessions: Vec<Value> = judged.iter().map(session_value).collect();
    let Summary { proved, otp, without_mfa, failed } = summary;
    let summary = json!({ "proved": proved, "otp": otp, "without_mfa": without_mfa, "failed": failed });
    json!({ "sessions": sessions, "summary": summary })
}

fn session_value((session, proof): &Judged<'_>) -> Value {
    let mut value = json!({
        "sid": session.shown("sid"), "time": session.shown("time"), "user": session.shown("user"),
        "target": target(session), "login": login(session),
    });
    let found = match proof {
        Ok(Proof::Proved { device, name, touched, user_verified }) => json!({
            "proof": "proved", "device": device.to_string(), "device_name": name,
            "touched": times::rfc3339(*touched), "user_verified": user_verified,
        }),
        Ok(Proof::Otp { device, name }) => {
            json!({ "proof": "otp", "device": device.to_string(), "device_name": name })
        }
        Ok(Proof::NotClaimed) => json!({ "proof": "not_claimed" }),
        Err(why) => json!({ "proof": "failed", "why": printable(&why.to_string()) }),
    };
    if let (Some(value), Value::Object(found)) = (value.as_object_mut(), found) {
        value.extend(found);
    }
    value
}
