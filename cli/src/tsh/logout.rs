//! `tsh logout`: keys and certificates go; what is trusted stays, so that the next login needs no new first trust.

use std::{io, path::Path};

use super::{context::Context, db::saved::Saved};
use crate::{
    home::{self, Home, HomeError},
    output::print_text,
    profile::Profile,
};

pub(super) fn run(context: &Context) -> anyhow::Result<()> {
    if context.selection.proxy.is_none() && context.selection.user.is_none() {
        for profile in Profile::all(&context.home)? {
            forget(&context.home, &profile)?;
        }
        home::remove(&context.home.current_profile())?;
        return Ok(print_text("Logged out all users from all proxies.")?);
    }
    let profile = Profile::load(&context.home, &context.selection)?;
    forget(&context.home, &profile)?;
    Ok(print_text(&format!("Logged out {} from {}.", profile.user, profile.proxy))?)
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
    let selection = crate::profile::Selection { proxy: Some(profile.proxy.clone()), user: None };
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
}
