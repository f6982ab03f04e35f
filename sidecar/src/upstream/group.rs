//! Which group of key exchange the upstream takes, and nothing else of earlier sessions.
//!
//! A TLS 1.3 client sends its half of a key exchange with its first message, before it knows which groups the server
//! takes. PostgreSQL up to 17 takes P-256 alone unless it is told otherwise, so that each session's first half would be of a group that
//! it asks to change: a round trip and a key pair for nothing. rustls keeps that choice where it keeps sessions; here it is
//! kept, and sessions are not.

use std::sync::atomic::{AtomicU16, Ordering};

use rustls::{
    NamedGroup,
    client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue},
};
use rustls_pki_types::ServerName;

/// What one upstream chose last; 0, which is no group, before it did. Whoever could lie about it, on the way or at the end of
/// it, makes a session take a round trip more: both sides confirm the group in the handshake.
#[derive(Debug, Default)]
pub(super) struct GroupOfUpstream(AtomicU16);

impl ClientSessionStore for GroupOfUpstream {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.0.store(group.into(), Ordering::Relaxed);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            group => Some(group.into()),
        }
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, _: Tls13ClientSessionValue) {}

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use authd::ca::{Attribute, San, Usage};
    use rustls::{HandshakeKind, ServerConfig};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use crate::{
        config::TlsMode,
        testing::{World, mint},
        tls::provider,
        upstream::{Roots, TlsFactory},
    };
    use rustls_pki_types::ServerName;

    const NAME: &str = "db.example.com";

    /// An upstream that takes one group of those that we have, and gives tickets.
    fn upstream(world: &World, group: rustls::NamedGroup) -> TlsAcceptor {
        let names = vec![San::Dns(NAME.to_owned())];
        let subject = vec![Attribute::common_name(NAME)];
        let minted = mint::sign(&world.authorities.db, subject, Usage::Server, names, vec![]);
        let mut picky = (*provider()).clone();
        picky.kx_groups.retain(|known| known.name() == group);
        let config = ServerConfig::builder_with_provider(Arc::new(picky))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![minted.certificate], minted.key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }

    async fn handshake(factory: &TlsFactory, upstream: &TlsAcceptor) -> HandshakeKind {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let config = factory.config(None).unwrap();
        let name = ServerName::try_from(NAME).unwrap();
        let dial = async {
            let mut stream = TlsConnector::from(config).connect(name, ours).await.unwrap();
            // Past the tickets, which come before.
            assert_eq!(stream.read_u8().await.unwrap(), b'R');
            stream.get_ref().1.handshake_kind().unwrap()
        };
        let answer = async {
            let mut stream = upstream.accept(theirs).await.unwrap();
            stream.write_all(b"R").await.unwrap();
            stream.flush().await.unwrap();
            stream
        };
        tokio::join!(dial, answer).0
    }

    #[tokio::test]
    async fn the_second_session_begins_with_what_the_upstream_takes_and_resumes_nothing() {
        use rustls::NamedGroup::{secp256r1, secp384r1};
        let world = World::new();
        let factory = TlsFactory::new(TlsMode::VerifyFull, Roots::Cluster(Arc::clone(&world.replica)));
        let asks_again = HandshakeKind::FullWithHelloRetryRequest;
        for group in [secp256r1, secp384r1] {
            let upstream = upstream(&world, group);
            assert_eq!(handshake(&factory, &upstream).await, asks_again);
            for _ in 0..2 {
                assert_eq!(handshake(&factory, &upstream).await, HandshakeKind::Full);
            }
        }
    }
}
