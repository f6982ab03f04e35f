//! What can be typed after `tsh`.

use std::{ffi::OsString, path::PathBuf};

use auth::{api::CaPin, identity::UserName};
use clap::{Args, Parser, Subcommand, ValueEnum, builder::FalseyValueParser};

use super::{
    login::out::IdentityFormat,
    play::arguments::{Play, Recordings},
    scp::arguments::Scp,
    ssh::arguments::{ListNodes, ProxySsh, Ssh, SshConfig},
};
use crate::{
    VERSION, completion::Completion, labelled::Labelled, mfa::Mode, output::Format,
    proxy_address::ProxyAddress,
};

/// Log in to a Touchstone cluster, and open databases and shells with short-lived certificates.
///
/// A database or node whose policy asks for it opens only after a touch of a security key, for this very session. Session keys
/// stay in memory. Files live in $TSH_HOME, else in ~/.tsh. Variables of the environment are read under Teleport's names too
/// (TELEPORT_PROXY, TELEPORT_HOME, ...); ours win.
#[derive(Debug, Parser)]
#[command(name = "tsh", display_name = "Touchstone", version = VERSION, max_term_width = 100)]
pub struct Arguments {
    /// Address of the auth service [default: the current profile's]
    #[arg(long, global = true, env = "TSH_PROXY", value_name = "HOST:PORT")]
    pub(super) proxy: Option<ProxyAddress>,
    /// User name [default: the profile's]
    #[arg(long, global = true, env = "TSH_USER", value_name = "USER", value_parser = user_name)]
    pub(super) user: Option<UserName>,
    /// Cluster to use: only the one that you are logged in to can be reached
    #[arg(short, long, global = true, env = "TSH_CLUSTER", value_name = "CLUSTER")]
    pub(super) cluster: Option<String>,
    /// Identity file of `tsh login --out` to use in place of the login on disk; needs --proxy
    #[arg(short, long, global = true, env = "TSH_IDENTITY_FILE", value_name = "FILE")]
    pub(super) identity: Option<PathBuf>,
    /// Which second factor to use
    #[arg(long, global = true, env = "TSH_MFA_MODE", value_enum, default_value_t)]
    pub(super) mfa_mode: Mode,
    /// Log what happens to standard error
    #[arg(short, long, global = true, env = "TSH_DEBUG", value_parser = FalseyValueParser::new())]
    pub(super) debug: bool,
    #[command(subcommand)]
    pub(super) command: Command,
}

fn user_name(text: &str) -> Result<UserName, auth::identity::NameError> {
    UserName::new(text)
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Finish an invitation: choose a password and add the first device
    Register(Register),
    /// Log in and keep the certificates for up to 12 hours
    Login(Login),
    /// Remove the keys and certificates of all users, or of --user at --proxy
    Logout,
    /// Show who is logged in, and until when
    Status(Listing),
    /// Print variables that make a shell use the current proxy and cluster: eval "$(tsh env)"
    Env(Env),
    /// List clusters: the one that you are logged in to
    Clusters(Listing),
    /// List, add and remove MFA devices
    #[command(subcommand)]
    Mfa(MfaCommand),
    /// List databases and connect to them
    #[command(subcommand)]
    Db(DbCommand),
    /// Open local ports for programs of your own
    #[command(subcommand)]
    Proxy(ProxyCommand),
    /// Open a shell at a node, or run a command there
    ///
    /// Where policy asks for it, each session needs a touch. The sidecar is verified by the cluster's host authority, never on
    /// first use. The exit status is the command's own.
    Ssh(Ssh),
    /// Copy files to and from a node
    ///
    /// Names of files at the node may be patterns. Links are followed, and modes that give a program somebody else's rights are
    /// never kept.
    Scp(Scp),
    /// List the nodes that your roles cover
    Ls(ListNodes),
    /// Print an ssh_config with which OpenSSH, scp, sftp, rsync, git and Ansible reach the nodes
    ///
    /// Append it to ~/.ssh/config, or name it with ssh -F. Where policy asks for a touch, tsh asks for it as ssh connects.
    Config(SshConfig),
    /// Play a recorded session again
    ///
    /// Space pauses, the left and right arrows go back and ahead by five seconds, q ends. What would make your terminal answer, or
    /// change its title or clipboard, is left out.
    Play(Play),
    /// List recorded sessions
    #[command(subcommand)]
    Recordings(Recordings),
    /// Print a script with which a shell completes what is typed: source <(tsh completion bash)
    Completion(Completion),
    /// Show the version
    Version(ShowVersion),
}

#[derive(Debug, Args)]
pub(super) struct ShowVersion {
    /// Of tsh alone, as it always is
    #[arg(long, hide = true)]
    client: bool,
    #[command(flatten)]
    pub(super) listing: Listing,
}

#[derive(Debug, Args)]
pub(super) struct Listing {
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    pub(super) format: Format,
}

#[derive(Debug, Args)]
pub(super) struct Env {
    /// Print what takes the variables away again
    #[arg(long)]
    pub(super) unset: bool,
    #[command(flatten)]
    pub(super) listing: Listing,
}

