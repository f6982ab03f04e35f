//! One session: a key made for it, a touch where policy asks for one, a certificate that lives in memory.

use std::{sync::Arc, time::SystemTime};

use auth::{
    key,
    proto::{
        CreateChallengeRequest, IsMfaRequiredRequest, IssueSessionCertificateRequest, MfaResponse, Route,
        SessionCertificate, SessionRequester, Target, create_challenge_request, users_client::UsersClient,
    },
};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tonic::transport::Channel;
use zeroize::Zeroizing;

use crate::{
    connect::Connection,
    mfa::{Asked, Challenge, Prompter, Reason, Whose},
    profile::Profile,
    times, trust,
};

mod ssh;

pub use ssh::{SshCredential, open_ssh};

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

/// The public half of a key made for a session. Which of the two it is says which certificate will be made of it.
#[derive(Clone, Copy)]
enum PublicKey<'a> {
    /// SubjectPublicKeyInfo.
    X509(&'a [u8]),
    /// OpenSSH's wire form.
    Ssh(&'a [u8]),
}

impl<'a> PublicKey<'a> {
    fn bytes(self) -> &'a [u8] {
        match self {
            Self::X509(bytes) | Self::Ssh(bytes) => bytes,
        }
    }

    /// As requests carry it: `public_key`, `ssh_public_key`.
    fn fields(self) -> (Vec<u8>, Vec<u8>) {
        match self {
            Self::X509(bytes) => (bytes.to_vec(), Vec::new()),
            Self::Ssh(bytes) => (Vec::new(), bytes.to_vec()),
        }
    }
}

/// Whether a session needs a touch.
///
/// # Errors
/// The service's own words: `NOT_FOUND` also where the user may not open the session.
pub async fn is_mfa_required(channel: &Channel, route: &Route) -> Result<bool, tonic::Status> {
    let request = IsMfaRequiredRequest { route: Some(route.clone()) };
    let answer = UsersClient::new(channel.clone()).is_mfa_required(request).await;
    Ok(answer.map_err(|status| told(status, route))?.into_inner().required)
}

/// To hide what exists, the service answers `NOT_FOUND` where a session may not be opened. Here the target's name came
/// from the service itself, so it is the login that does not fit.
fn told(status: tonic::Status, route: &Route) -> tonic::Status {
    if status.code() != tonic::Code::NotFound {
        return status;
    }
    tonic::Status::permission_denied(match route.target_kind.as_str() {
        "node" => "access to node denied. User does not have permissions. Confirm SSH login.",
        _ => "access to db denied. User does not have permissions. Confirm database user and name.",
    })
}

/// Asks for the session certificate of a process that stays in the path and opens connections for as long as it runs;
/// prompts where policy asks for MFA.
///
/// # Errors
/// Not allowed, not touched, or the auth service asks for a touch that is for something else.
pub async fn open(
    connection: &Connection,
    prompter: &Prompter,
    route: &Route,
) -> anyhow::Result<Arc<Credential>> {
    open_as(connection, prompter, route, SessionRequester::LocalProxy).await.map(Arc::new)
}

/// The same for one connection that is opened at once: the certificate lives for a minute.
///
/// # Errors
/// As [`open`].
pub async fn open_once(
    connection: &Connection,
    prompter: &Prompter,
    route: &Route,
) -> anyhow::Result<Credential> {
    open_as(connection, prompter, route, SessionRequester::Unspecified).await
}

async fn open_as(
    connection: &Connection,
    prompter: &Prompter,
    route: &Route,
    requester: SessionRequester,
) -> anyhow::Result<Credential> {
    let (key, public_key) = key::generate_p256()?;
    let (challenge_id, mfa) = prove(connection, prompter, route, PublicKey::X509(&public_key)).await?;
    let request = IssueSessionCertificateRequest {
        route: Some(route.clone()),
        public_key,
        requester: requester.into(),
        challenge_id,
        mfa,
        ssh_public_key: Vec::new(),
    };
    issue(connection, key, request).await
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

/// The touch, where policy asks for one: the challenge that it answers, and the answer. Where it asks for none, neither.
async fn prove(
    connection: &Connection,
    prompter: &Prompter,
    route: &Route,
    key: PublicKey<'_>,
) -> anyhow::Result<(String, Option<MfaResponse>)> {
    touch(&connection.channel, &connection.login.profile, prompter, route, key).await
}

async fn touch(
    channel: &Channel,
    profile: &Profile,
    prompter: &Prompter,
    route: &Route,
    key: PublicKey<'_>,
) -> anyhow::Result<(String, Option<MfaResponse>)> {
    let (public_key, ssh_public_key) = key.fields();
    let session = create_challenge_request::Session {
        route: Some(route.clone()),
        public_key,
        ssh_public_key,
        if_required: true,
    };
    let scope = create_challenge_request::Scope::Session(session);
    let request = CreateChallengeRequest { scope: Some(scope) };
    let answer = UsersClient::new(channel.clone()).create_challenge(request).await;
    let challenge = answer.map_err(|status| told(status, route))?.into_inner();
    if challenge.not_required {
        return Ok((String::new(), None));
    }
    let reason = Reason::Session { route, public_key: key.bytes() };
    let asked = Asked { cluster: &profile.cluster, user: &profile.user, reason };
    let challenge = Challenge::checked(challenge, &asked)?;
    let answer = prompter.answer(&challenge, Whose::Any).await?;
    Ok((challenge.into_id(), Some(answer)))
}

async fn issue(
    connection: &Connection,
    key: Zeroizing<PrivatePkcs8KeyDer<'static>>,
    request: IssueSessionCertificateRequest,
) -> anyhow::Result<Credential> {
    let mut issued = issued(connection, request).await?;
    let target = issued.target.take().unwrap_or_default();
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

/// What the service issued, found to be for the target that was asked for.
async fn issued(
    connection: &Connection,
    request: IssueSessionCertificateRequest,
) -> anyhow::Result<SessionCertificate> {
    let asked_for = request.route.as_ref().map(|route| route.target_name.clone()).unwrap_or_default();
    let mut users = UsersClient::new(connection.channel.clone());
    let issued = users.issue_session_certificate(request).await?.into_inner();
    keep_trust(connection, &issued);
    match &issued.target {
        Some(target) if target.name == asked_for => Ok(issued),
        _ => anyhow::bail!("the auth service answered for another target than {asked_for:?}"),
    }
}

/// Saves whom the service now says to trust: while its authorities are replaced, that is how the next ones become known before
/// it shows a certificate of theirs. A session does not fail for want of it.
fn keep_trust(connection: &Connection, issued: &SessionCertificate) {
    let (login, home) = (&connection.login, &connection.home);
    if let Err(error) = trust::keep_up(home, login, &issued.host_authorities, &issued.ssh_host_authorities) {
        eprintln!("WARNING: the authorities of {} could not be saved: {error}", login.profile.proxy);
    }
}

#[cfg(test)]
mod tests;
