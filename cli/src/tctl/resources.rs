//! `tctl create`, `get` and `rm`: resources as YAML; what `edit` and `users update` put back.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::PathBuf,
};

use anyhow::{Context, Result, bail};
use auth::{
    proto::{self, DeleteResourceRequest, GetResourcesRequest, PutResourceRequest},
    resource::{self, Kind, Parsed, Resource},
};

use super::Admin;
use crate::output::{self, Table, printable};

/// Largest file of resources: the API takes 1 MiB for one of them.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// Create or update resources from a YAML file.
#[derive(Debug, clap::Args)]
pub(super) struct Create {
    /// Replace what exists
    #[arg(short, long)]
    force: bool,
    /// File with one or more documents [default: standard input, as `-` says too]
    #[arg(value_name = "FILE", default_value = "-", hide_default_value = true)]
    file: PathBuf,
}

/// The forms of `tctl get`: YAML, so that it can be kept and created again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum GetFormat {
    #[default]
    Yaml,
    Json,
    Text,
}

/// Print resources.
#[derive(Debug, clap::Args)]
pub(super) struct Get {
    /// KIND or KIND/NAME; several separated by commas. `all` is whatever people wrote: cap, roles, users, locks
    #[arg(value_name = "KIND[/NAME]", required = true, value_delimiter = ',')]
    which: Vec<Wanted>,
    /// How to print them
    #[arg(long, value_enum, default_value_t)]
    format: GetFormat,
}

/// Delete a resource.
#[derive(Debug, clap::Args)]
pub(super) struct Rm {
    /// What to delete
    #[arg(value_name = "KIND/NAME")]
    which: Which,
}

/// `KIND/NAME` or `KIND`, as people type it. The name is empty where there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Which {
    pub(super) kind: Kind,
    pub(super) name: String,
}

/// What is to be printed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted(Vec<Which>);

/// In the order in which they can be created again: users have roles. Tokens are secrets that soon expire, and databases and
/// nodes are announced by their sidecars.
pub(super) const WRITTEN_BY_PEOPLE: [Kind; 4] = [Kind::AuthPreference, Kind::Role, Kind::User, Kind::Lock];

impl std::str::FromStr for Wanted {
    type Err = KindError;

    fn from_str(text: &str) -> Result<Self, KindError> {
        if text == "all" {
            let every = WRITTEN_BY_PEOPLE.map(|kind| Which { kind, name: String::new() });
            return Ok(Self(every.to_vec()));
        }
        text.parse().map(|which| Self(vec![which]))
    }
}

/// Why a text names no resource.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown kind {0:?}: one of role, user, cap, token, lock, db, node")]
pub(super) struct KindError(String);

impl std::str::FromStr for Which {
    type Err = KindError;

    fn from_str(text: &str) -> Result<Self, KindError> {
        let (word, name) = text.split_once('/').unwrap_or((text, ""));
        let kind = Kind::parse(word).ok_or_else(|| KindError(word.to_owned()))?;
        Ok(Self { kind, name: name.to_owned() })
    }
}

impl Create {
    /// Reads the file, whole; nothing is created when some document in it is wrong.
    pub(super) fn read(&self) -> Result<Vec<Parsed>> {
        let (name, reader): (_, Box<dyn Read>) = if self.file.as_os_str() == "-" {
            ("standard input".to_owned(), Box::new(io::stdin()))
        } else {
            let name = self.file.display().to_string();
            let file = File::open(&self.file).with_context(|| format!("cannot read {name}"))?;
            (name, Box::new(file))
        };
        let mut text = String::new();
        reader
            .take(MAX_FILE_BYTES + 1)
            .read_to_string(&mut text)
            .with_context(|| format!("cannot read {name}"))?;
        if text.len() as u64 > MAX_FILE_BYTES {
            bail!("{name} is larger than 16 MiB");
        }
        let documents = resource::parse_documents(&text).with_context(|| name.clone())?;
        if documents.is_empty() {
            bail!("{name} holds no resource");
        }
        Ok(documents)
    }

