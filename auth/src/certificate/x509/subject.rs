//! [`Identity`] ↔ the attributes of a certificate's subject.
//!
//! The attributes are Teleport's, so that its users and tools can read ours. An attribute that we do not know is refused, not
//! passed over: it might be a restriction.

use std::time::SystemTime;

use uuid::Uuid;
use x509_parser::prelude::{AttributeTypeAndValue, X509Name};

use super::{AUTH_ORGANISATION, SIDECAR_ORGANISATION};
use crate::{
    certificate::{CertificateError, traits},
    clock::{parse_rfc3339, rfc3339},
    identity::{
        ClusterName, DeviceId, Identity, Login, MAX_NAME_BYTES, MfaEvidence, NameError, Protocol, RoleName,
        Route, TargetName, UserName,
    },
};

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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attribute {
    User,
    Role,
    Usage,
    Login,
    RouteCluster,
    Traits,
    Cluster,
    MfaDevice,
    LoginIp,
    Target,
    Protocol,
    DatabaseUser,
    DatabaseName,
    PreviousExpiry,
}

impl Attribute {
    const ALL: [Self; 14] = [
        Self::User,
        Self::Role,
        Self::Usage,
        Self::Login,
        Self::RouteCluster,
        Self::Traits,
        Self::Cluster,
        Self::MfaDevice,
        Self::LoginIp,
        Self::Target,
        Self::Protocol,
        Self::DatabaseUser,
        Self::DatabaseName,
        Self::PreviousExpiry,
    ];

    fn oid(self) -> &'static [u64] {
        match self {
            Self::User => &[2, 5, 4, 3],
            Self::Role => &[2, 5, 4, 10],
            Self::Usage => &[2, 5, 4, 11],
            Self::Login => &[2, 5, 4, 7],
            Self::RouteCluster => &[2, 5, 4, 9],
            Self::Traits => &[2, 5, 4, 17],
            Self::Cluster => &[1, 3, 9999, 1, 7],
            Self::MfaDevice => &[1, 3, 9999, 1, 8],
            Self::LoginIp => &[1, 3, 9999, 1, 9],
            Self::Target => &[1, 3, 9999, 2, 1],
            Self::Protocol => &[1, 3, 9999, 2, 2],
            Self::DatabaseUser => &[1, 3, 9999, 2, 3],
            Self::DatabaseName => &[1, 3, 9999, 2, 4],
            Self::PreviousExpiry => &[1, 3, 9999, 2, 12],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::User => "user name",
            Self::Role => "role name",
            Self::Usage => "usage",
            Self::Login => "login",
            Self::RouteCluster => "route to cluster",
            Self::Traits => "traits",
            Self::Cluster => "cluster name",
            Self::MfaDevice => "MFA device",
            Self::LoginIp => "login address",
            Self::Target => "target name",
            Self::Protocol => "protocol",
            Self::DatabaseUser => "database user or login",
            Self::DatabaseName => "database name",
            Self::PreviousExpiry => "previous expiry",
        }
    }

    fn missing(self) -> CertificateError {
        CertificateError::Missing { attribute: self.name() }
    }

    fn invalid(self) -> CertificateError {
        CertificateError::Invalid { attribute: self.name() }
    }

    fn duplicate(self) -> CertificateError {
        CertificateError::Duplicate { attribute: self.name() }
    }

    /// Reads one of the newtypes of [`crate::identity`].
    fn named<T>(self, value: &str, new: fn(String) -> Result<T, NameError>) -> Result<T, CertificateError> {
        new(value.to_owned()).map_err(|source| CertificateError::Name { attribute: self.name(), source })
    }
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

/// UTF8String is what we write, PrintableString what other writers make of plain ASCII. Nothing else: the older string
/// types can be read in more than one way.
fn text(attribute: &AttributeTypeAndValue<'_>, what: Attribute) -> Result<String, CertificateError> {
    use x509_parser::asn1_rs::Tag;
    let value = attribute.attr_value();
    match value.tag() {
        Tag::Utf8String | Tag::PrintableString => {
            String::from_utf8(value.data.to_vec()).map_err(|_| what.invalid())
        }
        _ => Err(what.invalid()),
    }
}

/// The known attributes of a subject, read but not yet understood.
struct Fields(Vec<(Attribute, String)>);

impl Fields {
    fn read(subject: &X509Name<'_>) -> Result<Self, CertificateError> {
        let known = |attribute: &AttributeTypeAndValue<'_>| {
            let oid: Vec<u64> = attribute.attr_type().iter()?.collect();
            Attribute::ALL.into_iter().find(|known| known.oid() == oid)
        };
        let read = subject.iter_attributes().map(|attribute| match known(attribute) {
            Some(what) => Ok((what, text(attribute, what)?)),
            None => Err(CertificateError::Unknown { name: attribute.attr_type().to_id_string() }),
        });
        read.collect::<Result<_, _>>().map(Self)
    }

    fn all(&self, what: Attribute) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(attribute, _)| *attribute == what).map(|(_, value)| value.as_str())
    }

    fn optional(&self, what: Attribute) -> Result<Option<&str>, CertificateError> {
        let mut values = self.all(what);
        let value = values.next();
        if values.next().is_some() { Err(what.duplicate()) } else { Ok(value) }
    }

    fn one(&self, what: Attribute) -> Result<&str, CertificateError> {
        self.optional(what)?.ok_or(what.missing())
    }

    fn parsed<T>(
        &self,
        what: Attribute,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, CertificateError> {
        self.optional(what)?.map(|value| parse(value).ok_or(what.invalid())).transpose()
    }
}
