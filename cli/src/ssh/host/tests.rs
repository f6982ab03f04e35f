use russh::keys::PublicKeyOrCertificate;

use super::*;
use crate::ssh::testing::{Certified, NODE, authority, key};

const NOW: u64 = 1_800_000_000;

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

fn authorities() -> HostAuthorities {
    HostAuthorities::parse(&[authority().public_key().to_openssh().unwrap()]).unwrap()
}

fn verified(certified: &Certified<'_>) -> Result<(), HostError> {
    let presented = PublicKeyOrCertificate::Certificate(certified.certificate(&key(2)));
    authorities().verify(&presented, NODE, now())
}

#[test]
fn a_host_certificate_that_names_the_node_is_believed() {
    assert_eq!(verified(&Certified::default()), Ok(()));
    let several = Certified { principals: &["10.0.0.1", NODE], ..Certified::default() };
    assert_eq!(verified(&several), Ok(()));
}

#[test]
fn a_plain_key_is_never_trusted() {
    let plain = PublicKeyOrCertificate::from(key(2).public_key().clone());
    assert_eq!(authorities().verify(&plain, NODE, now()), Err(HostError::PlainKey));
    // Not even the authority's own.
    let plain = PublicKeyOrCertificate::from(authority().public_key().clone());
    assert_eq!(authorities().verify(&plain, NODE, now()), Err(HostError::PlainKey));
}

#[test]
fn a_certificate_of_another_authority_is_refused() {
    assert_eq!(verified(&Certified { signer: key(9), ..Certified::default() }), Err(HostError::Authority));
}

#[test]
fn a_certificate_of_another_host_is_refused() {
    for principals in [&["prod-2"][..], &["PROD-1"], &["prod-1,prod-2"], &["prod-1 "], &["prod-1.main"]] {
        let error = verified(&Certified { principals, ..Certified::default() }).unwrap_err();
        assert!(matches!(error, HostError::Principal { .. }), "{principals:?}");
    }
}

#[test]
fn a_certificate_for_nobody_is_not_one_for_everybody() {
    let error = verified(&Certified { principals: &[], ..Certified::default() }).unwrap_err();
    assert_eq!(error.to_string(), "its host certificate is for no host, not \"prod-1\"");
}

#[test]
fn a_user_certificate_makes_no_host() {
    let user = Certified { kind: CertType::User, ..Certified::default() };
    assert_eq!(verified(&user), Err(HostError::NotForHosts));
}

#[test]
fn dates_are_kept_to_the_second() {
    let with = |valid| verified(&Certified { valid, ..Certified::default() });
    assert_eq!(with((NOW, NOW + 1)), Ok(()));
    for (after, before) in [(NOW + 1, NOW + 2), (NOW - 1, NOW)] {
        assert!(matches!(with((after, before)), Err(HostError::Dates { .. })));
    }
}

#[test]
fn a_condition_that_is_not_known_is_not_kept() {
    let error = verified(&Certified { critical: &["only-on-sundays"], ..Certified::default() });
    assert_eq!(error, Err(HostError::CriticalOption("only-on-sundays".to_owned())));
}

#[test]
fn a_certificate_that_was_changed_is_refused() {
    let mut bytes = Certified::default().certificate(&key(2)).to_bytes().unwrap();
    let at = bytes.windows(NODE.len()).rposition(|bytes| bytes == NODE.as_bytes()).unwrap();
    bytes[at..at + NODE.len()].copy_from_slice(b"prod-2");
    let changed = PublicKeyOrCertificate::Certificate(Certificate::from_bytes(&bytes).unwrap());
    assert_eq!(authorities().verify(&changed, "prod-2", now()), Err(HostError::Signature));
}

#[test]
fn no_authority_is_not_any_authority() {
    assert_eq!(HostAuthorities::parse::<&str>(&[]).unwrap_err(), AuthoritiesError::None);
    let good = authority().public_key().to_openssh().unwrap();
    assert_eq!(HostAuthorities::parse(&[good.as_str(), "x"]).unwrap_err(), AuthoritiesError::Unreadable);
    let nested = Certified::default().certificate(&authority()).to_openssh().unwrap();
    assert_eq!(HostAuthorities::parse(&[nested]).unwrap_err(), AuthoritiesError::Unreadable);
}
