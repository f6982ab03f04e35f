//! Administrators at their own machines: one touch for all that a command changes, none for what it reads.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use e2e::{Authd, Tctl, Terminal, Tsh, directory};
use tempfile::TempDir;

/// May everything; a session needs no touch.
const BOSS: &str = "kind: role
version: v7
metadata: {name: boss}
spec: {allow: {rules: [{resources: ['*'], verbs: ['*']}]}}
";

/// May look at roles.
const CLERK: &str = "kind: role
version: v7
metadata: {name: clerk}
spec: {allow: {rules: [{resources: [role], verbs: [list, read]}]}}
";

/// authd, root on its host, and Olga at her laptop.
struct Office {
    olga: Tsh,
    tctl: Tctl,
    authd: Authd,
    dir: TempDir,
}

impl Office {
    fn open() -> Result<Self> {
        let dir = directory()?;
        let authd = Authd::start(&dir.path().join("authd"))?;
        let tctl = Tctl::new(authd.data_dir());
        tctl.create(&format!("{}---\n{BOSS}---\n{CLERK}", e2e::PREFERENCE))?;
        let olga = Self::hire(&dir, &authd, &tctl, "olga", "boss")?;
        Ok(Self { olga, tctl, authd, dir })
    }

    fn hire(dir: &TempDir, authd: &Authd, tctl: &Tctl, name: &str, role: &str) -> Result<Tsh> {
        let person = Tsh::new(dir.path(), name)?;
        person.register(&tctl.invite(name, role)?)?;
        person.login(&authd.public_addr())?;
        Ok(person)
    }

    /// Runs a command of Olga's that must ask for exactly one touch; what it showed after it.
    fn touched(&self, args: &[&str]) -> Result<String> {
        let shown = self.olga.tctl_at_terminal(args)?.succeed()?;
        let touches = shown.matches("Detected security key tap").count();
        ensure!(touches == 1, "{touches} touches:\n{shown}");
        ensure!(shown.starts_with("MFA is required for: tctl "), "{shown}");
        Ok(shown)
    }
}

#[test]
fn one_touch_is_for_all_documents_of_a_file_and_for_nothing_else() -> Result<()> {
    let office = Office::open()?;
    let roles: Vec<String> = ["a", "b", "c"].map(|name| CLERK.replace("clerk", name)).to_vec();
    fs::write(office.olga.home().join("roles.yaml"), roles.join("---\n"))?;
    let shown = office.touched(&["create", "-f", "roles.yaml"])?;
    ensure!(shown.contains("MFA is required for: tctl create -f roles.yaml\n"), "{shown}");
    for name in ["a", "b", "c"] {
        ensure!(shown.contains(&format!("role '{name}' has been created")), "{shown}");
    }

    let is_for = |event: &serde_json::Value| event["challenge_scope"] == "ADMIN_ACTION";
    let validated = office.tctl.wait_for_audit("mfa_auth_challenge.validate", is_for)?;
    assert_eq!((&validated["calls"], &validated["success"]), (&3.into(), &true.into()));
    assert_eq!(validated["command"], "tctl create -f roles.yaml");
    let created = office.tctl.audit("role.created")?;
    let by_olga = created.iter().filter(|event| event["user"] == "olga" && event["with_mfa"].is_string());
    assert_eq!(by_olga.count(), 3);
    Ok(())
}

#[test]
fn every_command_that_changes_or_signs_asks_once_and_those_that_read_do_not() -> Result<()> {
    let office = Office::open()?;
    office.touched(&["users", "add", "--roles=clerk", "--db-users=b,a", "--logins=x", "jerry"])?;
    office.touched(&["users", "reset", "jerry"])?;
    office.touched(&["users", "add", "--roles=clerk", "tom"])?;
    let shown = office.touched(&["users", "rm", "jerry,tom"])?;
    ensure!(shown.contains("\"jerry\" has been deleted") && shown.contains("\"tom\" has been"), "{shown}");
    office.touched(&["lock", "--user=jerry", "--message=on the run"])?;
    office.touched(&["auth", "sign", "--format=db", "--host=localhost", "--out=server"])?;
    ensure!(office.olga.home().join("server.key").is_file());
    let token = office.touched(&["tokens", "add", "--type=db", "--format=json"])?;
    let token = token.split("\"token\": \"").nth(1).and_then(|rest| rest.split('"').next());
    office.touched(&["tokens", "rm", token.unwrap_or_default()])?;
    office.touched(&["rm", "role/clerk"])?;

    for read in [&["get", "roles"][..], &["users", "ls"], &["status"], &["audit", "ls"], &["tokens", "ls"]] {
        let shown = office.olga.tctl_at_terminal(read)?.succeed()?;
        ensure!(!shown.contains("MFA is required"), "{shown}");
    }
    Ok(())
}

