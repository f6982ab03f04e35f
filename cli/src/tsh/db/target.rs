//! Which database is meant, and as whom: settled before anything is asked for, since the certificate says it exactly.

use anyhow::{Context as _, bail};
use auth::proto::{ListTargetsRequest, Route, Target, users_client::UsersClient};
use tonic::transport::Channel;

use super::saved::Saved;
use crate::{
    database::DatabaseProtocol,
    output::printable,
    tsh::{arguments::Database, context::Context},
};

/// The value that stands for every value in what roles allow.
const ANY: &str = "*";

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

/// What the session is for: flags first, then what `tsh db login` was told, then the only thing that roles allow.
pub(in crate::tsh) fn route(
    context: &Context,
    target: &Target,
    asked: &Database,
    saved: Option<&Saved>,
) -> anyhow::Result<Route> {
    let login = &asked.login;
    let user = login.db_user.clone().or_else(|| saved.map(|saved| saved.user.clone()));
    let name = login.db_name.clone().or_else(|| saved.map(|saved| saved.database.clone()));
    let protocol = protocol(target)?;
    let resolved = resolve(protocol, target, user, name)?;
    for warning in warnings(protocol, target, &resolved) {
        context.terminal.say(&format!("WARNING: {warning}"))?;
    }
    Ok(Route {
        target_kind: "database".to_owned(),
        target_name: target.name.clone(),
        protocol: target.protocol.clone(),
        login: resolved.user,
        db_name: resolved.name,
    })
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

fn warnings(protocol: DatabaseProtocol, target: &Target, login: &Resolved) -> Vec<String> {
    let allows = |allowed: &[String], value: &str| allowed.iter().any(|a| a == ANY || a == value);
    let mut warnings = Vec::new();
    let denied = target.denied_logins.iter().any(|denied| denied == ANY || *denied == login.user);
    if denied || !allows(&target.allowed_logins, &login.user) {
        warnings.push(format!(
            "database user \"{}\" is not among those your roles allow",
            printable(&login.user)
        ));
    }
    if protocol == DatabaseProtocol::Postgres && !allows(&target.allowed_db_names, &login.name) {
        warnings.push(format!(
            "database name \"{}\" is not among those your roles allow",
            printable(&login.name)
        ));
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
        let warned = |protocol| {
            warnings(protocol, &target, &Resolved { user: "alice".into(), name: "payroll".into() }).len()
        };
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
            warnings(DatabaseProtocol::Postgres, target, &Resolved { user: user.into(), name: name.into() })
                .len()
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
