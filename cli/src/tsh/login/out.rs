//! `tsh login --out`: a login in files of one's own, for programs; the home is left as it is.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use auth::{identity::ClusterName, proto::LoginCertificates};
use clap::ValueEnum;
use ssh_key::LineEnding;
use zeroize::Zeroizing;

use super::Keys;
use crate::{armour, files, output::printable};

/// The forms of `--out`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(in crate::tsh) enum IdentityFormat {
    /// One file, for `tsh -i` and `tctl -i`.
    #[default]
    File,
    /// FILE and FILE-cert.pub, for OpenSSH.
    Openssh,
    /// FILE.key, FILE.crt and FILE.cas (who signs the auth service and the sidecars).
    Tls,
}

/// Where a login goes, in which form.
pub(super) struct Out<'a> {
    file: &'a Path,
    format: IdentityFormat,
}

impl<'a> Out<'a> {
    pub(super) fn new(file: &'a Path, format: IdentityFormat) -> Self {
        Self { file, format }
    }

    fn with(&self, ending: &str) -> PathBuf {
        let mut path = self.file.as_os_str().to_owned();
        path.push(ending);
        path.into()
    }

    /// The files, those with a private key first.
    fn paths(&self) -> Vec<PathBuf> {
        let endings: &[&str] = match self.format {
            IdentityFormat::File => &[""],
            IdentityFormat::Openssh => &["", "-cert.pub"],
            IdentityFormat::Tls => &[".key", ".crt", ".cas"],
        };
        endings.iter().map(|ending| self.with(ending)).collect()
    }

    /// Nothing is replaced, and nobody asked for a touch, unless that was wanted.
    pub(super) fn refuse_existing(&self) -> anyhow::Result<()> {
        match self.paths().into_iter().find(|path| path.exists()) {
            Some(path) => bail!("{} exists already; --overwrite replaces it", shown(&path)),
            None => Ok(()),
        }
    }

    /// Writes the files, all of mode 0600; answers with what to say.
    pub(super) fn write(
        &self,
        cluster: &ClusterName,
        keys: &Keys,
        certificates: &LoginCertificates,
    ) -> anyhow::Result<String> {
        let paths = self.paths();
        for (path, text) in paths.iter().zip(self.texts(cluster, keys, certificates)?) {
            files::write_private(path, text.as_bytes())
                .with_context(|| format!("cannot write {}", shown(path)))?;
        }
        let paths: Vec<_> = paths.iter().map(|path| shown(path)).collect();
        Ok(format!("The certificate has been written to {}", paths.join(",")))
    }

    fn texts(
        &self,
        cluster: &ClusterName,
        keys: &Keys,
        certificates: &LoginCertificates,
    ) -> anyhow::Result<Vec<Zeroizing<String>>> {
        let LoginCertificates { host_authorities, .. } = certificates;
        ensure!(!host_authorities.is_empty(), "the auth service does not name its authorities");
        let key = armour::private_key(&keys.tls);
        let ssh_key = keys.ssh.to_openssh(LineEnding::LF)?;
        let ssh = format!("{}\n", certificates.ssh_certificate.trim());
        let certificate = armour::certificate(&certificates.tls_certificate);
        let authorities: String = host_authorities.iter().map(|der| armour::certificate(der)).collect();
        let marker = format!("@cert-authority {cluster},*.{cluster}");
        let hosts: String = certificates
            .ssh_host_authorities
            .iter()
            .map(|authority| format!("{} {}\n", marker, authority.trim()))
            .collect();
        Ok(match self.format {
            IdentityFormat::File => vec![Zeroizing::new(
                [key.as_str(), &ssh_key, &ssh, &certificate, &authorities, &hosts].concat(),
            )],
            IdentityFormat::Openssh => vec![ssh_key, ssh.into()],
            IdentityFormat::Tls => vec![key, certificate.into(), authorities.into()],
        })
    }
}

fn shown(path: &Path) -> String {
    printable(&path.display().to_string())
}
