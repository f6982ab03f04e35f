//! `tsh logout`: keys and certificates go; what is trusted stays, so that the next login needs no new first trust.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{context::Context, db::saved::Saved};
use crate::{
    home::{self, AUTHORITIES, Home, HomeError},
    output::print_text,
    profile::{Profile, Selection},
};

pub(super) fn run(context: &Context) -> anyhow::Result<()> {
    context.refuse_identity()?;
    let _leaving = context.home.lock()?;
    if context.selection.proxy.is_none() && context.selection.user.is_none() {
        forget_all(&context.home)?;
        return Ok(print_text("Logged out all users from all proxies.")?);
    }
    // Whatever cluster others commands are for, it is these files that go.
    let selection = Selection { cluster: None, ..context.selection.clone() };
    let profile = Profile::load(&context.home, &selection)?;
    forget(&context.home, &profile)?;
    Ok(print_text(&format!("Logged out {} from {}.", profile.user, profile.proxy))?)
}

/// Removes every user's files at every proxy: a profile names the last user alone, so what others left is swept up.
/// A profile that cannot be read does not keep the keys.
fn forget_all(home: &Home) -> anyhow::Result<()> {
    let profiles = Profile::all(home);
    let forgotten = profiles.as_deref().unwrap_or_default().iter().map(|profile| forget(home, profile));
    let forgotten: Vec<_> = forgotten.collect();
    sweep(home)?;
    home::remove(&home.current_profile())?;
    profiles?;
    forgotten.into_iter().collect()
}

fn sweep(home: &Home) -> Result<(), HomeError> {
    for proxy in entries(&home.all_keys())? {
        for path in entries(&proxy)?.into_iter().filter(|path| !path.ends_with(AUTHORITIES)) {
            if path.is_dir() {
                remove_directory(&path)?;
            } else {
                home::remove(&path)?;
            }
        }
    }
    Ok(())
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, HomeError> {
    let failed = |source| HomeError::Io { path: directory.to_owned(), source };
    let entries = match std::fs::read_dir(directory) {
        Err(error) if [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory].contains(&error.kind()) => {
            return Ok(Vec::new());
        }
        entries => entries.map_err(failed)?,
    };
    entries.map(|entry| entry.map(|entry| entry.path()).map_err(failed)).collect()
}

/// Removes one user's files at one proxy, private keys first.
fn forget(home: &Home, profile: &Profile) -> anyhow::Result<()> {
    let files = home.user(&profile.proxy, &profile.user);
    home::remove(&files.tls_key())?;
    home::remove(&files.ssh_key())?;
    for saved in Saved::all(home, profile)? {
        saved.remove(home, profile)?;
    }
    for file in [files.tls_certificate(), files.ssh_public_key()] {
        home::remove(&file)?;
    }
    remove_directory(&files.ssh_directory())?;
    remove_directory(&files.databases())?;
    let selection = Selection { proxy: Some(profile.proxy.clone()), ..Selection::default() };
    if Profile::load(home, &selection).is_ok_and(|current| current.user == profile.user) {
        home::remove(&home.profile(&profile.proxy))?;
    }
    Ok(())
}

fn remove_directory(path: &Path) -> Result<(), HomeError> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(HomeError::Io { path: path.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use auth::identity::{ClusterName, UserName};

    use super::*;

    #[test]
    fn nothing_secret_stays_and_trust_does() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(directory.path());
        let profile = Profile {
            proxy: "h:1".parse().unwrap(),
            user: UserName::new("alice").unwrap(),
            cluster: ClusterName::new("main").unwrap(),
        };
        profile.save(&home).unwrap();
        let files = home.user(&profile.proxy, &profile.user);
        let authorities = home.authorities(&profile.proxy).join("main.pem");
        for file in
            [files.tls_key(), files.ssh_key(), files.ssh_certificate(&profile.cluster), authorities.clone()]
        {
            home::write(&file, b"x").unwrap();
        }
        forget(&home, &profile).unwrap();
        assert!(!files.tls_key().exists() && !files.ssh_key().exists() && !files.ssh_directory().exists());
        assert!(!home.profile(&profile.proxy).exists());
        assert!(authorities.exists());
    }

    #[test]
    fn logging_out_everybody_leaves_no_key_of_anybody() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(directory.path());
        let proxy: crate::proxy_address::ProxyAddress = "h:1".parse().unwrap();
        let cluster = ClusterName::new("main").unwrap();
        for name in ["alice", "bob"] {
            let user = UserName::new(name).unwrap();
            let files = home.user(&proxy, &user);
            for file in [files.tls_key(), files.ssh_key(), files.databases().join("main/pg-x509.key")] {
                home::write(&file, b"x").unwrap();
            }
            Profile { proxy: proxy.clone(), user, cluster: cluster.clone() }.save(&home).unwrap();
        }
        let authorities = home.authorities(&proxy).join("main.pem");
        home::write(&authorities, b"x").unwrap();
        home::write(&home.root().join("damaged.yaml"), b"{").unwrap();
        assert!(forget_all(&home).is_err(), "what is damaged is told");
        assert_eq!(entries(&home.keys(&proxy)).unwrap(), [home.authorities(&proxy)]);
        assert!(authorities.exists());
    }
}
