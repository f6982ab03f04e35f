//! HOT: the values of a prepared statement, and the attributes of a query, in MySQL's binary format ("Binary
//! Protocol Value"): found where they lie, and decoded when somebody asks.
//!
//! A type that is not known, or a value that is not all there, ends the decoding: what is behind it cannot be
//! told. That harms no statement, since the upstream decodes for itself. Nor is anything told of types that servers
//! do not measure alike ([`value`]): on record would be another value than the one that counted.

use crate::reader::{Reader, Short};

/// Of the byte behind a type's number (`UNSIGNED_FLAG` of MariaDB's documentation); its other bits are zero.
const UNSIGNED: u8 = 0x80;

/// Values as sent, with their types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Values<'a> {
    layout: Layout<'a>,
    bound: Bound<'a>,
    data: &'a [u8],
    cut: u64,
}

/// Where the values lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout<'a> {
    /// What statement it is, or of what types its parameters are, is not known here.
    Unknown,
    /// One row: a bit for each NULL, and no value either for parameters whose value was sent in parts.
    Row { nulls: &'a [u8], in_parts: &'a [u16] },
    /// Rows: an indicator in front of each value.
    Bulk,
}

/// Parameters and their types: two bytes each, and behind them, if `named`, a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bound<'a> {
    pub(crate) count: u16,
    pub(crate) types: &'a [u8],
    pub(crate) named: bool,
}

/// One value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// NULL.
    Null,
    /// A whole number.
    Int(i64),
    /// A whole number of an unsigned type.
    Unsigned(u64),
    /// A number of single precision.
    Float(f32),
    /// A number of double precision.
    Double(f64),
    /// Characters, decimals, JSON: in the client's encoding.
    Text {
        /// The bytes.
        bytes: &'a [u8],
        /// Bytes that are not shown.
        cut: u64,
    },
    /// Of a type for bytes: they may be characters all the same.
    Bytes {
        /// The bytes.
        bytes: &'a [u8],
        /// Bytes that are not shown.
        cut: u64,
    },
    /// A date, or a date with a time of day.
    Date {
        /// The year.
        year: u16,
        /// The month, from 1; 0 in MySQL's zero dates.
        month: u8,
        /// The day, from 1; 0 in MySQL's zero dates.
        day: u8,
        /// Hour, minute, second, microsecond; `None` in a mere date.
        time: Option<(u8, u8, u8, u32)>,
    },
    /// A time span.
    Time {
        /// It is below zero.
        negative: bool,
        /// Days.
        days: u32,
        /// Hour, minute, second, microsecond.
        time: (u8, u8, u8, u32),
    },
    /// Sent before, in parts ([`super::MysqlEvent::LongData`]).
    InParts,
    /// The column's default (MariaDB bulk).
    Default,
    /// The column stays as it is (MariaDB bulk).
    Ignored,
}

impl<'a> Values<'a> {
    pub(crate) fn new(layout: Layout<'a>, bound: Bound<'a>, data: &'a [u8], cut: u64) -> Self {
        Self { layout, bound, data, cut }
    }

    /// Of a statement that is not known.
    pub(crate) fn unknown() -> Self {
        Self::new(Layout::Unknown, Bound::NONE, &[], 0)
    }

    /// How many values the statement takes; of a bulk, in each row. `None` when that is not known.
    #[must_use]
    pub fn count(&self) -> Option<u16> {
        (self.layout != Layout::Unknown).then_some(self.bound.count)
    }

    /// True when there are rows of values.
    #[must_use]
    pub fn is_bulk(&self) -> bool {
        self.layout == Layout::Bulk
    }

    /// Bytes of the command that are not shown, at least.
    #[must_use]
    pub fn cut(&self) -> u64 {
        self.cut
    }

    /// The values, in order, as far as they can be told. The last one of a cut command may be shown in part.
    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let Self { layout, bound, data, cut } = *self;
        let (mut reader, mut types, mut index) = (Reader::new(data), Reader::new(bound.types), 0);
        std::iter::from_fn(move || {
            if index == bound.count {
                if layout != Layout::Bulk || reader.rest().is_empty() || bound.count == 0 {
                    return None;
                }
                (types, index) = (Reader::new(bound.types), 0);
            }
            let kind = bound.next(&mut types).ok()?;
            let place = index;
            index += 1;
            match layout {
                Layout::Unknown => None,
                Layout::Row { nulls, in_parts } => {
                    if in_parts.contains(&place) {
                        return Some(Value::InParts);
                    }
                    if is_null(nulls, place) {
                        return Some(Value::Null);
                    }
                    value(&mut reader, kind, cut).ok()
                }
                Layout::Bulk => match reader.u8().ok()? {
                    0 => value(&mut reader, kind, cut).ok(),
                    1 => Some(Value::Null),
                    2 => Some(Value::Default),
                    3 => Some(Value::Ignored),
                    _ => None,
                },
            }
        })
    }
}

