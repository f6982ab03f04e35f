//! HOT: the text of a frame that is too long to be shown, or its values, hashed while they pass.
//!
//! A text that is shown whole costs nothing here; a long one costs one hash state, whatever its length.

use aws_lc_rs::digest::{Context, Digest, SHA256};

/// A text of which only the beginning was shown.
pub(crate) struct LongText {
    digest: Context,
    length: u64,
    /// Bytes from its terminator on, once that came by.
    behind: Option<u64>,
}

impl std::fmt::Debug for LongText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LongText").field("length", &self.length).finish_non_exhaustive()
    }
}

impl LongText {
    /// A text that begins like this.
    pub(crate) fn begin(shown: &[u8]) -> Self {
        let mut text = Self { digest: Context::new(&SHA256), length: 0, behind: None };
        text.hash(shown);
        text
    }

    /// More of its frame; `end` finds the text's terminator in it.
    pub(crate) fn pass(&mut self, bytes: &[u8], end: impl FnOnce(&[u8]) -> Option<usize>) {
        if let Some(behind) = &mut self.behind {
            *behind += bytes.len() as u64;
            return;
        }
        let end = end(bytes);
        let (text, behind) = bytes.split_at(end.unwrap_or(bytes.len()).min(bytes.len()));
        self.hash(text);
        self.behind = end.map(|_| behind.len() as u64);
    }

    /// Its frame is over: hash and length of the text, and how many bytes came from its terminator on; `None`
    /// when it had none.
    pub(crate) fn finish(self) -> ([u8; 32], u64, Option<u64>) {
        (bytes(&self.digest.finish()), self.length, self.behind)
    }

    fn hash(&mut self, text: &[u8]) {
        self.digest.update(text);
        self.length += text.len() as u64;
    }
}

fn bytes(digest: &Digest) -> [u8; 32] {
    let mut sha256 = [0; 32];
    for (to, from) in sha256.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    sha256
}
