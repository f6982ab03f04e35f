//! `tctl tokens`: what lets a sidecar join.

use std::time::{Duration, SystemTime};

use anyhow::Result;
use auth::{
    proto::{AddTokenRequest, AddTokenResponse, DeleteResourceRequest},
    resource::{Kind, Resource},
};
use serde_json::json;

use super::{Admin, resources, ttl};
use crate::{
    output::{self, Format, Table, printable},
    times,
};

/// Join tokens for sidecars: add, list, remove.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Tokens {
    /// Make a token, and show the command line of the sidecar that uses it
    Add(Add),
    /// List tokens
    Ls {
        /// How to print them
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Remove a token
    Rm {
        /// The token
        token: String,
    },
}

/// What the token may be used for.
#[derive(Debug, clap::Args)]
pub(super) struct Add {
    /// Kinds of target that a sidecar may guard with it
    #[arg(long = "type", required = true, value_delimiter = ',', value_enum)]
    types: Vec<TokenType>,
    #[command(flatten)]
    invite: Invite,
}

/// How long a token lasts, and how it is shown.
#[derive(Debug, clap::Args)]
pub(super) struct Invite {
    /// How long the token is valid [default: 30m]
    #[arg(long, value_parser = ttl::parse, default_value = "30m", hide_default_value = true)]
    ttl: Duration,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Kinds of target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum TokenType {
    /// Databases
    Db,
    /// SSH hosts
    Node,
}

impl TokenType {
    fn as_str(self) -> &'static str {
        match self {
            Self::Db => "db",
            Self::Node => "node",
        }
    }
}

impl Tokens {
    pub(super) async fn run(self, admin: &mut Admin) -> Result<()> {
        match self {
            Self::Add(add) => add.invite.make(admin, &add.types).await,
            Self::Ls { format } => list(admin, format).await,
            Self::Rm { token } => {
                let request =
                    DeleteResourceRequest { kind: Kind::Token.as_str().to_owned(), name: token.clone() };
                admin.change(request).await?;
                output::print_text(&format!("Token {} has been deleted", printable(&token)))?;
                Ok(())
            }
        }
    }
}

impl Invite {
    /// A token for one kind of target.
    pub(super) async fn run(self, admin: &mut Admin, kind: TokenType) -> Result<()> {
        self.make(admin, &[kind]).await
    }

    async fn make(self, admin: &mut Admin, types: &[TokenType]) -> Result<()> {
        let request = AddTokenRequest {
            types: types.iter().map(|kind| kind.as_str().to_owned()).collect(),
            ttl_seconds: ttl::seconds(Some(self.ttl)),
        };
        let token = admin.change(request).await?;
        let value = json!({
            "token": token.token,
            "types": types.iter().map(|kind| kind.as_str()).collect::<Vec<_>>(),
            "expires": times::rfc3339(times::from_millis(token.expires)),
            "ca_pins": token.ca_pins,
            "auth_server": token.auth_server,
        });
        output::print(self.format, &value, || text(&token, types, SystemTime::now()))?;
        Ok(())
    }
}

/// Where clients of the sidecar will connect to; the one who reads it knows the host's name.
const HOST: &str = "HOST";

/// What a host needs besides: its own sshd asks who comes.
const TRUST: &str = "\n  - The host's sshd must trust the sidecar. Where tctl may, at authd or with a login of tsh:\n      \
                     tctl auth export --type=openssh > touchstone_ca.pub\n    \
                     and, with that file copied to /etc/ssh of the host, as root there:\n      \
                     echo 'TrustedUserCAKeys /etc/ssh/touchstone_ca.pub' >> /etc/ssh/sshd_config";

