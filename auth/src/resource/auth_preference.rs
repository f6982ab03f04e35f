//! The cluster's authentication preference (`tctl get cap`): which second factors, and whether each session needs one.

use std::time::Duration;

use super::{
    Kind,
    error::{Problem, ResourceError},
    fields::{Field, Fields},
    metadata::{self, Kept, Metadata, ResourceName},
    role::{LockingMode, device_trust, session_mfa},
    scalar,
    write::Object,
};

mod attestation;

pub use attestation::AttestationAuthorities;

/// The name of the one resource of this kind.
pub const AUTH_PREFERENCE_NAME: &str = "cluster-auth-preference";

/// Which second factors people use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SecondFactor {
    /// None at all.
    Off,
    /// Codes of an authenticator app.
    Otp,
    /// Security keys. Codes are not accepted.
    Webauthn,
    /// Either; at least one is required.
    #[default]
    On,
    /// Either, for those who have one.
    Optional,
}

impl SecondFactor {
    /// The word in files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Otp => "otp",
            Self::Webauthn => "webauthn",
            Self::On => "on",
            Self::Optional => "optional",
        }
    }

    /// Whether codes of an authenticator app count.
    #[must_use]
    pub fn allows_otp(self) -> bool {
        matches!(self, Self::Otp | Self::On | Self::Optional)
    }

    /// Whether security keys count.
    #[must_use]
    pub fn allows_webauthn(self) -> bool {
        matches!(self, Self::Webauthn | Self::On | Self::Optional)
    }

    /// As YAML 1.1 writes it, `on` and `off` may have become truth values on the way.
    fn from_field(field: &Field<'_>) -> Result<Self, ResourceError> {
        match field.text()? {
            "otp" => Ok(Self::Otp),
            "webauthn" => Ok(Self::Webauthn),
            "optional" => Ok(Self::Optional),
            word => match scalar::truth(word) {
                Some(true) => Ok(Self::On),
                Some(false) => Ok(Self::Off),
                None => Err(field.invalid("a second factor: on, off, otp, webauthn or optional")),
            },
        }
    }

    /// The newer list form, `second_factors: [webauthn, otp]`.
    fn from_list(field: &Field<'_>) -> Result<Self, ResourceError> {
        let (mut otp, mut webauthn) = (false, false);
        field.list(|item| match item.text()? {
            "otp" => {
                otp = true;
                Ok(())
            }
            "webauthn" => {
                webauthn = true;
                Ok(())
            }
            _ => Err(item.invalid("a second factor: webauthn or otp")),
        })?;
        match (otp, webauthn) {
            (true, true) => Ok(Self::On),
            (true, false) => Ok(Self::Otp),
            (false, true) => Ok(Self::Webauthn),
            (false, false) => Err(field.invalid("a list of second factors")),
        }
    }
}

/// The cluster's authentication preference.
#[derive(Clone, Debug, PartialEq)]
pub struct AuthPreference {
    /// Its name is always [`AUTH_PREFERENCE_NAME`].
    pub metadata: Metadata<ResourceName>,
    /// Which second factors people use. Left out it is [`SecondFactor::On`]: the cluster must know security keys for
    /// a file that says only `require_session_mfa: true` to make sense.
    pub second_factor: SecondFactor,
    /// A touch for every session, whatever the roles say.
    pub require_session_mfa: bool,
    /// End sessions when the certificate expires.
    pub disconnect_expired_cert: bool,
    /// What to do while locks are not known.
    pub locking_mode: LockingMode,
    /// The WebAuthn relying party's name: the domain of the web pages. `None`: the cluster's public host.
    pub webauthn_rp_id: Option<String>,
    /// Whose make security keys may be.
    pub attestation: AttestationAuthorities,
    /// Whether a passkey may log in by itself, without name and password.
    pub allow_passwordless: bool,
    /// Life of a login certificate where the user asks for none.
    pub default_session_ttl: Option<Duration>,
    /// Shown at login.
    pub message_of_the_day: String,
    /// What we do not have: connectors and headless logins.
    pub kept: Kept,
}

impl Default for AuthPreference {
    fn default() -> Self {
        Self {
            metadata: Metadata::named(ResourceName::constant(AUTH_PREFERENCE_NAME)),
            second_factor: SecondFactor::default(),
            require_session_mfa: false,
            disconnect_expired_cert: false,
            locking_mode: LockingMode::default(),
            webauthn_rp_id: None,
            attestation: AttestationAuthorities::default(),
            allow_passwordless: true,
            default_session_ttl: None,
            message_of_the_day: String::new(),
            kept: Kept::new(),
        }
    }
}

const KEPT: &[&str] = &[
    "allow_headless",
    "connector_name",
    "default",
    "idp",
    "okta",
    "piv_slot",
    "signature_algorithm_suite",
    "stable_unix_user_config",
];
const REFUSED: &[(&str, &str)] =
    &[("hardware_key", "hardware private keys cannot be attested; the restriction could not be enforced")];