    fn put(&self, resource: &Resource) -> PutResourceRequest {
        let (kind, name) = (resource.kind().as_str().to_owned(), resource.name().to_owned());
        let resource = Some(proto::Resource { kind, name, json: resource.to_json() });
        PutResourceRequest { resource, force: self.force, expected_revision: 0 }
    }
}

/// Creates what was read, in order, and tells each.
pub(super) async fn create(admin: &mut Admin, command: &Create, documents: Vec<Parsed>) -> Result<()> {
    let puts: Vec<_> = documents.iter().map(|parsed| command.put(&parsed.resource)).collect();
    let mut command = admin.command(&puts);
    for (Parsed { resource, notices }, put) in documents.into_iter().zip(puts) {
        let (kind, name) = (resource.kind(), printable(resource.name()));
        for notice in notices {
            // On standard error: a pipe reads the answers alone. Nobody may be left to read it.
            let _ = writeln!(io::stderr(), "NOTICE: {kind} {name:?}: {}", printable(&notice));
        }
        let created = command.make(put).await?.created;
        output::print_text(&put_text(kind, &name, created))?;
    }
    Ok(())
}

pub(super) fn put_text(kind: Kind, name: &str, created: bool) -> String {
    match (kind, created) {
        (Kind::AuthPreference, _) => "cluster auth preference has been updated".to_owned(),
        (Kind::Role, true) => format!("role '{name}' has been created"),
        (Kind::Database, true) => format!("database \"{name}\" has been created"),
        (Kind::Database, false) => format!("database \"{name}\" has been updated"),
        (kind, true) => format!("{kind} \"{name}\" has been created"),
        (kind, false) => format!("{kind} \"{name}\" has been updated"),
    }
}

/// Puts a changed resource in the place of the one that was read, and of no other: where somebody else changed it meanwhile it
/// is refused.
pub(super) fn replace(before: &Resource, after: &Resource) -> Result<PutResourceRequest> {
    let value = before.to_value();
    let revision = value.pointer("/metadata/revision").and_then(|revision| revision.as_str()?.parse().ok());
    let expected_revision = revision.context("the auth service does not say what is being changed")?;
    let (kind, name) = (after.kind().as_str().to_owned(), after.name().to_owned());
    let resource = Some(proto::Resource { kind, name, json: after.to_json() });
    Ok(PutResourceRequest { resource, force: true, expected_revision })
}

/// One resource by its name.
pub(super) async fn fetch_one(admin: &mut Admin, kind: Kind, name: &str) -> Result<Resource> {
    let found = fetch(admin, kind, name).await?.into_iter().next();
    found.with_context(|| format!("{kind} \"{}\" not found", printable(name)))
}

impl Get {
    pub(super) async fn run(&self, admin: &mut Admin) -> Result<()> {
        let mut found = Vec::new();
        for Which { kind, name } in self.which.iter().flat_map(|Wanted(which)| which) {
            found.extend(fetch(admin, *kind, name).await?);
        }
        match self.format {
            GetFormat::Yaml => {
                let documents: Vec<_> =
                    found.iter().map(|resource| resource.to_yaml().trim_end().to_owned()).collect();
                if !documents.is_empty() {
                    output::print_text(&documents.join("\n---\n"))?;
                }
            }
            GetFormat::Json => output::print_text(&output::json(&as_values(&found)?)?)?,
            GetFormat::Text => {
                let mut table = Table::new(["Kind", "Name"]);
                for resource in &found {
                    table.row([resource.kind().as_str(), resource.name()]);
                }
                output::print_text(&table.render())?;
            }
        }
        Ok(())
    }
}

impl Rm {
    pub(super) async fn run(&self, admin: &mut Admin) -> Result<()> {
        let Which { kind, name } = &self.which;
        if name.is_empty() && *kind != Kind::AuthPreference {
            bail!("name the {kind} to delete: tctl rm {kind}/NAME");
        }
        let request = DeleteResourceRequest { kind: kind.as_str().to_owned(), name: name.clone() };
        admin.change(request).await?;
        output::print_text(&removed_text(*kind, &printable(name)))?;
        Ok(())
    }
}

fn removed_text(kind: Kind, name: &str) -> String {
    match kind {
        Kind::AuthPreference => "cluster auth preference has been reset to defaults".to_owned(),
        Kind::Database => format!("database \"{name}\" has been deleted"),
        kind => format!("{kind} \"{name}\" has been deleted"),
    }
}

