//! HOT: events as lines of the trail, on their way to the writer.
//!
//! A sidecar's event is checked but not rebuilt: its fields stay as they were sent, but for those that are authd's word.
//! Everything else in it must be readable as JSON, each value: a line that no tool can read could hide its neighbours.

use std::borrow::Cow;

use auth::clock::parse_rfc3339;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Map, Value, value::RawValue};
use uuid::Uuid;

use super::{MAX_LINE, is_own};

/// The field that says where in a sidecar's spool a line was: `<spool>/<sequence>`.
pub(super) const SPOOL_FIELD: &str = "spool";
/// The field that says which sidecar sent it.
pub(super) const SIDECAR_FIELD: &str = "server_id";
/// The field that says which cluster it is of.
pub(super) const CLUSTER_FIELD: &str = "cluster_name";
const AUTHDS: [&str; 3] = [CLUSTER_FIELD, SIDECAR_FIELD, SPOOL_FIELD];
/// What the events of a session have in common, at most.
const MAX_COMMON: usize = 4 * 1024;
/// What a request's events come to, at most: with what they have in common in each, far more than was sent.
const MAX_TEXT: usize = 4 * 1024 * 1024;

/// A sidecar's spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SpoolId {
    pub(crate) sidecar: Uuid,
    pub(crate) spool: Uuid,
}

/// What the events of a session have in common, as it stands in each of their lines.
#[derive(Debug)]
pub(crate) struct Common {
    names: Vec<String>,
    /// Members, each with a comma behind it.
    text: Vec<u8>,
}

impl Common {
    /// # Errors
    /// It is not an object of at most [`MAX_COMMON`] bytes.
    pub(crate) fn read(json: &[u8]) -> Result<Self, NoEvent> {
        if json.len() > MAX_COMMON {
            return Err(NoEvent::Unreadable);
        }
        let Fields(fields) = serde_json::from_slice(json).map_err(|_| NoEvent::Unreadable)?;
        let mut text = Vec::with_capacity(json.len());
        append_fields(&mut text, &fields).map_err(|_| NoEvent::Unreadable)?;
        Ok(Self { names: fields.into_iter().map(|(name, _)| name.into_owned()).collect(), text })
    }

    fn has(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
    }
}

/// Lines that are written together, or, those that are there already, not again.
#[derive(Debug)]
pub(crate) struct Lines {
    text: Vec<u8>,
    /// Whose they are; `None` for authd's own.
    spool: Option<SpoolId>,
    /// Sequences, strictly increasing, and where in `text` their lines end.
    ends: Vec<(u64, usize)>,
}

/// Why something is not taken as a sidecar's event. Each says which rule of the API is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoEvent {
    #[error("sequences must increase")]
    Sequence,
    #[error("an event is not an object, or too long")]
    Unreadable,
    #[error("an event has no time")]
    NoTime,
    #[error("an event has no name")]
    NoName,
    #[error("an event is not a sidecar's to tell")]
    NotItsOwn,
    #[error("an event says anew what its session says")]
    Twice,
    #[error("too many events at once")]
    TooMany,
}

impl Lines {
    /// For events of authd's own.
    pub(super) fn own() -> Self {
        Self { text: Vec::new(), spool: None, ends: Vec::new() }
    }

    /// Adds an event of authd's own.
    pub(super) fn push_own(&mut self, event: Map<String, Value>) {
        // A map of JSON values always has a text, and line breaks in it are escaped.
        self.text.extend_from_slice(Value::Object(event).to_string().as_bytes());
        self.text.push(b'\n');
    }

    /// For events of this spool.
    pub(crate) fn of(spool: SpoolId) -> Self {
        Self { text: Vec::new(), spool: Some(spool), ends: Vec::new() }
    }

    pub(super) fn spool(&self) -> Option<SpoolId> {
        self.spool
    }

    /// The last sequence in it; 0 when it is empty.
    pub(crate) fn last(&self) -> u64 {
        self.ends.last().map_or(0, |(sequence, _)| *sequence)
    }

    /// What lies behind this sequence.
    pub(super) fn after(&self, sequence: u64) -> &[u8] {
        let there = self.ends.partition_point(|(one, _)| *one <= sequence);
        let start = there.checked_sub(1).and_then(|last| self.ends.get(last)).map_or(0, |(_, end)| *end);
        self.text.get(start..).unwrap_or_default()
    }

