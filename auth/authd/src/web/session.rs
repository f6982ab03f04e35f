//! Sessions of browsers: a random secret in a cookie that no script can read, its hash in the store.
//!
//! A session is over after ten minutes without a call, when the login would be over, when the account is reset or
//! recovered, or the user locked. It opens the pages of one's own account and nothing else: it is worth no certificate.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use auth::identity::{DeviceId, UserName};
use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderValue, header, request::Parts},
};
use serde::{Deserialize, Serialize};

use super::wire::Failure;
use crate::{
    access::LockSubject,
    api::caller,
    cluster::Cluster,
    error::Refused,
    issue::MAX_LOGIN,
    keys,
    login::Login,
    mfa::Device,
    secret,
    store::{self, Condition, Op, StoreError, Stored},
};

/// `__Host-`: only over TLS, only for this very host, for all of its paths (RFC 6265bis 4.1.3.2).
const COOKIE: &str = "__Host-touchstone";
const ATTRIBUTES: &str = "Path=/; Secure; HttpOnly; SameSite=Strict";
/// Without a call for so long, a session is over.
const IDLE: Duration = Duration::from_secs(10 * 60);
/// Its use is written down at most so often.
const REMEMBERED: Duration = Duration::from_secs(30);
/// Sessions that a user may have at a time.
const MAX_OPEN: usize = 32;

/// A session as it is stored, under its user and the hash of its secret.
#[derive(Serialize, Deserialize)]
struct SessionRecord {
    made: SystemTime,
    used: SystemTime,
    /// At the latest.
    ends: SystemTime,
    address: IpAddr,
    device: Option<DeviceId>,
}

/// Somebody with a session.
pub(super) struct SignedIn {
    pub(super) user: UserName,
    pub(super) address: IpAddr,
}

impl FromRequestParts<Arc<Cluster>> for SignedIn {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, cluster: &Arc<Cluster>) -> Result<Self, Failure> {
        let address = caller::address(cluster, &parts.extensions)?;
        let (user, secret) = cookie(&parts.headers).ok_or(Refused::SignedOut)?;
        Ok(cluster.signed_in(user, &secret, address).await?)
    }
}

/// The address of whoever calls.
pub(super) struct Client(pub(super) IpAddr);

impl FromRequestParts<Arc<Cluster>> for Client {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, cluster: &Arc<Cluster>) -> Result<Self, Failure> {
        Ok(Self(caller::address(cluster, &parts.extensions)?))
    }
}

/// Whose session, and its secret. Two cookies of the name: one was planted, none counts.
fn cookie(headers: &HeaderMap) -> Option<(UserName, String)> {
    let pairs = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut ours = pairs
        .flat_map(|pairs| pairs.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(name, _)| *name == COOKIE);
    let (_, value) = ours.next().filter(|_| ours.next().is_none())?;
    let (user, secret) = secret::parse_owned_id(value)?;
    Some((user, secret.to_owned()))
}

/// The header that gives a browser its session.
fn set_cookie(value: &str) -> Result<HeaderValue, Refused> {
    HeaderValue::try_from(format!("{COOKIE}={value}; {ATTRIBUTES}")).map_err(|_| Refused::Internal("cookie"))
}

/// The header that takes it away.
pub(super) fn no_cookie() -> Result<HeaderValue, Refused> {
    HeaderValue::try_from(format!("{COOKIE}=; {ATTRIBUTES}; Max-Age=0"))
        .map_err(|_| Refused::Internal("cookie"))
}

