//! As much of CBOR (RFC 8949) as a COSE key needs: one map of integers to integers and byte strings. Bounded; cannot panic.

/// More than any COSE key has.
const MAX_ENTRIES: u64 = 8;

/// Longer than the modulus of the longest RSA key that WebAuthn knows.
const MAX_BYTES: u64 = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Integer(i64),
    Bytes(&'a [u8]),
}

/// Reads a map that fills `input`. `None` for everything else: other types, a key that is there twice, a length or number in
/// more octets than it needs, bytes left over.
pub(super) fn map(input: &[u8]) -> Option<Vec<(i64, Value<'_>)>> {
    let mut reader = Reader(input);
    let (MAP, entries @ 0..=MAX_ENTRIES) = reader.head()? else { return None };
    let mut map: Vec<(i64, Value<'_>)> = Vec::new();
    for _ in 0..entries {
        let Value::Integer(label) = reader.value()? else { return None };
        if map.iter().any(|(known, _)| *known == label) {
            return None;
        }
        map.push((label, reader.value()?));
    }
    reader.0.is_empty().then_some(map)
}

const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const MAP: u8 = 5;

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// Major type and argument (RFC 8949 §3), in the shortest form (§4.2.1).
    fn head(&mut self) -> Option<(u8, u64)> {
        let &[initial] = self.take(1)? else { return None };
        let (octets, least) = match initial & 0x1f {
            short @ 0..24 => return Some((initial >> 5, u64::from(short))),
            24 => (1, 24),
            25 => (2, 1 << 8),
            26 => (4, 1 << 16),
            27 => (8, 1 << 32),
            _ => return None,
        };
        let argument = self.take(octets)?.iter().fold(0, |sum, &octet| (sum << 8) | u64::from(octet));
        (argument >= least).then_some((initial >> 5, argument))
    }

    fn value(&mut self) -> Option<Value<'a>> {
        match self.head()? {
            (UNSIGNED, number) => i64::try_from(number).ok().map(Value::Integer),
            (NEGATIVE, number) => i64::try_from(number).ok().map(|number| Value::Integer(-1 - number)),
            (BYTES, length @ 0..=MAX_BYTES) => {
                usize::try_from(length).ok().and_then(|length| self.take(length)).map(Value::Bytes)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_of_integers_and_bytes_is_read() {
        let input = [0xa3, 0x01, 0x02, 0x03, 0x26, 0x20, 0x42, 7, 8];
        assert_eq!(
            map(&input),
            Some(vec![(1, Value::Integer(2)), (3, Value::Integer(-7)), (-1, Value::Bytes(&[7, 8]))])
        );
    }

    #[test]
    fn everything_else_is_refused() {
        for (input, why) in [
            (vec![], "nothing"),
            (vec![0xa1, 0x01], "cut short"),
            (vec![0xa1, 0x01, 0x02, 0x00], "a byte left over"),
            (vec![0xa2, 0x01, 0x02, 0x01, 0x03], "a label twice"),
            (vec![0xa1, 0x18, 0x01, 0x02], "a number longer than needed"),
            (vec![0xbf, 0x01, 0x02, 0xff], "a map without length"),
            (vec![0xa9], "too many entries"),
            (vec![0xa1, 0x01, 0x5a, 0xff, 0xff, 0xff, 0xff], "a string without end"),
            (vec![0xa1, 0x01, 0x61, 0x61], "text"),
            (vec![0xa1, 0x01, 0x1b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], "a number beyond i64"),
            (vec![0x01], "no map"),
        ] {
            assert_eq!(map(&input), None, "{why}");
        }
    }
}
