//! Answers to each plugin, and what is not answered.

use super::*;

fn proof(credential: &Credential, private: bool) -> Proof<'_> {
    Proof { credential, private }
}

fn password(text: &str) -> Credential {
    Credential::Password(Secret::new(text.as_bytes().to_vec()))
}

const SCRAMBLE_OF_32: &[u8] = b"0123456789abcdefghijklmnopqrstuv";

#[test]
fn each_plugin_is_answered_in_its_own_way() {
    let secret = password("secret");
    for (method, length) in [
        (Method::Native, 20),
        (Method::CachingSha2, 32),
        (Method::Ed25519, 64),
        (Method::Sha256, 7),
        (Method::Clear, 7),
    ] {
        assert_eq!(proof(&secret, true).answer(&method, SCRAMBLE_OF_32).unwrap().len(), length);
    }
    assert_eq!(proof(&secret, true).answer(&Method::Clear, b"").unwrap()[..], *b"secret\0");
}

#[test]
fn without_a_password_an_empty_one_is_said_as_mysqls_own_client_says_it() {
    for credential in [Credential::None, password("")] {
        let answer = |method| proof(&credential, true).answer(&method, SCRAMBLE_OF_32).unwrap().to_vec();
        assert_eq!(answer(Method::Native), b"");
        assert_eq!(answer(Method::CachingSha2), b"\0");
        assert_eq!(answer(Method::Sha256), b"\0");
    }
}

#[test]
fn a_password_that_is_asked_for_and_not_configured_is_named() {
    for method in [Method::Ed25519, Method::Clear] {
        let error = proof(&Credential::None, true).answer(&method, SCRAMBLE_OF_32).unwrap_err();
        assert!(matches!(error, DialError::NoCredential { .. }), "{error:?}");
    }
}

#[test]
fn a_password_in_clear_does_not_go_where_somebody_listens() {
    for method in [Method::Clear, Method::Sha256] {
        let error = proof(&password("secret"), false).answer(&method, SCRAMBLE_OF_32).unwrap_err();
        assert!(matches!(error, DialError::AuthenticationRefused { .. }), "{error:?}");
    }
}

#[test]
fn a_scramble_that_is_too_short_is_not_answered() {
    for method in [Method::Native, Method::CachingSha2, Method::Ed25519] {
        assert!(proof(&password("secret"), true).answer(&method, &[b'x'; 19]).is_err());
    }
}

#[test]
fn a_switch_names_its_plugin_and_its_scramble() {
    assert_eq!(read_switch(b"\xfeclient_ed25519\0nonce").unwrap(), (&b"client_ed25519"[..], &b"nonce"[..]));
    assert!(matches!(read_switch(b"\xfe"), Err(DialError::AuthenticationRefused { .. })));
    assert!(matches!(read_switch(b"\xfemysql"), Err(DialError::Protocol(_))));
    let unknown = Method::named(b"authentication_kerberos_client\x1b[2J").unwrap_err();
    assert_eq!(
        unknown.to_string(),
        "the upstream asks for \"authentication_kerberos_client[2J\", which is not spoken here"
    );
}

/// As MariaDB's server and clients compute it; the signature is RFC 8032's but for the key.
#[test]
fn the_signature_of_a_password_verifies_with_the_key_that_mariadb_stores() {
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
    // SELECT ed25519_password('secret'), in base64: ZIgUREUg5PVgQ6LskhXmO+eZLS0nC8be6HPjYWR4YJY
    let stored = b"\x64\x88\x14\x44\x45\x20\xe4\xf5\x60\x43\xa2\xec\x92\x15\xe6\x3b\xe7\x99\x2d\x2d\x27\x0b\xc6\xde\xe8\x73\xe3\x61\x64\x78\x60\x96";
    let signature = proof(&password("secret"), false).answer(&Method::Ed25519, SCRAMBLE_OF_32).unwrap();
    UnparsedPublicKey::new(&ED25519, stored).verify(SCRAMBLE_OF_32, &signature).unwrap();
}
