//! The way to the upstream: its address, how it must prove itself, and what we prove to it.
//!
//! The client's certificate ends here. Towards the upstream a session has its own credential: a client certificate for the
//! database user, a password from a file, or nothing on a Unix socket; for a host's sshd, a certificate or key of SSH.
//! Whatever it is, the client never sees it.

use std::{io, path::PathBuf, sync::Arc};

use auth::{
    identity::{TargetName, UserName},
    policy::SessionOptions,
};
use protocols::{Credential, Endpoint, Secret, Setting, UpstreamTls};
use rustls::{
    ClientConfig,
    client::{ClientSessionStore, Resumption, Tls12Resumption, danger::ServerCertVerifier},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::task::spawn_blocking;

mod address;
mod certificate;
mod fresh;
mod group;
mod node;
mod verifier;

pub(crate) use self::certificate::{Issue, Issued};
pub(crate) use self::fresh::KeepFresh;
pub(crate) use self::node::{IssueSsh, IssuedSsh};
pub(crate) use self::verifier::Roots;
use self::{
    address::Address,
    certificate::{CertificateCache, TlsCertificates},
    group::GroupOfUpstream,
    node::Node,
    verifier::upstream_verifier,
};
use crate::{
    config::{CredentialSource, TlsMode, UpstreamConfig, read_secret},
    tls::provider,
};

/// Why there is nothing to prove to the upstream with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CredentialError {
    /// authd did not issue a client certificate.
    #[error("authd did not issue a certificate for the upstream")]
    Issue(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// authd took too long.
    #[error("authd did not issue a certificate for the upstream in time")]
    Deadline,
    /// No key could be made.
    #[error("no key for the upstream certificate")]
    Key(#[source] auth::key::KeyError),
    /// What authd issued does not fit the key, or rustls refuses it.
    #[error("the upstream certificate cannot be used")]
    Tls(#[source] rustls::Error),
    /// No SSH key could be made.
    #[error("no SSH key for the upstream")]
    SshKey(#[source] Arc<protocols::ssh::BadKey>),
    /// The password file cannot be read.
    #[error("cannot read the file {}", path.display())]
    Password {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The SSH key file cannot be read, or what is in it is no key.
    #[error("cannot read a key from {}", path.display())]
    KeyFile {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The way to one target's upstream.
pub(crate) struct Upstream {
    address: Address,
    tls: Option<Tls>,
    credential: Source,
}

struct Tls {
    make: TlsFactory,
    server_name: ServerName<'static>,
    /// Without a client certificate.
    anonymous: Arc<ClientConfig>,
}

enum Source {
    None,
    Password { file: PathBuf, seal: fn(Secret) -> Credential },
    Certificate(Arc<CertificateCache>),
    Ssh(Node),
}

/// For whom a connection to the upstream is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Whose<'a> {
    /// The database user, or the account at the host.
    pub(crate) login: &'a str,
    /// The person.
    pub(crate) user: &'a UserName,
}

/// Why the way to an upstream cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The upstream needs a name that a certificate can carry.
    #[error("the upstream has no name that a certificate can carry: set upstream.server_name")]
    ServerName,
    /// rustls refuses the settings.
    #[error("TLS to the upstream cannot be set up")]
    Tls(#[source] rustls::Error),
    /// A host key, or the authority of one, cannot be read.
    #[error("a host key of the upstream cannot be read")]
    HostKey(#[source] protocols::ssh::BadKey),
    /// The file with the host keys cannot be read.
    #[error("cannot read host keys from {}", path.display())]
    HostKeyFile {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The CA file is none.
    #[error("cannot read certificates from {}", path.display())]
    CaFile {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Upstream {
    /// `roots` are the cluster's db authorities, unless the configuration names a file. `issuer` is asked for client
    /// certificates, where they are wanted.
    ///
    /// # Errors
    /// The settings do not make sense.
    pub(crate) fn new(
        config: &UpstreamConfig,
        target: &TargetName,
        roots: Roots,
        issuer: Arc<dyn Issue>,
    ) -> Result<Self, UpstreamError> {
        let tls = match config.tls {
            TlsMode::Plaintext => None,
            mode => Some(Tls::new(config, mode, roots)?),
        };
        let credential = match (&config.credential, &tls) {
            (CredentialSource::PasswordFile(file), _) => {
                let seal = match config.danger_any_rsa_key {
                    true => Credential::PasswordEvenByUnknownKey,
                    false => Credential::Password,
                };
                Source::Password { file: file.clone(), seal }
            }
            (CredentialSource::ClientCertificate, Some(tls)) => {
                let certificates = TlsCertificates::new(issuer, tls.make.clone());
                Source::Certificate(CertificateCache::new(target.clone(), certificates))
            }
            // Refused by the configuration's own check.
            (
                CredentialSource::ClientCertificate
                | CredentialSource::SshCertificate
                | CredentialSource::SshKeyFile(_),
                None,
            )
            | (
                CredentialSource::SshCertificate | CredentialSource::SshKeyFile(_) | CredentialSource::None,
                _,
            ) => Source::None,
        };
        Ok(Self { address: Address::new(config.address.clone()), tls, credential })
    }

    /// The way to a host's sshd. `issuer` is asked for user certificates, where they are wanted.
    ///
    /// # Errors
    /// The settings do not make sense.
    pub(crate) fn node(
        config: &UpstreamConfig,
        target: &TargetName,
        issuer: Arc<dyn IssueSsh>,
    ) -> Result<Self, UpstreamError> {
        let node = Node::new(config, target, issuer)?;
        let address = Address::new(config.address.clone());
        Ok(Self { address, tls: None, credential: Source::Ssh(node) })
    }

    /// Everything that is needed to log in, on the terms of the session's roles.
    ///
    /// # Errors
    /// There is nothing to prove to the upstream with.
    pub(crate) async fn endpoint(
        &self,
        whose: Whose<'_>,
        options: &SessionOptions,
    ) -> Result<Endpoint, CredentialError> {
        let mut ssh = None;
        let (credential, config) = match &self.credential {
            Source::Ssh(node) => {
                ssh = Some(node.terms(options));
                (node.credential(whose).await?, None)
            }
            Source::None => (Credential::None, None),
            Source::Password { file, seal } => (seal(read_password(file.clone()).await?), None),
            Source::Certificate(cache) => (Credential::None, Some(cache.one(&whose.login.to_owned()).await?)),
        };
        let tls = self.tls.as_ref().map(|tls| {
            let anonymous = tls.anonymous();
            UpstreamTls { config: config.unwrap_or(anonymous.config), ..anonymous }
        });
        let setting =
            |(name, value): (&String, &String)| Setting { name: name.clone(), value: value.clone() };
        Ok(Endpoint {
            address: self.address.found().await,
            tls,
            credential,
            settings: options.db_session_settings.iter().map(setting).collect(),
            replication_allowed: options.db_replication,
            local_infile_allowed: options.db_local_infile,
            ssh,
        })
    }

    /// Enough to see what is there, and not to log in.
    pub(crate) fn bare(&self) -> Endpoint {
        Endpoint {
            address: self.address.configured().clone(),
            tls: self.tls.as_ref().map(Tls::anonymous),
            credential: Credential::None,
            settings: Vec::new(),
            replication_allowed: false,
            local_infile_allowed: false,
            ssh: None,
        }
    }

    /// Its certificates, which somebody must keep fresh.
    pub(crate) fn certificates(&self) -> Option<Arc<dyn KeepFresh>> {
        match &self.credential {
            Source::Certificate(cache) => Some(Arc::clone(cache) as Arc<dyn KeepFresh>),
            Source::Ssh(node) => node.certificates(),
            Source::None | Source::Password { .. } => None,
        }
    }

    /// Where it is, for audit.
    pub(crate) fn uri(&self) -> String {
        self.address.configured().to_string()
    }
}

impl Tls {
    fn new(config: &UpstreamConfig, mode: TlsMode, roots: Roots) -> Result<Self, UpstreamError> {
        let roots = match &config.ca_file {
            Some(path) => Roots::from_file(path)
                .map_err(|source| UpstreamError::CaFile { path: path.clone(), source })?,
            None => roots,
        };
        let server_name = config.tls_name().ok().flatten().ok_or(UpstreamError::ServerName)?;
        let make = TlsFactory::new(mode, roots);
        let anonymous = make.config(None).map_err(UpstreamError::Tls)?;
        Ok(Self { make, server_name, anonymous })
    }

    fn anonymous(&self) -> UpstreamTls {
        UpstreamTls { config: Arc::clone(&self.anonymous), server_name: self.server_name.clone() }
    }
}

/// Makes TLS configurations that differ in the client certificate alone. What they learn of the upstream they share.
#[derive(Clone)]
pub(crate) struct TlsFactory {
    verifier: Arc<dyn ServerCertVerifier>,
    group: Arc<GroupOfUpstream>,
}

/// A certificate chain and its key.
pub(crate) type CertifiedChain = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl TlsFactory {
    pub(crate) fn new(mode: TlsMode, roots: Roots) -> Self {
        Self { verifier: upstream_verifier(mode, roots), group: Arc::default() }
    }

    pub(crate) fn config(&self, client: Option<CertifiedChain>) -> Result<Arc<ClientConfig>, rustls::Error> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&self.verifier));
        let mut config = match client {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
            None => builder.with_no_client_auth(),
        };
        // A resumed session would go on under a certificate that has been replaced, or an authority that is gone. Nothing but the
        // upstream's choice of a group is kept.
        let group = Arc::clone(&self.group) as Arc<dyn ClientSessionStore>;
        config.resumption = Resumption::store(group).tls12_resumption(Tls12Resumption::Disabled);
        Ok(Arc::new(config))
    }
}

/// A secret, wherever it is kept: read off the runtime's threads.
async fn read_password(path: PathBuf) -> Result<Secret, CredentialError> {
    let file = path.clone();
    let read = spawn_blocking(move || read_secret(&file)).await.map_err(io::Error::other).flatten();
    let password = read.map_err(|source| CredentialError::Password { path, source })?;
    Ok(Secret::new(password.to_vec()))
}
