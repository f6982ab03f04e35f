//! `tctl edit`: a resource in the editor of one's choice. It goes back only in the place of what was read.

use std::{
    env,
    fs::Permissions,
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use anyhow::{Context, Result, bail, ensure};
use auth::resource::{self, Kind, Parsed, Resource};
use tempfile::TempDir;
use tokio::process::Command;

use super::{
    Admin,
    resources::{self, WRITTEN_BY_PEOPLE, Which},
};
use crate::{
    client, files,
    interrupt::unless_cancelled,
    output::{print_text, printable},
};

/// Change a resource in an editor.
#[derive(Debug, clap::Args)]
pub(super) struct Edit {
    /// What to change
    #[arg(value_name = "KIND/NAME")]
    which: Which,
}

/// What edits where nobody says.
const EDITOR: &str = "vi";

impl Edit {
    pub(super) async fn run(&self, admin: &mut Admin) -> Result<()> {
        let Which { kind, name } = &self.which;
        if name.is_empty() && *kind != Kind::AuthPreference {
            bail!("name the {kind} to edit: tctl edit {kind}/NAME");
        }
        // Tokens are not changed but removed, databases and nodes are announced by their sidecars.
        if !WRITTEN_BY_PEOPLE.contains(kind) {
            bail!("a {kind} cannot be edited, only role, user, cap and lock");
        }
        let before = resources::fetch_one(admin, *kind, name).await?;
        // Editors leave copies beside the file: nobody else sees into the directory.
        let directory = tempfile::Builder::new()
            .prefix("tctl-edit-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir()
            .context("cannot make a directory for the text")?;
        let path = directory.path().join(format!("{kind}.yaml"));
        let yaml = before.to_yaml();
        files::write_private(&path, yaml.as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))?;
        let edited = client::run(editor(&path)?, "it is not installed, set EDITOR to another").await;
        edited.context("not changed, the editor did not end well")?;
        let text = files::read_optional_text(&path);
        let text = text.with_context(|| format!("cannot read {}", path.display()))?.unwrap_or_default();
        if text == yaml {
            return Ok(print_text(&format!("{} has not been changed", named(&before)))?);
        }
        let put = async {
            let Parsed { resource, notices } = read(&text, &before)?;
            for notice in notices {
                let _ = writeln!(io::stderr(), "NOTICE: {}: {}", named(&before), printable(&notice));
            }
            admin.change(resources::replace(&before, &resource)?).await?;
            Ok(resource)
        };
        // The editor's Ctrl-C is its own; ours has to be asked for since.
        let put = Box::pin(unless_cancelled(put)).await.map_err(Into::into).flatten();
        let resource = put.map_err(|error: anyhow::Error| kept(error, directory))?;
        Ok(print_text(&resources::put_text(resource.kind(), &printable(resource.name()), false))?)
    }
}

/// `role "access-dev"`
fn named(resource: &Resource) -> String {
    format!("{} \"{}\"", resource.kind(), printable(resource.name()))
}

/// `$VISUAL`, `$EDITOR`: a program, maybe with arguments.
fn editor(path: &Path) -> Result<Command> {
    let set = |name| env::var(name).ok().filter(|value| !value.trim().is_empty());
    let line = set("VISUAL").or_else(|| set("EDITOR")).unwrap_or_else(|| EDITOR.to_owned());
    let mut words = shlex::split(&line).unwrap_or_default().into_iter();
    let program = words.next().with_context(|| format!("EDITOR cannot be read: {}", printable(&line)))?;
    let mut command = Command::new(program);
    command.args(words).arg(path);
    Ok(command)
}

/// What was written: one resource, and the same one.
fn read(text: &str, before: &Resource) -> Result<Parsed> {
    let mut documents = resource::parse_documents(text)?;
    let edited = documents.pop().filter(|_| documents.is_empty());
    let edited = edited.with_context(|| format!("the text must hold {} and nothing else", named(before)))?;
    ensure!(
        (edited.resource.kind(), edited.resource.name()) == (before.kind(), before.name()),
        "{} is not {}: kind and name cannot be changed",
        named(&edited.resource),
        named(before)
    );
    Ok(edited)
}

/// Work is not thrown away because it could not be used.
fn kept(error: anyhow::Error, directory: TempDir) -> anyhow::Error {
    let path = directory.keep();
    error.context(format!("not changed, what you wrote is kept in {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLE: &str = "kind: role\nversion: v6\nmetadata: {name: a}\nspec: {allow: {logins: [jerry]}}\n";

    fn complaint(text: &str) -> String {
        let before = resource::parse_documents(ROLE).unwrap().remove(0).resource;
        format!("{:#}", read(text, &before).err().unwrap())
    }

    #[test]
    fn one_resource_is_edited_and_stays_itself() {
        let before = resource::parse_documents(ROLE).unwrap().remove(0).resource;
        assert!(read(&ROLE.replace("jerry", "olga"), &before).is_ok());
        assert_eq!(
            complaint(&ROLE.replace("name: a", "name: b")),
            "role \"b\" is not role \"a\": kind and name cannot be changed"
        );
        for text in [String::new(), format!("{ROLE}---\n{ROLE}")] {
            assert_eq!(complaint(&text), "the text must hold role \"a\" and nothing else");
        }
        assert!(complaint(&ROLE.replace("logins", "login")).contains("login"));
    }

    #[test]
    fn what_could_not_be_used_is_kept_and_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_owned();
        std::fs::write(path.join("role.yaml"), "x").unwrap();
        let error = format!("{:#}", kept(anyhow::anyhow!("no such field"), directory));
        assert!(error.contains(path.to_str().unwrap()) && error.ends_with(": no such field"), "{error}");
        assert!(path.join("role.yaml").is_file());
        std::fs::remove_dir_all(path).unwrap();
    }
}
