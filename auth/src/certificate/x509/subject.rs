//! [`Identity`] ↔ the attributes of a certificate's subject.
//!
//! The attributes are Teleport's, so that its users and tools can read ours. An attribute that we do not know is refused, not
//! passed over: it might be a restriction.

use std::time::SystemTime;

use uuid::Uuid;
use x509_parser::prelude::X509Name;

use self::attribute::{Attribute, Fields, text};
use super::{AUTH_ORGANISATION, SIDECAR_ORGANISATION};
use crate::{
    certificate::{CertificateError, traits},
    clock::{parse_rfc3339, rfc3339},
    identity::{
        ClusterName, DeviceId, Identity, Login, MAX_NAME_BYTES, MfaEvidence, Protocol, RoleName, Route,
        TargetName, UserName,
    },
};

mod attribute;

/// The usage (OU) of a session certificate for a database: good for its route and for nothing else.
pub const USAGE_DATABASE: &str = "usage:db";

/// One attribute of a subject, as authd writes it: UTF8String.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectAttribute {
    /// Its object identifier.
    pub oid: Vec<u64>,
    /// Its value.
    pub value: String,
}

/// The subject that says an identity, in writing order; what is repeated stands once for each value. The receipt is not
/// in it (see [`super::receipt_extension_value`]), nor is the certificate's own life.
#[must_use]
pub fn subject(identity: &Identity) -> Vec<SubjectAttribute> {
    let mut attributes = vec![
        (Attribute::User, identity.user.to_string()),
        (Attribute::RouteCluster, identity.cluster.to_string()),
        (Attribute::Cluster, identity.cluster.to_string()),
    ];
    attributes.extend(identity.roles.iter().map(|role| (Attribute::Role, role.to_string())));
    attributes.extend(identity.logins.iter().map(|login| (Attribute::Login, login.clone())));
    if !identity.traits.is_empty() {
        attributes.push((Attribute::Traits, traits::to_json(&identity.traits)));
    }
    match &identity.mfa {
        MfaEvidence::None => {}
        MfaEvidence::Claimed { device } | MfaEvidence::Receipt { device, .. } => {
            attributes.push((Attribute::MfaDevice, device.to_string()));
        }
    }
    attributes.extend(identity.login_ip.map(|ip| (Attribute::LoginIp, ip.to_string())));
    attributes.extend(identity.previous_expiry.map(|at| (Attribute::PreviousExpiry, rfc3339(at))));
    attributes.extend(identity.route.iter().flat_map(route_attributes));
    attributes
        .into_iter()
        .map(|(attribute, value)| SubjectAttribute { oid: attribute.oid().to_vec(), value })
        .collect()
}

fn route_attributes(route: &Route) -> Vec<(Attribute, String)> {
    let mut attributes = vec![
        (Attribute::Target, route.target.to_string()),
        (Attribute::Protocol, route.protocol.to_string()),
    ];
    match &route.login {
        Login::Node { login } => attributes.push((Attribute::DatabaseUser, login.clone())),
        Login::Database { user, name } => {
            attributes.push((Attribute::Usage, USAGE_DATABASE.to_owned()));
            attributes.push((Attribute::DatabaseUser, user.clone()));
            if !name.is_empty() {
                attributes.push((Attribute::DatabaseName, name.clone()));
            }
        }
    }
    attributes
}

/// Whom a subject names.
pub(super) fn identity(
    subject: &X509Name<'_>,
    receipt: Option<Vec<u8>>,
    not_after: SystemTime,
) -> Result<Identity, CertificateError> {
    let organisations = organisations(subject)?;
    if organisations.iter().any(|o| o == SIDECAR_ORGANISATION || o == AUTH_ORGANISATION) {
        return Err(CertificateError::HostCertificate);
    }
    let fields = Fields::read(subject)?;
    let cluster = Attribute::Cluster.named(fields.one(Attribute::Cluster)?, ClusterName::new)?;
    if fields.one(Attribute::RouteCluster)? != cluster.as_str() {
        return Err(Attribute::RouteCluster.invalid());
    }
    let route = route(&fields)?;
    let identity = Identity {
        user: Attribute::User.named(fields.one(Attribute::User)?, UserName::new)?,
        cluster,
        roles: roles(&fields)?,
        traits: fields.optional(Attribute::Traits)?.map_or(Ok(Default::default()), |json| {
            traits::from_json(json).ok_or_else(|| Attribute::Traits.invalid())
        })?,
        logins: logins(&fields)?,
        mfa: mfa(&fields, receipt, route.is_some())?,
        previous_expiry: fields.parsed(Attribute::PreviousExpiry, parse_rfc3339)?,
        login_ip: fields.parsed(Attribute::LoginIp, |ip| ip.parse().ok())?,
        route,
        not_after,
    };
    Ok(identity)
}

