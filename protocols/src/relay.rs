//! HOT: two independent half-duplex pumps, for every protocol that is a stream of frames.
//!
//! Client to upstream, a batch at a time: one read, every complete frame past the tap, one write. Upstream to
//! client: bytes as they come, following only where frames end. Neither pump waits for the other, so a client
//! that sends on while a huge result flows cannot deadlock; each holds one pooled buffer while bytes are in
//! flight, and none while its side is silent.
//!
//! Everything that is half done when a pump is dropped lives outside of it: the session can be ended at any
//! `.await`, and its client still told why, between two messages.

mod ahead;
mod buffer;
mod close;
mod downstream;
mod shared;

use std::future::Future;
use std::io;
use std::pin::pin;
use std::time::Duration;

use tokio::time::timeout;

use crate::frame::{Errand, Follow, Inspect, Step};
use crate::refusal::{Refusal, RefusalCode};
use crate::{End, Malformed, RelayError, RelayFault, Tap, TapClosed, Transferred, Verdict};

pub(crate) use ahead::ReadAhead;
pub(crate) use buffer::Buffer;
pub(crate) use close::{HEARD_OUT, close};
use downstream::{Broken, Downstream};
use shared::{Filled, Shared};
pub use shared::{Readable, Stream};

/// How a relay came to its end, with both streams still open.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// What was forwarded.
    pub(crate) transferred: Transferred,
    /// What is left to tell the client, between two messages; `None` when there is nothing, or no such place
    /// was reached.
    pub(crate) farewell: Option<Vec<u8>>,
    /// What failed, if anything.
    pub(crate) fault: Option<RelayFault>,
}

impl Outcome {
    /// The outcome as [`crate::Client::relay`] reports it.
    pub(crate) fn into_result(self) -> Result<Transferred, RelayError> {
        match self.fault {
            None => Ok(self.transferred),
            Some(fault) => Err(RelayError { transferred: self.transferred, fault }),
        }
    }
}

/// Why the client's pump stopped.
#[derive(Debug)]
enum ClientStop {
    /// It closed its side.
    Closed,
    /// It said goodbye in the protocol's own words.
    Goodbye,
    /// A message was not allowed.
    Refused(Refusal),
    Malformed(Malformed),
    TapClosed,
    /// Its connection failed.
    Read(io::Error),
    /// The upstream's connection failed, or is closed.
    Write(io::Error),
}

/// What ended the session.
#[derive(Debug)]
enum Stop {
    Client(ClientStop),
    Upstream(Result<(), Broken>),
    Ended(Refusal),
}

/// Carries the session until a side, the tap or `ended` ends it. Waits at most `close` for a last message to
/// get through.
pub(crate) async fn run<C, U>(
    client: &mut C,
    upstream: &mut U,
    (mut inspector, follower): (impl Inspect, impl Follow),
    mut tap: impl Tap,
    ended: impl Future<Output = Refusal> + Send,
    close: Duration,
) -> Outcome
where
    C: Stream,
    U: Stream,
{
    let (client, upstream) = (Shared::new(client), Shared::new(upstream));
    let mut downstream = Downstream::new(follower);
    let mut from_client = 0;
    let mut ended = pin!(ended);

    let mut stop = tokio::select! {
        stop = forward(&client, &upstream, &mut inspector, &mut tap, &mut from_client) => Stop::Client(stop),
        result = downstream.pump(&upstream, &client) => Stop::Upstream(result),
        refusal = &mut ended => Stop::Ended(refusal),
    };
    if let Stop::Client(last @ (ClientStop::Closed | ClientStop::Goodbye)) = stop {
        // Not after a goodbye: nothing follows it, not even TLS's own. An upstream that leaves that unread
        // would reset the connection in closing it, and its last answers would be lost.
        let half_close = async {
            if let ClientStop::Closed = last {
                // A failure shows up when the answers are read.
                let _ = upstream.shutdown().await;
            }
            std::future::pending().await
        };
        let answers = async {
            // The upstream answers what it was asked before, and then closes. An upstream that is stuck in
            // its answers takes no goodbye, so neither of the two waits for the other.
            tokio::select! {
                result = downstream.pump(&upstream, &client) => result,
                never = half_close => never,
            }
        };
        stop = tokio::select! {
            // The client wants no more: whatever happens to either connection now is no fault.
            _ = answers => Stop::Client(ClientStop::Closed),
            refusal = &mut ended => Stop::Ended(refusal),
        };
    }

    let (refusal, end, fault) = judge(stop, close, &mut downstream, &upstream, &client).await;
    let mut farewell = None;
    if let Some(refusal) = &refusal
        && let Ok(true) = timeout(close, downstream.finish_message(&upstream, &client)).await
    {
        farewell = Some(inspector.farewell(refusal));
    }
    let transferred = Transferred { from_client, from_upstream: downstream.forwarded(), end };
    Outcome { transferred, farewell, fault }
}