#[derive(Debug, Args)]
pub(super) struct Register {
    /// The link from the administrator: https://HOST:PORT/web/invite/TOKEN#ca-pin=sha256:...
    pub(super) url: String,
    #[command(flatten)]
    pub(super) device: NewDevice,
}

#[derive(Debug, Args)]
pub(super) struct NewDevice {
    /// Name of the new device [default: asked for]
    #[arg(long, value_name = "NAME")]
    pub(super) name: Option<String>,
    /// Type of the new device [default: asked for]
    #[arg(long = "type", value_enum, ignore_case = true, value_name = "TYPE")]
    pub(super) kind: Option<DeviceType>,
    /// Whether the new security key may log in by itself, without name and password [default: asked for]
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(super) allow_passwordless: Option<bool>,
}

/// Kinds of device, as they are typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum DeviceType {
    /// An app that shows codes.
    #[value(name = "TOTP")]
    Totp,
    /// A security key.
    #[value(name = "WEBAUTHN")]
    Webauthn,
}

#[derive(Debug, Args)]
pub(super) struct Login {
    /// What `tctl status` shows; needed once, where no invitation was finished here and nobody can be asked
    #[arg(long, value_name = "sha256:HEX")]
    pub(super) ca_pin: Option<CaPin>,
    /// How long the login shall last [default: as long as allowed, at most 12 hours]
    #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u32).range(1..=30 * 60))]
    pub(super) ttl: Option<u32>,
    /// With password and second factor, or with a passkey alone
    #[arg(long, env = "TSH_AUTH", value_enum, default_value_t)]
    pub(super) auth: Auth,
    /// Keep the login in this file alone, for programs: `tsh -i FILE`. Always asks for password and second factor
    #[arg(short, long, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
    /// What to write with --out
    #[arg(short, long, value_enum, default_value_t, requires = "out")]
    pub(super) format: IdentityFormat,
    /// Replace files of --out that exist
    #[arg(long, requires = "out")]
    pub(super) overwrite: bool,
    /// The cluster to log in to, for those who are used to name it
    #[arg(value_name = "CLUSTER")]
    pub(super) into: Option<String>,
}

/// How one logs in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Auth {
    /// User name, password and second factor.
    #[default]
    Local,
    /// A passkey, which says who is there.
    Passwordless,
}

#[derive(Debug, Subcommand)]
pub(super) enum MfaCommand {
    /// List your MFA devices
    Ls(ListDevices),
    /// Add an MFA device
    Add(NewDevice),
    /// Remove an MFA device
    Rm(RemoveDevice),
}

#[derive(Debug, Args)]
pub(super) struct ListDevices {
    /// Show device IDs too
    #[arg(short, long)]
    pub(super) verbose: bool,
    #[command(flatten)]
    pub(super) listing: Listing,
}

#[derive(Debug, Args)]
pub(super) struct RemoveDevice {
    /// Name or ID of the device
    pub(super) device: String,
}

#[derive(Debug, Subcommand)]
pub(super) enum DbCommand {
    /// List the databases that your roles cover
    Ls(ListDatabases),
    /// Save a certificate for a database that needs no MFA, for programs of your own
    Login(Database),
    /// Remove the certificate of one database, or of all
    Logout(SavedDatabase),
    /// Connect to a database with psql, mariadb or mysql
    ///
    /// Opens a tunnel inside this process and runs the database's own client through it. The session's key stays in memory. The tunnel
    /// listens on 127.0.0.1 and, on Linux, serves only processes of your own user.
    Connect(Connect),
    /// Print environment variables for a database of `tsh db login`
    Env(SavedDatabase),
    /// Print connection details of a database of `tsh db login`
    Config(Config),
}

#[derive(Debug, Args)]
pub(super) struct ListDatabases {
    /// Show protocol, type and address too
    #[arg(short, long)]
    pub(super) verbose: bool,
    #[command(flatten)]
    pub(super) listing: Listing,
    #[command(flatten)]
    pub(super) labelled: Labelled,
}

#[derive(Debug, Args)]
pub(super) struct Database {
    /// Name of the database, as `tsh db ls` shows it
    pub(super) name: String,
    #[command(flatten)]
    pub(super) login: DatabaseLogin,
}

