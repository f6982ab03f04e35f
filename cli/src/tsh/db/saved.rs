//! A database of `tsh db login`: what it is, where it is, and its certificate, on disk.

use std::{path::PathBuf, time::SystemTime};

use anyhow::{bail, ensure};
use auth::identity::TargetName;
use serde::{Deserialize, Serialize};

use super::{my_cnf, mysql_options, pg_service};
use crate::{
    client::mysql,
    database::DatabaseProtocol,
    files::file_name,
    home::{self, Home, HomeError},
    output::printable,
    profile::{self, Profile},
    trust,
};

/// What `tsh db login` keeps beside the certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::tsh) struct Saved {
    /// Name of the database as a target.
    pub(in crate::tsh) name: TargetName,
    /// What it speaks; those that were saved before there was a choice speak PostgreSQL.
    #[serde(default)]
    pub(in crate::tsh) protocol: DatabaseProtocol,
    /// Database user.
    pub(in crate::tsh) user: String,
    /// Database name; for MySQL it may be empty.
    pub(in crate::tsh) database: String,
    /// Where the sidecar listens.
    pub(in crate::tsh) host: String,
    /// Its port.
    pub(in crate::tsh) port: u16,
}

/// The files that a client of one's own needs.
#[derive(Clone, Debug)]
pub(in crate::tsh) struct SavedFiles {
    /// The authorities that the sidecar's certificate chains to.
    pub(in crate::tsh) authorities: PathBuf,
    /// The certificate.
    pub(in crate::tsh) certificate: PathBuf,
    /// Its key.
    pub(in crate::tsh) key: PathBuf,
    record: PathBuf,
}

fn directory(home: &Home, profile: &Profile) -> PathBuf {
    home.user(&profile.proxy, &profile.user).databases().join(file_name(profile.cluster.as_str()))
}

impl Saved {
    /// Every database of the profile, by name.
    pub(in crate::tsh) fn all(home: &Home, profile: &Profile) -> Result<Vec<Self>, HomeError> {
        let directory = directory(home, profile);
        let entries = match std::fs::read_dir(&directory) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|source| HomeError::Io { path: directory.clone(), source })?,
        };
        let mut all = Vec::new();
        for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
            if path.extension().is_some_and(|extension| extension == "yaml") {
                // None: somebody logs out of it just now.
                let Some(yaml) = home::read(&path)? else { continue };
                let saved = serde_saphyr::from_str(&yaml)
                    .map_err(|error| HomeError::Damaged { path: path.clone(), why: error.to_string() })?;
                all.push(saved);
            }
        }
        all.sort_by(|a: &Self, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// The database of that name, where its certificate is in date.
    pub(in crate::tsh) fn current(
        home: &Home,
        profile: &Profile,
        name: &str,
        now: SystemTime,
    ) -> Result<Option<Self>, HomeError> {
        let found = Self::all(home, profile)?.into_iter().find(|saved| saved.name.as_str() == name);
        let Some(saved) = found else { return Ok(None) };
        let facts = profile::facts_in(&saved.files(home, profile).certificate)?;
        Ok(facts.filter(|facts| facts.not_after > now).map(|_| saved))
    }

    /// The database that a command means: the named one, or the only one.
    pub(in crate::tsh) fn chosen(home: &Home, profile: &Profile, name: Option<&str>) -> anyhow::Result<Self> {
        choose(Self::all(home, profile)?, name)
    }

    pub(in crate::tsh) fn files(&self, home: &Home, profile: &Profile) -> SavedFiles {
        let directory = directory(home, profile);
        let name = file_name(self.name.as_str());
        SavedFiles {
            authorities: trust::authorities_file(home, &profile.proxy, &profile.cluster),
            certificate: directory.join(format!("{name}-x509.pem")),
            key: directory.join(format!("{name}-x509.key")),
            record: directory.join(format!("{name}.yaml")),
        }
    }

    /// Writes certificate, key, record, and the section of the clients' own file; the record after what it stands for.
    /// Takes the home's lock: of two at once, neither loses the other's section.
    pub(in crate::tsh) async fn keep(
        &self,
        home: &Home,
        profile: &Profile,
        certificate_pem: &str,
        key_pem: &str,
    ) -> anyhow::Result<()> {
        let files = self.files(home, profile);
        ensure!(
            self.protocol != DatabaseProtocol::Postgres || !files.key.to_string_lossy().contains(':'),
            "libpq cannot use a key whose path holds a colon: set TSH_HOME to another place than {}",
            home.root().display()
        );
        let flavour = match self.protocol {
            DatabaseProtocol::Postgres => None,
            DatabaseProtocol::Mysql => Some(mysql::installed().await.unwrap_or_default().flavour),
        };
        let _keeping = home.lock()?;
        home::write(&files.key, key_pem.as_bytes())?;
        home::write(&files.certificate, certificate_pem.as_bytes())?;
        home::write(&files.record, serde_saphyr::to_string(self)?.as_bytes())?;
        match flavour {
            None => pg_service::add(&self.service(profile), &self.settings(&files)),
            Some(flavour) => {
                my_cnf::add(&mysql_options::groups(self, &files, self.service(profile), flavour))
            }
        }
    }

    /// Removes all of it, the key first. The caller holds the home's lock.
    pub(in crate::tsh) fn remove(&self, home: &Home, profile: &Profile) -> anyhow::Result<()> {
        let files = self.files(home, profile);
        for file in [&files.key, &files.certificate, &files.record] {
            home::remove(file)?;
        }
        match self.protocol {
            DatabaseProtocol::Postgres => pg_service::remove(&self.service(profile)),
            DatabaseProtocol::Mysql => my_cnf::remove(&self.service(profile)),
        }
    }

    /// `<cluster>-<database>`
    pub(in crate::tsh) fn service(&self, profile: &Profile) -> String {
        format!("{}-{}", profile.cluster, self.name)
    }

    /// What libpq needs to know, in its own words.
    pub(in crate::tsh) fn settings(&self, files: &SavedFiles) -> Vec<(&'static str, String)> {
        let path = |path: &PathBuf| path.display().to_string();
        vec![
            ("host", self.host.clone()),
            ("port", self.port.to_string()),
            ("user", self.user.clone()),
            ("dbname", self.database.clone()),
            ("sslmode", "verify-full".to_owned()),
            ("sslrootcert", path(&files.authorities)),
            ("sslcert", path(&files.certificate)),
            ("sslkey", path(&files.key)),
        ]
    }
}

