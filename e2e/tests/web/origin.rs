//! Pages and keys are for one name.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::KeyOptions;
use tokio::time::timeout;

use crate::stage::House;

/// Longest that the browser may take to note something.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn under_another_name_there_are_no_pages_and_no_key_answers() -> Result<()> {
    let house = House::new()?;
    let url = house.tctl.invite("jerry", "access-dev")?;
    let desk = house.desk().await?;
    let browser = &desk.browser;
    desk.settle(&url, KeyOptions::BUILT_IN, "passkey").await?;
    let elsewhere = browser.origin().replace("localhost", "127.0.0.1");
    for page in ["/web/login", "/web/devices", "/web/approve/0"] {
        browser.open(&format!("{elsewhere}{page}")).await?;
        let said = browser.run("return document.body.innerText").await?;
        let expected = format!("these pages are at {}/web", browser.origin());
        ensure!(said.as_str().is_some_and(|said| said.trim() == expected), "{said}");
    }
    // Nor does the browser ask the key for another name than that of the page.
    let asked = browser
        .run_async(
            "const done = arguments[arguments.length - 1];
             const publicKey = { rpId: 'localhost', challenge: new Uint8Array(32) };
             navigator.credentials.get({ publicKey }).then(() => done('an assertion'), (error) => done(error.name));",
        )
        .await?;
    ensure!(asked == "SecurityError", "{asked}");
    Ok(())
}

/// The rule that every other story here is held to, broken.
#[tokio::test]
async fn a_page_that_asks_somebody_else_or_breaks_its_policy_is_noticed() -> Result<()> {
    let misdeeds = [
        "fetch('https://127.0.0.1:9/').catch(() => {});",
        "document.body.append(Object.assign(new Image(), { src: 'https://127.0.0.1:9/pixel.png' }));",
        "document.querySelector('h1').setAttribute('style', 'color: red');",
        "console.error('this and that');",
        "setTimeout(() => { throw new Error('nobody catches this'); });",
    ];
    let house = House::new()?;
    let desk = house.desk().await?;
    desk.browser.open("/web/login").await?;
    desk.browser.shows("login").await?;
    ensure!(desk.browser.misdeeds().await?.is_empty());
    for misdeed in misdeeds {
        desk.browser.run(misdeed).await?;
        timeout(PATIENCE, async {
            while desk.browser.misdeeds().await?.is_empty() {}
            anyhow::Ok(())
        })
        .await
        .context(misdeed)??;
    }
    Ok(())
}
