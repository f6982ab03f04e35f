//! What a sidecar shows to a database, obtained as a sidecar does: joined with a token, announced, and issued by authd's
//! db-client authority. With it this tool reaches the database past the sidecar on equal terms, by mutual TLS.

use std::collections::BTreeMap;

use anyhow::Result;
use auth::{
    api::{self, CaPin, ClientIdentity, Trust},
    key,
    proto::{
        AnnounceRequest, IssueUpstreamCertificateRequest, JoinRequest, SidecarCertificateRequest, Target,
        public_client::PublicClient, sidecars_client::SidecarsClient,
    },
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tonic::transport::Channel;

use crate::person::Certified;

/// Its target's name: nobody connects there.
const TARGET: &str = "past-the-sidecar";

/// Joined, for itself.
pub(crate) struct Guard {
    sidecars: SidecarsClient<Channel>,
    identity: (Vec<u8>, PrivateKeyDer<'static>),
    address: String,
    pin: CaPin,
}

impl Guard {
    /// Joins with a token.
    pub(crate) async fn join(address: &str, pin: CaPin, token: &str) -> Result<Self> {
        let (private, public_key) = key::generate_p256()?;
        let names = vec![TARGET.to_owned()];
        let certificate = SidecarCertificateRequest {
            public_key,
            target_names: names,
            ..SidecarCertificateRequest::default()
        };
        let request = JoinRequest { token: token.to_owned(), certificate: Some(certificate) };
        let anonymous = api::connect(address, Trust::Pins(vec![pin]), None).await?;
        let joined = PublicClient::new(anonymous).join(request).await?.into_inner();
        let identity = (joined.certificate, PrivateKeyDer::Pkcs8(private.clone_key()));
        let channel = channel(address, &pin, &identity).await?;
        Ok(Self { sidecars: SidecarsClient::new(channel), identity, address: address.to_owned(), pin })
    }

    /// One more connection to authd under the same identity.
    pub(crate) async fn another(&self) -> Result<SidecarsClient<Channel>> {
        Ok(SidecarsClient::new(channel(&self.address, &self.pin, &self.identity).await?))
    }

    /// A client certificate for this database user, and the authorities that databases' certificates come from.
    pub(crate) async fn certificate(
        &mut self,
        db_user: &str,
    ) -> Result<(Certified, Vec<CertificateDer<'static>>)> {
        let target = Target {
            kind: "database".to_owned(),
            name: TARGET.to_owned(),
            protocol: "postgres".to_owned(),
            public_addr: "localhost:1".to_owned(),
            uri: "localhost:1".to_owned(),
            labels: BTreeMap::from([("env".to_owned(), "load".to_owned())]),
            ..Target::default()
        };
        self.sidecars.announce(AnnounceRequest { targets: vec![target] }).await?;
        let (private, public_key) = key::generate_p256()?;
        let request = IssueUpstreamCertificateRequest {
            target_name: TARGET.to_owned(),
            db_user: db_user.to_owned(),
            public_key,
        };
        let issued = self.sidecars.issue_upstream_certificate(request).await?.into_inner();
        let certified = Certified {
            chain: vec![CertificateDer::from(issued.certificate)],
            key: PrivateKeyDer::Pkcs8(private.clone_key()),
        };
        Ok((certified, issued.db_authorities.into_iter().map(CertificateDer::from).collect()))
    }
}

async fn channel(
    address: &str,
    pin: &CaPin,
    (certificate, key): &(Vec<u8>, PrivateKeyDer<'static>),
) -> Result<Channel> {
    let chain = vec![CertificateDer::from(certificate.clone())];
    let identity = ClientIdentity { chain, key: key.clone_key() };
    Ok(api::connect(address, Trust::Pins(vec![*pin]), Some(identity)).await?)
}
