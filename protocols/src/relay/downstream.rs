//! HOT: upstream to client. Bytes as they come; where the last message ended is known at any moment.

use std::io;

use crate::frame::{Course, Follow};

use super::buffer::Buffer;
use super::shared::{Filled, Shared, Stream};

/// The pump's state, outside of its future: dropping the future loses nothing.
#[derive(Debug)]
pub(super) struct Downstream<L> {
    follower: L,
    /// Read and not yet written.
    held: Option<Buffer>,
    /// So many bytes at the front of `held` may be written; about the rest nothing is decided.
    cleared: usize,
    /// Where, in what is cleared, a message ended last; `None` when it holds the middle of one only.
    boundary: Option<usize>,
    /// Words of our own, a whole message; written before anything that is held.
    said: Vec<u8>,
    /// So much of it is written.
    said_written: usize,
    /// Something was written and may not be on its way yet.
    unflushed: bool,
    forwarded: u64,
}

/// Which connection failed.
#[derive(Debug)]
pub(super) enum Broken {
    Client(io::Error),
    Upstream(io::Error),
}

impl<L: Follow> Downstream<L> {
    pub(super) fn new(follower: L) -> Self {
        Self {
            follower,
            held: None,
            cleared: 0,
            boundary: None,
            said: Vec::new(),
            said_written: 0,
            unflushed: false,
            forwarded: 0,
        }
    }

    /// Bytes written to the client.
    pub(super) fn forwarded(&self) -> u64 {
        self.forwarded
    }

    /// Pumps until the upstream closes.
    ///
    /// # Cancel safety
    /// Cancel safe: can be called again, or followed by [`Downstream::finish_message`].
    pub(super) async fn pump<C: Stream, U: Stream>(
        &mut self,
        upstream: &Shared<'_, U>,
        client: &Shared<'_, C>,
    ) -> Result<(), Broken> {
        loop {
            self.drain(client).await.map_err(Broken::Client)?;
            if self.decide().map_err(Broken::Upstream)? {
                continue;
            }
            tokio::select! {
                // Whoever is asked first, what is to be said comes before whatever was read.
                biased;
                filled = upstream.fill(&mut self.held) => match filled.map_err(Broken::Upstream)? {
                    Filled::More => {}
                    Filled::End => return Ok(()),
                },
                () = self.follower.called() => {}
            }
        }
    }

    /// Goes on to the end of the message that the client is in the middle of, and no further.
    /// False when the upstream closed, failed or broke the protocol before.
    ///
    /// # Cancel safety
    /// Cancel safe: can be called again.
    pub(super) async fn finish_message<C: Stream, U: Stream>(
        &mut self,
        upstream: &Shared<'_, U>,
        client: &Shared<'_, C>,
    ) -> bool {
        loop {
            let reached = match self.boundary {
                Some(end) => {
                    self.cleared = end;
                    true
                }
                None => self.cleared == 0 && self.follower.at_boundary(),
            };
            if self.drain(client).await.is_err() {
                return false;
            }
            if reached {
                return true;
            }
            match self.decide() {
                Ok(true) => {}
                Ok(false) if matches!(upstream.fill(&mut self.held).await, Ok(Filled::More)) => {}
                _ => return false,
            }
        }
    }

    /// Decides about what is held, when everything decided before is written. False when more bytes are
    /// needed.
    fn decide(&mut self) -> io::Result<bool> {
        if let Some(said) = self.follower.say() {
            (self.said, self.said_written) = (said, 0);
            return Ok(true);
        }
        let Some(held) = &mut self.held else { return Ok(false) };
        match self.follower.follow(held.filled()) {
            Course::Forward { bytes, boundary } => {
                debug_assert!(
                    bytes <= held.filled().len() && boundary.is_none_or(|end| end <= bytes),
                    "a boundary lies within what is forwarded"
                );
                (self.cleared, self.boundary) = (bytes, boundary);
            }
            Course::Drop(bytes) => {
                held.consume(bytes);
                if held.is_empty() {
                    self.held = None;
                }
            }
            Course::Starved => return Ok(false),
            Course::Lost(reason) => return Err(io::Error::new(io::ErrorKind::InvalidData, reason)),
        }
        Ok(true)
    }

    /// Writes what may be written, and gives the buffer back when it is empty.
    async fn drain<C: Stream>(&mut self, client: &Shared<'_, C>) -> io::Result<()> {
        while let Some(rest) = self.said.get(self.said_written..).filter(|rest| !rest.is_empty()) {
            let written = client.write(rest).await?;
            (self.said_written, self.unflushed) = (self.said_written + written, true);
            self.forwarded += written as u64;
        }
        while let Some(held) = self.held.as_mut().filter(|_| self.cleared > 0) {
            let (now, _) = held.filled().split_at_checked(self.cleared).unwrap_or_default();
            let written = client.write(now).await?.min(self.cleared);
            held.consume(written);
            (self.cleared, self.unflushed) = (self.cleared - written, true);
            self.boundary = self.boundary.and_then(|end| end.checked_sub(written));
            self.forwarded += written as u64;
        }
        if self.unflushed {
            client.flush().await?;
            self.unflushed = false;
        }
        self.said = Vec::new();
        if self.held.as_ref().is_some_and(Buffer::is_empty) {
            self.held = None;
        }
        self.boundary = None;
        Ok(())
    }
}
