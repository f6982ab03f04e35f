//! Logging in with nothing but a passkey, and the first device of somebody who had none.

use anyhow::{Result, ensure};
use e2e::{Authd, PASSWORD, Tctl, Tsh, directory};
use tempfile::TempDir;

struct House {
    jerry: Tsh,
    tctl: Tctl,
    authd: Authd,
    _dir: TempDir,
}

impl House {
    fn open(preference: &str) -> Result<Self> {
        let dir = directory()?;
        let authd = Authd::start(&dir.path().join("authd"))?;
        let tctl = Tctl::new(authd.data_dir());
        tctl.create(&format!("{preference}---\n{}", e2e::ACCESS_DEV))?;
        Ok(Self { jerry: Tsh::new(dir.path(), "jerry")?, tctl, authd, _dir: dir })
    }

    /// Finishes Jerry's invitation with a device of these answers.
    fn register(&self, answers: &[(&str, &str)]) -> Result<String> {
        let mut terminal =
            self.jerry.at_terminal(&["register", &self.tctl.invite("jerry", "access-dev")?])?;
        self.jerry.choose_password(&mut terminal)?;
        for (question, answer) in answers {
            terminal.expect(question)?;
            terminal.send(answer)?;
        }
        terminal.succeed()
    }

    fn passwordless(&self, more: &[&str]) -> Result<e2e::Terminal> {
        let proxy = self.authd.public_addr();
        let login = ["login", "--proxy", &proxy, "--auth=passwordless"];
        self.jerry.at_terminal(&[&login[..], more].concat())
    }
}

const DEVICE: [(&str, &str); 2] = [("Choose device type", "WEBAUTHN"), ("Enter device name", "key")];

#[test]
fn a_passkey_logs_in_without_name_and_password() -> Result<()> {
    let house = House::open(e2e::PREFERENCE)?;
    house.register(&[DEVICE[0], DEVICE[1], ("Allow passwordless logins [YES, NO]:", "YES")])?;
    let shown = house.passwordless(&[])?.succeed()?;
    ensure!(shown.contains("Tap any security key") && !shown.contains("assword f"), "{shown}");
    ensure!(shown.contains("Logged in as:       jerry"), "{shown}");
    let login = house.tctl.wait_for_audit("user.login", |event| event["passwordless"] == true)?;
    assert_eq!((&login["user"], &login["code"]), (&"jerry".into(), &"T1000I".into()));

    // Somebody else was meant.
    house.jerry.run(&["logout"])?.output()?;
    let shown = house.passwordless(&["--user=olga"])?.fail()?;
    ensure!(shown.contains("ERROR: this passkey is of user jerry, not of olga"), "{shown}");
    ensure!(house.jerry.run(&["status"])?.error()?.contains("Not logged in"));
    Ok(())
}

#[test]
fn a_second_factor_does_not_log_in_by_itself() -> Result<()> {
    let house = House::open(e2e::PREFERENCE)?;
    house.register(&[DEVICE[0], DEVICE[1], ("Allow passwordless logins [YES, NO]:", "NO")])?;
    let shown = house.passwordless(&["--mfa-mode=cross-platform"])?.fail()?;
    ensure!(shown.contains("ERROR: this security key is not registered here"), "{shown}");
    Ok(())
}

#[test]
fn where_the_cluster_forbids_it_nobody_is_asked() -> Result<()> {
    let house = House::open(&format!("{}  allow_passwordless: false\n", e2e::PREFERENCE))?;
    let shown = house.register(&DEVICE)?;
    ensure!(!shown.contains("passwordless"), "{shown}");
    let shown = house.passwordless(&[])?.fail()?;
    ensure!(shown.contains("ERROR: passwordless login is not allowed by the cluster"), "{shown}");
    Ok(())
}

#[test]
fn the_first_device_takes_the_password_and_a_wrong_one_adds_none() -> Result<()> {
    let optional = e2e::PREFERENCE.replace("\"on\"", "optional");
    ensure!(optional.contains("second_factor: optional"), "{optional}");
    let house = House::open(&optional)?;
    house.register(&[("Choose device type", "NONE")])?;
    let proxy = house.authd.public_addr();
    let mut login = house.jerry.at_terminal(&["login", "--proxy", &proxy, "--user=jerry"])?;
    login.expect("Enter password")?;
    login.send(PASSWORD)?;
    login.succeed()?;

    let add = |password: &str| {
        let line = ["mfa", "add", "--type=WEBAUTHN", "--name=key", "--allow-passwordless=false"];
        let mut add = house.jerry.at_terminal(&line)?;
        add.expect("Enter password for Touchstone user jerry:")?;
        add.send(password)?;
        anyhow::Ok(add)
    };
    let shown = add("not the password")?.fail()?;
    ensure!(shown.contains("ERROR:") && !shown.contains("Tap your"), "{shown}");
    let shown = add(PASSWORD)?.succeed()?;
    ensure!(shown.contains("MFA device \"key\" added."), "{shown}");
    // From now on it is the device that speaks for its owner.
    let shown = house.jerry.at_terminal(&["mfa", "rm", "key"])?.succeed()?;
    ensure!(shown.contains("Tap any security key") && shown.contains("\"key\" removed."), "{shown}");
    Ok(())
}
