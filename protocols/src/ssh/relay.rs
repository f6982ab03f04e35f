//! A live session: two pumps, one for each direction, that pass messages on as they are. HOT.
//!
//! Neither pump waits for the other, and neither keeps anything: what one side may send, the other side has
//! allowed by its windows, so both connections' own flow control is all there is. What is asked is shown to the
//! tap before it is passed on; what is answered is passed on after the tap.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, timeout, timeout_at};

use super::channels::From;
use super::client::{farewell, say_goodbye};
use super::fault::SshFault;
use super::message::{self, reason};
use super::packet::{Incoming, Outgoing};
use super::session::{Next, Session};
use super::transport::{Side, Transport, disconnected, exchange};
use super::upstream::SshUpstream;
use super::wire::Put;
use crate::endpoint::Allowed;
use crate::error::{RelayError, RelayFault};
use crate::refusal::{Refusal, RefusalCode};
use crate::{End, Event, Limits, Malformed, Tap, Transferred};

/// What a session goes by.
pub(super) struct Terms {
    pub(super) allowed: Allowed,
    pub(super) limits: Limits,
    pub(super) renewal: Renewal,
}

/// When keys are exchanged anew, whoever begins it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Renewal {
    /// After so many bytes in one direction, by us.
    pub(super) after: u64,
    /// What it may take, from the first word to the last. Until it is over, nothing but it comes through to that side,
    /// and the other side waits.
    pub(super) within: Duration,
}

impl Default for Renewal {
    /// 1 GiB (RFC 4253 §9). Two minutes are what OpenSSH gives a whole login (LoginGraceTime), a key exchange
    /// included: enough for our half to get through behind what waits on the slowest line.
    fn default() -> Self {
        Self { after: 1 << 30, within: Duration::from_secs(120) }
    }
}

/// Why a session ends.
#[derive(Debug)]
pub(super) enum Stop {
    /// Reading from this side, or what it sent, is at an end.
    Side(From, SshFault),
    /// What this side sent is no SSH, or is not allowed to be sent.
    Malformed(From, &'static str),
    /// The tap has closed.
    Tap,
    /// We end it.
    Refused(Refusal),
}

/// One direction.
struct Pump<'a, R, W, O, T> {
    from: From,
    incoming: Incoming<R>,
    side: Side,
    /// Back to where messages come from.
    own: &'a Mutex<Outgoing<W>>,
    other: &'a Mutex<Outgoing<O>>,
    session: &'a Session<T>,
    renewing: &'a AtomicBool,
    renewal: Renewal,
    /// A key exchange that we have begun.
    begun: Option<Begun<'a, W>>,
    /// What waits until then.
    held: Vec<Vec<u8>>,
}

/// A key exchange whose other half is still to come.
struct Begun<'a, W> {
    /// The way to that side: nothing else is sent until it is over.
    own: MutexGuard<'a, Outgoing<W>>,
    /// Our half.
    ours: Vec<u8>,
    /// Bytes under the old keys, and the moment, at which a side that does not answer is not waited for any more.
    patience: (u64, Instant),
}

/// Bytes that a side may send at least after our half of a key exchange: they may have been on their way before it
/// heard of it.
const ON_THE_WAY: u64 = 64 * 1024 * 1024;

/// Messages of ours that may wait for the end of a key exchange: what comes in meanwhile was sent before the other
/// side heard of it.
const HELD: usize = 1_024;

