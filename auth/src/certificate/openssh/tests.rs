use ssh_key::public::KeyData;

use super::*;
use crate::{
    identity::{Identity, Login, MfaEvidence, Protocol, Route},
    testing::{
        HOUR, MINUTE, World, now,
        ssh::{AUTHORITY, SshDraft as Draft, key, sk_key},
        world::{client, route},
    },
};

impl Draft {
    fn critical(name: &str, value: &str) -> Self {
        let critical = vec![(name.to_owned(), value.to_owned())];
        Self { critical, ..Self::new(&World::new().login()) }
    }

    fn verify(&self) -> Result<VerifiedCertificate, RejectedCertificate> {
        verify(&self.sign(), "jerry")
    }

    fn error(&self) -> CertificateError {
        self.verify().unwrap_err().error
    }
}

fn verify(certificate: &Certificate, login: &str) -> Result<VerifiedCertificate, RejectedCertificate> {
    let authorities = [key(AUTHORITY).public_key().clone()];
    let presented = Presented { certificate, login, client: client() };
    verify_user(&presented, &authorities, &ClusterName::new("example").unwrap(), now())
}

fn login() -> Draft {
    Draft::new(&World::new().login())
}

fn node(identity: Identity) -> Identity {
    let route = Route {
        protocol: Protocol::Ssh,
        login: Login::Node { login: "jerry".to_owned() },
        ..route("prod-host")
    };
    Identity { route: Some(route), ..identity }
}

#[test]
fn every_kind_of_identity_reads_back() {
    let world = World::new();
    for identity in [
        world.login(),
        node(world.routed("prod-pg")),
        node(world.touched("prod-pg")),
        node(world.claimed("prod-pg", world.key.id)),
        Identity { traits: Default::default(), login_ip: None, ..world.login() },
    ] {
        let verified = Draft::new(&identity).verify().unwrap();
        assert_eq!(verified.identity, identity);
        assert_eq!(verified.not_before, now() - MINUTE);
        assert_eq!(verified.serial_hex, "0000000000001234");
    }
}

#[test]
fn the_openssh_text_form_reads_back() {
    let text = login().sign().to_openssh().unwrap();
    assert!(verify(&Certificate::from_openssh(&text).unwrap(), "jerry").is_ok());
}

#[test]
fn a_certificate_of_another_authority_is_refused() {
    assert_eq!(Draft { authority: 3, ..login() }.error(), CertificateError::UnknownAuthority);
}

#[test]
fn a_changed_certificate_is_refused() {
    let bytes = login().sign().to_bytes().unwrap();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0x01;
        if let Ok(certificate) = Certificate::from_bytes(&changed) {
            assert!(verify(&certificate, "jerry").is_err(), "byte {at}");
        }
    }
}

#[test]
fn a_certificate_cut_short_anywhere_is_refused() {
    let bytes = login().sign().to_bytes().unwrap();
    for end in 0..bytes.len() {
        assert!(Certificate::from_bytes(&bytes[..end]).is_err(), "cut at {end}");
    }
}

#[test]
fn a_certificate_as_the_authoritys_key_is_refused() {
    // CVE-2025-49825: the signing key of the outer certificate is itself a certificate.
    let inner = login().sign();
    let outer = login().sign().to_bytes().unwrap();
    let nested = KeyData::from(inner.clone());
    assert!(nested.is_certificate());
    let plain = key(AUTHORITY).public_key().to_bytes().unwrap();
    let at = outer.windows(plain.len()).position(|window| window == plain).unwrap();
    let inner = inner.to_bytes().unwrap();
    let mut forged = outer[..at - 4].to_vec();
    forged.extend_from_slice(&u32::try_from(inner.len()).unwrap().to_be_bytes());
    forged.extend_from_slice(&inner);
    forged.extend_from_slice(&outer[at + plain.len()..]);
    let certificate = Certificate::from_bytes(&forged).unwrap();
    assert_eq!(verify(&certificate, "jerry").unwrap_err().error, CertificateError::Nested);
}

#[test]
fn a_host_certificate_is_not_a_user() {
    let host = Draft { cert_type: CertType::Host, ..login() };
    assert_eq!(host.error(), CertificateError::HostCertificate);
}

#[test]
fn a_certificate_of_no_known_type_is_refused() {
    let bytes = login().sign().to_bytes().unwrap();
    // string type, string nonce (16), string key (32), uint64 serial: then uint32 type.
    let at = 4 + "ssh-ed25519-cert-v01@openssh.com".len() + 4 + 16 + 4 + 32 + 8;
    assert_eq!(bytes[at..at + 4], [0, 0, 0, 1]);
    for kind in [0, 3, u8::MAX] {
        let mut other = bytes.clone();
        other[at + 3] = kind;
        assert_eq!(
            parse(&other).unwrap_err(),
            CertificateError::Malformed { what: "not an OpenSSH certificate" }
        );
    }
}

#[test]
fn a_certificate_of_a_key_that_is_not_ed25519_is_refused() {
    let other = Draft { subject: sk_key(), ..login() };
    assert_eq!(other.error(), CertificateError::Invalid { attribute: "public key" });
}

#[test]
fn what_is_too_large_or_nothing_is_not_read() {
    let mut long = login().sign().to_bytes().unwrap();
    long.resize(MAX_CERTIFICATE_BYTES + 1, 0);
    assert_eq!(parse(&long).unwrap_err(), CertificateError::TooLarge { bytes: MAX_CERTIFICATE_BYTES + 1 });
    assert_eq!(parse(&[]).unwrap_err(), CertificateError::Absent);
    let key = key(AUTHORITY).public_key().to_bytes().unwrap();
    assert!(parse(&key).is_err(), "a bare key is no certificate");
}

