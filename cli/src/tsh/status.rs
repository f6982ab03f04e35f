//! `tsh status`: who is logged in, and until when.

use std::{path::Path, time::SystemTime};

use anyhow::bail;
use serde::Serialize;
use ssh_key::Certificate;

use super::{context::Context, db::saved::Saved};
use crate::{
    home::{self, Home, HomeError},
    output::{self, Format, printable},
    profile::{self, CertificateFacts, IdentityFile, Login, LoginError, Profile},
    times,
};

/// One profile as it is shown.
#[derive(Clone, Debug, Serialize)]
struct Shown {
    profile_url: String,
    username: String,
    cluster: String,
    roles: Vec<String>,
    traits: serde_json::Value,
    logins: Vec<String>,
    databases: Vec<String>,
    valid_until: String,
    extensions: Vec<String>,
    #[serde(skip)]
    not_after: Option<SystemTime>,
}

#[derive(Serialize)]
struct Listing<'a> {
    active: Option<&'a Shown>,
    profiles: Vec<&'a Shown>,
}

pub(super) fn run(context: &Context, format: Format) -> anyhow::Result<()> {
    let now = SystemTime::now();
    if let Some(path) = &context.selection.identity {
        return identity_file(context, path, format, now);
    }
    let selected = match Profile::load(&context.home, &context.selection) {
        Err(error @ LoginError::Cluster { .. }) => return Err(error.into()),
        selected => selected.ok(),
    };
    let mut active = None;
    let mut others = Vec::new();
    if let Some(profile) = &selected {
        active = Shown::of(&context.home, profile)?;
    }
    for profile in Profile::all(&context.home)? {
        if selected.as_ref() != Some(&profile) {
            others.extend(Shown::of(&context.home, &profile)?);
        }
    }
    let listing = Listing { active: active.as_ref(), profiles: others.iter().collect() };
    if active.is_some() || !others.is_empty() {
        output::print(format, &listing, || text(&listing, now))?;
    }
    ended(active.as_ref(), now)
}

/// The login of an identity file, whatever is in the home.
fn identity_file(context: &Context, path: &Path, format: Format, now: SystemTime) -> anyhow::Result<()> {
    let profile = Profile::load(&context.home, &context.selection)?;
    let file = IdentityFile::read(path)?;
    let ssh = file.ssh_certificate().unwrap_or_default();
    let shown = Shown::new(&profile, file.facts().clone(), ssh, Vec::new());
    let listing = Listing { active: Some(&shown), profiles: Vec::new() };
    output::print(format, &listing, || text(&listing, now))?;
    ended(Some(&shown), now)
}

fn ended(active: Option<&Shown>, now: SystemTime) -> anyhow::Result<()> {
    match active {
        None => bail!("Not logged in."),
        Some(shown) if shown.not_after.is_none_or(|end| end <= now) => bail!("Active profile expired."),
        Some(_) => Ok(()),
    }
}

/// Shows the login that was just made.
pub(super) fn print_login(login: &Login, home: &Home) -> anyhow::Result<()> {
    let shown = Shown::of(home, &login.profile)?;
    let listing = Listing { active: shown.as_ref(), profiles: Vec::new() };
    output::print(Format::Text, &listing, || text(&listing, SystemTime::now()))?;
    Ok(())
}

impl Shown {
    fn of(home: &Home, profile: &Profile) -> Result<Option<Self>, HomeError> {
        let files = home.user(&profile.proxy, &profile.user);
        let Some(facts) = profile::facts_in(&files.tls_certificate())? else { return Ok(None) };
        let ssh = home::read(&files.ssh_certificate(&profile.cluster))?.unwrap_or_default();
        let databases = Saved::all(home, profile)?.into_iter().map(|saved| saved.name.to_string()).collect();
        Ok(Some(Self::new(profile, facts, &ssh, databases)))
    }

