//! Logging in: the password, then the second factor, then certificates.

use std::{net::IpAddr, time::Duration};

use auth::{identity::UserName, proto};
use http::HeaderValue;
use serde_json::json;
use zeroize::Zeroizing;

use crate::{
    audit,
    challenge::{Challenge, Scope},
    cluster::Cluster,
    error::Refused,
    issue::LoginKeys,
    mfa::{self, Answer, Proof},
    secret,
    users::Door,
};

/// A login whose challenge is spent.
struct Attempt {
    /// `None`: the passkey will say.
    user: Option<UserName>,
    challenge: Challenge,
}

impl Cluster {
    /// The first step. An unknown user and a wrong password take the same path, with the same work.
    pub(crate) async fn begin_login(
        &self,
        request: proto::BeginLoginRequest,
        client: IpAddr,
    ) -> Result<proto::MfaChallenge, Refused> {
        let password = Zeroizing::new(request.password);
        let Ok(user) = UserName::new(request.user) else {
            // No such name can exist; spend the time all the same.
            let turn = self.passwords.turn(self.passwords.place(client)?).await?;
            self.passwords.verify(turn, password, None).await?;
            return Err(Refused::Credentials);
        };
        match self.check_password(&user, password, client).await {
            Ok(()) => {}
            Err(refused) => return Err(self.login_failed(&user, client, refused).await?),
        }
        // Only who knows the password is told more.
        match self.standing(&user, None).await {
            Ok(_) => self.create_challenge(&user, Scope::Login).await,
            Err(refused) => Err(self.login_failed(&user, client, refused).await?),
        }
    }

    async fn check_password(
        &self,
        user: &UserName,
        password: Zeroizing<String>,
        client: IpAddr,
    ) -> Result<(), Refused> {
        // First: who finds no room has not tried, so that a crowd at the door locks nobody out; and nobody has a failure
        // written down for less than what judging it takes.
        let turn = self.passwords.turn(self.passwords.place(client)?).await?;
        self.count_attempt(user, Door::Login).await?;
        let hash = self.account(user).await?.and_then(|account| account.value.password);
        if !self.passwords.verify(turn, password, hash).await? {
            return Err(Refused::Credentials);
        }
        self.forgive_attempt(user, Door::Login).await
    }

    /// Who is logged in and has no device yet proves by the password that it is they: a login certificate alone may be
    /// stolen. Guesses are counted and recorded with those of logins, since they are guesses of the same password.
    pub(crate) async fn prove_by_password(
        &self,
        user: &UserName,
        password: Zeroizing<String>,
        client: IpAddr,
    ) -> Result<(), Refused> {
        if password.is_empty() {
            return Err(Refused::PasswordNeeded);
        }
        match self.check_password(user, password, client).await {
            Ok(()) => Ok(()),
            Err(refused) => Err(self.login_failed(user, client, refused).await?),
        }
    }

    /// The second step: spends the challenge, and gives certificates of up to twelve hours.
    pub(crate) async fn finish_login(
        &self,
        request: proto::FinishLoginRequest,
        client: IpAddr,
    ) -> Result<proto::LoginCertificates, Refused> {
        let attempt = self.spend_login(&request.challenge_id).await?;
        let keys = LoginKeys::from_request(&request)?;
        let life = Some(Duration::from_secs(request.ttl_seconds.into())).filter(|ttl| !ttl.is_zero());
        let (user, proof) = self.judge_login(&attempt, request.mfa, client).await?;
        let certificates = self.issue_login(&user, &keys, life, &proof, client).await;
        self.record_login(&user, &attempt, &proof, certificates, client).await
    }

    /// As [`finish_login`](Self::finish_login), in a browser: gives a session, whose cookie this is, and no certificate.
    pub(crate) async fn finish_browser_login(
        &self,
        challenge_id: &str,
        response: Option<proto::MfaResponse>,
        client: IpAddr,
    ) -> Result<(UserName, HeaderValue), Refused> {
        let attempt = self.spend_login(challenge_id).await?;
        let (user, proof) = self.judge_login(&attempt, response, client).await?;
        let cookie = self.open_session(&user, &proof, client).await;
        let cookie = self.record_login(&user, &attempt, &proof, cookie, client).await?;
        Ok((user, cookie))
    }

