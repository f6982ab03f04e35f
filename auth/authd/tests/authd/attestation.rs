//! `attestation_allowed_cas` and `attestation_denied_cas`: whose make security keys may be.

use auth::{proto, resource::parse_documents};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    KeyUsagePurpose,
};
use tonic::{Code, Status};

use crate::{
    key::{Maker, TestKey, Words, creation_options},
    world::*,
};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn root(name: &str) -> Authority {
    Authority::self_signed(authority_params(name), KeyPair::generate().unwrap()).unwrap()
}

fn below(name: &str, issuer: &Authority) -> Authority {
    Authority::signed_by(authority_params(name), KeyPair::generate().unwrap(), issuer).unwrap()
}

/// The certificate of a key as WebAuthn Level 2, 8.2.1, wants it; it lives in the years given.
fn key_params(years: (i32, i32)) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CountryName, "SE");
    params.distinguished_name.push(DnType::OrganizationName, "Maker");
    params.distinguished_name.push(DnType::OrganizationalUnitName, "Authenticator Attestation");
    params.distinguished_name.push(DnType::CommonName, "Key of the first series");
    params.is_ca = IsCa::ExplicitNoCa;
    (params.not_before, params.not_after) =
        (rcgen::date_time_ymd(years.0, 1, 1), rcgen::date_time_ymd(years.1, 1, 1));
    params
}

const NOW: (i32, i32) = (2020, 2099);

/// A key made by `issuer`, which sends these certificates along with its own.
fn made_by(issuer: &Authority, along: &[&Authority], years: (i32, i32)) -> Maker {
    let pair = KeyPair::generate().unwrap();
    let own = key_params(years).signed_by(&pair, issuer).unwrap();
    let mut chain = vec![own.der().to_vec()];
    chain.extend(along.iter().map(|authority| authority.der().to_vec()));
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pair.serialized_der()).unwrap();
    Maker { chain, key }
}

fn cap(allowed: &[&Authority], denied: &[&Authority]) -> String {
    let list = |authorities: &[&Authority]| {
        serde_json::Value::from(authorities.iter().map(|authority| authority.pem()).collect::<Vec<_>>())
    };
    format!(
        "webauthn: {{attestation_allowed_cas: {}, attestation_denied_cas: {}}}",
        list(allowed),
        list(denied)
    )
}

async fn register(world: &World, name: &str, maker: Option<&Maker>) -> Result<(), Status> {
    let token = world.invite(name, &["access"]).await;
    let begin = world.begin_invitation(&token, proto::DeviceKind::Webauthn).await.unwrap();
    let (_, device) = TestKey::register(&begin, &Words::new(&world.origin()), maker);
    world.accept(&token, Some(device)).await
}

#[tokio::test]
async fn keys_of_the_allowed_makes_and_no_others_are_registered() {
    let (one, other) = (root("One"), root("Other"));
    let (series, denied_series) = (below("Series", &one), below("Denied series", &one));
    let of_one = || made_by(&one, &[], NOW);
    // Its own certificate is another's; the allowed one only stands beside it.
    let in_bad_company = made_by(&other, &[&one], NOW);
    const MISSING: Option<&str> = Some("does not say who made it");
    const OTHER: Option<&str> = Some("this one is of another");
    const DENIED: Option<&str> = Some("does not take security keys of this make");
    let table = [
        ("no lists", cap(&[], &[]), Some(made_by(&other, &[], NOW)), None),
        ("no lists, nothing said", cap(&[], &[]), None, None),
        ("allowed", cap(&[&one], &[]), Some(of_one()), None),
        ("one of two", cap(&[&other, &one], &[]), Some(of_one()), None),
        ("the series, sent along", cap(&[&one], &[]), Some(made_by(&series, &[&series], NOW)), None),
        ("the series itself", cap(&[&series], &[]), Some(made_by(&series, &[], NOW)), None),
        ("the series, not sent along", cap(&[&one], &[]), Some(made_by(&series, &[], NOW)), OTHER),
        ("of another", cap(&[&one], &[]), Some(made_by(&other, &[], NOW)), OTHER),
        ("in good company", cap(&[&one], &[]), Some(in_bad_company), OTHER),
        ("over", cap(&[&one], &[]), Some(made_by(&one, &[], (2000, 2001))), OTHER),
        ("nothing said", cap(&[&one], &[]), None, MISSING),
        ("denied", cap(&[], &[&other]), Some(made_by(&other, &[], NOW)), DENIED),
        ("not denied", cap(&[], &[&other]), Some(of_one()), None),
        ("nothing said of who is not denied", cap(&[], &[&other]), None, MISSING),
        ("denied beats allowed", cap(&[&one], &[&one]), Some(of_one()), DENIED),
        ("denied and over", cap(&[], &[&one]), Some(made_by(&one, &[], (2000, 2001))), DENIED),
        (
            "denied series of an allowed maker",
            cap(&[&one], &[&denied_series]),
            Some(made_by(&denied_series, &[&denied_series], NOW)),
            DENIED,
        ),
    ];
    let world = World::new().await;
    for (number, (what, spec, maker, expected)) in table.into_iter().enumerate() {
        world.cap(&spec).await;
        let result = register(&world, &format!("person-{number}"), maker.as_ref()).await;
        match expected {
            None => assert!(result.is_ok(), "{what}: {result:?}"),
            Some(text) => {
                let status = result.expect_err(what);
                assert!(status.message().contains(text), "{what}: {status}");
                assert_eq!(status.code(), Code::PermissionDenied, "{what}");
            }
        }
    }
}

#[tokio::test]
async fn a_statement_that_its_maker_did_not_sign_is_refused() {
    let one = root("One");
    let world = World::new().await;
    world.cap(&cap(&[&one], &[])).await;
    let forged = Maker { key: made_by(&one, &[], NOW).key, ..made_by(&one, &[], NOW) };
    let (code, text) = refused(register(&world, "olga", Some(&forged)).await);
    assert_eq!((code, text.as_str()), (Code::Unauthenticated, CREDENTIALS));
}

#[tokio::test]
async fn a_key_is_asked_who_made_it_only_where_that_matters() {
    let world = World::new().await;
    let asked = async |name: &str| {
        let token = world.invite(name, &["access"]).await;
        let begin = world.begin_invitation(&token, proto::DeviceKind::Webauthn).await.unwrap();
        creation_options(&begin)["publicKey"]["attestation"].clone()
    };
    assert_ne!(asked("olga").await, "direct");
    world.cap(&cap(&[&root("One")], &[])).await;
    assert_eq!(asked("jerry").await, "direct");
}

#[test]
fn what_is_no_certificate_is_not_taken_into_a_list() {
    let secret = KeyPair::generate().unwrap().serialize_pem();
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for text in ["/etc/ssl/maker.pem", "", secret.as_str(), broken] {
        for list in ["attestation_allowed_cas", "attestation_denied_cas"] {
            let yaml = format!(
                "kind: cluster_auth_preference\nversion: v2\nmetadata: {{name: cluster-auth-preference}}\n\
                 spec: {{webauthn: {{{list}: [{}]}}}}\n",
                serde_json::Value::from(text)
            );
            let error = parse_documents(&yaml).unwrap_err().to_string();
            assert!(error.contains("not a certificate in PEM") && error.contains(list), "{text}: {error}");
        }
    }
}