fn roles(fields: &Fields) -> Result<Vec<RoleName>, CertificateError> {
    let mut roles = Vec::new();
    for value in fields.all(Attribute::Role) {
        let role = Attribute::Role.named(value, RoleName::new)?;
        if roles.contains(&role) {
            return Err(Attribute::Role.duplicate());
        }
        roles.push(role);
    }
    if roles.is_empty() { Err(Attribute::Role.missing()) } else { Ok(roles) }
}

fn logins(fields: &Fields) -> Result<Vec<String>, CertificateError> {
    let mut logins = Vec::new();
    for value in fields.all(Attribute::Login) {
        // The names are principals of SSH certificates too, where a comma divides.
        if !is_login(value) || value.contains([',', ' ']) {
            return Err(Attribute::Login.invalid());
        }
        if logins.iter().any(|login| login == value) {
            return Err(Attribute::Login.duplicate());
        }
        logins.push(value.to_owned());
    }
    Ok(logins)
}

/// What one may ask to be. Databases allow nearly everything in a name; nobody needs control characters.
fn is_login(value: &str) -> bool {
    !value.is_empty() && value.len() <= MAX_NAME_BYTES && !value.contains(char::is_control)
}

/// A claim of MFA is for one session; a certificate that is not for one may not make it.
fn mfa(fields: &Fields, receipt: Option<Vec<u8>>, routed: bool) -> Result<MfaEvidence, CertificateError> {
    // The canonical form alone: locks and the replica name the device as text.
    let uuid = |text: &str| Uuid::try_parse(text).ok().filter(|uuid| uuid.to_string() == text);
    let device = fields.parsed(Attribute::MfaDevice, uuid)?.map(DeviceId);
    match (device, receipt) {
        (None, None) => Ok(MfaEvidence::None),
        (Some(_), _) if !routed => Err(CertificateError::IncompleteMfa),
        (Some(device), None) => Ok(MfaEvidence::Claimed { device }),
        (Some(device), Some(receipt)) => Ok(MfaEvidence::Receipt { device, receipt }),
        (None, Some(_)) => Err(CertificateError::IncompleteMfa),
    }
}

/// Complete or absent, and in agreement with the usage.
fn route(fields: &Fields) -> Result<Option<Route>, CertificateError> {
    let usage = fields.optional(Attribute::Usage)?;
    if usage.is_some_and(|usage| usage != USAGE_DATABASE) {
        return Err(Attribute::Usage.invalid());
    }
    let target = fields.optional(Attribute::Target)?;
    let protocol = fields.parsed(Attribute::Protocol, Protocol::parse)?;
    let user = fields.optional(Attribute::DatabaseUser)?;
    let name = fields.optional(Attribute::DatabaseName)?;
    if [user, name].into_iter().flatten().any(|login| !is_login(login)) {
        return Err(Attribute::DatabaseUser.invalid());
    }
    let (target, protocol, user) = match (target, protocol, user, name) {
        (None, None, None, None) if usage.is_none() => return Ok(None),
        (None, None, None, None) => return Err(CertificateError::UsageMismatch),
        (Some(target), Some(protocol), Some(user), _) => (target, protocol, user.to_owned()),
        _ => return Err(CertificateError::IncompleteRoute),
    };
    let login = match (protocol, name, usage) {
        (Protocol::Postgres, Some(name), Some(_)) => Login::Database { user, name: name.to_owned() },
        (Protocol::Mysql, name, Some(_)) => {
            Login::Database { user, name: name.unwrap_or_default().to_owned() }
        }
        (Protocol::Ssh, None, None) => Login::Node { login: user },
        (Protocol::Postgres, None, Some(_)) | (Protocol::Ssh, Some(_), None) => {
            return Err(CertificateError::IncompleteRoute);
        }
        (Protocol::Postgres | Protocol::Mysql, _, None) | (Protocol::Ssh, _, Some(_)) => {
            return Err(CertificateError::UsageMismatch);
        }
    };
    Ok(Some(Route { target: Attribute::Target.named(target, TargetName::new)?, protocol, login }))
}

/// Every O of a subject.
pub(super) fn organisations(subject: &X509Name<'_>) -> Result<Vec<String>, CertificateError> {
    let organisations = subject.iter_organization();
    organisations.map(|attribute| text(attribute, Attribute::Role)).collect()
}

/// The one CN of a subject.
pub(super) fn common_name(subject: &X509Name<'_>) -> Result<String, CertificateError> {
    let mut names = subject.iter_common_name();
    let name = names.next().ok_or(Attribute::User.missing())?;
    if names.next().is_some() {
        return Err(Attribute::User.duplicate());
    }
    text(name, Attribute::User)
}
