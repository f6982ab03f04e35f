//! The audit trail of one session: complete, in order, without a gap.

use anyhow::{Context, Result, ensure};
use e2e::NodeWorld;
use serde_json::Value;

#[test]
fn everything_that_a_session_did_is_on_record_in_order() -> Result<()> {
    let world = NodeWorld::jerry_and_olga()?;
    let ssh = world.ssh(&world.dev)?;
    let said = ssh.run_with(&["-o", "SetEnv=TOUCHSTONE_A=one"], "echo $TOUCHSTONE_A; exit 9", "")?;
    ensure!(!said.success && said.stdout == "one\n");
    let end = world.tctl.wait_for_audit("session.end", |event| event["server_hostname"] == "dev-node")?;
    let events: Vec<Value> = world
        .tctl
        .ok(&["audit", "ls", "--format=json", "--limit=1000"])?
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    let mut session: Vec<&Value> = events.iter().filter(|event| event["sid"] == end["sid"]).collect();
    session.sort_by_key(|event| event["ei"].as_u64());
    let names: Vec<_> = session.iter().filter_map(|event| event["event"].as_str()).collect();
    assert_eq!(names, ["session.start", "exec", "session.channel.end", "session.data", "session.end"]);
    let codes: Vec<_> = session.iter().filter_map(|event| event["code"].as_str()).collect();
    assert_eq!(codes, ["T2000I", "T3002I", "TTS21I", "T2006I", "T2004I"]);
    for (ei, event) in session.iter().enumerate() {
        assert_eq!(event["ei"], ei, "{event}");
        assert_eq!((&event["user"], &event["login"]), (&"jerry".into(), &world.sshd.account().into()));
        assert_eq!((&event["proto"], &event["server_labels"]["env"]), (&"ssh".into(), &"dev".into()));
        assert_eq!(event["server_addr"], world.sshd.address());
        ensure!(event["addr.remote"].as_str().is_some_and(|addr| addr.starts_with("127.0.0.1:")), "{event}");
    }
    let [start, exec, channel, data, end] = session[..] else { unreachable!() };
    assert_eq!((&start["success"], &start["decided_by"]), (&true.into(), &"access-dev".into()));
    assert_eq!(exec["command"], "echo $TOUCHSTONE_A; exit 9");
    assert_eq!(exec["environment"]["TOUCHSTONE_A"], "one");
    assert_eq!((&channel["exitCode"], &channel["started_ei"]), (&9.into(), &exec["ei"]));
    assert_eq!(channel["bytes_from_upstream"], 4);
    ensure!(data["tx"].as_u64().context("tx")? >= 4, "{data}");
    assert_eq!((&end["reason"], &end["interactive"]), (&"client_closed".into(), &false.into()));
    Ok(())
}
