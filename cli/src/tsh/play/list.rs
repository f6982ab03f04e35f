//! `tsh recordings ls`.

use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use auth::{
    clock::unix_millis,
    proto::{ListRecordingsRequest, Recording, users_client::UsersClient},
};
use serde::Serialize;
use time::{Date, OffsetDateTime, format_description::well_known::Rfc3339, macros::format_description};

use super::arguments::ListRecordings;
use crate::{
    output::{self, Table},
    times,
    tsh::context::Context,
};

/// How far back is looked unless something else is said.
const SINCE: Duration = Duration::from_secs(24 * 3600);

/// The service answers with the newest, so those before `--to-utc` may be further back: as many as it gives at once.
const MOST: u32 = 1000;

pub(in crate::tsh) async fn run(context: &Context, arguments: &ListRecordings) -> anyhow::Result<()> {
    let from = match &arguments.from_utc {
        Some(text) => parse(text, Day::Begins)?,
        None => unix_millis(SystemTime::now().checked_sub(SINCE).unwrap_or(SystemTime::UNIX_EPOCH)),
    };
    let to = arguments.to_utc.as_deref().map(|text| parse(text, Day::Ends)).transpose()?;
    let connection = context.connect().await?;
    let limit = if to.is_some() { MOST } else { arguments.limit };
    let request = ListRecordingsRequest { since: from.max(1), limit };
    let answer = UsersClient::new(connection.channel.clone()).list_recordings(request).await?;
    let mut recordings = answer.into_inner().recordings;
    recordings.retain(|recording| to.is_none_or(|to| recording.started <= to));
    recordings.sort_by_key(|recording| std::cmp::Reverse(recording.started));
    recordings.truncate(usize::try_from(arguments.limit).unwrap_or(usize::MAX));
    let shown: Vec<_> = recordings.iter().map(Shown::of).collect();
    output::print(arguments.listing.format, &shown, || table(&recordings))?;
    Ok(())
}

#[derive(Clone, Copy)]
enum Day {
    Begins,
    Ends,
}

/// `2026-01-31`, or `2026-01-31T12:00:00Z`, in Unix milliseconds.
fn parse(text: &str, day: Day) -> anyhow::Result<i64> {
    let date = Date::parse(text, format_description!("[year]-[month]-[day]"));
    let at = match (date, day) {
        (Ok(date), Day::Begins) => date.midnight().assume_utc(),
        (Ok(date), Day::Ends) => {
            date.midnight().assume_utc() + Duration::from_secs(24 * 3600) - Duration::from_millis(1)
        }
        (Err(_), _) => OffsetDateTime::parse(text, &Rfc3339).with_context(|| {
            format!("{text:?} is no day or time such as 2026-01-31 or 2026-01-31T12:00:00Z")
        })?,
    };
    Ok(i64::try_from(at.unix_timestamp_nanos() / 1_000_000)?)
}

#[derive(Serialize)]
struct Shown<'a> {
    session_id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    user: &'a str,
    login: &'a str,
    hostname: &'a str,
    started: String,
    /// Absent while it is not complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    finished: Option<String>,
    bytes: u64,
}

impl<'a> Shown<'a> {
    fn of(recording: &'a Recording) -> Self {
        let at = |millis| times::rfc3339(times::from_millis(millis));
        Self {
            session_id: &recording.session_id,
            kind: "ssh",
            user: &recording.user,
            login: &recording.login,
            hostname: &recording.target_name,
            started: at(recording.started),
            finished: Some(recording.finished).filter(|finished| *finished != 0).map(at),
            bytes: recording.bytes,
        }
    }
}

fn table(recordings: &[Recording]) -> String {
    let mut table = Table::new(["ID", "Type", "Participants", "Hostname", "Timestamp"]);
    for recording in recordings {
        let at = times::rfc1123(times::from_millis(recording.started));
        table.row([&recording.session_id, "ssh", &recording.user, &recording.target_name, &at]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_teleports() {
        let recording = Recording {
            session_id: "6f1c".to_owned(),
            user: "jerry".to_owned(),
            target_name: "prod-1".to_owned(),
            started: 1_674_115_277_000,
            ..Recording::default()
        };
        let expected = "\
ID   Type Participants Hostname Timestamp
---- ---- ------------ -------- -----------------------------
6f1c ssh  jerry        prod-1   Thu, 19 Jan 2023 08:01:17 UTC";
        assert_eq!(table(&[recording]), expected);
    }

    #[test]
    fn a_day_begins_and_ends_in_utc() {
        assert_eq!(parse("2023-01-19", Day::Begins).unwrap(), 1_674_086_400_000);
        assert_eq!(parse("2023-01-19", Day::Ends).unwrap(), 1_674_172_799_999);
        assert_eq!(parse("2023-01-19T08:01:17Z", Day::Begins).unwrap(), 1_674_115_277_000);
        for wrong in ["", "yesterday", "19.1.2023", "2023-13-01"] {
            assert!(parse(wrong, Day::Begins).is_err(), "{wrong}");
        }
    }
}
