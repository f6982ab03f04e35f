//! What can be typed after `tsh ssh`, `tsh ls`, `tsh scp`, `tsh proxy ssh`, `tsh config`, `tsh play` and `tsh recordings ls`.

use clap::{Args, ValueEnum};

use crate::labelled::Labelled;

#[derive(Debug, Args)]
pub(in crate::tsh) struct Ssh {
    /// Account at the node [default: $TSH_LOGIN, else your own name, where your roles allow it]
    #[arg(short, long, value_name = "LOGIN")]
    pub(super) login: Option<String>,
    /// Port of the sidecar [default: the one that it says]
    #[arg(short, long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) port: Option<u16>,
    /// Let the node ask your agent for signatures
    #[arg(short = 'A', long)]
    pub(super) forward_agent: bool,
    /// Forward a port here to an address as the node reaches it: `[bind:]port:host:hostport`
    #[arg(short = 'L', long = "forward", value_name = "SPEC")]
    pub(super) local: Vec<String>,
    /// Forward a port at the node to an address as this machine reaches it: `[bind:]port:host:hostport`; without the
    /// address, to wherever SOCKS clients there ask
    #[arg(short = 'R', long = "remote-forward", value_name = "SPEC")]
    pub(super) remote: Vec<String>,
    /// Forward whatever SOCKS clients ask for: `[bind:]port`
    #[arg(short = 'D', long = "dynamic-forward", value_name = "SPEC")]
    pub(super) dynamic: Vec<String>,
    /// For those who are used to name a jump host: ignored, the sidecar of a node is reached directly
    #[arg(short = 'J', long, value_name = "HOST:PORT")]
    pub(super) jumphost: Option<String>,
    /// Show windows of the node's on this display, where they may do what strangers may
    #[arg(short = 'X', long = "x11-untrusted")]
    pub(super) x11: bool,
    /// The same for a node that is trusted: its windows may read and type into all others
    #[arg(short = 'Y', long = "x11-trusted")]
    pub(super) trusted_x11: bool,
    /// Show no windows, whatever -o says
    #[arg(short = 'x', conflicts_with_all = ["x11", "trusted_x11"])]
    pub(super) no_x11: bool,
    /// Run nothing: for forwarded ports
    #[arg(short = 'N', long)]
    pub(super) no_command: bool,
    /// Give the command a terminal; twice: even where there is none here
    #[arg(short = 't', long, action = clap::ArgAction::Count)]
    pub(super) tty: u8,
    /// Give the shell no terminal
    #[arg(short = 'T', conflicts_with = "tty")]
    pub(super) no_tty: bool,
    /// An option of ssh_config, such as ServerAliveInterval=15
    #[arg(short = 'o', long = "option", value_name = "OPTION")]
    pub(super) options: Vec<String>,
    /// `[user@]host`, or `[user@]key=value,...` for every node with these labels, one after another
    #[arg(value_name = "[USER@]HOST")]
    pub(super) destination: String,
    /// What to run [default: a shell]
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub(super) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(in crate::tsh) struct ListNodes {
    /// Show the sidecar's ID and the accounts that your roles allow too
    #[arg(short, long)]
    pub(super) verbose: bool,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    pub(super) format: NodesFormat,
    #[command(flatten)]
    pub(super) labelled: Labelled,
}

/// The forms of `tsh ls`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum NodesFormat {
    /// For people.
    #[default]
    Text,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// Names alone, one a line.
    Names,
}

#[derive(Debug, Args)]
pub(in crate::tsh) struct ProxySsh {
    /// `[user@]host[:port]`
    #[arg(value_name = "[USER@]HOST[:PORT]")]
    pub(super) destination: String,
}

#[derive(Debug, Args)]
pub(in crate::tsh) struct SshConfig {}
