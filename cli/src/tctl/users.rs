//! `tctl users`: invite, list, change, remove, reset.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use anyhow::{Result, bail, ensure};
use auth::{
    identity::RoleName,
    proto::{AddUserRequest, DeleteResourceRequest, InvitationLink, ResetUserRequest, StringList},
    resource::{Kind, Resource, User},
};
use serde_json::json;

use super::{Admin, resources, ttl};
use crate::{
    output::{self, Format, Table, printable},
    times,
};

/// Users: invite, list, change, remove, reset.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Users {
    /// Create a user and an invitation to choose a password and a second factor
    Add(Add),
    /// List users and their roles
    Ls {
        /// How to print them
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Change a user's roles and traits; what is not named stays
    ///
    /// Counts from the user's next login. A role that is taken away counts at once in all that is issued.
    Update(Update),
    /// Remove users
    Rm {
        /// Names of the users
        #[arg(required = true, value_delimiter = ',')]
        users: Vec<String>,
    },
    /// Take password and MFA devices away, and invite anew
    Reset {
        /// Name of the user
        user: String,
        #[command(flatten)]
        invitation: Invitation,
    },
}

/// What a new user may be.
#[derive(Debug, clap::Args)]
pub(super) struct Add {
    /// Name of the user
    user: String,
    /// Roles of the user
    #[arg(long, required = true, value_delimiter = ',')]
    roles: Vec<String>,
    /// SSH logins (trait `logins`)
    #[arg(long, value_delimiter = ',')]
    logins: Vec<String>,
    /// Database users (trait `db_users`)
    #[arg(long, value_delimiter = ',')]
    db_users: Vec<String>,
    /// Database names (trait `db_names`)
    #[arg(long, value_delimiter = ',')]
    db_names: Vec<String>,
    #[command(flatten)]
    invitation: Invitation,
}

/// What becomes of a user. An empty list takes a trait away.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("changes").required(true).multiple(true)))]
pub(super) struct Update {
    /// Name of the user
    user: String,
    /// Roles of the user, in place of those before
    #[arg(long, value_delimiter = ',', group = "changes")]
    set_roles: Option<Vec<String>>,
    /// SSH logins (trait `logins`)
    #[arg(long, value_delimiter = ',', group = "changes")]
    set_logins: Option<Vec<String>>,
    /// Database users (trait `db_users`)
    #[arg(long, value_delimiter = ',', group = "changes")]
    set_db_users: Option<Vec<String>>,
    /// Database names (trait `db_names`)
    #[arg(long, value_delimiter = ',', group = "changes")]
    set_db_names: Option<Vec<String>>,
}

/// How an invitation is made and shown.
#[derive(Debug, clap::Args)]
pub(super) struct Invitation {
    /// How long the invitation is valid, at most 48h [default: 1h]
    #[arg(long, value_parser = ttl::parse)]
    ttl: Option<Duration>,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Users {
    pub(super) async fn run(self, admin: &mut Admin) -> Result<()> {
        match self {
            Self::Add(add) => add.run(admin).await,
            Self::Ls { format } => list(admin, format).await,
            Self::Update(update) => update.run(admin).await,
            Self::Rm { users } => remove(admin, users).await,
            Self::Reset { user, invitation } => {
                let request = ResetUserRequest { name: user, ttl_seconds: ttl::seconds(invitation.ttl) };
                let link = admin.change(request).await?;
                invitation
                    .print(&link, "has been reset. Share this URL with the user to choose a new password")
            }
        }
    }
}

impl Add {
    async fn run(self, admin: &mut Admin) -> Result<()> {
        let traits = [("logins", self.logins), ("db_users", self.db_users), ("db_names", self.db_names)];
        let traits: BTreeMap<_, _> = traits
            .into_iter()
            .filter(|(_, values)| !values.is_empty())
            .map(|(name, values)| (name.to_owned(), StringList { values }))
            .collect();
        let request = AddUserRequest {
            name: self.user,
            roles: self.roles,
            traits,
            ttl_seconds: ttl::seconds(self.invitation.ttl),
        };
        let link = admin.change(request).await?;
        self.invitation.print(
            &link,
            "has been created but requires a password. Share this URL with the user to complete user setup",
        )
    }
}

impl Update {
    async fn run(self, admin: &mut Admin) -> Result<()> {
        let before = resources::fetch_one(admin, Kind::User, &self.user).await?;
        let Resource::User(mut user) = before.clone() else { bail!("the auth service sent no user") };
        self.apply(&mut user)?;
        admin.change(resources::replace(&before, &Resource::User(user))?).await?;
        output::print_text(&resources::put_text(Kind::User, &printable(before.name()), false))?;
        Ok(())
    }

