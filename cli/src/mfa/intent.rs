//! What a touch is for. authd writes the intent and the key signs its hash; so before anybody touches, tsh checks that the
//! intent says what was asked for, all of it and nothing else, and that the challenge is its hash, under the domain of what
//! was asked for. Otherwise whoever holds authd could ask for a touch at login and make the receipt of a session of it.

use auth::{
    identity::{ClusterName, UserName},
    proto::{AccountIntent, AdminIntent, MfaChallenge, Route, SessionIntent, account_intent},
    receipt::{self, Purpose},
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
    /// What the touch shall be for.
    pub reason: Reason<'a>,
}

/// What a touch shall be for.
#[derive(Clone, Copy, Debug)]
pub enum Reason<'a> {
    /// Finishing a login.
    Login,
    /// Adding or removing a device.
    ManageDevices,
    /// One session.
    Session {
        /// Its target and login.
        route: &'a Route,
        /// SubjectPublicKeyInfo of the key made for it.
        public_key: &'a [u8],
    },
    /// One command of an administrator.
    AdminAction {
        /// What was typed.
        command: &'a str,
        /// Names of all calls that it makes: see [`auth::api::touch::digest`].
        calls: &'a [[u8; 32]],
    },
}

impl Reason<'_> {
    fn purpose(self) -> Purpose {
        match self {
            Self::Login => Purpose::Login,
            Self::ManageDevices => Purpose::ManageDevices,
            Self::Session { .. } => Purpose::Session,
            Self::AdminAction { .. } => Purpose::AdminAction,
        }
    }
}

/// A challenge that may be answered: it was found to be for what was asked for.
#[derive(Debug)]
pub struct Challenge {
    id: String,
    none_required: bool,
    totp: bool,
    options: Option<RequestChallengeResponse>,
    expected: [u8; 32],
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
    /// It is for something else than was asked for.
    #[error("the touch would be for {named}, not {asked}")]
    Purpose {
        /// What it is for.
        named: &'static str,
        /// What was asked for.
        asked: &'static str,
    },
    /// It names another target, protocol or login.
    #[error("the touch would be for {named}, not {asked}")]
    Route {
        /// What it names.
        named: String,
        /// What was asked for.
        asked: String,
    },
    /// It is for another command.
    #[error("the touch would be for the command {named:?}, not {asked:?}")]
    Command {
        /// What it names.
        named: String,
        /// What was typed.
        asked: String,
    },
    /// It allows other calls than the command makes.
    #[error("the touch would be for other requests than those of this command")]
    Calls,
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

impl Challenge {
    /// Checks what the auth service would have signed.
    ///
    /// # Errors
    /// [`IntentError`]: nobody may touch a key for this challenge.
    pub fn checked(challenge: MfaChallenge, asked: &Asked<'_>) -> Result<Self, IntentError> {
        let Asked { cluster, user, reason } = *asked;
        let who = (cluster, user.as_str());
        let intent = &challenge.intent;
        match reason {
            Reason::Login => check_account(intent, who, account_intent::Purpose::Login)?,
            Reason::ManageDevices => check_account(intent, who, account_intent::Purpose::ManageDevices)?,
            Reason::Session { route, public_key } => check_session(intent, who, route, public_key)?,
            Reason::AdminAction { command, calls } => check_command(intent, who, command, calls)?,
        }
        Self::over(challenge, reason.purpose())
    }

    /// As [`checked`](Self::checked), of a login in which the key says who is there.
    ///
    /// # Errors
    /// [`IntentError`]
    pub fn checked_passwordless(challenge: MfaChallenge, cluster: &ClusterName) -> Result<Self, IntentError> {
        check_account(&challenge.intent, (cluster, ""), account_intent::Purpose::PasswordlessLogin)?;
        Self::over(challenge, Purpose::PasswordlessLogin)
    }

    /// What would be signed is the hash of this intent, under the domain of its purpose.
    fn over(challenge: MfaChallenge, purpose: Purpose) -> Result<Self, IntentError> {
        let MfaChallenge { challenge_id, webauthn_request_options_json, totp, none_required, intent, .. } =
            challenge;
        let options = options(&webauthn_request_options_json)?;
        let expected = receipt::challenge(purpose, &intent);
        if options.as_ref().is_some_and(|options| options.public_key.challenge != expected) {
            return Err(IntentError::Challenge);
        }
        Ok(Self { id: challenge_id, none_required, totp, options, expected })
    }

