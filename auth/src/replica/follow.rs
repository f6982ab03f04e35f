//! Keeps a replica up to date: one stream of events after another, for as long as the sidecar lives.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Streaming, transport::Channel};
use tracing::{debug, error, info, warn};

use super::Replica;
use crate::{
    api::ApiError,
    proto::{WatchEvent, WatchRequest, sidecars_client::SidecarsClient},
    repeated::Repeated,
};

#[cfg(test)]
mod tests;

/// authd sends a heartbeat every five seconds. A stream that brings nothing for three of them is dead, whatever TCP thinks.
pub const EVENT_DEADLINE: Duration = Duration::from_secs(15);

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Follows authd until `shutdown`. `connect` is asked for a channel before each stream, so that it can present the
/// certificate of the day. When a stream ends, the replica keeps what it has, and another is tried after a pause that
/// doubles from 0.1 to 5 s, by chance up to half shorter, so that a fleet does not come back at once.
///
/// # Cancel safety
/// May be dropped at any time: an event is applied whole or not at all.
pub async fn follow<C, F>(replica: Arc<Replica>, connect: C, shutdown: CancellationToken)
where
    C: Fn() -> F,
    F: Future<Output = Result<Channel, ApiError>>,
{
    let mut pause = FIRST_PAUSE;
    let mut failure = Repeated::default();
    loop {
        let (generation, began) = (replica.snapshot().generation(), Instant::now());
        tokio::select! {
            () = shutdown.cancelled() => return,
            end = stream(&replica, &connect) => {
                // Heard of for a while: the next failure is a new one.
                if replica.snapshot().generation() != generation {
                    failure.is_over();
                }
                let error = &end as &dyn std::error::Error;
                if failure.is_news(&end) { warn!(error, "watch ended") } else { debug!(error, "watch ended") }
            }
        }
        // It worked for a while: the next failure is a new one.
        if replica.snapshot().generation() != generation && began.elapsed() > LONGEST_PAUSE {
            pause = FIRST_PAUSE;
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = sleep(jittered(pause)) => {}
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum StreamEnd {
    #[error("cannot connect")]
    Connect(#[source] ApiError),
    #[error("authd refused or broke the stream")]
    Status(#[source] Box<tonic::Status>),
    #[error("nothing heard for {} s", EVENT_DEADLINE.as_secs())]
    Silence,
    #[error("authd closed the stream")]
    Closed,
}

impl From<tonic::Status> for StreamEnd {
    fn from(status: tonic::Status) -> Self {
        Self::Status(Box::new(status))
    }
}

/// Runs one stream to its end.
async fn stream<C, F>(replica: &Replica, connect: &C) -> StreamEnd
where
    C: Fn() -> F,
    F: Future<Output = Result<Channel, ApiError>>,
{
    let mut events = match open(connect).await {
        Ok(events) => events,
        Err(end) => return end,
    };
    replica.begin();
    loop {
        match timeout(EVENT_DEADLINE, events.message()).await {
            Ok(Ok(Some(event))) => take(replica, event),
            Ok(Ok(None)) => return StreamEnd::Closed,
            Ok(Err(status)) => return status.into(),
            Err(_) => return StreamEnd::Silence,
        }
    }
}

async fn open<C, F>(connect: &C) -> Result<Streaming<WatchEvent>, StreamEnd>
where
    C: Fn() -> F,
    F: Future<Output = Result<Channel, ApiError>>,
{
    let open = async {
        let channel = connect().await.map_err(StreamEnd::Connect)?;
        Ok(SidecarsClient::new(channel).watch(WatchRequest {}).await?.into_inner())
    };
    timeout(EVENT_DEADLINE, open).await.unwrap_or(Err(StreamEnd::Silence))
}

fn take(replica: &Replica, event: WatchEvent) {
    use crate::proto::watch_event::Event;
    let complete = matches!(event.event, Some(Event::SnapshotEnd(_)));
    if let Err(error) = replica.apply(event) {
        // Somebody must act: what cannot be read keeps people out.
        error!(error = &error as &dyn std::error::Error, "an event was refused");
    }
    let snapshot = replica.snapshot();
    if complete {
        info!(generation = snapshot.generation(), ready = snapshot.is_ready(), "replica is complete");
    } else {
        debug!(generation = snapshot.generation(), "replica event");
    }
}

/// Between half of it and all of it.
fn jittered(pause: Duration) -> Duration {
    let mut random = [0; 2];
    // Without randomness there is no jitter, and nothing else is lost.
    let _ = aws_lc_rs::rand::fill(&mut random);
    let part = f64::from(u16::from_be_bytes(random)) / f64::from(u16::MAX);
    pause.mul_f64(1.0 - part / 2.0)
}
