//! Passwords, codes and invitations, as people use them and as thieves try to.

use anyhow::{Result, ensure};
use e2e::{PASSWORD, World};

#[test]
fn a_one_time_code_works_once() -> Result<()> {
    let mut world = World::jerry_and_olga()?;
    world.jerry.add_otp_device("phone")?;
    let code = world.jerry.otp_code()?;

    let mut psql = world.jerry.at_terminal(&["--mfa-mode=otp", "db", "connect", "prod-pg"])?;
    psql.expect("Enter an OTP code from a device:")?;
    psql.send(&code)?;
    psql.expect("app=> ")?;

    // Somebody who looked over the shoulder is as fast as can be.
    let mut thief = world.jerry.at_terminal(&["--mfa-mode=otp", "db", "connect", "prod-pg"])?;
    thief.expect("Enter an OTP code from a device:")?;
    thief.send(&code)?;
    let shown = thief.fail()?;
    ensure!(shown.contains("ERROR:") && !shown.contains("app=>"), "{shown}");
    Ok(())
}

#[test]
fn an_invitation_opens_one_account_once() -> Result<()> {
    let world = World::before_jerry()?;
    let url = world.invite("jerry", "access-dev")?;
    world.jerry.register(&url)?;
    let thief = world.person("thief")?;
    let shown = thief.at_terminal(&["register", &url])?.fail()?;
    ensure!(shown.contains("ERROR:"), "{shown}");
    Ok(())
}

#[test]
fn five_wrong_passwords_lock_a_user_out_even_with_the_right_one() -> Result<()> {
    let world = World::before_jerry()?;
    let url = world.invite("jerry", "access-dev")?;
    world.jerry.register(&url)?;
    let proxy = world.authd.public_addr();
    let refused = |password| {
        let mut login = world.jerry.at_terminal(&["login", "--proxy", &proxy, "--user=jerry"])?;
        login.expect("Enter password")?;
        login.expect(":")?;
        login.send(password)?;
        login.fail()
    };
    for _ in 0..5 {
        let shown = refused("not the password")?;
        ensure!(shown.contains("ERROR:") && !shown.contains("locked"), "{shown}");
    }
    let shown = refused(PASSWORD)?;
    ensure!(shown.contains("ERROR:") && shown.contains("locked"), "{shown}");
    Ok(())
}

#[test]
fn an_authority_other_than_the_pinned_one_is_not_spoken_to() -> Result<()> {
    let world = World::before_jerry()?;
    let url = world.invite("jerry", "access-dev")?;
    let (address, _) = url.split_once("#ca-pin=").unwrap();
    let other = format!("{address}#ca-pin=sha256:{}", "0".repeat(64));
    let shown = world.jerry.at_terminal(&["register", &other])?.fail()?;
    ensure!(shown.contains("ERROR:") && !shown.contains("assword"), "{shown}");
    Ok(())
}
