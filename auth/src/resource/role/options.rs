//! `spec.options`: what the administrator wrote. How several roles combine is `policy::options`' business.

use std::{collections::BTreeMap, time::Duration};

use super::db_settings;
use crate::resource::{
    error::{Problem, ResourceError},
    fields::{Field, Fields},
    metadata::Kept,
    scalar,
    write::Object,
};

/// What to do while it is not known which locks are in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum LockingMode {
    /// Go on with the locks last heard of.
    #[default]
    BestEffort,
    /// Let nobody in.
    Strict,
}

impl LockingMode {
    /// The word in files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BestEffort => "best_effort",
            Self::Strict => "strict",
        }
    }

    pub(in crate::resource) fn from_field(field: &Field<'_>) -> Result<Self, ResourceError> {
        match field.text()? {
            "best_effort" => Ok(Self::BestEffort),
            "strict" => Ok(Self::Strict),
            _ => Err(field.invalid("best_effort or strict")),
        }
    }
}

/// What to do when a session cannot be recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordingMode {
    /// Go on without.
    #[default]
    BestEffort,
    /// End the session.
    Strict,
}

impl RecordingMode {
    /// The word in files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BestEffort => "best_effort",
            Self::Strict => "strict",
        }
    }

    /// What databases are asked is in the audit trail, and a session that cannot be audited ends in either mode; so to say
    /// `strict` promises nothing that does not happen there.
    fn from_field(field: &Field<'_>) -> Result<Self, ResourceError> {
        match field.text()? {
            "best_effort" => Ok(Self::BestEffort),
            "strict" => Ok(Self::Strict),
            _ => Err(field.invalid("best_effort or strict")),
        }
    }
}

/// `record_session`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SessionRecording {
    /// For every protocol that is not named.
    pub default: Option<RecordingMode>,
    /// For SSH.
    pub ssh: Option<RecordingMode>,
    /// `desktop`.
    pub kept: Kept,
}

/// `spec.options`. `None` means that the role does not say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RoleOptions {
    /// Longest life of a certificate.
    pub max_session_ttl: Option<Duration>,
    /// SSH agent forwarding.
    pub forward_agent: Option<bool>,
    /// SSH port forwarding.
    pub port_forwarding: Option<bool>,
    /// SFTP and SCP.
    pub ssh_file_copy: Option<bool>,
    /// X11 forwarding.
    pub permit_x11_forwarding: Option<bool>,
    /// How long a session may be silent. `Some(None)` is `never`.
    pub client_idle_timeout: Option<Option<Duration>>,
    /// End sessions when the certificate expires.
    pub disconnect_expired_cert: Option<bool>,
    /// Session channels on one SSH connection. Zero: no limit.
    pub max_sessions: Option<u32>,
    /// Sessions at a time. Zero: no limit.
    pub max_connections: Option<u32>,
    /// A touch for each session.
    pub require_session_mfa: Option<bool>,
    /// How long a session certificate that stays in memory may live. `Some(None)` sets no limit.
    pub mfa_verification_interval: Option<Option<Duration>>,
    /// What to do while locks are not known.
    pub lock: Option<LockingMode>,
    /// A certificate is good only at the address that logged in.
    pub pin_source_ip: Option<bool>,
    /// What to do when recording fails.
    pub record_session: Option<SessionRecording>,
    /// Ours: settings of the database that hold for each session, by name in lower case. At most 64; a name is one or two
    /// words of at most 63 bytes, a value at most 1,024 bytes without control characters. None changes who the session is.
    pub db_session_settings: BTreeMap<String, String>,
    /// Ours: replication connections to PostgreSQL (`replication` at start-up), and reading the binary log of MySQL.
    pub db_replication: Option<bool>,
    /// Ours: `LOAD DATA LOCAL` of MySQL, with which a client sends a file of its own machine.
    pub db_local_infile: Option<bool>,
    /// Options of what we do not have: Kubernetes, desktops, host users.
    pub kept: Kept,
}

/// Options about things that we do not do at all, or do more strictly: leaving them unheeded gives nobody more.
const KEPT: &[&str] = &[
    "cert_format",
    "create_db_user",
    "create_db_user_mode",
    "create_desktop_user",
    "create_host_user",
    "create_host_user_default_shell",
    "create_host_user_mode",
    "desktop_clipboard",
    "desktop_directory_sharing",
    "enhanced_recording",
    "idp",
    "max_kubernetes_connections",
    "request_access",
    "request_prompt",
    "ssh_session_recording",
];

/// Options that restrict, and that we cannot enforce.
const REFUSED: &[(&str, &str)] = &[("ssh_port_forwarding", "use port_forwarding")];

