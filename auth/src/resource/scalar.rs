//! Texts that mean a truth value, a length of time or a point in time.

use std::time::{Duration, SystemTime};

use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

/// A truth value as YAML 1.1 and Teleport's files write it.
pub(super) fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "y" => Some(true),
        "false" | "no" | "off" | "n" => Some(false),
        _ => None,
    }
}

/// A duration as Go writes it (`1h30m0s`, `1.5h`, `500ms`). Inner `None`: `never`, or zero, which means the same.
/// Outer `None`: not a duration, negative, or longer than a century.
pub(super) fn read_duration(text: &str) -> Option<Option<Duration>> {
    if matches!(text, "never" | "0") {
        return Some(None);
    }
    let mut rest = text;
    let mut total = 0.0_f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at_checked(digits)?;
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(unit_end)?;
        total += number.parse::<f64>().ok()? * seconds(unit)?;
        rest = tail;
    }
    const CENTURY: f64 = 100.0 * 366.0 * 86_400.0;
    if text.is_empty() || !(0.0..=CENTURY).contains(&total) {
        return None;
    }
    if total == 0.0 {
        return Some(None);
    }
    // Digits beyond the millisecond are noise of the decimal fraction. What is shorter than one must not become zero,
    // which would mean never.
    let duration = Duration::try_from_secs_f64((total * 1000.0).round() / 1000.0).ok()?;
    (!duration.is_zero()).then_some(Some(duration))
}

fn seconds(unit: &str) -> Option<f64> {
    Some(match unit {
        "h" => 3600.0,
        "m" => 60.0,
        "s" => 1.0,
        "ms" => 0.001,
        _ => return None,
    })
}

/// A duration as Go writes it; `None` is `never`.
pub(super) fn write_duration(duration: Option<Duration>) -> String {
    let Some(duration) = duration else {
        return "never".to_owned();
    };
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds % 3600 / 60, seconds % 60);
    let millis = duration.subsec_millis();
    let fraction = if millis == 0 { String::new() } else { format!(".{millis:03}") };
    match (hours, minutes) {
        (0, 0) => format!("{seconds}{fraction}s"),
        (0, _) => format!("{minutes}m{seconds}{fraction}s"),
        _ => format!("{hours}h{minutes}m{seconds}{fraction}s"),
    }
}

/// RFC 3339, any offset. What is in another year than 0 to 9999 in UTC could not be written again, nor worked with.
pub(super) fn read_time(text: &str) -> Option<SystemTime> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?.checked_to_offset(UtcOffset::UTC)?;
    (0..=9999).contains(&time.year()).then(|| time.into())
}

/// RFC 3339 in UTC.
pub(super) fn write_time(time: SystemTime) -> String {
    let time = OffsetDateTime::from(time).to_offset(UtcOffset::UTC);
    // A year beyond 9999 has no RFC 3339 form and cannot have been read from one.
    time.format(&Rfc3339).unwrap_or_else(|_| "9999-12-31T23:59:59Z".to_owned())
}
