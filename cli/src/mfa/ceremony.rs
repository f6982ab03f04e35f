//! Asking for the second factor: which ways there are, what is shown, and who answers first.

use std::sync::Arc;

use auth::proto::{MfaResponse, PingRequest, mfa_response::Response, public_client::PublicClient};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use webauthn_rs_proto::CreationChallengeResponse;

use super::{Challenge, KeyError, RelyingParty, RelyingPartyError, SecurityKey};
use crate::{
    proxy_address::ProxyAddress,
    terminal::{PATIENCE, Terminal, TerminalError},
};

/// Which second factor is used (`--mfa-mode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// Whatever is there: a security key, a code, or whichever answers first.
    #[default]
    Auto,
    /// A code from an OTP device.
    Otp,
    /// A security key that can be carried from machine to machine.
    CrossPlatform,
}

/// Which device a prompt asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Any of the user's.
    Any,
    /// One that is registered already, while another is being added.
    Registered,
}

/// Why the second factor was not proved.
#[derive(Debug, thiserror::Error)]
pub enum MfaError {
    /// The user has no device that is accepted here.
    #[error("you have no MFA device that is accepted here, add one: tsh mfa add")]
    NoDevice,
    /// `--mfa-mode=otp`, and no OTP device.
    #[error("you have no OTP device that is accepted here, try without --mfa-mode=otp")]
    NoOtp,
    /// A security key is wanted, and this build cannot use one.
    #[error(
        "a security key is needed, and this version of tsh cannot use one yet: USB keys and the browser come later; \
         where the cluster accepts OTP, add such a device and use --mfa-mode=otp"
    )]
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
    /// Nobody touched.
    #[error("nobody touched a security key within {} minutes", PATIENCE.as_secs() / 60)]
    NoTouch,
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

/// What a challenge can be answered with, here and now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Nothing,
    Key,
    Code,
    KeyOrCode,
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
        let way = self.way(challenge)?;
        if let Some(prompt) = prompt(way, whose) {
            self.terminal.say(&prompt)?;
        }
        let response = match way {
            Way::Nothing => return Ok(MfaResponse { response: None }),
            Way::Key => self.touch(challenge).await?,
            Way::Code => self.code(&CancellationToken::new()).await?,
            Way::KeyOrCode => self.touch_or_code(challenge).await?,
        };
        Ok(MfaResponse { response: Some(response) })
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
        let touched = timeout(PATIENCE, tokio::task::spawn_blocking(move || key.register(&party, options)));
        let credential = touched.await.map_err(|_| MfaError::NoTouch)???;
        self.detected()?;
        serde_json::to_string(&credential).map_err(MfaError::Options)
    }

    fn way(&self, challenge: &Challenge) -> Result<Way, MfaError> {
        if challenge.none_required() {
            return Ok(Way::Nothing);
        }
        let offered = challenge.options().is_some();
        let way = choose(self.mode, offered, self.key.is_some(), challenge.accepts_code())?;
        // Without a person's terminal, standard input belongs to the program started next.
        let nobody_types = way == Way::KeyOrCode && !self.terminal.is_controlling();
        Ok(if nobody_types { Way::Key } else { way })
    }

    async fn relying_party(&self) -> Result<RelyingParty, MfaError> {
        let ping = PublicClient::new(self.channel.clone()).ping(PingRequest {}).await?.into_inner();
        Ok(RelyingParty::claimed(&self.proxy, &ping.webauthn_rp_id, &ping.webauthn_origin)?)
    }

    async fn touch(&self, challenge: &Challenge) -> Result<Response, MfaError> {
        let key = self.key.clone().ok_or(MfaError::NoSecurityKey)?;
        let options = challenge.options().cloned().ok_or(MfaError::NoDevice)?;
        let party = self.relying_party().await?;
        party.check(&options.public_key.rp_id)?;
        let touched = timeout(PATIENCE, tokio::task::spawn_blocking(move || key.assert(&party, options)));
        let assertion = touched.await.map_err(|_| MfaError::NoTouch)???;
        self.detected()?;
        let json = serde_json::to_string(&assertion).map_err(MfaError::Options)?;
        Ok(Response::WebauthnAssertionJson(json))
    }

    fn detected(&self) -> Result<(), TerminalError> {
        self.terminal.say("Detected security key tap")?;
        match self.key.as_ref().and_then(|key| key.warning()) {
            Some(warning) => self.terminal.say(warning),
            None => Ok(()),
        }
    }

    async fn code(&self, withdraw: &CancellationToken) -> Result<Response, MfaError> {
        let (terminal, withdraw) = (Arc::clone(&self.terminal), withdraw.clone());
        let code = tokio::task::spawn_blocking(move || terminal.answer(&withdraw)).await??;
        Ok(Response::TotpCode(code.trim().to_owned()))
    }

    /// The touch races the code. A code that was typed wins over a key that failed; a touch withdraws the question.
    async fn touch_or_code(&self, challenge: &Challenge) -> Result<Response, MfaError> {
        let withdraw = CancellationToken::new();
        let touch = self.touch(challenge);
        let code = self.code(&withdraw);
        tokio::pin!(touch, code);
        tokio::select! {
            biased;
            touched = &mut touch => match touched {
                Ok(response) => {
                    withdraw.cancel();
                    // The reader must be gone before anybody else reads this terminal.
                    let _ = code.await;
                    Ok(response)
                }
                Err(MfaError::Key(error)) => {
                    self.terminal.say(&format!("{error}; enter a code from an OTP device:"))?;
                    code.await
                }
                Err(error) => {
                    withdraw.cancel();
                    let _ = code.await;
                    Err(error)
                }
            },
            typed = &mut code => typed,
        }
    }
}

