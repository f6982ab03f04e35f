//! One direction of SFTP, cut into messages, whose heads alone are kept.

use super::Lost;

/// A message may have at most (OpenSSH `SFTP_MAX_MSG_LENGTH`).
const LONGEST: u32 = 256 * 1024;
/// Bytes of a message that are looked at: two paths.
pub(super) const HEAD: usize = 16 * 1024;

/// A message's number, and as much of what follows as is looked at.
pub(super) struct Head<'a> {
    pub(super) number: u8,
    pub(super) bytes: &'a [u8],
}

/// Cuts one direction into messages, whose heads alone are kept.
#[derive(Debug, Default)]
pub(super) struct Heads {
    /// Length field, number and head of the message that is coming in.
    pub(super) head: Vec<u8>,
    /// Bytes of the message that are still to come, once its length is known.
    rest: Option<usize>,
    /// The head is complete, and was handed out.
    told: bool,
}

impl Heads {
    /// The next message's head, taken from the front of `bytes`; `None` when it is not complete yet.
    pub(super) fn next(&mut self, bytes: &mut &[u8]) -> Result<Option<Head<'_>>, Lost> {
        loop {
            if self.told {
                let rest = self.rest.unwrap_or_default();
                let skipped = rest.min(bytes.len());
                *bytes = bytes.get(skipped..).unwrap_or_default();
                if skipped < rest {
                    self.rest = Some(rest - skipped);
                    return Ok(None);
                }
                (self.told, self.rest) = (false, None);
                self.head.clear();
            }
            let Some(rest) = self.rest else {
                self.take(4, bytes);
                let Some(field) = self.head.first_chunk::<4>() else { return Ok(None) };
                let length = u32::from_be_bytes(*field);
                if !(5..=LONGEST).contains(&length) {
                    return Err(Lost("an SFTP message of an impossible length"));
                }
                self.rest = Some(length as usize);
                continue;
            };
            let wanted = 4 + rest.min(HEAD);
            self.take(wanted, bytes);
            if self.head.len() < wanted {
                return Ok(None);
            }
            self.told = true;
            self.rest = Some(rest - (wanted - 4));
            let (number, head) =
                self.head.get(4..).and_then(<[u8]>::split_first).ok_or(Lost("an empty SFTP message"))?;
            return Ok(Some(Head { number: *number, bytes: head }));
        }
    }

    /// Fills the head up to so many bytes, as far as there are any.
    fn take(&mut self, wanted: usize, bytes: &mut &[u8]) {
        let missing = wanted.saturating_sub(self.head.len()).min(bytes.len());
        let (now, later) = bytes.split_at(missing);
        self.head.extend_from_slice(now);
        *bytes = later;
    }
}
