//! tokio-postgres: everything is a pipeline to it; over the tunnel, and natively with rustls.

use std::{
    fs,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context as Waker, Poll},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use e2e::Way;
use futures_util::{
    SinkExt, StreamExt, TryStreamExt,
    future::{join_all, poll_fn},
    stream::FuturesUnordered,
};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::mpsc,
    time::timeout,
};
use tokio_postgres::{
    AsyncMessage, Client, Config, Connection, NoTls, SimpleQueryMessage,
    config::SslMode,
    error::SqlState,
    tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream},
};

use crate::stage::{PATIENCE, Stage};

#[test]
fn tokio_postgres_sees_no_difference_with_many_statements_in_flight() -> Result<()> {
    let stage = Stage::new()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let transcript =
        stage.alike(|way| runtime.block_on(async { timeout(PATIENCE, play(&stage, way)).await? }))?;
    ensure!(transcript.contains("57014") && transcript.contains("it is raining"), "{transcript}");
    Ok(())
}

/// A connection that can be cancelled, with what it hears beside the answers.
struct Session {
    client: Client,
    heard: mpsc::UnboundedReceiver<String>,
    tls: Option<Rustls>,
}

async fn connect(stage: &Stage, way: Way) -> Result<Session> {
    let variables = stage.environment(way)?;
    let variable = |name: &str| {
        let found = variables.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).with_context(|| format!("{name} of {way:?}"))
    };
    let mut config = Config::new();
    config.host(variable("PGHOST")?).port(variable("PGPORT")?.parse()?);
    config.user(variable("PGUSER")?).dbname(variable("PGDATABASE")?);
    config.connect_timeout(Duration::from_secs(10));
    if way != Way::Native {
        let (client, connection) = config.ssl_mode(SslMode::Disable).connect(NoTls).await?;
        return Ok(Session { client, heard: listen(connection), tls: None });
    }
    let tls = Rustls::new(variable("PGSSLROOTCERT")?, variable("PGSSLCERT")?, variable("PGSSLKEY")?)?;
    let (client, connection) = config.ssl_mode(SslMode::Require).connect(tls.clone()).await?;
    Ok(Session { client, heard: listen(connection), tls: Some(tls) })
}

/// Drives the connection, and keeps notices and notifications.
pub(crate) fn listen<S, T>(mut connection: Connection<S, T>) -> mpsc::UnboundedReceiver<String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, heard) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(message) = poll_fn(|waker| connection.poll_message(waker)).await {
            let text = match message {
                Ok(AsyncMessage::Notice(notice)) => format!("{}: {}", notice.severity(), notice.message()),
                Ok(AsyncMessage::Notification(note)) => format!("{}: {}", note.channel(), note.payload()),
                Ok(_) => continue,
                // It would say so again and again.
                Err(error) => {
                    let _ = sender.send(format!("connection: {error}"));
                    return;
                }
            };
            if sender.send(text).is_err() {
                return;
            }
        }
    });
    heard
}

async fn play(stage: &Stage, way: Way) -> Result<String> {
    let mut session = connect(stage, way).await?;
    let client = &session.client;
    let mut said = vec![
        step("in flight", in_flight(client)).await?,
        step("errors", errors_in_flight(client)).await?,
        step("deep", deep(client)).await?,
        step("copy", copies(client)).await?,
        step("cancel", cancelled(stage, &session)).await?,
    ];
    said.push(step("listen", heard(stage, way, &mut session)).await?);
    said.push(step("simple", simple(&session.client)).await?);
    Ok(said.join("\n"))
}

/// What hangs is named.
async fn step(name: &str, play: impl Future<Output = Result<String>>) -> Result<String> {
    timeout(PATIENCE / 3, play).await.with_context(|| format!("{name} hangs"))?.context(name.to_owned())
}

async fn in_flight(client: &Client) -> Result<String> {
    let statement = client.prepare("SELECT $1::int8 * 2, repeat('x', $2)").await?;
    let rows = join_all((0..1000_i64).map(|number| {
        let statement = &statement;
        async move { client.query_one(statement, &[&number, &100_i32]).await }
    }));
    let mut sum = 0;
    for (number, row) in (0..).zip(rows.await) {
        let doubled: i64 = row?.get(0);
        ensure!(doubled == number * 2, "the answer to another question");
        sum += doubled;
    }
    Ok(format!("in flight: {sum}"))
}

