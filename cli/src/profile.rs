//! A login as it lies on disk: who, where, until when, and the key that proves it.

use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

use auth::{
    api::ClientIdentity,
    identity::{ClusterName, UserName},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    home::{self, Home, HomeError},
    proxy_address::ProxyAddress,
    trust,
};

mod certificate;
mod identity_file;

pub use certificate::CertificateFacts;
pub use identity_file::{IdentityFile, warning as identity_file_warning};

/// One proxy's profile: which user is logged in there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Where the auth service is.
    pub proxy: ProxyAddress,
    /// The user.
    pub user: UserName,
    /// The cluster.
    pub cluster: ClusterName,
}

/// Which profile a command means.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// `--proxy`; else the current profile.
    pub proxy: Option<ProxyAddress>,
    /// `--user`; else the profile's.
    pub user: Option<UserName>,
    /// `--cluster`, which must be the profile's.
    pub cluster: Option<String>,
    /// `--identity`: a file in place of the profile and its login.
    pub identity: Option<PathBuf>,
}

/// A usable login: in date when it was loaded.
pub struct Login {
    /// Who and where.
    pub profile: Profile,
    /// What the login certificate says.
    pub facts: CertificateFacts,
    /// The host authorities that are trusted.
    pub authorities: Vec<CertificateDer<'static>>,
    /// True for one of an identity file: nothing of it is in the home, or is to be kept there.
    pub is_from_file: bool,
    certificate: CertificateDer<'static>,
    key: Zeroizing<PrivatePkcs8KeyDer<'static>>,
}

/// Why there is no usable login.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// No profile fits.
    #[error("not logged in, run: tsh login --proxy=HOST:PORT --user=USER")]
    NoProfile,
    /// There is a profile, but its certificate is gone.
    #[error("not logged in, run: {}", login_command(.0))]
    LoggedOut(Profile),
    /// The login certificate's life is over.
    #[error("your login has expired, run: {}", login_command(profile))]
    Expired {
        /// Whose.
        profile: Profile,
        /// When it ended.
        not_after: SystemTime,
    },
    /// Another cluster was asked for.
    #[error("cluster {asked:?} is not found, you are logged in to {}", profile.cluster)]
    Cluster {
        /// Which.
        asked: String,
        /// What there is.
        profile: Profile,
    },
    /// An identity file alone does not say where its cluster is.
    #[error("no proxy address specified, missed --proxy flag? An identity file needs it")]
    NoProxy,
    /// An identity file of somebody else than was asked for.
    #[error("the identity file is of user {of}, not of {asked}")]
    OtherUser {
        /// Whose it is.
        of: String,
        /// Whose was asked for.
        asked: UserName,
    },
    /// The identity file's life is over.
    #[error("the identity file {} has expired, make a new one: {} --out={}", path.display(), login_command(profile), path.display())]
    FileExpired {
        /// Which file.
        path: PathBuf,
        /// Whose.
        profile: Profile,
    },
    /// It cannot be read as what it should be.
    #[error("{} is no identity file ({why}), make one with: tsh login --out=FILE", path.display())]
    NoIdentity {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
    /// A file cannot be used.
    #[error(transparent)]
    Home(#[from] HomeError),
}

/// The command that logs in to a profile again.
#[must_use]
pub fn login_command(profile: &Profile) -> String {
    let user =
        shlex::try_quote(profile.user.as_str()).map_or_else(|_| "USER".into(), |user| user.into_owned());
    format!("tsh login --proxy={} --user={user}", profile.proxy)
}

impl Profile {
    /// The profile that a command means.
    ///
    /// # Errors
    /// [`LoginError`] says what to do.
    pub fn load(home: &Home, selection: &Selection) -> Result<Self, LoginError> {
        let profile = match &selection.identity {
            Some(path) => IdentityFile::read(path)?.profile(path, selection)?,
            None => Self::saved(home, selection)?,
        };
        match &selection.cluster {
            Some(asked) if asked != profile.cluster.as_str() => {
                Err(LoginError::Cluster { asked: asked.clone(), profile })
            }
            _ => Ok(profile),
        }
    }

    fn saved(home: &Home, selection: &Selection) -> Result<Self, LoginError> {
        let proxy = match &selection.proxy {
            Some(proxy) => proxy.clone(),
            None => current_proxy(home)?.ok_or(LoginError::NoProfile)?,
        };
        let mut profile = read_profile(&home.profile(&proxy))?.ok_or(LoginError::NoProfile)?;
        if let Some(user) = &selection.user {
            profile.user = user.clone();
        }
        Ok(profile)
    }

    /// Every profile of the home, in the order of their names.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn all(home: &Home) -> Result<Vec<Self>, HomeError> {
        let mut profiles = Vec::new();
        let entries = match std::fs::read_dir(home.root()) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(profiles),
            entries => entries.map_err(|source| HomeError::Io { path: home.root().to_owned(), source })?,
        };
        let mut paths: Vec<_> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        {
            profiles.extend(read_profile(path)?);
        }
        Ok(profiles)
    }

    /// Saves the profile and makes it the current one.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn save(&self, home: &Home) -> Result<(), HomeError> {
        let path = home.profile(&self.proxy);
        let yaml = serde_saphyr::to_string(self)
            .map_err(|error| HomeError::Damaged { path: path.clone(), why: error.to_string() })?;
        home::write(&path, yaml.as_bytes())?;
        home::write(&home.current_profile(), format!("{}\n", self.proxy).as_bytes())
    }
}

