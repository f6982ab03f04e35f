//! The one place that decides what a certificate may say.
//!
//! Every certificate that authd signs is made by a function of this file or of the files below it. What a caller asks is
//! only ever narrowed: roles come from the stored user, lives are cut to the shortest of all limits, names are checked.

mod host;
mod session;
mod ssh;

use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

use auth::{
    certificate::x509,
    clock::{rfc3339, unix_millis},
    identity::{Identity, Login, MfaEvidence},
    proto,
};
use serde_json::{Value, json};

use crate::{
    access::{LockSubject, Standing},
    audit,
    ca::{Attribute, AuthorityKind, Extension, Issued, P256PublicKey, SshPublicKey, Template, Usage},
    cluster::Cluster,
    ended,
    error::Refused,
};

pub(crate) use host::{OwnCertificate, SidecarNames};
pub(crate) use session::SessionCaller;

/// The longest login.
pub(crate) const MAX_LOGIN: Duration = Duration::from_secs(12 * 3600);
/// Certificates begin this much before they are made, for machines whose clocks are behind: by so much at most. Less than the minute that a
/// receipt's time may lie after the beginning of its certificate, since both are rounded to seconds.
pub(crate) const BACKDATED: Duration = Duration::from_secs(30);

/// Keys that a login asks certificates for.
pub(crate) struct LoginKeys {
    pub(crate) tls: P256PublicKey,
    pub(crate) ssh: SshPublicKey,
}

impl LoginKeys {
    pub(crate) fn from_request(request: &proto::FinishLoginRequest) -> Result<Self, Refused> {
        Ok(Self {
            tls: P256PublicKey::from_spki(&request.tls_public_key)?,
            ssh: SshPublicKey::from_wire(&request.ssh_public_key)?,
        })
    }
}

impl Cluster {
    /// The two certificates of a login. They make no claim about MFA, so that, stolen from a disk, they open nothing that
    /// needs a touch.
    pub(crate) async fn issue_login(
        &self,
        login: &crate::login::Login,
        keys: &LoginKeys,
        asked: Option<Duration>,
        client: IpAddr,
    ) -> Result<proto::LoginCertificates, Refused> {
        let user = &login.user;
        let standing = self.standing(user, None).await?;
        standing.refuse_begun_before(login)?;
        let device = login.proof.device().map(crate::mfa::Device::id);
        let subject = LockSubject { device, ..LockSubject::default() };
        self.refuse_locked(user, &standing.roles, subject).await?;

        let allowed = standing.role_set.options().max_session_ttl.min(MAX_LOGIN);
        let wanted = asked.or(self.preference().await?.default_session_ttl).unwrap_or(MAX_LOGIN);
        let now = self.clock.now();
        let not_after = standing.at_most(now + wanted.min(allowed));
        let identity = self.identity(&standing, not_after, Some(client));
        let tls = self.sign_user(&identity, &standing, &keys.tls, now)?;
        let ssh = self
            .authorities
            .signer(AuthorityKind::User)
            .sign_ssh(&keys.ssh, &ssh::user_template(&identity, &standing, now))?;
        // Nothing leaves before it is on record.
        self.audit.emit(created(&identity, tls.not_after, &tls.serial_hex)).await?;
        Ok(proto::LoginCertificates {
            tls_certificate: tls.der.to_vec(),
            ssh_certificate: ssh.line,
            host_authorities: self.authorities.certificate_bytes(AuthorityKind::Host),
            ssh_host_authorities: self.authorities.ssh_public_keys(AuthorityKind::Host),
            not_after: unix_millis(tls.not_after),
            roles: standing.roles.iter().map(ToString::to_string).collect(),
            user: user.to_string(),
        })
    }

    /// An identity without MFA and without route: a login's.
    fn identity(&self, standing: &Standing, not_after: SystemTime, login_ip: Option<IpAddr>) -> Identity {
        Identity {
            user: standing.user.metadata.name.clone(),
            cluster: self.name.clone(),
            roles: standing.roles.clone(),
            traits: standing.user.traits.clone(),
            logins: standing.logins.clone(),
            mfa: MfaEvidence::None,
            route: None,
            previous_expiry: None,
            login_ip,
            not_after,
        }
    }

    /// Signs what an identity says, and nothing else.
    fn sign_user(
        &self,
        identity: &Identity,
        standing: &Standing,
        key: &P256PublicKey,
        now: SystemTime,
    ) -> Result<Issued, Refused> {
        let subject = x509::subject(identity).into_iter();
        let extensions = match &identity.mfa {
            MfaEvidence::Receipt { receipt, .. } => vec![Extension {
                oid_der: x509::RECEIPT_OID_DER.to_vec(),
                value: x509::receipt_extension_value(receipt),
            }],
            MfaEvidence::None | MfaEvidence::Claimed { .. } => vec![],
        };
        Ok(self.authorities.signer(AuthorityKind::User).sign(&Template {
            subject: subject.map(|a| Attribute { oid: a.oid, value: a.value }).collect(),
            public_key: key.clone(),
            not_before: backdated(now, standing),
            not_after: identity.not_after,
            usage: Usage::Client,
            names: vec![],
            extensions,
        })?)
    }
}

/// The event of a certificate that was signed and has not left yet.
fn created(identity: &Identity, not_after: SystemTime, serial_hex: &str) -> Value {
    let mut described = json!({
        "user": identity.user,
        "roles": identity.roles,
        "logins": identity.logins,
        "traits": identity.traits,
        "expires": rfc3339(not_after),
        "teleport_cluster": identity.cluster,
        "route_to_cluster": identity.cluster,
        "client_ip": identity.login_ip,
        "serial": serial_hex,
    });
    if let Some(route) = &identity.route {
        audit::set(&mut described, "prev_identity_expires", identity.previous_expiry.map(rfc3339));
        match &route.login {
            Login::Database { user, name } => {
                audit::set(&mut described, "usage", json!([x509::USAGE_DATABASE]));
                let database = json!({
                    "service_name": route.target, "protocol": route.protocol, "username": user, "database": name,
                });
                audit::set(&mut described, "route_to_database", database);
            }
            Login::Node { login } => {
                let node = json!({ "node": route.target, "login": login });
                audit::set(&mut described, "route_to_node", node);
            }
        }
    }
    if let MfaEvidence::Claimed { device } | MfaEvidence::Receipt { device, .. } = &identity.mfa {
        audit::set(&mut described, "mfa_device_uuid", device.to_string());
    }
    json!({
        "event": "cert.create", "code": "TC000I", "cert_type": "user",
        "user": identity.user, "identity": described,
    })
}

/// When a user's certificate begins. One that is made just after the account was reset begins later than those from before.
fn backdated(now: SystemTime, standing: &Standing) -> SystemTime {
    let backdated = now.checked_sub(BACKDATED).unwrap_or(SystemTime::UNIX_EPOCH);
    backdated.max(ended::first_beginning(standing.since))
}
