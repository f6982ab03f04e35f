//! A reader of bytes from outside that cannot panic: every step says whether the bytes were there.

/// A cursor over a message. Each method takes from the front, or returns [`Short`] and takes nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

/// The message ends before the field does, or a text is not terminated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Short;

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What was not taken yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Short> {
        let (first, rest) = self.rest.split_first().ok_or(Short)?;
        self.rest = rest;
        Ok(*first)
    }

    /// Big-endian, like every number of PostgreSQL's protocol.
    pub(crate) fn u16(&mut self) -> Result<u16, Short> {
        self.array().map(u16::from_be_bytes)
    }

    /// Big-endian.
    pub(crate) fn u32(&mut self) -> Result<u32, Short> {
        self.array().map(u32::from_be_bytes)
    }

    /// Little-endian, like every number of MySQL's protocol.
    pub(crate) fn u16_le(&mut self) -> Result<u16, Short> {
        self.array().map(u16::from_le_bytes)
    }

    /// Little-endian.
    pub(crate) fn u32_le(&mut self) -> Result<u32, Short> {
        self.array().map(u32::from_le_bytes)
    }

    /// MySQL's number of variable length (`int<lenenc>`).
    pub(crate) fn lenenc(&mut self) -> Result<u64, Short> {
        let mut ahead = *self;
        let number = match ahead.u8()? {
            0xFC => u64::from(ahead.u16_le()?),
            0xFD => {
                let [a, b, c] = ahead.array()?;
                u64::from(u32::from_le_bytes([a, b, c, 0]))
            }
            0xFE => u64::from_le_bytes(ahead.array()?),
            0xFB | 0xFF => return Err(Short),
            small => u64::from(small),
        };
        *self = ahead;
        Ok(number)
    }

    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], Short> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Short)?;
        self.rest = rest;
        Ok(taken)
    }

    /// A text that ends with a NUL byte, without it.
    pub(crate) fn text(&mut self) -> Result<&'a [u8], Short> {
        let end = self.rest.iter().position(|byte| *byte == 0).ok_or(Short)?;
        let text = self.take(end)?;
        self.u8()?;
        Ok(text)
    }

    /// Ends the reading: a message that holds more than it says is as wrong as one that holds less.
    pub(crate) fn finish(self) -> Result<(), Short> {
        if self.rest.is_empty() { Ok(()) } else { Err(Short) }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Short> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Short)?;
        self.rest = rest;
        Ok(*taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_takes_nothing() {
        let mut reader = Reader::new(&[0, 1, 7]);
        assert_eq!(reader.u32(), Err(Short));
        assert_eq!(reader.take(4), Err(Short));
        assert_eq!(reader.u16(), Ok(1));
        assert_eq!(reader.text(), Err(Short));
        assert_eq!(reader.u8(), Ok(7));
        assert_eq!(reader.finish(), Ok(()));
    }

    #[test]
    fn a_number_of_variable_length_is_whole_or_takes_nothing() {
        for (bytes, number) in [
            (&[250][..], 250),
            (&[0xFC, 1, 2], 0x0201),
            (&[0xFD, 1, 2, 3], 0x03_0201),
            (&[0xFE, 1, 2, 3, 4, 5, 6, 7, 8], 0x0807_0605_0403_0201),
        ] {
            assert_eq!(Reader::new(bytes).lenenc(), Ok(number));
            for end in 0..bytes.len() {
                let mut reader = Reader::new(&bytes[..end]);
                assert_eq!(reader.lenenc(), Err(Short));
                assert_eq!(reader.rest().len(), end);
            }
        }
        assert_eq!(Reader::new(&[0xFB]).lenenc(), Err(Short));
        assert_eq!(Reader::new(&[0xFF]).lenenc(), Err(Short));
    }

    #[test]
    fn a_text_ends_at_its_nul_and_left_overs_are_an_error() {
        let mut reader = Reader::new(b"ab\0\0c");
        assert_eq!(reader.text(), Ok(&b"ab"[..]));
        assert_eq!(reader.text(), Ok(&b""[..]));
        assert_eq!(reader.finish(), Err(Short));
    }
}