impl<'a, R, W, O, T> Pump<'a, R, W, O, T>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
    O: AsyncWrite + Unpin,
    T: Tap,
{
    /// Until it ends.
    ///
    /// # Cancel safety
    /// May be dropped where it waits: what was to be sent can still be sent.
    async fn run(&mut self) -> Stop {
        match self.go().await {
            Ok(never) => match never {},
            Err(stop) => stop,
        }
    }

    async fn go(&mut self) -> Result<Infallible, Stop> {
        loop {
            match self.begun.as_ref().map(|begun| begun.patience.1) {
                Some(until) => timeout_at(until, self.next()).await.map_err(|_| self.overdue())??,
                None => self.next().await?,
            }
        }
    }

    /// The next message, or more of it.
    async fn next(&mut self) -> Result<(), Stop> {
        if !self.incoming.step().map_err(|fault| self.fault(fault))? {
            self.flush().await?;
            if self.renew_when_due().await? {
                // From here on there is a deadline, also for the wait that follows.
                return Ok(());
            }
            return self.incoming.fill().await.map_err(|fault| Stop::Side(self.from, fault));
        }
        let has_said_too_much = |begun: &Begun<'_, W>| self.incoming.bytes() > begun.patience.0;
        let is_overdue = self.begun.as_ref().is_some_and(has_said_too_much);
        match self.incoming.payload() {
            [message::KEXINIT, ..] => {
                let over = timeout(self.renewal.within, self.exchange()).await;
                over.map_err(|_| self.overdue())?
            }
            _ if is_overdue => Err(Stop::Malformed(self.from, "no answer to a key exchange")),
            _ => self.pass().await,
        }
    }

    fn overdue(&self) -> Stop {
        self.fault(SshFault::Overdue(self.renewal.within))
    }

    fn fault(&self, fault: SshFault) -> Stop {
        Stop::Side(self.from, fault)
    }

    /// Passes the current message on, or answers it.
    async fn pass(&mut self) -> Result<(), Stop> {
        let payload = self.incoming.payload();
        if let [message::DISCONNECT, rest @ ..] = &*payload {
            return Err(Stop::Side(self.from, disconnected(rest)));
        }
        match self.session.message(self.from, payload).await? {
            Next::Nothing => Ok(()),
            Next::Forward { then, times } => {
                let broken = |fault| Stop::Side(self.from.other(), fault);
                let mut other = self.other.lock().await;
                other.put(payload).map_err(broken)?;
                for _ in 0..times {
                    other.put(&then).map_err(broken)?;
                }
                if other.is_full() {
                    other.flush().await.map_err(broken)?;
                }
                Ok(())
            }
            Next::Answer(answer) => self.answer(answer).await,
            Next::Unknown => {
                let mut answer = vec![message::UNIMPLEMENTED];
                answer.put_u32(self.incoming.sequence().wrapping_sub(1));
                self.answer(answer).await
            }
        }
    }

    /// Sends a message back to where the current one came from.
    async fn answer(&mut self, answer: Vec<u8>) -> Result<(), Stop> {
        if self.begun.is_some() {
            if self.held.len() >= HELD {
                return Err(Stop::Malformed(self.from, "too much in the middle of a key exchange"));
            }
            self.held.push(answer);
            return Ok(());
        }
        let mut own = self.own.lock().await;
        own.put(&answer).map_err(|fault| Stop::Side(self.from, fault))?;
        own.flush().await.map_err(|fault| Stop::Side(self.from, fault))
    }

    async fn flush(&mut self) -> Result<(), Stop> {
        let mut other = self.other.lock().await;
        if other.is_empty() {
            return Ok(());
        }
        other.flush().await.map_err(|fault| Stop::Side(self.from.other(), fault))
    }

    /// Begins a key exchange after so many bytes in one direction. Never with both sides at once: while one is
    /// under way, what still comes from that side must find its way to the other.
    /// Whether it does.
    async fn renew_when_due(&mut self) -> Result<bool, Stop> {
        let sent = self.own.try_lock().map_or(0, |own| own.bytes());
        let is_due = self.begun.is_none() && self.incoming.bytes().max(sent) >= self.renewal.after;
        if !is_due || self.renewing.swap(true, Ordering::Relaxed) {
            return Ok(false);
        }
        // A side that does not read holds this up for as long as it holds up everything else.
        let mut own = self.own.lock().await;
        let until = Instant::now() + self.renewal.within;
        let proposed = timeout_at(until, propose(&mut *own, &self.side)).await;
        let ours = proposed.map_err(|_| self.overdue())?.map_err(|fault| self.fault(fault))?;
        let bytes = self.incoming.bytes().saturating_add(self.renewal.after.max(ON_THE_WAY));
        self.begun = Some(Begun { own, ours, patience: (bytes, until) });
        Ok(true)
    }

    /// The current message begins a key exchange, or answers the one that we have begun.
    async fn exchange(&mut self) -> Result<(), Stop> {
        let from = self.from;
        let fault = |fault| Stop::Side(from, fault);
        let theirs = self.incoming.payload().to_vec();
        let (mut own, ours) = match self.begun.take() {
            Some(Begun { own, ours, .. }) => {
                self.renewing.store(false, Ordering::Relaxed);
                (own, ours)
            }
            None => {
                let mut own = self.own.lock().await;
                let ours = propose(&mut *own, &self.side).await.map_err(fault)?;
                (own, ours)
            }
        };
        exchange(&mut self.incoming, &mut *own, &mut self.side, &ours, &theirs).await.map_err(fault)?;
        for held in self.held.drain(..) {
            own.put(&held).map_err(fault)?;
        }
        own.flush().await.map_err(fault)
    }
}

