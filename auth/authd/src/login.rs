//! Logging in: the password, then the second factor, then certificates.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

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

/// A login whose every factor was right.
pub(crate) struct Login {
    pub(crate) user: UserName,
    pub(crate) proof: Proof,
    /// Since when the account is as it was when the first of them was judged.
    pub(crate) since: SystemTime,
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
        let since = match self.check_password(&user, password, client).await {
            Ok(since) => since,
            Err(refused) => return Err(self.login_failed(&user, client, refused).await?),
        };
        // Only who knows the password is told more.
        match self.standing(&user, None).await {
            Ok(_) => self.create_login_challenge(&user, since).await,
            Err(refused) => Err(self.login_failed(&user, client, refused).await?),
        }
    }

    /// Answers with since when the account is as it was when this was its password.
    async fn check_password(
        &self,
        user: &UserName,
        password: Zeroizing<String>,
        client: IpAddr,
    ) -> Result<SystemTime, Refused> {
        // First: who finds no room has not tried, so that a crowd at the door locks nobody out; and nobody has a failure
        // written down for less than what judging it takes.
        let turn = self.passwords.turn(self.passwords.place(client)?).await?;
        self.count_attempt(user, Door::Login).await?;
        let account = self.account(user).await?.map(|stored| stored.value);
        let hash = account.as_ref().and_then(|account| account.password.clone());
        let right = self.passwords.verify(turn, password, hash).await?;
        let account = account.filter(|_| right).ok_or(Refused::Credentials)?;
        self.forgive_attempt(user, Door::Login).await?;
        Ok(account.since)
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
            Ok(_) => Ok(()),
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
        let login = self.judge_login(&attempt, request.mfa, client).await?;
        let certificates = self.issue_login(&login, &keys, life, client).await;
        self.record_login(&login, &attempt, certificates, client).await
    }

    /// As [`finish_login`](Self::finish_login), in a browser: gives a session, whose cookie this is, and no certificate.
    pub(crate) async fn finish_browser_login(
        &self,
        challenge_id: &str,
        response: Option<proto::MfaResponse>,
        client: IpAddr,
    ) -> Result<(UserName, HeaderValue), Refused> {
        let attempt = self.spend_login(challenge_id).await?;
        let login = self.judge_login(&attempt, response, client).await?;
        let cookie = self.open_session(&login, client).await;
        let cookie = self.record_login(&login, &attempt, cookie, client).await?;
        Ok((login.user, cookie))
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
    ) -> Result<Login, Refused> {
        let answer = Answer::from_proto(response)?;
        let user = match (&attempt.user, &answer) {
            (Some(user), _) => user.clone(),
            (None, Answer::Webauthn(credential)) => self.passkey_owner(credential).await?.0,
            (None, Answer::Nothing | Answer::Totp(_)) => return Err(Refused::Credentials),
        };
        let since = match (&attempt.user, attempt.challenge.since) {
            (Some(_), since) => since.ok_or(Refused::Challenge)?,
            // Before its one factor is judged.
            (None, _) => self.account(&user).await?.ok_or(Refused::Credentials)?.value.since,
        };
        match self.judge_answer(&user, &attempt.challenge, &answer).await {
            Ok(proof) => Ok(Login { user, proof, since }),
            Err(refused) => Err(self.login_failed(&user, client, refused).await?),
        }
    }

    /// Records how it ended, whatever it was that was to be given.
    async fn record_login<T>(
        &self,
        Login { user, proof, .. }: &Login,
        attempt: &Attempt,
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
