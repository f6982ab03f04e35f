//! `tctl auth sign`: a database's own certificate. The key is made here and only its public half travels.

use std::{
    fs::OpenOptions,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use auth::proto::SignDatabaseCertificateRequest;

use super::super::{Admin, ttl};
use crate::{armour, output};

/// Make a key and a certificate for a database.
#[derive(Debug, clap::Args)]
pub(in super::super) struct Sign {
    /// What the certificate is for
    #[arg(long, value_enum, required_unless_present = "user")]
    format: Option<SignFormat>,
    /// Names and addresses under which sidecars reach the database
    #[arg(long = "host", required_unless_present = "user", value_delimiter = ',')]
    hosts: Vec<String>,
    /// Where to write: PREFIX.crt, PREFIX.key and PREFIX.cas
    #[arg(short, long, value_name = "PREFIX", required_unless_present = "user")]
    out: Option<PathBuf>,
    /// Nobody gets a user's certificate but that user
    #[arg(long, hide = true)]
    user: Option<String>,
    /// How long the certificate is valid [default: 2190h]
    #[arg(long, value_parser = ttl::parse)]
    ttl: Option<Duration>,
    /// Replace files that exist
    #[arg(long)]
    overwrite: bool,
}

/// Kinds of certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum SignFormat {
    /// For PostgreSQL, MySQL and MariaDB
    Db,
    /// Users'
    #[value(hide = true, aliases = ["openssh", "tls"])]
    File,
}

/// The three files of one prefix.
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    authorities: PathBuf,
}

impl Files {
    fn new(prefix: &Path) -> Self {
        let with = |ending: &str| {
            let mut path = prefix.as_os_str().to_owned();
            path.push(ending);
            PathBuf::from(path)
        };
        Self { certificate: with(".crt"), key: with(".key"), authorities: with(".cas") }
    }

    fn all(&self) -> [&Path; 3] {
        [&self.key, &self.certificate, &self.authorities]
    }
}

impl Sign {
    pub(in super::super) async fn run(self, admin: &mut Admin) -> Result<()> {
        self.refuse_users()?;
        let files = Files::new(&self.out.unwrap_or_default());
        if let Some(file) = files.all().into_iter().find(|file| !self.overwrite && file.exists()) {
            bail!("{} exists already; --overwrite replaces it", file.display());
        }
        let (key, public_key) = auth::key::generate_p256()?;
        let request = SignDatabaseCertificateRequest {
            public_key,
            hosts: self.hosts,
            ttl_seconds: ttl::seconds(self.ttl),
        };
        let signed = admin.change(request).await?;

        let authorities: String =
            signed.client_authorities.iter().map(|der| armour::certificate(der)).collect();
        let key = armour::private_key(&key);
        write(&files.key, 0o600, key.as_bytes())?;
        write(&files.certificate, 0o644, armour::certificate(&signed.certificate).as_bytes())?;
        write(&files.authorities, 0o644, authorities.as_bytes())?;
        output::print_text(&text(&files))?;
        Ok(())
    }
}

impl Sign {
    /// What an administrator of Teleport would type for a program.
    fn refuse_users(&self) -> Result<()> {
        if self.user.is_none() && self.format == Some(SignFormat::Db) {
            return Ok(());
        }
        bail!(
            "tctl signs no user's certificate: nobody gets one without that user's own password and second factor. \
             For a program, log in as its user: tsh login --out=FILE"
        )
    }
}

/// Replaces a file with one of its own mode: what was readable before must not stay so.
fn write(path: &Path, mode: u32, contents: &[u8]) -> Result<()> {
    let context = || format!("cannot write {}", path.display());
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(context);
        }
        _ => {}
    }
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(path).with_context(context)?;
    file.write_all(contents).and_then(|()| file.sync_all()).with_context(context)
}

fn text(files: &Files) -> String {
    let [key, certificate, authorities] = files.all().map(|path| path.display().to_string());
    format!(
        "Database credentials have been written to {key}, {certificate}, {authorities}.\n\n\
         PostgreSQL: let sidecars in by certificate alone. In postgresql.conf\n\n\
         ssl = on\nssl_cert_file = '{certificate}'\nssl_key_file = '{key}'\nssl_ca_file = '{authorities}'\n\n\
         and in pg_hba.conf, above any line that would let them in another way\n\n\
         hostssl all all 0.0.0.0/0 cert\nhostssl all all ::/0      cert\n\n\
         MySQL and MariaDB: in the [mysqld] section of my.cnf\n\n\
         require_secure_transport=ON\nssl-cert={certificate}\nssl-key={key}\nssl-ca={authorities}\n\n\
         and for each account\n\nALTER USER 'alice'@'%' REQUIRE SUBJECT '/CN=alice';"
    )
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn the_hints_name_the_files_that_were_written() {
        let text = text(&Files::new(Path::new("/etc/db/server")));
        assert!(text.starts_with(
            "Database credentials have been written to /etc/db/server.key, /etc/db/server.crt, /etc/db/server.cas."
        ));
        assert!(text.contains("\nssl_ca_file = '/etc/db/server.cas'\n"));
        assert!(text.contains("\nhostssl all all 0.0.0.0/0 cert\n"));
        assert!(text.contains("\nssl-ca=/etc/db/server.cas\n"));
        assert!(text.contains("REQUIRE SUBJECT '/CN=alice'"));
    }

    #[test]
    fn a_key_file_is_its_owners_alone_even_where_an_open_one_lay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("server.key");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        write(&path, 0o600, b"new").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn a_prefix_with_dots_keeps_them() {
        assert_eq!(Files::new(Path::new("db.example.com")).key, Path::new("db.example.com.key"));
    }
}
