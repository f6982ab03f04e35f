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
    /// How long the token is valid [default: 30m]
    #[arg(long, value_parser = ttl::parse, default_value = "30m", hide_default_value = true)]
    ttl: Duration,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Kinds of target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum TokenType {
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
            Self::Add(add) => add.run(admin).await,
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

impl Add {
    async fn run(self, admin: &mut Admin) -> Result<()> {
        let request = AddTokenRequest {
            types: self.types.iter().map(|kind| kind.as_str().to_owned()).collect(),
            ttl_seconds: ttl::seconds(Some(self.ttl)),
        };
        let token = admin.change(request).await?;
        let value = json!({
            "token": token.token,
            "types": self.types.iter().map(|kind| kind.as_str()).collect::<Vec<_>>(),
            "expires": times::rfc3339(times::from_millis(token.expires)),
            "ca_pins": token.ca_pins,
            "auth_server": token.auth_server,
        });
        output::print(self.format, &value, || text(&token, &self.types, SystemTime::now()))?;
        Ok(())
    }
}

/// What a host needs besides: its own sshd asks who comes.
const TRUST: &str = "\n  - The host's sshd must trust the sidecar. On the host, as root:\n      \
                     tctl auth export --type=openssh > /etc/ssh/touchstone_ca.pub\n      \
                     echo 'TrustedUserCAKeys /etc/ssh/touchstone_ca.pub' >> /etc/ssh/sshd_config";

fn text(token: &AddTokenResponse, types: &[TokenType], now: SystemTime) -> String {
    let expires = times::from_millis(token.expires);
    let left = expires.duration_since(now).unwrap_or_default();
    let minutes = (left.as_secs() + 30) / 60;
    let (what, protocol, port, listen, note) = match types.contains(&TokenType::Db) {
        true => ("database", "postgres", 5432, 3081, ""),
        false => ("host", "ssh", 22, 3022, TRUST),
    };
    let mut flags = vec![format!("--token={}", printable(&token.token))];
    flags.extend(token.ca_pins.iter().map(|pin| format!("--ca-pin={}", printable(pin))));
    flags.push(format!("--auth-server={}", printable(&token.auth_server)));
    flags.extend(["--name=NAME".to_owned(), format!("--protocol={protocol}")]);
    flags.extend([
        format!("--uri=localhost:{port}"),
        "--labels=env=dev".to_owned(),
        format!("--listen=0.0.0.0:{listen}"),
    ]);
    let command = flags.join(" \\\n    ");
    format!(
        "The invite token: {}\nThis token will expire in {minutes} minutes.\n\n\
         Start a sidecar next to the {what} with it:\n\n> sidecar start \\\n    {command}\n\n\
         Please note:\n\n  - {} must be reachable from where the sidecar runs.\n  \
         - After it has joined, the sidecar renews its own certificate; the token is needed once.{note}",
        printable(&token.token),
        printable(&token.auth_server),
    )
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

    #[test]
    fn a_new_token_comes_with_the_command_that_uses_it() {
        let token = AddTokenResponse {
            token: "abc".to_owned(),
            expires: 1_800_000,
            ca_pins: vec!["sha256:de".to_owned()],
            auth_server: "auth.example.com:3080".to_owned(),
        };
        let expected = "\
The invite token: abc
This token will expire in 30 minutes.

Start a sidecar next to the database with it:

> sidecar start \\
    --token=abc \\
    --ca-pin=sha256:de \\
    --auth-server=auth.example.com:3080 \\
    --name=NAME \\
    --protocol=postgres \\
    --uri=localhost:5432 \\
    --labels=env=dev \\
    --listen=0.0.0.0:3081

Please note:

  - auth.example.com:3080 must be reachable from where the sidecar runs.
  - After it has joined, the sidecar renews its own certificate; the token is needed once.";
        assert_eq!(text(&token, &[TokenType::Db], SystemTime::UNIX_EPOCH), expected);
    }

    #[test]
    fn a_token_for_a_host_says_what_its_sshd_must_trust() {
        let text = text(&AddTokenResponse::default(), &[TokenType::Node], SystemTime::UNIX_EPOCH);
        for part in [
            "Start a sidecar next to the host with it:",
            "--protocol=ssh \\\n    --uri=localhost:22 \\\n    --labels=env=dev \\\n    --listen=0.0.0.0:3022",
            "tctl auth export --type=openssh > /etc/ssh/touchstone_ca.pub",
            "TrustedUserCAKeys /etc/ssh/touchstone_ca.pub",
        ] {
            assert!(text.contains(part), "{part} not in {text}");
        }
    }
}
