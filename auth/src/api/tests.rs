use std::{io, sync::Arc};

use rustls::ServerConfig;
use rustls_pki_types::PrivatePkcs8KeyDer;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::mpsc,
};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::{
    key::generate_p256,
    testing::{Ca, Draft, HOUR, MINUTE, forge::SERVER_AUTH},
};

/// What stands behind the address that is dialled.
struct Authd {
    ca: Ca,
    names: Vec<String>,
    /// After the leaf; `None`: nothing.
    presented: Option<CertificateDer<'static>>,
    expired: bool,
}

impl Authd {
    fn new() -> Self {
        let ca = Ca::new("host authority");
        let presented = Some(ca.certificate.clone());
        Self { ca, names: vec![AUTHD_SERVER_NAME.to_owned()], presented, expired: false }
    }

    fn pin(&self) -> CaPin {
        CaPin::of_spki(&self.ca.spki())
    }

    /// Listens, answers handshakes and keeps what comes of them open.
    async fn start(&self) -> String {
        let (key, spki) = generate_p256().unwrap();
        let now = std::time::SystemTime::now();
        let mut leaf = Draft::named("authd", spki);
        leaf.purposes = vec![SERVER_AUTH];
        leaf.dns_names = self.names.clone();
        (leaf.not_before, leaf.not_after) =
            (now - HOUR, if self.expired { now - MINUTE } else { now + HOUR });
        let mut chain = vec![self.ca.sign(&leaf)];
        chain.extend(self.presented.clone());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, PrivatePkcs8KeyDer::from(key.secret_pkcs8_der().to_vec()).into())
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let acceptor = acceptor.clone();
                tokio::spawn(async move { serve(acceptor.accept(socket).await?).await });
            }
        });
        address
    }
}