#[test]
fn who_may_not_is_told_so_before_anybody_touches_anything() -> Result<()> {
    let office = Office::open()?;
    let jerry = Office::hire(&office.dir, &office.authd, &office.tctl, "jerry", "clerk")?;
    let shown = jerry.tctl_at_terminal(&["rm", "role/boss"])?.fail()?;
    ensure!(shown.contains("ERROR: ") && !shown.contains("MFA is required"), "{shown}");
    Ok(())
}

#[test]
fn a_code_will_do_where_it_is_asked_for_and_a_wrong_one_changes_nothing() -> Result<()> {
    let mut office = Office::open()?;
    office.olga.add_otp_device("phone")?;
    let remove = ["--mfa-mode=otp", "rm", "role/clerk"];
    let mut terminal = office.olga.tctl_at_terminal(&remove)?;
    terminal.expect("MFA is required for: tctl --mfa-mode=otp rm role/clerk")?;
    terminal.expect("Enter an OTP code from a device:")?;
    terminal.send("000000")?;
    let shown = terminal.fail()?;
    ensure!(shown.contains("ERROR: the auth service does not take the touch"), "{shown}");
    ensure!(office.tctl.ok(&["get", "roles"])?.contains("name: clerk"));

    let mut terminal = office.olga.tctl_at_terminal(&remove)?;
    terminal.expect("Enter an OTP code from a device:")?;
    terminal.send(&office.olga.otp_code()?)?;
    terminal.succeed()?;
    ensure!(!office.tctl.ok(&["get", "roles"])?.contains("name: clerk"));
    Ok(())
}

#[test]
fn on_the_auth_host_nobody_is_asked() -> Result<()> {
    let office = Office::open()?;
    let said = office.tctl.ok(&["--mfa-mode=browser", "rm", "role/clerk"])?;
    assert_eq!(said, "role \"clerk\" has been deleted\n");
    Ok(())
}

#[test]
fn an_administrators_identity_file_is_for_tctl_and_changes_need_the_touch() -> Result<()> {
    let office = Office::open()?;
    let mut login = office.olga.at_terminal(&["login", "--mfa-mode=cross-platform", "--out=boss.pem"])?;
    login.expect("Enter password")?;
    login.expect(":")?;
    login.send(e2e::PASSWORD)?;
    login.succeed()?;
    office.olga.run(&["logout"])?.output()?;
    let server = format!("--auth-server={}", office.authd.public_addr());
    let with = ["-i", "boss.pem", &server];
    let shown = office.olga.tctl_at_terminal(&[&with, &["users", "ls"][..]].concat())?.succeed()?;
    ensure!(shown.contains("olga") && !shown.contains("MFA is required"), "{shown}");
    let shown = office.olga.tctl_at_terminal(&[&with, &["rm", "role/clerk"][..]].concat())?.succeed()?;
    ensure!(
        shown.contains("Tap any security key") && shown.contains("\"clerk\" has been deleted"),
        "{shown}"
    );
    let shown = office.olga.tctl_at_terminal(&["-i", "boss.pem", "users", "ls"])?.fail()?;
    ensure!(shown.contains("missed --auth-server flag?"), "{shown}");
    Ok(())
}

/// An editor that runs a command of sed's.
fn editing(office: &Office, which: &str, sed: &str) -> Result<Terminal> {
    let mut command = office.olga.tctl(&["edit", which])?;
    command.env("VISUAL", format!("sed -i -e '{sed}'"));
    Terminal::start(&command, false)
}

#[test]
fn a_resource_is_edited_with_one_touch_and_nothing_unless_it_was_changed() -> Result<()> {
    let office = Office::open()?;
    let shown = editing(&office, "role/clerk", "s/- read/- create/")?.succeed()?;
    ensure!(shown.starts_with("MFA is required for: tctl edit role/clerk\n"), "{shown}");
    ensure!(shown.ends_with("role \"clerk\" has been updated\n"), "{shown}");
    ensure!(office.tctl.ok(&["get", "role/clerk"])?.contains("- create"));

    let shown = editing(&office, "role/clerk", "")?.succeed()?;
    assert_eq!(shown, "role \"clerk\" has not been changed\n");
    let shown = editing(&office, "cap", "s/second_factor: .*/second_factor: webauthn/")?.succeed()?;
    ensure!(shown.ends_with("cluster auth preference has been updated\n"), "{shown}");
    ensure!(editing(&office, "role/nobody", "")?.fail()?.contains("role \"nobody\" not found"));
    ensure!(editing(&office, "db/x", "")?.fail()?.contains("a db cannot be edited"));
    Ok(())
}

