//! A browser on somebody's desk: headless Chromium, driven through chromedriver, and the security keys that one plugs into it.
//!
//! Keys are the virtual authenticators of WebDriver's WebAuthn extension (WebAuthn Level 2, 11): Chromium itself speaks to
//! them as it would to a key on USB, so nothing of the pages or of authd knows the difference.

mod command;
mod keys;
mod log;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use fantoccini::{Client, ClientBuilder, Locator, wd::Capabilities};
use hyper_util::client::legacy::connect::HttpConnector;
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use serde_json::{Value, json};

use log::text;

pub use keys::{Key, KeyOptions};

use crate::{
    binaries,
    process::{Daemon, POLL, mortal, poll},
};

/// Longest that a page may take to show what it should, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Longest that a killed browser may hold on to its profile.
const REMOVING: Duration = Duration::from_secs(2);

/// The keys of a keyboard, as WebDriver writes them.
pub const TAB: &str = "\u{e004}";
/// See [`TAB`].
pub const ENTER: &str = "\u{e007}";
/// See [`TAB`].
pub const ESCAPE: &str = "\u{e00c}";

/// What a page shows: read at once, so that its parts belong together.
const STATE: &str = "
    const text = (id) => document.getElementById(id)?.textContent ?? '';
    const shown = [...document.querySelectorAll('main > section')].filter((section) => !section.hidden);
    return {
        sections: shown.map((section) => section.id), problem: text('problem'), news: text('news'),
        path: location.pathname, body: shown.length ? '' : document.body?.innerText ?? '',
    };
";

/// A browser with a profile of its own. Killed with everything that it started when dropped.
pub struct Browser {
    client: Client,
    origin: String,
    /// Ends last.
    _driver: Driver,
}

/// chromedriver in a process group of its own, into which it starts Chromium.
struct Driver {
    daemon: Daemon,
    profile: PathBuf,
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Before the leader is waited for, its id cannot be another group's.
        if let Ok(id) = i32::try_from(self.daemon.id()) {
            let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
        }
        // Who is being killed may still write. Once the folder is gone, nobody can.
        let _ = poll("the profile to be removed", REMOVING, || Ok(fs::remove_dir_all(&self.profile).ok()));
    }
}

impl Driver {
    fn start(profile: &Path) -> Result<(Self, String)> {
        let mut command = mortal(binaries::browser("chromedriver")?, "KILL");
        command.arg("--port=0");
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let daemon = Daemon::start("chromedriver", command)?;
        let port = daemon.wait_for("chromedriver to listen", PATIENCE, |line| {
            let (_, port) = line.split_once("started successfully on port ")?;
            port.trim_end_matches('.').parse::<u16>().ok()
        })?;
        let profile = profile.to_owned();
        Ok((Self { daemon, profile }, format!("http://localhost:{port}/")))
    }
}

impl Browser {
    /// Starts one for the authd at `public_addr`, with its profile in the new folder `profile`. Of authorities that it does not know it trusts the cluster's alone, by its
    /// pin, and it finds no host but this machine.
    ///
    /// # Errors
    /// When Chromium or chromedriver is not installed, or does not start.
    pub async fn start(profile: &Path, public_addr: &str, ca_pin: &str) -> Result<Self> {
        fs::create_dir(profile).context("profile of the browser")?;
        let (driver, url) = Driver::start(profile)?;
        let capabilities = capabilities(profile, &authority(ca_pin)?)?;
        let client = ClientBuilder::new(HttpConnector::new()).capabilities(capabilities).connect(&url).await;
        let client = client.context("start Chromium")?;
        Ok(Self { client, origin: format!("https://{public_addr}"), _driver: driver })
    }

    /// Opens a page of authd: `/web/…`, or whole.
    ///
    /// # Errors
    /// When nothing answers there.
    pub async fn open(&self, address: &str) -> Result<()> {
        let url =
            if address.starts_with('/') { format!("{}{address}", self.origin) } else { address.to_owned() };
        self.client.goto(&url).await.with_context(|| format!("open {url}"))
    }

    /// Waits until a section is the one that is shown.
    ///
    /// # Errors
    /// When it is not in time: with what is shown.
    pub async fn shows(&self, section: &str) -> Result<()> {
        self.wait(&format!("section {section}"), |state| state.get("sections") == Some(&json!([section])))
            .await
            .map(drop)
    }

    /// Waits until the page complains, and answers with its words.
    ///
    /// # Errors
    /// When it does not.
    pub async fn problem(&self) -> Result<String> {
        let state = self.wait("a complaint", |state| text(state, "/problem") != Some("")).await?;
        Ok(text(&state, "/problem").unwrap_or_default().to_owned())
    }

