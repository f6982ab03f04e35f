//! The PEM files by which children of this process learn who they are: what authd signed, in one directory.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use pem::Pem;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};

use crate::{door::Papers, person::Certified};

/// A directory of them.
#[derive(Clone, Debug)]
pub(crate) struct Files(PathBuf);

impl Files {
    pub(crate) fn at(dir: &Path) -> Self {
        Self(dir.to_owned())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes `NAME.crt`, `NAME.key` and, for haproxy, both in `NAME.pem`.
    pub(crate) fn put(&self, name: &str, certified: &Certified) -> Result<()> {
        let chain = pems(&certified.chain);
        let key = pem::encode(&Pem::new("PRIVATE KEY", certified.key.secret_der()));
        self.write(&format!("{name}.crt"), &chain)?;
        self.write(&format!("{name}.key"), &key)?;
        self.write(&format!("{name}.pem"), &format!("{chain}{key}"))
    }

    /// Writes certificates alone.
    pub(crate) fn put_authorities(&self, name: &str, authorities: &[CertificateDer<'static>]) -> Result<()> {
        self.write(name, &pems(authorities))
    }

    /// Where what is called so lies, and the authorities that are called so.
    pub(crate) fn papers(&self, name: &str, authorities: &str) -> Papers {
        let path = |ending| self.path(&format!("{name}.{ending}"));
        Papers { certificate: path("crt"), key: path("key"), authorities: self.path(authorities) }
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.path(name);
        fs::write(&path, text)?;
        Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o600))?)
    }

    pub(crate) fn certificates(&self, name: &str) -> Result<Vec<CertificateDer<'static>>> {
        let path = self.path(name);
        let certificates = CertificateDer::pem_file_iter(&path)?.collect::<Result<Vec<_>, _>>();
        certificates.with_context(|| format!("certificates in {}", path.display()))
    }

    /// Reads `NAME.crt` and `NAME.key`.
    pub(crate) fn certified(&self, name: &str) -> Result<Certified> {
        let chain = self.certificates(&format!("{name}.crt"))?;
        let path = self.path(&format!("{name}.key"));
        let key = PrivatePkcs8KeyDer::from_pem_file(&path);
        let key = key.with_context(|| format!("a key in {}", path.display()))?;
        Ok(Certified { chain, key: PrivateKeyDer::Pkcs8(key) })
    }
}

fn pems(certificates: &[CertificateDer<'static>]) -> String {
    certificates.iter().map(|one| pem::encode(&Pem::new("CERTIFICATE", one.to_vec()))).collect()
}