    /// Spends a challenge of a login, of either kind.
    async fn spend_login(&self, challenge_id: &str) -> Result<Attempt, Refused> {
        if let Some(challenge) = self.spend_passwordless(challenge_id) {
            return Ok(Attempt { user: None, challenge: challenge? });
        }
        let (user, _) = secret::parse_owned_id(challenge_id).ok_or(Refused::Challenge)?;
        let challenge = self.spend_challenge(&user, challenge_id).await?;
        match challenge.scope {
            Scope::Login => Ok(Attempt { user: Some(user), challenge }),
            _ => Err(Refused::Challenge),
        }
    }

    /// Judges the answer; a failure is recorded, unless nobody can be named for it: strangers could fill the audit trail.
    async fn judge_login(
        &self,
        attempt: &Attempt,
        response: Option<proto::MfaResponse>,
        client: IpAddr,
    ) -> Result<(UserName, Proof), Refused> {
        let answer = Answer::from_proto(response)?;
        let user = match (&attempt.user, &answer) {
            (Some(user), _) => user.clone(),
            (None, Answer::Webauthn(credential)) => self.passkey_owner(credential).await?.0,
            (None, Answer::Nothing | Answer::Totp(_)) => return Err(Refused::Credentials),
        };
        match self.judge_answer(&user, &attempt.challenge, &answer).await {
            Ok(proof) => Ok((user, proof)),
            Err(refused) => Err(self.login_failed(&user, client, refused).await?),
        }
    }

    /// Records how it ended, whatever it was that was to be given.
    async fn record_login<T>(
        &self,
        user: &UserName,
        attempt: &Attempt,
        proof: &Proof,
        given: Result<T, Refused>,
        client: IpAddr,
    ) -> Result<T, Refused> {
        match given {
            Ok(given) => {
                self.login_succeeded(user, client, &attempt.challenge.scope, proof).await?;
                Ok(given)
            }
            Err(refused) => Err(self.record_failure(user, client, refused).await?),
        }
    }

    async fn login_succeeded(
        &self,
        user: &UserName,
        client: IpAddr,
        scope: &Scope,
        proof: &Proof,
    ) -> Result<(), Refused> {
        let passwordless = matches!(scope, Scope::PasswordlessLogin);
        let mut event = json!({
            "event": "user.login", "code": "T1000I", "method": "local", "success": true,
            "user": user, "addr.remote": client, "passwordless": passwordless,
        });
        if let Some(device) = proof.device() {
            audit::set(&mut event, "mfa_device", mfa::audit_fields(device));
        }
        Ok(self.audit.emit(event).await?)
    }

    /// As [`record_failure`](Self::record_failure), of what was judged.
    async fn login_failed(
        &self,
        user: &UserName,
        client: IpAddr,
        refused: Refused,
    ) -> Result<Refused, Refused> {
        if refused.is_unjudged() {
            return Ok(refused);
        }
        self.record_failure(user, client, refused).await
    }

    /// Records a failed login; what is returned is what the caller is told.
    async fn record_failure(
        &self,
        user: &UserName,
        client: IpAddr,
        refused: Refused,
    ) -> Result<Refused, Refused> {
        let event = json!({
            "event": "user.login", "code": "T1000W", "method": "local", "success": false,
            "user": user, "addr.remote": client, "error": refused.to_string(),
        });
        self.audit.emit(event).await?;
        // The failure that fills the measure, told apart by the count that it leaves.
        if matches!(refused, Refused::Credentials) && self.is_locked_out(user).await? {
            let event = json!({
                "event": "user.login", "code": "T1001W", "method": "local", "success": false,
                "user": user, "addr.remote": client, "error": "locked out after failed attempts",
            });
            self.audit.emit(event).await?;
        }
        Ok(refused)
    }
}

#[cfg(test)]
mod tests;
