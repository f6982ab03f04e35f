//! The way to a host's sshd: what proves that it is the right one, what we prove to it, and what a session there may do.
//!
//! A certificate is made for each account and person, so that the host's own log names the person; it is kept for as long as
//! it is good, so that after a person's first session no call to authd lies on the way in.

use std::{error::Error, fs, future::Future, path::PathBuf, pin::Pin, sync::Arc, time::SystemTime};

use auth::{
    identity::{TargetName, UserName},
    policy::SessionOptions,
};
use moka::future::Cache;
use protocols::{
    Allowed, Credential, SshTerms, UpstreamAddress,
    ssh::{HostKeys, SshKey},
};
use tokio::{task::spawn_blocking, time::timeout};

use super::{
    CredentialError, UpstreamError, Whose,
    certificate::{ISSUE_DEADLINE, MARGIN, MAX_USERS, shared},
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
    Certificates { target: TargetName, issuer: Arc<dyn IssueSsh>, ready: Cache<(String, String), Arc<Ready>> },
}

struct Ready {
    key: SshKey,
    issued: IssuedSsh,
}

impl Ready {
    fn is_usable(&self, now: SystemTime) -> bool {
        self.issued.not_after.checked_sub(MARGIN).is_some_and(|end| now < end)
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
            _ => Credentials::Certificates { target: target.clone(), issuer, ready: Cache::new(MAX_USERS) },
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
            Credentials::Certificates { target, issuer, ready } => {
                let (name, now) = ((whose.login.to_owned(), whose.user.to_string()), SystemTime::now());
                if ready.get(&name).await.is_some_and(|ready| !ready.is_usable(now)) {
                    ready.invalidate(&name).await;
                }
                let ready = ready.try_get_with(name, issue(target, &**issuer, whose)).await;
                let ready = ready.map_err(|error| shared(&error))?;
                let certificate = Some(ready.issued.certificate.clone());
                Ok(Credential::Ssh { key: ready.key.clone(), certificate })
            }
        }
    }
}

/// Sessions that wait for the same wait for one call.
async fn issue(
    target: &TargetName,
    issuer: &dyn IssueSsh,
    whose: Whose<'_>,
) -> Result<Arc<Ready>, CredentialError> {
    let key = SshKey::generate().map_err(|error| CredentialError::SshKey(Arc::new(error)))?;
    let issued = issuer.issue_ssh(target, whose.login, whose.user, key.public().to_vec());
    let issued = timeout(ISSUE_DEADLINE, issued)
        .await
        .map_err(|_| CredentialError::Deadline)?
        .map_err(|error| CredentialError::Issue(error.into()))?;
    Ok(Arc::new(Ready { key, issued }))
}

async fn read_key(path: PathBuf) -> Result<SshKey, CredentialError> {
    let file = path.clone();
    let read = spawn_blocking(move || read_secret(&file)).await.map_err(std::io::Error::other).flatten();
    let text = read.map_err(|source| CredentialError::Password { path, source })?;
    SshKey::from_openssh(&text).map_err(|error| CredentialError::SshKey(Arc::new(error)))
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
