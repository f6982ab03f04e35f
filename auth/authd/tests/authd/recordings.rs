//! Recordings: taken from the sidecar of a session, shown to whom they belong.

use std::time::Duration;

use auth::proto;
use tonic::{Code, Status, transport::Channel};
use uuid::Uuid;

use crate::world::*;

type Users = proto::users_client::UsersClient<Channel>;

const HEADER: &[u8] = b"{\"version\": 2, \"width\": 80, \"height\": 24}\n";
const OUTPUT: &[u8] = b"[0.25, \"o\", \"hello\"]\n";

struct Scene {
    world: World,
    sidecar: Sidecar,
}

impl Scene {
    async fn new() -> Self {
        let world = World::new().await;
        let sidecar = world.guard_nodes(&[("prod-host", "prod")]).await.0;
        Self { world, sidecar }
    }

    async fn person(&self, name: &str, roles: &[&str]) -> Users {
        let mut person = self.world.person_with_totp(name, roles).await;
        self.world.login(&mut person).await;
        self.world.clock.advance(Duration::from_secs(60));
        self.world.users(person.identity()).await
    }

    fn of(&self, user: &str) -> proto::RecordingOf {
        proto::RecordingOf {
            user: user.to_owned(),
            login: "root".to_owned(),
            target_name: "prod-host".to_owned(),
            started: auth::clock::unix_millis(self.world.time.now()),
        }
    }

    async fn upload(
        &self,
        parts: Vec<proto::RecordingPart>,
    ) -> Result<proto::UploadRecordingResponse, Status> {
        upload(&self.world, &self.sidecar, parts).await
    }

    /// A finished recording of this user.
    async fn recorded(&self, user: &str) -> Uuid {
        let session = Uuid::new_v4();
        let finished = proto::RecordingPart { finished: true, ..part(session, HEADER.len(), OUTPUT) };
        let answer = self.upload(vec![first(session, self.of(user)), finished]).await.unwrap();
        assert_eq!((answer.acknowledged, answer.finished), ((HEADER.len() + OUTPUT.len()) as u64, true));
        session
    }
}

async fn upload(
    world: &World,
    sidecar: &Sidecar,
    parts: Vec<proto::RecordingPart>,
) -> Result<proto::UploadRecordingResponse, Status> {
    let mut client = world.sidecars(sidecar).await;
    Ok(client.upload_recording(tokio_stream::iter(parts)).await?.into_inner())
}

fn part(session: Uuid, offset: usize, data: &[u8]) -> proto::RecordingPart {
    proto::RecordingPart {
        session_id: session.to_string(),
        of: None,
        offset: offset as u64,
        data: data.to_vec(),
        finished: false,
    }
}

fn first(session: Uuid, of: proto::RecordingOf) -> proto::RecordingPart {
    proto::RecordingPart { of: Some(of), ..part(session, 0, HEADER) }
}

async fn listed(users: &mut Users) -> Vec<proto::Recording> {
    let request = proto::ListRecordingsRequest::default();
    users.list_recordings(request).await.unwrap().into_inner().recordings
}

async fn read(users: &mut Users, session: Uuid) -> Result<Vec<u8>, Status> {
    let request = proto::GetRecordingRequest { session_id: session.to_string() };
    let mut chunks = users.get_recording(request).await?.into_inner();
    let mut data = Vec::new();
    while let Some(chunk) = chunks.message().await? {
        data.extend(chunk.data);
    }
    Ok(data)
}

#[tokio::test]
async fn a_recording_comes_in_parts_is_listed_and_read_by_its_user() {
    let scene = Scene::new().await;
    let mut jerry = scene.person("jerry", &["access"]).await;
    let session = scene.recorded("jerry").await;
    let all = listed(&mut jerry).await;
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].session_id, session.to_string());
    assert_eq!(
        (all[0].user.as_str(), all[0].login.as_str(), all[0].target_name.as_str()),
        ("jerry", "root", "prod-host")
    );
    assert!(all[0].finished > 0 && all[0].bytes == (HEADER.len() + OUTPUT.len()) as u64);
    assert_eq!(read(&mut jerry, session).await.unwrap(), [HEADER, OUTPUT].concat());

    let event = scene.world.events("session.recording.access").await.pop().unwrap();
    assert_eq!((&event["code"], &event["user"]), (&"T2012I".into(), &"jerry".into()));
    assert_eq!(event["sid"], session.to_string());
    let event = scene.world.events("session.upload").await.pop().unwrap();
    assert_eq!((&event["code"], &event["sid"]), (&"T2005I".into(), &session.to_string().into()));
}

