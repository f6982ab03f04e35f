//! `tctl`: the administrator's commands. Each submodule is one command or one family of them.
//!
//! A command is a `clap` struct and a function `run(&mut Admin, …)` that makes one or two calls and prints. What it changes
//! it names beforehand, so that one touch is for all of it ([`change`]). The texts that people read are made by pure
//! functions, so that tests can hold them to the letter.

mod access;
mod audit;
mod auth;
mod change;
mod connection;
mod edit;
mod lock;
mod moment;
mod recordings;
mod resources;
mod status;
mod targets;
mod tokens;
mod users;

use std::time::Duration;

use clap::{Parser, Subcommand, builder::FalseyValueParser};

pub use connection::{Admin, Place};

use crate::{VERSION, completion::Completion, logging, output::print_text, ttl};

/// Administers a Touchstone cluster.
///
/// On the auth host it speaks to authd through the socket in its data directory. Elsewhere it uses the login of `tsh
/// login`, whose roles must carry matching `rules`.
#[derive(Debug, Parser)]
#[command(name = "tctl", display_name = "Touchstone", version = VERSION)]
pub struct Tctl {
    #[command(flatten)]
    place: Place,
    /// Log what happens to standard error
    #[arg(short, long, global = true, env = "TSH_DEBUG", value_parser = FalseyValueParser::new())]
    debug: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The cluster's name, version, authorities and CA pin
    Status(status::Status),
    /// Users: invite, list, change, remove, reset
    #[command(subcommand)]
    Users(users::Users),
    /// Create or update resources from a YAML file
    Create(resources::Create),
    /// Print resources: KIND or KIND/NAME (role, user, cap, token, lock, db, node), or all
    Get(resources::Get),
    /// Change a resource in $VISUAL or $EDITOR: KIND/NAME
    Edit(edit::Edit),
    /// Delete a resource: KIND/NAME
    Rm(resources::Rm),
    /// Join tokens for sidecars: add, list, remove
    #[command(subcommand)]
    Tokens(tokens::Tokens),
    /// Certificates: sign a database's, export the authorities
    #[command(subcommand)]
    Auth(auth::Auth),
    /// Databases that sidecars have announced
    #[command(subcommand)]
    Db(targets::Db),
    /// Nodes that sidecars have announced
    #[command(subcommand)]
    Nodes(targets::Nodes),
    /// Sidecars, with what they guard
    #[command(subcommand)]
    Inventory(targets::Inventory),
    /// Stop a user, role, login, MFA device, sidecar or target at once, live sessions included
    Lock(lock::Lock),
    /// What policy decides, and why
    #[command(subcommand)]
    Access(access::Access),
    /// The audit trail
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Recorded sessions: list them
    #[command(subcommand)]
    Recordings(recordings::Recordings),
    /// Print a script with which a shell completes what is typed: source <(tctl completion bash)
    Completion(Completion),
    /// Show the version
    Version,
}

/// Runs one command to its end.
///
/// # Errors
/// What is to be shown to the administrator.
pub fn run(tctl: Tctl) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(Box::pin(command(tctl)));
    // A thread may still wait for a key or a keystroke; nobody needs its answer any more.
    runtime.shutdown_timeout(Duration::ZERO);
    result
}

async fn command(Tctl { place, debug, command }: Tctl) -> anyhow::Result<()> {
    logging::start(debug);
    match command {
        Command::Status(command) => command.run(&mut place.connect().await?).await,
        Command::Users(command) => command.run(&mut place.connect().await?).await,
        Command::Create(command) => {
            // A file that is wrong should say so before anything is connected.
            let documents = command.read()?;
            resources::create(&mut place.connect().await?, &command, documents).await
        }
        Command::Get(command) => command.run(&mut place.connect().await?).await,
        Command::Edit(command) => command.run(&mut place.connect().await?).await,
        Command::Rm(command) => command.run(&mut place.connect().await?).await,
        Command::Tokens(command) => command.run(&mut place.connect().await?).await,
        Command::Auth(command) => command.run(&mut place.connect().await?).await,
        Command::Db(command) => command.run(&mut place.connect().await?).await,
        Command::Nodes(command) => command.run(&mut place.connect().await?).await,
        Command::Inventory(command) => command.run(&mut place.connect().await?).await,
        Command::Lock(command) => command.run(&mut place.connect().await?).await,
        Command::Access(command) => command.run(&mut place.connect().await?).await,
        Command::Audit(audit::Audit::Ls(command)) => command.run(&mut place.connect().await?).await,
        Command::Audit(audit::Audit::Verify(command)) => command.run(&place).await,
        Command::Recordings(command) => command.run(&mut place.connect().await?).await,
        Command::Completion(completion) => Ok(completion.print::<Tctl>()?),
        Command::Version => Ok(print_text(&format!("Touchstone {VERSION}"))?),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Tctl::command().debug_assert();
    }

    #[test]
    fn commands_read_as_in_the_documentation() {
        for line in [
            "tctl status",
            "tctl --data-dir /tmp/a users add --roles=access-dev,access-prod jerry",
            "tctl create -f cap.yaml",
            "tctl create -f -",
            "tctl create",
            "tctl get cap",
            "tctl nodes ls env=prod --search=web --format=json",
            "tctl nodes add --ttl=1h",
            "tctl db ls env=prod",
            "tctl inventory ls",
            "tctl auth export",
            "tctl auth sign --user=robot --format=file --out=robot.pem",
            "tctl get role/access-dev --format=json",
            "tctl get all",
            "tctl edit role/access-dev",
            "tctl edit cap",
            "tctl users update --set-roles=access-dev,access-prod jerry",
            "tctl users update jerry --set-logins= --set-db-users=jerry,reporting --set-db-names=*",
            "tctl rm role/access-dev",
            "tctl tokens add --type=db --ttl=1h",
            "tctl auth sign --format=db --host=db.example.com,127.0.0.1 --out=server --ttl=2190h",
            "tctl auth export --type=db-client",
            "tctl lock --user=jerry --message=Suspicious --ttl=10h",
            "tctl access explain --user jerry --target prod-pg --db-user jerry --db-name app",
            "tctl --auth-server auth.example.com:3080 audit ls --event db.session.start --limit 10",
            "tctl audit ls --since=24h --limit=10000 --format=json",
            "tctl --mfa-mode=browser create -f roles.yaml",
            "tctl audit verify",
            "tctl audit verify --since=24h --format=json",
            "tctl audit verify --since=2026-01-01 2026-01-01.jsonl 2026-01-02.jsonl",
            "tctl audit verify -",
            "tctl recordings ls --last=5h30m40s --limit=10 --format=json",
            "tctl -i boss.pem --auth-server=auth.example.com:3080 recordings ls --from-utc=2026-01-31",
            "tctl -d status",
        ] {
            Tctl::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn more_events_than_the_service_lists_cannot_be_asked_for() {
        assert!(Tctl::try_parse_from(["tctl", "audit", "ls", "--limit=10001"]).is_err());
    }

    #[test]
    fn a_kind_that_nobody_knows_is_refused_before_anything_is_connected() {
        for command in ["get", "rm"] {
            let error = Tctl::try_parse_from(["tctl", command, "foo/bar"]).unwrap_err().to_string();
            assert!(error.contains("unknown kind \"foo\": one of role, user"), "{error}");
        }
    }

    #[test]
    fn a_lock_names_exactly_one_target() {
        assert!(Tctl::try_parse_from(["tctl", "lock", "--message=x"]).is_err());
        assert!(Tctl::try_parse_from(["tctl", "lock", "--user=a", "--role=b"]).is_err());
    }
}