/// What to tell the client, and what to tell the sidecar.
async fn judge<C: Stream, U: Stream>(
    stop: Stop,
    close: Duration,
    downstream: &mut Downstream<impl Follow>,
    upstream: &Shared<'_, U>,
    client: &Shared<'_, C>,
) -> (Option<Refusal>, End, Option<RelayFault>) {
    let told = |refusal: Refusal, fault| {
        let end = End::Refused(refusal.code);
        (Some(refusal), end, fault)
    };
    match stop {
        Stop::Client(ClientStop::Closed | ClientStop::Goodbye) => (None, End::Client, None),
        Stop::Upstream(Ok(())) => (None, End::Upstream, None),
        Stop::Ended(refusal) | Stop::Client(ClientStop::Refused(refusal)) => told(refusal, None),
        Stop::Client(ClientStop::Malformed(malformed)) => {
            let refusal = Refusal::new(RefusalCode::ProtocolViolation, malformed.to_string());
            told(refusal, Some(RelayFault::Malformed(malformed)))
        }
        Stop::Client(ClientStop::TapClosed) => {
            let refusal =
                Refusal::new(RefusalCode::Internal, "the session can no longer be recorded, so it ends");
            told(refusal, Some(RelayFault::TapClosed))
        }
        Stop::Client(ClientStop::Read(error)) | Stop::Upstream(Err(Broken::Client(error))) => {
            (None, End::Client, Some(RelayFault::Client(error)))
        }
        Stop::Client(ClientStop::Write(error)) => {
            // The upstream closed while the client was sending: its last words may still be on their way.
            match timeout(close, downstream.pump(upstream, client)).await {
                Ok(Ok(())) => (None, End::Upstream, None),
                _ => lost(error),
            }
        }
        Stop::Upstream(Err(Broken::Upstream(error))) => lost(error),
    }
}

/// The upstream's connection failed.
fn lost(error: io::Error) -> (Option<Refusal>, End, Option<RelayFault>) {
    let refusal = Refusal::new(RefusalCode::UpstreamUnavailable, "the connection to the upstream was lost");
    (Some(refusal), End::Upstream, Some(RelayFault::Upstream(error)))
}

/// What a look at the batch came to.
enum Looked {
    /// More bytes are needed.
    Starved,
    /// The inspector calls when it goes on.
    Busy,
    /// In the place of so many bytes, these go to the upstream.
    Instead(usize, Vec<u8>),
    /// So many bytes are dropped, and the client is told this.
    Refuse(usize, Vec<u8>),
    /// Nothing follows.
    Stop(ClientStop),
}

/// What the client's pump does next.
enum Next {
    Read,
    Wait,
    Look,
}

/// The client's pump: one read, every complete frame past the tap, one write.
async fn forward<C: Stream, U: Stream>(
    client: &Shared<'_, C>,
    upstream: &Shared<'_, U>,
    inspector: &mut impl Inspect,
    tap: &mut impl Tap,
    forwarded: &mut u64,
) -> ClientStop {
    let (mut held, mut next): (Option<Buffer>, _) = (None, Next::Read);
    loop {
        if let Err(stop) = errands(upstream, inspector, tap, forwarded).await {
            return stop;
        }
        match next {
            Next::Read => tokio::select! {
                // Whoever is asked first, errands come before whatever was read.
                biased;
                filled = client.fill(&mut held) => match filled {
                    Ok(Filled::More) => {}
                    Ok(Filled::End) => return ClientStop::Closed,
                    Err(error) => return unreadable(error, tap).await,
                },
                () = inspector.called() => continue,
            },
            Next::Wait => {
                inspector.called().await;
                next = Next::Look;
                continue;
            }
            Next::Look => {}
        }
        let Some(batch) = &mut held else {
            next = Next::Read;
            continue;
        };
        let (allowed, looked) = inspect(batch.filled(), inspector, tap).await;
        if let Err(error) = send(batch, allowed, upstream, forwarded).await {
            return ClientStop::Write(error);
        }
        next = match looked {
            Looked::Starved => Next::Read,
            Looked::Busy => Next::Wait,
            Looked::Instead(skip, bytes) => {
                batch.consume(skip);
                if let Err(error) = send_all(&bytes, upstream, forwarded).await {
                    return ClientStop::Write(error);
                }
                Next::Look
            }
            Looked::Refuse(skip, answer) => {
                batch.consume(skip);
                inspector.say(answer);
                Next::Look
            }
            Looked::Stop(stop) => return stop,
        };
        if batch.is_empty() {
            (held, next) = (None, Next::Read);
        }
    }
}

