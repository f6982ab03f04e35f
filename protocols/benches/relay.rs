//! What the relay costs: a message there and back, a megabyte down, and cutting a stream into messages.
//!
//! The client's leg is mutual TLS and the upstream's a Unix socket, both through the kernel: what is measured is what a
//! session does. `reference` is a fixed piece of work of the same run, by which `make bench` compares machines and days.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a bench that cannot run shall stop")]

use std::hint::black_box;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use protocols::frame::{Boundaries, Splitter, Step};
use protocols::postgres::{Messages, Postgres};
use protocols::{
    Client, Credential, Endpoint, Event, Limits, Protocol, Tap, TapClosed, UpstreamAddress, Verdict,
};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const QUERY: &[u8] = b"Q\0\0\0\x0dSELECT 1\0";
const READY: &[u8] = b"Z\0\0\0\x05I";
const ROW: &[u8] = b"D\0\0\0\x0b\0\x01\0\0\0\x011C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I";
const MEGABYTE: usize = 1_000_000;

struct Nobody;

impl Tap for Nobody {
    async fn observe(&mut self, _: Event<'_>) -> Result<Verdict, TapClosed> {
        Ok(Verdict::Forward)
    }
}

fn benches(criterion: &mut Criterion) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut group = criterion.benchmark_group("protocols");
    let page = vec![7_u8; 64 * 1024];
    group.bench_function("reference", |b| b.iter(|| digest(&SHA256, black_box(&page))));

    let batch = QUERY.repeat(100);
    group.bench_function("splitter-100-queries", |b| {
        b.iter(|| {
            let mut splitter = Splitter::new(Messages);
            let mut rest = black_box(&batch[..]);
            while let Ok(Step::Show(_, bytes)) = splitter.step(rest) {
                rest = &rest[bytes..];
            }
            assert!(rest.is_empty());
        });
    });
    let rows = ROW.repeat(1000);
    group.bench_function("boundaries-1000-answers", |b| {
        b.iter(|| Boundaries::<Messages>::new(None).follow(black_box(&rows)));
    });

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut session = runtime.block_on(session());
    group.bench_function("relay-message", |b| {
        b.iter(|| runtime.block_on(ask(&mut session, QUERY, ROW.len())));
    });
    group.throughput(Throughput::Bytes(MEGABYTE as u64));
    group.bench_function("relay-megabyte", |b| {
        b.iter(|| runtime.block_on(ask(&mut session, b"Q\0\0\0\x08big\0", MEGABYTE)));
    });
    group.finish();
    leave(runtime);
}

fn leave(runtime: Runtime) {
    runtime.shutdown_background();
}

async fn ask(session: &mut TlsStream<TcpStream>, question: &[u8], answer: usize) {
    session.write_all(question).await.unwrap();
    session.flush().await.unwrap();
    let mut space = [0; 64 * 1024];
    let mut left = answer;
    while left > 0 {
        let wanted = left.min(space.len());
        left -= session.read(&mut space[..wanted]).await.unwrap();
    }
}

/// A client that is logged in through the protocol's whole front, with an upstream that answers at once.
async fn session() -> TlsStream<TcpStream> {
    let directory = std::env::temp_dir().join(format!("touchstone-bench-{}", std::process::id()));
    let _ = std::fs::remove_file(&directory);
    let upstream = UnixListener::bind(&directory).unwrap();
    tokio::spawn(async move {
        let (socket, _) = upstream.accept().await.unwrap();
        answer(socket).await;
    });
    let (client, server) = certificates();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let protocol = Postgres::new(server, Limits::default());
        let (socket, _) = listener.accept().await.unwrap();
        let accepted = protocol.accept(socket).await.unwrap().unwrap();
        let endpoint = Endpoint {
            address: UpstreamAddress::Unix(directory),
            tls: None,
            credential: Credential::None,
            settings: Vec::new(),
            replication_allowed: false,
            local_infile_allowed: false,
            ssh: None,
        };
        let upstream = protocol.dial(&endpoint, &accepted.login).await.unwrap();
        accepted.client.relay(upstream, Nobody, std::future::pending()).await
    });
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.set_nodelay(true).unwrap();
    socket.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).await.unwrap();
    assert_eq!(socket.read_u8().await.unwrap(), b'S');
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = TlsConnector::from(client).connect(name, socket).await.unwrap();
    stream.write_all(b"\0\0\0\x12\0\x03\0\0user\0app\0\0").await.unwrap();
    stream.flush().await.unwrap();
    // AuthenticationOk and ReadyForQuery.
    let mut welcome = [0; 15];
    stream.read_exact(&mut welcome).await.unwrap();
    stream
}

async fn answer(mut socket: UnixStream) {
    let mut space = vec![0; 64 * 1024];
    let _ = socket.read(&mut space).await.unwrap();
    socket.write_all(&[&b"R\0\0\0\x08\0\0\0\0"[..], READY].concat()).await.unwrap();
    let data = MEGABYTE - READY.len();
    let mut big = vec![b'd'];
    big.extend_from_slice(&u32::try_from(data - 1).unwrap().to_be_bytes());
    big.resize(data, 0);
    big.extend_from_slice(READY);
    loop {
        let bytes = socket.read(&mut space).await.unwrap();
        if bytes == 0 {
            return;
        }
        let answer = if space[..bytes].ends_with(b"big\0") { &big[..] } else { ROW };
        socket.write_all(answer).await.unwrap();
    }
}

fn certificates() -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::<String>::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_certificate = authority.self_signed(&authority_key).unwrap();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let leaf = |usage| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        let certificate = params.signed_by(&key, &issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        (vec![CertificateDer::from(certificate.der().to_vec())], key)
    };
    let mut roots = RootCertStore::empty();
    roots.add(authority_certificate.der().clone()).unwrap();
    let roots = Arc::new(roots);
    let (chain, key) = leaf(ExtendedKeyUsagePurpose::ClientAuth);
    let client = ClientConfig::builder()
        .with_root_certificates(Arc::clone(&roots))
        .with_client_auth_cert(chain, key)
        .unwrap();
    let verifier = WebPkiClientVerifier::builder(roots).build().unwrap();
    let (chain, key) = leaf(ExtendedKeyUsagePurpose::ServerAuth);
    let server =
        ServerConfig::builder().with_client_cert_verifier(verifier).with_single_cert(chain, key).unwrap();
    (Arc::new(client), Arc::new(server))
}

criterion_group!(all, benches);
criterion_main!(all);