/// Resources of one kind; all of them where `name` is empty.
pub(super) async fn fetch(admin: &mut Admin, kind: Kind, name: &str) -> Result<Vec<Resource>> {
    let request = GetResourcesRequest { kind: kind.as_str().to_owned(), name: name.to_owned() };
    let answer = admin.client.get_resources(request).await?.into_inner();
    let read = |resource: proto::Resource| {
        Resource::from_json(&resource.json).with_context(|| format!("{kind} {:?} as stored", resource.name))
    };
    answer.resources.into_iter().map(read).collect()
}

/// As values, for listings that print JSON.
pub(super) fn as_values(resources: &[Resource]) -> Result<Vec<serde_json::Value>> {
    resources.iter().map(|resource| Ok(serde_json::from_str(&resource.to_json())?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_read_as_administrators_know_them() {
        assert_eq!(put_text(Kind::Role, "x", true), "role 'x' has been created");
        assert_eq!(put_text(Kind::Role, "x", false), "role \"x\" has been updated");
        assert_eq!(put_text(Kind::Database, "x", true), "database \"x\" has been created");
        assert_eq!(
            put_text(Kind::AuthPreference, "cluster-auth-preference", true),
            "cluster auth preference has been updated"
        );
        assert_eq!(put_text(Kind::Lock, "x", true), "lock \"x\" has been created");
        assert_eq!(removed_text(Kind::User, "x"), "user \"x\" has been deleted");
    }

    #[test]
    fn kinds_are_named_as_people_name_them() {
        let which = |kind, name: &str| Which { kind, name: name.to_owned() };
        assert_eq!("cap".parse(), Ok(which(Kind::AuthPreference, "")));
        assert_eq!("roles/access-dev".parse(), Ok(which(Kind::Role, "access-dev")));
        assert_eq!("foo".parse::<Which>(), Err(KindError("foo".to_owned())));
    }

    #[test]
    fn all_is_what_people_wrote_in_the_order_to_create_it_again() {
        let Wanted(all) = "all".parse().unwrap();
        let kinds: Vec<_> = all.iter().map(|which| which.kind).collect();
        assert_eq!(kinds, [Kind::AuthPreference, Kind::Role, Kind::User, Kind::Lock]);
        assert!(all.iter().all(|which| which.name.is_empty()));
        assert!("all".parse::<Which>().is_err(), "nobody deletes all");
    }

    #[test]
    fn a_change_is_of_the_revision_that_was_read() {
        let role = |revision: &str| {
            let yaml = format!("kind: role\nversion: v6\nmetadata: {{name: a{revision}}}\nspec: {{}}\n");
            resource::parse_documents(&yaml).unwrap().remove(0).resource
        };
        let (known, unknown) = (role(", revision: \"7\""), role(""));
        let put = replace(&known, &unknown).unwrap();
        assert_eq!((put.expected_revision, put.force), (7, true));
        assert!(replace(&unknown, &known).is_err());
    }

    fn read(text: &str) -> Result<Vec<Parsed>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Create { force: false, file: file.path().to_owned() }.read()
    }

    #[test]
    fn one_file_may_hold_several_documents() {
        let role = "kind: role\nversion: v6\nmetadata: {name: NAME}\nspec: {allow: {logins: [jerry]}}\n";
        let text = format!("{}---\n{}", role.replace("NAME", "a"), role.replace("NAME", "b"));
        let names: Vec<_> =
            read(&text).unwrap().iter().map(|parsed| parsed.resource.name().to_owned()).collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn an_empty_file_is_an_error_not_a_success() {
        assert!(read("").unwrap_err().to_string().contains("holds no resource"));
    }

    #[test]
    fn a_wrong_document_creates_nothing_and_names_file_field_and_line() {
        let text = "kind: role\nversion: v6\nmetadata: {name: a}\nspec:\n  allow:\n    db_user: [x]\n";
        let error = format!("{:#}", read(text).unwrap_err());
        assert!(error.contains("db_user") && error.contains('6'), "{error}");
    }
}
