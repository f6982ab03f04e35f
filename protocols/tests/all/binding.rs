//! SCRAM is bound to the TLS channel: whoever sits in the middle, with a certificate that we trust, gets no
//! session out of the password exchange that passes by.

use protocols::{DialError, Login, Protocol, UpstreamAddress};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::support::client::SSL_REQUEST;
use crate::support::postgresql::Postgresql;
use crate::support::{Authority, Sidecar, login};

/// Carries one connection to the upstream, out of one TLS and into another.
async fn sits_in_the_middle(authority: &Authority, upstream: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = TlsAcceptor::from(authority.server_config());
    let connector = TlsConnector::from(authority.anonymous_config());
    tokio::spawn(async move {
        let (mut near, _) = listener.accept().await.unwrap();
        near.read_exact(&mut [0; 8]).await.unwrap();
        near.write_all(b"S").await.unwrap();
        let mut near = acceptor.accept(near).await.unwrap();
        let mut far = TcpStream::connect(("127.0.0.1", upstream)).await.unwrap();
        far.write_all(&SSL_REQUEST).await.unwrap();
        assert_eq!(far.read_u8().await.unwrap(), b'S');
        let mut far = connector.connect("localhost".try_into().unwrap(), far).await.unwrap();
        let _ = copy_bidirectional(&mut near, &mut far).await;
    });
    port
}

#[tokio::test]
async fn who_sits_between_us_and_the_upstream_is_noticed_by_the_upstream() {
    let sidecar = Sidecar::start().await;
    let Some(upstream) = Postgresql::start(&sidecar.authority) else { return };
    let mut endpoint = upstream.password(&sidecar.authority, "secret");
    let login = Login { user: "scram".into(), ..login() };
    sidecar.postgres.dial(&endpoint, &login).await.unwrap();

    let UpstreamAddress::Tcp { port, .. } = &mut endpoint.address else { unreachable!() };
    *port = sits_in_the_middle(&sidecar.authority, *port).await;
    let error = sidecar.postgres.dial(&endpoint, &login).await.unwrap_err();
    // The password is right and both certificates are good: nothing but the binding can have failed.
    let DialError::Rejected(report) = &error else { panic!("{error:?}") };
    assert!(report.message.contains("channel binding"), "{report}");
}
