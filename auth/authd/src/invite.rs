//! Invitations and registrations: how an account gets its password and its devices.

use std::time::{Duration, SystemTime};

use auth::{
    clock::unix_millis,
    identity::UserName,
    proto,
    resource::{Kind, Resource, SecondFactor},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::{
    challenge,
    cluster::Cluster,
    error::Refused,
    keys,
    mfa::{self, DeviceSecret, DeviceType, NewDevice, totp},
    secret,
    store::{self, Condition, Op, StoreError, Stored},
    users::Account,
};

/// Unless asked otherwise.
const DEFAULT_LIFE: Duration = Duration::from_secs(3600);
const MAX_LIFE: Duration = Duration::from_secs(48 * 3600);
/// Registrations that a user may have open.
const MAX_REGISTRATIONS: usize = 32;

/// An invitation as it is stored, under the hash of its token.
#[derive(Serialize, Deserialize)]
struct InvitationRecord {
    user: UserName,
    expires: SystemTime,
}

/// A device on its way.
#[derive(Serialize, Deserialize)]
struct Registration {
    /// Hash of the invitation that it is for; `None` where a logged-in user adds a device.
    invitation: Option<String>,
    kind: RegistrationKind,
}

#[derive(Serialize, Deserialize)]
enum RegistrationKind {
    Totp { secret: Zeroizing<String> },
    Webauthn { state: Value },
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
        let kind = DeviceType::from_proto(request.kind)?;
        let user = &open.invitation.value.user;
        self.begin_registration(user, &open.account.value, kind, Some(open.token_hash)).await
    }

    /// Sets the password and the first device, and closes the invitation: all of it or nothing.
    pub(crate) async fn accept_invitation(
        &self,
        request: proto::AcceptInvitationRequest,
    ) -> Result<proto::AcceptInvitationResponse, Refused> {
        let open = self.open_invitation(&request.token).await?;
        let user = open.invitation.value.user.clone();
        let hash = self.passwords.hash(Zeroizing::new(request.password)).await?;
        let factor = self.preference().await?.second_factor;
        let mut ops = vec![Op::delete(keys::invitation(&request.token), open.invitation.unchanged())];
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
                Some(device)
            }
        };
        let account = Account { password: Some(hash), invitation: None, ..open.account.value.clone() };
        ops.push(Op::put(keys::account(&user), open.account.unchanged(), &account)?);
        match self.store.commit(ops).await {
            Ok(_) => {}
            // Two people with one link: the other was first.
            Err(StoreError::Conflict { .. }) => return Err(Refused::Secret(SECRET)),
            Err(other) => return Err(other.into()),
        }
        self.forget_failures(&user).await?;
        let event = json!({"event": "user.password_change", "code": "T1005I", "user": user});
        self.audit.emit(event).await?;
        if let Some(device) = &device {
            self.emit_device("mfa.add", "T1006I", device).await?;
        }
        Ok(proto::AcceptInvitationResponse { device: device.map(|device| mfa::describe(&device, None)) })
    }

    /// A logged-in user adds a device.
    pub(crate) async fn begin_add_device(
        &self,
        user: &UserName,
        kind: i32,
    ) -> Result<proto::DeviceRegistration, Refused> {
        let account = self.account(user).await?.ok_or_else(|| Refused::NoRoles(user.to_string()))?;
        self.begin_registration(user, &account.value, DeviceType::from_proto(kind)?, None).await
    }

    pub(crate) async fn finish_add_device(
        &self,
        user: &UserName,
        device: proto::NewDevice,
    ) -> Result<proto::MfaDevice, Refused> {
        let (new, spent) = self.finish_registration(user, device, None).await?;
        self.add_device(user, new, spent).await
    }

    async fn begin_registration(
        &self,
        user: &UserName,
        account: &Account,
        kind: DeviceType,
        invitation: Option<String>,
    ) -> Result<proto::DeviceRegistration, Refused> {
        if !kind.is_accepted(self.preference().await?.second_factor) {
            let problem = format!("the cluster accepts no {} devices", kind.as_str());
            return Err(Refused::field("kind", problem));
        }
        if self.store.range(&[keys::registrations(user)]).await?.items.len() >= MAX_REGISTRATIONS {
            return Err(Refused::TooMany("registrations"));
        }
        let secret = secret::generate()?;
        let id = secret::owned_id(user, &secret);
        let (kind, answer) = match kind {
            DeviceType::Totp => {
                let shared = totp::new_secret()?;
                let totp = totp::describe(self.name.as_str(), user, &shared)?;
                let kind = proto::device_registration::Kind::Totp(totp);
                let answer = proto::DeviceRegistration { registration_id: id, kind: Some(kind) };
                (RegistrationKind::Totp { secret: shared }, answer)
            }
            DeviceType::Webauthn => {
                let question = self.begin_key(user, account.handle).await?;
                let answer = Self::registration_for_key(id, &question);
                (RegistrationKind::Webauthn { state: question.state }, answer)
            }
        };
        let until = Some(self.clock.now() + challenge::LIFE);
        let record = Registration { invitation, kind };
        let key = keys::registration(user, &secret);
        self.store.commit(vec![Op::put_until(key, Condition::Absent, &record, until)?]).await?;
        Ok(answer)
    }

    /// Judges the proof of a new device. The operation returned uses the registration up; the caller commits it together
    /// with the device.
    async fn finish_registration(
        &self,
        user: &UserName,
        device: proto::NewDevice,
        invitation: Option<&String>,
    ) -> Result<(NewDevice, Op), Refused> {
        use proto::new_device::Proof;
        let (owner, secret) =
            secret::parse_owned_id(&device.registration_id).ok_or(Refused::Secret("registration"))?;
        let key = keys::registration(user, secret);
        let stored: Option<Stored<Registration>> = store::read(&*self.store, &key).await?;
        let stored = stored
            .filter(|stored| owner == *user && stored.value.invitation.as_ref() == invitation)
            .ok_or(Refused::Secret("registration"))?;
        let spent = Op::delete(key, stored.unchanged());
        let new = match (stored.value.kind, device.proof) {
            (RegistrationKind::Totp { secret }, Some(Proof::TotpCode(code))) => {
                let step = totp::step_of(&secret, &code, self.clock.now()).ok_or(Refused::Credentials)?;
                // The code that proves the device is used up by it.
                let secret = DeviceSecret::Totp { secret, last_step: Some(step) };
                NewDevice { kind: DeviceType::Totp, name: device.name, secret, cose_public_key: vec![] }
            }
            (RegistrationKind::Webauthn { state }, Some(Proof::WebauthnCredentialJson(json))) => {
                self.finish_key(user, device.name, &state, &json).await?
            }
            _ => return Err(Refused::field("proof", "does not fit the kind of device")),
        };
        Ok((new, spent))
    }

    /// A new user with an invitation.
    pub(crate) async fn add_user(
        &self,
        request: proto::AddUserRequest,
        by: &str,
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
        ops.push(Op::put(keys::account(&name), Condition::Absent, &account)?);
        match self.store.commit(ops).await {
            Ok(_) => {}
            Err(StoreError::Conflict { .. }) => {
                return Err(Refused::Exists { kind: "user", name: name.to_string() });
            }
            Err(other) => return Err(other.into()),
        }
        self.emit_user("user.create", "T1002I", &user, by).await?;
        Ok(link)
    }

    /// Takes password and devices away.
    pub(crate) async fn reset_user(
        &self,
        request: proto::ResetUserRequest,
        by: &str,
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
        ops.push(Op::put(keys::account(&name), condition, &account)?);
        match self.store.commit(ops).await {
            Ok(_) => {}
            Err(StoreError::Conflict { .. }) => return Err(Refused::Changed("the account")),
            Err(other) => return Err(other.into()),
        }
        self.forget_failures(&name).await?;
        let event = json!({
            "event": "reset_password_token.create", "code": "T6000I", "user": by, "name": name,
            "ttl": (link.expires - unix_millis(self.clock.now())) / 1000,
        });
        self.audit.emit(event).await?;
        Ok(link)
    }
}

fn device_required(factor: SecondFactor) -> bool {
    !matches!(factor, SecondFactor::Off | SecondFactor::Optional)
}
