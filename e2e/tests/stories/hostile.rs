//! Clients that mean no good cost only their own connection.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use e2e::{Psql, World};

/// PostgreSQL, `SSLRequest`: length 8, code 80877103.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// The beginning of a ClientHello of 512 bytes that never goes on.
const HALF_A_CLIENT_HELLO: [u8; 16] = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 1, 2, 3, 4, 5];

/// A StartupMessage of protocol 3.0 for jerry.
fn startup() -> Vec<u8> {
    let parameters = b"user\0jerry\0database\0app\0\0";
    let length = u32::try_from(8 + parameters.len()).unwrap();
    [&length.to_be_bytes()[..], &[0, 3, 0, 0], parameters].concat()
}

/// Sends `bytes` and returns everything that comes back until the sidecar closes.
fn answer_to(address: SocketAddr, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(bytes)?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        // A reset says the same as an end: the connection is gone.
        Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => Err(error.into()),
        _ => Ok(answer),
    }
}

/// Median time of a whole psql run: start, login, query, end.
fn median_login(psql: &Psql) -> Result<Duration> {
    let mut times = Vec::new();
    for _ in 0..9 {
        let begin = Instant::now();
        psql.query("SELECT 1")?.output()?;
        times.push(begin.elapsed());
    }
    times.sort();
    Ok(times[times.len() / 2])
}

#[test]
fn a_login_beside_200_silent_clients_is_as_fast_as_without() -> Result<()> {
    let world = World::jerry_and_olga()?;
    let psql = world.psql_with_login(&world.dev)?;
    psql.query("SELECT 1")?.output()?;

    let silences: [&[u8]; 4] = [&[], &[0], &HALF_A_CLIENT_HELLO, &SSL_REQUEST];
    let mut ratios = Vec::new();
    for _ in 0..5 {
        let alone = median_login(&psql)?;
        let mut silent = Vec::new();
        for bytes in silences.into_iter().cycle().take(200) {
            let mut stream = TcpStream::connect(world.dev.address())?;
            stream.write_all(bytes)?;
            silent.push(stream);
        }
        let beside = median_login(&psql)?;
        let ratio = beside.as_secs_f64() / alone.as_secs_f64();
        if ratio < 1.5 {
            return Ok(());
        }
        ratios.push(ratio);
    }
    anyhow::bail!("a login beside 200 silent clients took so many times as long as alone: {ratios:?}")
}

#[test]
fn bytes_after_ssl_request_are_never_taken_for_what_was_said_inside_tls() -> Result<()> {
    let world = World::before_jerry()?;
    let answer = answer_to(world.dev.address(), &[&SSL_REQUEST[..], &startup()].concat())?;
    // Either it stops at once, or TLS reads those bytes, finds no ClientHello in them and says so in an alert (21).
    let alert = answer.starts_with(&[b'S', 21, 3]) && answer.len() <= 8;
    ensure!(answer.is_empty() || answer.starts_with(b"E") || alert, "{answer:?}");
    Ok(())
}

#[test]
fn startup_packets_of_impossible_length_are_refused_at_once() -> Result<()> {
    let world = World::before_jerry()?;
    for length in [0_u32, 7, 10_001, 0x7fff_ffff, 0xffff_ffff] {
        let begin = Instant::now();
        let answer = answer_to(world.dev.address(), &[&length.to_be_bytes()[..], &[0, 3, 0, 0]].concat())?;
        ensure!(answer.is_empty() || answer.starts_with(b"E"), "length {length}: {answer:?}");
        ensure!(begin.elapsed() < Duration::from_secs(2), "length {length}: it waited for the rest");
    }
    Ok(())
}

#[test]
fn a_login_without_tls_is_refused_in_words_and_never_asked_for_a_password() -> Result<()> {
    let world = World::before_jerry()?;
    let error = Psql::through_tunnel(world.dev.address().port()).query("SELECT 1")?.error()?;
    ensure!(error.contains("TLS"), "{error}");
    let answer = answer_to(world.dev.address(), &startup())?;
    ensure!(answer.starts_with(b"E"), "{answer:?}");
    Ok(())
}

#[test]
fn a_cancel_request_with_a_guessed_key_is_closed_without_a_word() -> Result<()> {
    let world = World::before_jerry()?;
    // Length 16, code 80877102, process 1, key 1.
    let cancel = [0, 0, 0, 16, 0x04, 0xd2, 0x16, 0x2e, 0, 0, 0, 1, 0, 0, 0, 1];
    ensure!(answer_to(world.dev.address(), &cancel)?.is_empty());
    Ok(())
}

#[test]
fn after_all_of_that_a_login_still_works() -> Result<()> {
    let world = World::jerry_and_olga()?;
    let address = world.dev.address();
    let garbage =
        [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 64], &SSL_REQUEST, &startup(), &HALF_A_CLIENT_HELLO];
    for bytes in garbage.into_iter().cycle().take(100) {
        TcpStream::connect(address)?.write_all(bytes)?;
    }
    assert_eq!(world.psql_with_login(&world.dev)?.query("SELECT 'well'")?.output()?, "well\n");
    Ok(())
}
