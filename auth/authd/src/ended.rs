//! Logins that are over before their certificates are: the user was reset, recovered or deleted.
//!
//! Here the account says so at every call ([`Standing`](crate::access::Standing)). Sidecars know no accounts, and take a login
//! certificate without asking anybody; so they are told, as they are told of locks, and end the sessions too.
//!
//! A certificate says when it was made by when it begins, in whole seconds, [`BACKDATED`]. So that none is taken for one of
//! the other side, there is a gap: the certificates of an account begin no earlier than [`first_beginning`], which no
//! certificate reaches that was made before the change was committed. Only two changes of an account in one second, with a login
//! in between, would share one.

use std::time::{Duration, SystemTime};

use auth::{clock::unix_millis, identity::UserName, proto};
use serde::{Deserialize, Serialize};

use crate::{
    error::Refused,
    issue::BACKDATED,
    keys,
    store::{Condition, Op, StoreError},
};

/// What is being signed while the change is on its way to the disk was asked for by a login from before.
const SETTLING: Duration = Duration::from_secs(5);

// The first certificates after a change must have begun when they are made.
const _: () = assert!(SETTLING.as_secs() + 1 < BACKDATED.as_secs());

/// How long sidecars are told. Certificates from before are over after half a day at most; but a session lives longer than
/// the certificate that opened it, and a sidecar that is cut off from us meanwhile shall hear of it when it comes back.
const TOLD: Duration = Duration::from_secs(7 * 24 * 3600);

/// What sidecars are told of a user.
#[derive(Serialize, Deserialize)]
pub(crate) struct EndedLogins {
    user: UserName,
    at: SystemTime,
    not_before: SystemTime,
}

impl EndedLogins {
    /// The operation that tells of it. It belongs to the commit that changes the account.
    pub(crate) fn op(user: &UserName, at: SystemTime) -> Result<Op, StoreError> {
        let ended = Self { user: user.clone(), at, not_before: first_beginning(at) };
        Op::put_until(keys::ended_logins(user), Condition::Any, &ended, Some(at + TOLD))
    }

    pub(crate) fn to_proto(&self) -> proto::EndedLogins {
        proto::EndedLogins {
            user: self.user.to_string(),
            not_before: unix_millis(self.not_before),
            at: unix_millis(self.at),
        }
    }
}

/// When certificates of an account that is as it is since then begin at the earliest.
pub(crate) fn first_beginning(since: SystemTime) -> SystemTime {
    let settled = since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default() + SETTLING;
    // The next whole second.
    SystemTime::UNIX_EPOCH + Duration::from_secs(settled.as_secs() + 1) - BACKDATED
}

/// Refuses the certificate of a login from before.
pub(crate) fn refuse_ended(since: SystemTime, not_before: SystemTime) -> Result<(), Refused> {
    if not_before < first_beginning(since) { Err(Refused::EndedLogin) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_beginning_is_a_whole_second_that_no_certificate_from_before_reaches() {
        let reset = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_999);
        let first = first_beginning(reset);
        assert_eq!(unix_millis(first) % 1000, 0);
        assert!(reset - BACKDATED < first && reset + SETTLING - BACKDATED < first);
        assert!(first <= reset, "what is made at once has begun");
        assert!(refuse_ended(reset, first).is_ok());
        let before = first - Duration::from_secs(1);
        assert!(matches!(refuse_ended(reset, before), Err(Refused::EndedLogin)));
    }
}