#[test]
fn bytes_after_a_certificate_are_refused() {
    let mut long = login().sign().to_bytes().unwrap();
    long.push(0);
    assert!(parse(&long).is_err());
}

#[test]
fn a_certificate_for_everybody_is_refused() {
    let golden = Draft { principals: vec![], golden: true, ..login() };
    assert_eq!(golden.error(), CertificateError::NoPrincipals);
}

#[test]
fn a_principal_that_can_be_read_as_two_is_refused() {
    for principal in
        ["jerry,root", "a,root", "jerry\0root", "jerry\0", "jerry\nroot", "\n", " jerry", "jerry ", ""]
    {
        let draft = Draft { principals: vec!["jerry".to_owned(), principal.to_owned()], ..login() };
        assert_eq!(draft.error(), CertificateError::Invalid { attribute: "principal" }, "{principal:?}");
    }
}

#[test]
fn a_login_that_is_no_principal_is_refused() {
    for asked in ["root", "Jerry", "jerr", ""] {
        let refused = verify(&login().sign(), asked).unwrap_err();
        assert_eq!(refused.error, CertificateError::OtherPrincipal { login: asked.to_owned() });
    }
}

#[test]
fn an_unknown_critical_option_is_refused() {
    for name in ["force-command", "verify-required", "surprise@example.com"] {
        let unknown = CertificateError::UnknownCriticalOption { name: name.to_owned() };
        assert_eq!(Draft::critical(name, "").error(), unknown);
    }
}

#[test]
fn a_source_address_holds_the_client_or_the_certificate_is_refused() {
    assert!(Draft::critical(SOURCE_ADDRESS, "192.0.2.7/32").verify().is_ok());
    assert_eq!(Draft::critical(SOURCE_ADDRESS, "192.0.2.8/32").error(), CertificateError::OtherAddress);
    let invalid = CertificateError::Invalid { attribute: SOURCE_ADDRESS };
    assert_eq!(Draft::critical(SOURCE_ADDRESS, "").error(), invalid);
}

#[test]
fn an_expired_certificate_is_refused_and_still_names_its_user() {
    let refused = Draft { before: now(), ..login() }.verify().unwrap_err();
    assert_eq!(refused.error, CertificateError::Expired { not_after: now(), now: now() });
    assert_eq!(refused.identity.unwrap().user.as_str(), "jerry");
}

#[test]
fn a_certificate_from_the_future_is_refused() {
    let not_before = now() + MINUTE;
    let future = Draft { after: not_before, ..login() };
    assert_eq!(future.error(), CertificateError::NotYetValid { not_before, now: now() });
}

#[test]
fn a_certificate_of_another_cluster_is_refused() {
    let elsewhere = login().with_extension("teleport-route-to-cluster", "elsewhere");
    let certificate_for = ClusterName::new("elsewhere").unwrap();
    assert_eq!(elsewhere.error(), CertificateError::OtherCluster { certificate_for });
}

#[test]
fn what_must_be_there_is_refused_when_missing() {
    for name in ["teleport-roles", "teleport-route-to-cluster"] {
        assert_eq!(login().without_extension(name).error(), CertificateError::Missing { attribute: name });
    }
}

#[test]
fn extensions_that_cannot_be_are_refused() {
    for (name, value) in [
        ("teleport-roles", r#"{"version":"v2","roles":["access-dev"]}"#),
        ("teleport-roles", r#"{"version":"v1","roles":["a,b"]}"#),
        ("teleport-traits", "[]"),
        ("login-ip", "localhost"),
        ("prev-identity-expires", "tomorrow"),
        ("mfa-verified", "yes"),
        ("receipt@touchstone", "%"),
        ("route@touchstone", r#"{"target":"prod-host"}"#),
        ("route@touchstone", r#"{"target":"prod-host","login":""}"#),
    ] {
        let draft = login().with_extension(name, value);
        assert_eq!(draft.error(), CertificateError::Invalid { attribute: name }, "{value}");
    }
    let roleless = login().with_extension("teleport-roles", r#"{"version":"v1","roles":[]}"#);
    assert_eq!(roleless.error(), CertificateError::Missing { attribute: "role name" });
}

#[test]
fn a_claim_of_mfa_is_for_one_session_or_refused() {
    let device = "5e1c4a51-9d1f-4f0b-8a39-b6a0d1d9a001";
    assert_eq!(login().with_extension("mfa-verified", device).error(), CertificateError::IncompleteMfa);
    let world = World::new();
    let receipt_alone = Draft::new(&node(world.touched("prod-pg"))).without_extension("mfa-verified");
    assert_eq!(receipt_alone.error(), CertificateError::IncompleteMfa);
}

#[test]
fn a_touched_session_certificate_says_so_to_teleports_tools_too() {
    let world = World::new();
    let identity = node(world.touched("prod-pg"));
    let said = extensions(&identity);
    let value = |name: &str| said.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    assert_eq!(value("mfa-verified"), Some(world.key.id.to_string().as_str()));
    assert_eq!(value("teleport-roles"), Some(r#"{"version":"v1","roles":["access-dev","access-prod"]}"#));
    assert_eq!(value("prev-identity-expires"), Some(crate::clock::rfc3339(now() + HOUR).as_str()));
    let MfaEvidence::Receipt { .. } = identity.mfa else { unreachable!() };
    assert!(value("receipt@touchstone").is_some());
}
