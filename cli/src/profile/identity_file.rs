//! A login in one file, for programs: what `tsh login --out` writes and `-i` reads. It is a login certificate like that of
//! `~/.tsh`, so a session that needs a touch needs one all the same.
//!
//! ```text
//! -----BEGIN PRIVATE KEY-----            of the login certificate (PKCS #8)
//! -----BEGIN OPENSSH PRIVATE KEY-----    of the SSH certificate
//! ssh-ed25519-cert-v01@openssh.com …     the SSH certificate
//! -----BEGIN CERTIFICATE-----            the login certificate
//! -----BEGIN CERTIFICATE-----            the host authorities, one or more
//! @cert-authority main,*.main …          who signs SSH hosts
//! ```
//!
//! Teleport's file has the same parts in the same order, with one key in the place of our two.

use std::{os::unix::fs::PermissionsExt, path::Path, time::SystemTime};

use auth::identity::{ClusterName, UserName};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, pem::PemObject};
use zeroize::Zeroizing;

use super::{CertificateFacts, Login, LoginError, Profile, Selection};
use crate::{files, home::HomeError, output::printable};

/// An identity file that was read.
pub struct IdentityFile {
    key: Zeroizing<PrivatePkcs8KeyDer<'static>>,
    certificate: CertificateDer<'static>,
    facts: CertificateFacts,
    authorities: Vec<CertificateDer<'static>>,
    ssh_certificate: Option<String>,
}

/// What is said about an identity file that others can read or change; `None` where they cannot.
#[must_use]
pub fn warning(path: &Path) -> Option<String> {
    let mode = std::fs::metadata(path).ok()?.permissions().mode() & 0o777;
    let path = printable(&path.display().to_string());
    (mode & 0o077 != 0).then(|| {
        format!(
            "WARNING: the identity file {path} is open to others (mode {mode:04o}), run: chmod 600 {path}"
        )
    })
}

impl IdentityFile {
    /// Reads the file.
    ///
    /// # Errors
    /// [`LoginError::NoIdentity`], or [`LoginError::Home`] where it cannot be read.
    pub fn read(path: &Path) -> Result<Self, LoginError> {
        let no_identity = |why| LoginError::NoIdentity { path: path.to_owned(), why };
        let text = match files::read_optional_text(path) {
            Ok(Some(text)) => Zeroizing::new(text),
            Ok(None) => return Err(no_identity("there is no such file")),
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                return Err(no_identity("it is not text"));
            }
            Err(source) => return Err(HomeError::Io { path: path.to_owned(), source }.into()),
        };
        Self::parse(&text).map_err(no_identity)
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let key = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes())
            .map_err(|_| "it holds no private key that tsh writes")?;
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
        let mut certificates = certificates.map_err(|_| "it holds a damaged certificate")?.into_iter();
        let certificate = certificates.next().ok_or("it holds no certificate")?;
        let facts = CertificateFacts::of(&certificate).ok_or("it holds no login certificate")?;
        let authorities: Vec<_> = certificates.collect();
        if authorities.is_empty() {
            return Err("it names no authority to verify the auth service by");
        }
        let is_certificate =
            |line: &&str| line.split(' ').next().is_some_and(|word| word.contains("-cert-v01@"));
        let ssh_certificate = text.lines().find(is_certificate).map(str::to_owned);
        Ok(Self { key: Zeroizing::new(key), certificate, facts, authorities, ssh_certificate })
    }

    /// Who and where: as the certificate says. Where the cluster is, only the selection says.
    ///
    /// # Errors
    /// The file is somebody else's, or it is not said where its cluster is.
    pub(super) fn profile(&self, path: &Path, selection: &Selection) -> Result<Profile, LoginError> {
        let proxy = selection.proxy.clone().ok_or(LoginError::NoProxy)?;
        let no_identity = |why| LoginError::NoIdentity { path: path.to_owned(), why };
        let user = UserName::new(self.facts.user.as_str())
            .map_err(|_| no_identity("its certificate names no user"))?;
        let cluster = self.facts.cluster.as_deref().and_then(|cluster| ClusterName::new(cluster).ok());
        let cluster = cluster.ok_or_else(|| no_identity("its certificate names no cluster"))?;
        match &selection.user {
            Some(asked) if *asked != user => {
                Err(LoginError::OtherUser { of: user.to_string(), asked: asked.clone() })
            }
            _ => Ok(Profile { proxy, user, cluster }),
        }
    }

    /// The login, where it is in date.
    pub(super) fn login(self, path: &Path, profile: Profile, now: SystemTime) -> Result<Login, LoginError> {
        let Self { key, certificate, facts, authorities, .. } = self;
        if facts.not_after <= now {
            return Err(LoginError::FileExpired { path: path.to_owned(), profile });
        }
        Ok(Login { profile, facts, authorities, is_from_file: true, certificate, key })
    }

    /// What its certificate says.
    #[must_use]
    pub fn facts(&self) -> &CertificateFacts {
        &self.facts
    }

    /// Its SSH certificate.
    #[must_use]
    pub fn ssh_certificate(&self) -> Option<&str> {
        self.ssh_certificate.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        IdentityFile::read(file.path()).err().unwrap().to_string()
    }

    #[test]
    fn what_is_no_identity_file_is_said_with_the_reason() {
        let block = |name: &str| format!("-----BEGIN {name}-----\nAQID\n-----END {name}-----\n");
        let key = block("PRIVATE KEY");
        for (text, why) in [
            (String::new(), "it holds no private key that tsh writes"),
            (block("RSA PRIVATE KEY"), "it holds no private key that tsh writes"),
            (key.clone(), "it holds no certificate"),
            (format!("{key}{}", block("CERTIFICATE")), "it holds no login certificate"),
        ] {
            let said = refused(&text);
            assert!(said.contains(&format!("is no identity file ({why}), make one with:")), "{said}");
        }
        let gone = IdentityFile::read(Path::new("/no/such/file")).err().unwrap().to_string();
        assert!(gone.starts_with("/no/such/file is no identity file (there is no such file)"), "{gone}");
    }

    #[test]
    fn a_file_that_others_can_read_is_warned_of_and_another_is_not() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mode = |mode| {
            std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            warning(file.path())
        };
        assert_eq!(mode(0o600), None);
        assert_eq!(mode(0o400), None);
        assert!(mode(0o640).unwrap().contains("is open to others (mode 0640), run: chmod 600"));
        assert_eq!(warning(Path::new("/no/such/file")), None, "told elsewhere");
    }
}