impl<'a> Bound<'a> {
    /// No parameters.
    pub(crate) const NONE: Bound<'static> = Bound { count: 0, types: &[], named: false };

    /// So many types from the front of `reader`.
    pub(crate) fn read(reader: &mut Reader<'a>, count: u16, named: bool) -> Result<Self, Short> {
        let all = reader.rest();
        let mut bound = Self { count, types: all, named };
        for _ in 0..count {
            bound.next(reader)?;
        }
        bound.types = all.get(..all.len() - reader.rest().len()).ok_or(Short)?;
        Ok(bound)
    }

    /// The type at the front: its number, and whether it is unsigned.
    fn next(&self, reader: &mut Reader<'a>) -> Result<(u8, bool), Short> {
        let (kind, flags) = (reader.u8()?, reader.u8()?);
        if self.named {
            let length = reader.lenenc()?;
            reader.take(usize::try_from(length).map_err(|_| Short)?)?;
        }
        match flags {
            0 => Ok((kind, false)),
            UNSIGNED => Ok((kind, true)),
            // To MySQL these bits are part of the type's number: it would be another type there.
            _ => Err(Short),
        }
    }
}

/// Steps over the attributes in front of a query's text (`CLIENT_QUERY_ATTRIBUTES`). Where the text begins
/// depends on every one of them, so all of them must be understood, and just as the database understands them: text that
/// it takes for text, and we for an attribute, would be run and be on no record.
pub(crate) fn attributes<'a>(reader: &mut Reader<'a>) -> Result<Values<'a>, Short> {
    let count = u16::try_from(reader.lenenc()?).map_err(|_| Short)?;
    // Sets of them: one, always.
    if reader.lenenc()? != 1 {
        return Err(Short);
    }
    if count == 0 {
        return Ok(Values::unknown());
    }
    let nulls = reader.take(usize::from(count).div_ceil(8))?;
    // "New parameters bound": always.
    if reader.u8()? != 1 {
        return Err(Short);
    }
    let bound = Bound::read(reader, count, true)?;
    let data = reader.rest();
    let mut types = Reader::new(bound.types);
    for place in 0..count {
        let kind = bound.next(&mut types)?;
        if !is_null(nulls, place) {
            value(reader, kind, 0)?;
        }
    }
    let data = data.get(..data.len() - reader.rest().len()).ok_or(Short)?;
    Ok(Values::new(Layout::Row { nulls, in_parts: &[] }, bound, data, 0))
}

fn is_null(nulls: &[u8], place: u16) -> bool {
    nulls.get(usize::from(place / 8)).is_some_and(|byte| byte >> (place % 8) & 1 == 1)
}

/// One value. With `cut` > 0, the last one may be there in part.
///
/// INT24 (0x09), YEAR (0x0D) and a NULL (0x06) that no bit announces are refused: by the documentation they are four, two and no
/// bytes, which is how MariaDB reads them, and a string with its length to MySQL (`get_ps_param_len`). No client sends them.
fn value<'a>(reader: &mut Reader<'a>, (kind, unsigned): (u8, bool), cut: u64) -> Result<Value<'a>, Short> {
    let whole = |signed: i64, bits: u32| {
        // The bits of the type alone: the sign is not carried up.
        let all = signed.cast_unsigned();
        if unsigned { Value::Unsigned(all & (u64::MAX >> (64 - bits))) } else { Value::Int(signed) }
    };
    Ok(match kind {
        // TINY, SHORT, LONG, LONGLONG
        0x01 => whole(i64::from(reader.u8()?.cast_signed()), 8),
        0x02 => whole(i64::from(reader.u16_le()?.cast_signed()), 16),
        0x03 => whole(i64::from(reader.u32_le()?.cast_signed()), 32),
        0x08 => whole(u64_le(reader)?.cast_signed(), 64),
        0x04 => Value::Float(f32::from_bits(reader.u32_le()?)),
        0x05 => Value::Double(f64::from_bits(u64_le(reader)?)),
        // TIMESTAMP, DATE, DATETIME; TIME
        0x07 | 0x0A | 0x0C => date(reader)?,
        0x0B => time(reader)?,
        // DECIMAL, VARCHAR, JSON, NEWDECIMAL, ENUM, SET, VAR_STRING, STRING
        0x00 | 0x0F | 0xF5..=0xF8 | 0xFD | 0xFE => {
            let (bytes, cut) = string(reader, cut)?;
            Value::Text { bytes, cut }
        }
        // BIT, VECTOR, the BLOBs, GEOMETRY
        0x10 | 0xF2 | 0xF9..=0xFC | 0xFF => {
            let (bytes, cut) = string(reader, cut)?;
            Value::Bytes { bytes, cut }
        }
        _ => return Err(Short),
    })
}

