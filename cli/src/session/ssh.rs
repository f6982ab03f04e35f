//! The session certificate of `tsh ssh`: for an Ed25519 key that lives in this process alone.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use auth::proto::{IssueSessionCertificateRequest, Route, SessionRequester, Target};
use ssh_key::{Certificate, PrivateKey};

use super::{PublicKey, issued, prove};
use crate::{
    connect::Connection,
    mfa::Prompter,
    ssh::{HostAuthorities, key},
};

/// An SSH certificate for one node and login, with its key. The key is wiped when this is dropped.
pub struct SshCredential {
    /// The session certificate.
    pub certificate: Certificate,
    /// Its key.
    pub key: Arc<PrivateKey>,
    /// Where it is for.
    pub target: Target,
    /// The account there.
    pub login: String,
    /// Who signs what the sidecar must present.
    pub authorities: HostAuthorities,
}

/// Asks for a certificate that opens one SSH connection; prompts where policy asks for MFA.
///
/// # Errors
/// Not allowed, not touched, or the auth service answers with something else than was asked for.
pub async fn open_ssh(
    connection: &Connection,
    prompter: &Prompter,
    route: &Route,
) -> anyhow::Result<SshCredential> {
    let key = key::generate()?;
    let public_key = key.public_key().to_bytes()?;
    let (challenge_id, mfa) = prove(connection, prompter, route, PublicKey::Ssh(&public_key)).await?;
    let request = IssueSessionCertificateRequest {
        route: Some(route.clone()),
        public_key: Vec::new(),
        requester: SessionRequester::Unspecified.into(),
        challenge_id,
        mfa,
        ssh_public_key: public_key,
    };
    let issued = issued(connection, request).await?;
    let certificate = Certificate::from_openssh(issued.ssh_certificate.trim())
        .context("the auth service sent no SSH certificate")?;
    ensure!(
        certificate.public_key() == key.public_key().key_data()
            && certificate.valid_principals() == [route.login.as_str()],
        "the auth service sent an SSH certificate for somebody else"
    );
    Ok(SshCredential {
        certificate,
        key: Arc::new(key),
        target: issued.target.unwrap_or_default(),
        login: route.login.clone(),
        authorities: HostAuthorities::parse(&issued.ssh_host_authorities)?,
    })
}
