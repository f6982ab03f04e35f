//! Client certificates for databases: one for each database user.

use std::{error::Error, future::Future, pin::Pin, sync::Arc, time::SystemTime};

use auth::{identity::TargetName, key::generate_p256};
use rustls::ClientConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::{
    CredentialError, TlsFactory,
    fresh::{Fresh, Make},
};

/// What authd issued.
#[derive(Clone, Debug)]
pub(crate) struct Issued {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) not_after: SystemTime,
}

type Issuing<'a> = Pin<Box<dyn Future<Output = Result<Issued, Box<dyn Error + Send + Sync>>> + Send + 'a>>;

/// Issues client certificates: authd. Not on the hot path, hence the box.
pub(crate) trait Issue: Send + Sync + 'static {
    fn issue<'a>(&'a self, target: &'a TargetName, db_user: &'a str, public_key: Vec<u8>) -> Issuing<'a>;
}

/// TLS with a certificate for a database user.
pub(crate) struct TlsCertificates {
    issuer: Arc<dyn Issue>,
    tls: TlsFactory,
}

/// Those of one database.
pub(super) type CertificateCache = Fresh<TlsCertificates>;

impl TlsCertificates {
    pub(super) fn new(issuer: Arc<dyn Issue>, tls: TlsFactory) -> Self {
        Self { issuer, tls }
    }
}

impl Make for TlsCertificates {
    type Whose = String;
    type Made = Arc<ClientConfig>;

    async fn make(
        &self,
        target: &TargetName,
        db_user: &String,
    ) -> Result<(Arc<ClientConfig>, SystemTime), CredentialError> {
        let (key, public_key) = generate_p256().map_err(CredentialError::Key)?;
        let issued = self.issuer.issue(target, db_user, public_key).await;
        let Issued { certificate, not_after } =
            issued.map_err(|error| CredentialError::Issue(error.into()))?;
        let key = PrivateKeyDer::Pkcs8(key.clone_key());
        let config = self.tls.config(Some((vec![certificate], key))).map_err(CredentialError::Tls)?;
        Ok((config, not_after))
    }
}

#[cfg(test)]
mod tests;