#[test]
fn an_edit_that_cannot_be_used_changes_nothing_and_is_kept() -> Result<()> {
    let office = Office::open()?;
    let kept = |shown: &str| -> Result<String> {
        let path = shown.split("is kept in ").nth(1).and_then(|rest| rest.split(':').next());
        let path = Path::new(path.context("no path")?).join("role.yaml");
        let text = fs::read_to_string(&path)?;
        fs::remove_dir_all(path.parent().context("no directory")?)?;
        Ok(text)
    };
    let shown = editing(&office, "role/clerk", "s/rules:/rule:/")?.fail()?;
    ensure!(shown.contains("unknown field") && !shown.contains("MFA is required"), "{shown}");
    ensure!(kept(&shown)?.contains("rule:"));

    // Somebody else changes it while the editor is open.
    let meanwhile = office.dir.path().join("meanwhile.sh");
    let tctl = office.tctl.command(&[])?.get_program().display().to_string();
    let yaml = CLERK.replace("[role]", "[lock]");
    let data_dir = office.authd.data_dir().display().to_string();
    fs::write(
        &meanwhile,
        format!(
            "export TOUCHSTONE_DATA_DIR='{data_dir}'\n{tctl} create -f - <<'END' >&2\n{yaml}END\nsed -i 's/- read/- create/' \"$1\"\n"
        ),
    )?;
    let mut command = office.olga.tctl(&["edit", "role/clerk"])?;
    command.env("EDITOR", format!("sh {}", meanwhile.display()));
    let shown = Terminal::start(&command, false)?.fail()?;
    ensure!(shown.contains("was changed meanwhile"), "{shown}");
    ensure!(kept(&shown)?.contains("- create"));
    let now = office.tctl.ok(&["get", "role/clerk"])?;
    ensure!(now.contains("- lock") && !now.contains("- create"), "{now}");
    Ok(())
}

#[test]
fn a_users_roles_and_traits_are_changed_with_one_touch() -> Result<()> {
    let office = Office::open()?;
    office.tctl.ok(&["users", "add", "--roles=clerk", "--logins=x", "--db-users=a", "jerry"])?;
    let shown =
        office.touched(&["users", "update", "jerry", "--set-roles=clerk,boss", "--set-logins=y,z"])?;
    ensure!(shown.ends_with("user \"jerry\" has been updated\n"), "{shown}");
    let jerry: serde_json::Value =
        serde_json::from_str(&office.tctl.ok(&["get", "user/jerry", "--format=json"])?)?;
    let spec = &jerry[0]["spec"];
    assert_eq!(spec["roles"], serde_json::json!(["clerk", "boss"]));
    assert_eq!(spec["traits"], serde_json::json!({"db_users": ["a"], "logins": ["y", "z"]}));
    let refused = office.tctl.run(&["users", "update", "jerry", "--set-roles=nobody"])?.error()?;
    ensure!(refused.contains("role \"nobody\" not found"), "{refused}");
    let refused = office.tctl.run(&["users", "update", "tom", "--set-roles=clerk"])?.error()?;
    ensure!(refused.contains("user \"tom\" not found"), "{refused}");
    Ok(())
}

#[test]
fn what_get_all_prints_sets_up_another_cluster() -> Result<()> {
    let office = Office::open()?;
    office.tctl.ok(&["lock", "--user=tom"])?;
    let all = office.tctl.ok(&["get", "all"])?;
    let other = Authd::start(&office.dir.path().join("other"))?;
    let said = Tctl::new(other.data_dir()).create(&all)?;
    for created in ["preference has been updated", "role 'boss' has", "user \"olga\" has", "lock \""] {
        ensure!(said.contains(created), "{said}");
    }
    Ok(())
}

#[test]
fn a_device_that_there_is_not_is_said_before_anybody_touches_anything() -> Result<()> {
    let office = Office::open()?;
    let shown = office.olga.at_terminal(&["mfa", "rm", "phone"])?.fail()?;
    assert_eq!(shown, "ERROR: MFA device \"phone\" not found, run: tsh mfa ls\n");
    Ok(())
}