impl Cluster {
    /// Opens a session for somebody who has just logged in; answers with its cookie.
    pub(crate) async fn open_session(&self, login: &Login, address: IpAddr) -> Result<HeaderValue, Refused> {
        let user = &login.user;
        let standing = self.standing(user, None).await?;
        let account = self.account(user).await?;
        let account =
            account.filter(|account| account.value.since == login.since).ok_or(Refused::Challenge)?;
        let device = login.proof.device().map(Device::id);
        let subject = LockSubject { device, ..LockSubject::default() };
        self.refuse_locked(user, &standing.roles, subject).await?;
        if self.store.range(&[keys::web_sessions(user)]).await?.items.len() >= MAX_OPEN {
            return Err(Refused::TooMany("sessions"));
        }
        let now = self.clock.now();
        let ends = standing.at_most(now + standing.role_set.options().max_session_ttl.min(MAX_LOGIN));
        let record = SessionRecord { made: now, used: now, ends, address, device };
        let secret = secret::generate()?;
        let until = Some(ends.min(now + IDLE));
        let op = Op::put_until(keys::web_session(user, &secret), Condition::Absent, &record, until)?;
        // The race: the account is reset or recovered before the session is there. It would not be among those that end.
        let unchanged = Op::check(keys::account(user), account.unchanged());
        match self.store.commit(vec![unchanged, op]).await {
            Ok(_) => {}
            Err(StoreError::Conflict { .. }) => return Err(Refused::Changed("the account")),
            Err(other) => return Err(other.into()),
        }
        set_cookie(&secret::owned_id(user, &secret))
    }

    /// Whose session it is, if it still is one. What a login certificate is asked at each call, a session is asked too.
    async fn signed_in(&self, user: UserName, secret: &str, address: IpAddr) -> Result<SignedIn, Refused> {
        let key = keys::web_session(&user, secret);
        let stored: Option<Stored<SessionRecord>> = store::read(&*self.store, &key).await?;
        let stored = stored.ok_or(Refused::SignedOut)?;
        let session = &stored.value;
        let account = self.account(&user).await?.ok_or(Refused::SignedOut)?;
        if session.made < account.value.since {
            return Err(Refused::SignedOut);
        }
        let standing = self.standing(&user, None).await?;
        let subject = LockSubject { device: session.device, ..LockSubject::default() };
        self.refuse_locked(&user, &standing.roles, subject).await?;
        if standing.role_set.options().pin_source_ip && session.address != address {
            return Err(Refused::OtherAddress);
        }
        self.remember_use(&key, stored).await?;
        Ok(SignedIn { user, address })
    }

    async fn remember_use(&self, key: &str, stored: Stored<SessionRecord>) -> Result<(), Refused> {
        let now = self.clock.now();
        if now < stored.value.used + REMEMBERED {
            return Ok(());
        }
        let until = Some(stored.value.ends.min(now + IDLE));
        let condition = stored.unchanged();
        let record = SessionRecord { used: now, ..stored.value };
        let op = Op::put_until(key.to_owned(), condition, &record, until)?;
        match self.store.commit(vec![op]).await {
            // The race: another call of the same session wrote it down first, or the session was ended, which stands.
            Ok(_) | Err(StoreError::Conflict { .. }) => Ok(()),
            Err(other) => Err(other.into()),
        }
    }

    /// Ends one session.
    pub(super) async fn close_session(&self, headers: &HeaderMap) -> Result<(), Refused> {
        if let Some((user, secret)) = cookie(headers) {
            let key = keys::web_session(&user, &secret);
            self.store.commit(vec![Op::delete(key, Condition::Any)]).await?;
        }
        Ok(())
    }

    /// The operations that end all sessions of a user.
    pub(crate) async fn end_sessions_ops(&self, user: &UserName) -> Result<Vec<Op>, Refused> {
        let sessions = self.store.range(&[keys::web_sessions(user)]).await?.items.into_iter();
        Ok(sessions.map(|item| Op::delete(item.key, Condition::Any)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (header::COOKIE, value.parse().unwrap())).collect()
    }

    #[test]
    fn a_cookie_counts_once_and_whole() {
        let secret = "0123456789abcdef0123456789abcdef";
        let good = format!("{COOKIE}={}.{secret}", hex::encode("jerry"));
        let (user, found) = cookie(&headers(&[&format!("a=b; {good}; c=d")])).unwrap();
        assert_eq!((user.as_str(), found.as_str()), ("jerry", secret));
        assert!(cookie(&headers(&[&good, &good])).is_none());
        assert!(cookie(&headers(&[&format!("{good}; {good}")])).is_none());
        for bad in
            ["", "__Host-touchstone=", "__Host-touchstone=6a.short", &good.replace("__Host-", "__host-")]
        {
            assert!(cookie(&headers(&[bad])).is_none(), "{bad}");
        }
    }
}