    /// Adds what a sidecar says, and what it says in `common` with others. What authd knows better (the cluster, who sends, from
    /// where) is authd's word.
    ///
    /// # Errors
    /// It is not an event that a sidecar may tell. Nothing was added.
    pub(crate) fn push(
        &mut self,
        sequence: u64,
        json: &[u8],
        common: Option<&Common>,
        cluster: &str,
    ) -> Result<(), NoEvent> {
        if sequence <= self.last() {
            return Err(NoEvent::Sequence);
        }
        if json.len() > MAX_LINE {
            return Err(NoEvent::Unreadable);
        }
        let Fields(fields) = serde_json::from_slice(json).map_err(|_| NoEvent::Unreadable)?;
        check(&fields)?;
        // Which of two would count is nothing to leave to a reader.
        if common.is_some_and(|common| fields.iter().any(|(name, _)| common.has(name))) {
            return Err(NoEvent::Twice);
        }
        let common = common.map_or(&[][..], |common| &common.text);
        let start = self.text.len();
        if start + json.len() + common.len() > MAX_TEXT {
            return Err(NoEvent::TooMany);
        }
        if self.render(&fields, common, sequence, cluster).is_err() {
            self.text.truncate(start);
            return Err(NoEvent::Unreadable);
        }
        self.ends.push((sequence, self.text.len()));
        Ok(())
    }

