use std::io;

use protocols::postgres;
use rustls::{
    ClientConfig, HandshakeKind, RootCertStore, SupportedProtocolVersion,
    client::{ClientSessionMemoryCache, ResolvesClientCert, Resumption, WebPkiServerVerifier},
    version::{TLS12, TLS13},
};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::testing::{
    World,
    mint::{self, Authorities, Minted},
};

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];
const ALPN: [&[u8]; 2] = [postgres::ALPN, postgres::TUNNEL_ALPN];
const NAME: &str = "prod-pg.target.touchstone.internal";

/// What the server learns of a client.
#[derive(Debug)]
struct Seen {
    chain: Vec<CertificateDer<'static>>,
    kind: Option<HandshakeKind>,
    alpn: Option<Vec<u8>>,
    suite: Option<CipherSuite>,
}

fn certificate(authorities: &Authorities) -> Minted {
    use authd::ca::{Attribute, San, Usage};
    let names = vec![San::Dns(NAME.to_owned())];
    mint::sign(&authorities.host, vec![Attribute::common_name("sidecar")], Usage::Server, names, vec![])
}

fn server(authorities: &Authorities) -> (TlsAcceptor, Arc<ServerCertificate>) {
    let Minted { certificate, key } = certificate(authorities);
    let certificate = Arc::new(ServerCertificate::new(vec![certificate], key).unwrap());
    (TlsAcceptor::from(server_config(Arc::clone(&certificate), &ALPN).unwrap()), certificate)
}