impl RoleOptions {
    pub(in crate::resource) fn from_field(field: &Field<'_>) -> Result<Self, ResourceError> {
        let mut fields = field.fields()?;
        let mut kept = fields.keep(KEPT);
        fields.refuse(&mut kept, REFUSED)?;
        device_trust(&mut fields, "device_trust_mode", &mut kept)?;
        certificate_extensions(&mut fields, &mut kept)?;
        let options = Self {
            max_session_ttl: fields.optional("max_session_ttl", |f| {
                f.duration()?.ok_or_else(|| f.invalid("a duration longer than zero"))
            })?,
            forward_agent: fields.optional("forward_agent", |f| f.truth())?,
            port_forwarding: fields.optional("port_forwarding", |f| f.truth())?,
            ssh_file_copy: fields.optional("ssh_file_copy", |f| f.truth())?,
            permit_x11_forwarding: fields.optional("permit_x11_forwarding", |f| f.truth())?,
            client_idle_timeout: fields.optional("client_idle_timeout", |f| f.duration())?,
            disconnect_expired_cert: fields.optional("disconnect_expired_cert", |f| f.truth())?,
            max_sessions: fields.optional("max_sessions", |f| f.count())?,
            max_connections: fields.optional("max_connections", |f| f.count())?,
            require_session_mfa: fields.optional("require_session_mfa", |f| session_mfa(f))?,
            mfa_verification_interval: fields.optional("mfa_verification_interval", |f| f.duration())?,
            lock: fields.optional("lock", |f| LockingMode::from_field(f))?,
            pin_source_ip: fields.optional("pin_source_ip", |f| f.truth())?,
            record_session: fields.optional("record_session", |f| SessionRecording::from_field(f))?,
            db_session_settings: fields
                .optional("db_session_settings", |f| db_settings::read(f))?
                .unwrap_or_default(),
            db_replication: fields.optional("db_replication", |f| f.truth())?,
            db_local_infile: fields.optional("db_local_infile", |f| f.truth())?,
            kept,
        };
        fields.finish()?;
        Ok(options)
    }

    pub(in crate::resource) fn to_value(&self) -> serde_json::Value {
        Object::new()
            .put_some("max_session_ttl", self.max_session_ttl.map(|d| scalar::write_duration(Some(d))))
            .put_some("forward_agent", self.forward_agent)
            .put_some("port_forwarding", self.port_forwarding)
            .put_some("ssh_file_copy", self.ssh_file_copy)
            .put_some("permit_x11_forwarding", self.permit_x11_forwarding)
            .put_some("client_idle_timeout", self.client_idle_timeout.map(scalar::write_duration))
            .put_some("disconnect_expired_cert", self.disconnect_expired_cert)
            .put_some("max_sessions", self.max_sessions)
            .put_some("max_connections", self.max_connections)
            .put_some("require_session_mfa", self.require_session_mfa)
            .put_some("mfa_verification_interval", self.mfa_verification_interval.map(scalar::write_duration))
            .put_some("lock", self.lock.map(LockingMode::as_str))
            .put_some("pin_source_ip", self.pin_source_ip)
            .put_some("record_session", self.record_session.as_ref().map(SessionRecording::to_value))
            .put_map(
                "db_session_settings",
                self.db_session_settings.iter().map(|(name, value)| (name.clone(), value.as_str().into())),
            )
            .put_some("db_replication", self.db_replication)
            .put_some("db_local_infile", self.db_local_infile)
            .put_kept(&self.kept)
            .into_value()
    }
}

/// Reads `require_session_mfa`. A value that asks for a private key policy which we cannot attest is refused: to take
/// it for `true` would promise a hardware-held key, to take it for `false` would ask for no touch at all.
pub(in crate::resource) fn session_mfa(field: &Field<'_>) -> Result<bool, ResourceError> {
    match field.text()? {
        "hardware_key" | "hardware_key_touch" | "hardware_key_pin" | "hardware_key_touch_and_pin" => {
            Err(field.error(Problem::Unsupported(
                "hardware private keys cannot be attested; write true to ask for a touch of a security key per session",
            )))
        }
        _ => field.truth(),
    }
}

/// Keeps extensions of SSH certificates, which only ever give; anything else in their place could be a restriction.
fn certificate_extensions(fields: &mut Fields<'_>, kept: &mut Kept) -> Result<(), ResourceError> {
    const NAME: &str = "cert_extensions";
    fields.optional(NAME, |field| {
        field.list(|item| {
            let mut extension = item.fields()?;
            extension.optional("mode", |mode| match mode.text()? {
                "extension" => Ok(()),
                _ => Err(mode.invalid("extension, the only mode")),
            })?;
            let _ = extension.keep_silently(&["type", "name", "value"]);
            extension.finish()
        })?;
        kept.insert(NAME.to_owned(), field.tree.to_json());
        if !field.says_nothing() {
            field.notice();
        }
        Ok(())
    })?;
    Ok(())
}

/// Keeps a device trust mode that asks for nothing, and refuses `required`.
pub(in crate::resource) fn device_trust(
    fields: &mut Fields<'_>,
    name: &'static str,
    kept: &mut Kept,
) -> Result<(), ResourceError> {
    let mode = fields.optional(name, |field| match field.text()? {
        word @ ("" | "off" | "optional" | "false") => Ok(word.to_owned()),
        _ => {
            Err(field.error(Problem::Unsupported("there are no trusted devices, so nobody could be let in")))
        }
    })?;
    if let Some(mode) = mode {
        kept.insert(name.to_owned(), mode.into());
    }
    Ok(())
}

impl SessionRecording {
    fn from_field(field: &Field<'_>) -> Result<Self, ResourceError> {
        let mut fields = field.fields()?;
        let recording = Self {
            default: fields.optional("default", |f| RecordingMode::from_field(f))?,
            ssh: fields.optional("ssh", |f| RecordingMode::from_field(f))?,
            kept: fields.keep(&["desktop"]),
        };
        fields.finish()?;
        Ok(recording)
    }

    fn to_value(&self) -> serde_json::Value {
        Object::new()
            .put_some("default", self.default.map(RecordingMode::as_str))
            .put_some("ssh", self.ssh.map(RecordingMode::as_str))
            .put_kept(&self.kept)
            .into_value()
    }
}
