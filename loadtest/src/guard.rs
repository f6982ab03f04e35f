//! What a sidecar shows to a database or a host, obtained as a sidecar does: joined with a token, announced, and issued by authd's
//! db-client authority, or its openssh authority. With it this tool reaches them past the sidecar on equal terms.

use std::collections::BTreeMap;

use anyhow::Result;
use auth::{
    api::{self, CaPin, ClientIdentity, Trust},
    key,
    proto::{
        AnnounceRequest, IssueUpstreamCertificateRequest, IssueUpstreamSshCertificateRequest, JoinRequest,
        SidecarCertificateRequest, Target, public_client::PublicClient, sidecars_client::SidecarsClient,
    },
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tonic::transport::Channel;

use crate::person::Certified;

/// Its targets' names: nobody connects there.
const TARGET: &str = "past-the-sidecar";
const NODE: &str = "past-the-sidecar-to-a-host";

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
        let names = vec![TARGET.to_owned(), NODE.to_owned()];
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
        self.announce("database", TARGET, "postgres").await?;
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

    /// A certificate for a user's session with this account of a host, for an Ed25519 key in OpenSSH's wire form: one line
    /// of OpenSSH's text.
    pub(crate) async fn ssh_certificate(
        &mut self,
        user: &str,
        login: &str,
        ssh_public_key: Vec<u8>,
    ) -> Result<String> {
        self.announce("node", NODE, "ssh").await?;
        let request = IssueUpstreamSshCertificateRequest {
            target_name: NODE.to_owned(),
            login: login.to_owned(),
            user: user.to_owned(),
            ssh_public_key,
        };
        let issued = self.sidecars.issue_upstream_ssh_certificate(request).await?.into_inner();
        Ok(issued.ssh_certificate.trim().to_owned())
    }

    async fn announce(&mut self, kind: &str, name: &str, protocol: &str) -> Result<()> {
        let target = Target {
            kind: kind.to_owned(),
            name: name.to_owned(),
            protocol: protocol.to_owned(),
            public_addr: "localhost:1".to_owned(),
            uri: "localhost:1".to_owned(),
            labels: BTreeMap::from([("env".to_owned(), "load".to_owned())]),
            ..Target::default()
        };
        self.sidecars.announce(AnnounceRequest { targets: vec![target], ..Default::default() }).await?;
        Ok(())
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
