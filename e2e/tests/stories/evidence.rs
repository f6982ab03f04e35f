//! `tctl audit verify`: what the trail proves by itself, and what it does not.

use std::{fs, process::Command, time::Duration};

use anyhow::{Result, ensure};
use e2e::{Finished, Terminal, World, run};
use serde_json::Value;

/// Opens a session, asks something, and ends it.
fn visit(mut psql: Terminal, before: impl FnOnce(&mut Terminal) -> Result<()>) -> Result<()> {
    before(&mut psql)?;
    psql.expect("app=> ")?;
    psql.send("\\q")?;
    psql.succeed().map(drop)
}

/// One session without MFA, one with a touch, one with a code; and the trail of it all in a file.
fn recorded() -> Result<(World, String)> {
    let mut world = World::jerry_and_olga()?;
    world.jerry.add_otp_device("phone")?;
    visit(world.jerry.at_terminal(&["db", "connect", "dev-pg"])?, |_| Ok(()))?;
    visit(world.jerry.at_terminal(&["--mfa-mode=cross-platform", "db", "connect", "prod-pg"])?, |psql| {
        psql.expect("Tap any security key").map(drop)
    })?;
    let code = world.jerry.otp_code()?;
    visit(world.jerry.at_terminal(&["--mfa-mode=otp", "db", "connect", "prod-pg"])?, |psql| {
        psql.expect("Enter an OTP code from a device:")?;
        psql.send(&code)
    })?;
    // Ends are sent after the fact; with the third the beginnings are there.
    world.tctl.wait_for_audit("db.session.end", {
        let seen = std::cell::Cell::new(0);
        move |_| seen.replace(seen.get() + 1) % 3 == 2
    })?;
    let trail = world.tctl.ok(&["audit", "ls", "--format=json", "--limit=1000"])?;
    Ok((world, trail))
}

/// Verifies a file where there is no authd, no login and no socket.
fn verify_offline(world: &World, trail: &str, args: &[&str]) -> Result<Finished> {
    let file = world.path().join("trail.jsonl");
    fs::write(&file, trail)?;
    let tctl = world.tctl.command(&[])?;
    let mut command = Command::new(tctl.get_program());
    command
        .env_clear()
        .env("HOME", world.path().join("nobody"))
        .args(["audit", "verify"])
        .args(args)
        .arg(file);
    run(command, "", Duration::from_secs(30))
}

/// What somebody changes in an event.
type Tamper = fn(&mut Value);

/// The trail with something changed in the beginning of the session that was touched for.
fn tampered(trail: &str, change: impl Fn(&mut Value)) -> Result<String> {
    let line = |line: &str| -> Result<String> {
        let mut event: Value = serde_json::from_str(line)?;
        if event["event"] == "db.session.start" && event["receipt"].is_string() {
            change(&mut event);
        }
        Ok(event.to_string())
    };
    Ok(trail.lines().map(line).collect::<Result<Vec<_>>>()?.join("\n"))
}

#[test]
fn the_trail_says_whose_key_approved_what_and_no_change_of_it_goes_unseen() -> Result<()> {
    let (world, trail) = recorded()?;
    let summary = "3 sessions: 1 proved, 1 by one-time code (no proof possible), 1 without MFA, 0 FAILED";
    let live = world.tctl.ok(&["audit", "verify"])?;
    ensure!(live.contains(summary) && live.contains("security-key ("), "{live}");
    assert_eq!(verify_offline(&world, &trail, &[])?.output()?, live);

    let json: Value = serde_json::from_str(&verify_offline(&world, &trail, &["--format=json"])?.output()?)?;
    let proofs: Vec<_> = json["sessions"].as_array().into_iter().flatten().map(|s| &s["proof"]).collect();
    assert_eq!(proofs, ["not_claimed", "proved", "otp"]);
    assert_eq!(json["summary"]["failed"], 0);

    let tampers: [(&str, Tamper); 6] = [
        ("the touch was for another target", |start| start["db_service"] = "payroll".into()),
        ("the touch was for another login", |start| start["db_user"] = "postgres".into()),
        ("the device is of user", |start| start["user"] = "olga".into()),
        ("it claims MFA and has no receipt", |start| drop(start.as_object_mut().unwrap().remove("receipt"))),
        ("no mfa.add of device", |start| start["with_mfa"] = "00000000-0000-4000-8000-000000000001".into()),
        ("cannot be read", |start| {
            let receipt = start["receipt"].as_str().unwrap();
            start["receipt"] = receipt[..receipt.len() / 2 / 4 * 4].into();
        }),
    ];
    for (why, change) in tampers {
        let checked = verify_offline(&world, &tampered(&trail, change)?, &[])?;
        ensure!(!checked.success && checked.stdout.contains(why), "{why}:\n{}", checked.stdout);
        assert_eq!(checked.stderr, "ERROR: the record of 1 session proves nothing\n");
    }
    // Without the registration nobody knows whose key it was.
    let without: Vec<_> = trail.lines().filter(|line| !line.contains("\"mfa.add\"")).collect();
    ensure!(!verify_offline(&world, &without.join("\n"), &[])?.success);
    // A trail that was cut through is not passed over.
    let error = verify_offline(&world, &trail[..trail.len() - 20], &[])?.error()?;
    ensure!(error.contains("is no event: the trail is damaged"), "{error}");
    Ok(())
}
