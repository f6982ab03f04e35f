//! Accounts: what authd keeps about a user beside the resource, and the count of failed attempts.

mod made_up;

use std::time::{Duration, SystemTime};

use auth::identity::UserName;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub(crate) use made_up::MadeUp;

use crate::{
    cluster::Cluster,
    ended::EndedLogins,
    error::Refused,
    keys,
    mfa::DeviceState,
    store::{self, Condition, Op, RACE_ATTEMPTS, StoreError, Stored},
};

/// Failures (passwords, codes, assertions) before an account is closed for a while.
pub(crate) const MAX_FAILURES: u32 = 5;
/// For how long.
pub(crate) const LOCK_OUT: Duration = Duration::from_secs(20 * 60);
/// Failures that are longer ago than this are forgotten.
const FAILURE_MEMORY: Duration = Duration::from_secs(30 * 60);

/// Password and identity of an account. Every change of the set of its devices rewrites it, so that two changes at once
/// cannot both think that they leave a device behind.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Account {
    /// The WebAuthn user handle.
    pub(crate) handle: Uuid,
    /// PHC string; `None` until the invitation is accepted.
    pub(crate) password: Option<String>,
    /// Logins from before are over: when the account was made, or last reset or recovered.
    pub(crate) since: SystemTime,
    /// Hash of the one invitation that is open.
    pub(crate) invitation: Option<String>,
}

impl Account {
    pub(crate) fn new(now: SystemTime) -> Self {
        Self { handle: Uuid::new_v4(), password: None, since: now, invitation: None }
    }
}

/// Where attempts are counted, each by itself. Whoever knows a name can close its login for a while: that is the price of
/// bounding guesses by name, whatever address they come from. It must not also stop those who are logged in, so what is
/// asked of a login certificate has a count of its own, which strangers cannot reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// Password and second factor of a login.
    Login,
    /// The second factor of somebody with a login certificate.
    LoggedIn,
    /// A login with nothing but a passkey. Nobody can guess one, so that strangers who close the other door do not stop
    /// those who have one; what is bounded is how often somebody who knows a credential's id is heard and recorded.
    Passkey,
}

impl Door {
    pub(crate) const ALL: [Self; 3] = [Self::Login, Self::LoggedIn, Self::Passkey];
}

#[derive(Clone, Serialize, Deserialize)]
struct Failures {
    count: u32,
    last: SystemTime,
}

impl Failures {
    /// One more, unless there are too many.
    fn count(&mut self, now: SystemTime) -> Result<(), Refused> {
        if self.count >= MAX_FAILURES {
            let until = self.last + LOCK_OUT;
            if now < until {
                return Err(Refused::LockedOut(until));
            }
            self.count = 0;
        }
        self.count += 1;
        self.last = now;
        Ok(())
    }

    fn put(&self, key: String, condition: Condition) -> Result<Op, StoreError> {
        Op::put_until(key, condition, self, Some(self.last + FAILURE_MEMORY))
    }
}

/// An attempt under way that is allowed, as the count stands. Its verdict is worth nothing before one of these operations is
/// committed along with it: they hold only as long as nobody else's attempt was counted meanwhile, so that attempts at
/// the same time cannot outnumber the limit.
pub(crate) struct Attempt {
    key: String,
    found: Condition,
    counted: Failures,
}

impl Attempt {
    /// It was wrong: it is counted.
    pub(crate) fn failed(self) -> Result<Op, StoreError> {
        self.counted.put(self.key, self.found)
    }

    /// It was right: earlier failures are forgotten.
    pub(crate) fn forgotten(self) -> Op {
        match self.found {
            Condition::Absent => Op::check(self.key, Condition::Absent),
            found => Op::delete(self.key, found),
        }
    }
}

impl Cluster {
    pub(crate) async fn account(&self, user: &UserName) -> Result<Option<Stored<Account>>, Refused> {
        Ok(store::read(&*self.store, &keys::account(user)).await?)
    }

    /// Counts an attempt *before* it is judged, so that attempts at the same time cannot outnumber the limit. The caller
    /// forgives it when it turns out right.
    pub(crate) async fn count_attempt(&self, user: &UserName, door: Door) -> Result<(), Refused> {
        let key = failure_key(user, door);
        let counted = self.update_failures(&key, Failures::count).await?;
        if self.account(user).await?.is_some() {
            return Ok(());
        }
        let forgotten = self.made_up.note(key, counted, self.clock.now());
        if !forgotten.is_empty() {
            let ops = forgotten.into_iter().map(|key| Op::delete(key, Condition::Any));
            self.store.commit(ops.collect()).await?;
        }
        Ok(())
    }

