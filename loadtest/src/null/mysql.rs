//! A MySQL that is not there: opensrv-mysql greets, and encodes its answers.
//!
//! TLS is done here, in front of it: its own would bring a second rustls. So it is handed a login that says nothing of TLS,
//! and its greeting, which has gone out with TLS on offer, is not sent a second time.

use std::{
    io::{self, Cursor, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use anyhow::{Context as _, Result, ensure};
use async_trait::async_trait;
use opensrv_mysql::{
    AsyncMysqlIntermediary, AsyncMysqlShim, Column, ColumnFlags, ColumnType, InitWriter, OkResponse,
    ParamParser, QueryResultWriter, StatementMetaWriter,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufWriter},
    net::TcpStream,
};
use tokio_rustls::TlsAcceptor;

const VERSION: &str = "8.0.0-null";
/// CLIENT_SSL: bit 11, so this one of the second byte of the flags.
const SSL: u8 = 0x08;
/// Bytes of an SSLRequest, which is a login up to the name.
const SSL_REQUEST: usize = 32;
/// Longest login that is believed.
const LONGEST_LOGIN: usize = 10_000;

/// opensrv's greeting, with TLS on offer.
pub(super) async fn greeting() -> Result<Vec<u8>> {
    let mut greeting = Vec::new();
    // Nobody is there to answer: all that it says before it notices is its greeting.
    let _ = AsyncMysqlIntermediary::run_on(Null::default(), tokio::io::empty(), &mut greeting).await;
    // Header, protocol version, version, number of the connection, half of the scramble, a NUL: then come the flags.
    let flags = 4 + 1 + VERSION.len() + 1 + 4 + 8 + 1;
    *greeting.get_mut(flags + 1).context("opensrv greets otherwise")? |= SSL;
    Ok(greeting)
}

/// One connection: TLS, a login that the certificate has proved, queries until the goodbye. A sidecar's look at who is there,
/// which asks for no TLS, ends here.
pub(super) async fn serve(mut socket: TcpStream, tls: TlsAcceptor, greeting: &[u8]) -> Result<()> {
    socket.write_all(greeting).await?;
    let request = packet(&mut socket).await?;
    ensure!(request.len() == 4 + SSL_REQUEST, "TLS is required");
    let (mut input, output) = tokio::io::split(tls.accept(socket).await?);
    let mut login = packet(&mut input).await?;
    *login.get_mut(4 + 1).context("no login")? &= !SSL;
    let input = Cursor::new(login).chain(input);
    let output = Later { unsaid: greeting.len(), output: BufWriter::new(output) };
    Ok(AsyncMysqlIntermediary::run_on(Null::default(), input, output).await?)
}

/// A packet with its header; not a byte more is read.
async fn packet(input: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>> {
    let mut header = [0; 4];
    input.read_exact(&mut header).await?;
    let [a, b, c, _] = header;
    let length = usize::try_from(u32::from_le_bytes([a, b, c, 0]))?;
    ensure!(length <= LONGEST_LOGIN, "no login is as long");
    let mut packet = header.to_vec();
    packet.resize(4 + length, 0);
    input.read_exact(packet.get_mut(4..).unwrap_or_default()).await?;
    Ok(packet)
}

/// Leaves out what is said first.
struct Later<W> {
    unsaid: usize,
    output: W,
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Later<W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let unsaid = self.unsaid.min(bytes.len());
        if unsaid > 0 {
            self.unsaid -= unsaid;
            return Poll::Ready(Ok(unsaid));
        }
        Pin::new(&mut self.output).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut unsaid = 0;
        for slice in slices {
            if self.unsaid > 0 {
                unsaid += ready!(self.as_mut().poll_write(context, slice))?;
            }
        }
        if unsaid > 0 {
            return Poll::Ready(Ok(unsaid));
        }
        Pin::new(&mut self.output).poll_write_vectored(context, slices)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.output).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.output).poll_shutdown(context)
    }
}

/// Knows one answer, and a large one.
struct Null {
    column: [Column; 1],
}

impl Default for Null {
    fn default() -> Self {
        let column = Column {
            table: String::new(),
            column: "c".to_owned(),
            coltype: ColumnType::MYSQL_TYPE_VAR_STRING,
            colflags: ColumnFlags::empty(),
        };
        Self { column: [column] }
    }
}

impl Null {
    async fn row<'a, W: AsyncWrite + Send + Unpin>(
        &'a self,
        value: &str,
        results: QueryResultWriter<'a, W>,
    ) -> io::Result<()> {
        let mut rows = results.start(&self.column).await?;
        rows.write_row([value]).await?;
        rows.finish().await
    }
}

#[async_trait]
impl<W: AsyncWrite + Send + Unpin> AsyncMysqlShim<W> for Null {
    type Error = io::Error;

    fn version(&self) -> String {
        VERSION.to_owned()
    }

    async fn on_query<'a>(&'a mut self, query: &'a str, results: QueryResultWriter<'a, W>) -> io::Result<()> {
        match query {
            blob if blob.contains("REPEAT") => self.row(&"x".repeat(200_000), results).await,
            row if row.starts_with("SELECT") => self.row("0", results).await,
            _ => results.completed(OkResponse::default()).await,
        }
    }

    async fn on_prepare<'a>(&'a mut self, _: &'a str, info: StatementMetaWriter<'a, W>) -> io::Result<()> {
        info.reply(1, &self.column, &self.column).await
    }

    async fn on_execute<'a>(
        &'a mut self,
        _: u32,
        _: ParamParser<'a>,
        results: QueryResultWriter<'a, W>,
    ) -> io::Result<()> {
        self.row("0", results).await
    }

    async fn on_close<'a>(&'a mut self, _: u32)
    where
        W: 'async_trait,
    {
    }

    async fn on_init<'a>(&'a mut self, _: &'a str, writer: InitWriter<'a, W>) -> io::Result<()> {
        writer.ok().await
    }
}
