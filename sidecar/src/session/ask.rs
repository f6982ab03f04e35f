//! authorize, and where nothing but the touch is missing: ask for a code, then authorize again.
//!
//! Only a client that can be asked on its own connection is asked (SSH: keyboard-interactive), only for the login
//! certificate of a user who has a device for codes, and only where the cluster takes codes. authd judges the code; that the
//! code opens *this* session is decided here, by the same authorizer, from a proof that is bound to the connection's hash.

use std::{future::Future, pin::Pin, time::Duration};

use auth::{
    authorizer::SessionRequest,
    credential::{Credential, OtpProof},
    denied::{AccessDenied, DenyReason},
    identity::{Identity, MfaEvidence, UserName},
    permit::Permit,
    proto::{Route, VerifyOtpRequest},
};
use protocols::{Client as _, Peer, Prompt, Protocol, Reply, SshProof};
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::{Door, asked};
use crate::{admission::Place, chain::Chain, refusal};

/// How long a person may take for all attempts.
const ASK_DEADLINE: Duration = Duration::from_secs(180);
/// Codes that may be tried on one connection. authd counts them too, for the user.
const ATTEMPTS: usize = 3;
/// No code of ours is longer; what is, is not worth a call.
const MAX_CODE_BYTES: usize = 16;

const QUESTION: &str = "Enter an OTP code from a device: ";

/// Judges a code. Not on the hot path, hence the box.
pub(crate) trait VerifyCode: Send + Sync + 'static {
    fn verify(
        &self,
        asked: VerifyOtpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<OtpProof, CodeError>> + Send + '_>>;
}

/// Why a code proves nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CodeError {
    /// It is wrong, or was used before. The next one may be right.
    #[error("the one-time code is wrong")]
    Wrong,
    /// No code would do: too many were wrong, or codes are not taken from this user.
    #[error("authd takes no code")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// authd cannot be asked.
    #[error("authd cannot be asked about the code")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl<P: Protocol> Door<P> {
    /// The right to the session, or why not.
    ///
    /// # Cancel safety
    /// May be dropped: the client was told nothing yet.
    pub(super) async fn permit(
        &self,
        client: &mut P::Client,
        peer: &Peer,
        request: &SessionRequest,
        place: &Place,
    ) -> Result<Permit, AccessDenied> {
        let denied = match self.authorizer.authorize(&credential(peer), request) {
            Ok(permit) => return Ok(permit),
            Err(denied) => denied,
        };
        let Some((ssh, user)) = self.asks(peer, &denied) else { return Err(denied) };
        // Its certificate is genuine, so it need not make room for others while somebody looks for a phone, within bounds: a
        // certificate alone proves nobody's presence.
        place.asked(user);
        match timeout(ASK_DEADLINE, self.code(client, ssh, request)).await {
            Ok(Some(proof)) => {
                let (certificate, session_hash) = (&ssh.certificate[..], &ssh.session_hash[..]);
                let credential = Credential::SshWithOtp { certificate, session_hash, proof: &proof };
                self.authorizer.authorize(&credential, request)
            }
            Ok(None) | Err(_) => Err(denied),
        }
    }

    /// Whether a code could help: what it would be bound to, and whose it would be.
    fn asks<'a>(&self, peer: &'a Peer, denied: &'a AccessDenied) -> Option<(&'a SshProof, &'a UserName)> {
        let (DenyReason::MfaRequired { .. }, Peer::Ssh(ssh)) = (&denied.reason, peer) else { return None };
        let Identity { user, route: None, mfa: MfaEvidence::None, .. } = denied.identity.as_deref()? else {
            return None;
        };
        self.authorizer.takes_codes_of(user).then_some((ssh, user))
    }

    /// What authd says about a code that the client gives; `None` where it gives none that is right.
    async fn code(
        &self,
        client: &mut P::Client,
        ssh: &SshProof,
        request: &SessionRequest,
    ) -> Option<OtpProof> {
        let mut instruction = refusal::ask_text(asked(request));
        for _ in 0..ATTEMPTS {
            let prompt = Prompt { instruction, question: QUESTION.to_owned(), echo: false };
            let Reply::Given(code) = client.ask(&prompt).await else { return None };
            let code = std::str::from_utf8(code.expose()).ok().map(str::trim);
            let code = code.filter(|code| (1..=MAX_CODE_BYTES).contains(&code.len()));
            let judged = match code {
                Some(code) => self.codes.verify(self.asked_about(code, ssh, request)).await,
                None => Err(CodeError::Wrong),
            };
            match judged {
                Ok(proof) => return Some(proof),
                Err(CodeError::Wrong) => debug!("a wrong code"),
                Err(error @ CodeError::Refused(_)) => {
                    info!(error = %Chain(&error), "no code is taken");
                    return None;
                }
                Err(error @ CodeError::Failed(_)) => {
                    warn!(error = %Chain(&error), "a code was not judged");
                    return None;
                }
            }
            instruction = "That code was not accepted. Each is good once.".to_owned();
        }
        None
    }

    fn asked_about(&self, code: &str, ssh: &SshProof, request: &SessionRequest) -> VerifyOtpRequest {
        let route = Route {
            target_kind: "node".to_owned(),
            target_name: request.target.name.to_string(),
            login: match &request.login {
                auth::identity::Login::Node { login } => login.clone(),
                auth::identity::Login::Database { .. } => String::new(),
            },
            protocol: request.target.protocol.to_string(),
            ..Route::default()
        };
        VerifyOtpRequest {
            ssh_certificate: ssh.certificate.clone(),
            route: Some(route),
            code: code.to_owned(),
            session_hash: ssh.session_hash.to_vec(),
            client_address: request.client.to_string(),
        }
    }
}

/// What the client proved, as the authorizer takes it.
fn credential(peer: &Peer) -> Credential<'_> {
    match peer {
        Peer::None => Credential::X509(&[]),
        Peer::X509(chain) => Credential::X509(chain),
        Peer::Ssh(ssh) => Credential::Ssh { certificate: &ssh.certificate },
        Peer::SshInTls { chain, ssh } => Credential::SshInTls { chain, certificate: &ssh.certificate },
    }
}
