//! Approving on a page what a terminal asks for.

use anyhow::{Context, Result, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use e2e::{ENTER, Key, KeyOptions, PASSWORD, TAB, Terminal, Tsh, World};
use serde_json::json;

use crate::stage::Desk;

/// Somebody with a terminal and a browser, whose only key is plugged in there.
struct Seat {
    world: World,
    desk: Desk,
    key: Key,
}

/// What a terminal shows of its page.
struct Link {
    url: String,
    number: String,
}

impl Seat {
    /// Jerry, who finished his invitation in the browser and logged in by it.
    async fn jerrys() -> Result<Self> {
        let world = World::before_jerry()?;
        let url = world.invite("jerry", "access-dev,access-prod")?;
        let desk = Desk::new(&world.path().join("browser"), &world.authd, &world.tctl).await?;
        let (key, _) = desk.settle(&url, KeyOptions::PLAIN, "webauthn").await?;
        // As the page says.
        let command = desk.command().await?;
        let login: Vec<_> = command.iter().map(String::as_str).chain(["--mfa-mode=browser"]).collect();
        let mut terminal = world.jerry.at_terminal(&login)?;
        terminal.expect("Enter password")?;
        terminal.expect(":")?;
        terminal.send(PASSWORD)?;
        let seat = Self { world, desk, key };
        let link = link(&mut terminal)?;
        seat.desk.browser.open(&link.url).await?;
        seat.desk.sees_as("ask", "ask-login").await?;
        ensure!(seat.desk.browser.text("ask-title").await? == "Log in as jerry?");
        seat.press_by_keyboard(&link.number).await?;
        seat.desk.sees("approved").await?;
        terminal.succeed()?;
        Ok(seat)
    }

    /// The terminal of a session that waits for its page.
    fn connect(&self) -> Result<(Terminal, Link)> {
        connect(&self.world.jerry)
    }

    /// Where a number stands.
    async fn place(&self, number: &str) -> Result<usize> {
        let numbers = self.desk.browser.texts("#numbers button").await?;
        numbers.iter().position(|shown| shown == number).context("the number is not there")
    }

    /// Presses the number without a mouse: the focus is at the heading, the numbers come next.
    async fn press_by_keyboard(&self, number: &str) -> Result<()> {
        for _ in 0..=self.place(number).await? {
            self.desk.browser.type_keys(TAB).await?;
        }
        self.desk.browser.type_keys(ENTER).await
    }

    /// Presses the number that says so.
    async fn press(&self, number: &str) -> Result<()> {
        let place = self.place(number).await?;
        self.desk.browser.press(&format!("#numbers button:nth-child({})", place + 1)).await
    }

    /// One of the other two.
    async fn wrong_number(&self, right: &str) -> Result<String> {
        let numbers = self.desk.browser.texts("#numbers button").await?;
        ensure!(numbers.len() == 3 && numbers.iter().any(|shown| shown == right), "{numbers:?}");
        numbers.into_iter().find(|shown| shown != right).context("another number")
    }
}

fn connect(person: &Tsh) -> Result<(Terminal, Link)> {
    let mut terminal = person.at_terminal(&["--mfa-mode=browser", "db", "connect", "prod-pg"])?;
    let link = link(&mut terminal)?;
    Ok((terminal, link))
}

fn link(terminal: &mut Terminal) -> Result<Link> {
    terminal.expect("https://")?;
    let rest = terminal.expect("\n")?;
    terminal.expect("press ")?;
    let number = terminal.expect(" on it")?;
    Ok(Link { url: format!("https://{}", rest.trim()), number })
}

#[tokio::test]
async fn a_touch_on_the_page_opens_the_session_in_the_terminal_and_is_evidence_as_any_other() -> Result<()> {
    let seat = Seat::jerrys().await?;
    let browser = &seat.desk.browser;
    let (mut psql, link) = seat.connect()?;
    browser.open(&link.url).await?;
    seat.desk.sees("ask").await?;
    ensure!(browser.text("ask-title").await? == "Open a session on prod-pg?");
    let words = browser.texts("#facts dt").await?;
    ensure!(words == ["Target", "Login", "Database", "Who", "From", "Asked", "Cluster"], "{words:?}");
    let said = browser.texts("#facts dd").await?;
    ensure!(said[..4] == ["prod-pgPostgreSQL", "jerry", "app", "jerry"], "{said:?}");
    ensure!(said[4] == "127.0.0.1this browser’s address" && said[6] == "main", "{said:?}");

    // The right number alone opens nothing: the key is asked, and not touched yet.
    browser.let_touch(&seat.key, false).await?;
    seat.press(&link.number).await?;
    seat.desk.sees("touch").await?;
    ensure!(browser.texts("#touch-facts dd").await? == said);
    seat.desk.cancel_next("get").await?;
    browser.press("#touch-form button").await?;
    seat.desk.complains("cancelled. Try again").await?;
    seat.desk.sees_as("touch", "touch-cancelled").await?;
    ensure!(!psql.text().contains("app=>"));
    browser.let_touch(&seat.key, true).await?;
    browser.press("#touch-form button").await?;
    seat.desk.browser.shows("approved").await?;
    psql.expect("app=> ")?;
    psql.send("SELECT current_user;")?;
    psql.expect("jerry")?;
    psql.send("\\q")?;
    psql.succeed()?;

    let start =
        seat.world.tctl.wait_for_audit("db.session.start", |event| event["db_service"] == "prod-pg")?;
    let device = seat.world.tctl.audit("mfa.add")?[0]["mfa_device_uuid"].clone();
    ensure!(start["success"] == true && start["with_mfa"] == device, "{start}");
    let receipt = BASE64_STANDARD.decode(start["receipt"].as_str().context("no receipt")?)?;
    for part in ["jerry", "prod-pg", "webauthn.get", browser.origin()] {
        ensure!(
            receipt.windows(part.len()).any(|bytes| bytes == part.as_bytes()),
            "no {part} in {receipt:?}"
        );
    }
    // It was good once.
    browser.open("/web/login").await?;
    browser.open(&link.url).await?;
    seat.desk.sees_as("gone", "gone-approval").await?;
    seat.desk.browser.leave().await
}

#[tokio::test]
async fn a_wrong_number_and_a_no_end_it_in_the_terminal_too() -> Result<()> {
    let seat = Seat::jerrys().await?;
    let browser = &seat.desk.browser;
    let (psql, link) = seat.connect()?;
    browser.open(&link.url).await?;
    browser.shows("ask").await?;
    seat.press(&seat.wrong_number(&link.number).await?).await?;
    seat.desk.sees_as("denied", "denied-number").await?;
    ensure!(browser.text("denied-text").await?.contains("not the number in the terminal"));
    let shown = psql.fail()?;
    ensure!(shown.contains("denied in the browser") && !shown.contains("app=>"), "{shown}");

    let (psql, link) = seat.connect()?;
    browser.open(&link.url).await?;
    browser.shows("ask").await?;
    browser.press("#deny-form button").await?;
    seat.desk.sees("denied").await?;
    ensure!(psql.fail()?.contains("denied in the browser"));

    // After the number, while the browser asks for the key.
    let (psql, link) = seat.connect()?;
    browser.let_touch(&seat.key, false).await?;
    browser.open(&link.url).await?;
    browser.shows("ask").await?;
    seat.press(&link.number).await?;
    browser.shows("touch").await?;
    browser.press("#touch-deny-form button").await?;
    browser.shows("denied").await?;
    ensure!(psql.fail()?.contains("denied in the browser"));
    let denied = seat.world.tctl.audit("mfa_auth_challenge.validate")?;
    let codes: Vec<_> = denied.iter().map(|event| event["code"].clone()).collect();
    ensure!(codes == [json!("T1016I"), json!("T1016W"), json!("T1016W"), json!("T1016W")], "{codes:?}");
    ensure!(seat.world.tctl.audit("db.session.start")?.is_empty());
    seat.desk.browser.leave().await
}

#[tokio::test]
async fn somebody_elses_browser_session_and_key_approve_nothing() -> Result<()> {
    let seat = Seat::jerrys().await?;
    let browser = &seat.desk.browser;
    browser.let_touch(&seat.key, false).await?;
    let invitation = seat.world.invite("eve", "access-prod")?;
    let (eve, _) = seat.desk.settle(&invitation, KeyOptions::BUILT_IN, "passkey").await?;
    seat.desk.sign_in("eve").await?;

    let (mut psql, link) = seat.connect()?;
    browser.open(&link.url).await?;
    browser.shows("ask").await?;
    // Whose session it is counts for nothing, and is not what the page says.
    ensure!(browser.texts("#facts dd").await?[3] == "jerry");
    seat.press(&link.number).await?;
    seat.desk.complains("not the right one").await?;
    // A page that was tampered with asks her key all the same; the service takes it for nothing.
    let tampered = "
        const get = navigator.credentials.get.bind(navigator.credentials);
        navigator.credentials.get = ({ publicKey }) => get({ publicKey: { ...publicKey, allowCredentials: [] } });
    ";
    browser.run(tampered).await?;
    browser.press("#touch-form button").await?;
    seat.desk.complains("Invalid username, password or second factor").await?;
    ensure!(!psql.text().contains("app=>"));
    // Jerry himself still can.
    browser.let_touch(&eve, false).await?;
    browser.let_touch(&seat.key, true).await?;
    browser.open("/web/login").await?;
    browser.open(&link.url).await?;
    browser.shows("ask").await?;
    seat.press(&link.number).await?;
    browser.shows("approved").await?;
    psql.expect("app=> ")?;
    seat.desk.browser.leave().await
}
