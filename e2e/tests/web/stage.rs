//! A desk: a cluster, and a browser that somebody sits at. What each page looks like is checked on the way.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Result, ensure};
use e2e::{ACCESS_DEV, ACCESS_PROD, Authd, Browser, Key, KeyOptions, PASSWORD, PREFERENCE, Tctl, directory};
use serde_json::{Value, json};
use tempfile::TempDir;

/// What every page must be: readable, and usable by everybody. Returns what is wrong.
const LOOK: &str = include_str!("look.js");

/// Where screenshots go, when somebody wants to see them.
const SCREENSHOTS: &str = "TOUCHSTONE_SCREENSHOTS";

/// What is looked at in: name, whether it is a phone held upright, width and height in CSS pixels, theme. Colours do not
/// depend on the size, nor places on the theme: two see all there is to see. The other two are for people.
const LOOKS: [(&str, bool, u32, u32, &str); 4] = [
    ("window-light", false, 1280, 900, "light"),
    ("phone-dark", true, 390, 844, "dark"),
    ("window-dark", false, 1280, 900, "dark"),
    ("phone-light", true, 390, 844, "light"),
];

/// authd with Olga's roles, and nothing to connect to.
pub(crate) struct House {
    pub(crate) tctl: Tctl,
    pub(crate) authd: Authd,
    pub(crate) dir: TempDir,
}

impl House {
    pub(crate) fn new() -> Result<Self> {
        let dir = directory()?;
        let authd = Authd::start(&dir.path().join("authd"))?;
        let tctl = Tctl::new(authd.data_dir());
        for resource in [PREFERENCE, ACCESS_DEV, ACCESS_PROD] {
            tctl.create(resource)?;
        }
        Ok(Self { tctl, authd, dir })
    }

    pub(crate) async fn desk(&self) -> Result<Desk> {
        Desk::new(&self.dir.path().join("browser"), &self.authd, &self.tctl).await
    }
}

/// A browser, and the things that people do in it.
pub(crate) struct Desk {
    pub(crate) browser: Browser,
}

impl Desk {
    pub(crate) async fn new(profile: &Path, authd: &Authd, tctl: &Tctl) -> Result<Self> {
        Ok(Self { browser: Browser::start(profile, &authd.public_addr(), &tctl.ca_pin()?).await? })
    }

    /// Has the next request for a new key wait, as for somebody who changes keys first, until [`go_on`](Self::go_on).
    pub(crate) async fn hold(&self) -> Result<()> {
        let script = "
            const create = navigator.credentials.create.bind(navigator.credentials);
            const going = new Promise((resolve) => { window.goOn = resolve; });
            navigator.credentials.create = async (options) => { await going; return create(options); };
        ";
        self.browser.run(script).await.map(drop)
    }

    pub(crate) async fn go_on(&self) -> Result<()> {
        self.browser.run("goOn();").await.map(drop)
    }

    /// Has the next request for a key end as one that was cancelled in the browser's own window: with the same error, by
    /// the way of running out of time.
    pub(crate) async fn cancel_next(&self, name: &str) -> Result<()> {
        let script = format!(
            "const ask = navigator.credentials.{name}.bind(navigator.credentials);
             navigator.credentials.{name} = ({{ publicKey, ...rest }}) => {{
                 navigator.credentials.{name} = ask;
                 return ask({{ ...rest, publicKey: {{ ...publicKey, timeout: 1 }} }});
             }};"
        );
        self.browser.run(&script).await.map(drop)
    }

    /// Waits for a section, and looks at it in both themes, in a window and on a phone.
    pub(crate) async fn sees(&self, section: &str) -> Result<()> {
        self.sees_as(section, section).await
    }

