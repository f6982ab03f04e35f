//! "I guard these targets": said at start, again before authd forgets, and with each new certificate, so that authd knows of it.

use std::{sync::Arc, time::Duration};

use auth::proto::{AnnounceRequest, Target, sidecars_client::SidecarsClient};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{backoff::Backoff, chain::Chain, link::Link};

/// authd forgets a target after ten minutes.
const EVERY: Duration = Duration::from_secs(5 * 60);
const DEADLINE: Duration = Duration::from_secs(15);
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));

/// Why authd was not told.
#[derive(Debug, thiserror::Error)]
enum AnnounceError {
    #[error("cannot connect")]
    Connect(#[source] auth::api::ApiError),
    #[error("authd refused")]
    Refused(#[source] Box<tonic::Status>),
    #[error("no answer in time")]
    Deadline,
}

/// Announces until told to stop.
pub(crate) async fn keep_announced(link: Arc<Link>, targets: Vec<Target>, stop: CancellationToken) {
    let mut backoff = BACKOFF;
    let mut known = false;
    let mut renewals = link.renewals();
    loop {
        renewals.borrow_and_update();
        let wait = match timeout(DEADLINE, announce(&link, &targets))
            .await
            .unwrap_or(Err(AnnounceError::Deadline))
        {
            Ok(()) => {
                if !std::mem::replace(&mut known, true) {
                    info!(targets = targets.len(), "announced");
                }
                backoff = BACKOFF;
                EVERY
            }
            Err(error) => {
                warn!(error = %Chain(&error), "not announced");
                known = false;
                backoff.next()
            }
        };
        tokio::select! {
            () = sleep(wait) => {}
            // The sender lives in the link.
            _ = renewals.changed() => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn announce(link: &Link, targets: &[Target]) -> Result<(), AnnounceError> {
    let (channel, trusted_ca_pins) = link.channel_and_pins().await.map_err(AnnounceError::Connect)?;
    let request = AnnounceRequest { targets: targets.to_vec(), trusted_ca_pins };
    let mut sidecars = SidecarsClient::new(channel);
    sidecars.announce(request).await.map_err(|status| AnnounceError::Refused(Box::new(status)))?;
    Ok(())
}
