//! How long something lasts, as people write it: `30m`, `1h30m`, `2190h`.

use std::time::{Duration, SystemTime};

/// Why a text is no length of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a length of time such as 30m, 1h30m or 2190h")]
pub(crate) struct TtlError {
    text: String,
}

/// Reads hours, minutes and seconds in this order; each at most once, at least one, the whole longer than nothing.
pub(crate) fn parse(text: &str) -> Result<Duration, TtlError> {
    let error = || TtlError { text: text.to_owned() };
    let mut rest = text;
    let mut seconds = 0_u64;
    for (unit, length) in [('h', 3600), ('m', 60), ('s', 1)] {
        let Some((count, after)) = rest.split_once(unit) else { continue };
        if count.is_empty() || !count.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(error());
        }
        let count: u64 = count.parse().map_err(|_| error())?;
        seconds = count.checked_mul(length).and_then(|part| seconds.checked_add(part)).ok_or_else(error)?;
        rest = after;
    }
    // The API counts in 32 bits; no lock and no certificate lasts that long.
    if !rest.is_empty() || seconds == 0 || seconds > u64::from(u32::MAX) {
        return Err(error());
    }
    Ok(Duration::from_secs(seconds))
}

/// As the API takes it: whole seconds, 0 where nothing was asked for.
pub(crate) fn seconds(ttl: Option<Duration>) -> u32 {
    ttl.map_or(0, |ttl| u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX))
}

/// `1h`, `30m`, `1h30m`, `45s`: the time that is left until `expires`, to the nearest minute where there is one.
pub(crate) fn left(expires: SystemTime, now: SystemTime) -> String {
    let seconds = expires.duration_since(now).unwrap_or_default().as_secs();
    if seconds < 60 {
        return format!("{seconds}s");
    }
    let minutes = (seconds + 30) / 60;
    match (minutes / 60, minutes % 60) {
        (0, minutes) => format!("{minutes}m"),
        (hours, 0) => format!("{hours}h"),
        (hours, minutes) => format!("{hours}h{minutes}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_read_as_written() {
        assert_eq!(parse("30m"), Ok(Duration::from_secs(1800)));
        assert_eq!(parse("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse("2190h"), Ok(Duration::from_secs(7_884_000)));
        assert_eq!(parse("90s"), Ok(Duration::from_secs(90)));
    }

    #[test]
    fn what_is_no_length_of_time_is_refused() {
        for text in
            ["", "h", "10", "1m1h", "-1h", "+1h", "1.5h", "0s", "1h 5m", "99999999999999999999h", "1193047h"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_left_is_told_to_the_minute() {
        let now = SystemTime::UNIX_EPOCH;
        assert_eq!(left(now + Duration::from_millis(3_599_900), now), "1h");
        assert_eq!(left(now + Duration::from_secs(1800), now), "30m");
        assert_eq!(left(now + Duration::from_secs(45), now), "45s");
        assert_eq!(left(now + Duration::from_secs(5400), now), "1h30m");
    }
}
