//! How the options of several roles combine into those of a session.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

use super::role_set::PolicyError;
use crate::{
    identity::RoleName,
    resource::{AuthPreference, LockingMode, RecordingMode, Role, RoleOptions},
};

/// The longest that any certificate may live where no role says less.
const MAX_SESSION_TTL: Duration = Duration::from_secs(30 * 3600);

/// The options of a session: those of all roles together, and of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionOptions {
    /// Longest life of a certificate. The shortest of the roles, at most 30 h.
    pub max_session_ttl: Duration,
    /// SSH agent forwarding. One role that gives it suffices.
    pub forward_agent: bool,
    /// SSH port forwarding. One role that gives it suffices; a role that does not say gives it.
    pub port_forwarding: bool,
    /// SFTP and SCP. One role that forbids it suffices.
    pub ssh_file_copy: bool,
    /// X11 forwarding. One role that gives it suffices.
    pub permit_x11_forwarding: bool,
    /// How long a session may be silent. The shortest of the roles.
    pub client_idle_timeout: Option<Duration>,
    /// End the session when the certificate expires. One role, or the cluster, suffices.
    pub disconnect_expired_cert: bool,
    /// Session channels on one SSH connection. The smallest of the roles.
    pub max_sessions: Option<u32>,
    /// Sessions at a time. The smallest of the roles.
    pub max_connections: Option<u32>,
    /// How long a session certificate that stays in memory may live. The shortest of the roles.
    pub mfa_verification_interval: Option<Duration>,
    /// What to do while locks are not known. One strict role suffices; a role's word goes before the cluster's.
    pub lock: LockingMode,
    /// A certificate is good only at the address that logged in. One role suffices.
    pub pin_source_ip: bool,
    /// What to do when a session that is not of SSH cannot be recorded. The strictest of the roles.
    pub record_session: RecordingMode,
    /// What to do when an SSH session cannot be recorded. The strictest of the roles.
    pub record_ssh_session: RecordingMode,
    /// Settings of the database that hold for the session, by name in lower case. Those of all roles; roles that differ about
    /// one are [`PolicyError::SettingConflict`].
    pub db_session_settings: BTreeMap<String, String>,
    /// Replication connections to PostgreSQL, and reading the binary log of MySQL. One role that gives it suffices.
    pub db_replication: bool,
    /// `LOAD DATA LOCAL` of MySQL. One role that gives it suffices.
    pub db_local_infile: bool,
}

impl SessionOptions {
    /// Combines the options of all roles that an identity has, whether they match the target or not.
    ///
    /// # Errors
    /// [`PolicyError::SettingConflict`] when two of them cannot both be heeded.
    pub(super) fn merge<'r>(
        roles: impl Iterator<Item = &'r Role> + Clone,
        preference: &AuthPreference,
    ) -> Result<Self, PolicyError> {
        let db_session_settings = db_session_settings(roles.clone())?;
        let options = roles.map(|role| &role.spec.options);
        let any = |of: fn(&RoleOptions) -> Option<bool>, default: bool| {
            options.clone().any(|options| of(options).unwrap_or(default))
        };
        let shortest = |of: fn(&RoleOptions) -> Option<Duration>| options.clone().filter_map(of).min();
        let smallest =
            |of: fn(&RoleOptions) -> Option<u32>| options.clone().filter_map(of).filter(|&n| n > 0).min();
        let recording = |of: fn(&RoleOptions) -> Option<RecordingMode>| {
            options.clone().filter_map(of).max().unwrap_or_default()
        };
        Ok(Self {
            max_session_ttl: shortest(|o| o.max_session_ttl).unwrap_or(MAX_SESSION_TTL).min(MAX_SESSION_TTL),
            forward_agent: any(|o| o.forward_agent, false),
            port_forwarding: any(|o| o.port_forwarding, true),
            ssh_file_copy: options.clone().all(|o| o.ssh_file_copy.unwrap_or(true)),
            permit_x11_forwarding: any(|o| o.permit_x11_forwarding, false),
            client_idle_timeout: shortest(|o| o.client_idle_timeout.flatten()),
            disconnect_expired_cert: preference.disconnect_expired_cert
                || any(|o| o.disconnect_expired_cert, false),
            max_sessions: smallest(|o| o.max_sessions),
            max_connections: smallest(|o| o.max_connections),
            mfa_verification_interval: shortest(|o| o.mfa_verification_interval.flatten()),
            lock: lock(options.clone(), preference.locking_mode),
            pin_source_ip: any(|o| o.pin_source_ip, false),
            record_session: recording(|o| o.record_session.as_ref()?.default),
            record_ssh_session: recording(|o| o.record_session.as_ref().and_then(|r| r.ssh.or(r.default))),
            db_session_settings,
            db_replication: any(|o| o.db_replication, false),
            db_local_infile: any(|o| o.db_local_infile, false),
        })
    }
}

/// The settings of all roles. Which of two values is the safer one only the database could tell, so there is no silent
/// choice: roles that differ are an error. Values are compared as texts: `30s` and `30000ms` differ.
fn db_session_settings<'r>(
    roles: impl Iterator<Item = &'r Role>,
) -> Result<BTreeMap<String, String>, PolicyError> {
    let mut said: BTreeMap<&str, (&str, &RoleName)> = BTreeMap::new();
    for role in roles {
        for (setting, value) in &role.spec.options.db_session_settings {
            let (first_value, first) = *said.entry(setting).or_insert((value, role.name()));
            if first_value != value {
                let (first, second) = (first.clone(), role.name().clone());
                return Err(PolicyError::SettingConflict { setting: setting.clone(), first, second });
            }
        }
    }
    Ok(said.into_iter().map(|(setting, (value, _))| (setting.to_owned(), value.to_owned())).collect())
}

fn lock<'r>(options: impl Iterator<Item = &'r RoleOptions>, cluster: LockingMode) -> LockingMode {
    let modes: Vec<LockingMode> = options.filter_map(|options| options.lock).collect();
    if modes.contains(&LockingMode::Strict) {
        LockingMode::Strict
    } else {
        modes.first().copied().unwrap_or(cluster)
    }
}
