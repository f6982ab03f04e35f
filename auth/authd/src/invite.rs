//! Invitations: how an account gets its password and its first device.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

use auth::{
    clock::unix_millis,
    identity::UserName,
    proto,
    resource::{Kind, Resource, SecondFactor},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use zeroize::Zeroizing;

use crate::{
    admin::{Change, events},
    cluster::Cluster,
    ended::EndedLogins,
    error::Refused,
    keys, mfa, recovery,
    registration::Wish,
    secret,
    store::{self, Condition, Op, Stored},
    users::{Account, Door},
};

/// Unless asked otherwise.
const DEFAULT_LIFE: Duration = Duration::from_secs(3600);
const MAX_LIFE: Duration = Duration::from_secs(48 * 3600);

/// An invitation as it is stored, under the hash of its token.
#[derive(Serialize, Deserialize)]
struct InvitationRecord {
    user: UserName,
    expires: SystemTime,
}

/// An invitation that is open, and the account that it opens.
struct Open {
    token_hash: String,
    invitation: Stored<InvitationRecord>,
    account: Stored<Account>,
}

const SECRET: &str = "invitation";

impl Cluster {
    /// The operations that make an invitation the only one of an account, and the link.
    pub(crate) fn invite_ops(
        &self,
        user: &UserName,
        account: &mut Account,
        ttl_seconds: u32,
    ) -> Result<(proto::InvitationLink, Vec<Op>), Refused> {
        let life = match ttl_seconds {
            0 => DEFAULT_LIFE,
            seconds => Duration::from_secs(seconds.into()),
        };
        if life > MAX_LIFE {
            return Err(Refused::field("ttl_seconds", "an invitation is open for at most 48 h"));
        }
        let token = secret::generate()?;
        let expires = self.clock.now() + life;
        account.invitation = Some(secret::hash(&token));
        let record = InvitationRecord { user: user.clone(), expires };
        let op = Op::put_until(keys::invitation(&token), Condition::Absent, &record, Some(expires))?;
        let pin = self.ca_pins().into_iter().next().unwrap_or_default();
        // The fragment stays with the reader: it never travels to any server.
        let url = format!("https://{}/web/invite/{token}#ca-pin={pin}", self.public_addr);
        let link = proto::InvitationLink { user: user.to_string(), url, expires: unix_millis(expires) };
        Ok((link, vec![op]))
    }

    async fn open_invitation(&self, token: &str) -> Result<Open, Refused> {
        let closed = || Refused::Secret(SECRET);
        let key = keys::invitation(token);
        let invitation: Option<Stored<InvitationRecord>> = store::read(&*self.store, &key).await?;
        let invitation = invitation.ok_or_else(closed)?;
        let account = self.account(&invitation.value.user).await?.ok_or_else(closed)?;
        let token_hash = secret::hash(token);
        // A newer invitation, or none: the account was reset, or opened.
        if account.value.invitation.as_ref() != Some(&token_hash) {
            return Err(closed());
        }
        Ok(Open { token_hash, invitation, account })
    }

    pub(crate) async fn describe_invitation(&self, token: &str) -> Result<proto::Invitation, Refused> {
        let open = self.open_invitation(token).await?;
        let preference = self.preference().await?;
        let factor = preference.second_factor;
        Ok(proto::Invitation {
            user: open.invitation.value.user.to_string(),
            cluster_name: self.name.to_string(),
            expires: unix_millis(open.invitation.value.expires),
            accepts_totp: factor.allows_otp(),
            accepts_webauthn: factor.allows_webauthn() && self.webauthn(&preference).is_ok(),
            device_required: device_required(factor),
        })
    }

    pub(crate) async fn begin_invitation(
        &self,
        request: &proto::BeginInvitationRequest,
    ) -> Result<proto::DeviceRegistration, Refused> {
        let open = self.open_invitation(&request.token).await?;
        let wish = Wish::from_proto(request.kind, request.passwordless)?;
        let user = &open.invitation.value.user;
        self.begin_registration(user, &open.account.value, wish, Some(open.token_hash)).await
    }

    /// Sets the password and the first device, and closes the invitation: all of it or nothing.
    pub(crate) async fn accept_invitation(
        &self,
        request: proto::AcceptInvitationRequest,
        client: IpAddr,
    ) -> Result<proto::AcceptInvitationResponse, Refused> {
        let open = self.open_invitation(&request.token).await?;
        let user = open.invitation.value.user.clone();
        let hash =
            self.passwords.hash(self.passwords.place(client)?, Zeroizing::new(request.password)).await?;
        let factor = self.preference().await?.second_factor;
        let mut ops = vec![Op::delete(keys::invitation(&request.token), open.invitation.unchanged())];
        let mut recovery_codes = vec![];
        let device = match request.device {
            None if device_required(factor) => {
                return Err(Refused::field("device", "the cluster requires an MFA device"));
            }
            None => None,
            Some(device) => {
                let (new, spent) = self.finish_registration(&user, device, Some(&open.token_hash)).await?;
                let (device, more) = self.add_device_ops(&user, new).await?;
                ops.push(spent);
                ops.extend(more);
                // Who has a device can lose it.
                let new = self.new_recovery_codes(&user, client).await?;
                ops.push(new.op);
                recovery_codes = new.codes;
                Some(device)
            }
        };
        let account = Account { password: Some(hash), invitation: None, ..open.account.value.clone() };
        ops.push(Op::put(keys::account(&user), open.account.unchanged(), &account)?);
        let mut events = vec![json!({"event": "user.password_change", "code": "T1005I", "user": user})];
        if let Some(device) = &device {
            events.push(self.device_event("mfa.add", "T1006I", device).await?);
            events.push(recovery::codes_generated(&user));
        }
        // Two people with one link: the other was first.
        self.commit_on_record(ops, events, Refused::Secret(SECRET)).await?;
        self.forget_failures(&user, &Door::ALL).await?;
        Ok(proto::AcceptInvitationResponse {
            device: device.map(|device| mfa::describe(&device, None)),
            recovery_codes,
        })
    }

    /// A new user with an invitation.
    pub(crate) async fn add_user(
        &self,
        request: proto::AddUserRequest,
        change: &Change,
    ) -> Result<proto::InvitationLink, Refused> {
        let name = UserName::new(request.name).map_err(|e| Refused::field("name", e))?;
        let mut roles = Vec::new();
        for role in request.roles {
            roles.push(auth::identity::RoleName::new(role).map_err(|e| Refused::field("roles", e))?);
        }
        let mut user = auth::resource::User::new(name.clone(), roles);
        user.traits = crate::access::traits_from_proto(request.traits);
        let resource = Resource::User(user.clone());
        // As strict as a file: what cannot be read back is not stored.
        Resource::from_json(&resource.to_json())?;
        self.check_user(&user).await?;
        let mut account = Account::new(self.clock.now());
        let (link, mut ops) = self.invite_ops(&name, &mut account, request.ttl_seconds)?;
        ops.push(crate::cluster::put_op(&resource, Condition::Absent)?);
        ops.extend(self.new_account_ops(&name, &account).await?);
        let events = vec![events::user("user.create", "T1002I", &user, change)];
        let exists = Refused::Exists { kind: "user", name: name.to_string() };
        self.commit_on_record(ops, events, exists).await?;
        Ok(link)
    }

    /// Takes password and devices away.
    pub(crate) async fn reset_user(
        &self,
        request: proto::ResetUserRequest,
        change: &Change,
    ) -> Result<proto::InvitationLink, Refused> {
        let missing = |name: &str| Refused::NotFound { kind: "user", name: name.to_owned() };
        let name = UserName::new(request.name.as_str()).map_err(|_| missing(&request.name))?;
        if self.resource(Kind::User, name.as_str()).await?.is_none() {
            return Err(missing(name.as_str()));
        }
        let stored = self.account(&name).await?;
        let condition = stored.as_ref().map_or(Condition::Absent, Stored::unchanged);
        // The WebAuthn handle stays: keys that are registered again replace their old credential.
        let now = self.clock.now();
        let mut account = stored.map_or_else(|| Account::new(now), |stored| stored.value);
        (account.password, account.since) = (None, now);
        let (link, mut ops) = self.invite_ops(&name, &mut account, request.ttl_seconds)?;
        ops.extend(self.belongings(&name).await?);
        ops.push(EndedLogins::op(&name, now)?);
        ops.push(Op::put(keys::account(&name), condition, &account)?);
        let event = json!({
            "event": "reset_password_token.create", "code": "T6000I", "name": name,
            "ttl": (link.expires - unix_millis(self.clock.now())) / 1000,
        });
        self.commit_on_record(ops, vec![change.sign(event)], Refused::Changed("the account")).await?;
        self.forget_failures(&name, &Door::ALL).await?;
        Ok(link)
    }
}

fn device_required(factor: SecondFactor) -> bool {
    !matches!(factor, SecondFactor::Off | SecondFactor::Optional)
}
