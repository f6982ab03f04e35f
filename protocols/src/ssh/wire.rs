//! SSH's data types (RFC 4251 §5).

use crate::reader::{Reader, Short};

/// Appends to a message.
pub(crate) trait Put {
    /// A number.
    fn put_u32(&mut self, number: u32);
    /// A string: its length, then its bytes.
    fn put_string(&mut self, bytes: &[u8]);
    /// A boolean.
    fn put_bool(&mut self, value: bool);
    /// A positive number of any length, from its big-endian bytes.
    fn put_mpint(&mut self, bytes: &[u8]);
}

impl Put for Vec<u8> {
    fn put_u32(&mut self, number: u32) {
        self.extend_from_slice(&number.to_be_bytes());
    }

    fn put_string(&mut self, bytes: &[u8]) {
        // Nothing of ours is as long as 4 GiB: a packet has 256 KiB at most.
        self.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.extend_from_slice(bytes);
    }

    fn put_bool(&mut self, value: bool) {
        self.push(u8::from(value));
    }

    fn put_mpint(&mut self, bytes: &[u8]) {
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        let bytes = bytes.get(zeros..).unwrap_or_default();
        let sign = bytes.first().is_some_and(|first| first & 0x80 != 0);
        self.put_u32(u32::try_from(bytes.len() + usize::from(sign)).unwrap_or(u32::MAX));
        if sign {
            self.push(0);
        }
        self.extend_from_slice(bytes);
    }
}

impl<'a> Reader<'a> {
    /// A string: its length, then its bytes.
    pub(crate) fn string(&mut self) -> Result<&'a [u8], Short> {
        let mut ahead = *self;
        let length = ahead.u32()?;
        let bytes = ahead.take(usize::try_from(length).map_err(|_| Short)?)?;
        *self = ahead;
        Ok(bytes)
    }

    /// A boolean: anything but 0 is true.
    pub(crate) fn bool(&mut self) -> Result<bool, Short> {
        Ok(self.u8()? != 0)
    }

    /// A positive number of any length, as big-endian bytes without leading zeros.
    pub(crate) fn mpint(&mut self) -> Result<&'a [u8], Short> {
        let mut ahead = *self;
        let bytes = ahead.string()?;
        if bytes.first().is_some_and(|first| first & 0x80 != 0) {
            return Err(Short);
        }
        *self = ahead;
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        Ok(bytes.get(zeros..).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_any_length_are_written_as_the_specification_shows() {
        let mpint = |bytes: &[u8]| {
            let mut out = Vec::new();
            out.put_mpint(bytes);
            out
        };
        assert_eq!(mpint(&[]), [0, 0, 0, 0]);
        assert_eq!(mpint(&[0, 0]), [0, 0, 0, 0]);
        assert_eq!(mpint(&[0x80]), [0, 0, 0, 2, 0, 0x80]);
        assert_eq!(mpint(&[0, 0x09, 0xa3]), [0, 0, 0, 2, 0x09, 0xa3]);
        assert_eq!(Reader::new(&mpint(&[0x80])).mpint(), Ok(&[0x80][..]));
        assert_eq!(Reader::new(&[0, 0, 0, 1, 0xff]).mpint(), Err(Short), "negative");
    }

    #[test]
    fn a_string_that_is_longer_than_its_message_is_not_read() {
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 1]).string(), Err(Short));
        assert_eq!(Reader::new(&[0, 0, 0, 2, 1]).string(), Err(Short));
        assert_eq!(Reader::new(&[0, 0, 0, 1, 1]).string(), Ok(&[1][..]));
    }
}