    /// The same, for a section that is seen in several states.
    pub(crate) async fn sees_as(&self, section: &str, name: &str) -> Result<()> {
        self.browser.shows(section).await?;
        let folder = env::var_os(SCREENSHOTS).map(PathBuf::from);
        for (look, mobile, width, height, theme) in
            LOOKS.into_iter().take(if folder.is_some() { 4 } else { 2 })
        {
            let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile});
            self.browser.devtools("Emulation.setDeviceMetricsOverride", metrics).await?;
            let media = json!({"features": [{"name": "prefers-color-scheme", "value": theme}]});
            self.browser.devtools("Emulation.setEmulatedMedia", media).await?;
            let wrong: Vec<Value> = serde_json::from_value(self.browser.run_async(LOOK).await?)?;
            ensure!(wrong.is_empty(), "{name}, {look}: {wrong:#?}");
            if let Some(folder) = &folder {
                fs::create_dir_all(folder)?;
                fs::write(folder.join(format!("{name}-{look}.png")), self.browser.screenshot().await?)?;
            }
        }
        self.browser.devtools("Emulation.clearDeviceMetricsOverride", json!({})).await?;
        self.browser.devtools("Emulation.setEmulatedMedia", json!({"features": []})).await.map(drop)
    }

    /// Follows an invitation up to the choice of a device.
    pub(crate) async fn follow(&self, url: &str) -> Result<()> {
        self.browser.open(url).await?;
        self.browser.shows("password").await?;
        self.browser.fill("password-input", PASSWORD).await?;
        self.browser.fill("password-again", PASSWORD).await?;
        self.browser.press("#password-form button.main").await?;
        self.browser.shows("enroll").await
    }

    /// Chooses a kind of device (`webauthn`, `passkey`, `totp`) and a name for it.
    pub(crate) async fn enrol(&self, kind: &str, name: &str) -> Result<()> {
        self.browser.press(&format!("label[for=kind-{kind}]")).await?;
        self.browser.fill("device-name", name).await?;
        self.browser.press("#enroll-form button.main").await
    }

    /// The recovery codes that are shown now.
    pub(crate) async fn keep_codes(&self) -> Result<Vec<String>> {
        self.browser.shows("codes").await?;
        let codes = self.browser.texts("#codes-list li").await?;
        self.browser.press("#codes-form button.main").await?;
        Ok(codes)
    }

    /// Finishes an invitation with a new key.
    pub(crate) async fn settle(
        &self,
        url: &str,
        options: KeyOptions,
        kind: &str,
    ) -> Result<(Key, Vec<String>)> {
        let key = self.browser.plug_in(options).await?;
        self.follow(url).await?;
        self.enrol(kind, "blue key").await?;
        let codes = self.keep_codes().await?;
        self.browser.shows("done").await?;
        Ok((key, codes))
    }

    /// What the page says to type next, as the arguments of tsh.
    pub(crate) async fn command(&self) -> Result<Vec<String>> {
        let text = self.browser.text("done-command").await?;
        let mut words = text.split_whitespace().filter(|word| *word != "\\");
        ensure!(words.next() == Some("tsh"), "{text}");
        Ok(words.map(str::to_owned).collect())
    }

    /// User name and password, up to the second factor.
    pub(crate) async fn present(&self, user: &str, password: &str) -> Result<()> {
        self.browser.open("/web/login").await?;
        self.browser.shows("login").await?;
        self.browser.fill("login-user", user).await?;
        self.browser.fill("login-password", password).await?;
        self.browser.press("#login-form button.main").await
    }

    /// Signs in with the password and a touch.
    pub(crate) async fn sign_in(&self, user: &str) -> Result<()> {
        self.present(user, PASSWORD).await?;
        self.touch().await?;
        self.browser.shows("devices").await
    }

    /// Answers the question who one is by the key that is plugged in.
    pub(crate) async fn touch(&self) -> Result<()> {
        self.browser.shows("prove").await?;
        self.browser.press("#prove-key button").await
    }

    /// The page complains, and in these words.
    pub(crate) async fn complains(&self, words: &str) -> Result<()> {
        let problem = self.browser.problem().await?;
        ensure!(problem.contains(words), "{problem}");
        Ok(())
    }

    /// Waits until the page complains beside a field of the list, and answers with its words.
    pub(crate) async fn complains_in_a_row(&self) -> Result<String> {
        let script = "
            const done = arguments[0];
            const look = () => {
                const wrong = document.querySelector('#devices-list .wrong:not(:empty)');
                if (wrong) done(wrong.textContent); else requestAnimationFrame(look);
            };
            look();
        ";
        Ok(serde_json::from_value(self.browser.run_async(script).await?)?)
    }

    /// The names of one's devices.
    pub(crate) async fn devices(&self) -> Result<Vec<String>> {
        self.browser.shows("devices").await?;
        self.browser.texts("#devices-list strong").await
    }
}
