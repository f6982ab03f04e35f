//! Times as people read them. Always UTC: the offset of the place is not known safely in a program with threads.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use auth::clock::from_unix_millis;
pub use auth::clock::rfc3339;
use time::{OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};

const RFC1123: &[BorrowedFormatItem<'_>] =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] UTC");
const STATUS: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day] [hour]:[minute]:[second] +0000 UTC");

/// The time behind Unix milliseconds, as the API carries it; the beginning of 1970 for what no clock shows.
#[must_use]
pub fn from_millis(millis: i64) -> SystemTime {
    from_unix_millis(millis).unwrap_or(UNIX_EPOCH)
}

/// `Thu, 19 Jan 2023 08:01:17 UTC`
#[must_use]
pub fn rfc1123(at: SystemTime) -> String {
    formatted(at, RFC1123)
}

/// `2023-06-23 20:30:43 +0000 UTC`
#[must_use]
pub fn status(at: SystemTime) -> String {
    formatted(at, STATUS)
}

fn formatted(at: SystemTime, format: &[BorrowedFormatItem<'_>]) -> String {
    let seconds = at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let at =
        i64::try_from(seconds).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    at.unwrap_or(OffsetDateTime::UNIX_EPOCH).format(format).unwrap_or_default()
}

/// `12h0m0s`, `5m30s`, `7s`: whole seconds as Go prints a duration.
#[must_use]
pub fn duration(length: Duration) -> String {
    let seconds = length.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_teleport_prints_them() {
        let at = from_millis(1_674_115_277_999);
        assert_eq!(rfc1123(at), "Thu, 19 Jan 2023 08:01:17 UTC");
        assert_eq!(status(at), "2023-01-19 08:01:17 +0000 UTC");
        assert_eq!(rfc3339(at), "2023-01-19T08:01:17Z");
    }

    #[test]
    fn absurd_times_do_not_panic() {
        for millis in [i64::MIN, -1, 0, i64::MAX] {
            let _ = rfc1123(from_millis(millis));
        }
    }

    #[test]
    fn durations_read_as_go_prints_them() {
        assert_eq!(duration(Duration::from_secs(12 * 3600)), "12h0m0s");
        assert_eq!(duration(Duration::from_secs(330)), "5m30s");
        assert_eq!(duration(Duration::from_millis(7900)), "7s");
    }
}