#[derive(Debug, Default, Args)]
pub(super) struct DatabaseLogin {
    /// Database user [default: the only one your roles allow]
    #[arg(short = 'u', long, value_name = "USER")]
    pub(super) db_user: Option<String>,
    /// Database name [default: the only one your roles allow, else the database user; for MySQL none]
    #[arg(short = 'n', long, value_name = "NAME")]
    pub(super) db_name: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct SavedDatabase {
    /// Name of the database; may be left out where there is only one
    pub(super) name: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Connect {
    /// Name of the database; may be left out where `tsh db login` keeps only one
    pub(super) name: Option<String>,
    #[command(flatten)]
    pub(super) login: DatabaseLogin,
    /// Passed on to psql, mariadb or mysql
    #[arg(last = true, value_name = "CLIENT ARGUMENTS")]
    pub(super) arguments: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(super) struct Config {
    #[command(flatten)]
    pub(super) database: SavedDatabase,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    pub(super) format: ConfigFormat,
}

/// The forms of `tsh db config`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum ConfigFormat {
    /// For people.
    #[default]
    Text,
    /// The client's command line.
    Cmd,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

#[derive(Debug, Subcommand)]
pub(super) enum ProxyCommand {
    /// Open a local port to a database
    ///
    /// With --tunnel this process logs in for whoever connects: the session's key stays in memory, and when its
    /// certificate has expired the next connection asks for a touch here. On Linux only processes of your own user are
    /// served. Without --tunnel the client brings the certificate of `tsh db login`.
    Db(ProxyDb),
    /// Reach a node for an SSH client: the ProxyCommand of `tsh config`
    ///
    /// Asks for a touch where policy wants one, on the terminal: standard input and output belong to the SSH client.
    Ssh(ProxySsh),
}

#[derive(Debug, Args)]
pub(super) struct ProxyDb {
    #[command(flatten)]
    pub(super) database: Database,
    /// Log in here, so that clients need no certificate
    #[arg(long)]
    pub(super) tunnel: bool,
    /// Local port [default: a free one]
    #[arg(short, long, value_name = "PORT", default_value_t = 0, hide_default_value = true)]
    pub(super) port: u16,
}

#[cfg(test)]
mod tests {
    use auth::proto::Target;
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn what_follows_two_dashes_is_the_clients() {
        let line = ["tsh", "db", "connect", "prod-pg", "--db-user=alice", "--", "-c", "select 1"];
        let Command::Db(DbCommand::Connect(connect)) = Arguments::parse_from(line).command else { panic!() };
        assert_eq!(connect.name.as_deref(), Some("prod-pg"));
        assert_eq!(connect.login.db_user.as_deref(), Some("alice"));
        assert_eq!(connect.arguments, ["-c", "select 1"]);
        let line = ["tsh", "db", "connect", "--", "-c", "select 1"];
        let Command::Db(DbCommand::Connect(connect)) = Arguments::parse_from(line).command else { panic!() };
        assert_eq!((connect.name, connect.arguments), (None, vec!["-c".into(), "select 1".into()]));
    }

    #[test]
    fn databases_are_listed_by_their_labels_as_nodes_are() {
        let target =
            |env: &str| Target { labels: [("env".to_owned(), env.to_owned())].into(), ..Target::default() };
        let listed = |more: &[&str]| {
            let line = ["tsh", "db", "ls"].iter().chain(more);
            let Command::Db(DbCommand::Ls(list)) = Arguments::parse_from(line).command else { panic!() };
            ["prod", "dev"].map(|env| list.labelled.has(&target(env)))
        };
        assert_eq!(listed(&["env=prod"]), [true, false]);
        assert_eq!(listed(&[]), [true, true]);
        assert_eq!(listed(&["--search=ENV=pr"]), [true, false]);
        assert_eq!(listed(&["--search=env,dev"]), [false, true]);
        assert_eq!(listed(&["--search=dev", "env=prod"]), [false, false]);
        assert!(Arguments::try_parse_from(["tsh", "db", "ls", "prod"]).is_err());
    }

    #[test]
    fn global_flags_stand_anywhere() {
        let line = ["tsh", "--mfa-mode=otp", "login", "--proxy=h:1", "--user=jerry", "--ttl=5"];
        let arguments = Arguments::parse_from(line);
        assert_eq!(arguments.mfa_mode, Mode::Otp);
        assert_eq!(arguments.proxy.unwrap().to_string(), "h:1");
        assert_eq!(arguments.user.unwrap().as_str(), "jerry");
    }

    #[test]
    fn whether_a_device_may_log_in_alone_is_said_or_asked_for() {
        let asked = |more: &[&str]| {
            let line = ["tsh", "mfa", "add"].iter().chain(more);
            let Command::Mfa(MfaCommand::Add(add)) = Arguments::parse_from(line).command else { panic!() };
            add.allow_passwordless
        };
        assert_eq!(asked(&[]), None);
        assert_eq!(asked(&["--allow-passwordless"]), Some(true));
        assert_eq!(asked(&["--allow-passwordless=false"]), Some(false));
    }

    #[test]
    fn a_login_is_by_password_unless_a_passkey_is_asked_for() {
        let auth = |more: &[&str]| {
            let line = ["tsh", "login"].iter().chain(more);
            let Command::Login(login) = Arguments::parse_from(line).command else { panic!() };
            login.auth
        };
        assert_eq!(auth(&[]), Auth::Local);
        assert_eq!(auth(&["--auth=passwordless"]), Auth::Passwordless);
    }

    #[test]
    fn device_types_are_understood_in_any_case() {
        for word in ["TOTP", "totp"] {
            let line = ["tsh", "mfa", "add", "--type", word];
            let Command::Mfa(MfaCommand::Add(add)) = Arguments::parse_from(line).command else { panic!() };
            assert_eq!(add.kind, Some(DeviceType::Totp));
        }
    }
}
