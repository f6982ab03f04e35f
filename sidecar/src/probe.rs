//! Knowing a MySQL upstream before its clients come. In MySQL the server speaks first, and says its version: clients are
//! greeted with the upstream's own, so it is looked at when the sidecar starts, and every few minutes. Sessions refresh what
//! is known besides.
//!
//! A client that comes before the first look is over waits for it. One that comes while the upstream has never been reached
//! is told so: a version is never made up.

use std::{sync::Arc, time::Duration};

use protocols::mysql::Mysql;
use tokio::{sync::oneshot, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{backoff::Backoff, chain::Chain, metrics::ProbeMetrics, session::Door};

/// An upgrade is noticed by the first session after it in any case.
const EVERY: Duration = Duration::from_secs(5 * 60);
/// Nobody is let in as long as this goes on.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));

/// Looks at the upstream until told to stop. `first` is dropped when the first look is over, however it went.
pub(crate) async fn keep_known(
    door: Arc<Door<Mysql>>,
    metrics: ProbeMetrics,
    first: oneshot::Sender<()>,
    stop: CancellationToken,
) {
    let mut first = Some(first);
    let mut backoff = BACKOFF;
    let mut version = None;
    loop {
        let endpoint = door.upstream.bare();
        let looked = tokio::select! {
            looked = door.protocol.probe(&endpoint) => looked,
            () = stop.cancelled() => return,
        };
        let wait = match looked {
            Ok(facts) => {
                metrics.seen.inc();
                if version.replace(facts.version.clone()).as_ref() != Some(&facts.version) {
                    info!(target = %door.target.name, version = facts.version, "the upstream is known");
                }
                backoff = BACKOFF;
                EVERY
            }
            Err(error) => {
                metrics.failed.inc();
                let known = door.protocol.greeting().facts().is_some();
                warn!(target = %door.target.name, error = %Chain(&error), known, "the upstream cannot be looked at");
                if known { EVERY } else { backoff.next() }
            }
        };
        drop(first.take());
        tokio::select! {
            () = sleep(wait) => {}
            () = stop.cancelled() => return,
        }
    }
}
