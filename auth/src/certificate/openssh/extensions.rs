//! [`Identity`] ↔ the extensions of an SSH certificate.
//!
//! An extension that we do not know is passed over, as PROTOCOL.certkeys asks: what restricts is a critical option.

use std::time::SystemTime;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use ssh_key::certificate::OptionsMap;
use uuid::Uuid;

use crate::{
    certificate::{CertificateError, traits},
    clock::{parse_rfc3339, rfc3339},
    identity::{
        ClusterName, DeviceId, Identity, Login, MfaEvidence, Protocol, RoleName, Route, TargetName, UserName,
    },
    policy::SessionOptions,
};

const ROLES: &str = "teleport-roles";
const TRAITS: &str = "teleport-traits";
const CLUSTER: &str = "teleport-route-to-cluster";
const MFA_VERIFIED: &str = "mfa-verified";
const PREVIOUS_EXPIRY: &str = "prev-identity-expires";
const LOGIN_IP: &str = "login-ip";
const ROUTE: &str = "route@touchstone";
const RECEIPT: &str = "receipt@touchstone";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Roles {
    version: String,
    roles: Vec<RoleName>,
}

/// The target is always an SSH host: certificates for databases are X.509.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeRoute {
    target: TargetName,
    login: String,
}

/// The extensions that say an identity. User and logins are key id and principals; what the session may do besides is
/// in [`permissions`].
#[must_use]
pub fn extensions(identity: &Identity) -> Vec<(String, String)> {
    let roles = Roles { version: "v1".to_owned(), roles: identity.roles.clone() };
    let mut said = vec![(ROLES, json(&roles)), (CLUSTER, identity.cluster.to_string())];
    if !identity.traits.is_empty() {
        said.push((TRAITS, traits::to_json(&identity.traits)));
    }
    match &identity.mfa {
        MfaEvidence::None => {}
        MfaEvidence::Claimed { device } => said.push((MFA_VERIFIED, device.to_string())),
        MfaEvidence::Receipt { device, receipt } => {
            said.push((MFA_VERIFIED, device.to_string()));
            said.push((RECEIPT, STANDARD.encode(receipt)));
        }
    }
    said.extend(identity.previous_expiry.map(|at| (PREVIOUS_EXPIRY, rfc3339(at))));
    said.extend(identity.login_ip.map(|ip| (LOGIN_IP, ip.to_string())));
    if let Some(Route { target, login: Login::Node { login }, .. }) = &identity.route {
        said.push((ROUTE, json(&NodeRoute { target: target.clone(), login: login.clone() })));
    }
    said.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// What a session may do: OpenSSH's own extensions, without values.
#[must_use]
pub fn permissions(options: &SessionOptions) -> Vec<(String, String)> {
    [
        ("permit-X11-forwarding", options.permit_x11_forwarding),
        ("permit-agent-forwarding", options.forward_agent),
        ("permit-port-forwarding", options.port_forwarding),
        ("permit-pty", true),
    ]
    .into_iter()
    .filter(|(_, permitted)| *permitted)
    .map(|(name, _)| (name.to_owned(), String::new()))
    .collect()
}

fn json(value: &impl Serialize) -> String {
    // Structs of strings always have a JSON form.
    serde_json::to_string(value).unwrap_or_default()
}

/// Whom the extensions name.
pub(super) fn identity(
    extensions: &OptionsMap,
    user: UserName,
    logins: Vec<String>,
    not_after: SystemTime,
) -> Result<Identity, CertificateError> {
    let route = route(extensions)?;
    let cluster = extensions.get(CLUSTER).ok_or(CertificateError::Missing { attribute: CLUSTER })?;
    Ok(Identity {
        user,
        cluster: ClusterName::new(cluster.as_str())
            .map_err(|source| CertificateError::Name { attribute: CLUSTER, source })?,
        roles: roles(extensions)?,
        traits: parsed(extensions, TRAITS, traits::from_json)?.unwrap_or_default(),
        logins,
        mfa: mfa(extensions, route.is_some())?,
        previous_expiry: parsed(extensions, PREVIOUS_EXPIRY, parse_rfc3339)?,
        login_ip: parsed(extensions, LOGIN_IP, |ip| ip.parse().ok())?,
        route,
        not_after,
    })
}

fn roles(extensions: &OptionsMap) -> Result<Vec<RoleName>, CertificateError> {
    let said = parsed(extensions, ROLES, |json| {
        serde_json::from_str::<Roles>(json).ok().filter(|roles| roles.version == "v1")
    })?;
    let roles = said.ok_or(CertificateError::Missing { attribute: ROLES })?.roles;
    let repeated =
        roles.iter().enumerate().any(|(index, role)| roles.iter().skip(index + 1).any(|r| r == role));
    match (roles.is_empty(), repeated) {
        (false, false) => Ok(roles),
        (false, true) => Err(CertificateError::Duplicate { attribute: "role name" }),
        (true, _) => Err(CertificateError::Missing { attribute: "role name" }),
    }
}

fn route(extensions: &OptionsMap) -> Result<Option<Route>, CertificateError> {
    let said = parsed(extensions, ROUTE, |json| {
        serde_json::from_str::<NodeRoute>(json).ok().filter(|route| super::is_principal(&route.login))
    })?;
    Ok(said.map(|NodeRoute { target, login }| Route {
        target,
        protocol: Protocol::Ssh,
        login: Login::Node { login },
    }))
}

/// As in X.509: for one session, or not at all.
fn mfa(extensions: &OptionsMap, routed: bool) -> Result<MfaEvidence, CertificateError> {
    let uuid = |text: &str| Uuid::try_parse(text).ok().filter(|uuid| uuid.to_string() == text);
    let device = parsed(extensions, MFA_VERIFIED, uuid)?.map(DeviceId);
    let receipt = parsed(extensions, RECEIPT, |text| STANDARD.decode(text).ok())?;
    match (device, receipt) {
        (None, None) => Ok(MfaEvidence::None),
        (Some(device), None) if routed => Ok(MfaEvidence::Claimed { device }),
        (Some(device), Some(receipt)) if routed => Ok(MfaEvidence::Receipt { device, receipt }),
        _ => Err(CertificateError::IncompleteMfa),
    }
}

fn parsed<T>(
    extensions: &OptionsMap,
    name: &'static str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, CertificateError> {
    let value = extensions.get(name);
    value.map(|value| parse(value).ok_or(CertificateError::Invalid { attribute: name })).transpose()
}