fn text(token: &AddTokenResponse, types: &[TokenType], now: SystemTime) -> String {
    let expires = times::from_millis(token.expires);
    let left = expires.duration_since(now).unwrap_or_default();
    let minutes = (left.as_secs() + 30) / 60;
    let asked = [TokenType::Db, TokenType::Node].into_iter().filter(|kind| types.contains(kind));
    let commands: String = asked.map(|kind| command(token, kind)).collect();
    let note = if types.contains(&TokenType::Node) { TRUST } else { "" };
    format!(
        "The invite token: {}\nThis token will expire in {minutes} minutes.\n\n{commands}\
         Please note:\n\n  - {} must be reachable from where the sidecar runs.\n  \
         - {HOST} is the name by which clients reach the sidecar.\n  \
         - After it has joined, the sidecar renews its own certificate; the token is needed once.{note}",
        printable(&token.token),
        printable(&token.auth_server),
    )
}

/// What to type beside a target of this kind.
fn command(token: &AddTokenResponse, kind: TokenType) -> String {
    let (what, protocol, port, listen) = match kind {
        TokenType::Db => ("database", "postgres", 5432, 3081),
        TokenType::Node => ("host", "ssh", 22, 3022),
    };
    let mut flags = vec![format!("--token={}", printable(&token.token))];
    flags.extend(token.ca_pins.iter().map(|pin| format!("--ca-pin={}", printable(pin))));
    flags.extend([
        format!("--auth-server={}", printable(&token.auth_server)),
        "--name=NAME".to_owned(),
        format!("--protocol={protocol}"),
        format!("--uri=localhost:{port}"),
        "--labels=env=dev".to_owned(),
        format!("--listen=0.0.0.0:{listen}"),
        format!("--public-addr={HOST}:{listen}"),
    ]);
    if kind == TokenType::Node {
        flags.push("--upstream-host-key-file=/etc/ssh/ssh_host_ed25519_key.pub".to_owned());
    }
    let flags = flags.join(" \\\n    ");
    format!("Start a sidecar next to the {what} with it:\n\n> sidecar start \\\n    {flags}\n\n")
}

async fn list(admin: &mut Admin, format: Format) -> Result<()> {
    let tokens = resources::fetch(admin, Kind::Token, "").await?;
    let value = resources::as_values(&tokens)?;
    output::print(format, &value, || table(&tokens))?;
    Ok(())
}

fn table(tokens: &[Resource]) -> String {
    let mut table = Table::new(["Token", "Type", "Expiry Time (UTC)"]);
    for token in tokens {
        if let Resource::Token(token) = token {
            let types: Vec<_> = token.roles.iter().map(|role| role.as_str()).collect();
            let expires = token.metadata.expires.map_or_else(|| "never".to_owned(), times::rfc1123);
            table.row([token.metadata.name.as_str(), &types.join(","), &expires]);
        }
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `tctl tokens add --type=db,node` prints. The sidecar's tests feed the commands in it to the sidecar's parser.
    const INVITATION: &str = include_str!("tokens/invitation.txt");

    fn token() -> AddTokenResponse {
        AddTokenResponse {
            token: "abc".to_owned(),
            expires: 1_800_000,
            ca_pins: vec![format!("sha256:{}", "0de1".repeat(16))],
            auth_server: "auth.example.com:3080".to_owned(),
        }
    }

    #[test]
    fn a_new_token_comes_with_the_command_that_uses_it_for_each_kind() {
        let text = text(&token(), &[TokenType::Node, TokenType::Db], SystemTime::UNIX_EPOCH);
        assert_eq!(text, INVITATION.trim_end());
    }

    #[test]
    fn of_a_token_for_databases_nothing_is_said_about_hosts() {
        let text = text(&token(), &[TokenType::Db], SystemTime::UNIX_EPOCH);
        assert!(text.contains("--protocol=postgres") && !text.contains("ssh"), "{text}");
    }

    #[test]
    fn of_a_token_for_hosts_nothing_is_said_about_databases() {
        let text = text(&token(), &[TokenType::Node], SystemTime::UNIX_EPOCH);
        assert!(text.contains("TrustedUserCAKeys") && !text.contains("database"), "{text}");
    }
}
