//! The client leg up to its start-up packet: everything that is decided before anybody is known.
//!
//! ```text
//! 0x16 …            TLS at once, ALPN `postgresql` (direct TLS) or `touchstone-postgres` (tsh's tunnel)
//! SSLRequest        `S`, then TLS
//! GSSENCRequest     `N`, once; then one of the others
//! CancelRequest     carried to the upstream, then closed
//! anything else     ErrorResponse 28000: TLS is required
//! ```
//! Nothing is read ahead: eight bytes decide, and each later read takes what its length says. So bytes
//! stuffed behind an SSLRequest run into the TLS handshake and break it (CVE-2021-23214), and no more than
//! 10,000 bytes are read before a login is known.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use zeroize::Zeroizing;

use crate::AcceptError;
use crate::refusal::{Refusal, RefusalCode};
use crate::relay::{ReadAhead, Stream, close};
use crate::starttls::Prefixed;

use super::startup::{self, Opening, Startup};
use super::{ALPN, Limits, TUNNEL_ALPN, error_response};

/// The first byte of a TLS handshake record.
const TLS_HANDSHAKE: u8 = 0x16;

/// A client's stream: always TLS.
pub(super) type ClientStream<S> = TlsStream<ReadAhead<Prefixed<S>>>;

/// What a client turned out to want.
#[derive(Debug)]
pub(super) enum Front<S> {
    /// To log in.
    Login(Box<ClientStream<S>>, Startup),
    /// To cancel: process number and key, and its connection, which closes when that is done.
    Cancel(Zeroizing<Vec<u8>>, Door<S>),
    /// Nothing: it closed without a word, as health probes do.
    Nothing,
}

/// A connection with or without TLS.
#[derive(Debug)]
pub(super) enum Door<S> {
    Plain(S),
    Tls(Box<ClientStream<S>>),
}

/// Finds out what the client wants. The caller holds the deadline.
pub(super) async fn knock<S: Stream>(
    mut socket: S,
    acceptor: &TlsAcceptor,
    limits: &Limits,
) -> Result<Front<S>, AcceptError> {
    let mut gss_asked = false;
    loop {
        let Some(first) = first_eight(&mut socket).await? else { return Ok(Front::Nothing) };
        if first.starts_with(&[TLS_HANDSHAKE]) && !gss_asked {
            return direct(socket, first, acceptor, limits).await;
        }
        match Opening::decide(first) {
            Opening::SslRequest => {
                say(&mut socket, b"S").await?;
                return negotiated(socket, acceptor, limits).await;
            }
            Opening::GssEncRequest if !gss_asked => {
                gss_asked = true;
                say(&mut socket, b"N").await?;
            }
            Opening::Cancel { length } => {
                let key = content(&mut socket, length).await?;
                return Ok(Front::Cancel(key, Door::Plain(socket)));
            }
            _ => return Err(turn_away(&mut socket, tls_required(), limits).await),
        }
    }
}

/// TLS from the first byte on: ALPN says whether PostgreSQL or tsh's tunnel is inside, and must say one of
/// them, so that nobody can be tricked into speaking another protocol here (ALPACA).
async fn direct<S: Stream>(
    socket: S,
    first: [u8; 8],
    acceptor: &TlsAcceptor,
    limits: &Limits,
) -> Result<Front<S>, AcceptError> {
    let stream = acceptor.accept(ReadAhead::new(Prefixed::with_prefix(first, socket))).await;
    let stream = stream.map_err(AcceptError::Tls)?;
    let tunnel = match alpn(&stream) {
        Some(ALPN) => false,
        Some(TUNNEL_ALPN) => true,
        other => return Err(AcceptError::Alpn(other.map(<[u8]>::to_vec))),
    };
    inside(stream, tunnel, limits).await
}

/// TLS after SSLRequest: older clients say no ALPN, newer ones `postgresql`.
async fn negotiated<S: Stream>(
    socket: S,
    acceptor: &TlsAcceptor,
    limits: &Limits,
) -> Result<Front<S>, AcceptError> {
    let stream = acceptor.accept(ReadAhead::new(Prefixed::bare(socket))).await.map_err(AcceptError::Tls)?;
    match alpn(&stream) {
        None | Some(ALPN) => inside(stream, false, limits).await,
        Some(other) => Err(AcceptError::Alpn(Some(other.to_vec()))),
    }
}