/// A gRPC server that knows no method.
async fn serve(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> io::Result<()> {
    use hyper_util::{
        rt::{TokioExecutor, TokioIo},
        server::conn::auto::Builder,
        service::TowerToHyperService,
    };
    let service = TowerToHyperService::new(tonic::service::Routes::default().prepare());
    let served = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
    served.map_err(io::Error::other)
}

async fn trusting(address: &str, trust: Trust) -> Result<Channel, ApiError> {
    connect(address, trust, None).await
}

async fn ping(channel: Channel) -> tonic::Code {
    let mut client = crate::proto::public_client::PublicClient::new(channel);
    client.ping(crate::proto::PingRequest {}).await.unwrap_err().code()
}

#[tokio::test]
async fn a_known_authority_is_trusted() {
    let authd = Authd::new();
    let address = authd.start().await;
    let channel = trusting(&address, Trust::Authorities(vec![authd.ca.certificate.clone()])).await.unwrap();
    assert_eq!(ping(channel).await, tonic::Code::Unimplemented);
}

#[tokio::test]
async fn a_pinned_authority_is_trusted() {
    let authd = Authd::new();
    let address = authd.start().await;
    let other = CaPin::of_spki(b"another");
    let channel = trusting(&address, Trust::Pins(vec![other, authd.pin()])).await.unwrap();
    assert_eq!(ping(channel).await, tonic::Code::Unimplemented);
}

#[tokio::test]
async fn a_client_certificate_is_presented() {
    let authd = Authd::new();
    let address = authd.start().await;
    let (key, spki) = generate_p256().unwrap();
    let identity = ClientIdentity {
        chain: vec![authd.ca.sign(&Draft::named("jerry", spki))],
        key: PrivatePkcs8KeyDer::from(key.secret_pkcs8_der().to_vec()).into(),
    };
    assert!(connect(&address, Trust::Pins(vec![authd.pin()]), Some(identity)).await.is_ok());
}

#[tokio::test]
async fn a_client_certificate_for_another_key_is_refused_before_dialling() {
    let authd = Authd::new();
    let (key, _) = generate_p256().unwrap();
    let identity = ClientIdentity {
        chain: vec![authd.ca.sign(&Draft::named("jerry", generate_p256().unwrap().1))],
        key: PrivatePkcs8KeyDer::from(key.secret_pkcs8_der().to_vec()).into(),
    };
    let error = connect("127.0.0.1:1", Trust::Pins(vec![authd.pin()]), Some(identity)).await.unwrap_err();
    assert!(matches!(error, ApiError::ClientIdentity(_)), "{error:?}");
}

#[tokio::test]
async fn another_pin_is_refused_in_so_many_words() {
    let authd = Authd::new();
    let address = authd.start().await;
    let error = trusting(&address, Trust::Pins(vec![CaPin::of_spki(b"another")])).await.unwrap_err();
    assert_eq!(error.to_string(), format!("the certificate of {address} does not match the CA pin"));
}

#[tokio::test]
async fn a_pinned_authority_that_did_not_sign_is_refused() {
    // The right authority's certificate is public: whoever presents it beside a leaf of his own must not get through.
    let real = Authd::new();
    let forger = Authd { presented: Some(real.ca.certificate.clone()), ..Authd::new() };
    let address = forger.start().await;
    let error = trusting(&address, Trust::Pins(vec![real.pin()])).await.unwrap_err();
    assert!(matches!(error, ApiError::Untrusted { .. }), "{error:?}");
}

#[tokio::test]
async fn the_pin_of_a_leaf_is_no_authority() {
    let authd = Authd { presented: None, ..Authd::new() };
    let address = authd.start().await;
    let error = trusting(&address, Trust::Pins(vec![authd.pin()])).await.unwrap_err();
    assert!(matches!(error, ApiError::PinMismatch { .. }), "{error:?}");
}

#[tokio::test]
async fn another_name_another_authority_and_another_time_are_not_authd() {
    let sidecar = Authd { names: vec!["prod-pg.target.touchstone.internal".to_owned()], ..Authd::new() };
    let expired = Authd { expired: true, ..Authd::new() };
    for authd in [sidecar, expired] {
        let address = authd.start().await;
        for trust in [Trust::Pins(vec![authd.pin()]), Trust::Authorities(vec![authd.ca.certificate.clone()])]
        {
            let error = trusting(&address, trust).await.unwrap_err();
            assert!(matches!(error, ApiError::Untrusted { .. }), "{error:?}");
        }
    }
    let address = Authd::new().start().await;
    let other = Trust::Authorities(vec![Ca::new("host authority").certificate]);
    assert!(matches!(trusting(&address, other).await, Err(ApiError::Untrusted { .. })));
}

#[tokio::test]
async fn nothing_to_trust_is_no_trust() {
    for trust in [Trust::Pins(vec![]), Trust::Authorities(vec![])] {
        let error = trusting("127.0.0.1:1", trust).await.unwrap_err();
        assert!(matches!(error, ApiError::NoAuthorities), "{error:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_reached_is_named() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let error = trusting(&closed, Trust::Pins(vec![CaPin::of_spki(b"x")])).await.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot reach {closed}"));
}

#[tokio::test]
async fn an_address_has_a_host_and_a_port() {
    for wrong in ["", "localhost", "localhost:", "localhost:port", ":3080", "localhost:70000"] {
        let error = trusting(wrong, Trust::Pins(vec![CaPin::of_spki(b"x")])).await.unwrap_err();
        assert!(matches!(error, ApiError::Address { .. }), "{wrong}: {error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let error = trusting(&address, Trust::Pins(vec![CaPin::of_spki(b"x")])).await.unwrap_err();
    assert!(matches!(error, ApiError::TimedOut { .. }), "{error:?}");
}

#[tokio::test]
async fn a_probe_shows_the_authority_and_trusting_it_connects() {
    let authd = Authd::new();
    let address = authd.start().await;
    let probed = probe(&address).await.unwrap();
    assert_eq!(probed.pin, authd.pin());
    assert_eq!(probed.certificate, authd.ca.certificate);
    assert!(trusting(&address, Trust::Pins(vec![probed.pin])).await.is_ok());
}

#[tokio::test]
async fn a_probe_of_something_else_shows_nothing() {
    let other = Authd { names: vec!["example.com".to_owned()], ..Authd::new() };
    let error = probe(&other.start().await).await.unwrap_err();
    assert!(matches!(error, ApiError::Untrusted { .. }), "{error:?}");
}

#[tokio::test]
async fn a_socket_that_is_not_there_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    let error = connect_unix(&path).await.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot open {}", path.display()));
}

/// An admin socket; each message to the sender breaks the connection of the moment.
fn admin_socket(path: &Path) -> mpsc::Sender<()> {
    let listener = UnixListener::bind(path).unwrap();
    let (breaks, mut broken) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            tokio::select! {
                _ = serve(socket) => {}
                _ = broken.recv() => {}
            }
        }
    });
    breaks
}

#[tokio::test]
async fn the_admin_socket_carries_the_api_and_the_channel_connects_again_after_a_break() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    let breaks = admin_socket(&path);
    let channel = connect_unix(&path).await.unwrap();
    assert_eq!(ping(channel.clone()).await, tonic::Code::Unimplemented);

    breaks.send(()).await.unwrap();
    // A call that was on its way when the connection broke may fail; one of the next gets through.
    let again = async {
        while ping(channel.clone()).await != tonic::Code::Unimplemented {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(CALL_DEADLINE, again).await.expect("the channel must mend itself");
}

#[test]
fn names_of_targets_are_under_their_own_domain() {
    let name = target_server_name(&TargetName::new("prod-pg").unwrap());
    assert_eq!(name, "prod-pg.target.touchstone.internal");
}
