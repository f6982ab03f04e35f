//! Signing in and out.

use anyhow::{Result, ensure};
use e2e::{ENTER, KeyOptions, PASSWORD};

use crate::stage::House;

#[tokio::test]
async fn a_wrong_password_is_told_as_an_unknown_name_is_and_the_sixth_attempt_as_too_many() -> Result<()> {
    let house = House::new()?;
    let url = house.tctl.invite("jerry", "access-dev")?;
    let desk = house.desk().await?;
    desk.settle(&url, KeyOptions::PLAIN, "webauthn").await?;
    desk.present("nobody", PASSWORD).await?;
    let unknown = desk.browser.problem().await?;
    desk.present("jerry", "not the password").await?;
    ensure!(desk.browser.problem().await? == unknown, "{unknown}");
    desk.sees_as("login", "login-wrong").await?;
    for _ in 0..4 {
        // The name stays, the password is typed anew, where the focus is.
        ensure!(desk.browser.run("return document.activeElement.id").await? == "login-password");
        desk.browser.type_keys(&format!("still not the password{ENTER}")).await?;
        desk.complains("Invalid username, password").await?;
    }
    desk.browser.fill("login-password", PASSWORD).await?;
    desk.browser.press("#login-form button.main").await?;
    desk.complains("Too many incorrect attempts").await?;
    desk.browser.leave().await
}

#[tokio::test]
async fn a_touch_that_was_cancelled_can_be_tried_again_and_of_several_keys_the_right_one_counts() -> Result<()>
{
    let house = House::new()?;
    let (jerrys, eves) = (house.tctl.invite("jerry", "access-dev")?, house.tctl.invite("eve", "access-dev")?);
    let desk = house.desk().await?;
    let browser = &desk.browser;
    let (jerry, _) = desk.settle(&jerrys, KeyOptions::PLAIN, "webauthn").await?;
    browser.let_touch(&jerry, false).await?;
    let (eve, _) = desk.settle(&eves, KeyOptions::PLAIN, "webauthn").await?;

    // Both are plugged in; only Eve's is touched.
    desk.present("jerry", PASSWORD).await?;
    desk.sees_as("prove", "prove-key").await?;
    desk.touch().await?;
    desk.complains("Try again").await?;
    desk.sees_as("prove", "prove-cancelled").await?;
    browser.let_touch(&eve, false).await?;
    // The page's own “Cancel” lets go of the question that the browser still asks.
    desk.touch().await?;
    browser.press("#prove-cancel").await?;
    browser.shows("login").await?;
    browser.let_touch(&jerry, true).await?;
    desk.present("jerry", PASSWORD).await?;
    desk.touch().await?;
    desk.sees("devices").await?;
    ensure!(browser.text("nav-user").await? == "jerry");

    browser.press("a[href='/web/logout']").await?;
    desk.sees("logout").await?;
    browser.press("#logout-form button").await?;
    desk.sees("out").await?;
    browser.open("/web/devices").await?;
    browser.shows("login").await?;
    desk.browser.leave().await
}