fn alpn<S>(stream: &ClientStream<S>) -> Option<&[u8]> {
    stream.get_ref().1.alpn_protocol()
}

/// Inside TLS. In the tunnel, the client believes to be without TLS and may ask for it: once for each kind,
/// and the answer is no.
async fn inside<S: Stream>(
    mut stream: ClientStream<S>,
    tunnel: bool,
    limits: &Limits,
) -> Result<Front<S>, AcceptError> {
    let (mut ssl_answers, mut gss_answers) = if tunnel { (1, 1) } else { (0, 0) };
    loop {
        let Some(first) = first_eight(&mut stream).await? else { return Ok(Front::Nothing) };
        match Opening::decide(first) {
            Opening::SslRequest if ssl_answers > 0 => {
                ssl_answers -= 1;
                say(&mut stream, b"N").await?;
            }
            Opening::GssEncRequest if gss_answers > 0 => {
                gss_answers -= 1;
                say(&mut stream, b"N").await?;
            }
            Opening::Cancel { length } => {
                let key = content(&mut stream, length).await?;
                return Ok(Front::Cancel(key, Door::Tls(Box::new(stream))));
            }
            Opening::Startup { minor, length } => {
                let content = content(&mut stream, length).await?;
                return match startup::parse(minor, &content) {
                    Ok(startup) => Ok(Front::Login(Box::new(stream), startup)),
                    Err(refusal) => Err(turn_away(&mut stream, refusal, limits).await),
                };
            }
            opening => return Err(turn_away(&mut stream, impossible(opening), limits).await),
        }
    }
}

fn tls_required() -> Refusal {
    Refusal::new(RefusalCode::TlsRequired, "TLS is required").with_hint("connect with sslmode=verify-full")
}

fn impossible(opening: Opening) -> Refusal {
    match opening {
        Opening::SslRequest | Opening::GssEncRequest => {
            Refusal::new(RefusalCode::ProtocolViolation, "encryption is asked for twice")
        }
        Opening::BadLength => {
            Refusal::new(RefusalCode::ProtocolViolation, "invalid length of startup packet")
        }
        _ => Refusal::new(
            RefusalCode::Unsupported,
            format!("unsupported frontend protocol: server supports 3.0 to 3.{}", startup::NEWEST_MINOR),
        ),
    }
}

/// Tells the client why, and makes the error for the log. The client's 10,000 bytes before login include
/// those that are heard out.
async fn turn_away<S: Stream>(stream: &mut S, refusal: Refusal, limits: &Limits) -> AcceptError {
    let heard_out = u64::from(startup::MAX_LENGTH) - 32;
    // It was told, or it is gone: the refusal is what matters to the log.
    let _ = close(stream, &error_response::fatal(&refusal), limits.close, heard_out).await;
    AcceptError::Refused(refusal)
}

/// The eight bytes that decide; `None` when the client closed instead.
async fn first_eight<S: Stream>(stream: &mut S) -> Result<Option<[u8; 8]>, AcceptError> {
    let mut first = [0; 8];
    let mut filled = 0;
    while let Some(rest) = first.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match stream.read(rest).await {
            Ok(0) if filled == 0 => return Ok(None),
            Err(error) if filled == 0 && error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Ok(0) => return Err(AcceptError::Client(io::ErrorKind::UnexpectedEof.into())),
            Ok(bytes) => filled += bytes,
            Err(error) => return Err(AcceptError::Client(error)),
        }
    }
    Ok(Some(first))
}

/// Exactly `length` bytes, which the caller has bounded.
async fn content<S: Stream>(stream: &mut S, length: u32) -> Result<Zeroizing<Vec<u8>>, AcceptError> {
    let mut content = Zeroizing::new(vec![0; length as usize]);
    stream.read_exact(&mut content).await.map_err(AcceptError::Client)?;
    Ok(content)
}

async fn say<S: Stream>(stream: &mut S, answer: &[u8]) -> Result<(), AcceptError> {
    stream.write_all(answer).await.map_err(AcceptError::Client)?;
    stream.flush().await.map_err(AcceptError::Client)
}
