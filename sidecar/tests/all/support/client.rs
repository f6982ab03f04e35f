//! A PostgreSQL client as tsh is one: TLS first, with its own ALPN, inside it PostgreSQL that believes to be without.

use std::{net::SocketAddr, path::Path, sync::Arc};

use rustls::{ClientConfig, RootCertStore, client::WebPkiServerVerifier, crypto::aws_lc_rs};
use rustls_pki_types::ServerName;
use tokio::{net::TcpStream, task::JoinHandle};
use tokio_postgres::{Client, Error, NoTls, config::SslMode};
use tokio_rustls::TlsConnector;

use super::authd::{Certificate, DB_NAME, DB_USER};

/// A connection that is logged in.
pub(crate) struct Connected {
    pub(crate) client: Client,
    /// Ends with the connection, and with what ended it.
    pub(crate) end: JoinHandle<Result<(), Error>>,
}

impl Connected {
    pub(crate) async fn one(&self, query: &str) -> String {
        self.client.query_one(query, &[]).await.unwrap().get(0)
    }
}

pub(crate) async fn connect(
    address: SocketAddr,
    target: &str,
    certificate: &Certificate,
) -> Result<Connected, Error> {
    connect_as(address, target, certificate, DB_USER, DB_NAME).await
}

pub(crate) async fn connect_as(
    address: SocketAddr,
    target: &str,
    certificate: &Certificate,
    user: &str,
    database: &str,
) -> Result<Connected, Error> {
    let socket = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from(format!("{target}.target.touchstone.internal")).unwrap();
    let tls = TlsConnector::from(config(certificate)).connect(name, socket).await.unwrap();
    let mut config = tokio_postgres::Config::new();
    config.user(user).dbname(database).ssl_mode(SslMode::Disable);
    let (client, connection) = config.connect_raw(tls, NoTls).await?;
    Ok(Connected { client, end: tokio::spawn(connection) })
}

/// A second connection for the same session's cancel, under this certificate.
pub(crate) async fn cancel(
    address: SocketAddr,
    target: &str,
    certificate: &Certificate,
    token: &tokio_postgres::CancelToken,
) {
    let socket = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from(format!("{target}.target.touchstone.internal")).unwrap();
    let tls = TlsConnector::from(config(certificate)).connect(name, socket).await.unwrap();
    token.cancel_query_raw(tls, NoTls).await.unwrap();
}

/// What psql is told to connect with a certificate in files, which are written to `directory`.
pub(crate) fn psql_connection(directory: &Path, address: SocketAddr, certificate: &Certificate) -> String {
    let write = |name: &str, tag: &str, der: &[u8]| {
        let path = directory.join(name);
        std::fs::write(&path, pem::encode(&pem::Pem::new(tag, der))).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        path.display().to_string()
    };
    format!(
        "host=localhost port={} user={DB_USER} dbname={DB_NAME} sslmode=verify-full sslrootcert={} sslcert={} sslkey={}",
        address.port(),
        write("ca.pem", "CERTIFICATE", &certificate.host_authorities[0]),
        write("client.crt", "CERTIFICATE", &certificate.chain[0]),
        write("client.key", "PRIVATE KEY", certificate.key.secret_der()),
    )
}

fn config(certificate: &Certificate) -> Arc<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    for authority in &certificate.host_authorities {
        roots.add(authority.clone()).unwrap();
    }
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_webpki_verifier(verifier)
        .with_client_auth_cert(certificate.chain.clone(), certificate.key.clone_key())
        .unwrap();
    config.alpn_protocols = vec![protocols::postgres::TUNNEL_ALPN.to_vec()];
    Arc::new(config)
}

/// SQLSTATE, message and hint of a connection that was refused.
pub(crate) fn refused(outcome: Result<Connected, Error>) -> (String, String, Option<String>) {
    told(&outcome.err().expect("it must be refused"))
}

pub(crate) fn told(error: &Error) -> (String, String, Option<String>) {
    let error = error.as_db_error().unwrap_or_else(|| panic!("not told in PostgreSQL's words: {error:?}"));
    (error.code().code().to_owned(), error.message().to_owned(), error.hint().map(str::to_owned))
}