    fn render(
        &mut self,
        fields: &[Field<'_>],
        common: &[u8],
        sequence: u64,
        cluster: &str,
    ) -> serde_json::Result<()> {
        let SpoolId { sidecar, spool } =
            self.spool.unwrap_or(SpoolId { sidecar: Uuid::nil(), spool: Uuid::nil() });
        self.text.push(b'{');
        append_fields(&mut self.text, fields)?;
        self.text.extend_from_slice(common);
        for (name, value) in [(CLUSTER_FIELD, cluster), (SIDECAR_FIELD, &sidecar.to_string())] {
            serde_json::to_writer(&mut self.text, name)?;
            self.text.push(b':');
            serde_json::to_writer(&mut self.text, value)?;
            self.text.push(b',');
        }
        // Neither has a character that JSON escapes.
        self.text.extend_from_slice(format!("\"{SPOOL_FIELD}\":\"{spool}/{sequence}\"}}\n").as_bytes());
        Ok(())
    }
}

/// Appends what is the sidecar's to say, with a comma behind each.
fn append_fields(text: &mut Vec<u8>, fields: &[Field<'_>]) -> serde_json::Result<()> {
    for (name, value) in fields.iter().filter(|(name, _)| !AUTHDS.contains(&&**name)) {
        serde_json::to_writer(&mut *text, name)?;
        text.push(b':');
        if is_plain(value) {
            text.extend_from_slice(value.get().as_bytes());
        } else {
            // Whatever a reader would stumble over, an escape that is half a character or a number out of range, is found
            // here; a line break between two values does not come out again.
            let value: Value = serde_json::from_str(value.get())?;
            serde_json::to_writer(&mut *text, &value)?;
        }
        text.push(b',');
    }
    Ok(())
}

fn check(fields: &[Field<'_>]) -> Result<(), NoEvent> {
    let text = |wanted: &str| {
        let (_, value) = fields.iter().find(|(name, _)| name == wanted)?;
        text(value)
    };
    // Without these, listings would not show it.
    if text("time").and_then(|time| parse_rfc3339(&time)).is_none() {
        return Err(NoEvent::NoTime);
    }
    match text("event").as_deref() {
        None | Some("") => Err(NoEvent::NoName),
        Some(name) if is_own(name) => Err(NoEvent::NotItsOwn),
        Some(_) => Ok(()),
    }
}

/// A text without an escape, which is as readable as the parser has found it to be.
fn is_plain(value: &RawValue) -> bool {
    let text = value.get();
    text.starts_with('"') && !text.contains('\\')
}

fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    if is_plain(value) {
        return value.get().strip_prefix('"')?.strip_suffix('"').map(Cow::Borrowed);
    }
    serde_json::from_str(value.get()).ok().map(Cow::Owned)
}

type Field<'a> = (Cow<'a, str>, &'a RawValue);

/// The fields of an object, in order. Of two with one name the last counts, as everywhere in JSON.
struct Fields<'a>(Vec<Field<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Vec<Field<'de>>;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields: Self::Value = Vec::with_capacity(32);
                while let Some((Name(name), value)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
                    match fields.iter_mut().find(|(known, _)| *known == name) {
                        Some((_, earlier)) => *earlier = value,
                        None => fields.push((name, value)),
                    }
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Object).map(Fields)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SPOOL: SpoolId = SpoolId { sidecar: Uuid::from_u128(1), spool: Uuid::from_u128(2) };
    const HEAD: &str = r#""event":"db.session.query","time":"2030-01-01T00:00:00Z""#;

    /// What becomes of it, read as any tool would.
    fn pushed(json: &[u8]) -> Result<Value, NoEvent> {
        let mut lines = Lines::of(SPOOL);
        lines.push(7, json, None, "main")?;
        let text = std::str::from_utf8(lines.after(0)).unwrap();
        let line = text.strip_suffix('\n').unwrap();
        assert!(!line.contains('\n'), "one line: {line}");
        Ok(serde_json::from_str(line).unwrap())
    }

    #[test]
    fn fields_stay_as_they_are_but_those_that_authd_knows_better() {
        let json = format!(
            r#"{{{HEAD},"server_id":"forged","spool":"x/9","cluster_name":"forged","q":"a \"b\"\n\u00fc","n":-1.5e3,"l":[1,{{"a":null}}]}}"#
        );
        let event = pushed(json.as_bytes()).unwrap();
        assert_eq!(
            event,
            json!({
                "event": "db.session.query", "time": "2030-01-01T00:00:00Z", "q": "a \"b\"\nü", "n": -1500.0,
                "l": [1, {"a": null}], "cluster_name": "main", "server_id": SPOOL.sidecar,
                "spool": format!("{}/7", SPOOL.spool),
            })
        );
    }

    #[test]
    fn authd_s_word_stands_alone_however_its_name_is_written() {
        let json = format!(
            r#"{{{HEAD},"server\u005fid":"forged","server_id":"forged","user":"a","us\u0065r":"b"}}"#
        );
        let mut lines = Lines::of(SPOOL);
        lines.push(1, json.as_bytes(), None, "main").unwrap();
        let text = std::str::from_utf8(lines.after(0)).unwrap();
        assert_eq!((text.matches("server").count(), text.matches("forged").count()), (1, 0), "{text}");
        assert_eq!((text.matches("user").count(), text.contains(r#""user":"b""#)), (1, true), "{text}");
    }

    #[test]
    fn a_line_break_between_values_does_not_make_two_lines() {
        let event = pushed(format!("{{\n{HEAD},\r\n\"l\":[1,\n2]\n}}").as_bytes()).unwrap();
        assert_eq!(event["l"], json!([1, 2]));
    }

    #[test]
    fn what_no_reader_could_read_is_refused() {
        let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
        for value in [r#""\ud800""#, "1e999", &deep, "tru", r#""a"#, "01", "\"\u{1}\"", ""] {
            let json = format!(r#"{{{HEAD},"v":{value}}}"#);
            assert_eq!(pushed(json.as_bytes()), Err(NoEvent::Unreadable), "{value}");
        }
        for whole in [&b"[]"[..], b"", b"{}x", b"{\"event\":\"\xff\"}", b"\"text\""] {
            assert_eq!(pushed(whole), Err(NoEvent::Unreadable), "{}", whole.escape_ascii());
        }
        let long = format!(r#"{{{HEAD},"v":"{}"}}"#, "x".repeat(MAX_LINE));
        assert_eq!(pushed(long.as_bytes()), Err(NoEvent::Unreadable));
    }

    #[test]
    fn an_event_has_a_name_and_a_time_and_is_a_sidecar_s_to_tell() {
        let event =
            |event: &str, time: &str| pushed(json!({"event": event, "time": time}).to_string().as_bytes());
        let time = "2030-01-01T00:00:00Z";
        assert!(event("db.\"quoted\"", time).is_ok());
        assert_eq!(event("", time), Err(NoEvent::NoName));
        assert_eq!(event("x", "yesterday"), Err(NoEvent::NoTime));
        assert_eq!(pushed(br#"{"event":"x"}"#), Err(NoEvent::NoTime));
        assert_eq!(pushed(br#"{"event":1,"time":"2030-01-01T00:00:00Z"}"#), Err(NoEvent::NoName));
        for own in ["user.login", "cert.create", "lock.created"] {
            assert_eq!(event(own, time), Err(NoEvent::NotItsOwn), "{own}");
        }
        // However it is written, and whichever of two counts.
        let escaped = r#"{"event":"us\u0065r.login","time":"2030-01-01T00:00:00Z"}"#;
        assert_eq!(pushed(escaped.as_bytes()), Err(NoEvent::NotItsOwn));
        let twice = format!(r#"{{{HEAD},"ev\u0065nt":"user.login"}}"#);
        assert_eq!(pushed(twice.as_bytes()), Err(NoEvent::NotItsOwn));
    }

    /// What becomes of an event in two parts, read as any tool would.
    fn pushed_in_parts(own: &str, common: &str) -> Result<Value, NoEvent> {
        let mut lines = Lines::of(SPOOL);
        lines.push(7, own.as_bytes(), Some(&Common::read(common.as_bytes())?), "main")?;
        Ok(serde_json::from_slice(lines.after(0)).unwrap())
    }

    #[test]
    fn an_event_in_two_parts_is_as_in_one() {
        let own = format!(r#"{{{HEAD},"sid":"s","n":1}}"#);
        let common = r#"{"user":"alice","with_mfa":{"name":"ke\u0079"},"server_id":"forged","cluster_name":"x","spool":"x/9"}"#;
        let whole = format!(r#"{{{HEAD},"sid":"s","n":1,"user":"alice","with_mfa":{{"name":"key"}}}}"#);
        assert_eq!(pushed_in_parts(&own, common), pushed(whole.as_bytes()));
        assert_eq!(pushed_in_parts(&own, "{}"), pushed(own.as_bytes()));
    }

    #[test]
    fn the_two_parts_of_an_event_do_not_contradict_each_other() {
        let own = format!(r#"{{{HEAD},"user":"alice"}}"#);
        for common in [r#"{"user":"bob"}"#, r#"{"us\u0065r":"bob"}"#, r#"{"time":"2031-01-01T00:00:00Z"}"#] {
            assert_eq!(pushed_in_parts(&own, common), Err(NoEvent::Twice), "{common}");
        }
        // What an event must say it says itself: so it cannot get a name of authd's from elsewhere.
        let nameless = r#"{"time":"2030-01-01T00:00:00Z"}"#;
        assert_eq!(pushed_in_parts(nameless, r#"{"event":"user.login"}"#), Err(NoEvent::NoName));
        for unreadable in
            ["[]", "", r#"{"v":1e999}"#, "{}x", &format!(r#"{{"v":"{}"}}"#, "x".repeat(MAX_COMMON))]
        {
            assert_eq!(pushed_in_parts(&own, unreadable), Err(NoEvent::Unreadable), "{unreadable}");
        }
    }

    #[test]
    fn few_bytes_do_not_become_very_many() {
        let common = Common::read(format!(r#"{{"v":"{}"}}"#, "x".repeat(4_000)).as_bytes()).unwrap();
        let (mut lines, own) = (Lines::of(SPOOL), format!("{{{HEAD}}}"));
        let refused =
            (1..).find_map(|sequence| lines.push(sequence, own.as_bytes(), Some(&common), "main").err());
        assert_eq!(refused, Some(NoEvent::TooMany));
        let text = lines.after(0).len();
        assert!((MAX_TEXT / 2..=MAX_TEXT + 256).contains(&text), "{text}");
    }

    #[test]
    fn one_that_is_refused_adds_nothing_and_sequences_increase() {
        let mut lines = Lines::of(SPOOL);
        let good = format!("{{{HEAD}}}");
        lines.push(3, good.as_bytes(), None, "main").unwrap();
        let before = lines.after(0).to_vec();
        for (sequence, json) in
            [(3, good.as_str()), (2, &good), (4, "{}"), (4, &format!(r#"{{{HEAD},"v":1e999}}"#))]
        {
            assert!(lines.push(sequence, json.as_bytes(), None, "main").is_err());
            assert_eq!((lines.after(0), lines.last()), (&before[..], 3));
        }
        lines.push(9, good.as_bytes(), None, "main").unwrap();
        assert!(lines.after(3).starts_with(b"{") && lines.after(3).ends_with(b"/9\"}\n"));
        assert_eq!(lines.after(8), lines.after(3));
        assert!(lines.after(9).is_empty());
    }
}
