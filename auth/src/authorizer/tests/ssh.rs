//! Certificates of SSH at the door of a node: with a receipt, with a code, inside TLS.

use ssh_key::certificate::CertType;

use super::*;
use crate::{
    credential::OtpProof,
    proto,
    testing::{
        Ca, SshDraft,
        ssh::{self, sk_key},
        world::{node_request, node_route, ssh_key_sha256},
    },
};

const SESSION: [u8; 32] = [9; 32];

fn authorize(world: &World, certificate: &[u8], target: &str, login: &str) -> Result<Permit, AccessDenied> {
    world.authorizer.authorize(&Credential::Ssh { certificate }, &node_request(target, login))
}

fn refusal(world: &World, draft: &SshDraft, target: &str, login: &str) -> DenyReason {
    authorize(world, &draft.wire(), target, login).unwrap_err().reason
}

fn touched(world: &World, target: &str, login: &str) -> SshDraft {
    SshDraft::new(&world.node_touched(target, login, &ssh_key_sha256()))
}

fn login(world: &World) -> SshDraft {
    SshDraft::new(&world.login())
}

// Certificates

#[test]
fn a_login_certificate_opens_a_node_that_needs_no_touch() {
    let world = World::new();
    let permit = authorize(&world, &login(&world).wire(), "dev-host", "jerry").unwrap();
    assert_eq!(permit.identity().user.as_str(), "jerry");
    assert_eq!(permit.decided_by().as_str(), "access-dev");
    assert_eq!(permit.mfa_device(), None);
}

#[test]
fn a_login_certificate_alone_does_not_open_a_node_that_needs_a_touch() {
    let world = World::new();
    let by = MfaRequiredBy::Role(role("access-prod"));
    assert_eq!(refusal(&world, &login(&world), "prod-host", "jerry"), DenyReason::MfaRequired { by });
}

#[test]
fn a_session_certificate_with_a_receipt_opens_its_session() {
    let world = World::new();
    let permit =
        authorize(&world, &touched(&world, "prod-host", "root").wire(), "prod-host", "root").unwrap();
    assert_eq!(permit.mfa_device(), Some(world.key.id));
    assert!(permit.receipt().is_some());
    assert_eq!(permit.certificate().serial_hex, "0000000000001234");
}

#[test]
fn a_receipt_for_another_ssh_key_is_refused() {
    let world = World::new();
    let identity = world.node_touched("prod-host", "root", &[7; 32]);
    let refused = refusal(&world, &SshDraft::new(&identity), "prod-host", "root");
    assert_eq!(refused, DenyReason::Receipt(ReceiptError::OtherKey));
}

#[test]
fn a_receipt_for_a_database_opens_no_node_of_the_same_name() {
    let world = World::new();
    let mut touch = world.touch("prod-host");
    touch.intent.public_key_sha256 = ssh_key_sha256();
    let MfaEvidence::Receipt { device, receipt } = world.touched_with(&world.key, world.key.id, &touch).mfa
    else {
        unreachable!()
    };
    let mfa = MfaEvidence::Receipt { device, receipt };
    let identity = Identity { mfa, ..world.node_routed("prod-host", "root") };
    let refused = refusal(&world, &SshDraft::new(&identity), "prod-host", "root");
    assert_eq!(refused, DenyReason::Receipt(ReceiptError::OtherTarget));
}

#[test]
fn a_flag_without_a_receipt_is_refused() {
    let world = World::new();
    let identity = Identity {
        mfa: MfaEvidence::Claimed { device: world.key.id },
        ..world.node_routed("prod-host", "root")
    };
    let refused = refusal(&world, &SshDraft::new(&identity), "prod-host", "root");
    assert_eq!(refused, DenyReason::ReceiptMissing { device: world.key.id });
}

