//! Recovery codes: how somebody who lost their devices gets back in, with the password and one of three codes.
//!
//! A code is worth a device, so it is made, kept and judged with the care of one: 80 random bits each, hashed like
//! passwords, each good once, guesses counted with those of logins. What a code opens is a grant of a quarter of an hour,
//! for one thing: enrolling a new device, and removing those that are lost. With it every login from before is over, and
//! there are new codes.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

use auth::{identity::UserName, proto};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::{
    cluster::Cluster,
    ended::EndedLogins,
    error::Refused,
    keys,
    mfa::Device,
    registration::Wish,
    secret,
    store::{self, Condition, Op, Stored},
    users::{Account, Door},
};

/// Codes in a set.
const CODES: usize = 3;
/// Characters of a code after its number: 80 bits.
const CHARS: usize = 16;
/// Thirty-two that are not taken for each other.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// How long a grant may take to be used.
const GRANT: Duration = Duration::from_secs(15 * 60);
/// What somebody else may have changed meanwhile.
const CODES_SET: &str = "the set of recovery codes";
/// What a grant is called when there is none.
const SECRET: &str = "recovery";

/// Hashes by the number of the code; `None`: used.
#[derive(Serialize, Deserialize)]
struct CodesRecord {
    hashes: Vec<Option<String>>,
}

/// What was granted for a code.
#[derive(Serialize, Deserialize)]
struct GrantRecord {
    made: SystemTime,
}

/// New codes, on their way to the store and to the person.
pub(crate) struct NewCodes {
    /// Shown once.
    pub(crate) codes: Vec<String>,
    pub(crate) op: Op,
}

/// What a code opened.
pub(crate) struct Granted {
    pub(crate) grant: String,
    pub(crate) user: UserName,
    pub(crate) devices: Vec<proto::MfaDevice>,
}

/// A grant that is open.
struct Open {
    user: UserName,
    hash: String,
    spent: Op,
    account: Stored<Account>,
}

impl Cluster {
    /// A new set. It is the user's once the operation is committed, and the one before is worth nothing from then on.
    pub(crate) async fn new_recovery_codes(
        &self,
        user: &UserName,
        client: IpAddr,
    ) -> Result<NewCodes, Refused> {
        let (mut codes, mut hashes) = (Vec::new(), Vec::new());
        for number in 1..=CODES {
            let secret = new_code()?;
            let hash = self.passwords.hash(self.passwords.place(client)?, secret.clone()).await?;
            codes.push(spell(number, &secret));
            hashes.push(Some(hash));
        }
        let op = Op::put(keys::recovery_codes(user), Condition::Any, &CodesRecord { hashes })?;
        Ok(NewCodes { codes, op })
    }

    /// Codes that are left.
    pub(crate) async fn recovery_codes_left(&self, user: &UserName) -> Result<usize, Refused> {
        let stored: Option<Stored<CodesRecord>> =
            store::read(&*self.store, &keys::recovery_codes(user)).await?;
        Ok(stored.map_or(0, |stored| stored.value.hashes.iter().flatten().count()))
    }

    /// A new set for somebody who has proved that it is they, with the account as it was before that.
    pub(crate) async fn replace_recovery_codes(
        &self,
        user: &UserName,
        account: &Stored<Account>,
        client: IpAddr,
    ) -> Result<Vec<String>, Refused> {
        let NewCodes { codes, op } = self.new_recovery_codes(user, client).await?;
        // The race: the account is reset or removed while the proof is judged and the codes are made, which takes long. They
        // would be good for what comes after it.
        let unchanged = Op::check(keys::account(user), account.unchanged());
        let events = vec![codes_generated(user)];
        self.commit_on_record(vec![unchanged, op], events, Refused::Changed("the account")).await?;
        Ok(codes)
    }

    /// Password and code, for a grant. Which of them was wrong is told neither by text nor by time, nor whether there is
    /// such a user. The code is used up.
    pub(crate) async fn begin_recovery(
        &self,
        name: String,
        password: Zeroizing<String>,
        code: Zeroizing<String>,
        client: IpAddr,
    ) -> Result<Granted, Refused> {
        let Ok(user) = UserName::new(name) else {
            // No such name can exist; spend the time all the same.
            for guess in [password, code] {
                let turn = self.passwords.turn(self.passwords.place(client)?).await?;
                self.passwords.verify(turn, guess, None).await?;
            }
            return Err(Refused::Credentials);
        };
        match self.use_code(&user, password, &code, client).await {
            Ok(grant) => {
                let devices = self.list_devices(&user).await?;
                Ok(Granted { grant, user, devices })
            }
            Err(refused) if refused.is_unjudged() => Err(refused),
            Err(refused) => {
                self.audit.emit(code_used(&user, "T1009W", Some(&refused), client)).await?;
                Err(refused)
            }
        }
    }

