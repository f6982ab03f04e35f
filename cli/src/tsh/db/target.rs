//! Which database is meant, and as whom: settled before anything is asked for, since the certificate says it exactly.

use std::time::SystemTime;

use anyhow::{Context as _, bail};
use auth::proto::{ListTargetsRequest, Route, Target, users_client::UsersClient};
use tonic::transport::Channel;

use super::saved::Saved;
use crate::{
    connect::Connection,
    database::DatabaseProtocol,
    home::Home,
    output::printable,
    profile::Profile,
    tsh::{
        arguments::{Database, DatabaseLogin},
        context::Context,
        listed::ANY,
    },
};

/// The databases that the user's roles cover, by name.
pub(in crate::tsh) async fn list(channel: &Channel) -> anyhow::Result<Vec<Target>> {
    let request = ListTargetsRequest { kind: "database".to_owned() };
    let mut targets = UsersClient::new(channel.clone()).list_targets(request).await?.into_inner().targets;
    targets.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(targets)
}

/// One database by its name.
pub(in crate::tsh) async fn find(channel: &Channel, name: &str) -> anyhow::Result<Target> {
    let targets = list(channel).await?;
    let target = targets.into_iter().find(|target| target.name == name);
    let target =
        target.with_context(|| format!("database \"{}\" not found, run: tsh db ls", printable(name)))?;
    protocol(&target)?;
    Ok(target)
}

/// What a database speaks.
pub(in crate::tsh) fn protocol(target: &Target) -> anyhow::Result<DatabaseProtocol> {
    let Some(protocol) = DatabaseProtocol::parse(&target.protocol) else {
        let (name, spoken) = (printable(&target.name), printable(&target.protocol));
        bail!("{name} speaks {spoken}, which this version of tsh cannot connect to");
    };
    Ok(protocol)
}

/// What a command about a database means.
pub(in crate::tsh) struct Meant {
    pub(in crate::tsh) target: Target,
    pub(in crate::tsh) protocol: DatabaseProtocol,
    /// What the session is for.
    pub(in crate::tsh) route: Route,
    /// What `tsh db login` keeps of it, where that is in date.
    pub(in crate::tsh) saved: Option<Saved>,
}

impl Meant {
    /// As whom: flags first, then what `tsh db login` was told (an identity file knows nothing of it), then the only thing that roles allow.
    pub(in crate::tsh) async fn by(
        context: &Context,
        connection: &Connection,
        name: &str,
        login: &DatabaseLogin,
    ) -> anyhow::Result<Self> {
        let target = find(&connection.channel, name).await?;
        if connection.login.is_from_file {
            return Self::new(target, login, None)?.warned(context);
        }
        let (profile, now) = (&connection.login.profile, SystemTime::now());
        Self::kept(&context.home, profile, target, login, now)?.warned(context)
    }

    /// The same, whatever `tsh db login` was told before.
    pub(in crate::tsh) async fn anew(
        context: &Context,
        connection: &Connection,
        asked: &Database,
    ) -> anyhow::Result<Self> {
        let target = find(&connection.channel, &asked.name).await?;
        Self::new(target, &asked.login, None)?.warned(context)
    }

    fn kept(
        home: &Home,
        profile: &Profile,
        target: Target,
        login: &DatabaseLogin,
        now: SystemTime,
    ) -> anyhow::Result<Self> {
        let saved = Saved::current(home, profile, &target.name, now)?;
        Self::new(target, login, saved)
    }

    fn new(target: Target, login: &DatabaseLogin, saved: Option<Saved>) -> anyhow::Result<Self> {
        let user = login.db_user.clone().or_else(|| saved.as_ref().map(|saved| saved.user.clone()));
        let name = login.db_name.clone().or_else(|| saved.as_ref().map(|saved| saved.database.clone()));
        let protocol = protocol(&target)?;
        let resolved = resolve(protocol, &target, user, name)?;
        let route = Route {
            target_kind: "database".to_owned(),
            target_name: target.name.clone(),
            protocol: target.protocol.clone(),
            login: resolved.user,
            db_name: resolved.name,
        };
        Ok(Self { target, protocol, route, saved })
    }

