//! What a touch is for. authd writes the intent and the key signs its hash; so before anybody touches, tsh checks that the
//! intent says what was asked for, all of it and nothing else, and that the challenge is its hash.

use auth::{
    identity::{ClusterName, UserName},
    proto::{MfaChallenge, Route, SessionIntent},
    receipt,
};
use aws_lc_rs::digest::{SHA256, digest};
use prost::Message;
use webauthn_rs_proto::RequestChallengeResponse;

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The cluster of the login.
    pub cluster: &'a ClusterName,
    /// The user of the login.
    pub user: &'a UserName,
    /// The session.
    pub route: &'a Route,
    /// SubjectPublicKeyInfo of the key made for it.
    pub public_key: &'a [u8],
}

/// Why a challenge must not be answered: the auth service asks for a signature over something else.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum IntentError {
    /// There is none.
    #[error("the auth service does not say what the touch would be for")]
    Missing,
    /// It cannot be read, or holds more than this version understands.
    #[error("the auth service says what the touch would be for in words that this tsh does not understand")]
    Unreadable,
    /// It names another cluster.
    #[error("the touch would be for cluster {named:?}, not {asked:?}")]
    Cluster {
        /// What it names.
        named: String,
        /// What was asked for.
        asked: String,
    },
    /// It names another user.
    #[error("the touch would be for user {named:?}, not {asked:?}")]
    User {
        /// What it names.
        named: String,
        /// What was asked for.
        asked: String,
    },
    /// It names another target, protocol or login.
    #[error("the touch would be for {named}, not {asked}")]
    Route {
        /// What it names.
        named: String,
        /// What was asked for.
        asked: String,
    },
    /// It names another key than the one made for this session.
    #[error("the touch would be for somebody else's key")]
    Key,
    /// The options cannot be read.
    #[error("the auth service sent a challenge that cannot be read")]
    Options,
    /// The challenge to sign is not the hash of the intent.
    #[error("the touch would be for something else than the auth service says")]
    Challenge,
}

/// Checks the challenge of a session.
///
/// # Errors
/// [`IntentError`]: nobody may touch a key for this challenge.
pub fn check(challenge: &MfaChallenge, asked: &Asked<'_>) -> Result<(), IntentError> {
    if challenge.intent.is_empty() {
        return Err(IntentError::Missing);
    }
    let intent = SessionIntent::decode(challenge.intent.as_slice()).map_err(|_| IntentError::Unreadable)?;
    // What this version does not know, or what is said twice, would be signed unread.
    if intent.encode_to_vec() != challenge.intent {
        return Err(IntentError::Unreadable);
    }
    says_what_was_asked(&intent, asked)?;
    is_what_would_be_signed(challenge)
}

fn says_what_was_asked(intent: &SessionIntent, asked: &Asked<'_>) -> Result<(), IntentError> {
    if intent.cluster != asked.cluster.as_str() {
        return Err(IntentError::Cluster { named: intent.cluster.clone(), asked: asked.cluster.to_string() });
    }
    if intent.user != asked.user.as_str() {
        return Err(IntentError::User { named: intent.user.clone(), asked: asked.user.to_string() });
    }
    if intent.route.as_ref() != Some(asked.route) {
        let named = intent.route.as_ref().map_or_else(|| "nothing".to_owned(), described);
        return Err(IntentError::Route { named, asked: described(asked.route) });
    }
    if intent.public_key_sha256 != digest(&SHA256, asked.public_key).as_ref() {
        return Err(IntentError::Key);
    }
    Ok(())
}

fn is_what_would_be_signed(challenge: &MfaChallenge) -> Result<(), IntentError> {
    if challenge.webauthn_request_options_json.is_empty() {
        return Ok(());
    }
    let options: RequestChallengeResponse =
        serde_json::from_str(&challenge.webauthn_request_options_json).map_err(|_| IntentError::Options)?;
    if options.public_key.challenge != receipt::challenge(&challenge.intent) {
        return Err(IntentError::Challenge);
    }
    Ok(())
}

fn described(route: &Route) -> String {
    let Route { target_kind, target_name, protocol, login, db_name } = route;
    format!("{protocol} {target_kind} {target_name:?} as {login:?} in {db_name:?}")
}

#[cfg(test)]
mod tests;
