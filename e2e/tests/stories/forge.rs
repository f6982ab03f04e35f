//! Certificates that nobody should accept, written with the project's own writer and, where the story asks for it, with
//! the stolen keys of the real authorities.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result};
use auth::{
    certificate::x509::{self, RECEIPT_OID_DER, receipt_extension_value},
    clock::Clock,
    identity::{ClusterName, Identity, MfaEvidence},
};
use authd::{
    ca::{Attribute, Authority, AuthorityKind, AuthorityRecord, Extension, P256PublicKey, Template, Usage},
    store::{self, Sqlite},
};
use e2e::{Authd, Psql, Sidecar, Tctl, World};
use rustls_pki_types::{CertificateDer, pem::PemObject};

/// A day, for certificates of yesterday and tomorrow.
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

/// The private keys of a real authority, taken out of authd's own storage.
pub(crate) fn stolen_authority(authd: &Authd, kind: AuthorityKind) -> Result<Authority> {
    let database = authd.data_dir().join("store.sqlite");
    let store = Sqlite::open(&database, Clock::system())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let key = store::key(&["authority", kind.as_str()]);
    let record = runtime.block_on(store::read::<AuthorityRecord>(&store, &key))?;
    Ok(Authority::from_record(kind, &record.context("no such authority")?.value)?)
}

/// An authority of the same name with a key of the forger's.
pub(crate) fn pretended_authority(kind: AuthorityKind) -> Result<Authority> {
    Ok(Authority::generate(kind, "main", SystemTime::now())?)
}

/// Who a certificate in a file says is there.
pub(crate) fn identity(tctl: &Tctl, file: &Path) -> Result<Identity> {
    let certificate = CertificateDer::from_pem_file(file)?;
    let authority = CertificateDer::from_pem_slice(tctl.export("tls-user")?.as_bytes())?;
    let cluster = ClusterName::new("main")?;
    Ok(x509::verify_user(&[certificate], &[authority], &cluster, SystemTime::now())?.identity)
}

/// A certificate to be written, with a key of its own.
pub(crate) struct Forgery {
    template: Template,
    key: Vec<u8>,
}

impl Forgery {
    /// Everything as authd would say it of this identity, from now on for an hour.
    pub(crate) fn of(identity: &Identity) -> Result<Self> {
        let (key, public_key) = auth::key::generate_p256()?;
        let subject = x509::subject(identity).into_iter();
        let extensions = match &identity.mfa {
            MfaEvidence::Receipt { receipt, .. } => {
                vec![Extension { oid_der: RECEIPT_OID_DER.to_vec(), value: receipt_extension_value(receipt) }]
            }
            MfaEvidence::None | MfaEvidence::Claimed { .. } => vec![],
        };
        let now = SystemTime::now();
        let template = Template {
            subject: subject
                .map(|attribute| Attribute { oid: attribute.oid, value: attribute.value })
                .collect(),
            public_key: P256PublicKey::from_spki(&public_key)?,
            not_before: now - Duration::from_secs(60),
            not_after: now + Duration::from_secs(3600),
            usage: Usage::Client,
            names: vec![],
            extensions,
        };
        Ok(Self { template, key: key.secret_pkcs8_der().to_vec() })
    }

    /// Valid at another time.
    pub(crate) fn between(mut self, not_before: SystemTime, not_after: SystemTime) -> Self {
        (self.template.not_before, self.template.not_after) = (not_before, not_after);
        self
    }

    /// With another subject.
    pub(crate) fn subject(mut self, subject: Vec<Attribute>) -> Self {
        self.template.subject = subject;
        self
    }

    /// Signs it and shows it to a sidecar by psql: what psql says then.
    pub(crate) fn shown_to(self, world: &World, sidecar: &Sidecar, authority: &Authority) -> Result<String> {
        self.psql(world, sidecar, authority)?.query("SELECT 'let in'")?.error()
    }

    /// Signs it; a psql that would show it.
    pub(crate) fn psql(self, world: &World, sidecar: &Sidecar, authority: &Authority) -> Result<Psql> {
        let (certificate, key) = self.files(world.path(), authority)?;
        Ok(world.psql(sidecar)?.certificate(&certificate, &key))
    }

    /// Signs it: certificate and key in files below `dir`.
    pub(crate) fn files(self, dir: &Path, authority: &Authority) -> Result<(PathBuf, PathBuf)> {
        let issued = authority.sign(&self.template)?;
        let prefix = dir.join(format!("forged-{}", issued.serial_hex));
        let file = |ending: &str, label: &str, der: &[u8]| -> Result<PathBuf> {
            let path = prefix.with_extension(ending);
            fs::write(&path, pem::encode(&pem::Pem::new(label, der)))?;
            fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
            Ok(path)
        };
        Ok((file("crt", "CERTIFICATE", &issued.der)?, file("key", "PRIVATE KEY", &self.key)?))
    }
}
