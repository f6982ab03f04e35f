//! What an audit trail says of devices and sessions. Nothing of it is believed yet.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::SystemTime,
};

use auth::{
    clock::parse_rfc3339,
    identity::{ClusterName, DeviceId, Login, Protocol, TargetName, UserName},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;
use uuid::Uuid;

/// Events that begin a session.
pub(super) const STARTS: [&str; 2] = ["db.session.start", "session.start"];

/// Events that say which devices there are, and until when.
pub(super) const DEVICES: [&str; 4] = ["mfa.add", "mfa.delete", "user.delete", "reset_password_token.create"];

/// Why a trail cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum TrailError {
    /// A line is no event.
    #[error("line {line} is no event: the trail is damaged")]
    Line {
        /// Which, from 1.
        line: usize,
        #[source]
        source: serde_json::Error,
    },
    /// An event about devices does not say what it must.
    #[error("line {line}: {field} of {event} cannot be read")]
    Field {
        /// Which, from 1.
        line: usize,
        event: &'static str,
        field: &'static str,
    },
}

/// A device as it was registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) user: String,
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) added: SystemTime,
    /// When it was removed, or its user was removed or reset.
    pub(super) gone: Option<SystemTime>,
}

/// What a device can prove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A security key: its COSE_Key, and whom it answers.
    Key { cose: Vec<u8>, rp_id: String },
    /// Shows codes, which leave no proof.
    Otp,
}

/// A session that was begun. A field that is there and cannot be read is told from one that is not there.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) event: Value,
    pub(super) kind: &'static str,
}

/// What a session says of itself.
#[derive(Clone, Debug)]
pub(super) struct Claims {
    pub(super) time: SystemTime,
    pub(super) cluster: ClusterName,
    pub(super) user: UserName,
    pub(super) target: TargetName,
    pub(super) protocol: Protocol,
    pub(super) login: Login,
    pub(super) device: Option<DeviceId>,
    pub(super) receipt: Option<Vec<u8>>,
}

/// Devices and sessions of a trail.
#[derive(Debug, Default)]
pub(super) struct Trail {
    pub(super) devices: BTreeMap<Uuid, Device>,
    /// Devices that the trail registers twice, with different keys: one of the two is a lie.
    pub(super) contradicted: BTreeSet<Uuid>,
    /// Origins that devices of a relying party were registered at.
    pub(super) origins: BTreeMap<String, BTreeSet<String>>,
    /// Sessions that were let in, in the order of the trail.
    pub(super) sessions: Vec<Session>,
}

impl Trail {
    /// Reads events, one a line, oldest first.
    pub(super) fn read<'a>(lines: impl IntoIterator<Item = &'a str>) -> Result<Self, TrailError> {
        let mut trail = Self::default();
        for (index, text) in lines.into_iter().enumerate() {
            if !text.trim().is_empty() {
                trail.take(index + 1, text)?;
            }
        }
        Ok(trail)
    }

    fn take(&mut self, line: usize, text: &str) -> Result<(), TrailError> {
        let event: Value = serde_json::from_str(text).map_err(|source| TrailError::Line { line, source })?;
        match text_of(&event, "event").unwrap_or_default() {
            "mfa.add" => {
                self.add(&event).map_err(|field| TrailError::Field { line, event: "mfa.add", field })
            }
            "mfa.delete" => {
                self.delete(&event).map_err(|field| TrailError::Field { line, event: "mfa.delete", field })
            }
            "user.delete" | "reset_password_token.create" => self
                .end_user(&event)
                .map_err(|field| TrailError::Field { line, event: "the end of a user's devices", field }),
            name => {
                let start = STARTS.into_iter().find(|start| *start == name);
                // One that was denied is no session. One that does not say is taken for one.
                let denied = event.get("success") == Some(&Value::Bool(false));
                self.sessions.extend(start.filter(|_| !denied).map(|kind| Session { event, kind }));
                Ok(())
            }
        }
    }

    fn add(&mut self, event: &Value) -> Result<(), &'static str> {
        let id = uuid_of(event, "mfa_device_uuid")?;
        let kind = match required(event, "mfa_device_type")? {
            "TOTP" => Kind::Otp,
            _ => {
                let cose = STANDARD.decode(required(event, "mfa_device_public_key")?);
                let rp_id = required(event, "webauthn_rp_id")?.to_owned();
                let origin = required(event, "webauthn_origin")?.to_owned();
                self.origins.entry(rp_id.clone()).or_default().insert(origin);
                Kind::Key { cose: cose.map_err(|_| "mfa_device_public_key")?, rp_id }
            }
        };
        let (user, name) =
            (required(event, "user")?.to_owned(), required(event, "mfa_device_name")?.to_owned());
        let device = Device { user, name, kind, added: time_of(event)?, gone: None };
        match self.devices.get(&id) {
            // The same event from two files that overlap.
            Some(known) if Device { gone: None, ..known.clone() } == device => {}
            Some(_) => drop(self.contradicted.insert(id)),
            None => drop(self.devices.insert(id, device)),
        }
        Ok(())
    }

    fn delete(&mut self, event: &Value) -> Result<(), &'static str> {
        let (id, time) = (uuid_of(event, "mfa_device_uuid")?, time_of(event)?);
        if let Some(device) = self.devices.get_mut(&id) {
            device.end(time);
        }
        Ok(())
    }

    fn end_user(&mut self, event: &Value) -> Result<(), &'static str> {
        let (name, time) = (required(event, "name")?, time_of(event)?);
        for device in self.devices.values_mut().filter(|device| device.user == name && device.added <= time) {
            device.end(time);
        }
        Ok(())
    }
}

