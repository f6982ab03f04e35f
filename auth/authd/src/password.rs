//! Passwords: argon2id, at most a few at once, and no telling of unknown users by time.

use std::{
    net::IpAddr,
    sync::{Arc, LazyLock},
};

use argon2::{Argon2, PasswordHasher, PasswordVerifier};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use zeroize::Zeroizing;

use crate::room::{Place, Room};

/// Each computation takes 19 MiB and some 15 ms; more at once would let strangers fill the memory.
const CONCURRENT: usize = 4;
/// Callers that wait for a turn at most; beyond, a login is refused rather than queued.
const WAITING: usize = 256;
/// Those of one address: a flood from one place should not keep everybody else from logging in.
const WAITING_OF_ONE_ADDRESS: usize = 32;

/// The shortest password, in characters.
pub(crate) const MIN_CHARS: usize = 6;
/// The longest, in characters.
pub(crate) const MAX_CHARS: usize = 128;

/// Why a password was neither taken nor judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PasswordError {
    /// Too short or too long.
    #[error("password must be {MIN_CHARS} to {MAX_CHARS} characters long")]
    Length,
    /// Too many are being computed.
    #[error("too many logins at the same time, try again")]
    Busy,
    /// The computation failed (memory), or a stored hash is damaged.
    #[error("password could not be computed")]
    Failed,
}

/// A hash of a password nobody has, verified where there is no user, so that the answer takes as long.
static NOBODY: LazyLock<Option<String>> = LazyLock::new(|| {
    let mut password = [0_u8; 32];
    aws_lc_rs::rand::fill(&mut password).ok()?;
    hash_now(&password).ok()
});

/// The right to one computation, now. Who has it computes it, or gives it back by dropping it.
pub(crate) struct Turn {
    _place: Place,
    _permit: OwnedSemaphorePermit,
}

/// Computes and compares hashes.
#[derive(Clone)]
pub(crate) struct Passwords {
    turns: Arc<Semaphore>,
    queue: Room,
}

impl Default for Passwords {
    fn default() -> Self {
        Self {
            turns: Arc::new(Semaphore::new(CONCURRENT)),
            queue: Room::new(WAITING, WAITING_OF_ONE_ADDRESS),
        }
    }
}

impl Passwords {
    /// The PHC string to store.
    ///
    /// # Errors
    /// [`PasswordError`].
    pub(crate) async fn hash(
        &self,
        place: Place,
        password: Zeroizing<String>,
    ) -> Result<String, PasswordError> {
        if !(MIN_CHARS..=MAX_CHARS).contains(&password.chars().count()) {
            return Err(PasswordError::Length);
        }
        computing(self.turn(place).await?, move || hash_now(password.as_bytes())).await
    }

    /// Room to wait for a turn.
    ///
    /// # Errors
    /// [`PasswordError::Busy`].
    pub(crate) fn place(&self, client: IpAddr) -> Result<Place, PasswordError> {
        self.queue.enter(client).ok_or(PasswordError::Busy)
    }

    /// Waits for its turn. What an attempt costs the store is paid by then: nobody has more attempts counted than they can
    /// have computed.
    ///
    /// # Errors
    /// [`PasswordError::Busy`].
    pub(crate) async fn turn(&self, place: Place) -> Result<Turn, PasswordError> {
        let turns = Arc::clone(&self.turns);
        let permit = turns.acquire_owned().await.map_err(|_| PasswordError::Busy)?;
        Ok(Turn { _place: place, _permit: permit })
    }

    /// Is this the password? With no hash (no such user) the answer is no, after the same work.
    ///
    /// # Errors
    /// [`PasswordError`]. A password of impossible length is just wrong.
    pub(crate) async fn verify(
        &self,
        turn: Turn,
        password: Zeroizing<String>,
        hash: Option<String>,
    ) -> Result<bool, PasswordError> {
        // Longer ones are never set; do not let them cost more.
        let possible = password.len() <= MAX_CHARS * 4;
        computing(turn, move || {
            let known = hash.is_some();
            let hash = hash.or_else(|| NOBODY.clone()).ok_or(PasswordError::Failed)?;
            let candidate: &[u8] = if possible { password.as_bytes() } else { b"" };
            match Argon2::default().verify_password(candidate, hash.as_str()) {
                Ok(()) => Ok(known && possible),
                Err(argon2::password_hash::Error::PasswordInvalid) => Ok(false),
                Err(_) => Err(PasswordError::Failed),
            }
        })
        .await
    }
}

async fn computing<T: Send + 'static>(
    turn: Turn,
    compute: impl FnOnce() -> Result<T, PasswordError> + Send + 'static,
) -> Result<T, PasswordError> {
    let task = tokio::task::spawn_blocking(move || {
        // Held by the computation itself: a caller that hangs up does not free the turn early.
        let _turn = turn;
        compute()
    });
    task.await.map_err(|_| PasswordError::Failed)?
}

fn hash_now(password: &[u8]) -> Result<String, PasswordError> {
    let hash = Argon2::default().hash_password(password).map_err(|_| PasswordError::Failed)?;
    Ok(hash.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Zeroizing<String> {
        Zeroizing::new(text.to_owned())
    }

    fn place(passwords: &Passwords) -> Place {
        passwords.place([127, 0, 0, 1].into()).unwrap()
    }

    async fn turn(passwords: &Passwords) -> Turn {
        passwords.turn(place(passwords)).await.unwrap()
    }

    #[tokio::test]
    async fn only_the_password_itself_is_right() {
        let passwords = Passwords::default();
        let hash = passwords.hash(place(&passwords), secret("correct horse")).await.unwrap();
        assert!(hash.starts_with("$argon2id$"));
        assert!(
            passwords
                .verify(turn(&passwords).await, secret("correct horse"), Some(hash.clone()))
                .await
                .unwrap()
        );
        assert!(
            !passwords.verify(turn(&passwords).await, secret("correct horsf"), Some(hash)).await.unwrap()
        );
    }

    #[tokio::test]
    async fn nobody_has_no_password_not_even_the_empty_one() {
        let passwords = Passwords::default();
        for guess in ["", "password", &"x".repeat(5000)] {
            assert!(!passwords.verify(turn(&passwords).await, secret(guess), None).await.unwrap());
        }
    }

    #[tokio::test]
    async fn short_and_long_passwords_are_refused() {
        let passwords = Passwords::default();
        for bad in ["", "12345", &"ü".repeat(129)] {
            assert_eq!(passwords.hash(place(&passwords), secret(bad)).await, Err(PasswordError::Length));
        }
        assert!(passwords.hash(place(&passwords), secret(&"ü".repeat(128))).await.is_ok());
    }

    #[tokio::test]
    async fn a_damaged_hash_is_an_error_not_a_yes() {
        let passwords = Passwords::default();
        let damaged = Some("$argon2id$".into());
        let verdict = passwords.verify(turn(&passwords).await, secret("password"), damaged).await;
        assert_eq!(verdict, Err(PasswordError::Failed));
    }

    #[test]
    fn one_address_leaves_room_for_others() {
        let passwords = Passwords::default();
        let (one, other) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        let _places: Vec<_> = (0..WAITING_OF_ONE_ADDRESS).map(|_| passwords.place(one).unwrap()).collect();
        assert!(matches!(passwords.place(one), Err(PasswordError::Busy)));
        assert!(passwords.place(other).is_ok());
    }
}
