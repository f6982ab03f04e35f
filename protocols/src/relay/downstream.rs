//! HOT: upstream to client. Bytes as they come; where the last message ended is known at any moment.

use std::io;

use crate::Answers;
use crate::frame::{Boundaries, Framing};

use super::buffer::Buffer;
use super::shared::{Filled, Shared, Stream};

/// The pump's state, outside of its future: dropping the future loses nothing.
#[derive(Debug)]
pub(super) struct Downstream<F> {
    boundaries: Boundaries<F>,
    /// Read and not yet written.
    held: Option<Buffer>,
    /// Where, in the space of `held`, a message ended last; `None` when it holds the middle of one only.
    boundary: Option<usize>,
    forwarded: u64,
}

/// Which connection failed.
#[derive(Debug)]
pub(super) enum Broken {
    Client(io::Error),
    Upstream(io::Error),
}

impl<F: Framing> Downstream<F> {
    pub(super) fn new(answers: Option<Box<dyn Answers>>) -> Self {
        Self { boundaries: Boundaries::new(answers), held: None, boundary: None, forwarded: 0 }
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
            if self.read(upstream).await.map_err(Broken::Upstream)? == Filled::End {
                return Ok(());
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
            let reached = match &mut self.held {
                None => self.boundaries.at_boundary(),
                Some(held) => match self.boundary {
                    Some(end) if end >= held.start() => {
                        held.truncate(end);
                        true
                    }
                    _ => false,
                },
            };
            if self.drain(client).await.is_err() {
                return false;
            }
            if reached {
                return true;
            }
            if !matches!(self.read(upstream).await, Ok(Filled::More)) {
                return false;
            }
        }
    }

    /// One read, when everything before is written.
    async fn read<U: Stream>(&mut self, upstream: &Shared<'_, U>) -> io::Result<Filled> {
        let filled = upstream.fill(&mut self.held).await?;
        if let Some(held) = &self.held {
            self.boundary = self.boundaries.follow(held.filled()).map(|offset| held.start() + offset);
            debug_assert!(
                self.boundary.is_none_or(|end| end <= held.end()),
                "a boundary lies within the buffer"
            );
        }
        Ok(filled)
    }

    /// Writes what is held, and gives its buffer back.
    async fn drain<C: Stream>(&mut self, client: &Shared<'_, C>) -> io::Result<()> {
        let Some(held) = &mut self.held else { return Ok(()) };
        while !held.is_empty() {
            let written = client.write(held.filled()).await?;
            held.consume(written);
            self.forwarded += written as u64;
        }
        client.flush().await?;
        self.held = None;
        Ok(())
    }
}
