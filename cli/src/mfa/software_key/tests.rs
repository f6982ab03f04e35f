use std::os::unix::fs::PermissionsExt;

use super::*;

fn party() -> RelyingParty {
    RelyingParty::claimed(&"localhost:3080".parse().unwrap(), "localhost", "https://localhost:3080").unwrap()
}

fn creation() -> CreationChallengeResponse {
    serde_json::from_value(serde_json::json!({"publicKey": {
        "rp": {"name": "main", "id": "localhost"},
        "user": {"id": "AQID", "name": "jerry", "displayName": "jerry"},
        "challenge": "AQIDBAUGBwgJCgsMDQ4PEA",
        "pubKeyCredParams": [{"type": "public-key", "alg": -7}],
        "authenticatorSelection": {"requireResidentKey": false, "userVerification": "discouraged"},
    }}))
    .unwrap()
}

fn request(credential: &RegisterPublicKeyCredential) -> RequestChallengeResponse {
    serde_json::from_value(serde_json::json!({"publicKey": {
        "challenge": "AQIDBAUGBwgJCgsMDQ4PEA",
        "rpId": "localhost",
        "allowCredentials": [{"type": "public-key", "id": credential.id}],
        "userVerification": "discouraged",
    }}))
    .unwrap()
}

#[test]
fn a_key_made_once_answers_later_from_its_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key");
    let credential = SoftwareKey { path: path.clone() }.register(&party(), creation()).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let later = SoftwareKey { path };
    let first = later.assert(&party(), request(&credential)).unwrap();
    let second = later.assert(&party(), request(&credential)).unwrap();
    let counter = |assertion: &PublicKeyCredential| assertion.response.authenticator_data[33..37].to_vec();
    assert!(counter(&second) > counter(&first), "the counter moves with each use");
}

#[test]
fn without_its_file_the_key_is_not_registered() {
    let directory = tempfile::tempdir().unwrap();
    let made = SoftwareKey { path: directory.path().join("made") };
    let credential = made.register(&party(), creation()).unwrap();
    let other = SoftwareKey { path: directory.path().join("other") };
    assert!(matches!(other.assert(&party(), request(&credential)), Err(KeyError::NotRegistered)));
}

#[test]
fn a_passkey_says_who_is_there_where_nobody_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let key = SoftwareKey { path: directory.path().join("key") };
    let mut creation = creation();
    creation.public_key.authenticator_selection.as_mut().unwrap().require_resident_key = true;
    let credential = key.register(&party(), creation).unwrap();
    let mut request = request(&credential);
    request.public_key.allow_credentials.clear();
    let signed = key.assert(&party(), request.clone()).unwrap();
    assert_eq!(signed.raw_id, credential.raw_id);
    assert_eq!(signed.response.user_handle, Some(vec![1, 2, 3]));
    let other = SoftwareKey { path: directory.path().join("other") };
    assert!(matches!(other.assert(&party(), request), Err(KeyError::NotRegistered)));
}
