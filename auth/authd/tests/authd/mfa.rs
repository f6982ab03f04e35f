use std::time::Duration;

use auth::{
    proto::{self, account_intent},
    receipt::{self, Purpose},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use prost::Message;
use serde_json::Value;
use tonic::{Code, transport::Channel};

use crate::world::*;

type Users = proto::users_client::UsersClient<Channel>;

async fn manage(users: &mut Users) -> proto::MfaChallenge {
    let scope = proto::create_challenge_request::Scope::ManageDevices(
        proto::create_challenge_request::ManageDevices {},
    );
    let request = proto::CreateChallengeRequest { scope: Some(scope) };
    users.create_challenge(request).await.unwrap().into_inner()
}

/// What is signed at login or for a change of devices names user and purpose, and can never be read as a session.
fn assert_is_for(challenge: &proto::MfaChallenge, purpose: Purpose, named: account_intent::Purpose) {
    let intent = proto::AccountIntent::decode(challenge.intent.as_slice()).unwrap();
    assert_eq!((intent.user.as_str(), intent.purpose(), intent.nonce.len()), ("olga", named, 16));
    let options: Value = serde_json::from_str(&challenge.webauthn_request_options_json).unwrap();
    let expected = BASE64_URL_SAFE_NO_PAD.encode(receipt::challenge(purpose, &challenge.intent));
    assert_eq!(options["publicKey"]["challenge"], expected);
}

#[tokio::test]
async fn what_a_touch_outside_sessions_is_for_stands_in_its_challenge() {
    let world = World::new().await;
    let mut olga = world.person_with_key("olga", &["access"]).await;
    let challenge = world.begin_login("olga", PASSWORD).await.unwrap();
    assert_is_for(&challenge, Purpose::Login, account_intent::Purpose::Login);
    world.login(&mut olga).await;
    let challenge = manage(&mut world.users(olga.identity()).await).await;
    assert_is_for(&challenge, Purpose::ManageDevices, account_intent::Purpose::ManageDevices);
}

#[tokio::test]
async fn a_device_is_added_and_removed_by_proof_of_another() {
    let world = World::new().await;
    let mut olga = world.person_with_key("olga", &["access"]).await;
    world.login(&mut olga).await;
    let mut users = world.users(olga.identity()).await;

    let challenge = manage(&mut users).await;
    let request = proto::BeginAddMfaDeviceRequest {
        kind: proto::DeviceKind::Totp as i32,
        challenge_id: challenge.challenge_id.clone(),
        mfa: Some(olga.answer(&challenge, &world)),
        ..Default::default()
    };
    let begin = users.begin_add_mfa_device(request).await.unwrap().into_inner();
    let device = olga.new_totp(&begin, world.time.now());
    let request = proto::FinishAddMfaDeviceRequest { device: Some(device.clone()) };
    users.finish_add_mfa_device(request.clone()).await.unwrap();
    // A registration is used once.
    assert_eq!(refused(users.finish_add_mfa_device(request).await).0, Code::NotFound);

    let challenge = manage(&mut users).await;
    assert!(challenge.totp && !challenge.webauthn_request_options_json.is_empty());
    let mfa = Some(olga.answer(&challenge, &world));
    let id = challenge.challenge_id;
    let request = proto::DeleteMfaDeviceRequest { device: "key".into(), challenge_id: id, mfa };
    users.delete_mfa_device(request).await.unwrap();
    world.clock.advance(Duration::from_secs(60));

    // The last one stays.
    olga.token = None;
    let challenge = manage(&mut users).await;
    let mfa = Some(olga.answer(&challenge, &world));
    let id = challenge.challenge_id;
    let request = proto::DeleteMfaDeviceRequest { device: "otp-device".into(), challenge_id: id, mfa };
    let (code, text) = refused(users.delete_mfa_device(request).await);
    assert_eq!(code, Code::FailedPrecondition);
    assert!(text.contains("last MFA device"), "{text}");
    assert_eq!(world.events("mfa.add").await.len(), 2);
    assert_eq!(world.events("mfa.delete").await.len(), 1);
}

#[tokio::test]
async fn a_login_certificate_alone_changes_no_devices() {
    let world = World::new().await;
    let mut jerry = world.person_with_totp("jerry", &["access"]).await;
    world.login(&mut jerry).await;
    let mut users = world.users(jerry.identity()).await;
    let kind = proto::DeviceKind::Totp as i32;
    let without = proto::BeginAddMfaDeviceRequest { kind, ..Default::default() };
    assert_eq!(refused(users.begin_add_mfa_device(without).await).0, Code::FailedPrecondition);
    let challenge_id = manage(&mut users).await.challenge_id;
    let empty = proto::BeginAddMfaDeviceRequest { kind, challenge_id, ..Default::default() };
    assert_eq!(refused(users.begin_add_mfa_device(empty).await).1, CREDENTIALS);
}

#[tokio::test]
async fn a_login_challenge_does_not_manage_devices() {
    let world = World::new().await;
    let mut jerry = world.person_with_totp("jerry", &["access"]).await;
    world.login(&mut jerry).await;
    world.clock.advance(Duration::from_secs(60));
    let challenge = world.begin_login("jerry", PASSWORD).await.unwrap();
    let request = proto::DeleteMfaDeviceRequest {
        device: "otp-device".into(),
        challenge_id: challenge.challenge_id.clone(),
        mfa: Some(jerry.answer(&challenge, &world)),
    };
    let mut users = world.users(jerry.identity()).await;
    assert_eq!(refused(users.delete_mfa_device(request).await).0, Code::FailedPrecondition);
}

/// The registration of one user's key, made over for another's: attestation `none` signs nothing, so this is all that it
/// takes.
fn made_over(device: &proto::NewDevice, begin: &proto::DeviceRegistration) -> proto::NewDevice {
    let Some(proto::new_device::Proof::WebauthnCredentialJson(json)) = &device.proof else { panic!() };
    let Some(proto::device_registration::Kind::WebauthnCreationOptionsJson(options)) = &begin.kind else {
        panic!()
    };
    let mut credential: Value = serde_json::from_str(json).unwrap();
    let options: Value = serde_json::from_str(options).unwrap();
    let read =
        |field: &str| BASE64_URL_SAFE_NO_PAD.decode(credential["response"][field].as_str().unwrap()).unwrap();
    let mut client_data: Value = serde_json::from_slice(&read("clientDataJSON")).unwrap();
    client_data["challenge"] = options["publicKey"]["challenge"].clone();
    let attested = read("attestationObject");
    // CBOR: the byte string (one or two bytes of length) behind the key "authData".
    let place = attested.windows(8).position(|window| window == b"authData").unwrap() + 8;
    let length = match attested[place] {
        0x58 => 2 + usize::from(attested[place + 1]),
        0x59 => 3 + usize::from(u16::from_be_bytes([attested[place + 1], attested[place + 2]])),
        other => panic!("{other:x}"),
    };
    let authenticator_data = &attested[place..place + length];
    let unattested = [b"\xa3\x63fmt\x64none\x67attStmt\xa0\x68authData", authenticator_data].concat();
    credential["response"]["attestationObject"] = BASE64_URL_SAFE_NO_PAD.encode(unattested).into();
    credential["response"]["clientDataJSON"] = BASE64_URL_SAFE_NO_PAD.encode(client_data.to_string()).into();
    proto::NewDevice {
        registration_id: begin.registration_id.clone(),
        name: "made over".into(),
        proof: Some(proto::new_device::Proof::WebauthnCredentialJson(credential.to_string())),
    }
}

#[tokio::test]
async fn a_credential_is_one_users_until_that_user_lets_go_of_it() {
    let world = World::new().await;
    let kind = proto::DeviceKind::Webauthn;
    let olgas = world.invite("olga", &["access"]).await;
    let begin = world.begin_invitation(&olgas, kind).await.unwrap();
    let device = Person::new("olga").new_key(&begin, world.origin());
    world.accept(&olgas, Some(device.clone())).await.unwrap();

    let mallorys = world.invite("mallory", &["access"]).await;
    let begin = world.begin_invitation(&mallorys, kind).await.unwrap();
    let copy = made_over(&device, &begin);
    let (code, text) = refused(world.accept(&mallorys, Some(copy.clone())).await);
    assert_eq!(code, Code::AlreadyExists);
    assert!(!text.contains("olga"), "{text}");

    let reset = proto::ResetUserRequest { name: "olga".into(), ttl_seconds: 0 };
    world.admin().await.reset_user(reset).await.unwrap();
    world.accept(&mallorys, Some(copy)).await.unwrap();
}
