use std::{
    process::Command,
    time::{Duration, SystemTime},
};

use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::*;

fn spki() -> P256PublicKey {
    use aws_lc_rs::{rand::SystemRandom, signature::*};
    let document =
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new()).unwrap();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document.as_ref()).unwrap();
    P256PublicKey::from_point(key.public_key().as_ref()).unwrap()
}

fn template(usage: Usage) -> Template {
    let now = SystemTime::now();
    Template {
        subject: vec![
            Attribute::common_name("jerry"),
            Attribute::organization("access-dev"),
            Attribute::organization("access-prod"),
            Attribute { oid: vec![1, 3, 9999, 1, 8], value: "1d1e7f6a".into() },
        ],
        public_key: spki(),
        not_before: now - Duration::from_secs(60),
        not_after: now + Duration::from_secs(60),
        usage,
        names: vec![San::Dns("db.example.com".into()), San::Ip("127.0.0.1".parse().unwrap())],
        // 2.25.1: any identifier will do here.
        extensions: vec![Extension { oid_der: vec![6, 2, 0x69, 1], value: vec![4, 1, 7] }],
    }
}

fn verify(leaf: &CertificateDer<'_>, authority: &CertificateDer<'_>, usage: webpki::KeyUsage) -> bool {
    let anchor = webpki::anchor_from_trusted_cert(authority).unwrap();
    let leaf = webpki::EndEntityCert::try_from(leaf).unwrap();
    leaf.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &[anchor], &[], UnixTime::now(), usage, None, None)
        .is_ok()
}

#[test]
fn webpki_accepts_a_leaf_for_its_own_usage_alone() {
    let authority = Authority::generate(AuthorityKind::User, "main", SystemTime::now()).unwrap();
    let leaf = authority.sign(&template(Usage::Client)).unwrap().der;
    assert!(verify(&leaf, authority.certificate(), webpki::KeyUsage::client_auth()));
    assert!(!verify(&leaf, authority.certificate(), webpki::KeyUsage::server_auth()));
    let other = Authority::generate(AuthorityKind::User, "main", SystemTime::now()).unwrap();
    assert!(!verify(&leaf, other.certificate(), webpki::KeyUsage::client_auth()));
}

#[test]
fn webpki_accepts_every_name_of_a_server() {
    let authority = Authority::generate(AuthorityKind::Host, "main", SystemTime::now()).unwrap();
    let der = authority.sign(&template(Usage::ClientAndServer)).unwrap().der;
    assert!(verify(&der, authority.certificate(), webpki::KeyUsage::server_auth()));
    let leaf = webpki::EndEntityCert::try_from(&der).unwrap();
    for name in ["db.example.com", "127.0.0.1"] {
        leaf.verify_is_valid_for_subject_name(&ServerName::try_from(name).unwrap()).unwrap();
    }
}

#[test]
fn subject_attributes_repeat_in_order() {
    let authority = Authority::generate(AuthorityKind::User, "main", SystemTime::now()).unwrap();
    let der = authority.sign(&template(Usage::Client)).unwrap().der;
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).unwrap();
    let roles: Vec<_> = certificate.subject().iter_organization().map(|o| o.as_str().unwrap()).collect();
    assert_eq!(roles, ["access-dev", "access-prod"]);
}

#[test]
fn an_authority_survives_its_record() {
    let made = Authority::generate(AuthorityKind::User, "main", SystemTime::now()).unwrap();
    let text = serde_json::to_string(&made.to_record()).unwrap();
    let read = Authority::from_record(AuthorityKind::User, &serde_json::from_str(&text).unwrap()).unwrap();
    assert_eq!(read.ssh_public_key(), made.ssh_public_key());
    assert_eq!(read.spki_sha256(), made.spki_sha256());
    let leaf = read.sign(&template(Usage::Client)).unwrap().der;
    assert!(verify(&leaf, made.certificate(), webpki::KeyUsage::client_auth()));
}

#[test]
fn a_leaf_does_not_outlive_its_authority() {
    let authority = Authority::generate(AuthorityKind::Db, "main", SystemTime::now()).unwrap();
    let mut template = template(Usage::Server);
    template.not_after = authority.not_after() + Duration::from_secs(1);
    assert_eq!(authority.sign(&template).unwrap().not_after, authority.not_after());
}

#[test]
fn keys_that_are_not_points_on_p256_are_refused() {
    let good = spki();
    for (what, bytes) in [
        ("empty", vec![]),
        ("cut", good.spki()[..90].to_vec()),
        ("longer", [good.spki(), &[0]].concat()),
        ("off the curve", [&good.spki()[..90], &[good.spki()[90] ^ 1]].concat()),
    ] {
        assert!(matches!(P256PublicKey::from_spki(&bytes), Err(CaError::PublicKey)), "{what}");
    }
}