/// Sends our half of a key exchange's negotiation.
async fn propose<W: AsyncWrite + Unpin>(own: &mut Outgoing<W>, side: &Side) -> Result<Vec<u8>, SshFault> {
    let ours = side.proposal()?;
    own.put(&ours)?;
    own.flush().await?;
    Ok(ours)
}

/// Says "you are logged in", then carries the session until it ends.
pub(super) async fn run<S: AsyncRead + AsyncWrite + Unpin>(
    client: Transport<S>,
    upstream: SshUpstream,
    tap: impl Tap,
    ended: impl Future<Output = Refusal> + Send,
    terms: Terms,
) -> Result<Transferred, RelayError> {
    let Transport { incoming: mut from_client, outgoing: to_client, side: client_side } = client;
    from_client.lift_budget();
    let Transport { incoming: from_upstream, outgoing: to_upstream, side: upstream_side } =
        upstream.transport;
    let (to_client, to_upstream) = (Mutex::new(to_client), Mutex::new(to_upstream));
    let session = Session::new(terms.allowed, tap);
    let (renewing, renewal) = (AtomicBool::new(false), terms.renewal);
    let mut up = Pump {
        from: From::Client,
        incoming: from_client,
        side: client_side,
        own: &to_client,
        other: &to_upstream,
        session: &session,
        renewing: &renewing,
        renewal,
        begun: None,
        held: Vec::new(),
    };
    let mut down = Pump {
        from: From::Upstream,
        incoming: from_upstream,
        side: upstream_side,
        own: &to_upstream,
        other: &to_client,
        session: &session,
        renewing: &renewing,
        renewal,
        begun: None,
        held: Vec::new(),
    };
    let carried = async {
        if let Err(fault) = welcome(&to_client, &upstream.banners).await {
            return Stop::Side(From::Client, fault);
        }
        tokio::select! {
            stop = up.run() => stop,
            stop = down.run() => stop,
        }
    };
    let stop = tokio::select! {
        stop = carried => stop,
        refusal = ended => Stop::Refused(refusal),
    };
    let (Pump { incoming: mut from_client, .. }, Pump { incoming: mut from_upstream, .. }) = (up, down);
    let outcome = judge(stop);
    if let Some(Malformed::Ssh(text)) = outcome.malformed {
        session.malformed(Event::Malformed { reason: Malformed::Ssh(text) }).await;
    }
    session.end().await;
    let deadline = terms.limits.close;
    let (mut to_client, mut to_upstream) = (to_client.into_inner(), to_upstream.into_inner());
    let client = async {
        match &outcome.say {
            Some(refusal) => say_goodbye(&mut from_client, &mut to_client, refusal, deadline).await,
            // It may go without hearing us out: what it has not read may stand in the way.
            None => match timeout(deadline, to_client.shutdown()).await {
                Ok(shut) => shut.map_err(io::Error::from),
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            },
        }
    };
    let text = "the session has ended";
    let upstream = farewell(&mut from_upstream, &mut to_upstream, reason::BY_APPLICATION, text, deadline);
    // Whoever does not hear it is gone already.
    let _ = tokio::join!(client, upstream);
    let transferred = session.transferred();
    match outcome.result {
        Ok(end) => Ok(Transferred { end, ..transferred }),
        Err(fault) => Err(RelayError { transferred, fault }),
    }
}

