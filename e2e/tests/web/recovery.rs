//! A lost device.

use anyhow::{Result, ensure};
use e2e::{KeyOptions, PASSWORD};

use crate::stage::{Desk, House};

async fn ask_with(desk: &Desk, code: &str) -> Result<()> {
    desk.browser.open("/web/recover").await?;
    desk.browser.shows("recover").await?;
    desk.browser.fill("recover-user", "jerry").await?;
    desk.browser.fill("recover-password", PASSWORD).await?;
    desk.browser.fill("recover-code", code).await?;
    desk.browser.press("#recover-form button.main").await
}

#[tokio::test]
async fn a_recovery_code_brings_a_new_key_once() -> Result<()> {
    let house = House::new()?;
    let url = house.tctl.invite("jerry", "access-dev")?;
    let desk = house.desk().await?;
    let browser = &desk.browser;
    let (lost, codes) = desk.settle(&url, KeyOptions::PLAIN, "webauthn").await?;
    browser.unplug(lost).await?;
    browser.open("/web/recover").await?;
    desk.sees("recover").await?;

    ask_with(&desk, &codes[0]).await?;
    desk.sees("lost").await?;
    browser.press("#lost-list label").await?;
    browser.press("#lost-form button.main").await?;
    browser.shows("enroll").await?;
    browser.plug_in(KeyOptions::PLAIN).await?;
    desk.enrol("webauthn", "new key").await?;
    let renewed = desk.keep_codes().await?;
    desk.sees_as("done", "done-recovered").await?;

    for used in &codes {
        ask_with(&desk, used).await?;
        desk.complains("Invalid username, password").await?;
    }
    // The new key is the only one, and new codes are had for a touch of it.
    desk.sign_in("jerry").await?;
    ensure!(desk.devices().await? == ["new key"]);
    ensure!(browser.text("codes-left").await? == "3");
    browser.press("#new-codes-form button").await?;
    desk.touch().await?;
    let newest = desk.keep_codes().await?;
    ensure!(newest.len() == 3 && newest.iter().all(|code| !renewed.contains(code)));
    ensure!(browser.news().await?.contains("worth nothing"));
    desk.browser.leave().await
}