    async fn use_code(
        &self,
        user: &UserName,
        password: Zeroizing<String>,
        code: &str,
        client: IpAddr,
    ) -> Result<String, Refused> {
        // First: who finds no room, or does not wait for a turn, has not tried.
        let (place, next) = (self.passwords.place(client)?, self.passwords.place(client)?);
        let turn = self.passwords.turn(place).await?;
        self.count_attempt(user, Door::Login).await?;
        let account = self.account(user).await?;
        let stored: Option<Stored<CodesRecord>> =
            store::read(&*self.store, &keys::recovery_codes(user)).await?;
        let (index, guess) = read_code(code).unwrap_or((usize::MAX, Zeroizing::new(String::new())));
        let known = stored.as_ref().and_then(|stored| stored.value.hashes.get(index).cloned().flatten());
        let hash = account.as_ref().and_then(|account| account.value.password.clone());
        let password_right = self.passwords.verify(turn, password, hash).await?;
        let code_right = self.passwords.verify(self.passwords.turn(next).await?, guess, known).await?;
        let Some(mut stored) = stored.filter(|_| password_right && code_right) else {
            return Err(Refused::Credentials);
        };
        // Only who knows both is told more.
        self.standing(user, None).await?;
        let condition = stored.unchanged();
        if let Some(hash) = stored.value.hashes.get_mut(index) {
            *hash = None;
        }
        let (secret, now) = (secret::generate()?, self.clock.now());
        let ops = vec![
            Op::put(keys::recovery_codes(user), condition, &stored.value)?,
            Op::put_until(
                keys::recovery_grant(user, &secret),
                Condition::Absent,
                &GrantRecord { made: now },
                Some(now + GRANT),
            )?,
        ];
        let events = vec![code_used(user, "T1009I", None, client)];
        // Two uses of the codes at once: the other was first.
        self.commit_on_record(ops, events, Refused::Changed(CODES_SET)).await?;
        self.forgive_attempt(user, Door::Login).await?;
        Ok(secret::owned_id(user, &secret))
    }

    async fn open_grant(&self, grant: &str) -> Result<Open, Refused> {
        let (user, secret) = secret::parse_owned_id(grant).ok_or(Refused::Secret(SECRET))?;
        let key = keys::recovery_grant(&user, secret);
        let stored: Option<Stored<GrantRecord>> = store::read(&*self.store, &key).await?;
        let stored = stored.ok_or(Refused::Secret(SECRET))?;
        let account = self.account(&user).await?.ok_or(Refused::Secret(SECRET))?;
        // Reset since: it begins with an invitation again.
        if stored.value.made < account.value.since {
            return Err(Refused::Secret(SECRET));
        }
        self.standing(&user, None).await?;
        let spent = Op::delete(key, stored.unchanged());
        Ok(Open { hash: secret::hash(grant), spent, account, user })
    }

    /// The new device's first step.
    pub(crate) async fn begin_recovery_device(
        &self,
        grant: &str,
        wish: Wish,
    ) -> Result<proto::DeviceRegistration, Refused> {
        let open = self.open_grant(grant).await?;
        self.begin_registration(&open.user, &open.account.value, wish, Some(open.hash)).await
    }

    /// The new device is there, those that are lost are gone, logins from before are over, and there are new codes: all of
    /// it or nothing.
    pub(crate) async fn finish_recovery(
        &self,
        grant: &str,
        device: proto::NewDevice,
        lost: &[String],
        client: IpAddr,
    ) -> Result<Vec<String>, Refused> {
        let Open { user, hash, spent, account } = self.open_grant(grant).await?;
        let (new, registration) = self.finish_registration(&user, device, Some(&hash)).await?;
        let devices = self.devices(&user).await?;
        let is_lost = |device: &&Device| lost.contains(&device.id.to_string());
        let lost: Vec<&Device> = devices.iter().filter(is_lost).collect();
        let (added, mut ops) = self.add_device_ops(&user, new).await?;
        for device in &lost {
            ops.extend(self.remove_device_ops(device).await?);
        }
        ops.extend([spent, registration]);
        let NewCodes { codes, op } = self.new_recovery_codes(&user, client).await?;
        ops.push(op);
        ops.extend(self.end_sessions_ops(&user).await?);
        let renewed = Account { since: self.clock.now(), ..account.value.clone() };
        ops.push(EndedLogins::op(&user, renewed.since)?);
        ops.push(Op::put(keys::account(&user), account.unchanged(), &renewed)?);
        let mut events = vec![self.device_event("mfa.add", "T1006I", &added).await?];
        for device in lost {
            events.push(self.device_event("mfa.delete", "T1007I", device).await?);
        }
        events.push(codes_generated(&user));
        self.commit_on_record(ops, events, Refused::Changed("the account")).await?;
        Ok(codes)
    }
}

