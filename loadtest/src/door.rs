//! A door to knock at: an address, what must stand behind it, and what to show there.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use anyhow::Result;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::{CryptoProvider, aws_lc_rs},
};
use rustls_pki_types::{CertificateDer, ServerName};
use serde::{Deserialize, Serialize};

use crate::person::Certified;

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Protocol {
    Postgres,
    Mysql,
    Ssh,
}

impl Protocol {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL",
            Self::Mysql => "MySQL",
            Self::Ssh => "SSH",
        }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Mysql => "mysql",
            Self::Ssh => "ssh",
        }
    }
}

/// How TLS begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// In plaintext, as the protocol has it.
    Asked,
    /// At once (`sslnegotiation=direct`).
    Direct,
}

/// What is shown at a door and asked for there, as PEM files: for clients that are programs.
#[derive(Clone, Debug)]
pub(crate) struct Papers {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) authorities: PathBuf,
}

/// Everything that a connection needs.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) protocol: Protocol,
    pub(crate) address: SocketAddr,
    pub(crate) opening: Opening,
    pub(crate) tls: Arc<ClientConfig>,
    /// The same on disk.
    pub(crate) papers: Papers,
    pub(crate) server_name: ServerName<'static>,
    pub(crate) user: String,
    pub(crate) database: String,
}

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(aws_lc_rs::default_provider())))
}

/// TLS 1.3 with a client certificate and no resumption: every connection proves everything, on every way alike.
pub(crate) fn client_config(
    authorities: &[CertificateDer<'static>],
    client: &Certified,
    alpn: Option<&[u8]>,
) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.clone())?;
    }
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(client.chain.clone(), client.key.clone_key())?;
    config.resumption = rustls::client::Resumption::disabled();
    config.alpn_protocols = alpn.into_iter().map(<[u8]>::to_vec).collect();
    Ok(Arc::new(config))
}

/// What a null upstream or a bare relay shows: a database's certificate, and nobody's resumption.
pub(crate) fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: rustls_pki_types::PrivateKeyDer<'static>,
    clients: &[CertificateDer<'static>],
    alpn: &[&[u8]],
) -> Result<Arc<rustls::ServerConfig>> {
    let mut roots = RootCertStore::empty();
    for authority in clients {
        roots.add(authority.clone())?;
    }
    let verifier =
        rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build()?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}
