//! `--mfa-mode=browser` as far as the terminal goes: where the link leads, what is shown, and giving up.

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use anyhow::{Result, ensure};
use e2e::{PASSWORD, World, poll};

#[test]
fn the_link_is_opened_where_there_is_a_browser_and_ctrl_c_ends_the_wait_in_words() -> Result<()> {
    let world = World::jerry_and_olga()?;
    let browser = world.jerry.home().join("browser");
    let opened = world.jerry.home().join("opened");
    fs::write(&browser, format!("#!/bin/sh\necho \"$1\" > {0}.new; mv {0}.new {0}\n", opened.display()))?;
    fs::set_permissions(&browser, fs::Permissions::from_mode(0o755))?;

    let mut command = world.jerry.command(&["--mfa-mode=browser", "db", "connect", "prod-pg"])?;
    command.env("BROWSER", &browser);
    let mut tsh = e2e::Terminal::start(&command, false)?;
    tsh.expect("A page was opened in your browser. If you do not see it, open:\n\n  ")?;
    let link = tsh.expect("\n")?;
    ensure!(link.starts_with(&format!("https://{}/web/approve/", world.authd.public_addr())), "{link}");
    let number = {
        tsh.expect("press ")?;
        tsh.expect(" on it")?
    };
    ensure!(number.len() == 2 && number.bytes().all(|digit| digit.is_ascii_digit()), "{number}");
    let seen = poll("the browser", Duration::from_secs(20), || Ok(fs::read_to_string(&opened).ok()))?;
    assert_eq!(seen.trim(), link);

    tsh.interrupt()?;
    let shown = tsh.fail()?;
    ensure!(shown.contains("ERROR: cancelled") && !shown.contains("app=>"), "{shown}");
    Ok(())
}

#[test]
fn over_ssh_the_link_is_only_shown_and_a_code_may_be_typed_instead() -> Result<()> {
    let mut world = World::jerry_and_olga()?;
    world.jerry.add_otp_device("phone")?;
    let mut command = world.jerry.command(&["db", "connect", "prod-pg"])?;
    command
        .env_remove("TSH_SOFTWARE_KEY")
        .env("BROWSER", "false")
        .env("SSH_CONNECTION", "192.0.2.7 1 192.0.2.8 22");
    let mut psql = e2e::Terminal::start(&command, false)?;
    psql.expect("Open this page in a browser:\n\n  https://localhost:")?;
    psql.expect("Or enter a code from a OTP device:")?;
    psql.send(&world.jerry.otp_code()?)?;
    psql.expect("app=> ")?;
    Ok(())
}

#[test]
fn a_login_waits_for_the_page_too() -> Result<()> {
    let world = World::jerry_and_olga()?;
    world.jerry.run(&["logout"])?.output()?;
    let proxy = world.authd.public_addr();
    let login = ["login", "--proxy", &proxy, "--user=jerry", "--mfa-mode=platform"];
    let mut login = world.jerry.at_terminal(&login)?;
    login.expect("Enter password")?;
    login.send(PASSWORD)?;
    login.expect("Using platform authenticator, follow the OS prompt")?;
    login.expect("#this-machine\n")?;
    login.interrupt()?;
    let shown = login.fail()?;
    ensure!(shown.contains("ERROR: cancelled"), "{shown}");
    Ok(())
}