impl AuthPreference {
    pub(super) fn from_fields(mut fields: Fields<'_>) -> Result<Self, ResourceError> {
        metadata::version(&mut fields, "v2")?;
        let metadata_field = fields.required("metadata")?;
        let metadata = Metadata::<ResourceName>::from_field(&metadata_field)?;
        if metadata.name.as_str() != AUTH_PREFERENCE_NAME {
            let value = metadata.name.as_str().to_owned();
            return Err(metadata_field.error(Problem::Value { value, expected: AUTH_PREFERENCE_NAME }));
        }
        let spec_field = fields.required("spec")?;
        let mut spec = spec_field.fields()?;
        let mut kept = spec.keep(KEPT);
        spec.refuse(&mut kept, REFUSED)?;
        local_only(&mut spec, &mut kept)?;
        if let Some(trust) = spec.optional("device_trust", |f| {
            let mut trust = f.fields()?;
            let mut kept = trust.keep(&["auto_enroll", "ekcert_allowed_cas", "required_apps"]);
            device_trust(&mut trust, "mode", &mut kept)?;
            trust.finish()?;
            Ok(kept)
        })? {
            kept.insert("device_trust".to_owned(), trust.into_iter().collect());
        }
        if let Some(u2f) = spec.optional("u2f", u2f)? {
            kept.insert("u2f".to_owned(), u2f.into_iter().collect());
        }
        let webauthn = spec.optional("webauthn", Webauthn::from_field)?.unwrap_or_default();
        if !webauthn.kept.is_empty() {
            kept.insert("webauthn".to_owned(), webauthn.kept.into_iter().collect());
        }
        let preference = Self {
            metadata,
            second_factor: second_factor(&mut spec)?,
            require_session_mfa: spec.optional("require_session_mfa", session_mfa)?.unwrap_or_default(),
            disconnect_expired_cert: spec
                .optional("disconnect_expired_cert", Field::truth)?
                .unwrap_or_default(),
            locking_mode: spec.optional("locking_mode", LockingMode::from_field)?.unwrap_or_default(),
            webauthn_rp_id: webauthn.rp_id,
            attestation: webauthn.attestation,
            allow_passwordless: spec.optional("allow_passwordless", Field::truth)?.unwrap_or(true),
            default_session_ttl: spec.optional("default_session_ttl", Field::duration)?.flatten(),
            message_of_the_day: spec
                .optional("message_of_the_day", |f| f.text().map(str::to_owned))?
                .unwrap_or_default(),
            kept,
        };
        spec.finish()?;
        fields.finish()?;
        Ok(preference)
    }

    pub(super) fn to_value(&self) -> serde_json::Value {
        let webauthn = match self.kept.get("webauthn") {
            Some(serde_json::Value::Object(kept)) => kept.clone().into_iter().collect(),
            _ => Kept::new(),
        };
        let webauthn = Object::new().put_kept(&webauthn).put_some("rp_id", self.webauthn_rp_id.as_deref());
        let webauthn = self.attestation.put(webauthn).into_value();
        let says_something = webauthn.as_object().is_some_and(|fields| !fields.is_empty());
        let mut spec = Object::new()
            .put_kept(&self.kept)
            .put("type", "local")
            .put("second_factor", self.second_factor.as_str())
            .put("require_session_mfa", self.require_session_mfa)
            .put("disconnect_expired_cert", self.disconnect_expired_cert)
            .put("allow_passwordless", self.allow_passwordless)
            .put("locking_mode", self.locking_mode.as_str())
            .put_some(
                "default_session_ttl",
                self.default_session_ttl.map(|d| scalar::write_duration(Some(d))),
            )
            .put_unless_empty("message_of_the_day", &self.message_of_the_day);
        if says_something {
            spec = spec.put("webauthn", webauthn);
        }
        Object::new()
            .put("kind", Kind::AuthPreference.as_str())
            .put("version", "v2")
            .put("metadata", self.metadata.to_value())
            .put("spec", spec.into_value())
            .into_value()
    }
}

fn second_factor(spec: &mut Fields<'_>) -> Result<SecondFactor, ResourceError> {
    let single = spec.optional("second_factor", SecondFactor::from_field)?;
    let list = spec.optional("second_factors", |field| {
        let several = SecondFactor::from_list(field)?;
        if single.is_some_and(|single| single != several) {
            return Err(field.error(Problem::Unsupported("second_factor says something else")));
        }
        Ok(several)
    })?;
    Ok(single.or(list).unwrap_or_default())
}

/// People log in with a password here. A preference that forbids that leaves no way in, and one that names a connector
/// must not quietly leave passwords working.
fn local_only(spec: &mut Fields<'_>, kept: &mut Kept) -> Result<(), ResourceError> {
    spec.optional("type", |field| match field.text()? {
        "" | "local" => Ok(()),
        _ => Err(field.error(Problem::Unsupported("there are no connectors; the type is local"))),
    })?;
    let allowed = spec.optional("allow_local_auth", |field| {
        if field.truth()? {
            Ok(true)
        } else {
            Err(field.error(Problem::Unsupported("there are no connectors, so nobody could log in")))
        }
    })?;
    if let Some(allowed) = allowed {
        kept.insert("allow_local_auth".to_owned(), allowed.into());
    }
    Ok(())
}

/// The forerunner of `webauthn`.
fn u2f(field: &Field<'_>) -> Result<Kept, ResourceError> {
    let mut fields = field.fields()?;
    let mut kept = fields.keep(&["app_id", "facets"]);
    let refused = [("device_attestation_cas", "write webauthn.attestation_allowed_cas")];
    fields.refuse(&mut kept, &refused)?;
    fields.finish()?;
    Ok(kept)
}

/// The field `webauthn`.
#[derive(Default)]
struct Webauthn {
    rp_id: Option<String>,
    attestation: AttestationAuthorities,
    kept: Kept,
}

impl Webauthn {
    fn from_field(field: &Field<'_>) -> Result<Self, ResourceError> {
        let mut fields = field.fields()?;
        let mut kept = Kept::new();
        fields.refuse(&mut kept, &[("disabled", "write second_factor: otp")])?;
        let rp_id = fields.optional("rp_id", |f| f.text().map(str::to_owned))?.filter(|id| !id.is_empty());
        let attestation = AttestationAuthorities::from_fields(&mut fields)?;
        fields.finish()?;
        Ok(Self { rp_id, attestation, kept })
    }
}