/// The proxy that commands without `--proxy` mean.
///
/// # Errors
/// [`HomeError`].
pub fn current_proxy(home: &Home) -> Result<Option<ProxyAddress>, HomeError> {
    let path = home.current_profile();
    let Some(text) = home::read(&path)? else { return Ok(None) };
    let proxy = text.trim().parse().map_err(|_| HomeError::Damaged { path, why: "no address".to_owned() })?;
    Ok(Some(proxy))
}

fn read_profile(path: &Path) -> Result<Option<Profile>, HomeError> {
    let Some(yaml) = home::read(path)? else { return Ok(None) };
    serde_saphyr::from_str(&yaml)
        .map(Some)
        .map_err(|error| HomeError::Damaged { path: path.to_owned(), why: error.to_string() })
}

impl Login {
    /// The login that a command means, where it is in date at `now`.
    ///
    /// # Errors
    /// [`LoginError`] says what to do.
    pub fn load(home: &Home, selection: &Selection, now: SystemTime) -> Result<Self, LoginError> {
        if let Some(path) = &selection.identity {
            let profile = Profile::load(home, selection)?;
            return IdentityFile::read(path)?.login(path, profile, now);
        }
        // Key and certificate of one login, not of two.
        let _reading = home.lock_to_read()?;
        let profile = Profile::load(home, selection)?;
        let files = home.user(&profile.proxy, &profile.user);
        let (Some(certificate), Some(key)) =
            (home::read(&files.tls_certificate())?, home::read(&files.tls_key())?.map(Zeroizing::new))
        else {
            return Err(LoginError::LoggedOut(profile));
        };
        let (certificate, facts) = parse_certificate(&files.tls_certificate(), &certificate)?;
        if facts.not_after <= now {
            return Err(LoginError::Expired { profile, not_after: facts.not_after });
        }
        let key = PrivatePkcs8KeyDer::from_pem_slice(key.as_bytes())
            .map_err(|_| damaged(&files.tls_key(), "not a private key"))?;
        let authorities = trust::saved(home, &profile.proxy)?;
        let key = Zeroizing::new(key);
        Ok(Self { profile, facts, authorities, is_from_file: false, certificate, key })
    }

    /// The login as a client certificate.
    #[must_use]
    pub fn identity(&self) -> ClientIdentity {
        let key = PrivateKeyDer::Pkcs8(self.key.clone_key());
        ClientIdentity { chain: vec![self.certificate.clone()], key }
    }
}

/// What the certificate in a file says; `None` where there is no such file.
///
/// # Errors
/// [`HomeError`].
pub fn facts_in(path: &Path) -> Result<Option<CertificateFacts>, HomeError> {
    let Some(pem) = home::read(path)? else { return Ok(None) };
    parse_certificate(path, &pem).map(|(_, facts)| Some(facts))
}

fn parse_certificate(
    path: &Path,
    pem: &str,
) -> Result<(CertificateDer<'static>, CertificateFacts), HomeError> {
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).ok();
    let read = certificate.and_then(|der| CertificateFacts::of(&der).map(|facts| (der, facts)));
    read.ok_or_else(|| damaged(path, "not a certificate"))
}

fn damaged(path: &Path, why: &str) -> HomeError {
    HomeError::Damaged { path: path.to_owned(), why: why.to_owned() }
}

#[cfg(test)]
mod tests;