pub(crate) fn codes_generated(user: &UserName) -> Value {
    json!({"event": "recovery_code.generated", "code": "T1008I", "user": user})
}

fn code_used(user: &UserName, code: &str, refused: Option<&Refused>, client: IpAddr) -> Value {
    json!({
        "event": "recovery_code.used", "code": code, "user": user, "success": refused.is_none(),
        "addr.remote": client, "error": refused.map(ToString::to_string),
    })
}

fn new_code() -> Result<Zeroizing<String>, Refused> {
    let mut bytes = [0_u8; CHARS];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Refused::Internal("no randomness"))?;
    let chars = bytes.iter().filter_map(|byte| ALPHABET.get(usize::from(byte % 32)).copied());
    Ok(Zeroizing::new(chars.map(char::from).collect()))
}

/// As people read it: `2-abcd-efgh-jkmn-pqrs`. The number says with which hash to compare.
fn spell(number: usize, secret: &str) -> String {
    let mut text = number.to_string();
    for (place, char) in secret.chars().enumerate() {
        if place % 4 == 0 {
            text.push('-');
        }
        text.push(char);
    }
    text
}

/// What people type: the place of its hash, and the code.
fn read_code(text: &str) -> Option<(usize, Zeroizing<String>)> {
    if text.len() > 64 {
        return None;
    }
    let mut chars = text.chars().filter(|c| !c.is_whitespace() && *c != '-').map(|c| c.to_ascii_lowercase());
    let number = chars.next()?.to_digit(10)?;
    let code: Zeroizing<String> = Zeroizing::new(chars.collect());
    let index = usize::try_from(number).ok()?.checked_sub(1)?;
    (code.len() == CHARS).then_some((index, code))
}

#[cfg(test)]
mod tests {
    use tonic::metadata::MetadataMap;

    use super::*;
    use crate::admin::AdminCaller;

    #[test]
    fn a_code_is_read_however_it_is_typed() {
        let secret = new_code().unwrap();
        let text = spell(2, &secret);
        assert_eq!(text.len(), 1 + 5 * 4);
        for typed in [text.clone(), text.to_uppercase(), text.replace('-', " "), format!("  {text}\n")] {
            assert_eq!(read_code(&typed), Some((1, secret.clone())), "{typed}");
        }
    }

    #[test]
    fn what_is_no_code_is_none() {
        for bad in
            ["", "0-abcd-efgh-jkmn-pqrs", "2-abcd-efgh-jkmn-pqr", "abcd-efgh-jkmn-pqrs-", &"2".repeat(65)]
        {
            assert_eq!(read_code(bad), None, "{bad}");
        }
    }
    /// Making codes takes longer than all that the reset does.
    #[tokio::test]
    async fn codes_that_are_made_while_the_account_is_reset_are_nobodys() {
        let directory = tempfile::tempdir().unwrap();
        let cluster = Cluster::unserved(directory.path()).await;
        let root = cluster.allow_change(AdminCaller::root(), &MetadataMap::new(), [0; 32]).await.unwrap();
        let roles = vec!["access".to_owned()];
        let add = proto::AddUserRequest { name: "jerry".to_owned(), roles, ..Default::default() };
        cluster.add_user(add, &root).await.unwrap();
        let jerry = UserName::new("jerry").unwrap();
        let address = [127, 0, 0, 1].into();

        let account = cluster.existing_account(&jerry).await.unwrap();
        let reset = proto::ResetUserRequest { name: "jerry".to_owned(), ttl_seconds: 0 };
        let (codes, reset) = tokio::join!(
            cluster.replace_recovery_codes(&jerry, &account, address),
            cluster.reset_user(reset, &root)
        );
        reset.unwrap();
        assert!(matches!(codes, Err(Refused::Changed(_))), "{codes:?}");
        assert_eq!(cluster.recovery_codes_left(&jerry).await.unwrap(), 0);

        let account = cluster.existing_account(&jerry).await.unwrap();
        cluster.replace_recovery_codes(&jerry, &account, address).await.unwrap();
        assert_eq!(cluster.recovery_codes_left(&jerry).await.unwrap(), CODES);
    }
}
