//! Pages and keys are for one name.

use anyhow::{Result, ensure};
use e2e::KeyOptions;

use crate::stage::House;

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