/// The client's stream cannot be read. One that is packed can be broken by the client itself.
async fn unreadable(error: io::Error, tap: &mut impl Tap) -> ClientStop {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Malformed>()) {
        None => ClientStop::Read(error),
        Some(&reason) => malformed(reason, tap).await,
    }
}

/// It ends the session whatever the tap says; a closed tap must not be mistaken for a broken client.
async fn malformed(reason: Malformed, tap: &mut impl Tap) -> ClientStop {
    let shown = show(crate::Event::Malformed { reason }, tap).await;
    shown.err().unwrap_or(ClientStop::Malformed(reason))
}

/// How many bytes of the batch may be forwarded, and what comes behind them.
async fn inspect(batch: &[u8], inspector: &mut impl Inspect, tap: &mut impl Tap) -> (usize, Looked) {
    let (mut allowed, mut shown) = (0, false);
    let looked = loop {
        let rest = batch.get(allowed..).unwrap_or_default();
        let step = inspector.step(rest);
        shown |= matches!(step, Ok(Step::Show(..) | Step::Instead(..) | Step::Refuse(..)));
        match step {
            Ok(Step::Starved) => break Looked::Starved,
            Ok(Step::Busy) => break Looked::Busy,
            Ok(Step::Pass(bytes)) => allowed += bytes,
            Ok(Step::Last(bytes)) => {
                allowed += bytes;
                break Looked::Stop(ClientStop::Goodbye);
            }
            Ok(Step::Show(event, bytes)) => match show(event, tap).await {
                Ok(()) => allowed += bytes,
                Err(stop) => break Looked::Stop(stop),
            },
            Ok(Step::Instead(event, skip, bytes)) => match show(event, tap).await {
                Ok(()) => break Looked::Instead(skip, bytes),
                Err(stop) => break Looked::Stop(stop),
            },
            Ok(Step::Refuse(event, skip, answer)) => match show(event, tap).await {
                Ok(()) => break Looked::Refuse(skip, answer),
                Err(stop) => break Looked::Stop(stop),
            },
            Err(reason) => break Looked::Stop(malformed(reason, tap).await),
        }
    };
    if !shown {
        tap.heard();
    }
    (allowed, looked)
}

/// What the upstream's half wants done.
async fn errands<U: Stream>(
    upstream: &Shared<'_, U>,
    inspector: &mut impl Inspect,
    tap: &mut impl Tap,
    forwarded: &mut u64,
) -> Result<(), ClientStop> {
    while let Some(errand) = inspector.errand() {
        let bytes = match errand {
            Errand::Show(event, bytes) => {
                show(event, tap).await?;
                bytes
            }
            Errand::Send(bytes) => bytes,
            Errand::End(refusal) => return Err(ClientStop::Refused(refusal)),
        };
        send_all(&bytes, upstream, forwarded).await.map_err(ClientStop::Write)?;
        inspector.errand_done();
    }
    Ok(())
}

/// Asks the tap.
async fn show(event: crate::Event<'_>, tap: &mut impl Tap) -> Result<(), ClientStop> {
    match tap.observe(event).await {
        Ok(Verdict::Forward) => Ok(()),
        Ok(Verdict::End(refusal) | Verdict::Refuse(refusal)) => Err(ClientStop::Refused(refusal)),
        Err(TapClosed) => Err(ClientStop::TapClosed),
    }
}

/// Writes the first `allowed` bytes of the batch, and takes them out of it.
async fn send<U: Stream>(
    batch: &mut Buffer,
    allowed: usize,
    upstream: &Shared<'_, U>,
    forwarded: &mut u64,
) -> io::Result<()> {
    let mut left = allowed;
    while left > 0 {
        let (now, _) = batch.filled().split_at_checked(left).unwrap_or_default();
        let written = upstream.write(now).await?.min(left);
        batch.consume(written);
        *forwarded += written as u64;
        left -= written;
    }
    if allowed > 0 { upstream.flush().await } else { Ok(()) }
}

/// Writes bytes that are not the client's own.
async fn send_all<U: Stream>(
    mut bytes: &[u8],
    upstream: &Shared<'_, U>,
    forwarded: &mut u64,
) -> io::Result<()> {
    let any = !bytes.is_empty();
    while !bytes.is_empty() {
        let written = upstream.write(bytes).await?;
        bytes = bytes.get(written..).unwrap_or_default();
        *forwarded += written as u64;
    }
    if any { upstream.flush().await } else { Ok(()) }
}

#[cfg(test)]
mod tests;