    fn new(profile: &Profile, facts: CertificateFacts, ssh: &str, databases: Vec<String>) -> Self {
        let CertificateFacts { user, roles, logins, traits_json, not_after, .. } = facts;
        let traits = traits_json.and_then(|json| serde_json::from_str(&json).ok());
        Self {
            profile_url: format!("https://{}", profile.proxy),
            username: user,
            cluster: profile.cluster.to_string(),
            roles,
            traits: traits.unwrap_or_else(|| serde_json::json!({})),
            logins,
            databases,
            valid_until: times::rfc3339(not_after),
            extensions: extensions(ssh),
            not_after: Some(not_after),
        }
    }

    fn block(&self, mark: char, now: SystemTime) -> String {
        let mut lines = vec![
            ("Profile URL", self.profile_url.clone()),
            ("Logged in as", self.username.clone()),
            ("Cluster", self.cluster.clone()),
            ("Roles", self.roles.join(", ")),
        ];
        if !self.logins.is_empty() {
            lines.push(("Logins", self.logins.join(", ")));
        }
        if !self.databases.is_empty() {
            lines.push(("Databases", self.databases.join(", ")));
        }
        lines.push(("Valid until", valid_until(self.not_after.unwrap_or(now), now)));
        if !self.extensions.is_empty() {
            lines.push(("Extensions", self.extensions.join(", ")));
        }
        let marks = std::iter::once(mark).chain(std::iter::repeat(' '));
        let rows = lines.iter().zip(marks).map(|((name, value), mark)| {
            let label = format!("{name}:");
            format!("{mark} {label:<19} {}", printable(value))
        });
        rows.collect::<Vec<_>>().join("\n")
    }
}

fn text(listing: &Listing<'_>, now: SystemTime) -> String {
    let active = listing.active.map(|shown| shown.block('>', now));
    let others = listing.profiles.iter().map(|shown| shown.block(' ', now));
    active.into_iter().chain(others).map(|block| block + "\n").collect::<Vec<_>>().join("\n")
}

fn valid_until(not_after: SystemTime, now: SystemTime) -> String {
    let end = times::status(not_after);
    match not_after.duration_since(now) {
        Ok(left) if !left.is_zero() => format!("{end} [valid for {}]", times::duration(left)),
        _ => format!("{end} [EXPIRED]"),
    }
}

/// Names of the extensions of an SSH certificate; none where it cannot be read.
fn extensions(certificate: &str) -> Vec<String> {
    let Ok(certificate) = Certificate::from_openssh(certificate.trim()) else { return Vec::new() };
    certificate.extensions().keys().cloned().collect()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn shown(not_after: SystemTime) -> Shown {
        Shown {
            profile_url: "https://auth.example.com:3080".to_owned(),
            username: "alice".to_owned(),
            cluster: "main".to_owned(),
            roles: vec!["access".to_owned(), "editor".to_owned()],
            traits: serde_json::Value::Null,
            logins: vec!["root".to_owned(), "ubuntu".to_owned()],
            databases: vec!["dev-pg".to_owned()],
            valid_until: times::rfc3339(not_after),
            extensions: vec!["permit-pty".to_owned()],
            not_after: Some(not_after),
        }
    }

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_687_509_043)
    }

    #[test]
    fn the_text_is_teleports() {
        let expected = "\
> Profile URL:        https://auth.example.com:3080
  Logged in as:       alice
  Cluster:            main
  Roles:              access, editor
  Logins:             root, ubuntu
  Databases:          dev-pg
  Valid until:        2023-06-23 20:30:43 +0000 UTC [valid for 12h0m0s]
  Extensions:         permit-pty
";
        let active = shown(now() + Duration::from_secs(12 * 3600));
        assert_eq!(text(&Listing { active: Some(&active), profiles: Vec::new() }, now()), expected);
    }

    #[test]
    fn an_expired_profile_says_so() {
        let active = shown(now());
        let text = text(&Listing { active: Some(&active), profiles: Vec::new() }, now());
        assert!(text.contains("2023-06-23 08:30:43 +0000 UTC [EXPIRED]"), "{text}");
    }

    #[test]
    fn other_profiles_follow_without_the_mark() {
        let (active, other) = (shown(now()), shown(now()));
        let text = text(&Listing { active: Some(&active), profiles: vec![&other] }, now());
        assert_eq!(text.matches("> Profile URL").count(), 1);
        assert_eq!(text.matches("  Profile URL").count(), 1);
    }
}
