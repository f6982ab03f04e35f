//! `tsh db config`: how a program of one's own connects to a database of `tsh db login`.

use serde::Serialize;

use super::{
    mysql_options,
    saved::{Saved, SavedFiles},
};
use crate::{
    client::{
        mysql::{self, Installed},
        psql::percent_encoded,
    },
    database::DatabaseProtocol,
    output::{self, Format},
    profile::Profile,
    tsh::{
        arguments::{Config, ConfigFormat},
        context::Context,
    },
};

pub(in crate::tsh) async fn run(context: &Context, arguments: &Config) -> anyhow::Result<()> {
    context.refuse_identity()?;
    let profile = Profile::load(&context.home, &context.selection)?;
    let saved = Saved::chosen(&context.home, &profile, arguments.database.name.as_deref())?;
    let files = saved.files(&context.home, &profile);
    let shown = Shown::of(&saved, &files);
    match arguments.format {
        ConfigFormat::Text => output::print_text(&shown.text())?,
        ConfigFormat::Cmd => output::print_text(&command(&saved, &files).await?)?,
        ConfigFormat::Json => output::print(Format::Json, &shown, String::new)?,
        ConfigFormat::Yaml => output::print(Format::Yaml, &shown, String::new)?,
    }
    Ok(())
}

#[derive(Serialize)]
struct Shown {
    name: String,
    host: String,
    port: u16,
    user: String,
    database: String,
    ca: String,
    cert: String,
    key: String,
}

impl Shown {
    fn of(saved: &Saved, files: &SavedFiles) -> Self {
        Self {
            name: saved.name.to_string(),
            host: saved.host.clone(),
            port: saved.port,
            user: saved.user.clone(),
            database: saved.database.clone(),
            ca: files.authorities.display().to_string(),
            cert: files.certificate.display().to_string(),
            key: files.key.display().to_string(),
        }
    }

    fn text(&self) -> String {
        let port = self.port.to_string();
        let rows = [
            ("Name:", &self.name),
            ("Host:", &self.host),
            ("Port:", &port),
            ("User:", &self.user),
            ("Database:", &self.database),
            ("CA:", &self.ca),
            ("Cert:", &self.cert),
            ("Key:", &self.key),
        ];
        rows.map(|(label, value)| format!("{label:<9} {value}")).join("\n")
    }
}

/// The command line of the client, quoted for the shell.
async fn command(saved: &Saved, files: &SavedFiles) -> anyhow::Result<String> {
    match saved.protocol {
        DatabaseProtocol::Postgres => psql_command(saved, files),
        DatabaseProtocol::Mysql => mysql_command(saved, files, mysql::installed().await.unwrap_or_default()),
    }
}

fn mysql_command(
    saved: &Saved,
    files: &SavedFiles,
    Installed { program, flavour }: Installed,
) -> anyhow::Result<String> {
    let options = [mysql_options::client(saved, files, flavour), mysql_options::interactive(saved)].concat();
    let words = options.iter().map(|(name, value)| format!("--{name}={value}"));
    let words: Vec<String> = std::iter::once(program.to_owned()).chain(words).collect();
    Ok(shlex::try_join(words.iter().map(String::as_str))?)
}

fn psql_command(saved: &Saved, files: &SavedFiles) -> anyhow::Result<String> {
    let settings = saved.settings(files);
    let tls = settings.iter().filter(|(name, _)| name.starts_with("ssl"));
    let tls: Vec<String> = tls.map(|(name, value)| format!("{name}={}", path_encoded(value))).collect();
    let host = if saved.host.contains(':') { format!("[{}]", saved.host) } else { saved.host.clone() };
    let url = format!(
        "postgres://{}@{host}:{}/{}?{}",
        percent_encoded(&saved.user),
        saved.port,
        percent_encoded(&saved.database),
        tls.join("&")
    );
    Ok(format!("psql {}", shlex::try_quote(&url)?))
}

fn path_encoded(path: &str) -> String {
    path.split('/').map(percent_encoded).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use auth::identity::{ClusterName, TargetName, UserName};

    use super::*;
    use crate::home::Home;

    fn saved() -> (Saved, SavedFiles) {
        let profile = Profile {
            proxy: "h:1".parse().unwrap(),
            user: UserName::new("jerry").unwrap(),
            cluster: ClusterName::new("main").unwrap(),
        };
        let saved = Saved {
            name: TargetName::new("pg").unwrap(),
            protocol: DatabaseProtocol::Postgres,
            user: "a b".to_owned(),
            database: "shop".to_owned(),
            host: "db.example.com".to_owned(),
            port: 5432,
        };
        let files = saved.files(&Home::at("/h"), &profile);
        (saved, files)
    }

    #[test]
    fn the_rows_are_teleports() {
        let (saved, files) = saved();
        let expected = "\
Name:     pg
Host:     db.example.com
Port:     5432
User:     a b
Database: shop
CA:       /h/keys/h_1/cas/main.pem
Cert:     /h/keys/h_1/jerry-db/main/pg-x509.pem
Key:      /h/keys/h_1/jerry-db/main/pg-x509.key";
        assert_eq!(Shown::of(&saved, &files).text(), expected);
    }

    #[test]
    fn the_command_is_one_quoted_url() {
        let (saved, files) = saved();
        let words = shlex::split(&psql_command(&saved, &files).unwrap()).unwrap();
        assert_eq!(
            words,
            [
                "psql",
                "postgres://a%20b@db.example.com:5432/shop?sslmode=verify-full&sslrootcert=/h/keys/h_1/cas/main.pem\
                 &sslcert=/h/keys/h_1/jerry-db/main/pg-x509.pem&sslkey=/h/keys/h_1/jerry-db/main/pg-x509.key"
            ]
        );
    }

    #[test]
    fn a_mysql_client_verifies_the_sidecars_name_in_its_own_words() {
        let (saved, files) = saved();
        let saved = Saved { protocol: DatabaseProtocol::Mysql, ..saved };
        let words = |installed| shlex::split(&mysql_command(&saved, &files, installed).unwrap()).unwrap();
        assert_eq!(
            words(Installed { program: "mariadb", flavour: mysql::Flavour::Mariadb }),
            [
                "mariadb",
                "--host=db.example.com",
                "--port=5432",
                "--protocol=TCP",
                "--user=a b",
                "--ssl-ca=/h/keys/h_1/cas/main.pem",
                "--ssl-cert=/h/keys/h_1/jerry-db/main/pg-x509.pem",
                "--ssl-key=/h/keys/h_1/jerry-db/main/pg-x509.key",
                "--ssl-verify-server-cert=1",
                "--database=shop",
            ]
        );
        let oracles = words(Installed::default());
        assert!(oracles.contains(&"--ssl-mode=VERIFY_IDENTITY".to_owned()), "{oracles:?}");
        assert!(!oracles.iter().any(|word| word.contains("verify-server-cert")), "{oracles:?}");
    }
}