    /// As [`count_attempt`](Self::count_attempt), for what is judged without telling anybody: the count goes with the
    /// verdict.
    pub(crate) async fn attempt(&self, user: &UserName, door: Door) -> Result<Attempt, Refused> {
        let key = failure_key(user, door);
        let (found, mut counted) = self.failures(&key).await?;
        counted.count(self.clock.now())?;
        Ok(Attempt { key, found, counted })
    }

    /// The attempt just counted was right, but the login is not finished: earlier failures stand.
    pub(crate) async fn forgive_attempt(&self, user: &UserName, door: Door) -> Result<(), Refused> {
        let key = failure_key(user, door);
        self.update_failures(&key, |failures, _| {
            failures.count = failures.count.saturating_sub(1);
            Ok(())
        })
        .await
        .map(drop)
    }

    /// All that was asked for was right: the failures at these doors are forgotten.
    pub(crate) async fn forget_failures(&self, user: &UserName, doors: &[Door]) -> Result<(), Refused> {
        let forget = |door: &Door| Op::delete(failure_key(user, *door), Condition::Any);
        self.store.commit(doors.iter().map(forget).collect()).await?;
        Ok(())
    }

    /// Is the account closed to logins after failures?
    pub(crate) async fn is_locked_out(&self, user: &UserName) -> Result<bool, Refused> {
        let key = failure_key(user, Door::Login);
        let failures: Option<Stored<Failures>> = store::read(&*self.store, &key).await?;
        Ok(failures
            .is_some_and(|f| f.value.count >= MAX_FAILURES && self.clock.now() < f.value.last + LOCK_OUT))
    }

    /// The count as it stands then.
    async fn update_failures(
        &self,
        key: &str,
        change: impl Fn(&mut Failures, SystemTime) -> Result<(), Refused>,
    ) -> Result<Failures, Refused> {
        for _ in 0..RACE_ATTEMPTS {
            let (found, mut failures) = self.failures(key).await?;
            change(&mut failures, self.clock.now())?;
            match self.store.commit(vec![failures.put(key.to_owned(), found)?]).await {
                // Another attempt on the same account was counted between our reading and writing: count on top of it.
                Err(StoreError::Conflict { .. }) => {}
                other => return other.map(|_| failures).map_err(Into::into),
            }
        }
        Err(Refused::TooMany("attempts at the same time"))
    }

    /// The count, and the condition that it stays as it is.
    async fn failures(&self, key: &str) -> Result<(Condition, Failures), Refused> {
        let stored: Option<Stored<Failures>> = store::read(&*self.store, key).await?;
        let found = stored.as_ref().map_or(Condition::Absent, Stored::unchanged);
        let none = || Failures { count: 0, last: self.clock.now() };
        Ok((found, stored.map_or_else(none, |stored| stored.value)))
    }

    /// A new account, and the operations that make it the only thing there is under the name. A user who expires leaves
    /// password and devices behind, which must not come back with the next user of the name.
    pub(crate) async fn new_account_ops(
        &self,
        user: &UserName,
        account: &Account,
    ) -> Result<Vec<Op>, Refused> {
        let left = self.account(user).await?;
        let condition = left.as_ref().map_or(Condition::Absent, Stored::unchanged);
        let mut ops = self.belongings(user).await?;
        if left.is_some() {
            ops.push(EndedLogins::op(user, account.since)?);
        }
        ops.push(Op::put(keys::account(user), condition, account)?);
        Ok(ops)
    }

    /// Everything that belongs to an account, to be removed with it.
    pub(crate) async fn belongings(&self, user: &UserName) -> Result<Vec<Op>, Refused> {
        let prefixes = [
            keys::devices(user),
            keys::device_states(user),
            keys::challenges(user),
            keys::registrations(user),
            keys::approvals(user),
            keys::web_sessions(user),
            keys::recovery(user),
        ];
        let states = store::read_all::<DeviceState>(&*self.store, keys::device_states(user)).await?;
        let credentials = states.into_iter().filter_map(|state| state.value.secret.credential());
        let range = self.store.range(&prefixes).await?;
        let keys = range.items.into_iter().map(|item| item.key).chain(credentials);
        Ok(keys.map(|key| Op::delete(key, Condition::Any)).collect())
    }
}

/// Unknown users are locked out like known ones, each name by itself and without looking whether it exists, or the lock-out
/// would tell who does. Made-up names do not fill the store: a failure is counted for who has a turn of
/// [`crate::password::Passwords`], goes away by itself, and there is room for so many ([`MadeUp`]).
fn failure_key(user: &UserName, door: Door) -> String {
    let counter = match door {
        Door::Login => "failures",
        Door::LoggedIn => "failures-logged-in",
        Door::Passkey => "failures-passkey",
    };
    store::key(&[counter, user.as_str()])
}
