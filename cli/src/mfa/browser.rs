//! A touch on a page: the link is shown, the number beside it, and then the page's answer is waited for.
//!
//! The service makes the page and relays the answer, so neither is believed: the link must lead to the service that was
//! dialled, and the answer must be over the very challenge that was found to be for what was asked for.

use std::time::Duration;

use auth::{
    proto::{
        AwaitBrowserMfaRequest, BeginBrowserMfaRequest, BrowserMfa, MfaResponse,
        await_browser_mfa_response::Outcome, mfa_response::Response, public_client::PublicClient,
    },
    receipt::{self, ReceiptError},
};
use tokio::time::{sleep, timeout};
use tonic::{Code, Status, transport::Channel};
use url::Url;
use webauthn_rs_proto::PublicKeyCredential;

use super::{Challenge, RelyingParty, opener, way::Touch};
use crate::terminal::{PATIENCE, Terminal, TerminalError};

/// Where pages lie at every service.
const PATH: &str = "/web/approve/";

/// What makes the page ask for this machine's own authenticator.
const THIS_MACHINE: &str = "this-machine";

/// Calls that may fail in a row while the page is waited for, and the time between them: a laptop changes its network, a
/// service starts anew.
const RETRIES: u32 = 5;
const BETWEEN_RETRIES: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 1000 });

/// Why a page brought no touch.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// The link does not lead to the service that was dialled.
    #[error("the auth service wants to be approved at {link:?}, which is not its own page")]
    Elsewhere {
        /// Where it leads.
        link: String,
    },
    /// The number is none.
    #[error("the auth service gives no number to press")]
    Number,
    /// Somebody said no, or pressed another number than the one shown.
    #[error(
        "denied in the browser: somebody said no on that page, or pressed another number than the one shown here"
    )]
    Denied,
    /// Five minutes went by, or the service has forgotten the page.
    #[error("the page has expired without an approval; run the command again for a new link")]
    Expired,
    /// What came back is not an assertion.
    #[error("the page's answer cannot be read")]
    Unreadable(#[source] serde_json::Error),
    /// What came back is a touch for something else.
    #[error("the page's answer is a touch for something else than was asked for here, and was not used")]
    OtherTouch(#[source] ReceiptError),
    /// The service failed.
    #[error(transparent)]
    Service(Status),
}

/// A page that somebody is to answer.
#[derive(Debug)]
pub(super) struct Page<'a> {
    channel: Channel,
    wait_token: String,
    link: Url,
    number: String,
    challenge: &'a Challenge,
    party: &'a RelyingParty,
}

impl<'a> Page<'a> {
    /// Asks for a page for a challenge.
    pub(super) async fn ask(
        channel: &Channel,
        challenge: &'a Challenge,
        party: &'a RelyingParty,
        touch: Touch,
    ) -> Result<Self, PageError> {
        let request = BeginBrowserMfaRequest { challenge_id: challenge.id().to_owned() };
        let begun = PublicClient::new(channel.clone()).begin_browser_mfa(request).await;
        let BrowserMfa { url, number, wait_token, .. } = begun.map_err(PageError::Service)?.into_inner();
        let mut link = own_page(&url, party)?;
        if touch == Touch::Platform {
            link.set_fragment(Some(THIS_MACHINE));
        }
        if number.len() != 2 || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(PageError::Number);
        }
        Ok(Self { channel: channel.clone(), wait_token, link, number, challenge, party })
    }

    /// Shows the way there, and opens it where that can be done.
    pub(super) fn show(&self, terminal: &Terminal, touch: Touch) -> Result<(), TerminalError> {
        let link = self.link.as_str();
        let opened = opener::open(link);
        terminal.say(&directions(link, &self.number, opened, touch))
    }

    /// What happens on the page.
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping it: the page stays, and may be waited for again.
    pub(super) async fn answer(&self) -> Result<Response, PageError> {
        let json = timeout(PATIENCE, self.outcome()).await.map_err(|_| PageError::Expired)??;
        let assertion: PublicKeyCredential = serde_json::from_str(&json).map_err(PageError::Unreadable)?;
        let party = receipt::RelyingParty {
            rp_id: self.party.id().to_owned(),
            origins: vec![self.party.origin().to_string()],
        };
        let response = &assertion.response;
        party
            .check_occasion(
                &response.client_data_json,
                &response.authenticator_data,
                self.challenge.expected(),
            )
            .map_err(PageError::OtherTouch)?;
        Ok(Response::WebauthnAssertionJson(json))
    }

    async fn outcome(&self) -> Result<String, PageError> {
        let mut client = PublicClient::new(self.channel.clone());
        let mut failures = 0;
        loop {
            let request = AwaitBrowserMfaRequest { wait_token: self.wait_token.clone() };
            match client.await_browser_mfa(request).await.map(|answer| answer.into_inner().outcome) {
                Ok(Some(Outcome::Approved(MfaResponse {
                    response: Some(Response::WebauthnAssertionJson(json)),
                }))) => return Ok(json),
                Ok(Some(Outcome::Denied(_))) => return Err(PageError::Denied),
                Ok(Some(Outcome::Pending(_))) => failures = 0,
                Ok(Some(Outcome::Approved(_)) | None) => {
                    return Err(PageError::Service(Status::internal(
                        "the auth service's answer cannot be read",
                    )));
                }
                Err(status) if status.code() == Code::FailedPrecondition => return Err(PageError::Expired),
                Err(status) if status.code() == Code::Unavailable && failures < RETRIES => {
                    failures += 1;
                    sleep(BETWEEN_RETRIES).await;
                }
                Err(status) => return Err(PageError::Service(status)),
            }
        }
    }
}

fn own_page(link: &str, party: &RelyingParty) -> Result<Url, PageError> {
    let elsewhere = || PageError::Elsewhere { link: link.to_owned() };
    let url = Url::parse(link).map_err(|_| elsewhere())?;
    let id = url.path().strip_prefix(PATH).unwrap_or_default();
    let known = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    let is_page = !id.is_empty() && id.chars().all(known) && url.fragment().is_none();
    if url.origin() == party.origin().origin() && plain && is_page { Ok(url) } else { Err(elsewhere()) }
}

fn directions(link: &str, number: &str, opened: bool, touch: Touch) -> String {
    let head = match (touch, opened) {
        (Touch::Platform, true) => {
            "Using platform authenticator, follow the OS prompt. It is asked from a page that was opened in your \
             browser; if you do not see it, open:"
        }
        (Touch::Platform, false) => {
            "Using platform authenticator, follow the OS prompt. It is asked from a page; in this machine's browser, open:"
        }
        (_, true) => "A page was opened in your browser. If you do not see it, open:",
        (_, false) => "Open this page in a browser:",
    };
    format!(
        "{head}\n\n  {link}\n\nCheck that the page says what you are doing here, and press {number} on it."
    )
}

#[cfg(test)]
mod tests;
