//! The way to a host's sshd: what proves that it is the right one, what we prove to it, and what a session there may do.
//!
//! A certificate is made for each account and person, so that the host's own log names the person.

use std::{error::Error, fs, future::Future, io, path::PathBuf, pin::Pin, sync::Arc, time::SystemTime};

use auth::{
    identity::{TargetName, UserName},
    policy::SessionOptions,
};
use protocols::{
    Allowed, Credential, SshTerms, UpstreamAddress,
    ssh::{HostKeys, SshKey},
};
use tokio::task::spawn_blocking;

use super::{
    CredentialError, KeepFresh, UpstreamError, Whose,
    fresh::{Fresh, Make},
};
use crate::config::{CredentialSource, SshUpstream, UpstreamConfig, read_secret};

/// What authd issued.
#[derive(Clone, Debug)]
pub(crate) struct IssuedSsh {
    /// The wire form.
    pub(crate) certificate: Vec<u8>,
    pub(crate) not_after: SystemTime,
}

type Issuing<'a> = Pin<Box<dyn Future<Output = Result<IssuedSsh, Box<dyn Error + Send + Sync>>> + Send + 'a>>;

/// Issues user certificates of SSH: authd. Not on the hot path, hence the box.
pub(crate) trait IssueSsh: Send + Sync + 'static {
    fn issue_ssh<'a>(
        &'a self,
        target: &'a TargetName,
        login: &'a str,
        user: &'a UserName,
        public_key: Vec<u8>,
    ) -> Issuing<'a>;
}

/// One host.
pub(super) struct Node {
    host_keys: HostKeys,
    credentials: Credentials,
}

enum Credentials {
    Key(PathBuf),
    Certificates(Arc<Fresh<SshCertificates>>),
}

/// SSH certificates, each with its key.
struct SshCertificates(Arc<dyn IssueSsh>);

/// For whom a certificate is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Account {
    login: String,
    user: UserName,
}

impl Make for SshCertificates {
    type Whose = Account;
    type Made = Arc<(SshKey, Vec<u8>)>;

    async fn make(
        &self,
        target: &TargetName,
        Account { login, user }: &Account,
    ) -> Result<(Self::Made, SystemTime), CredentialError> {
        let key = SshKey::generate().map_err(|error| CredentialError::SshKey(Arc::new(error)))?;
        let issued = self.0.issue_ssh(target, login, user, key.public().to_vec()).await;
        let IssuedSsh { certificate, not_after } =
            issued.map_err(|error| CredentialError::Issue(error.into()))?;
        Ok((Arc::new((key, certificate)), not_after))
    }
}

impl Node {
    pub(super) fn new(
        config: &UpstreamConfig,
        target: &TargetName,
        issuer: Arc<dyn IssueSsh>,
    ) -> Result<Self, UpstreamError> {
        let credentials = match &config.credential {
            CredentialSource::SshKeyFile(path) => Credentials::Key(path.clone()),
            // The configuration's own check leaves the certificate.
            _ => Credentials::Certificates(Fresh::new(target.clone(), SshCertificates(issuer))),
        };
        Ok(Self { host_keys: host_keys(&config.ssh, &config.address)?, credentials })
    }

    /// How the host proves itself, and what the roles allow there.
    pub(super) fn terms(&self, options: &SessionOptions) -> SshTerms {
        SshTerms { host_keys: self.host_keys.clone(), allowed: allowed(options) }
    }

    pub(super) async fn credential(&self, whose: Whose<'_>) -> Result<Credential, CredentialError> {
        match &self.credentials {
            // Read for each session, so that it can be changed in place.
            Credentials::Key(path) => {
                Ok(Credential::Ssh { key: read_key(path.clone()).await?, certificate: None })
            }
            Credentials::Certificates(certificates) => {
                let account = Account { login: whose.login.to_owned(), user: whose.user.clone() };
                let ready = certificates.one(&account).await?;
                let (key, certificate) = (*ready).clone();
                Ok(Credential::Ssh { key, certificate: Some(certificate) })
            }
        }
    }

    /// Its certificates, which somebody must keep fresh.
    pub(super) fn certificates(&self) -> Option<Arc<dyn KeepFresh>> {
        match &self.credentials {
            Credentials::Key(_) => None,
            Credentials::Certificates(certificates) => Some(Arc::clone(certificates) as Arc<dyn KeepFresh>),
        }
    }
}

async fn read_key(path: PathBuf) -> Result<SshKey, CredentialError> {
    let file = path.clone();
    let read = spawn_blocking(move || read_secret(&file)).await.map_err(io::Error::other).flatten();
    let failed = |source| CredentialError::KeyFile { path, source };
    match read.map(|text| SshKey::from_openssh(&text)) {
        Ok(Ok(key)) => Ok(key),
        Ok(Err(error)) => Err(failed(io::Error::new(io::ErrorKind::InvalidData, error))),
        Err(source) => Err(failed(source)),
    }
}

/// By what the host is known. A certificate must be for one of the configured names, else for the address's host.
pub(crate) fn host_keys(ssh: &SshUpstream, address: &UpstreamAddress) -> Result<HostKeys, UpstreamError> {
    let mut keys = HostKeys::default();
    for line in &ssh.host_keys {
        keys = keys.with_pinned(line).map_err(UpstreamError::HostKey)?;
    }
    if let Some(path) = &ssh.host_key_file {
        let file = |source| UpstreamError::HostKeyFile { path: path.clone(), source };
        let text = fs::read_to_string(path).map_err(file)?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        for line in lines {
            keys = keys.with_pinned(line).map_err(UpstreamError::HostKey)?;
        }
    }
    for line in &ssh.host_authorities {
        keys = keys.with_authority(line).map_err(UpstreamError::HostKey)?;
    }
    for name in &ssh.host_names {
        keys = keys.with_name(name.clone());
    }
    if let (true, UpstreamAddress::Tcp { host, .. }) = (ssh.host_names.is_empty(), address) {
        keys = keys.with_name(host.clone());
    }
    Ok(keys)
}

/// What the roles allow. Terminals, shells and commands are what a login is for: no option takes them away.
fn allowed(options: &SessionOptions) -> Allowed {
    Allowed {
        pty: true,
        shell: true,
        exec: true,
        agent: options.forward_agent,
        x11: options.permit_x11_forwarding,
        port_forwarding: options.port_forwarding,
        file_copy: options.ssh_file_copy,
        max_channels: options.max_sessions.unwrap_or(u32::MAX),
    }
}

#[cfg(test)]
mod tests;
