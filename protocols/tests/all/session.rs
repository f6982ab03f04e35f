//! The session: what flows, what the tap sees, and how it ends.

use std::time::Duration;

use protocols::{Client, End, Event, Refusal, RefusalCode, RelayFault, Tap, TapClosed, Verdict};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use crate::support::client::error_fields;
use crate::support::upstream::let_in;
use crate::support::{Memory, RawClient, Sidecar, message, never, scripted};

const BIG: usize = 64 * 1024 * 1024;

/// Lets the client in, then answers nothing, and returns everything it is sent until it is told goodbye or
/// left alone.
async fn listens(mut socket: TcpStream) -> Vec<u8> {
    let_in(&mut socket).await;
    let mut received = Vec::new();
    while socket.read_buf(&mut received).await.is_ok_and(|read| read > 0) {
        if received.ends_with(&message(b'X', b"")) {
            break;
        }
    }
    received
}

fn expired() -> Refusal {
    Refusal::new(RefusalCode::SessionExpired, "the session's certificate has expired")
}

#[tokio::test]
async fn the_client_hears_what_the_upstream_said_but_for_the_cancel_key() {
    let sidecar = Sidecar::start().await;
    let (endpoint, _upstream) = scripted(listens).await;
    let (mut client, session) = sidecar.session(sidecar.dial(&endpoint), Memory::default(), never()).await;
    let welcome = client.until_ready().await;
    let kinds: String = welcome.iter().map(|(kind, _)| *kind as char).collect();
    assert_eq!(kinds, "RSKZ");
    assert_eq!(welcome[1].1, b"server_version\x0015.0\0");
    assert_eq!(welcome[2].1.len(), 8);
    assert_ne!(welcome[2].1, b"\0\0\0\x07\xaa\xbb\xcc\xdd", "the upstream's key is not the client's");
    client.send(&message(b'X', b"")).await;
    assert_eq!(session.await.unwrap().unwrap().end, End::Client);
}

#[tokio::test]
async fn a_session_takes_little_memory() {
    let sidecar = Sidecar::start().await;
    let (endpoint, _upstream) = scripted(listens).await;
    let config = sidecar.authority.client_config(&[]);
    let client = tokio::spawn(RawClient::log_in(sidecar.connect().await, config, 0));
    let accepted = sidecar.accept().await;
    let upstream = sidecar.dial(&endpoint).await;
    let session = accepted.client.relay(upstream, Memory::default(), never());
    assert!(size_of_val(&session) <= 4096, "{}", size_of_val(&session));
    drop(client.await.unwrap());
}

#[tokio::test]
async fn a_client_of_protocol_3_2_gets_a_long_key_and_a_newer_one_is_told_what_we_speak() {
    for (minor, kinds, key) in [(2, "RSKZ", 36), (9999, "vRSKZ", 36), (0, "RSKZ", 8)] {
        let sidecar = Sidecar::start().await;
        let (endpoint, _upstream) = scripted(listens).await;
        let config = sidecar.authority.client_config(&[]);
        let socket = sidecar.connect().await;
        let client = tokio::spawn(RawClient::log_in(socket, config, minor));
        let accepted = sidecar.accept().await;
        let upstream = sidecar.dial(&endpoint).await;
        let session = tokio::spawn(accepted.client.relay(upstream, Memory::default(), never()));
        let mut client = client.await.unwrap();
        let welcome = client.until_ready().await;
        assert_eq!(welcome.iter().map(|(kind, _)| *kind as char).collect::<String>(), kinds);
        assert_eq!(welcome[kinds.len() - 2].1.len(), key);
        if minor == 9999 {
            assert_eq!(welcome[0].1, b"\0\x03\0\x02\0\0\0\0");
        }
        drop(client);
        let _ = session.await;
    }
}

#[tokio::test]
async fn bytes_pass_unchanged_and_the_tap_sees_them() {
    let sidecar = Sidecar::start().await;
    let (endpoint, upstream) = scripted(listens).await;
    let tap = Memory::default();
    let (mut client, session) = sidecar.session(sidecar.dial(&endpoint), tap.clone(), never()).await;
    client.until_ready().await;
    let sent = [
        message(b'Q', b"select 'caf\xe9'\0"),
        message(b'P', b"s\0select 1\0\0\0"),
        message(b'd', b"copy data"),
        message(b'S', b""),
        message(b'X', b""),
    ]
    .concat();
    for byte in &sent {
        client.send(&[*byte]).await;
    }
    let transferred = session.await.unwrap().unwrap();
    assert_eq!(upstream.await.unwrap(), sent);
    assert_eq!(transferred.from_client, sent.len() as u64);
    assert_eq!(tap.seen().len(), 3);
    assert_eq!(tap.seen()[2], "Sync");
    assert_eq!(tap.seen()[0], r"Q select \'caf\xe9\' +0");
}

