//! What an authenticator says in plain bytes (WebAuthn Level 2, 6.1), as far as the library keeps it to itself.

use uuid::Uuid;

/// Deeper than any attestation statement.
const MAX_DEPTH: u8 = 8;

/// The signature counter: bytes 33 to 36.
pub(crate) fn counter(authenticator_data: &[u8]) -> Option<u32> {
    let counter = authenticator_data.get(33..37)?;
    counter.try_into().map(u32::from_be_bytes).ok()
}

/// What a key says of itself when it is registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Registered {
    /// Where its signature counter stands.
    pub(crate) counter: u32,
    /// Its model (AAGUID): bytes 37 to 52. Nil where it does not want to say. Proved by nobody, unless attestation is asked
    /// for.
    pub(crate) model: Uuid,
}

/// Reads the attestation object (6.5.4) of a registration.
pub(crate) fn registered(attestation_object: &[u8]) -> Option<Registered> {
    let mut reader = Reader(attestation_object);
    let (MAP, entries) = reader.head()? else { return None };
    for _ in 0..entries {
        let (TEXT, length) = reader.head()? else { return None };
        if reader.take(length)? == b"authData" {
            let (BYTES, length) = reader.head()? else { return None };
            let data = reader.take(length)?;
            let model = Uuid::from_slice(data.get(37..53)?).ok()?;
            return Some(Registered { counter: counter(data)?, model });
        }
        reader.skip(MAX_DEPTH)?;
    }
    None
}

const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;

/// As much of CBOR (RFC 8949) as it takes to pass over what is not wanted. Definite lengths only, as CTAP2 writes.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(taken)
    }

    /// Major type and argument (section 3).
    fn head(&mut self) -> Option<(u8, u64)> {
        let &[initial] = self.take(1)? else { return None };
        let octets = match initial & 0x1f {
            short @ 0..24 => return Some((initial >> 5, u64::from(short))),
            24 => 1,
            25 => 2,
            26 => 4,
            27 => 8,
            _ => return None,
        };
        let argument = self.take(octets)?.iter().fold(0, |sum, &octet| (sum << 8) | u64::from(octet));
        Some((initial >> 5, argument))
    }

    fn skip(&mut self, depth: u8) -> Option<()> {
        let deeper = depth.checked_sub(1)?;
        let items = match self.head()? {
            (BYTES | TEXT, length) => return self.take(length).map(drop),
            (ARRAY, length) => length,
            (MAP, length) => length.checked_mul(2)?,
            (TAG, _) => 1,
            _ => 0,
        };
        // Each item is at least one byte, so a count that lies ends with the input.
        for _ in 0..items {
            self.skip(deeper)?;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(before: &[u8]) -> Vec<u8> {
        let mut data = vec![0; 33];
        data.extend([0, 0, 0, 5]);
        data.extend([7; 16]);
        data.extend([0; 10]);
        let mut object = vec![0xa2];
        object.extend(before);
        object.extend(b"\x68authData");
        object.extend([0x58, u8::try_from(data.len()).unwrap()]);
        object.extend(data);
        object
    }

    #[test]
    fn model_and_counter_are_found_behind_whatever_comes_before() {
        let statement = b"\x67attStmt\xa2\x63alg\x26\x63x5c\x82\x41\x01\x58\x02ab";
        let expected = Registered { counter: 5, model: Uuid::from_bytes([7; 16]) };
        assert_eq!(registered(&object(statement)), Some(expected));
    }

    #[test]
    fn whatever_is_cut_short_says_nothing() {
        let whole = object(b"\x63fmt\x64none");
        assert!(registered(&whole).is_some());
        // Ten bytes follow the model.
        for length in 0..whole.len() - 10 {
            assert_eq!(registered(&whole[..length]), None, "{length}");
        }
    }

    #[test]
    fn nesting_and_counts_without_end_are_given_up() {
        let deep = [b"\xa1\x61a".as_slice(), &[0x81; 10_000]].concat();
        assert_eq!(registered(&deep), None);
        assert_eq!(registered(&[0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(registered(b"\xa1\x61a\x9b\xff\xff\xff\xff\xff\xff\xff\xff"), None);
    }

    #[test]
    fn the_counter_is_in_its_place() {
        let data = [[0; 33].as_slice(), &[1, 2, 3, 4]].concat();
        assert_eq!(counter(&data), Some(0x0102_0304));
        assert_eq!(counter(&data[..36]), None);
    }
}
