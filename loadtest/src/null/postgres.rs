//! A PostgreSQL that is not there: pgwire encodes its answers, once.

use anyhow::{Result, bail, ensure};
use bytes::BytesMut;
use pgwire::messages::{
    Message,
    data::{DataRow, FieldDescription, RowDescription},
    extendedquery::{BindComplete, ParseComplete},
    response::{CommandComplete, ReadyForQuery, TransactionStatus},
    startup::{Authentication, BackendKeyData, ParameterStatus, SecretKey},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// SSLRequest's code.
const SSL_REQUEST: u32 = 80_877_103;
/// Longest start-up packet that is believed.
const LONGEST_START: usize = 10_000;

/// Encoded beforehand.
pub(super) struct Answers {
    greeting: Vec<u8>,
    row: Vec<u8>,
    row_extended: Vec<u8>,
    parsed: Vec<u8>,
    blob: Vec<u8>,
    ready: Vec<u8>,
}

impl Answers {
    pub(super) fn new() -> Result<Self> {
        let mut greeting = BytesMut::new();
        Authentication::Ok.encode(&mut greeting)?;
        for (name, value) in [
            ("server_version", "15.0 (null)"),
            ("server_encoding", "UTF8"),
            ("client_encoding", "UTF8"),
            ("DateStyle", "ISO, MDY"),
            ("standard_conforming_strings", "on"),
        ] {
            ParameterStatus::new(name.to_owned(), value.to_owned()).encode(&mut greeting)?;
        }
        BackendKeyData::new(1, SecretKey::I32(7)).encode(&mut greeting)?;
        let ready = ready()?;
        greeting.extend_from_slice(&ready);
        let mut parsed = BytesMut::new();
        ParseComplete::new().encode(&mut parsed)?;
        let mut row_extended = BytesMut::new();
        BindComplete::new().encode(&mut row_extended)?;
        row_extended.extend_from_slice(&one_row(b"0")?);
        Ok(Self {
            greeting: greeting.to_vec(),
            row: [one_row(b"0")?, ready.clone()].concat(),
            row_extended: row_extended.to_vec(),
            parsed: parsed.to_vec(),
            blob: [one_row(&vec![b'x'; 200_000])?, ready.clone()].concat(),
            ready,
        })
    }
}

fn ready() -> Result<Vec<u8>> {
    let mut bytes = BytesMut::new();
    ReadyForQuery::new(TransactionStatus::Idle).encode(&mut bytes)?;
    Ok(bytes.to_vec())
}

/// A description, a row with one value, and the word that it is over.
fn one_row(value: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = BytesMut::new();
    let field = FieldDescription::new("abalance".to_owned(), 0, 0, 25, -1, -1, 0);
    RowDescription::new(vec![field]).encode(&mut bytes)?;
    let mut data = BytesMut::from(&u32::try_from(value.len())?.to_be_bytes()[..]);
    data.extend_from_slice(value);
    DataRow::new(data, 1).encode(&mut bytes)?;
    CommandComplete::new("SELECT 1".to_owned()).encode(&mut bytes)?;
    Ok(bytes.to_vec())
}

/// One connection: TLS, a login that the certificate has proved, queries until the goodbye.
pub(super) async fn serve(mut socket: TcpStream, tls: TlsAcceptor, answers: &Answers) -> Result<()> {
    let mut first = [0];
    ensure!(socket.peek(&mut first).await? == 1, "nobody there");
    // 0x16: TLS at once.
    if first != [0x16] {
        let mut request = [0; 8];
        socket.read_exact(&mut request).await?;
        let [_, _, _, _, code @ ..] = request;
        ensure!(u32::from_be_bytes(code) == SSL_REQUEST, "TLS is required");
        socket.write_all(b"S").await?;
    }
    let mut stream = tls.accept(socket).await?;
    let length = usize::try_from(stream.read_u32().await?)?;
    ensure!((8..LONGEST_START).contains(&length), "no start-up packet");
    stream.read_exact(&mut vec![0; length - 4]).await?;
    stream.write_all(&answers.greeting).await?;
    stream.flush().await?;
    queries(stream, answers).await
}

async fn queries(mut stream: TlsStream<TcpStream>, answers: &Answers) -> Result<()> {
    let mut input = BytesMut::new();
    let mut output = Vec::new();
    loop {
        while let Some(length) = whole(&input)? {
            let message = input.split_to(length);
            match message.first() {
                Some(b'Q') if message.windows(6).any(|six| six == b"repeat") => {
                    output.extend_from_slice(&answers.blob);
                }
                Some(b'Q') => output.extend_from_slice(&answers.row),
                Some(b'P') => output.extend_from_slice(&answers.parsed),
                Some(b'B') => output.extend_from_slice(&answers.row_extended),
                Some(b'S') => output.extend_from_slice(&answers.ready),
                Some(b'X') => return Ok(()),
                // Describe and Execute are answered with Bind.
                _ => {}
            }
        }
        if !output.is_empty() {
            stream.write_all(&output).await?;
            stream.flush().await?;
            output.clear();
        }
        if input.is_empty() {
            // An idle connection holds nothing.
            (input, output) = (BytesMut::new(), Vec::new());
        }
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
    }
}

/// The length of the first message, where it is all there.
fn whole(input: &[u8]) -> Result<Option<usize>> {
    let Some(&[_, a, b, c, d]) = input.first_chunk() else { return Ok(None) };
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d]))? + 1;
    if !(5..1 << 20).contains(&length) {
        bail!("no message has this length");
    }
    Ok((input.len() >= length).then_some(length))
}
