//! What is put on record about a session: who, and how it ended.

use auth::{identity::DeviceId, permit::Permit};
use protocols::{End, RelayError, RelayFault, Transferred};

use crate::{audit::Ending, metrics::TargetMetrics};

/// Who an event is about.
pub(super) struct Whom {
    pub(super) user: Option<String>,
    pub(super) device: Option<DeviceId>,
}

impl Whom {
    pub(super) fn of(permit: &Permit) -> Self {
        Self { user: Some(permit.identity().user.to_string()), device: permit.mfa_device() }
    }
}

pub(super) fn ending(outcome: &Result<Transferred, RelayError>, closed: Option<&'static str>) -> Ending {
    let by_itself = match outcome {
        Ok(transferred) => !matches!(transferred.end, End::Refused(_)),
        Err(error) => !matches!(error.fault, RelayFault::ClientOverdue(_) | RelayFault::UpstreamOverdue(_)),
    };
    let (transferred, reason) = match outcome {
        Ok(transferred) => {
            let reason = match transferred.end {
                End::Client => "client_closed",
                End::Upstream => "upstream_closed",
                End::Refused(_) => closed.unwrap_or("refused"),
            };
            (*transferred, reason)
        }
        Err(error) => {
            let reason = match error.fault {
                RelayFault::Client(_) => "client_failed",
                RelayFault::Upstream(_) => "upstream_failed",
                RelayFault::ClientOverdue(_) => "client_overdue",
                RelayFault::UpstreamOverdue(_) => "upstream_overdue",
                RelayFault::Malformed(_) => "malformed",
                RelayFault::TapClosed => "audit_failed",
            };
            (error.transferred, reason)
        }
    };
    let Transferred { from_client, from_upstream, .. } = transferred;
    Ending { reason, by_itself, bytes_from_client: from_client, bytes_from_upstream: from_upstream }
}

/// Counts a live session for as long as it lives, a panic included.
pub(super) struct Active<'a>(&'a TargetMetrics);

impl<'a> Active<'a> {
    pub(super) fn new(metrics: &'a TargetMetrics) -> Self {
        metrics.started.inc();
        metrics.active.inc();
        Self(metrics)
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.active.dec();
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_side_that_kept_us_waiting_was_left_by_us() {
        let late = || io::Error::from(io::ErrorKind::TimedOut);
        for (fault, reason, by_itself) in [
            (RelayFault::ClientOverdue(late()), "client_overdue", false),
            (RelayFault::UpstreamOverdue(late()), "upstream_overdue", false),
            (RelayFault::Client(late()), "client_failed", true),
        ] {
            let ending = ending(&Err(RelayError { transferred: Transferred::default(), fault }), None);
            assert_eq!((ending.reason, ending.by_itself), (reason, by_itself));
        }
    }
}