fn u64_le(reader: &mut Reader<'_>) -> Result<u64, Short> {
    let low = u64::from(reader.u32_le()?);
    Ok(u64::from(reader.u32_le()?) << 32 | low)
}

fn string<'a>(reader: &mut Reader<'a>, cut: u64) -> Result<(&'a [u8], u64), Short> {
    let length = reader.lenenc()?;
    let shown = reader.rest().len() as u64;
    if length > shown && cut == 0 {
        return Err(Short);
    }
    let bytes = reader.take(usize::try_from(length.min(shown)).map_err(|_| Short)?)?;
    Ok((bytes, length.saturating_sub(shown)))
}

/// 0, 4, 7 or 11 bytes.
fn date<'a>(reader: &mut Reader<'a>) -> Result<Value<'a>, Short> {
    let length = reader.u8()?;
    let (mut year, mut month, mut day) = (0, 0, 0);
    if length >= 4 {
        (year, month, day) = (reader.u16_le()?, reader.u8()?, reader.u8()?);
    }
    let mut clock = None;
    if length >= 7 {
        let (hour, minute, second) = (reader.u8()?, reader.u8()?, reader.u8()?);
        let micro = if length == 11 { reader.u32_le()? } else { 0 };
        clock = Some((hour, minute, second, micro));
    }
    matches!(length, 0 | 4 | 7 | 11).then_some(Value::Date { year, month, day, time: clock }).ok_or(Short)
}

