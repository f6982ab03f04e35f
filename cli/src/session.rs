//! One session: a key made for it, a touch where policy asks for one, a certificate that lives in memory.

use std::{sync::Arc, time::SystemTime};

use auth::{
    key,
    proto::{
        CreateChallengeRequest, IsMfaRequiredRequest, IssueSessionCertificateRequest, MfaResponse, Route,
        SessionRequester, Target, create_challenge_request, users_client::UsersClient,
    },
};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tonic::transport::Channel;
use zeroize::Zeroizing;

use crate::{
    connect::Connection,
    mfa::{Asked, Challenge, Prompter, Reason, Whose},
    profile::Profile,
    times,
};

/// A certificate for one target and login, with its key. The key is wiped when this is dropped.
pub struct Credential {
    /// The session certificate.
    pub certificate: CertificateDer<'static>,
    /// Its key.
    pub key: Zeroizing<PrivatePkcs8KeyDer<'static>>,
    /// End of its life.
    pub not_after: SystemTime,
    /// Where it is for.
    pub target: Target,
    /// What the sidecar must present.
    pub authorities: Vec<CertificateDer<'static>>,
}

/// Whether a session needs a touch.
///
/// # Errors
/// The service's own words: `NOT_FOUND` also where the user may not open the session.
pub async fn is_mfa_required(channel: &Channel, route: &Route) -> Result<bool, tonic::Status> {
    let request = IsMfaRequiredRequest { route: Some(route.clone()) };
    Ok(UsersClient::new(channel.clone()).is_mfa_required(request).await.map_err(told)?.into_inner().required)
}

/// To hide what exists, the service answers `NOT_FOUND` where a session may not be opened. Here the target's name came
/// from the service itself, so it is the login that does not fit.
fn told(status: tonic::Status) -> tonic::Status {
    if status.code() == tonic::Code::NotFound {
        return tonic::Status::permission_denied(
            "access to db denied. User does not have permissions. Confirm database user and name.",
        );
    }
    status
}

/// Asks for the session certificate of a process that stays in the path; prompts where policy asks for MFA.
///
/// # Errors
/// Not allowed, not touched, or the auth service asks for a touch that is for something else.
pub async fn open(
    connection: &Connection,
    prompter: &Prompter,
    route: &Route,
) -> anyhow::Result<Arc<Credential>> {
    let required = is_mfa_required(&connection.channel, route).await?;
    let (key, public_key) = key::generate_p256()?;
    let (challenge_id, mfa) = if required {
        let (id, answer) =
            touch(&connection.channel, &connection.login.profile, prompter, route, &public_key).await?;
        (id, Some(answer))
    } else {
        (String::new(), None)
    };
    let request = IssueSessionCertificateRequest {
        route: Some(route.clone()),
        public_key,
        requester: SessionRequester::LocalProxy.into(),
        challenge_id,
        mfa,
        ssh_public_key: Vec::new(),
    };
    issue(connection, key, request).await.map(Arc::new)
}

/// Asks for the certificate of `tsh db login`, which will lie on disk: the service refuses where MFA is required.
///
/// # Errors
/// Not allowed, or MFA is required.
pub async fn open_for_disk(connection: &Connection, route: &Route) -> anyhow::Result<Credential> {
    let (key, public_key) = key::generate_p256()?;
    let request = IssueSessionCertificateRequest {
        route: Some(route.clone()),
        public_key,
        requester: SessionRequester::Disk.into(),
        challenge_id: String::new(),
        mfa: None,
        ssh_public_key: Vec::new(),
    };
    issue(connection, key, request).await
}

async fn touch(
    channel: &Channel,
    profile: &Profile,
    prompter: &Prompter,
    route: &Route,
    public_key: &[u8],
) -> anyhow::Result<(String, MfaResponse)> {
    let session = create_challenge_request::Session {
        route: Some(route.clone()),
        public_key: public_key.to_vec(),
        ssh_public_key: Vec::new(),
    };
    let scope = create_challenge_request::Scope::Session(session);
    let request = CreateChallengeRequest { scope: Some(scope) };
    let challenge = UsersClient::new(channel.clone()).create_challenge(request).await?.into_inner();
    let reason = Reason::Session { route, public_key };
    let asked = Asked { cluster: &profile.cluster, user: &profile.user, reason };
    let challenge = Challenge::checked(challenge, &asked)?;
    let answer = prompter.answer(&challenge, Whose::Any).await?;
    Ok((challenge.into_id(), answer))
}

async fn issue(
    connection: &Connection,
    key: Zeroizing<PrivatePkcs8KeyDer<'static>>,
    request: IssueSessionCertificateRequest,
) -> anyhow::Result<Credential> {
    let asked_for = request.route.as_ref().map(|route| route.target_name.clone()).unwrap_or_default();
    let mut users = UsersClient::new(connection.channel.clone());
    let issued = users.issue_session_certificate(request).await?.into_inner();
    let target = issued
        .target
        .filter(|target| target.name == asked_for)
        .ok_or_else(|| anyhow::anyhow!("the auth service answered for another target than {asked_for:?}"))?;
    let mut authorities: Vec<_> = issued.host_authorities.into_iter().map(CertificateDer::from).collect();
    if authorities.is_empty() {
        authorities.clone_from(&connection.login.authorities);
    }
    Ok(Credential {
        certificate: CertificateDer::from(issued.certificate),
        key,
        not_after: times::from_millis(issued.not_after),
        target,
        authorities,
    })
}

#[cfg(test)]
mod tests;
