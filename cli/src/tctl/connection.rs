//! How tctl reaches authd: through the socket on its own host, or with a login of tsh.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use auth::proto::admin_client::AdminClient;
use tonic::transport::Channel;

use crate::{
    connect::{self, Connection},
    home::Home,
    mfa::Mode,
    profile::{LoginError, Selection, identity_file_warning},
    proxy_address::ProxyAddress,
    report::eprint_line,
};

/// The service that all commands speak to. What they change goes through [`change`](super::change).
pub struct Admin {
    pub(super) client: AdminClient<Channel>,
    /// As whom, from elsewhere; `None` on the auth host's socket, where nobody is asked to touch.
    pub(super) remote: Option<Remote>,
}

/// An administrator at another machine.
pub(super) struct Remote {
    pub(super) connection: Connection,
    pub(super) mode: Mode,
}

/// Where authd keeps its data unless told otherwise.
const DEFAULT_DATA_DIR: &str = "/var/lib/touchstone";

/// The administrator's socket in authd's data directory.
const SOCKET: &str = "admin.sock";

/// Which authd, and as whom.
#[derive(Debug, clap::Args)]
pub struct Place {
    /// authd's data directory on this host [default: /var/lib/touchstone]
    #[arg(long, global = true, value_name = "DIR", env = "TOUCHSTONE_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Use the login of `tsh login` at this auth service instead
    #[arg(long, global = true, env = "TOUCHSTONE_AUTH_SERVER", value_name = "HOST:PORT")]
    auth_server: Option<ProxyAddress>,
    /// Identity file of `tsh login --out` to use in place of the login on disk; needs --auth-server
    #[arg(short, long, global = true, env = "TSH_IDENTITY_FILE", value_name = "FILE")]
    identity: Option<PathBuf>,
    /// Which second factor to use for changes, with a login of tsh
    #[arg(long, global = true, env = "TSH_MFA_MODE", value_enum, default_value_t)]
    mfa_mode: Mode,
}

/// The way that was chosen.
#[derive(Debug, PartialEq, Eq)]
enum Way {
    Socket(PathBuf),
    /// At one address, or at the current profile's.
    Login(Option<ProxyAddress>),
}

impl Place {
    /// Connects the way that the flags say.
    ///
    /// # Errors
    /// Neither a socket nor a login, or authd cannot be reached.
    pub async fn connect(&self) -> Result<Admin> {
        let (channel, remote) = match self.way(|path| path.exists()) {
            Way::Socket(path) => (auth::api::connect_unix(&path).await?, None),
            Way::Login(address) => {
                let connection = self.login(address).await?;
                (connection.channel.clone(), Some(Remote { connection, mode: self.mfa_mode }))
            }
        };
        Ok(Admin { client: AdminClient::new(channel), remote })
    }

    fn way(&self, exists: impl Fn(&Path) -> bool) -> Way {
        if self.auth_server.is_some() || self.identity.is_some() {
            return Way::Login(self.auth_server.clone());
        }
        if let Some(data_dir) = &self.data_dir {
            return Way::Socket(data_dir.join(SOCKET));
        }
        let socket = Path::new(DEFAULT_DATA_DIR).join(SOCKET);
        if exists(&socket) { Way::Socket(socket) } else { Way::Login(None) }
    }

    async fn login(&self, address: Option<ProxyAddress>) -> Result<Connection> {
        let home = Home::from_environment()?;
        if let Some(file) = &self.identity {
            ensure!(address.is_some(), "no auth service specified, missed --auth-server flag? -i needs it");
            identity_file_warning(file).iter().for_each(|warning| eprint_line(warning));
        }
        let selection = Selection { proxy: address, identity: self.identity.clone(), ..Selection::default() };
        connect::connect(&home, &selection).await.map_err(|error| self.introduced(error))
    }

    /// Where nothing was named and nobody has logged in here, it may be the data directory that is missing.
    fn introduced(&self, error: anyhow::Error) -> anyhow::Error {
        match error.downcast_ref() {
            Some(LoginError::NoProfile) if self.auth_server.is_none() => {
                error.context(format!("no authd at {DEFAULT_DATA_DIR} (see --data-dir), and no login of tsh"))
            }
            _ => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(data_dir: Option<&str>, auth_server: Option<&str>) -> Place {
        Place {
            data_dir: data_dir.map(PathBuf::from),
            auth_server: auth_server.map(|address| address.parse().unwrap()),
            identity: None,
            mfa_mode: Mode::Auto,
        }
    }

    #[test]
    fn an_auth_server_wins_over_a_data_directory_from_the_environment() {
        let address = "auth.example.com:3080";
        let way = place(Some("/data"), Some(address)).way(|_| true);
        assert_eq!(way, Way::Login(Some(address.parse().unwrap())));
    }

    #[test]
    fn an_identity_file_wins_over_the_socket_of_this_host() {
        let place = Place { identity: Some("boss.pem".into()), ..place(Some("/data"), None) };
        assert_eq!(place.way(|_| true), Way::Login(None));
    }

    #[test]
    fn a_data_directory_that_was_named_is_used_even_without_a_socket() {
        assert_eq!(place(Some("/data"), None).way(|_| false), Way::Socket("/data/admin.sock".into()));
    }

    #[test]
    fn without_flags_the_socket_of_this_host_comes_before_the_login() {
        assert_eq!(place(None, None).way(|_| true), Way::Socket("/var/lib/touchstone/admin.sock".into()));
        assert_eq!(place(None, None).way(|_| false), Way::Login(None));
    }

    #[test]
    fn who_has_never_logged_in_is_told_of_the_data_directory_too_and_nobody_else() {
        let said = |error: LoginError, auth_server| {
            format!("{:#}", place(None, auth_server).introduced(error.into()))
        };
        let login = "not logged in, run: tsh login --proxy=HOST:PORT --user=USER";
        assert_eq!(
            said(LoginError::NoProfile, None),
            format!("no authd at /var/lib/touchstone (see --data-dir), and no login of tsh: {login}")
        );
        assert_eq!(said(LoginError::NoProfile, Some("auth.example.com:3080")), login);
        let profile = crate::profile::Profile {
            proxy: "auth.example.com:3080".parse().unwrap(),
            user: auth::identity::UserName::new("olga").unwrap(),
            cluster: auth::identity::ClusterName::new("main").unwrap(),
        };
        let expired = LoginError::Expired { profile, not_after: std::time::SystemTime::UNIX_EPOCH };
        assert_eq!(
            said(expired, None),
            "your login has expired, run: tsh login --proxy=auth.example.com:3080 --user=olga"
        );
    }
}