    /// Waits until the page has news.
    ///
    /// # Errors
    /// When it has none.
    pub async fn news(&self) -> Result<String> {
        let state = self.wait("news", |state| text(state, "/news") != Some("")).await?;
        Ok(text(&state, "/news").unwrap_or_default().to_owned())
    }

    async fn wait(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let mut last = Value::Null;
        let waiting = async {
            loop {
                last = self.run(STATE).await?;
                if wanted(&last) {
                    return anyhow::Ok(());
                }
                tokio::time::sleep(POLL).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, waiting).await;
        waited.with_context(|| format!("waited in vain for {what}; the page is at {last}"))??;
        Ok(last)
    }

    /// Clicks on what a CSS selector finds.
    ///
    /// # Errors
    /// When it is not there, or something lies over it.
    pub async fn press(&self, selector: &str) -> Result<()> {
        let found = self.client.find(Locator::Css(selector)).await;
        found
            .with_context(|| format!("find {selector}"))?
            .click()
            .await
            .with_context(|| format!("press {selector}"))
    }

    /// Types into the empty field of this id.
    ///
    /// # Errors
    /// When there is none that takes it.
    pub async fn fill(&self, id: &str, text: &str) -> Result<()> {
        let field = self.client.find(Locator::Id(id)).await.with_context(|| format!("find {id}"))?;
        field.clear().await?;
        field.send_keys(text).await.with_context(|| format!("type into {id}"))
    }

    /// Types wherever the focus is.
    ///
    /// # Errors
    /// When nothing has it.
    pub async fn type_keys(&self, text: &str) -> Result<()> {
        Ok(self.client.active_element().await?.send_keys(text).await?)
    }

    /// What the element of this id says.
    ///
    /// # Errors
    /// When there is none.
    pub async fn text(&self, id: &str) -> Result<String> {
        let found = self.client.find(Locator::Id(id)).await.with_context(|| format!("find {id}"))?;
        Ok(found.text().await?)
    }

    /// What each of these elements says.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub async fn texts(&self, selector: &str) -> Result<Vec<String>> {
        let script = format!(
            "return [...document.querySelectorAll({})].map((found) => found.textContent);",
            json!(selector)
        );
        Ok(serde_json::from_value(self.run(&script).await?)?)
    }

    /// Runs a script in the page; what it returns.
    ///
    /// # Errors
    /// When it throws.
    pub async fn run(&self, script: &str) -> Result<Value> {
        self.client.execute(script, vec![]).await.context("run a script in the page")
    }

    /// As [`run`](Self::run) for a script that calls its last argument when it is done.
    ///
    /// # Errors
    /// When it throws, or does not get there.
    pub async fn run_async(&self, script: &str) -> Result<Value> {
        self.client.execute_async(script, vec![]).await.context("run a script in the page")
    }

    /// The address that is shown.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub async fn address(&self) -> Result<String> {
        Ok(self.client.current_url().await?.to_string())
    }

    /// Our pages' origin, as the browser has it.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// What is seen now, as PNG.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub async fn screenshot(&self) -> Result<Vec<u8>> {
        Ok(self.client.screenshot().await?)
    }

    /// Ends it as somebody who is done with it does: no page asked anybody but authd for anything, broke a rule of its own
    /// security policy, or had an error.
    ///
    /// # Errors
    /// When one did.
    pub async fn leave(self) -> Result<()> {
        let wrong = self.misdeeds().await?;
        self.client.clone().close().await.context("end Chromium")?;
        ensure!(wrong.is_empty(), "the pages misbehaved:\n{}", wrong.join("\n"));
        Ok(())
    }
}

fn capabilities(profile: &Path, authority: &str) -> Result<Capabilities> {
    let args = [
        // It ends when chromedriver does, however that ends.
        "--remote-debugging-pipe",
        "--headless=new",
        // Tests may run as root, where Chromium's own sandbox does not.
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-breakpad",
        "--no-first-run",
        "--hide-scrollbars",
        "--window-size=1280,900",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
        &format!("--user-data-dir={}", profile.display()),
        &format!("--ignore-certificate-errors-spki-list={authority}"),
    ];
    Ok(serde_json::from_value(json!({
        "browserName": "chrome",
        "goog:chromeOptions": {
            "binary": binaries::browser("chromium")?,
            "args": args,
            "perfLoggingPrefs": {"enableNetwork": true, "enablePage": false},
        },
        "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
    }))?)
}

/// A pin as Chromium writes it.
fn authority(pin: &str) -> Result<String> {
    let digest = pin.strip_prefix("sha256:").context("a pin of SHA-256")?;
    Ok(BASE64_STANDARD.encode(hex::decode(digest)?))
}