fn client(
    authorities: &Authorities,
    version: &'static SupportedProtocolVersion,
    identity: Option<Arc<dyn ResolvesClientCert>>,
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(authorities.host.certificate().clone()).unwrap();
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build().unwrap();
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_webpki_verifier(verifier);
    let mut config = match identity {
        Some(resolver) => builder.with_client_cert_resolver(resolver),
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::store(Arc::new(ClientSessionMemoryCache::new(16)));
    config
}

/// Presents one certificate and signs with a key of the test's choice.
#[derive(Debug)]
struct Presents(Arc<CertifiedKey>);

impl Presents {
    fn new(certificate: CertificateDer<'static>, key: &PrivateKeyDer<'static>) -> Arc<Self> {
        let key = provider().key_provider.load_private_key(key.clone_key()).unwrap();
        Arc::new(Self(Arc::new(CertifiedKey::new(vec![certificate], key))))
    }

    fn honest(minted: &Minted) -> Arc<Self> {
        Self::new(minted.certificate.clone(), &minted.key)
    }
}

impl ResolvesClientCert for Presents {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

async fn handshake(acceptor: &TlsAcceptor, config: Arc<ClientConfig>) -> io::Result<Seen> {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let client = tokio::spawn(async move {
        let name = ServerName::try_from(NAME).unwrap();
        let mut stream = TlsConnector::from(config).connect(name, ours).await?;
        // Reads to the end, so that tickets would be stored.
        let mut rest = Vec::new();
        stream.write_all(b"hello").await?;
        stream.read_to_end(&mut rest).await
    });
    let mut stream = acceptor.accept(theirs).await?;
    let mut hello = [0; 5];
    stream.read_exact(&mut hello).await?;
    let connection = stream.get_ref().1;
    let seen = Seen {
        chain: connection
            .peer_certificates()
            .unwrap_or_default()
            .iter()
            .map(|c| c.clone().into_owned())
            .collect(),
        kind: connection.handshake_kind(),
        alpn: connection.alpn_protocol().map(<[u8]>::to_vec),
        suite: connection.negotiated_cipher_suite().map(|suite| suite.suite()),
    };
    stream.shutdown().await?;
    drop(stream);
    client.await.unwrap()?;
    Ok(seen)
}

#[tokio::test]
async fn whoever_holds_the_key_is_let_through_to_be_judged() {
    let world = World::new();
    let (acceptor, _) = server(&world.authorities);
    let foreign = Authorities::new();
    let expired = auth::identity::Identity {
        not_after: std::time::SystemTime::now() - std::time::Duration::from_secs(60),
        ..mint::jerry()
    };
    for minted in [
        world.login(),
        foreign.user(&mint::jerry()),
        world.authorities.user(&expired),
        certificate(&world.authorities),
    ] {
        for version in VERSIONS {
            let config = client(&world.authorities, version, Some(Presents::honest(&minted)));
            let seen = handshake(&acceptor, Arc::new(config)).await.unwrap();
            assert_eq!(seen.chain, std::slice::from_ref(&minted.certificate));
        }
    }
}

#[tokio::test]
async fn a_certificate_without_its_key_is_refused_in_the_handshake() {
    let world = World::new();
    let (acceptor, _) = server(&world.authorities);
    let (stolen, other) = (world.login(), world.login());
    for version in VERSIONS {
        let thief = Presents::new(stolen.certificate.clone(), &other.key);
        let config = client(&world.authorities, version, Some(thief));
        let error = handshake(&acceptor, Arc::new(config)).await.unwrap_err();
        assert!(error.to_string().contains("BadSignature"), "{version:?}: {error}");
    }
}

#[tokio::test]
async fn no_session_is_ever_resumed() {
    let world = World::new();
    let (acceptor, _) = server(&world.authorities);
    let minted = world.login();
    for version in VERSIONS {
        let config = Arc::new(client(&world.authorities, version, Some(Presents::honest(&minted))));
        for _ in 0..3 {
            let seen = handshake(&acceptor, Arc::clone(&config)).await.unwrap();
            assert!(matches!(seen.kind, Some(HandshakeKind::Full)), "{version:?}: {:?}", seen.kind);
            assert_eq!(seen.chain.len(), 1);
        }
    }
}

#[tokio::test]
async fn a_client_without_a_certificate_gets_as_far_as_being_told() {
    let world = World::new();
    let (acceptor, _) = server(&world.authorities);
    for version in VERSIONS {
        let seen = handshake(&acceptor, Arc::new(client(&world.authorities, version, None))).await.unwrap();
        assert!(seen.chain.is_empty());
    }
}

#[tokio::test]
async fn the_tunnel_and_libpq_are_told_apart_by_alpn() {
    let world = World::new();
    let (acceptor, _) = server(&world.authorities);
    for alpn in ALPN {
        let mut config = client(&world.authorities, &TLS13, None);
        config.alpn_protocols = vec![alpn.to_vec()];
        assert_eq!(handshake(&acceptor, Arc::new(config)).await.unwrap().alpn.as_deref(), Some(alpn));
    }
}

#[tokio::test]
async fn aes_128_is_taken_from_who_prefers_another_and_another_from_who_has_no_aes_128() {
    let world = World::new();
    let (acceptor, _) = server(&world.authorities);
    let suite = async |suites: &dyn Fn(CipherSuite) -> Option<u8>| {
        let mut offered = (*provider()).clone();
        offered.cipher_suites.retain(|suite| suites(suite.suite()).is_some());
        offered.cipher_suites.sort_by_key(|suite| suites(suite.suite()));
        let mut roots = RootCertStore::empty();
        roots.add(world.authorities.host.certificate().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(offered))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        handshake(&acceptor, Arc::new(config)).await.unwrap().suite.unwrap()
    };
    let openssl = |suite| match suite {
        CipherSuite::TLS13_AES_256_GCM_SHA384 => Some(1),
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => Some(2),
        CipherSuite::TLS13_AES_128_GCM_SHA256 => Some(3),
        _ => None,
    };
    assert_eq!(suite(&openssl).await, CipherSuite::TLS13_AES_128_GCM_SHA256);
    let strict = |suite| (suite == CipherSuite::TLS13_AES_256_GCM_SHA384).then_some(1);
    assert_eq!(suite(&strict).await, CipherSuite::TLS13_AES_256_GCM_SHA384);
}

#[tokio::test]
async fn a_renewed_certificate_is_what_the_next_client_sees() {
    let old = World::new();
    let renewed = World::new();
    let (acceptor, shown) = server(&old.authorities);
    let config = Arc::new(client(&renewed.authorities, &TLS13, None));
    assert!(handshake(&acceptor, Arc::clone(&config)).await.is_err());
    let Minted { certificate, key } = certificate(&renewed.authorities);
    shown.replace(vec![certificate], key).unwrap();
    handshake(&acceptor, config).await.unwrap();
}

#[test]
fn a_key_that_is_not_the_certificates_is_refused_at_once() {
    let world = World::new();
    let (one, other) = (world.login(), world.login());
    assert!(ServerCertificate::new(vec![one.certificate], other.key).is_err());
}