/// Each statement ends with its own Sync: the failing ones fail, their neighbours do not.
async fn errors_in_flight(client: &Client) -> Result<String> {
    let statement = client.prepare("SELECT 100 / $1::int4").await?;
    let answers = join_all((0..100_i32).map(|number| {
        let statement = &statement;
        let divisor = number % 10;
        async move { client.query_one(statement, &[&divisor]).await.map(|row| row.get::<_, i32>(0)) }
    }));
    let (mut failed, mut sum) = (0, 0);
    for answer in answers.await {
        match answer {
            Ok(quotient) => sum += quotient,
            Err(error) if error.code() == Some(&SqlState::DIVISION_BY_ZERO) => failed += 1,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(format!("failed in flight: {failed}, {sum}"))
}

/// More questions and more answers than any buffer on the way holds: neither direction may wait for the other.
async fn deep(client: &Client) -> Result<String> {
    let statement = client.prepare("SELECT $1::bytea || $1::bytea").await?;
    let question = vec![7_u8; 1_000_000];
    let mut answers: FuturesUnordered<_> = (0..20)
        .map(|_| {
            let (statement, question) = (&statement, &question);
            async move { client.query_one(statement, &[question]).await }
        })
        .collect();
    let mut bytes = 0;
    while let Some(row) = answers.next().await {
        bytes += row?.get::<_, &[u8]>(0).len();
    }
    Ok(format!("deep: {bytes}"))
}

async fn copies(client: &Client) -> Result<String> {
    client.batch_execute("CREATE TEMP TABLE copied (i int)").await?;
    let sink = client.copy_in("COPY copied FROM STDIN").await?;
    let mut sink = std::pin::pin!(sink);
    for number in 0..1000 {
        sink.send(bytes_of(&format!("{number}\n"))).await?;
    }
    let rows = sink.finish().await?;
    let out: Vec<_> = client.copy_out("COPY copied TO STDOUT").await?.try_collect().await?;
    // Dropped half way, which sends CopyFail.
    drop(client.copy_in::<_, io::Cursor<Vec<u8>>>("COPY copied FROM STDIN").await?);
    let count: i64 = client.query_one("SELECT count(*) FROM copied", &[]).await?.get(0);
    Ok(format!("copied: {rows}, {}, {count}", out.len()))
}

fn bytes_of(text: &str) -> io::Cursor<Vec<u8>> {
    io::Cursor::new(text.as_bytes().to_vec())
}

async fn cancelled(stage: &Stage, session: &Session) -> Result<String> {
    let token = session.client.cancel_token();
    let cancel = async {
        tokio::task::block_in_place(|| stage.world.postgres.wait_until_running("pg_sleep(65)"))?;
        let began = Instant::now();
        match &session.tls {
            Some(tls) => token.cancel_query(tls.clone()).await?,
            None => token.cancel_query(NoTls).await?,
        }
        Ok::<_, anyhow::Error>(began)
    };
    let (answer, began) = tokio::join!(session.client.batch_execute("SELECT pg_sleep(65)"), cancel);
    let took = began?.elapsed();
    ensure!(took < Duration::from_secs(1), "it took {took:?}");
    let Err(error) = answer else { bail!("nobody cancelled it") };
    let alive: i32 = session.client.query_one("SELECT 1", &[]).await?.get(0);
    Ok(format!("cancelled: {:?}, {alive}", error.code().map(SqlState::code)))
}

async fn heard(stage: &Stage, way: Way, session: &mut Session) -> Result<String> {
    let script = "LISTEN news; DO $$ BEGIN FOR i IN 1..3 LOOP RAISE NOTICE 'notice %', i; END LOOP; END $$";
    session.client.batch_execute(script).await?;
    let other = connect(stage, way).await?;
    other.client.batch_execute("NOTIFY news, 'it is raining'").await?;
    let mut all = Vec::new();
    for _ in 0..4 {
        all.push(timeout(Duration::from_secs(10), session.heard.recv()).await?.context("a message")?);
    }
    Ok(format!("heard: {}", all.join(", ")))
}

async fn simple(client: &Client) -> Result<String> {
    let messages =
        client.simple_query("SELECT 1 AS a; SELECT NULL; CREATE TEMP TABLE x (); SELECT 2").await?;
    let said = messages.iter().map(|message| match message {
        SimpleQueryMessage::Row(row) => format!("row {:?}", row.get(0)),
        SimpleQueryMessage::CommandComplete(count) => format!("done {count}"),
        _ => "columns".to_owned(),
    });
    Ok(format!("simple: {}", said.collect::<Vec<_>>().join(", ")))
}

/// rustls for tokio-postgres.
#[derive(Clone)]
pub(crate) struct Rustls(Arc<ClientConfig>);

pub(crate) struct Connector {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

pub(crate) struct Stream<S>(tokio_rustls::client::TlsStream<S>);

impl Rustls {
    pub(crate) fn new(authorities: &str, certificate: &str, key: &str) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for authority in CertificateDer::pem_file_iter(authorities)? {
            roots.add(authority?)?;
        }
        let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<Vec<_>, _>>()?;
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(&fs::read(key)?)?)?;
        Ok(Self(Arc::new(config)))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> MakeTlsConnect<S> for Rustls {
    type Error = rustls_pki_types::InvalidDnsNameError;
    type Stream = Stream<S>;
    type TlsConnect = Connector;

    fn make_tls_connect(&mut self, domain: &str) -> Result<Connector, Self::Error> {
        Ok(Connector { config: Arc::clone(&self.0), name: ServerName::try_from(domain.to_owned())? })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsConnect<S> for Connector {
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream<S>>> + Send>>;
    type Stream = Stream<S>;

    fn connect(self, stream: S) -> Self::Future {
        let connector = tokio_rustls::TlsConnector::from(self.config);
        Box::pin(async move { Ok(Stream(connector.connect(self.name, stream).await?)) })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Stream<S> {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        waker: &mut Waker<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(waker, into)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(mut self: Pin<&mut Self>, waker: &mut Waker<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(waker, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, waker: &mut Waker<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(waker)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, waker: &mut Waker<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(waker)
    }
}
