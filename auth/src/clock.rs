//! The time by which everything is judged: a parameter, so that tests can hold it still.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Tells the time. Cheap to clone; clones of a fixed clock show the same time.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Fixed(Arc<Mutex<SystemTime>>),
}

/// Sets the time of a fixed [`Clock`].
#[derive(Clone, Debug)]
pub struct ClockHandle(Arc<Mutex<SystemTime>>);

impl Clock {
    /// The clock of the operating system.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still until its handle moves it: for tests.
    #[must_use]
    pub fn fixed(at: SystemTime) -> (Self, ClockHandle) {
        let time = Arc::new(Mutex::new(at));
        (Self(Source::Fixed(Arc::clone(&time))), ClockHandle(time))
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        match &self.0 {
            Source::System => SystemTime::now(),
            Source::Fixed(time) => *time.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }
}

impl ClockHandle {
    /// Moves the clock to a moment.
    pub fn set(&self, at: SystemTime) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) += by;
    }
}

/// The text form of a moment in certificates and audit: RFC 3339 in UTC, to the second.
#[must_use]
pub fn rfc3339(at: SystemTime) -> String {
    // A system's time reaches further than RFC 3339, and than the library's, whose conversion panics there. Evidence may hold
    // any number: what is out of range becomes the nearest moment that has a form.
    let (seconds, nearest) = match at.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => (i64::try_from(since.as_secs()).ok(), "9999-12-31T23:59:59Z"),
        Err(before) => {
            let before = before.duration();
            let whole = before.as_secs() + u64::from(before.subsec_nanos() > 0);
            (i64::try_from(whole).ok().map(|seconds| -seconds), "0000-01-01T00:00:00Z")
        }
    };
    let at = seconds.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    at.and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_else(|| nearest.to_owned())
}

/// Reads the form of [`rfc3339`], with any offset.
#[must_use]
pub fn parse_rfc3339(text: &str) -> Option<SystemTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok().map(SystemTime::from)
}

/// A moment given as Unix milliseconds, as the API carries it. `None` for what no clock shows (before 1970, or further
/// ahead than [`SystemTime`] reaches).
#[must_use]
pub fn from_unix_millis(millis: i64) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(u64::try_from(millis).ok()?))
}

/// The form that the API carries: Unix milliseconds; 0 for moments before 1970.
#[must_use]
pub fn unix_millis(at: SystemTime) -> i64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_clock_moves_only_by_its_handle() {
        let (clock, handle) = Clock::fixed(SystemTime::UNIX_EPOCH);
        handle.advance(Duration::from_secs(5));
        assert_eq!(clock.now(), SystemTime::UNIX_EPOCH + Duration::from_secs(5));
    }

    #[test]
    fn rfc3339_round_trips_to_the_second() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        assert_eq!(rfc3339(at), "2023-11-14T22:13:20Z");
        assert_eq!(
            parse_rfc3339(&rfc3339(at)),
            Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000))
        );
    }

    #[test]
    fn moments_without_an_rfc3339_form_are_written_as_the_nearest_and_never_panic() {
        let epoch = SystemTime::UNIX_EPOCH;
        for seconds in [253_402_300_800, 1 << 40, i64::MAX.unsigned_abs() / 1_000] {
            assert_eq!(rfc3339(epoch + Duration::from_secs(seconds)), "9999-12-31T23:59:59Z", "{seconds}");
        }
        assert_eq!(rfc3339(from_unix_millis(i64::MAX).unwrap()), "9999-12-31T23:59:59Z");
        assert_eq!(rfc3339(epoch - Duration::from_secs(1 << 40)), "0000-01-01T00:00:00Z");
        assert_eq!(rfc3339(epoch - Duration::from_millis(1)), "1969-12-31T23:59:59Z");
    }

    #[test]
    fn times_before_1970_are_not_unix_milliseconds() {
        assert_eq!(from_unix_millis(-1), None);
        assert_eq!(from_unix_millis(1_000), Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1)));
    }
}
