//! One's own devices.

use anyhow::{Result, ensure};
use e2e::{ENTER, ESCAPE, KeyOptions};

use crate::stage::House;

#[tokio::test]
async fn a_second_key_is_added_the_first_removed_and_the_last_one_stays() -> Result<()> {
    let house = House::new()?;
    let url = house.tctl.invite("jerry", "access-dev")?;
    let desk = house.desk().await?;
    let browser = &desk.browser;
    let (first, _) = desk.settle(&url, KeyOptions::PLAIN, "webauthn").await?;
    desk.sign_in("jerry").await?;

    // A key that is registered already is not registered again.
    let long = "the grey key of a very long name that somebody gave it, in Novem";
    browser.press("#add-form button").await?;
    desk.sees_as("enroll", "enroll-more").await?;
    desk.enrol("webauthn", long).await?;
    desk.touch().await?;
    desk.complains("registered already").await?;

    desk.hold().await?;
    browser.press("#enroll-form button.main").await?;
    desk.touch().await?;
    browser.shows("enroll").await?;
    browser.let_touch(&first, false).await?;
    browser.plug_in(KeyOptions::WITH_PIN).await?;
    desk.go_on().await?;
    ensure!(browser.news().await? == "The device is added.");
    desk.sees_as("devices", "devices-two").await?;
    ensure!(desk.devices().await? == ["blue key", long]);

    // Another name, by the keyboard alone. One that is taken is refused beside the field, where the focus stays.
    let focused = "return document.activeElement.getAttribute('aria-label') ?? document.activeElement.id.split('-')[0];";
    browser.press("#devices-list li:first-child button.plain").await?;
    browser.type_keys(&format!("{long}{ENTER}")).await?;
    ensure!(desk.complains_in_a_row().await?.contains("already exists"));
    desk.sees_as("devices", "devices-rename").await?;
    ensure!(browser.run(focused).await? == "name");
    browser.type_keys(ESCAPE).await?;
    ensure!(desk.devices().await? == ["blue key", long]);
    ensure!(browser.run(focused).await? == "Rename blue key");
    browser.type_keys(ENTER).await?;
    browser.type_keys(&format!("  key of the desk {ENTER}")).await?;
    ensure!(browser.news().await? == "“blue key” is now “key of the desk”.");
    ensure!(browser.run(focused).await? == "Rename key of the desk");
    browser.open("/web/devices").await?;
    ensure!(desk.devices().await? == ["key of the desk", long]);
    ensure!(house.tctl.audit("mfa.rename")?[0]["mfa_device_old_name"] == "blue key");

    browser.press("#devices-list li:first-child button.danger").await?;
    desk.sees("remove").await?;
    browser.press("#remove-cancel").await?;
    ensure!(desk.devices().await?.len() == 2);
    browser.press("#devices-list li:first-child button.danger").await?;
    browser.shows("remove").await?;
    browser.press("#remove-form button.main").await?;
    desk.touch().await?;
    ensure!(browser.news().await?.contains("“key of the desk” is removed"));
    ensure!(desk.devices().await? == [long]);
    browser.unplug(first).await?;

    browser.press("#devices-list button.danger").await?;
    browser.shows("remove").await?;
    browser.press("#remove-form button.main").await?;
    desk.touch().await?;
    desk.complains("cannot delete the last MFA device")
        .await
        .or(desk.complains("Cannot delete the last").await)?;
    desk.sees_as("devices", "devices-last").await?;
    ensure!(desk.devices().await?.len() == 1);
    ensure!(house.tctl.audit("mfa.delete")?.len() == 1);
    desk.browser.leave().await
}