    fn apply(self, user: &mut User) -> Result<()> {
        let named = |values: Vec<String>| values.into_iter().filter(|value| !value.is_empty());
        if let Some(roles) = self.set_roles {
            user.roles = named(roles).map(RoleName::new).collect::<Result<_, _>>()?;
            ensure!(!user.roles.is_empty(), "a user has at least one role");
        }
        let traits =
            [("logins", self.set_logins), ("db_users", self.set_db_users), ("db_names", self.set_db_names)];
        for (name, values) in traits {
            match values.map(|values| named(values).collect::<Vec<_>>()) {
                None => {}
                Some(none) if none.is_empty() => drop(user.traits.remove(name)),
                Some(values) => drop(user.traits.insert(name.to_owned(), values)),
            }
        }
        Ok(())
    }
}

impl Invitation {
    fn print(&self, link: &InvitationLink, what: &str) -> Result<()> {
        let expires = times::from_millis(link.expires);
        let value = json!({ "user": link.user, "url": link.url, "expires": times::rfc3339(expires) });
        output::print(self.format, &value, || text(link, what, SystemTime::now()))?;
        Ok(())
    }
}

fn text(link: &InvitationLink, what: &str, now: SystemTime) -> String {
    let valid = ttl::left(times::from_millis(link.expires), now);
    let (user, url) = (printable(&link.user), printable(&link.url));
    let address = url.strip_prefix("https://").unwrap_or(&url).split('/').next().unwrap_or_default();
    format!(
        "User \"{user}\" {what}, link is valid for {valid}:\n{url}\n\n\
         To do so in a terminal: tsh register URL\n\
         NOTE: Make sure {address} points at a Touchstone auth service which users can access."
    )
}

async fn list(admin: &mut Admin, format: Format) -> Result<()> {
    let users = resources::fetch(admin, Kind::User, "").await?;
    let value = resources::as_values(&users)?;
    output::print(format, &value, || {
        let mut table = Table::new(["User", "Roles"]);
        for user in &users {
            if let Resource::User(user) = user {
                let roles: Vec<_> = user.roles.iter().map(|role| role.as_str()).collect();
                table.row([user.metadata.name.as_str(), &roles.join(",")]);
            }
        }
        table.render()
    })?;
    Ok(())
}

async fn remove(admin: &mut Admin, users: Vec<String>) -> Result<()> {
    let delete =
        |name: &String| DeleteResourceRequest { kind: Kind::User.as_str().to_owned(), name: name.clone() };
    let deletes: Vec<_> = users.iter().map(delete).collect();
    let mut command = admin.command(&deletes);
    for (user, delete) in users.into_iter().zip(deletes) {
        command.make(delete).await?;
        output::print_text(&format!("User \"{}\" has been deleted", printable(&user)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use auth::identity::UserName;
    use clap::Parser;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        update: Update,
    }

    /// jerry, with a role, a login and a database user, after an update.
    fn updated(flags: &[&str]) -> Result<User> {
        let mut user = User::new(UserName::new("jerry")?, vec![RoleName::new("a")?]);
        for name in ["logins", "db_users"] {
            user.traits.insert(name.to_owned(), vec!["jerry".to_owned()]);
        }
        Line::try_parse_from(["update", "jerry"].iter().chain(flags))?.update.apply(&mut user)?;
        Ok(user)
    }

    #[test]
    fn what_an_update_does_not_name_stays_and_an_empty_list_takes_a_trait_away() {
        let user = updated(&["--set-roles=b,c", "--set-logins=root,web", "--set-db-users="]).unwrap();
        let roles: Vec<_> = user.roles.iter().map(RoleName::as_str).collect();
        assert_eq!(roles, ["b", "c"]);
        let traits: Vec<_> = user.traits.into_iter().collect();
        assert_eq!(traits, [("logins".to_owned(), vec!["root".to_owned(), "web".to_owned()])]);
        let user = updated(&["--set-db-names=*"]).unwrap();
        assert_eq!(user.roles, [RoleName::new("a").unwrap()]);
        assert_eq!((user.traits["logins"][0].as_str(), user.traits["db_names"][0].as_str()), ("jerry", "*"));
    }

    #[test]
    fn an_update_of_nothing_or_to_no_role_is_refused() {
        assert!(updated(&[]).is_err());
        assert!(updated(&["--set-roles="]).unwrap_err().to_string().contains("at least one role"));
        assert!(updated(&["--set-roles=a,b\nc"]).is_err());
    }

    #[test]
    fn an_invitation_reads_as_administrators_know_it() {
        let link = InvitationLink {
            user: "joe".to_owned(),
            url: "https://auth.example.com:3080/web/invite/abc#ca-pin=sha256:de".to_owned(),
            expires: 3_600_000,
        };
        let what =
            "has been created but requires a password. Share this URL with the user to complete user setup";
        let expected = "\
User \"joe\" has been created but requires a password. Share this URL with the user to complete user setup, link is valid for 1h:
https://auth.example.com:3080/web/invite/abc#ca-pin=sha256:de

To do so in a terminal: tsh register URL
NOTE: Make sure auth.example.com:3080 points at a Touchstone auth service which users can access.";
        assert_eq!(text(&link, what, SystemTime::UNIX_EPOCH), expected);
    }
}
