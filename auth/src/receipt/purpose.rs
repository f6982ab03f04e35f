//! What a touch can be for, and how that gets into the challenge: as a domain before the intent in the hash.

use aws_lc_rs::digest::{SHA256, digest};

/// What a touch is for. Each purpose has a domain of its own, so that what was signed for one is nothing for another, and
/// a challenge of another making can never be taken for one of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Finishing a login.
    Login,
    /// Logging in without name and password.
    PasswordlessLogin,
    /// Adding or removing a device.
    ManageDevices,
    /// One command of an administrator.
    AdminAction,
    /// One session: the only purpose that makes a receipt.
    Session,
}

impl Purpose {
    /// What stands before the intent in the hash. No domain is the beginning of another.
    #[must_use]
    pub const fn domain(self) -> &'static [u8] {
        match self {
            Self::Login => b"touchstone-login-v1",
            Self::PasswordlessLogin => b"touchstone-passwordless-login-v1",
            Self::ManageDevices => b"touchstone-manage-devices-v1",
            Self::AdminAction => b"touchstone-admin-action-v1",
            Self::Session => b"touchstone-session-v1",
        }
    }
}

/// The WebAuthn challenge for an intent: `SHA-256(domain ‖ intent)`. `intent` is the exact bytes that travel.
#[must_use]
pub fn challenge(purpose: Purpose, intent: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, &[purpose.domain(), intent].concat()).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Purpose; 5] = [
        Purpose::Login,
        Purpose::PasswordlessLogin,
        Purpose::ManageDevices,
        Purpose::AdminAction,
        Purpose::Session,
    ];

    #[test]
    fn the_challenge_is_the_hash_of_domain_and_intent() {
        let hash = |text: &[u8]| digest(&SHA256, text).as_ref().to_vec();
        assert_eq!(challenge(Purpose::Login, b"x").to_vec(), hash(b"touchstone-login-v1x"));
        assert_eq!(challenge(Purpose::ManageDevices, b"x").to_vec(), hash(b"touchstone-manage-devices-v1x"));
        assert_eq!(
            challenge(Purpose::PasswordlessLogin, b"x").to_vec(),
            hash(b"touchstone-passwordless-login-v1x")
        );
        assert_eq!(challenge(Purpose::AdminAction, b"x").to_vec(), hash(b"touchstone-admin-action-v1x"));
        assert_eq!(challenge(Purpose::Session, b"x").to_vec(), hash(b"touchstone-session-v1x"));
    }

    #[test]
    fn no_domain_is_the_beginning_of_another() {
        for one in ALL {
            let others = ALL.into_iter().filter(|other| *other != one);
            assert!(others.map(Purpose::domain).all(|other| !other.starts_with(one.domain())), "{one:?}");
        }
    }
}