#[test]
fn a_session_certificate_opens_no_other_target_and_no_other_login() {
    let world = World::new();
    let draft = touched(&world, "prod-host", "root");
    assert!(matches!(refusal(&world, &draft, "prod-other", "root"), DenyReason::OtherTarget { .. }));
    let other = CertificateError::OtherPrincipal { login: "jerry".to_owned() };
    assert_eq!(refusal(&world, &draft, "prod-host", "jerry"), DenyReason::Certificate(other));
    // Also where the principals would allow it: the route names one.
    let generous = SshDraft { principals: vec!["root".to_owned(), "jerry".to_owned()], ..draft };
    assert!(matches!(refusal(&world, &generous, "prod-host", "jerry"), DenyReason::OtherLogin { .. }));
}

#[test]
fn a_login_that_no_role_gives_is_refused_though_the_certificate_has_it() {
    let world = World::new();
    let draft = SshDraft { principals: vec!["jerry".to_owned(), "root".to_owned()], ..login(&world) };
    assert!(matches!(refusal(&world, &draft, "dev-host", "root"), DenyReason::Policy(_)));
}

#[test]
fn whatever_a_certificate_breaks_is_refused_at_the_door_too() {
    let world = World::new();
    let good = || login(&world);
    let cases = [
        (SshDraft { authority: 3, ..good() }, CertificateError::UnknownAuthority),
        (SshDraft { cert_type: CertType::Host, ..good() }, CertificateError::HostCertificate),
        (SshDraft { principals: vec![], golden: true, ..good() }, CertificateError::NoPrincipals),
        (
            SshDraft { principals: vec!["jerry".to_owned(), "a,root".to_owned()], ..good() },
            CertificateError::Invalid { attribute: "principal" },
        ),
        (SshDraft { subject: sk_key(), ..good() }, CertificateError::Invalid { attribute: "public key" }),
        (
            SshDraft { critical: vec![("force-command".to_owned(), "id".to_owned())], ..good() },
            CertificateError::UnknownCriticalOption { name: "force-command".to_owned() },
        ),
        (SshDraft { before: now(), ..good() }, CertificateError::Expired { not_after: now(), now: now() }),
        (
            SshDraft { after: now() + MINUTE, ..good() },
            CertificateError::NotYetValid { not_before: now() + MINUTE, now: now() },
        ),
    ];
    for (draft, error) in cases {
        assert_eq!(refusal(&world, &draft, "dev-host", "jerry"), DenyReason::Certificate(error));
    }
    for garbage in [vec![], vec![0; 64], vec![0xff; 40_000]] {
        assert!(authorize(&world, &garbage, "dev-host", "jerry").is_err());
    }
}

#[test]
fn an_ssh_certificate_opens_no_database_and_tls_alone_opens_no_node() {
    let world = World::new();
    let certificate = login(&world).wire();
    let credential = Credential::Ssh { certificate: &certificate };
    let denied = world.authorizer.authorize(&credential, &request("dev-pg")).unwrap_err();
    assert_eq!(denied.reason, DenyReason::OtherProtocolOfCredential);
    let chain = [world.certify(&world.login())];
    let denied = world
        .authorizer
        .authorize(&Credential::X509(&chain), &node_request("dev-host", "jerry"))
        .unwrap_err();
    assert_eq!(denied.reason, DenyReason::OtherProtocolOfCredential);
}

#[test]
fn an_authority_whose_key_cannot_be_read_vouches_for_nobody() {
    let world = World::new();
    let mut event = crate::testing::world::authority("user", &world.user_ca);
    let proto::watch_event::Event::Put(put) = &mut event else { unreachable!() };
    let Some(proto::watch_event::put::Item::Authority(authority)) = &mut put.item else { unreachable!() };
    authority.ssh_public_keys = vec!["ssh-ed25519 AAAA".to_owned()];
    world.apply(event).unwrap();
    let refused = refusal(&world, &login(&world), "dev-host", "jerry");
    assert_eq!(refused, DenyReason::Certificate(CertificateError::UnknownAuthority));
}

// SSH inside TLS

