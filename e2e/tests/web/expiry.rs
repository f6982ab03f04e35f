//! What waits too long is over. authd runs in this process, under a clock that we set.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use auth::{
    api::{Trust, connect},
    clock::{Clock, ClockHandle},
    proto::{BeginBrowserMfaRequest, BeginLoginRequest, BrowserMfa, public_client::PublicClient},
};
use authd::{config::Config, server::Server};
use e2e::{Browser, KeyOptions, PASSWORD, Tctl, directory};
use tempfile::TempDir;

use crate::stage::Desk;

struct Timeless {
    desk: Desk,
    server: Server,
    tctl: Tctl,
    clock: ClockHandle,
    _dir: TempDir,
}

impl Timeless {
    async fn new() -> Result<Self> {
        let dir = directory()?;
        let (time, clock) = Clock::fixed(SystemTime::now());
        let config = Config {
            data_dir: dir.path().join("authd"),
            listen: "127.0.0.1:0".parse()?,
            ..Config::default()
        };
        let server = Server::start(&config, time).await?;
        let tctl = Tctl::new(&config.data_dir);
        let pin = server.ca_pins().first().context("no pin")?.clone();
        let browser = Browser::start(&dir.path().join("browser"), server.public_addr(), &pin).await?;
        Ok(Self { desk: Desk { browser }, server, tctl, clock, _dir: dir })
    }

    /// A login of somebody's terminal that waits for its page.
    async fn ask(&self, user: &str) -> Result<BrowserMfa> {
        let pins = self.server.ca_pins().iter().map(|pin| pin.parse()).collect::<Result<_, _>>()?;
        let channel = connect(&self.server.address().to_string(), Trust::Pins(pins), None).await?;
        let mut client = PublicClient::new(channel);
        let login = BeginLoginRequest { user: user.to_owned(), password: PASSWORD.to_owned() };
        let challenge_id = client.begin_login(login).await?.into_inner().challenge_id;
        Ok(client.begin_browser_mfa(BeginBrowserMfaRequest { challenge_id }).await?.into_inner())
    }
}

/// tctl is waited for by this thread, authd answers on the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approval_a_session_and_an_invitation_that_waited_too_long_lead_nowhere() -> Result<()> {
    let timeless = Timeless::new().await?;
    let Timeless { desk, tctl, clock, .. } = &timeless;
    let browser = &desk.browser;
    desk.settle(&tctl.invite("jerry", "access")?, KeyOptions::PLAIN, "webauthn").await?;
    let asked = timeless.ask("jerry").await?;
    browser.open(&asked.url).await?;
    browser.shows("ask").await?;
    clock.advance(Duration::from_secs(5 * 60));
    browser.press("#numbers button").await?;
    browser.shows("gone").await?;
    ensure!(browser.text("gone").await?.contains("again for a new link"));

    desk.sign_in("jerry").await?;
    clock.advance(Duration::from_secs(10 * 60));
    browser.press("#add-form button").await?;
    desk.browser.shows("enroll").await?;
    desk.enrol("webauthn", "another").await?;
    browser.shows("login").await?;

    let url = tctl.invite("olga", "access")?;
    desk.follow(&url).await?;
    clock.advance(Duration::from_secs(60 * 60));
    desk.enrol("webauthn", "late").await?;
    browser.shows("gone").await?;
    ensure!(browser.text("gone").await?.contains("a new invitation"));
    timeless.desk.browser.leave().await?;
    timeless.server.stop().await;
    Ok(())
}