fn choose(mode: Mode, key_offered: bool, key_here: bool, otp: bool) -> Result<Way, MfaError> {
    match mode {
        Mode::Otp if otp => Ok(Way::Code),
        Mode::Otp => Err(MfaError::NoOtp),
        Mode::CrossPlatform if key_offered && key_here => Ok(Way::Key),
        Mode::CrossPlatform if key_offered => Err(MfaError::NoSecurityKey),
        Mode::CrossPlatform => Err(MfaError::NoDevice),
        Mode::Auto => match (key_offered, key_here, otp) {
            (true, true, true) => Ok(Way::KeyOrCode),
            (true, true, false) => Ok(Way::Key),
            (true, false, false) => Err(MfaError::NoSecurityKey),
            (_, _, true) => Ok(Way::Code),
            (false, _, false) => Err(MfaError::NoDevice),
        },
    }
}

fn prompt(way: Way, whose: Whose) -> Option<String> {
    let which = match whose {
        Whose::Any => "",
        Whose::Registered => "*registered* ",
    };
    match way {
        Way::Nothing => None,
        Way::Key => Some(format!("Tap any {which}security key")),
        Way::Code if whose == Whose::Any => Some("Enter an OTP code from a device:".to_owned()),
        Way::Code => Some(format!("Enter an OTP code from a {which}device:")),
        Way::KeyOrCode => {
            Some(format!("Tap any {which}security key or enter a code from a {which}OTP device:"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_are_teleports() {
        let shown = |way| prompt(way, Whose::Any);
        assert_eq!(shown(Way::Key).unwrap(), "Tap any security key");
        assert_eq!(shown(Way::KeyOrCode).unwrap(), "Tap any security key or enter a code from a OTP device:");
        assert_eq!(shown(Way::Code).unwrap(), "Enter an OTP code from a device:");
        assert_eq!(shown(Way::Nothing), None);
        assert_eq!(prompt(Way::Key, Whose::Registered).unwrap(), "Tap any *registered* security key");
    }

    #[test]
    fn auto_takes_what_is_there() {
        assert_eq!(choose(Mode::Auto, true, true, true).unwrap(), Way::KeyOrCode);
        assert_eq!(choose(Mode::Auto, true, true, false).unwrap(), Way::Key);
        assert_eq!(choose(Mode::Auto, true, false, true).unwrap(), Way::Code);
        assert_eq!(choose(Mode::Auto, false, true, true).unwrap(), Way::Code);
        assert!(matches!(choose(Mode::Auto, true, false, false), Err(MfaError::NoSecurityKey)));
        assert!(matches!(choose(Mode::Auto, false, true, false), Err(MfaError::NoDevice)));
    }

    #[test]
    fn a_mode_that_was_asked_for_is_never_replaced_by_another() {
        assert_eq!(choose(Mode::Otp, true, true, true).unwrap(), Way::Code);
        assert!(matches!(choose(Mode::Otp, true, true, false), Err(MfaError::NoOtp)));
        assert_eq!(choose(Mode::CrossPlatform, true, true, true).unwrap(), Way::Key);
        assert!(matches!(choose(Mode::CrossPlatform, true, false, true), Err(MfaError::NoSecurityKey)));
        assert!(matches!(choose(Mode::CrossPlatform, false, true, true), Err(MfaError::NoDevice)));
    }
}