#[tokio::test]
async fn a_message_larger_than_the_buffer_is_shown_by_its_beginning_and_passes_whole() {
    let sidecar = Sidecar::start().await;
    let (endpoint, upstream) = scripted(listens).await;
    let tap = Memory::default();
    let (mut client, session) = sidecar.session(sidecar.dial(&endpoint), tap.clone(), never()).await;
    client.until_ready().await;
    let mut text = vec![b'x'; 1_000_000];
    text.push(0);
    let sent = [message(b'Q', &text), message(b'Q', b"next\0"), message(b'X', b"")].concat();
    client.send(&sent).await;
    session.await.unwrap().unwrap();
    assert_eq!(upstream.await.unwrap(), sent);
    let seen = tap.seen();
    assert_eq!(seen.len(), 3);
    assert!(seen[1].starts_with("TextEnd") && seen[1].ends_with("length: 1000000 }"), "{}", seen[1]);
    assert_eq!(seen[0].len(), "Q ".len() + 64 * 1024 - 5 + format!(" +{}", 1_000_000 - 65_531).len());
    assert_eq!(seen[2], "Q next +0");
}

/// Allows everything but the end of a long text.
struct Hesitates;

impl Tap for Hesitates {
    async fn observe(&mut self, event: Event<'_>) -> Result<Verdict, TapClosed> {
        Ok(match event {
            Event::TextEnd { .. } => Verdict::End(Refusal::new(RefusalCode::AccessDenied, "not this one")),
            _ => Verdict::Forward,
        })
    }
}

#[tokio::test]
async fn a_long_text_that_is_not_allowed_at_its_end_never_reaches_the_upstream_whole() {
    let sidecar = Sidecar::start().await;
    let (endpoint, upstream) = scripted(listens).await;
    let (mut client, session) = sidecar.session(sidecar.dial(&endpoint), Hesitates, never()).await;
    client.until_ready().await;
    let mut text = vec![b'x'; 200_000];
    text.push(0);
    let sent = message(b'Q', &text);
    client.send(&sent).await;
    assert_eq!(client.fatal().await.1, "not this one");
    assert_eq!(session.await.unwrap().unwrap().end, End::Refused(RefusalCode::AccessDenied));
    let heard = upstream.await.unwrap();
    assert!(heard.len() < sent.len() && sent.starts_with(&heard), "{}", heard.len());
}