#[test]
fn openssl_verifies_what_we_write() {
    if Command::new("openssl").arg("version").output().is_err() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::generate(AuthorityKind::User, "main", SystemTime::now()).unwrap();
    let leaf = authority.sign(&template(Usage::Client)).unwrap().der;
    let file = |name: &str, der: &CertificateDer<'_>| {
        let path = directory.path().join(name);
        std::fs::write(&path, pem::encode(&pem::Pem::new("CERTIFICATE", der.to_vec()))).unwrap();
        path
    };
    let (root, leaf) = (file("root.pem", authority.certificate()), file("leaf.pem", &leaf));
    let output = Command::new("openssl")
        .args(["verify", "-x509_strict", "-purpose", "sslclient", "-CAfile"])
        .args([&root, &leaf])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output =
        Command::new("openssl").args(["x509", "-noout", "-text", "-in"]).arg(&leaf).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for line in
        ["O = access-dev, O = access-prod", "1.3.9999.1.8 = 1d1e7f6a", "TLS Web Client Authentication"]
    {
        assert!(text.contains(line), "{line} not in {text}");
    }
}

fn ssh_key() -> SshPublicKey {
    let pair = ssh_key::private::Ed25519Keypair::from_seed(&[7; 32]);
    let key = ssh_key::PublicKey::from(ssh_key::public::KeyData::from(pair.public)).to_bytes().unwrap();
    SshPublicKey::from_wire(&key).unwrap()
}

fn ssh_template(principals: &[&str]) -> SshTemplate {
    let now = SystemTime::now();
    SshTemplate {
        key_id: "jerry".into(),
        principals: principals.iter().map(|name| (*name).to_owned()).collect(),
        not_before: now,
        not_after: now + Duration::from_secs(60),
        critical_options: vec![],
        extensions: vec![("permit-pty".into(), String::new())],
    }
}

#[test]
fn each_authority_signs_its_own_kind_of_certificate() {
    use ssh_key::certificate::CertType;
    let sign = |kind| {
        let authority = Authority::generate(kind, "main", SystemTime::now()).unwrap();
        authority
            .sign_ssh(&ssh_key(), &ssh_template(&["root"]))
            .map(|issued| ssh_key::Certificate::from_openssh(&issued.line).unwrap().cert_type())
    };
    assert_eq!(sign(AuthorityKind::User).unwrap(), CertType::User);
    assert_eq!(sign(AuthorityKind::Openssh).unwrap(), CertType::User);
    assert_eq!(sign(AuthorityKind::Host).unwrap(), CertType::Host);
    assert!(matches!(sign(AuthorityKind::Db), Err(CaError::NoSshKey(AuthorityKind::Db))));
    assert!(matches!(sign(AuthorityKind::DbClient), Err(CaError::NoSshKey(AuthorityKind::DbClient))));
    let openssh = Authority::generate(AuthorityKind::Openssh, "main", SystemTime::now()).unwrap();
    assert!(matches!(openssh.sign(&template(Usage::Client)), Err(CaError::NoX509(AuthorityKind::Openssh))));
}

#[test]
fn a_principal_that_can_be_read_as_two_is_never_signed() {
    let authority = Authority::generate(AuthorityKind::User, "main", SystemTime::now()).unwrap();
    for bad in ["a,root", "root\n", "ro\0ot", " root", "root ", ""] {
        let refused = authority.sign_ssh(&ssh_key(), &ssh_template(&["jerry", bad]));
        assert!(matches!(refused, Err(CaError::Principal(name)) if name == bad), "{bad:?}");
    }
    let ended =
        SshTemplate { not_after: SystemTime::now() - Duration::from_secs(1), ..ssh_template(&["root"]) };
    assert!(matches!(authority.sign_ssh(&ssh_key(), &ended), Err(CaError::Validity)));
}

#[test]
fn an_ssh_certificate_names_its_principals_and_is_never_without() {
    let authority = Authority::generate(AuthorityKind::User, "main", SystemTime::now()).unwrap();
    let key = ssh_key();
    let mut template = ssh_template(&["root", "ubuntu"]);
    let issued = authority.sign_ssh(&key, &template).unwrap();
    let certificate = ssh_key::Certificate::from_openssh(&issued.line).unwrap();
    assert_eq!(certificate.valid_principals(), ["root", "ubuntu"]);
    assert_eq!(format!("{:016x}", certificate.serial()), issued.serial_hex);
    let ca = ssh_key::PublicKey::from_openssh(&authority.ssh_public_key().unwrap()).unwrap();
    certificate.validate([&ca.fingerprint(ssh_key::HashAlg::Sha256)]).unwrap();
    template.principals.clear();
    assert!(matches!(authority.sign_ssh(&key, &template), Err(CaError::NoPrincipals)));
}

#[test]
fn ssh_keygen_reads_what_we_sign() {
    if Command::new("ssh-keygen").arg("-?").output().is_err() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for (kind, said) in
        [(AuthorityKind::Openssh, "user certificate"), (AuthorityKind::Host, "host certificate")]
    {
        let authority = Authority::generate(kind, "main", SystemTime::now()).unwrap();
        let issued = authority.sign_ssh(&ssh_key(), &ssh_template(&["root", "ubuntu"])).unwrap();
        let path = directory.path().join("cert.pub");
        std::fs::write(&path, &issued.line).unwrap();
        let output = Command::new("ssh-keygen").args(["-L", "-f"]).arg(&path).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        for part in [said, "Key ID: \"jerry\"", "root", "ubuntu", "permit-pty", "Critical Options: (none)"] {
            assert!(text.contains(part), "{part} not in {text}");
        }
    }
}
