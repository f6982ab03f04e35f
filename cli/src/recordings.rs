//! Recorded sessions as `tsh recordings ls` and `tctl recordings ls` ask for them and list them.

use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use auth::{
    clock::unix_millis,
    proto::{ListRecordingsRequest, Recording},
};
use clap::Args;
use serde::Serialize;
use time::{Date, OffsetDateTime, format_description::well_known::Rfc3339, macros::format_description};

use crate::{
    output::{self, Format, Table},
    times, ttl,
};

/// How far back is looked unless something else is said.
const SINCE: Duration = Duration::from_secs(24 * 3600);

/// Which recorded sessions, and how to list them.
#[derive(Debug, Args)]
pub(crate) struct ListRecordings {
    /// Only sessions from this day or time on, UTC: 2026-01-31 or 2026-01-31T12:00:00Z [default: 24 hours ago]
    #[arg(long, value_name = "TIME")]
    from_utc: Option<String>,
    /// Only sessions until this day or time, UTC
    #[arg(long, value_name = "TIME")]
    to_utc: Option<String>,
    /// Only sessions of the last so many hours, minutes and seconds: 5h30m40s
    #[arg(long, value_name = "DURATION", value_parser = ttl::parse, conflicts_with_all = ["from_utc", "to_utc"])]
    last: Option<Duration>,
    /// At most this many, the newest
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    format: Format,
}

impl ListRecordings {
    /// What is asked of the service.
    pub(crate) fn request(&self, now: SystemTime) -> anyhow::Result<ListRecordingsRequest> {
        let ago = |duration| unix_millis(now.checked_sub(duration).unwrap_or(SystemTime::UNIX_EPOCH));
        let since = match &self.from_utc {
            Some(text) => parse(text, Day::Begins)?,
            None => ago(self.last.unwrap_or(SINCE)),
        };
        let until = self.to_utc.as_deref().map(|text| parse(text, Day::Ends)).transpose()?;
        let limit = self.limit;
        Ok(ListRecordingsRequest { since: since.max(1), limit, until: until.map_or(0, |until| until.max(1)) })
    }

    /// Lists what the service answered.
    pub(crate) fn print(&self, mut recordings: Vec<Recording>) -> anyhow::Result<()> {
        recordings.sort_by_key(|recording| std::cmp::Reverse(recording.started));
        let shown: Vec<_> = recordings.iter().map(Shown::of).collect();
        Ok(output::print(self.format, &shown, || table(&recordings))?)
    }
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

    fn asked(line: &str) -> anyhow::Result<ListRecordingsRequest> {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            list: ListRecordings,
        }
        let words = std::iter::once("ls").chain(line.split_whitespace());
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_674_115_277);
        <Line as clap::Parser>::try_parse_from(words)?.list.request(now)
    }

    #[test]
    fn the_last_day_is_asked_for_or_whatever_is_said() {
        let request = |since, until, limit| ListRecordingsRequest { since, limit, until };
        assert_eq!(asked("").unwrap(), request(1_674_028_877_000, 0, 50));
        assert_eq!(asked("--last=1h30m --limit=3").unwrap(), request(1_674_109_877_000, 0, 3));
        let day = request(1_674_086_400_000, 1_674_172_799_999, 50);
        assert_eq!(asked("--from-utc=2023-01-19 --to-utc=2023-01-19").unwrap(), day);
        for wrong in ["--last=1h --from-utc=2023-01-19", "--last=yesterday", "--limit=0", "--limit=1001"] {
            assert!(asked(wrong).is_err(), "{wrong}");
        }
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