/// 0, 8 or 12 bytes.
fn time<'a>(reader: &mut Reader<'a>) -> Result<Value<'a>, Short> {
    let length = reader.u8()?;
    let (mut negative, mut days, mut clock) = (false, 0, (0, 0, 0, 0));
    if length >= 8 {
        (negative, days) = (reader.u8()? != 0, reader.u32_le()?);
        let (hour, minute, second) = (reader.u8()?, reader.u8()?, reader.u8()?);
        let micro = if length == 12 { reader.u32_le()? } else { 0 };
        clock = (hour, minute, second, micro);
    }
    matches!(length, 0 | 8 | 12).then_some(Value::Time { negative, days, time: clock }).ok_or(Short)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Types, then data, of one row.
    fn row<'a>(kinds: &'a [u8], nulls: &'a [u8], data: &'a [u8], cut: u64) -> Values<'a> {
        let bound = Bound { count: u16::try_from(kinds.len() / 2).unwrap(), types: kinds, named: false };
        Values::new(Layout::Row { nulls, in_parts: &[] }, bound, data, cut)
    }

    #[test]
    fn every_kind_of_value_is_decoded() {
        let types =
            [1, 0, 1, 0x80, 2, 0, 3, 0x80, 8, 0, 4, 0, 5, 0, 6, 0, 0xFD, 0, 0xFC, 0, 10, 0, 12, 0, 11, 0];
        // The eighth is NULL.
        let nulls = [0x80, 0];
        let mut data = vec![0xFF, 0xFF, 0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF];
        data.extend((-2_i64).to_le_bytes());
        data.extend(1.5_f32.to_le_bytes());
        data.extend(2.5_f64.to_le_bytes());
        data.extend(b"\x02ab\x01\xff");
        data.extend([4, 0xEA, 0x07, 11, 23]);
        data.extend([11, 0xEA, 0x07, 11, 23, 14, 5, 6, 1, 0, 0, 0]);
        data.extend([8, 1, 2, 0, 0, 0, 3, 4, 5]);
        let values: Vec<_> = row(&types, &nulls, &data, 0).iter().collect();
        let date = |time| Value::Date { year: 2026, month: 11, day: 23, time };
        assert_eq!(
            values,
            [
                Value::Int(-1),
                Value::Unsigned(255),
                Value::Int(-2),
                Value::Unsigned(u64::from(u32::MAX)),
                Value::Int(-2),
                Value::Float(1.5),
                Value::Double(2.5),
                Value::Null,
                Value::Text { bytes: b"ab", cut: 0 },
                Value::Bytes { bytes: b"\xff", cut: 0 },
                date(None),
                date(Some((14, 5, 6, 1))),
                Value::Time { negative: true, days: 2, time: (3, 4, 5, 0) },
            ]
        );
        for end in 0..data.len() {
            assert!(row(&types, &nulls, &data[..end], 0).iter().count() < values.len(), "{end}");
        }
    }

    #[test]
    fn nulls_and_what_was_sent_in_parts_take_no_bytes() {
        let types = [3, 0, 0xFC, 0, 1, 0];
        let bound = Bound { count: 3, types: &types, named: false };
        let layout = Layout::Row { nulls: &[0b001], in_parts: &[1] };
        let values: Vec<_> = Values::new(layout, bound, &[7], 0).iter().collect();
        assert_eq!(values, [Value::Null, Value::InParts, Value::Int(7)]);
    }

    #[test]
    fn of_a_cut_command_the_last_value_is_shown_in_part_and_says_so() {
        let values = row(&[0xFD, 0, 1, 0], &[0], b"\xfc\xe8\x03abc", 999);
        assert_eq!(values.iter().collect::<Vec<_>>(), [Value::Text { bytes: b"abc", cut: 997 }]);
        assert_eq!(values.cut(), 999);
        assert_eq!(row(&[0xFD, 0], &[0], b"\xfc\xe8\x03abc", 0).iter().count(), 0);
    }

    #[test]
    fn a_bulk_has_an_indicator_in_front_of_each_value() {
        let types = [1, 0, 0xFD, 0];
        let bound = Bound { count: 2, types: &types, named: false };
        let values = Values::new(Layout::Bulk, bound, b"\x00\x05\x00\x01a\x01\x02\x03\x01", 0);
        let text = Value::Text { bytes: b"a", cut: 0 };
        let expected = [Value::Int(5), text, Value::Null, Value::Default, Value::Ignored, Value::Null];
        assert_eq!(values.iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn attributes_are_stepped_over_whole_or_not_at_all() {
        let payload = b"\x02\x01\x02\x01\xfe\x00\x05trace\x03\x00\x00\x03abcselect 1";
        let mut reader = Reader::new(payload);
        let values = attributes(&mut reader).unwrap();
        assert_eq!(reader.rest(), b"select 1");
        let text = Value::Text { bytes: b"abc", cut: 0 };
        assert_eq!(values.iter().collect::<Vec<_>>(), [text, Value::Null]);
        for end in 0..payload.len() - 8 {
            assert!(attributes(&mut Reader::new(&payload[..end])).is_err(), "{end}");
        }
        assert!(attributes(&mut Reader::new(b"\x00\x02")).is_err(), "two sets");
        assert!(attributes(&mut Reader::new(b"\x01\x01\x00\x01\x99\x00\x00x")).is_err(), "unknown type");
        let mut none = Reader::new(b"\x00\x01select 2");
        assert!(attributes(&mut none).is_ok() && none.rest() == b"select 2");
    }

    /// MySQL would find the text elsewhere: behind a string with its length, or behind nothing.
    #[test]
    fn attributes_that_a_database_may_measure_otherwise_are_refused() {
        // Four attributes, one byte each to MySQL, four to the letter of the documentation: `drop …` would be run, and
        // `select 1` be on record.
        let hidden = b"drop table x--";
        let mut smuggled = [&[4, 1, 0, 1][..], &[0x09, 0, 0].repeat(4), &[0; 4]].concat();
        smuggled.extend_from_slice(hidden.get(..12).unwrap());
        smuggled.extend_from_slice(b"select 1");
        assert!(attributes(&mut Reader::new(&smuggled)).is_err());
        let one = |kind: u8, flags: u8, nulls: u8| {
            let payload = [&[1, 1, nulls, 1, kind, flags, 0][..], &[0; 16], b"select 1"].concat();
            attributes(&mut Reader::new(&payload)).is_ok()
        };
        for kind in [0x06, 0x09, 0x0D] {
            assert!(!one(kind, 0, 0) && !one(kind, UNSIGNED, 0), "{kind:#x}");
            assert!(one(kind, 0, 1), "{kind:#x}: no value, nothing to measure");
        }
        for flags in (1..UNSIGNED).chain(UNSIGNED + 1..=u8::MAX) {
            assert!(!one(0x08, flags, 0) && !one(0x08, flags, 1), "{flags:#x}");
        }
        assert!(one(0x08, 0, 0) && one(0x08, UNSIGNED, 0));
    }

    #[test]
    fn of_values_that_a_database_may_measure_otherwise_nothing_is_told() {
        for types in [[0x09, 0, 1, 0], [0x0D, 0, 1, 0], [0x06, 0, 1, 0], [0x01, 1, 1, 0]] {
            assert_eq!(row(&types, &[0], &[0; 16], 0).iter().count(), 0, "{types:?}");
        }
    }
}