#[tokio::test]
async fn an_upload_goes_on_where_it_stopped_also_after_a_restart() {
    let mut scene = Scene::new().await;
    let session = Uuid::new_v4();
    let of = scene.of("jerry");
    let answer = scene.upload(vec![first(session, of.clone())]).await.unwrap();
    assert_eq!((answer.acknowledged, answer.finished), (HEADER.len() as u64, false));
    scene.world = scene.world.restart().await;
    let asks = proto::RecordingPart { data: vec![], ..first(session, of.clone()) };
    assert_eq!(scene.upload(vec![asks]).await.unwrap().acknowledged, HEADER.len() as u64);
    let gap = part(session, HEADER.len() + 1, OUTPUT);
    assert_eq!(
        scene.upload(vec![gap]).await.unwrap().acknowledged,
        HEADER.len() as u64,
        "a gap is not taken"
    );
    let end = proto::RecordingPart { finished: true, ..part(session, HEADER.len(), OUTPUT) };
    let again = vec![first(session, of), end];
    let whole = (HEADER.len() + OUTPUT.len()) as u64;
    for _ in 0..2 {
        let answer = scene.upload(again.clone()).await.unwrap();
        assert_eq!((answer.acknowledged, answer.finished), (whole, true));
    }
    let more = part(session, HEADER.len() + OUTPUT.len(), OUTPUT);
    assert_eq!(scene.upload(vec![more]).await.unwrap().acknowledged, whole, "it is finished");
    scene.world.clock.advance(Duration::from_secs(1));
    let mut jerry = scene.person("jerry", &["access"]).await;
    assert_eq!(refused(read(&mut jerry, session).await).0, Code::NotFound, "of an earlier jerry");
}

#[tokio::test]
async fn who_finds_a_recording_being_written_is_told_to_try_again_and_then_may() {
    let scene = Scene::new().await;
    let mut jerry = scene.person("jerry", &["access"]).await;
    let session = Uuid::new_v4();
    // An upload that has begun and goes on: its stream stays open.
    let (parts, receiver) = tokio::sync::mpsc::channel(1);
    parts.send(first(session, scene.of("jerry"))).await.unwrap();
    let mut client = scene.world.sidecars(&scene.sidecar).await;
    let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let open = tokio::spawn(async move { client.upload_recording(stream).await });
    let begun = async { while listed(&mut jerry).await.is_empty() {} };
    tokio::time::timeout(Duration::from_secs(10), begun).await.unwrap();

    let whole = || vec![first(session, scene.of("jerry"))];
    assert_eq!(refused(scene.upload(whole()).await).0, Code::Aborted);
    open.abort();
    let again = async {
        loop {
            match scene.upload(whole()).await {
                Ok(answer) => return answer,
                // authd has not heard yet that the other is gone.
                Err(status) => assert_eq!(status.code(), Code::Aborted, "{status}"),
            }
        }
    };
    let answer = tokio::time::timeout(Duration::from_secs(10), again).await.unwrap();
    assert_eq!(answer.acknowledged, HEADER.len() as u64);
}

#[tokio::test]
async fn a_recording_is_its_sidecars_alone() {
    let scene = Scene::new().await;
    let other = scene.world.guard_nodes(&[("other-host", "prod")]).await.0;
    let session = Uuid::new_v4();
    scene.upload(vec![first(session, scene.of("jerry"))]).await.unwrap();
    for parts in [
        vec![part(session, HEADER.len(), OUTPUT)],
        vec![first(session, scene.of("jerry"))],
        // A node that this one does not guard.
        vec![first(Uuid::new_v4(), scene.of("jerry"))],
    ] {
        assert_eq!(refused(upload(&scene.world, &other, parts).await).0, Code::NotFound);
    }
    let databases = scene.world.sidecar(&["prod-host"]).await;
    let parts = vec![first(Uuid::new_v4(), scene.of("jerry"))];
    assert_eq!(
        refused(upload(&scene.world, &databases, parts).await).0,
        Code::NotFound,
        "joined for databases"
    );
}

#[tokio::test]
async fn what_makes_no_sense_is_not_taken() {
    let scene = Scene::new().await;
    let session = Uuid::new_v4();
    scene.upload(vec![first(session, scene.of("jerry"))]).await.unwrap();
    let bad = |parts: Vec<proto::RecordingPart>| scene.upload(parts);
    assert_eq!(refused(bad(vec![]).await).0, Code::InvalidArgument);
    assert_eq!(refused(bad(vec![first(session, scene.of("olga"))]).await).0, Code::InvalidArgument);
    assert_eq!(
        refused(bad(vec![part(Uuid::new_v4(), 0, HEADER)]).await).0,
        Code::NotFound,
        "of nothing known"
    );
    let path = proto::RecordingPart { session_id: "../../x".into(), ..first(session, scene.of("jerry")) };
    assert_eq!(refused(bad(vec![path]).await).0, Code::InvalidArgument);
    let changing = vec![first(session, scene.of("jerry")), part(Uuid::new_v4(), HEADER.len(), OUTPUT)];
    assert_eq!(refused(bad(changing).await).0, Code::InvalidArgument);
    let nobody = proto::RecordingOf { user: "a,b".into(), ..scene.of("jerry") };
    assert_eq!(refused(bad(vec![first(Uuid::new_v4(), nobody)]).await).0, Code::InvalidArgument);
}

