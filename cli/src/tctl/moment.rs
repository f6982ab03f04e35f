//! Moments, as people write them: `2026-01-31`, `2026-01-31T12:00:00Z`, and `24h` for so long ago.

use std::time::SystemTime;

use auth::clock::parse_rfc3339;

use super::ttl;

/// Why a text is no moment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum MomentError {
    /// Neither a day nor a time.
    #[error("{0:?} is no day or time such as 2026-01-31 or 2026-01-31T12:00:00Z")]
    Moment(String),
    /// Nor so long ago.
    #[error("{0:?} is neither a length of time such as 24h nor a date such as 2026-01-31")]
    Since(String),
}

/// A time, or the beginning of a day, UTC.
pub(super) fn parse(text: &str) -> Result<SystemTime, MomentError> {
    let day = || parse_rfc3339(&format!("{text}T00:00:00Z"));
    parse_rfc3339(text).or_else(day).ok_or_else(|| MomentError::Moment(text.to_owned()))
}

/// The same, or so long ago.
pub(super) fn since(text: &str) -> Result<SystemTime, MomentError> {
    let ago = ttl::parse(text).ok().and_then(|ago| SystemTime::now().checked_sub(ago));
    ago.map_or_else(|| parse(text).map_err(|_| MomentError::Since(text.to_owned())), Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_is_a_length_of_time_a_date_or_a_moment() {
        let moment = parse_rfc3339("2026-01-31T00:00:00Z").unwrap();
        assert_eq!(since("2026-01-31").unwrap(), moment);
        assert_eq!(since("2026-01-31T01:00:00+01:00").unwrap(), moment);
        assert!(since("24h").unwrap() < SystemTime::now());
        for wrong in ["", "yesterday", "2026-02-31", "24"] {
            assert!(since(wrong).is_err(), "{wrong}");
        }
        assert!(parse("24h").is_err());
    }
}