impl Device {
    fn end(&mut self, at: SystemTime) {
        self.gone = Some(self.gone.map_or(at, |gone| gone.min(at)));
    }
}

impl Session {
    /// What it says; the field that cannot be read.
    pub(super) fn claims(&self) -> Result<Claims, &'static str> {
        let event = &self.event;
        let protocol = match self.kind {
            "session.start" => Protocol::Ssh,
            _ => Protocol::parse(required(event, "db_protocol")?).ok_or("db_protocol")?,
        };
        let (target, login) = match protocol {
            Protocol::Ssh => ("server_hostname", Login::Node { login: required(event, "login")?.to_owned() }),
            Protocol::Postgres | Protocol::Mysql => {
                let user = required(event, "db_user")?.to_owned();
                let name = optional(event, "db_name")?.unwrap_or_default().to_owned();
                ("db_service", Login::Database { user, name })
            }
        };
        let device = optional(event, "with_mfa")?.map(Uuid::try_parse).transpose();
        let receipt = optional(event, "receipt")?.map(|receipt| STANDARD.decode(receipt)).transpose();
        Ok(Claims {
            time: time_of(event)?,
            cluster: ClusterName::new(required(event, "cluster_name")?).map_err(|_| "cluster_name")?,
            user: UserName::new(required(event, "user")?).map_err(|_| "user")?,
            target: TargetName::new(required(event, target)?).map_err(|_| target)?,
            protocol,
            login,
            device: device.map_err(|_| "with_mfa")?.map(DeviceId),
            receipt: receipt.map_err(|_| "receipt")?,
        })
    }

    /// A field as it stands, for people; empty where it is none.
    pub(super) fn shown(&self, field: &str) -> &str {
        text_of(&self.event, field).unwrap_or_default()
    }
}

fn text_of<'a>(event: &'a Value, field: &str) -> Option<&'a str> {
    event.get(field).and_then(Value::as_str)
}

fn required<'a>(event: &'a Value, field: &'static str) -> Result<&'a str, &'static str> {
    text_of(event, field).ok_or(field)
}

/// `None` where it is absent; anything else than text is an error.
fn optional<'a>(event: &'a Value, field: &'static str) -> Result<Option<&'a str>, &'static str> {
    event.get(field).map(|value| value.as_str().ok_or(field)).transpose()
}

fn uuid_of(event: &Value, field: &'static str) -> Result<Uuid, &'static str> {
    Uuid::try_parse(required(event, field)?).map_err(|_| field)
}

fn time_of(event: &Value) -> Result<SystemTime, &'static str> {
    parse_rfc3339(required(event, "time")?).ok_or("time")
}