#[tokio::test]
async fn recordings_of_others_are_for_those_with_the_rule() {
    let scene = Scene::new().await;
    let mut jerry = scene.person("jerry", &["access"]).await;
    let mut olga = scene.person("olga", &["access"]).await;
    let mut auditor = scene.person("ada", &["auditor"]).await;
    let list_only = "kind: role\nversion: v7\nmetadata: {name: lister}\n\
                     spec: {allow: {rules: [{resources: [session], verbs: [list]}]}}\n";
    scene.world.put(list_only).await;
    let mut lister = scene.person("lisa", &["lister"]).await;
    let session = scene.recorded("jerry").await;

    assert_eq!(listed(&mut olga).await, []);
    let (code, text) = refused(read(&mut olga, session).await);
    let (_, none) = refused(read(&mut olga, Uuid::nil()).await);
    assert_eq!(code, Code::NotFound);
    assert_eq!(text.replace(&session.to_string(), &Uuid::nil().to_string()), none, "as if there were none");
    assert_eq!(listed(&mut lister).await.len(), 1);
    assert_eq!(refused(read(&mut lister, session).await).0, Code::NotFound);
    assert_eq!(listed(&mut auditor).await.len(), 1);
    assert!(read(&mut auditor, session).await.is_ok());
    assert!(read(&mut jerry, session).await.is_ok());
    let readers: Vec<_> = scene.world.events("session.recording.access").await;
    let readers: Vec<_> = readers.iter().map(|event| event["user"].as_str().unwrap().to_owned()).collect();
    assert_eq!(readers, ["ada", "jerry"]);
}

#[tokio::test]
async fn the_newest_come_first_and_no_more_than_asked_for() {
    let scene = Scene::new().await;
    let mut jerry = scene.person("jerry", &["access"]).await;
    let old = scene.recorded("jerry").await;
    scene.world.clock.advance(Duration::from_secs(60));
    let new = scene.recorded("jerry").await;
    let ids = |all: Vec<proto::Recording>| all.into_iter().map(|r| r.session_id).collect::<Vec<_>>();
    assert_eq!(ids(listed(&mut jerry).await), [new.to_string(), old.to_string()]);
    let limited = proto::ListRecordingsRequest { limit: 1, ..Default::default() };
    let answer = jerry.list_recordings(limited).await.unwrap().into_inner();
    assert_eq!(ids(answer.recordings), [new.to_string()]);
    let since = auth::clock::unix_millis(scene.world.time.now());
    let recent = proto::ListRecordingsRequest { since, ..Default::default() };
    assert_eq!(ids(jerry.list_recordings(recent).await.unwrap().into_inner().recordings), [new.to_string()]);
    // The end of the time that is asked for is looked at before the newest are counted.
    let earlier = proto::ListRecordingsRequest { limit: 1, until: since - 1, ..Default::default() };
    assert_eq!(ids(jerry.list_recordings(earlier).await.unwrap().into_inner().recordings), [old.to_string()]);
    let inclusive = proto::ListRecordingsRequest { until: since, ..Default::default() };
    assert_eq!(jerry.list_recordings(inclusive).await.unwrap().into_inner().recordings.len(), 2);
}

#[tokio::test]
async fn no_sidecar_can_say_who_looked_at_a_recording() {
    let scene = Scene::new().await;
    let record = |event: &str, sequence| proto::AuditRecord {
        sequence,
        json: format!(r#"{{"event":"{event}","time":"2026-01-01T00:00:00Z","user":"jerry"}}"#).into(),
        ..proto::AuditRecord::default()
    };
    let mut client = scene.world.sidecars(&scene.sidecar).await;
    for event in ["session.recording.access", "session.upload"] {
        let request = proto::EmitAuditRequest {
            spool_id: Uuid::new_v4().to_string(),
            records: vec![record(event, 1)],
            sessions: Vec::new(),
        };
        assert_eq!(refused(client.emit_audit(request).await).0, Code::InvalidArgument, "{event}");
    }
    let request = proto::EmitAuditRequest {
        spool_id: Uuid::new_v4().to_string(),
        records: vec![record("session.start", 1), record("session.data", 2)],
        sessions: Vec::new(),
    };
    client.emit_audit(request).await.unwrap();
}
