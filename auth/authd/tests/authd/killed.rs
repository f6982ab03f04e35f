//! authd killed again and again while it works: the store and the trail agree, and each event is there once.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Child,
};

use auth::{
    api::{self, ClientIdentity, Trust},
    proto::{self, admin_client::AdminClient, public_client::PublicClient, sidecars_client::SidecarsClient},
};
use serde_json::Value;
use tokio::{sync::mpsc, task::JoinSet};
use tonic::{Status, transport::Channel};
use uuid::Uuid;

use crate::{server::program, world::*};

const ROUNDS: usize = 20;
/// Who change something at the same time.
const CALLERS: usize = 6;

/// A process, and what it said of itself when it listened.
struct Running {
    child: Child,
    said: Value,
    admin: AdminClient<Channel>,
}

impl Running {
    async fn start(data: &Path) -> Self {
        let (child, said) = program(data);
        let admin = AdminClient::new(api::connect_unix(&data.join("admin.sock")).await.unwrap());
        Self { child, said, admin }
    }

    async fn channel(&self, identity: Option<ClientIdentity>) -> Channel {
        let pins = vec![self.said["ca_pin"].as_str().unwrap().parse().unwrap()];
        api::connect(self.said["addr"].as_str().unwrap(), Trust::Pins(pins), identity).await.unwrap()
    }

    async fn join(&mut self) -> Sidecar {
        let request = proto::AddTokenRequest { types: vec!["db".into()], ttl_seconds: 0 };
        let token = self.admin.add_token(request).await.unwrap().into_inner().token;
        let key = Key::new();
        let certificate = Some(certificate_request(&key, &["pg"]));
        let request = proto::JoinRequest { token, certificate };
        let joined = PublicClient::new(self.channel(None).await).join(request).await.unwrap().into_inner();
        Sidecar { key, id: joined.sidecar_id, certificate: joined.certificate }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Makes roles, and removes every second one, until authd is gone.
async fn change(mut admin: AdminClient<Channel>, prefix: String, answered: mpsc::UnboundedSender<()>) {
    for n in 0.. {
        let name = format!("{prefix}-{n}");
        let json = format!(r#"{{"kind":"role","version":"v7","metadata":{{"name":"{name}"}},"spec":{{}}}}"#);
        let resource = Some(proto::Resource { json, ..Default::default() });
        let put = proto::PutResourceRequest { resource, ..Default::default() };
        let delete = proto::DeleteResourceRequest { kind: "role".into(), name };
        if admin.put_resource(put).await.is_err() || answered.send(()).is_err() {
            return;
        }
        if n % 2 == 1 && admin.delete_resource(delete).await.is_err() {
            return;
        }
    }
}

/// Sends what a sidecar has not been answered for, until authd is gone; answers with the last sequence that it has.
async fn ship(mut sidecar: SidecarsClient<Channel>, spool: Uuid, mut acknowledged: u64) -> u64 {
    loop {
        let records = (acknowledged + 1..=acknowledged + 3).map(|sequence| proto::AuditRecord {
            sequence,
            json: format!(
                r#"{{"event":"db.session.query","time":"2030-01-01T00:00:00Z","name":"{sequence}"}}"#
            )
            .into(),
            ..proto::AuditRecord::default()
        });
        let request = proto::EmitAuditRequest {
            spool_id: spool.to_string(),
            records: records.collect(),
            sessions: Vec::new(),
        };
        let answer: Result<_, Status> = sidecar.emit_audit(request).await;
        match answer {
            Ok(answer) => acknowledged = answer.into_inner().acknowledged,
            Err(_) => return acknowledged,
        }
    }
}

/// How often the trail tells each event of a name.
fn told(data: &Path) -> BTreeMap<(String, String), usize> {
    let (mut told, mut uids) = (BTreeMap::new(), BTreeSet::new());
    for file in std::fs::read_dir(data.join("log")).unwrap() {
        for line in std::fs::read_to_string(file.unwrap().path()).unwrap().lines() {
            let event: Value = serde_json::from_str(line).unwrap();
            if let Some(uid) = event["uid"].as_str() {
                assert!(uids.insert(uid.to_owned()), "twice: {line}");
            }
            let text = |field: &str| event[field].as_str().unwrap_or_default().to_owned();
            *told.entry((text("event"), text("name"))).or_default() += 1;
        }
    }
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_store_has_the_trail_tells_once_however_often_authd_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let mut running = Running::start(&data).await;
    let sidecar = running.join().await;
    let (spool, mut acknowledged) = (Uuid::new_v4(), 0);
    for round in 0..ROUNDS {
        let (answered, mut answers) = mpsc::unbounded_channel();
        let mut callers = JoinSet::new();
        for caller in 0..CALLERS {
            let prefix = format!("r-{round}-{caller}");
            callers.spawn(change(running.admin.clone(), prefix, answered.clone()));
        }
        let shipper = SidecarsClient::new(running.channel(Some(sidecar.identity())).await);
        let shipping = tokio::spawn(ship(shipper, spool, acknowledged));
        for _ in 0..5 + 7 * round % 31 {
            answers.recv().await.unwrap();
        }
        running.kill();
        callers.join_all().await;
        acknowledged = shipping.await.unwrap();
        running = Running::start(&data).await;
    }
    let request = proto::GetResourcesRequest { kind: "role".into(), name: String::new() };
    let roles = running.admin.get_resources(request).await.unwrap().into_inner().resources;
    running.kill();

    let there: BTreeSet<_> = roles.into_iter().map(|role| role.name).collect();
    let told = told(&data);
    let times =
        |event: &str, name: &str| told.get(&(event.to_owned(), name.to_owned())).copied().unwrap_or(0);
    let names = told.keys().map(|(_, name)| name).chain(&there).filter(|name| name.starts_with("r-"));
    let wrong: Vec<_> = names
        .map(|name| (name, there.contains(name), times("role.created", name), times("role.deleted", name)))
        .filter(|(_, there, created, deleted)| (*created, *deleted) != (1, usize::from(!there)))
        .collect();
    assert!(wrong.is_empty(), "(name, is in the store, told that it was created, deleted): {wrong:?}");
    assert!(there.len() > ROUNDS);
    let shipped = |sequence: u64| times("db.session.query", &sequence.to_string());
    assert!((1..=acknowledged).all(|sequence| shipped(sequence) == 1));
}
