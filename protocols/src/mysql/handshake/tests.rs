//! Responses of clients as they were captured, and what becomes of them cut short.

use super::*;

const EVERYTHING: Capabilities = Capabilities::new(u32::MAX, u32::MAX);

fn response() -> HandshakeResponse<'static> {
    let capabilities = Capabilities::NEEDED
        | Capabilities::CONNECT_WITH_DB
        | Capabilities::PLUGIN_AUTH
        | Capabilities::PLUGIN_AUTH_LENENC
        | Capabilities::CONNECT_ATTRS
        | Capabilities::ZSTD;
    HandshakeResponse {
        settings: ClientSettings { capabilities, max_packet: 1 << 24, charset: 255 },
        user: b"alice",
        auth: &[7; 32],
        database: Some(b"prod"),
        plugin: Some(b"caching_sha2_password"),
        attributes: b"\x03_os\x05Linux",
        zstd_level: 3,
    }
}

fn written(response: &HandshakeResponse<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    response.write(&mut bytes);
    bytes
}

#[test]
fn what_is_written_is_read_back() {
    let mut said = response();
    assert!(HandshakeResponse::parse(&written(&said), EVERYTHING) == Ok(said));
    let attributes = vec![1; 0x1_0000];
    for length in [0, 0xFA, 0xFB, 0xFF, 0x100, 0xFFFF, 0x1_0000] {
        said.attributes = &attributes[..length];
        assert!(HandshakeResponse::parse(&written(&said), EVERYTHING) == Ok(said), "{length}");
    }
}

#[test]
fn a_response_cut_short_at_any_byte_is_refused_and_never_panics() {
    let whole = written(&response());
    for end in 0..whole.len() {
        assert!(HandshakeResponse::parse(&whole[..end], EVERYTHING).is_err(), "{end}");
    }
}

#[test]
fn a_length_that_runs_past_the_end_is_refused() {
    let whole = written(&response());
    let auth = FIXED + b"alice\0".len();
    for length in [&[0xFA][..], &[0xFB], &[0xFC, 0xFF, 0xFF], &[0xFD, 0xFF, 0xFF, 0xFF], &[0xFE; 9], &[0xFF]]
    {
        let damaged = [&whole[..auth], length, &whole[auth + 1..]].concat();
        assert!(HandshakeResponse::parse(&damaged, EVERYTHING).is_err(), "{length:?}");
    }
}

/// libmysqlclient sets the flag always, and sends attributes only where they are offered.
#[test]
fn a_flag_that_was_not_offered_means_nothing() {
    let mut said = response();
    let offered = said.settings.capabilities.without(Capabilities::CONNECT_ATTRS);
    said.settings.capabilities = offered;
    said.attributes = b"";
    let mut bytes = written(&said);
    bytes[2] |= (Capabilities::CONNECT_ATTRS.flags() >> 16) as u8;
    assert!(HandshakeResponse::parse(&bytes, offered) == Ok(said));
}

#[test]
fn the_extended_flags_are_read_only_where_the_first_flag_is_missing() {
    let mut said = response();
    said.settings.capabilities = said.settings.capabilities | Capabilities::MARIADB_BULK;
    assert!(HandshakeResponse::parse(&written(&said), EVERYTHING) == Ok(said));
    said.settings.capabilities = said.settings.capabilities | Capabilities::LONG_PASSWORD;
    let bytes = written(&said);
    let read = HandshakeResponse::parse(&bytes, EVERYTHING).ok().unwrap().settings.capabilities;
    assert_eq!(read, said.settings.capabilities.without(Capabilities::MARIADB_BULK));
}

#[test]
fn an_ssl_request_is_32_bytes_that_ask_for_tls() {
    let mut said = response().settings;
    said.capabilities = Capabilities::NEEDED | Capabilities::SSL;
    let mut bytes = Vec::new();
    said.write(&mut bytes);
    assert!(is_ssl_request(&bytes) && !is_outdated(&bytes));
    assert!(!is_ssl_request(&bytes[..31]));
    assert!(!is_ssl_request(&[&bytes[..], b"a"].concat()));
    assert!(!is_ssl_request(&written(&response())));
}

#[test]
fn a_client_from_before_4_1_is_known_by_its_flags() {
    assert!(is_outdated(b"\x85\x24\0\0\0old\0"));
    assert!(!is_outdated(&written(&response())));
    assert!(!is_outdated(b""));
}