    fn warned(self, context: &Context) -> anyhow::Result<Self> {
        for warning in warnings(self.protocol, &self.target, &self.route) {
            context.terminal.say(&format!("WARNING: {warning}"))?;
        }
        Ok(self)
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Resolved {
    user: String,
    name: String,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum ResolveError {
    #[error("please provide the database user name using the --db-user flag")]
    User,
    #[error("please provide the database name using the --db-name flag")]
    Name,
    #[error("a {what} cannot be empty, longer than 255 bytes, or hold control characters")]
    Invalid { what: &'static str },
}

/// A MySQL session needs no database, and roles do not say which it may be in: none is meant unless one is named.
fn resolve(
    protocol: DatabaseProtocol,
    target: &Target,
    user: Option<String>,
    name: Option<String>,
) -> Result<Resolved, ResolveError> {
    let user =
        user.or_else(|| only(&target.allowed_logins, &target.denied_logins)).ok_or(ResolveError::User)?;
    let may_be_empty = protocol == DatabaseProtocol::Mysql;
    let name = match protocol {
        DatabaseProtocol::Postgres => postgres_name(target, &user, name)?,
        DatabaseProtocol::Mysql => name.unwrap_or_default(),
    };
    for (what, value, may_be_empty) in
        [("database user", &user, false), ("database name", &name, may_be_empty)]
    {
        if (value.is_empty() && !may_be_empty) || value.len() > 255 || value.chars().any(char::is_control) {
            return Err(ResolveError::Invalid { what });
        }
    }
    Ok(Resolved { user, name })
}

fn postgres_name(target: &Target, user: &str, name: Option<String>) -> Result<String, ResolveError> {
    let names = &target.allowed_db_names;
    let fallback = || {
        let open = names.is_empty() || names.iter().any(|name| name == ANY || name == user);
        open.then(|| user.to_owned())
    };
    name.or_else(|| only(names, &[])).or_else(fallback).ok_or(ResolveError::Name)
}

/// The one concrete value that is allowed, where there is exactly one.
fn only(allowed: &[String], denied: &[String]) -> Option<String> {
    let mut left = allowed.iter().filter(|value| !denied.contains(value));
    match (left.next(), left.next()) {
        (Some(value), None) if value != ANY && !denied.iter().any(|denied| denied == ANY) => {
            Some(value.clone())
        }
        _ => None,
    }
}

fn warnings(protocol: DatabaseProtocol, target: &Target, route: &Route) -> Vec<String> {
    let allows = |allowed: &[String], value: &str| allowed.iter().any(|a| a == ANY || a == value);
    let mut warnings = Vec::new();
    let Route { login: user, db_name: name, .. } = route;
    let denied = target.denied_logins.iter().any(|denied| denied == ANY || denied == user);
    if denied || !allows(&target.allowed_logins, user) {
        warnings.push(format!("database user \"{}\" is not among those your roles allow", printable(user)));
    }
    if protocol == DatabaseProtocol::Postgres && !allows(&target.allowed_db_names, name) {
        warnings.push(format!("database name \"{}\" is not among those your roles allow", printable(name)));
    }
    warnings
}

/// The text for a command that cannot be used with this database, and what to use instead.
pub(in crate::tsh) fn unsupported(command: &str, name: &str, reason: &str) -> String {
    format!(
        "\"{command}\" is not supported when:
  - {reason}.

Please use one of the following commands to connect to the database:
    tsh db connect {name}
    tsh proxy db --tunnel {name}"
    )
}

/// The reason of [`unsupported`] where a touch is needed.
pub(in crate::tsh) const MFA_REASON: &str = "MFA is required to connect to the database";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home;

    fn target(users: &[&str], denied: &[&str], names: &[&str]) -> Target {
        let owned = |values: &[&str]| values.iter().map(|&value| value.to_owned()).collect();
        Target {
            name: "prod-pg".to_owned(),
            allowed_logins: owned(users),
            denied_logins: owned(denied),
            allowed_db_names: owned(names),
            ..Target::default()
        }
    }

    fn resolved(
        target: &Target,
        user: Option<&str>,
        name: Option<&str>,
    ) -> Result<(String, String), ResolveError> {
        resolved_for(DatabaseProtocol::Postgres, target, user, name)
    }

    fn resolved_for(
        protocol: DatabaseProtocol,
        target: &Target,
        user: Option<&str>,
        name: Option<&str>,
    ) -> Result<(String, String), ResolveError> {
        resolve(protocol, target, user.map(Into::into), name.map(Into::into))
            .map(|login| (login.user, login.name))
    }

    fn login(user: &str, name: &str) -> Result<(String, String), ResolveError> {
        Ok((user.to_owned(), name.to_owned()))
    }

    fn as_whom(user: &str, name: &str) -> Route {
        Route { login: user.to_owned(), db_name: name.to_owned(), ..Route::default() }
    }

    /// A certificate of 2026, which tests with clocks of their own judge.
    const CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----
MIIBdTCCARugAwIBAgIUJ+1gcqBti5hyZMrfa0HoIUMCyw0wCgYIKoZIzj0EAwIw
EDEOMAwGA1UEAwwFamVycnkwHhcNMjYxMTI3MTQxODA1WhcNMzYxMTI0MTQxODA1
WjAQMQ4wDAYDVQQDDAVqZXJyeTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABMC5
+FA61/3XRyTO7PQTVr7K/dcqltsA/1A2L+RnipikKOBMSbgp2H6uheIgNw8Fkykn
eqbyLefmoF5bMVXVjYyjUzBRMB0GA1UdDgQWBBQJrZ31RWU31P7zku2pgUwa9KVx
BDAfBgNVHSMEGDAWgBQJrZ31RWU31P7zku2pgUwa9KVxBDAPBgNVHRMBAf8EBTAD
AQH/MAoGCCqGSM49BAMCA0gAMEUCIQC5NMWJCJGJJe3ZWF/UaXA4PqovRx3lGv4R
xkhsvjzYpQIgfamwZ/uqi+h3ifcJ8h8mnkIDU0zLDM6XUrKtYcjgk08=
-----END CERTIFICATE-----
";

    #[test]
    fn what_a_login_was_told_is_meant_again_unless_flags_say_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path().join("tsh"));
        let profile = Profile {
            proxy: "auth.example.com:3080".parse().unwrap(),
            user: auth::identity::UserName::new("jerry").unwrap(),
            cluster: auth::identity::ClusterName::new("main").unwrap(),
        };
        let saved = Saved {
            name: auth::identity::TargetName::new("prod-pg").unwrap(),
            protocol: DatabaseProtocol::Postgres,
            user: "alice".to_owned(),
            database: "shop".to_owned(),
            host: "localhost".to_owned(),
            port: 5432,
        };
        let files = saved.files(&home, &profile);
        home::write(&files.certificate, CERTIFICATE.as_bytes()).unwrap();
        let record = serde_saphyr::to_string(&saved).unwrap();
        home::write(&files.certificate.with_file_name("prod-pg.yaml"), record.as_bytes()).unwrap();

        let target = Target { protocol: "postgres".to_owned(), ..target(&["*"], &[], &["*"]) };
        let meant = |login: &DatabaseLogin, now| {
            Meant::kept(&home, &profile, target.clone(), login, now).map(|meant| meant.route)
        };
        let route = meant(&DatabaseLogin::default(), SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!((route.login.as_str(), route.db_name.as_str()), ("alice", "shop"));
        let flags = DatabaseLogin { db_user: Some("bob".to_owned()), db_name: None };
        let route = meant(&flags, SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!((route.login.as_str(), route.db_name.as_str()), ("bob", "shop"));
        let far = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1 << 34);
        assert!(meant(&DatabaseLogin::default(), far).is_err(), "it has expired: roles allow several");
    }

    #[test]
    fn flags_come_first() {
        let target = target(&["alice"], &[], &["shop"]);
        assert_eq!(resolved(&target, Some("bob"), Some("other")), login("bob", "other"));
    }

    #[test]
    fn the_only_thing_allowed_is_meant() {
        assert_eq!(resolved(&target(&["alice"], &[], &["shop"]), None, None), login("alice", "shop"));
        assert_eq!(
            resolved(&target(&["alice", "root"], &["root"], &["shop"]), None, None),
            login("alice", "shop")
        );
    }

    #[test]
    fn a_choice_must_be_made_by_the_user() {
        for users in [&["*"][..], &["alice", "bob"], &[], &["*", "alice"]] {
            assert_eq!(
                resolved(&target(users, &[], &["shop"]), None, None),
                Err(ResolveError::User),
                "{users:?}"
            );
        }
        assert_eq!(resolved(&target(&["alice"], &["*"], &["shop"]), None, None), Err(ResolveError::User));
        assert_eq!(resolved(&target(&["alice"], &[], &["a", "b"]), None, None), Err(ResolveError::Name));
    }

    #[test]
    fn the_name_falls_back_to_the_user_where_that_can_be_allowed() {
        assert_eq!(resolved(&target(&["alice"], &[], &["*"]), None, None), login("alice", "alice"));
        assert_eq!(
            resolved(&target(&["alice"], &[], &["alice", "shop"]), None, None),
            login("alice", "alice")
        );
        assert_eq!(resolved(&target(&["alice"], &[], &[]), None, None), login("alice", "alice"));
    }

    #[test]
    fn a_mysql_session_is_in_no_database_unless_one_is_named() {
        let target = target(&["alice"], &[], &["shop"]);
        let resolved = |name| resolved_for(DatabaseProtocol::Mysql, &target, None, name);
        assert_eq!(resolved(None), login("alice", ""));
        assert_eq!(resolved(Some("payroll")), login("alice", "payroll"));
        assert!(resolved(Some("a\nb")).is_err());
        assert!(resolved_for(DatabaseProtocol::Mysql, &target, Some(""), None).is_err());
        let warned = |protocol| warnings(protocol, &target, &as_whom("alice", "payroll")).len();
        assert_eq!((warned(DatabaseProtocol::Postgres), warned(DatabaseProtocol::Mysql)), (1, 0));
    }

    #[test]
    fn names_that_would_forge_lines_are_refused() {
        let target = target(&["*"], &[], &["*"]);
        for wrong in ["", "a\nb", "a\0b"] {
            assert!(resolved(&target, Some(wrong), Some("x")).is_err());
            assert!(resolved(&target, Some("x"), Some(wrong)).is_err());
        }
    }

    #[test]
    fn what_roles_do_not_allow_is_warned_about() {
        let warned = |target: &Target, user: &str, name: &str| {
            warnings(DatabaseProtocol::Postgres, target, &as_whom(user, name)).len()
        };
        assert_eq!(warned(&target(&["*"], &[], &["*"]), "x", "y"), 0);
        assert_eq!(warned(&target(&["*"], &["x"], &["*"]), "x", "y"), 1);
        assert_eq!(warned(&target(&["alice"], &[], &["shop"]), "x", "y"), 2);
    }

    #[test]
    fn the_unsupported_text_is_teleports() {
        let expected = "\
\"tsh db config prod\" is not supported when:
  - MFA is required to connect to the database.

Please use one of the following commands to connect to the database:
    tsh db connect prod
    tsh proxy db --tunnel prod";
        assert_eq!(unsupported("tsh db config prod", "prod", MFA_REASON), expected);
    }
}