fn choose(all: Vec<Saved>, name: Option<&str>) -> anyhow::Result<Saved> {
    if all.is_empty() {
        bail!("please login using 'tsh db login' first");
    }
    match name {
        Some(name) => match all.into_iter().find(|saved| saved.name.as_str() == name) {
            Some(saved) => Ok(saved),
            None => bail!("Not logged into database \"{}\"", printable(name)),
        },
        None => {
            let names: Vec<String> = all.iter().map(|saved| saved.name.to_string()).collect();
            match <[Saved; 1]>::try_from(all) {
                Ok([saved]) => Ok(saved),
                Err(_) => bail!(
                    "Multiple databases are available ({}), please specify one using CLI argument",
                    names.join(", ")
                ),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved(name: &str) -> Saved {
        Saved {
            name: TargetName::new(name).unwrap(),
            protocol: DatabaseProtocol::Postgres,
            user: "alice".to_owned(),
            database: "shop".to_owned(),
            host: "localhost".to_owned(),
            port: 5432,
        }
    }

    fn complaint(all: Vec<Saved>, name: Option<&str>) -> String {
        choose(all, name).unwrap_err().to_string()
    }

    #[test]
    fn the_only_database_need_not_be_named() {
        assert_eq!(choose(vec![saved("pg")], None).unwrap(), saved("pg"));
        assert_eq!(choose(vec![saved("a"), saved("b")], Some("b")).unwrap(), saved("b"));
    }

    #[test]
    fn what_was_saved_before_there_was_mysql_is_read_as_postgresql() {
        let old = "name: pg\nuser: alice\ndatabase: shop\nhost: localhost\nport: 5432\n";
        assert_eq!(serde_saphyr::from_str::<Saved>(old).unwrap(), saved("pg"));
        let mysql = Saved { protocol: DatabaseProtocol::Mysql, ..saved("my") };
        assert_eq!(
            serde_saphyr::from_str::<Saved>(&serde_saphyr::to_string(&mysql).unwrap()).unwrap(),
            mysql
        );
    }

    #[test]
    fn complaints_are_teleports() {
        assert_eq!(complaint(vec![], Some("pg")), "please login using 'tsh db login' first");
        assert_eq!(complaint(vec![saved("a")], Some("pg")), "Not logged into database \"pg\"");
        assert_eq!(
            complaint(vec![saved("a"), saved("b")], None),
            "Multiple databases are available (a, b), please specify one using CLI argument"
        );
    }
}