/// "You are logged in", after what the host says before.
async fn welcome<W: AsyncWrite + Unpin>(
    to_client: &Mutex<Outgoing<W>>,
    banners: &[Vec<u8>],
) -> Result<(), SshFault> {
    let mut to_client = to_client.lock().await;
    for banner in banners {
        to_client.put(banner)?;
    }
    to_client.put(&[message::USERAUTH_SUCCESS])?;
    to_client.flush().await
}

/// How a session ended, for those who hear of it.
struct Outcome {
    result: Result<End, RelayFault>,
    /// What the client is told; `None` where it went by itself.
    say: Option<Refusal>,
    malformed: Option<Malformed>,
}

fn judge(stop: Stop) -> Outcome {
    let plain = |result, say| Outcome { result, say, malformed: None };
    let upstream = |text| Some(Refusal::new(RefusalCode::UpstreamUnavailable, text));
    match stop {
        Stop::Side(From::Client, SshFault::Closed | SshFault::Disconnected { .. }) => {
            plain(Ok(End::Client), None)
        }
        Stop::Side(From::Client, fault @ SshFault::Overdue(_)) => {
            let text = "the session ended: the client did not agree to new keys in time";
            let say = Refusal::new(RefusalCode::ProtocolViolation, text);
            plain(Err(RelayFault::ClientOverdue(fault.into())), Some(say))
        }
        Stop::Side(From::Upstream, fault @ SshFault::Overdue(_)) => {
            let text = "the session ended: the host did not agree to new keys in time";
            plain(Err(RelayFault::UpstreamOverdue(fault.into())), upstream(text))
        }
        Stop::Side(From::Client, fault) => {
            let text = "the connection cannot go on";
            let say = Refusal::new(RefusalCode::ProtocolViolation, text);
            plain(Err(RelayFault::Client(fault.into())), Some(say))
        }
        Stop::Side(From::Upstream, SshFault::Closed | SshFault::Disconnected { .. }) => {
            plain(Ok(End::Upstream), upstream("the host has closed the connection"))
        }
        Stop::Side(From::Upstream, fault) => {
            plain(Err(RelayFault::Upstream(fault.into())), upstream("the connection to the host has failed"))
        }
        Stop::Malformed(From::Client, text) => Outcome {
            result: Err(RelayFault::Malformed(Malformed::Ssh(text))),
            say: Some(Refusal::new(RefusalCode::ProtocolViolation, text)),
            malformed: Some(Malformed::Ssh(text)),
        },
        Stop::Malformed(From::Upstream, text) => {
            let fault = io::Error::new(io::ErrorKind::InvalidData, SshFault::Protocol(text));
            plain(Err(RelayFault::Upstream(fault)), upstream("the host has broken the protocol"))
        }
        Stop::Tap => {
            let text = "the session can no longer be recorded, so it ends";
            plain(Err(RelayFault::TapClosed), Some(Refusal::new(RefusalCode::Internal, text)))
        }
        Stop::Refused(refusal) => plain(Ok(End::Refused(refusal.code)), Some(refusal)),
    }
}

/// Whatever a panicking thread left: all that is kept under these locks is whole between two statements.
pub(super) fn locked<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
