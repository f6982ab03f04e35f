//! HOT: relay buffers, pooled per thread, so that idle sessions hold none and busy ones allocate none.

use std::cell::RefCell;

use crate::frame::SHOWN;

/// Buffers that a thread keeps for later: at most 64 × 64 KiB.
const KEPT: usize = 64;

thread_local! {
    static POOL: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// [`SHOWN`] bytes of space, of which `start..end` is filled. Goes back to the pool when dropped.
#[derive(Debug)]
pub(crate) struct Buffer {
    space: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// An empty buffer, from this thread's pool if it has one.
    pub(crate) fn take() -> Self {
        let kept = POOL.try_with(|pool| pool.borrow_mut().pop()).ok().flatten();
        Self { space: kept.unwrap_or_else(|| vec![0; SHOWN].into_boxed_slice()), start: 0, end: 0 }
    }

    pub(crate) fn filled(&self) -> &[u8] {
        self.space.get(self.start..self.end).unwrap_or_default()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Free space behind the filled part. When a quarter or less is left there, the filled part is moved to
    /// the front first; so the space is empty only when [`SHOWN`] bytes are filled.
    pub(crate) fn free(&mut self) -> &mut [u8] {
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        } else if self.start > 0 && self.space.len() - self.end <= self.space.len() / 4 {
            self.space.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        self.space.get_mut(self.end..).unwrap_or_default()
    }

    /// So many bytes of the free space were filled.
    pub(crate) fn fill(&mut self, bytes: usize) {
        self.end = (self.end + bytes).min(self.space.len());
    }

    /// So many bytes at the front are done with.
    pub(crate) fn consume(&mut self, bytes: usize) {
        self.start = (self.start + bytes).min(self.end);
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let space = std::mem::take(&mut self.space);
        // During the thread's own end the pool may be gone: then the space is freed here.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.len() < KEPT {
                pool.push(space);
            }
        });
    }
}