fn in_tls(
    world: &World,
    outer: &Identity,
    inner: &[u8],
    target: &str,
    login: &str,
) -> Result<Permit, AccessDenied> {
    let chain = [world.certify(outer)];
    let credential = Credential::SshInTls { chain: &chain, certificate: inner };
    world.authorizer.authorize(&credential, &node_request(target, login))
}

/// A touch for the key of the outer certificate.
fn outer(world: &World, target: &str, login: &str) -> Identity {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &world.spki);
    let identity = world.node_touched(target, login, hash.as_ref());
    Identity { logins: vec!["jerry".to_owned(), "root".to_owned()], ..identity }
}

fn inner(world: &World) -> SshDraft {
    SshDraft { principals: vec!["jerry".to_owned(), "root".to_owned()], ..login(world) }
}

#[test]
fn inside_tls_the_outer_certificate_proves_the_touch_and_the_inner_one_the_user() {
    let world = World::new();
    let outer = outer(&world, "prod-host", "root");
    let permit = in_tls(&world, &outer, &inner(&world).wire(), "prod-host", "root").unwrap();
    assert_eq!(permit.mfa_device(), Some(world.key.id));
    assert_eq!(permit.certificate().serial_hex.len(), 32, "it is the outer one that is judged");
}

#[test]
fn inside_tls_a_login_certificate_outside_opens_what_needs_no_touch_alone() {
    let world = World::new();
    let inner = inner(&world).wire();
    assert!(in_tls(&world, &world.login(), &inner, "dev-host", "jerry").is_ok());
    let denied = in_tls(&world, &world.login(), &inner, "prod-host", "jerry").unwrap_err();
    assert!(matches!(denied.reason, DenyReason::MfaRequired { .. }));
}

#[test]
fn inside_tls_both_certificates_are_the_same_users() {
    let world = World::new();
    let other = Identity { user: UserName::new("mallory").unwrap(), ..world.login() };
    let draft = SshDraft { principals: vec!["root".to_owned()], ..SshDraft::new(&other) };
    let denied =
        in_tls(&world, &outer(&world, "prod-host", "root"), &draft.wire(), "prod-host", "root").unwrap_err();
    assert_eq!(denied.reason, DenyReason::OtherUserInside { inside: other.user });
    assert_eq!(denied.identity.unwrap().user.as_str(), "jerry");
}

#[test]
fn inside_tls_the_inner_certificate_is_judged_as_strictly() {
    let world = World::new();
    let outer = outer(&world, "prod-host", "root");
    let root = || SshDraft { principals: vec!["root".to_owned()], ..login(&world) };
    let session = touched(&world, "prod-host", "root");
    for (draft, why) in [
        (SshDraft { authority: 3, ..root() }, "another authority"),
        (SshDraft { before: now(), ..root() }, "expired"),
        (SshDraft { after: now() + MINUTE, ..root() }, "from the future"),
        (SshDraft { cert_type: CertType::Host, ..root() }, "a host's"),
        (login(&world), "without the login"),
        (session, "for a session"),
    ] {
        assert!(in_tls(&world, &outer, &draft.wire(), "prod-host", "root").is_err(), "{why}");
    }
    assert!(in_tls(&world, &outer, &root().wire(), "prod-host", "root").is_ok());
}

#[test]
fn inside_tls_a_touch_for_another_session_is_refused() {
    let world = World::new();
    let inner = inner(&world).wire();
    let outer = outer(&world, "prod-host", "root");
    let denied = in_tls(&world, &outer, &inner, "prod-host", "jerry").unwrap_err();
    assert!(matches!(denied.reason, DenyReason::OtherLogin { .. }));
    let denied = in_tls(&world, &outer, &inner, "prod-other", "root").unwrap_err();
    assert!(matches!(denied.reason, DenyReason::OtherTarget { .. }));
}

#[test]
fn inside_tls_an_outer_certificate_of_another_authority_is_refused() {
    let world = World::new();
    let outer = outer(&world, "prod-host", "root");
    let chain = [Ca::new("user authority").sign(&Draft::user(&outer, world.spki.clone()))];
    let certificate = inner(&world).wire();
    let credential = Credential::SshInTls { chain: &chain, certificate: &certificate };
    assert!(world.authorizer.authorize(&credential, &node_request("prod-host", "root")).is_err());
}

