//! The JSON of the calls: what a script may send, bounded, and how what the rest of authd says looks to it.

use std::sync::Arc;

use auth::proto;
use axum::{
    Json,
    body::to_bytes,
    extract::{FromRequest, Request},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tonic::{Code, Status};

use super::qr;
use crate::{cluster::Cluster, error::Refused};

/// The longest that a page has reason to send is the registration of a security key.
const MAX_BODY: usize = 64 * 1024;

/// What every call answers.
pub(super) type Answer = Result<Json<Value>, Failure>;

/// The body of a call.
pub(super) struct Given<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<Cluster>> for Given<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &Arc<Cluster>) -> Result<Self, Failure> {
        let long = |_| Refused::field("request", "is too long, or was cut off");
        let body = to_bytes(request.into_body(), MAX_BODY).await.map_err(long)?;
        // Not the parser's own words: they quote what was sent.
        let wrong = |_| Refused::field("request", "is not what this call takes");
        Ok(Self(serde_json::from_slice(&body).map_err(wrong)?))
    }
}

/// Nothing.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// A refusal on its way to a script.
pub(super) struct Failure(Refused);

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Self(refused)
    }
}

impl Failure {
    /// The HTTP status alone.
    pub(super) fn status(self) -> StatusCode {
        self.into_response().status()
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let signed_out = matches!(self.0, Refused::SignedOut);
        let status = Status::from(self.0);
        let (http, word) = match status.code() {
            Code::Unauthenticated if signed_out => (StatusCode::UNAUTHORIZED, "not_signed_in"),
            Code::Unauthenticated => (StatusCode::FORBIDDEN, "unauthenticated"),
            Code::PermissionDenied => (StatusCode::FORBIDDEN, "permission_denied"),
            Code::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            Code::AlreadyExists => (StatusCode::CONFLICT, "already_exists"),
            Code::InvalidArgument => (StatusCode::BAD_REQUEST, "invalid_argument"),
            Code::FailedPrecondition => (StatusCode::CONFLICT, "failed_precondition"),
            Code::ResourceExhausted => (StatusCode::TOO_MANY_REQUESTS, "resource_exhausted"),
            Code::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        };
        (http, Json(json!({"error": {"code": word, "message": status.message()}}))).into_response()
    }
}

/// What somebody answers to a challenge.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Proof {
    pub(super) challenge_id: String,
    code: Option<String>,
    assertion: Option<Value>,
}

impl Proof {
    /// As the API carries it.
    pub(super) fn response(&self) -> Option<proto::MfaResponse> {
        use proto::mfa_response::Response;
        let response = match (&self.assertion, &self.code) {
            (Some(assertion), _) => Response::WebauthnAssertionJson(assertion.to_string()),
            (None, Some(code)) => Response::TotpCode(code.clone()),
            (None, None) => return None,
        };
        Some(proto::MfaResponse { response: Some(response) })
    }
}

/// What a new device proves itself by.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Device {
    registration_id: String,
    name: String,
    code: Option<String>,
    credential: Option<Value>,
}

impl From<Device> for proto::NewDevice {
    fn from(device: Device) -> Self {
        use proto::new_device::Proof;
        let proof = match (device.credential, device.code) {
            (Some(credential), _) => Some(Proof::WebauthnCredentialJson(credential.to_string())),
            (None, Some(code)) => Some(Proof::TotpCode(code)),
            (None, None) => None,
        };
        Self { registration_id: device.registration_id, name: device.name, proof }
    }
}

/// The kinds of device, as scripts name them.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Webauthn,
    Totp,
}

impl From<Kind> for i32 {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Webauthn => proto::DeviceKind::Webauthn.into(),
            Kind::Totp => proto::DeviceKind::Totp.into(),
        }
    }
}

pub(super) fn challenge(challenge: &proto::MfaChallenge) -> Answer {
    Ok(Json(json!({
        "challenge_id": challenge.challenge_id,
        "webauthn": options(&challenge.webauthn_request_options_json)?,
        "totp": challenge.totp,
        "none_required": challenge.none_required,
    })))
}

pub(super) fn registration(registration: &proto::DeviceRegistration) -> Answer {
    use proto::device_registration::Kind;
    let (webauthn, totp) = match &registration.kind {
        Some(Kind::WebauthnCreationOptionsJson(json)) => (options(json)?, Value::Null),
        Some(Kind::Totp(totp)) => {
            let qr::Drawing { size, path } = qr::draw(&totp.otpauth_url)?;
            let qr = json!({"size": size, "path": path});
            let totp = json!({
                "secret": totp.secret, "account": totp.account, "issuer": totp.issuer, "qr": qr,
            });
            (Value::Null, totp)
        }
        None => return Err(Refused::Internal("registration without a kind").into()),
    };
    let id = &registration.registration_id;
    Ok(Json(json!({"registration_id": id, "webauthn": webauthn, "totp": totp})))
}

/// What a key is asked, as JSON in JSON. Empty: keys are not asked.
pub(super) fn options(json: &str) -> Result<Value, Failure> {
    match json {
        "" => Ok(Value::Null),
        json => serde_json::from_str(json).map_err(|_| Refused::Internal("WebAuthn options").into()),
    }
}

/// What the cluster lets people register now.
pub(super) struct Accepted {
    pub(super) webauthn: bool,
    pub(super) totp: bool,
    pub(super) passwordless: bool,
}

pub(super) async fn accepted(cluster: &Cluster) -> Result<Accepted, Failure> {
    let preference = cluster.preference().await?;
    Ok(Accepted {
        webauthn: preference.second_factor.allows_webauthn() && cluster.webauthn(&preference).is_ok(),
        totp: preference.second_factor.allows_otp(),
        passwordless: cluster.is_passwordless(&preference),
    })
}

pub(super) fn devices(devices: &[proto::MfaDevice]) -> Value {
    let device = |device: &proto::MfaDevice| {
        let kind = match proto::DeviceKind::try_from(device.kind) {
            Ok(proto::DeviceKind::Webauthn) => "webauthn",
            _ => "totp",
        };
        json!({
            "id": device.id, "name": device.name, "kind": kind, "passwordless": device.passwordless,
            "added_at": device.added_at, "last_used": device.last_used,
        })
    };
    devices.iter().map(device).collect()
}
