//! What authd is told: one strict YAML file, and flags that win over it.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use auth::identity::ClusterName;
use serde::Deserialize;

/// Where everything is kept unless said otherwise.
pub const DEFAULT_DATA_DIR: &str = "/var/lib/touchstone";
/// The port of the API and the web pages.
pub const DEFAULT_LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 3080);
/// No configuration is longer.
const MAX_BYTES: u64 = 1024 * 1024;

/// What authd is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Keys, users, audit: readable by its owner alone.
    pub data_dir: PathBuf,
    /// Fixed at the first start. `None`: what it is already, or for a new one the name of this host.
    pub cluster_name: Option<ClusterName>,
    /// The one TLS port. Port 0: any free one.
    pub listen: SocketAddr,
    /// HOST:PORT under which users and sidecars reach us. `None`: this host and the port.
    pub public_addr: Option<PublicAddr>,
    /// How the log is written.
    pub log_format: LogFormat,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: DEFAULT_DATA_DIR.into(),
            cluster_name: None,
            listen: DEFAULT_LISTEN,
            public_addr: None,
            log_format: LogFormat::Text,
        }
    }
}

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object a line.
    Json,
}

/// HOST:PORT, checked: it becomes a name in a certificate, the origin of web pages, and part of links.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct PublicAddr(String);

impl PublicAddr {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for PublicAddr {
    type Error = ConfigError;

    fn try_from(text: String) -> Result<Self, ConfigError> {
        let bad = || ConfigError::PublicAddr { text: text.clone() };
        let url = url::Url::parse(&format!("https://{text}")).map_err(|_| bad())?;
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        // The URL parser lower-cases and normalises; only what it leaves alone is taken.
        let same = url.host_str() == Some(host) && port.parse::<u16>().is_ok_and(|port| port != 0);
        if same && url.path() == "/" { Ok(Self(text)) } else { Err(bad()) }
    }
}

/// What flags say; each wins over the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// See [`Config::data_dir`].
    pub data_dir: Option<PathBuf>,
    /// See [`Config::cluster_name`].
    pub cluster_name: Option<ClusterName>,
    /// See [`Config::listen`].
    pub listen: Option<SocketAddr>,
    /// See [`Config::public_addr`].
    pub public_addr: Option<PublicAddr>,
    /// See [`Config::log_format`].
    pub log_format: Option<LogFormat>,
}

/// Why authd does not know what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file says something that authd does not understand.
    #[error("{}{}: {problem}", path.display(), line.map(|line| format!(":{line}")).unwrap_or_default())]
    File {
        /// Which file.
        path: PathBuf,
        /// In which line.
        line: Option<u64>,
        /// What, with the key.
        problem: String,
    },
    /// Not HOST:PORT.
    #[error("public_addr {text:?} is not HOST:PORT with a lower-case host")]
    PublicAddr {
        /// What was given.
        text: String,
    },
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    data_dir: Option<PathBuf>,
    cluster_name: Option<ClusterName>,
    listen: Option<SocketAddr>,
    public_addr: Option<PublicAddr>,
    log_format: Option<LogFormat>,
}

impl Config {
    /// Reads the file, if one is named, and puts the flags over it.
    ///
    /// # Errors
    /// [`ConfigError`] names file, line and key.
    pub fn load(path: Option<&Path>, flags: Overrides) -> Result<Self, ConfigError> {
        let file = match path {
            None => File::default(),
            Some(path) => {
                let read = |source| ConfigError::Read { path: path.to_owned(), source };
                if std::fs::metadata(path).map_err(read)?.len() > MAX_BYTES {
                    return Err(read(io::ErrorKind::FileTooLarge.into()));
                }
                parse(path, &std::fs::read_to_string(path).map_err(read)?)?
            }
        };
        let default = Self::default();
        Ok(Self {
            data_dir: flags.data_dir.or(file.data_dir).unwrap_or(default.data_dir),
            cluster_name: flags.cluster_name.or(file.cluster_name),
            listen: flags.listen.or(file.listen).unwrap_or(default.listen),
            public_addr: flags.public_addr.or(file.public_addr),
            log_format: flags.log_format.or(file.log_format).unwrap_or_default(),
        })
    }
}

fn parse(path: &Path, text: &str) -> Result<File, ConfigError> {
    // A file of comments alone is a file that says nothing.
    let says_nothing = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    if text.lines().all(says_nothing) {
        return Ok(File::default());
    }
    serde_saphyr::from_str(text).map_err(|error| {
        let error = error.without_snippet();
        let line = error.location().map(|location| location.line());
        ConfigError::File { path: path.to_owned(), line, problem: error.to_string() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, ConfigError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("authd.yaml");
        std::fs::write(&path, text).unwrap();
        Config::load(Some(&path), Overrides::default())
    }

    #[test]
    fn the_example_is_the_defaults_with_a_name() {
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/authd.yaml"));
        let config = Config::load(Some(path), Overrides::default()).unwrap();
        assert_eq!(config.cluster_name.unwrap().as_str(), "example");
        assert_eq!(config.public_addr.unwrap().as_str(), "auth.example.com:3080");
        assert_eq!((config.listen, config.data_dir), (DEFAULT_LISTEN, DEFAULT_DATA_DIR.into()));
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_file_line_and_key() {
        let text = load("cluster_name: main\n\nlisten_addr: 1.2.3.4:5\n").unwrap_err().to_string();
        assert!(text.contains("authd.yaml:3") && text.contains("listen_addr"), "{text}");
    }

    #[test]
    fn values_are_checked() {
        for text in
            ["listen: 3080\n", "cluster_name: a b\n", "public_addr: Example.com:1\n", "log_format: xml\n"]
        {
            assert!(matches!(load(text), Err(ConfigError::File { line: Some(1), .. })), "{text}");
        }
        for bad in ["host", "host:0", "host:99999", "host:1/x", "user@host:1", ":1", "a b:1"] {
            assert!(PublicAddr::try_from(bad.to_owned()).is_err(), "{bad}");
        }
        for good in ["localhost:3080", "auth.example.com:443", "192.0.2.1:1", "[::1]:3080"] {
            assert!(PublicAddr::try_from(good.to_owned()).is_ok(), "{good}");
        }
    }

    #[test]
    fn flags_win_over_the_file_and_an_empty_file_says_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("authd.yaml");
        std::fs::write(&path, "data_dir: /a\nlog_format: json\n").unwrap();
        let flags = Overrides { data_dir: Some("/b".into()), ..Overrides::default() };
        let config = Config::load(Some(&path), flags).unwrap();
        assert_eq!((config.data_dir, config.log_format), ("/b".into(), LogFormat::Json));
        assert_eq!(load("# nothing\n").unwrap(), Config::default());
    }
}
