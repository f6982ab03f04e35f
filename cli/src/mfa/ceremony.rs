//! Asking for the second factor: what is shown, and who answers first.

use std::sync::Arc;

use auth::proto::{MfaResponse, PingRequest, mfa_response::Response, public_client::PublicClient};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use webauthn_rs_proto::CreationChallengeResponse;
use zeroize::Zeroizing;

use super::{
    Challenge, KeyError, Mode, PageError, Person, RelyingParty, RelyingPartyError, SecurityKey, Whose,
    browser::Page,
    security_key::missing,
    way::{self, Offer, Touch, Way},
};
use crate::{
    interrupt::{Cancelled, unless_cancelled},
    output::printable,
    proxy_address::ProxyAddress,
    terminal::{PATIENCE, Terminal, TerminalError},
};

/// Why the second factor was not proved.
#[derive(Debug, thiserror::Error)]
pub enum MfaError {
    /// The user has no device that is accepted here.
    #[error("you have no MFA device that is accepted here, add one: tsh mfa add")]
    NoDevice,
    /// `--mfa-mode=otp`, and no OTP device.
    #[error("you have no OTP device that is accepted here, try without --mfa-mode=otp")]
    NoOtp,
    /// A security key is wanted here, and none is plugged in.
    #[error("{}", missing("approve in a browser: --mfa-mode=browser"))]
    NoSecurityKey,
    /// The options cannot be read.
    #[error("the auth service sent a challenge that cannot be read")]
    Options(#[source] serde_json::Error),
    /// The service may not have a key's answer.
    #[error(transparent)]
    RelyingParty(#[from] RelyingPartyError),
    /// The key did not answer.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The page brought no touch.
    #[error(transparent)]
    Page(#[from] PageError),
    /// Nobody touched.
    #[error("nobody touched a security key within {} minutes", PATIENCE.as_secs() / 60)]
    NoTouch,
    /// Ctrl-C.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// The terminal failed, or nobody answered.
    #[error(transparent)]
    Terminal(#[from] TerminalError),
    /// The service failed.
    #[error(transparent)]
    Service(#[from] tonic::Status),
    /// A task of ours failed.
    #[error("the question could not be asked")]
    Task(#[from] tokio::task::JoinError),
}

/// Asks people for their second factor, for one auth service.
#[derive(Clone)]
pub struct Prompter {
    /// Where people are.
    pub terminal: Arc<Terminal>,
    /// The security key, where there is one.
    pub key: Option<Arc<dyn SecurityKey>>,
    /// `--mfa-mode`.
    pub mode: Mode,
    /// The service that was dialled: a key answers nobody else.
    pub proxy: ProxyAddress,
    /// The service.
    pub channel: Channel,
}

impl Prompter {
    /// Answers a challenge.
    ///
    /// # Errors
    /// [`MfaError`].
    pub async fn answer(&self, challenge: &Challenge, whose: Whose) -> Result<MfaResponse, MfaError> {
        if challenge.none_required() {
            return Ok(MfaResponse { response: None });
        }
        let response = unless_cancelled(self.asked(challenge, whose)).await??;
        Ok(MfaResponse { response: Some(response) })
    }

    async fn asked(&self, challenge: &Challenge, whose: Whose) -> Result<Response, MfaError> {
        let way = self.way(challenge)?;
        match (self.go(way, challenge, whose).await, way.in_browser()) {
            // Another key than the user's may be plugged in, and the user's be a passkey of the browser.
            (Err(MfaError::Key(error @ KeyError::NotRegistered)), Some(page)) if self.mode == Mode::Auto => {
                self.terminal.say(&error.to_string())?;
                self.go(page, challenge, whose).await
            }
            (answer, _) => answer,
        }
    }

    /// Makes a credential for a new security key; the prompt is `Tap your *new* security key`.
    ///
    /// # Errors
    /// [`MfaError`].
    pub async fn register(&self, creation_options_json: &str) -> Result<String, MfaError> {
        let key = self.key.clone().ok_or(MfaError::NoSecurityKey)?;
        let options: CreationChallengeResponse =
            serde_json::from_str(creation_options_json).map_err(MfaError::Options)?;
        let party = self.relying_party().await?;
        party.check(&options.public_key.rp.id)?;
        self.terminal.say("Tap your *new* security key")?;
        let left = CancellationToken::new();
        let _left = left.clone().drop_guard();
        let person = self.person(CancellationToken::new(), left);
        let touched = timeout(
            PATIENCE,
            tokio::task::spawn_blocking(move || key.register_with(&person, &party, options)),
        );
        let credential = unless_cancelled(touched).await?.map_err(|_| MfaError::NoTouch)???;
        self.detected()?;
        serde_json::to_string(&credential).map_err(MfaError::Options)
    }

    fn way(&self, challenge: &Challenge) -> Result<Way, MfaError> {
        let offer = Offer {
            key: challenge.options().is_some(),
            key_here: self.key.is_some(),
            code: challenge.accepts_code(),
        };
        let way = way::choose(self.mode, offer)?;
        Ok(match way {
            // Without a person's terminal, standard input belongs to the program started next.
            Way::TouchOrCode(touch) if !self.terminal.is_controlling() => Way::Touch(touch),
            way => way,
        })
    }

    async fn go(&self, way: Way, challenge: &Challenge, whose: Whose) -> Result<Response, MfaError> {
        // Before anything is shown: where no key may answer, nobody is asked to touch one.
        let party = match way {
            Way::Code => None,
            Way::Touch(_) | Way::TouchOrCode(_) => Some(self.party_of(challenge).await?),
        };
        let page = match (way, &party) {
            (Way::Touch(touch) | Way::TouchOrCode(touch), Some(party)) if touch != Touch::Key => {
                let page = Page::ask(&self.channel, challenge, party, touch).await?;
                page.show(&self.terminal, touch)?;
                Some(page)
            }
            _ => None,
        };
        if let Some(prompt) = way.prompt(whose) {
            self.terminal.say(&prompt)?;
        }
        let withdraw = CancellationToken::new();
        let touch = async {
            match (&page, &party) {
                (Some(page), _) => Ok(page.answer().await?),
                (None, Some(party)) => self.touch(challenge, party.clone(), &withdraw).await,
                (None, None) => Err(MfaError::NoDevice),
            }
        };
        match way {
            Way::Code => self.code(&withdraw).await,
            Way::Touch(_) => touch.await,
            Way::TouchOrCode(_) => self.touch_or_code(touch, &withdraw).await,
        }
    }

    async fn relying_party(&self) -> Result<RelyingParty, MfaError> {
        let ping = PublicClient::new(self.channel.clone()).ping(PingRequest {}).await?.into_inner();
        Ok(RelyingParty::claimed(&self.proxy, &ping.webauthn_rp_id, &ping.webauthn_origin)?)
    }

    /// Whom the touch is for; refused where the challenge names another.
    async fn party_of(&self, challenge: &Challenge) -> Result<RelyingParty, MfaError> {
        let options = challenge.options().ok_or(MfaError::NoDevice)?;
        let party = self.relying_party().await?;
        party.check(&options.public_key.rp_id)?;
        Ok(party)
    }

    /// `withdraw` ends a question for a code: a key that asks for its PIN needs the keyboard.
    async fn touch(
        &self,
        challenge: &Challenge,
        party: RelyingParty,
        withdraw: &CancellationToken,
    ) -> Result<Response, MfaError> {
        let key = self.key.clone().ok_or(MfaError::NoSecurityKey)?;
        let options = challenge.options().cloned().ok_or(MfaError::NoDevice)?;
        let left = CancellationToken::new();
        // Whoever gives up waiting lets the key know, which would go on blinking.
        let _left = left.clone().drop_guard();
        let person = self.person(withdraw.clone(), left);
        let touched =
            timeout(PATIENCE, tokio::task::spawn_blocking(move || key.assert_with(&person, &party, options)));
        let assertion = touched.await.map_err(|_| MfaError::NoTouch)???;
        self.detected()?;
        let json = serde_json::to_string(&assertion).map_err(MfaError::Options)?;
        Ok(Response::WebauthnAssertionJson(json))
    }

    fn person(&self, code: CancellationToken, left: CancellationToken) -> AtTerminal {
        AtTerminal { terminal: Arc::clone(&self.terminal), code, left }
    }

    fn detected(&self) -> Result<(), TerminalError> {
        self.terminal.say("Detected security key tap")?;
        match self.key.as_ref().and_then(|key| key.warning()) {
            Some(warning) => self.terminal.say(warning),
            None => Ok(()),
        }
    }

    /// A code, once one was typed: an empty line is no wrong code, which would be counted.
    async fn code(&self, withdraw: &CancellationToken) -> Result<Response, MfaError> {
        let withdraw = withdraw.child_token();
        // Whoever gives up waiting takes the reader along, or it would eat what is typed next.
        let _withdrawn = withdraw.clone().drop_guard();
        loop {
            let (terminal, withdraw) = (Arc::clone(&self.terminal), withdraw.clone());
            let code = tokio::task::spawn_blocking(move || terminal.answer(&withdraw)).await??;
            let code = code.trim();
            if !code.is_empty() {
                return Ok(Response::TotpCode(code.to_owned()));
            }
        }
    }

    /// The touch races the code. A code that was typed wins over a key that failed; a touch withdraws the question, and so
    /// does a key that asks for its PIN.
    async fn touch_or_code(
        &self,
        touch: impl Future<Output = Result<Response, MfaError>>,
        withdraw: &CancellationToken,
    ) -> Result<Response, MfaError> {
        let code = self.code(withdraw);
        tokio::pin!(touch, code);
        let touched = tokio::select! {
            biased;
            touched = &mut touch => touched,
            typed = &mut code => match typed {
                Err(MfaError::Terminal(TerminalError::Withdrawn)) => return touch.await,
                typed => return typed,
            },
        };
        let page_is_better =
            |error: &KeyError| self.mode == Mode::Auto && matches!(error, KeyError::NotRegistered);
        match touched {
            Err(MfaError::Key(error)) if !withdraw.is_cancelled() && !page_is_better(&error) => {
                self.terminal.say(&format!("{error}; enter a code from an OTP device:"))?;
                code.await
            }
            touched => {
                withdraw.cancel();
                // The reader must be gone before anybody else reads this terminal.
                let _ = code.await;
                touched
            }
        }
    }
}

/// Whoever sits at the terminal.
struct AtTerminal {
    terminal: Arc<Terminal>,
    /// Withdraws the question for a code.
    code: CancellationToken,
    left: CancellationToken,
}

impl Person for AtTerminal {
    fn say(&self, line: &str) {
        // A terminal that is gone is found out by whoever asks next.
        let _ = self.terminal.say(&printable(line));
    }

    fn pin(&self, prompt: &str) -> Result<Zeroizing<String>, TerminalError> {
        self.code.cancel();
        self.terminal.ask_hidden(prompt)
    }

    fn ask(&self, prompt: &str) -> Result<String, TerminalError> {
        self.code.cancel();
        self.terminal.ask(&printable(prompt))
    }

    fn has_left(&self) -> bool {
        self.left.is_cancelled()
    }
}

#[cfg(test)]
mod tests;
