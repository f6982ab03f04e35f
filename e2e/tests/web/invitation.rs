//! Finishing an invitation.

use anyhow::{Result, ensure};
use e2e::{ENTER, KeyOptions, OtpDevice, PASSWORD};

use crate::stage::House;

#[tokio::test]
async fn an_invitation_is_finished_with_a_security_key_and_leads_nowhere_afterwards() -> Result<()> {
    let house = House::new()?;
    let url = house.tctl.invite("jerry", "access-dev,access-prod")?;
    let desk = house.desk().await?;
    let browser = &desk.browser;
    browser.open(&url).await?;
    desk.sees("password").await?;
    browser.fill("password-input", PASSWORD).await?;
    browser.fill("password-again", "something else").await?;
    browser.press("#password-form button.main").await?;
    desk.complains("not the same").await?;
    browser.fill("password-again", PASSWORD).await?;
    browser.type_keys(ENTER).await?;
    desk.sees("enroll").await?;

    // Somebody presses “Cancel” in the browser's own window.
    let key = browser.plug_in(KeyOptions::PLAIN).await?;
    browser.let_touch(&key, false).await?;
    desk.cancel_next("create").await?;
    desk.enrol("webauthn", "blue key").await?;
    desk.complains("cancelled. Try again").await?;
    desk.sees_as("enroll", "enroll-cancelled").await?;
    browser.let_touch(&key, true).await?;
    browser.press("#enroll-form button.main").await?;
    desk.sees("codes").await?;
    ensure!(browser.texts("#codes-list li").await?.len() == 3);
    browser.press("#codes-copy").await?;
    ensure!(browser.news().await? == "Copied.");
    let registered = browser.credentials(&key).await?;
    ensure!(registered.len() == 1 && registered[0]["rpId"] == "localhost", "{registered:?}");
    browser.press("#codes-form button.main").await?;
    desk.sees("done").await?;
    let command = desk.command().await?;
    let (proxy, pin) = (house.authd.public_addr(), house.tctl.ca_pin()?);
    ensure!(
        command == ["login", &format!("--proxy={proxy}"), "--user=jerry", &format!("--ca-pin={pin}")],
        "{command:?}"
    );
    // They were shown this once.
    ensure!(browser.texts("#codes-list li").await?.is_empty());

    // From elsewhere: the same address once more, with its fragment, would be no visit.
    browser.open("/web/login").await?;
    browser.open(&url).await?;
    desk.sees_as("gone", "gone-invitation").await?;
    desk.browser.leave().await
}

#[tokio::test]
async fn a_passkey_of_an_invitation_signs_in_without_name_and_password() -> Result<()> {
    let house = House::new()?;
    let url = house.tctl.invite("jerry", "access-dev")?;
    let desk = house.desk().await?;
    let browser = &desk.browser;
    let key = browser.plug_in(KeyOptions::BUILT_IN).await?;
    browser.let_verify(&key, false).await?;
    desk.follow(&url).await?;
    desk.enrol("passkey", "laptop").await?;
    // No fingerprint, no passkey.
    desk.complains("Try again").await?;
    browser.let_verify(&key, true).await?;
    browser.press("#enroll-form button.main").await?;
    desk.keep_codes().await?;
    ensure!(browser.credentials(&key).await?[0]["isResidentCredential"] == true);

    browser.open("/web/login").await?;
    desk.sees("login").await?;
    browser.let_verify(&key, false).await?;
    browser.press("#passkey-form button").await?;
    desk.complains("Try again").await?;
    browser.let_verify(&key, true).await?;
    browser.press("#passkey-form button").await?;
    ensure!(desk.devices().await? == ["laptop"]);
    ensure!(browser.text("nav-user").await? == "jerry");
    let login = house.tctl.wait_for_audit("user.login", |event| event["success"] == true)?;
    ensure!(login["passwordless"] == true, "{login}");
    desk.browser.leave().await
}

#[tokio::test]
async fn an_authenticator_app_reads_its_key_from_the_page_and_its_codes_sign_in() -> Result<()> {
    let house = House::new()?;
    let url = house.tctl.invite("jerry", "access-dev")?;
    let desk = house.desk().await?;
    let browser = &desk.browser;
    desk.follow(&url).await?;
    desk.enrol("totp", "phone").await?;
    desk.sees("totp").await?;
    let drawn = browser.run("return document.querySelector('#totp-path').getBBox().width").await?;
    ensure!(drawn.as_f64().is_some_and(|width| width > 20.0), "{drawn}");
    browser.fill("totp-code", "000000").await?;
    browser.press("#totp-form button.main").await?;
    desk.complains("second factor").await?;
    // What was begun is over with a wrong code: another key is drawn.
    browser.shows("enroll").await?;
    browser.press("#enroll-form button.main").await?;
    browser.shows("totp").await?;
    let mut app = OtpDevice::new(&browser.text("totp-secret").await?.replace(' ', ""))?;
    browser.fill("totp-code", &app.code()?).await?;
    browser.press("#totp-form button.main").await?;
    desk.keep_codes().await?;
    browser.shows("done").await?;

    desk.present("jerry", PASSWORD).await?;
    desk.sees_as("prove", "prove-code").await?;
    browser.fill("prove-code-input", &app.code()?).await?;
    browser.press("#prove-code button").await?;
    ensure!(desk.devices().await? == ["phone"]);
    desk.browser.leave().await
}
