//! What tctl changes, and the touch for it: each call of a command is named beforehand, and one touch is for all of them.
//!
//! The first call is made without: whoever may not make it is told so untouched, and where no touch is asked for (the
//! socket; a cluster without second factors) nobody is asked. Nothing has been changed when the touch is asked for, since
//! it is the first call that was refused.

use std::{env, sync::Arc};

use anyhow::{Context, Result, ensure};
use auth::{
    api::touch::{self, MAX_CALLS, MAX_COMMAND_BYTES},
    proto::{self, AdminMfa, admin_client::AdminClient, create_challenge_request, users_client::UsersClient},
};
use prost::Message;
use tonic::{Request, Response, Status, transport::Channel};

use super::{Admin, connection::Remote};
use crate::{
    mfa::{self, Asked, Challenge, Prompter, Reason, Whose},
    output::printable,
    terminal::Terminal,
};

/// A request that changes or signs something.
pub(super) trait Change: Message + Clone {
    /// As the contract names it.
    const METHOD: &'static str;
    /// What comes of it.
    type Answer;

    fn call(
        client: &mut AdminClient<Channel>,
        request: Request<Self>,
    ) -> impl Future<Output = Result<Response<Self::Answer>, Status>>;
}

macro_rules! changes {
    ($($request:ident, $method:literal, $call:ident, $answer:ident;)*) => {$(
        impl Change for proto::$request {
            const METHOD: &'static str = $method;
            type Answer = proto::$answer;

            async fn call(
                client: &mut AdminClient<Channel>,
                request: Request<Self>,
            ) -> Result<Response<Self::Answer>, Status> {
                client.$call(request).await
            }
        }
    )*};
}

changes! {
    AddUserRequest, "AddUser", add_user, InvitationLink;
    ResetUserRequest, "ResetUser", reset_user, InvitationLink;
    PutResourceRequest, "PutResource", put_resource, PutResourceResponse;
    DeleteResourceRequest, "DeleteResource", delete_resource, DeleteResourceResponse;
    AddTokenRequest, "AddToken", add_token, AddTokenResponse;
    SignDatabaseCertificateRequest, "SignDatabaseCertificate", sign_database_certificate,
        SignDatabaseCertificateResponse;
    RotateAuthorityRequest, "RotateAuthority", rotate_authority, RotateAuthorityResponse;
}

impl Admin {
    /// Makes a change that is a whole command.
    pub(super) async fn change<C: Change>(&mut self, change: C) -> Result<C::Answer> {
        self.command(std::slice::from_ref(&change)).make(change).await
    }

    /// Names all changes of a command, to be made one by one.
    pub(super) fn command<C: Change>(&mut self, changes: &[C]) -> Command<'_> {
        let calls = changes.iter().map(|change| touch::digest(C::METHOD, change)).collect();
        Command { admin: self, calls, touched: None }
    }
}

/// A command whose changes are being made.
pub(super) struct Command<'a> {
    admin: &'a mut Admin,
    calls: Vec<[u8; 32]>,
    touched: Option<AdminMfa>,
}

impl Command<'_> {
    /// Makes one of the changes that were named.
    pub(super) async fn make<C: Change>(&mut self, change: C) -> Result<C::Answer> {
        match (self.call(change.clone()).await, &self.admin.remote) {
            (Err(status), Some(remote)) if touch::is_needed(&status) && self.touched.is_none() => {
                self.touched = Some(touched(remote, &typed(env::args_os()), &self.calls).await?);
                let again = self.call(change).await;
                again.context("the auth service does not take the touch for this command; run it again")
            }
            (answer, _) => Ok(answer?),
        }
    }

    async fn call<C: Change>(&mut self, change: C) -> Result<C::Answer, Status> {
        let mut request = Request::new(change);
        if let Some(mfa) = &self.touched {
            touch::attach(&mut request, mfa);
        }
        C::call(&mut self.admin.client, request).await.map(Response::into_inner)
    }
}

/// Asks for the touch of a command.
async fn touched(remote: &Remote, command: &str, calls: &[[u8; 32]]) -> Result<AdminMfa> {
    ensure!(
        calls.len() <= MAX_CALLS,
        "one touch is for {MAX_CALLS} changes at most, and this command makes {}: split it",
        calls.len()
    );
    let Remote { connection, mode } = remote;
    let action = create_challenge_request::AdminAction {
        command: command.to_owned(),
        request_sha256: calls.iter().map(|call| call.to_vec()).collect(),
    };
    let scope = Some(create_challenge_request::Scope::AdminAction(action));
    let request = proto::CreateChallengeRequest { scope };
    let challenge =
        UsersClient::new(connection.channel.clone()).create_challenge(request).await?.into_inner();
    let profile = &connection.login.profile;
    let reason = Reason::AdminAction { command, calls };
    let asked = Asked { cluster: &profile.cluster, user: &profile.user, reason };
    let challenge = Challenge::checked(challenge, &asked)?;
    let prompter = Prompter {
        terminal: Arc::new(Terminal::open()?),
        key: mfa::plugged_in(),
        mode: *mode,
        proxy: profile.proxy.clone(),
        channel: connection.channel.clone(),
    };
    prompter.terminal.say(&format!("MFA is required for: {}", printable(command)))?;
    let answer = prompter.answer(&challenge, Whose::Any).await?;
    Ok(AdminMfa { challenge_id: challenge.into_id(), mfa: Some(answer) })
}

/// What was typed, as it is shown on the page and kept in the audit trail.
fn typed(words: impl Iterator<Item = std::ffi::OsString>) -> String {
    let words = words.skip(1).map(|word| quoted(&word.to_string_lossy()));
    let command = std::iter::once("tctl".to_owned()).chain(words).collect::<Vec<_>>().join(" ");
    let mut command: String = command.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if command.len() > MAX_COMMAND_BYTES {
        let end = command.floor_char_boundary(MAX_COMMAND_BYTES - '…'.len_utf8());
        command.truncate(end);
        command.push('…');
    }
    command
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    // NUL alone cannot be quoted, and no argument holds one.
    shlex::try_quote(word).map(Into::into).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(words: &[&str]) -> String {
        typed(words.iter().map(std::ffi::OsString::from))
    }

    #[test]
    fn a_command_is_shown_as_it_would_be_typed() {
        let words = ["/usr/bin/tctl", "lock", "--user=jerry", "--message=on the run"];
        assert_eq!(command(&words), "tctl lock --user=jerry '--message=on the run'");
        assert_eq!(command(&["tctl", "get", ""]), "tctl get ''");
    }

    #[test]
    fn what_is_shown_is_short_and_drives_no_terminal() {
        assert_eq!(command(&["tctl", "rm\u{1b}[2J"]), "tctl 'rm [2J'");
        let long = command(&["tctl", &"é".repeat(1000)]);
        assert!(long.len() <= MAX_COMMAND_BYTES && long.ends_with('…'), "{}", long.len());
    }
}