    /// What the answer is sent with.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What the answer is sent with.
    #[must_use]
    pub fn into_id(self) -> String {
        self.id
    }

    /// True where no second factor is asked for.
    #[must_use]
    pub fn none_required(&self) -> bool {
        self.none_required
    }

    /// True where a code is accepted.
    #[must_use]
    pub fn accepts_code(&self) -> bool {
        self.totp
    }

    /// What a security key signs: the hash of the intent.
    #[must_use]
    pub fn expected(&self) -> &[u8; 32] {
        &self.expected
    }

    /// What a security key is asked; `None` where none is accepted.
    #[must_use]
    pub fn options(&self) -> Option<&RequestChallengeResponse> {
        self.options.as_ref()
    }
}

fn options(json: &str) -> Result<Option<RequestChallengeResponse>, IntentError> {
    if json.is_empty() {
        return Ok(None);
    }
    serde_json::from_str(json).map(Some).map_err(|_| IntentError::Options)
}

/// What this version does not know, or what is said twice, would be signed unread.
fn decoded<M: Message + Default>(bytes: &[u8]) -> Result<M, IntentError> {
    if bytes.is_empty() {
        return Err(IntentError::Missing);
    }
    let intent = M::decode(bytes).map_err(|_| IntentError::Unreadable)?;
    if intent.encode_to_vec() == bytes { Ok(intent) } else { Err(IntentError::Unreadable) }
}

/// Cluster and user that an intent must name.
type Who<'a> = (&'a ClusterName, &'a str);

fn check_account(bytes: &[u8], who: Who<'_>, purpose: account_intent::Purpose) -> Result<(), IntentError> {
    let intent: AccountIntent = decoded(bytes)?;
    check_who(&intent.cluster, &intent.user, who)?;
    if intent.purpose != i32::from(purpose) {
        return Err(IntentError::Purpose { named: words(intent.purpose()), asked: words(purpose) });
    }
    Ok(())
}

fn check_session(bytes: &[u8], who: Who<'_>, route: &Route, public_key: &[u8]) -> Result<(), IntentError> {
    let intent: SessionIntent = decoded(bytes)?;
    check_who(&intent.cluster, &intent.user, who)?;
    if intent.route.as_ref() != Some(route) {
        let named = intent.route.as_ref().map_or_else(|| "nothing".to_owned(), described);
        return Err(IntentError::Route { named, asked: described(route) });
    }
    if intent.public_key_sha256 != digest(&SHA256, public_key).as_ref() {
        return Err(IntentError::Key);
    }
    Ok(())
}

fn check_command(bytes: &[u8], who: Who<'_>, command: &str, calls: &[[u8; 32]]) -> Result<(), IntentError> {
    let intent: AdminIntent = decoded(bytes)?;
    check_who(&intent.cluster, &intent.user, who)?;
    if intent.command != command {
        return Err(IntentError::Command { named: intent.command, asked: command.to_owned() });
    }
    // Neither others, nor more, nor one of them twice.
    if intent.request_sha256 != calls { Err(IntentError::Calls) } else { Ok(()) }
}

fn check_who(named_cluster: &str, named_user: &str, (cluster, user): Who<'_>) -> Result<(), IntentError> {
    if named_cluster != cluster.as_str() {
        return Err(IntentError::Cluster { named: named_cluster.to_owned(), asked: cluster.to_string() });
    }
    if named_user != user {
        return Err(IntentError::User { named: named_user.to_owned(), asked: user.to_owned() });
    }
    Ok(())
}

fn words(purpose: account_intent::Purpose) -> &'static str {
    match purpose {
        account_intent::Purpose::Unspecified => "nothing known",
        account_intent::Purpose::Login => "a login",
        account_intent::Purpose::ManageDevices => "a change of MFA devices",
        account_intent::Purpose::PasswordlessLogin => "a passwordless login",
    }
}

fn described(route: &Route) -> String {
    let Route { target_kind, target_name, protocol, login, db_name } = route;
    format!("{protocol:?} {target_kind:?} {target_name:?} as {login:?} in {db_name:?}")
}

#[cfg(test)]
mod tests;
