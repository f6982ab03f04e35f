//! Logging in: the password, then the second factor, then certificates.

use std::{net::IpAddr, time::Duration};

use auth::{identity::UserName, proto};
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
            self.passwords.verify(self.passwords.place(client)?, password, None).await?;
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
        // First: who finds no room has not tried, so that a crowd at the door locks nobody out.
        let place = self.passwords.place(client)?;
        self.count_attempt(user, Door::Login).await?;
        let hash = self.account(user).await?.and_then(|account| account.value.password);
        if !self.passwords.verify(place, password, hash).await? {
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
        if let Some(challenge) = self.spend_passwordless(&request.challenge_id) {
            return self.finish_passwordless_login(&challenge?, request, client).await;
        }
        let (user, _) = secret::parse_owned_id(&request.challenge_id).ok_or(Refused::Challenge)?;
        let challenge = self.spend_challenge(&user, &request.challenge_id).await?;
        if !matches!(challenge.scope, Scope::Login) {
            return Err(Refused::Challenge);
        }
        let keys = LoginKeys::from_request(&request)?;
        let answer = Answer::from_proto(request.mfa)?;
        let life = Some(Duration::from_secs(request.ttl_seconds.into())).filter(|ttl| !ttl.is_zero());
        self.complete_login(&user, &challenge, answer, &keys, life, client).await
    }

    /// Judges the answer and gives the certificates; either way it is recorded.
    pub(crate) async fn complete_login(
        &self,
        user: &UserName,
        challenge: &Challenge,
        answer: Answer,
        keys: &LoginKeys,
        life: Option<Duration>,
        client: IpAddr,
    ) -> Result<proto::LoginCertificates, Refused> {
        let proof = match self.judge_answer(user, challenge, answer).await {
            Ok(proof) => proof,
            Err(refused) => return Err(self.login_failed(user, client, refused).await?),
        };
        let certificates = match self.issue_login(user, keys, life, &proof, client).await {
            Ok(certificates) => certificates,
            Err(refused) => return Err(self.login_failed(user, client, refused).await?),
        };
        self.login_succeeded(user, client, &challenge.scope, &proof).await?;
        Ok(certificates)
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

    /// Records a failed login; what is returned is what the caller is told.
    async fn login_failed(
        &self,
        user: &UserName,
        client: IpAddr,
        refused: Refused,
    ) -> Result<Refused, Refused> {
        // A closed account can be knocked at for free; recording each knock would let strangers fill the disk.
        if matches!(refused, Refused::LockedOut(_)) {
            return Ok(refused);
        }
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