/// Answers every query with a 64 MiB result, before it reads the next one.
async fn answers_hugely(mut socket: TcpStream) -> usize {
    let_in(&mut socket).await;
    let row = message(b'D', &vec![b'r'; 1024 * 1024 - 5]);
    let mut queries = 0;
    loop {
        let mut header = [0; 5];
        if socket.read_exact(&mut header).await.is_err() || header[0] == b'X' {
            return queries;
        }
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize - 4;
        socket.read_exact(&mut vec![0; length]).await.unwrap();
        queries += 1;
        for _ in 0..BIG / (1024 * 1024) {
            socket.write_all(&row).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_client_that_pipelines_while_a_huge_result_flows_does_not_deadlock() {
    let sidecar = Sidecar::start().await;
    let (endpoint, upstream) = scripted(answers_hugely).await;
    let (mut client, session) = sidecar.session(sidecar.dial(&endpoint), Memory::default(), never()).await;
    client.until_ready().await;
    // More than all socket buffers hold, written while nothing is read: the upstream is stuck in its answer
    // meanwhile.
    let mut text = vec![b'x'; 4 * 1024 * 1024];
    text.push(0);
    let query = message(b'Q', &text);
    let (mut reading, mut writing) = tokio::io::split(client.stream);
    let reader = tokio::spawn(async move {
        let mut read = 0;
        let mut buffer = vec![0; 256 * 1024];
        while read < 2 * BIG {
            read += reading.read(&mut buffer).await.unwrap();
        }
        read
    });
    writing.write_all(&[query.clone(), query, message(b'X', b"")].concat()).await.unwrap();
    writing.flush().await.unwrap();
    assert_eq!(reader.await.unwrap(), 2 * BIG);
    assert_eq!(upstream.await.unwrap(), 2);
    assert_eq!(session.await.unwrap().unwrap().from_upstream, 2 * BIG as u64);
}

#[tokio::test]
async fn a_half_closed_client_still_reads_its_answers() {
    let sidecar = Sidecar::start().await;
    let (endpoint, _upstream) = scripted(|mut socket: TcpStream| async move {
        let_in(&mut socket).await;
        let mut received = Vec::new();
        socket.read_to_end(&mut received).await.unwrap();
        socket.write_all(&message(b'C', b"SELECT 1\0")).await.unwrap();
    })
    .await;
    let (mut client, session) = sidecar.session(sidecar.dial(&endpoint), Memory::default(), never()).await;
    client.until_ready().await;
    client.send(&message(b'Q', b"select 1\0")).await;
    client.stream.shutdown().await.unwrap();
    assert_eq!(client.receive().await.unwrap().0, b'C');
    assert!(client.receive().await.is_none());
    assert_eq!(session.await.unwrap().unwrap().end, End::Client);
}

#[tokio::test]
async fn a_client_that_vanishes_without_tls_goodbye_just_ends() {
    let sidecar = Sidecar::start().await;
    let (endpoint, _upstream) = scripted(listens).await;
    let (mut client, session) = sidecar.session(sidecar.dial(&endpoint), Memory::default(), never()).await;
    client.until_ready().await;
    let (mut socket, _) = client.stream.into_inner();
    socket.shutdown().await.unwrap();
    assert_eq!(session.await.unwrap().unwrap().end, End::Client);
}

#[tokio::test]
async fn an_upstreams_last_words_reach_the_client() {
    let sidecar = Sidecar::start().await;
    let last = message(b'E', b"SFATAL\0VFATAL\0C57P01\0Mterminating connection\0\0");
    let sent = last.clone();
    let (endpoint, _upstream) = scripted(move |mut socket: TcpStream| async move {
        let_in(&mut socket).await;
        socket.write_all(&sent).await.unwrap();
    })
    .await;
    let (mut client, session) = sidecar.session(sidecar.dial(&endpoint), Memory::default(), never()).await;
    client.until_ready().await;
    assert_eq!(client.fatal().await.0, "57P01");
    let transferred = session.await.unwrap().unwrap();
    assert_eq!((transferred.end, transferred.from_upstream), (End::Upstream, last.len() as u64));
}

#[tokio::test]
async fn the_end_of_the_permit_is_told_between_two_messages() {
    let sidecar = Sidecar::start().await;
    let (half, whole) = (message(b'D', &[b'a'; 40_000]), message(b'D', &[b'b'; 100]));
    let (resume, resumed) = oneshot::channel::<()>();
    let sent = (half.clone(), whole);
    let (endpoint, upstream) = scripted(move |mut socket: TcpStream| async move {
        let_in(&mut socket).await;
        socket.write_all(&sent.0[..20_000]).await.unwrap();
        resumed.await.unwrap();
        socket.write_all(&sent.0[20_000..]).await.unwrap();
        // A later message may still be cut off: it must not appear in part.
        let _ = socket.write_all(&sent.1[..50]).await;
        let _ = socket.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let (end, ended) = oneshot::channel();
    let ended = async move { ended.await.unwrap() };
    let (mut client, session) = sidecar.session(sidecar.dial(&endpoint), Memory::default(), ended).await;
    client.until_ready().await;
    let mut first = vec![0; 20_000];
    client.stream.read_exact(&mut first).await.unwrap();
    end.send(expired()).unwrap();
    tokio::task::yield_now().await;
    resume.send(()).unwrap();
    let mut rest = vec![0; half.len() - 20_000];
    client.stream.read_exact(&mut rest).await.unwrap();
    assert_eq!([first, rest].concat(), half);
    let (state, text) = client.fatal().await;
    assert_eq!((state.as_str(), text.as_str()), ("57P01", "the session's certificate has expired"));
    assert_eq!(session.await.unwrap().unwrap().end, End::Refused(RefusalCode::SessionExpired));
    upstream.await.unwrap();
}

#[tokio::test]
async fn the_end_of_the_permit_ends_an_idle_session_at_once() {
    let sidecar = Sidecar::start().await;
    let (endpoint, upstream) = scripted(listens).await;
    let (end, ended) = oneshot::channel();
    let ended = async move { ended.await.unwrap() };
    let (mut client, session) = sidecar.session(sidecar.dial(&endpoint), Memory::default(), ended).await;
    client.until_ready().await;
    end.send(expired()).unwrap();
    assert_eq!(client.fatal().await.0, "57P01");
    session.await.unwrap().unwrap();
    assert!(upstream.await.unwrap().is_empty());
}

#[tokio::test]
async fn an_upstream_that_stops_in_the_middle_of_a_message_cannot_keep_an_ended_session_alive() {
    let sidecar = Sidecar::start().await;
    let (endpoint, _upstream) = scripted(|mut socket: TcpStream| async move {
        let_in(&mut socket).await;
        socket.write_all(&message(b'D', &[b'a'; 100])[..50]).await.unwrap();
        let _ = socket.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let (end, ended) = oneshot::channel();
    let ended = async move { ended.await.unwrap() };
    let (mut client, session) = sidecar.session(sidecar.dial(&endpoint), Memory::default(), ended).await;
    client.until_ready().await;
    let mut half = [0; 50];
    client.stream.read_exact(&mut half).await.unwrap();
    end.send(expired()).unwrap();
    let mut rest = Vec::new();
    client.stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty(), "an error in the middle of a message would be read as its content");
    drop(client);
    assert_eq!(session.await.unwrap().unwrap().end, End::Refused(RefusalCode::SessionExpired));
}

#[tokio::test]
async fn a_client_that_reads_nothing_cannot_keep_an_ended_session_alive() {
    let sidecar = Sidecar::start().await;
    let (endpoint, _upstream) = scripted(answers_hugely).await;
    let (end, ended) = oneshot::channel();
    let ended = async move { ended.await.unwrap() };
    let (mut client, session) = sidecar.session(sidecar.dial(&endpoint), Memory::default(), ended).await;
    client.until_ready().await;
    client.send(&message(b'Q', b"everything\0")).await;
    client.stream.read_u8().await.unwrap();
    end.send(expired()).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(20), session).await;
    assert!(ended.is_ok(), "it is still alive");
}

#[tokio::test]
async fn a_query_that_the_tap_forbids_is_not_forwarded() {
    let sidecar = Sidecar::start().await;
    let (endpoint, upstream) = scripted(listens).await;
    let (mut client, session) = sidecar.session(sidecar.dial(&endpoint), Memory::default(), never()).await;
    client.until_ready().await;
    let allowed = message(b'Q', b"select 1\0");
    let batch = [allowed.clone(), message(b'Q', b"forbidden\0"), message(b'Q', b"select 2\0")].concat();
    client.send(&batch).await;
    let (state, text) = client.fatal().await;
    assert_eq!((state.as_str(), text.as_str()), ("28000", "not this one"));
    assert_eq!(session.await.unwrap().unwrap().end, End::Refused(RefusalCode::AccessDenied));
    assert_eq!(upstream.await.unwrap(), allowed);
}

/// A tap that is gone.
struct Closed;

impl Tap for Closed {
    async fn observe(&mut self, _: Event<'_>) -> Result<Verdict, TapClosed> {
        Err(TapClosed)
    }
}

#[tokio::test]
async fn nothing_is_forwarded_that_cannot_be_recorded() {
    let sidecar = Sidecar::start().await;
    let (endpoint, upstream) = scripted(listens).await;
    let (mut client, session) = sidecar.session(sidecar.dial(&endpoint), Closed, never()).await;
    client.until_ready().await;
    client.send(&message(b'Q', b"select 1\0")).await;
    assert_eq!(client.fatal().await.0, "XX000");
    let error = session.await.unwrap().unwrap_err();
    assert!(matches!(error.fault, RelayFault::TapClosed));
    assert_eq!(error.transferred.from_client, 0);
    assert!(upstream.await.unwrap().is_empty());
}

#[tokio::test]
async fn a_client_that_breaks_the_protocol_is_recorded_told_and_ended() {
    for broken in [
        message(b'p', b"password\0"),
        b"Q\0\0\0\x03".to_vec(),
        message(b'Q', b"no nul"),
        message(b'B', b"\0"),
    ] {
        let sidecar = Sidecar::start().await;
        let (endpoint, upstream) = scripted(listens).await;
        let tap = Memory::default();
        let (mut client, session) = sidecar.session(sidecar.dial(&endpoint), tap.clone(), never()).await;
        client.until_ready().await;
        let good = message(b'Q', b"select 1\0");
        client.send(&[good.clone(), broken].concat()).await;
        assert_eq!(client.fatal().await.0, "08P01");
        let error = session.await.unwrap().unwrap_err();
        assert!(matches!(error.fault, RelayFault::Malformed(_)), "{error:?}");
        assert_eq!(error.transferred.from_client, good.len() as u64);
        assert_eq!(upstream.await.unwrap(), good);
        assert!(tap.seen()[1].starts_with("Malformed"), "{:?}", tap.seen());
    }
}

#[tokio::test]
async fn a_lost_upstream_is_told_and_attributed() {
    let sidecar = Sidecar::start().await;
    let (endpoint, _upstream) = scripted(|mut socket: TcpStream| async move {
        let_in(&mut socket).await;
        socket.set_zero_linger().unwrap();
        // A close with unread bytes is a reset.
        socket.readable().await.unwrap();
    })
    .await;
    let (mut client, session) = sidecar.session(sidecar.dial(&endpoint), Memory::default(), never()).await;
    client.until_ready().await;
    client.send(&message(b'Q', b"select 1\0")).await;
    let (kind, content) = client.receive().await.unwrap();
    assert_eq!((kind, error_fields(&content).0.as_str()), (b'E', "08006"));
    drop(client);
    let error = session.await.unwrap().unwrap_err();
    assert!(matches!(error.fault, RelayFault::Upstream(_)), "{error:?}");
}