// One-time codes

fn code_device() -> DeviceId {
    DeviceId(Uuid::from_u128(7))
}

/// A cluster that takes codes, where jerry has a device for them.
fn with_codes() -> World {
    let world = World::new();
    world.apply(preference(r#""second_factor":"on""#)).unwrap();
    world.apply(totp(code_device(), "jerry")).unwrap();
    world
}

fn asked(certificate: &[u8]) -> proto::VerifyOtpRequest {
    proto::VerifyOtpRequest {
        ssh_certificate: certificate.to_vec(),
        route: Some(node_route("prod-host", "jerry")),
        code: "123456".to_owned(),
        session_hash: SESSION.to_vec(),
        client_address: "192.0.2.7".to_owned(),
    }
}

fn answer() -> proto::VerifyOtpResponse {
    proto::VerifyOtpResponse {
        device_id: code_device().to_string(),
        time: crate::clock::unix_millis(now()),
        user: "jerry".to_owned(),
    }
}

fn with_code(
    world: &World,
    certificate: &[u8],
    session_hash: &[u8],
    proof: &OtpProof,
    (target, login): (&str, &str),
) -> Result<Permit, AccessDenied> {
    let credential = Credential::SshWithOtp { certificate, session_hash, proof };
    world.authorizer.authorize(&credential, &node_request(target, login))
}

#[test]
fn a_code_for_this_connection_opens_what_needs_mfa() {
    let world = with_codes();
    let certificate = login(&world).wire();
    let proof = OtpProof::from_answer(&asked(&certificate), &answer()).unwrap();
    let permit = with_code(&world, &certificate, &SESSION, &proof, ("prod-host", "jerry")).unwrap();
    assert_eq!(permit.mfa_device(), Some(code_device()));
    assert_eq!(permit.receipt(), None, "a code leaves no proof");
}

#[test]
fn a_code_for_another_connection_certificate_login_or_target_is_refused() {
    let world = with_codes();
    let certificate =
        SshDraft { principals: vec!["jerry".to_owned(), "root".to_owned()], ..login(&world) }.wire();
    let proof = OtpProof::from_answer(&asked(&certificate), &answer()).unwrap();
    let other_code = DenyReason::OtherCode { device: code_device() };
    let place = ("prod-host", "jerry");
    let refused = |certificate: &[u8], hash: &[u8], place| {
        with_code(&world, certificate, hash, &proof, place).unwrap_err().reason
    };
    assert_eq!(refused(&certificate, &[8; 32], place), other_code);
    assert_eq!(refused(&certificate, &SESSION[..31], place), other_code);
    assert_eq!(refused(&certificate, &SESSION, ("prod-host", "root")), other_code);
    assert_eq!(refused(&certificate, &SESSION, ("prod-other", "jerry")), other_code);
    assert_eq!(refused(&login(&world).wire(), &SESSION, place), other_code);
    let other_user = proto::VerifyOtpResponse { user: "mallory".to_owned(), ..answer() };
    let proof = OtpProof::from_answer(&asked(&certificate), &other_user).unwrap();
    assert_eq!(with_code(&world, &certificate, &SESSION, &proof, place).unwrap_err().reason, other_code);
}

#[test]
fn a_code_counts_only_where_the_cluster_takes_codes_and_for_the_users_own_device() {
    let world = with_codes();
    let certificate = login(&world).wire();
    let proof = OtpProof::from_answer(&asked(&certificate), &answer()).unwrap();
    let device = code_device();
    let refused =
        || with_code(&world, &certificate, &SESSION, &proof, ("prod-host", "jerry")).unwrap_err().reason;
    world.apply(preference(r#""second_factor":"webauthn""#)).unwrap();
    assert_eq!(refused(), DenyReason::OtpNotAccepted { device });
    world.apply(preference(r#""second_factor":"on""#)).unwrap();
    world.apply(totp(device, "mallory")).unwrap();
    assert_eq!(refused(), DenyReason::DeviceOfAnotherUser { device });
    world.apply(delete("device_key", &device.to_string())).unwrap();
    assert_eq!(refused(), DenyReason::UnknownDevice { device });
}

#[test]
fn who_has_no_device_for_codes_or_no_cluster_that_takes_them_is_not_asked() {
    let world = with_codes();
    let (jerry, olga) = (UserName::new("jerry").unwrap(), UserName::new("olga").unwrap());
    assert!(world.authorizer.takes_codes_of(&jerry) && !world.authorizer.takes_codes_of(&olga));
    world.apply(preference(r#""second_factor":"webauthn""#)).unwrap();
    assert!(!world.authorizer.takes_codes_of(&jerry));
    assert!(!World::empty().authorizer.takes_codes_of(&jerry));
}

#[test]
fn a_code_is_no_proof_of_a_security_key() {
    let world = with_codes();
    let certificate = login(&world).wire();
    let said = proto::VerifyOtpResponse { device_id: world.key.id.to_string(), ..answer() };
    let proof = OtpProof::from_answer(&asked(&certificate), &said).unwrap();
    let denied = with_code(&world, &certificate, &SESSION, &proof, ("prod-host", "jerry")).unwrap_err();
    assert_eq!(denied.reason, DenyReason::ReceiptMissing { device: world.key.id });
}

#[test]
fn a_code_beside_a_session_certificate_is_refused() {
    let world = with_codes();
    let certificate = touched(&world, "prod-host", "jerry").wire();
    let proof = OtpProof::from_answer(&asked(&certificate), &answer()).unwrap();
    let denied = with_code(&world, &certificate, &SESSION, &proof, ("prod-host", "jerry")).unwrap_err();
    assert_eq!(denied.reason, DenyReason::OtherCode { device: code_device() });
}

#[test]
fn a_lock_on_the_device_of_the_code_stops_the_session() {
    let world = with_codes();
    let certificate = login(&world).wire();
    let proof = OtpProof::from_answer(&asked(&certificate), &answer()).unwrap();
    world.apply(lock(&format!(r#""mfa_device":"{}""#, code_device()))).unwrap();
    let denied = with_code(&world, &certificate, &SESSION, &proof, ("prod-host", "jerry")).unwrap_err();
    assert!(matches!(denied.reason, DenyReason::Locked(_)), "{:?}", denied.reason);
}

#[test]
fn a_code_grows_old_like_a_touch() {
    let world = with_codes();
    verification_interval(&world, "10m");
    let certificate = login(&world).wire();
    let proof = OtpProof::from_answer(&asked(&certificate), &answer()).unwrap();
    world.clock.set(now() + MINUTE * 12);
    let denied = with_code(&world, &certificate, &SESSION, &proof, ("prod-host", "jerry")).unwrap_err();
    assert!(matches!(denied.reason, DenyReason::MfaTooOld { .. }), "{:?}", denied.reason);
}

#[test]
fn an_answer_that_cannot_be_read_proves_nothing() {
    let (good, certificate) = (answer(), ssh::key(ssh::USER).public_key().to_bytes().unwrap());
    for bad in [
        proto::VerifyOtpResponse { device_id: String::new(), ..good.clone() },
        proto::VerifyOtpResponse { user: String::new(), ..good.clone() },
        proto::VerifyOtpResponse { time: -1, ..good.clone() },
    ] {
        assert!(OtpProof::from_answer(&asked(&certificate), &bad).is_err());
    }
    let no_hash = proto::VerifyOtpRequest { session_hash: vec![], ..asked(&certificate) };
    assert!(OtpProof::from_answer(&no_hash, &good).is_err());
    assert!(
        OtpProof::from_answer(&proto::VerifyOtpRequest { route: None, ..asked(&certificate) }, &good)
            .is_err()
    );
}
