use auth::resource::preset;
use futures_util::StreamExt;
use rustls_pki_types::CertificateDer;
use tempfile::TempDir;
use tonic::{Code, Request, metadata::MetadataMap};

use super::*;
use crate::{
    admin::AdminCaller,
    api::caller::{self, Caller, Connection},
    cluster::put_op,
    store::{Condition, Op},
};

/// More than the store keeps for a watcher.
const TOO_MANY: usize = 5000;

struct World {
    cluster: Arc<Cluster>,
    watcher: SidecarCaller,
    _directory: TempDir,
}

/// A cluster and a sidecar of it.
async fn world() -> World {
    let directory = tempfile::tempdir().unwrap();
    let cluster = Arc::new(Cluster::unserved(directory.path()).await);
    let root = cluster.allow_change(AdminCaller::root(), &MetadataMap::new(), [0; 32]).await.unwrap();
    let token = proto::AddTokenRequest { types: vec!["db".into()], ttl_seconds: 0 };
    let token = cluster.add_token(token, &root).await.unwrap().token;
    let (_, public_key) = auth::key::generate_p256().unwrap();
    let names = (vec!["pg".to_owned()], vec![]);
    let certificate = proto::SidecarCertificateRequest {
        public_key,
        target_names: names.0,
        hosts: names.1,
        ssh_public_key: vec![],
    };
    let join = proto::JoinRequest { token, certificate: Some(certificate) };
    let joined = cluster.join(join, [127, 0, 0, 1].into()).await.unwrap();
    let caller = Caller::of(&cluster, &[CertificateDer::from(joined.certificate)]);
    let mut request = Request::new(());
    request.extensions_mut().insert(Connection { address: [127, 0, 0, 1].into(), caller });
    let watcher = caller::sidecar(&cluster, &request).await.unwrap();
    World { cluster, watcher, _directory: directory }
}

impl World {
    fn watch(&self) -> WatchStream {
        stream(Arc::clone(&self.cluster), self.watcher, CancellationToken::new())
    }

    /// Stores roles `r0`, `r1`, … in one commit.
    async fn put_roles(&self, count: usize) {
        let roles = (0..count).map(|n| {
            let mut role = preset::access();
            role.metadata.name = format!("r{n}").try_into().unwrap();
            put_op(&Resource::Role(role), Condition::Any).unwrap()
        });
        self.cluster.store.commit(roles.collect()).await.unwrap();
    }
}

fn is_end(event: &Option<Event>) -> bool {
    matches!(event, Some(Event::SnapshotEnd(_)))
}

#[tokio::test]
async fn a_watcher_that_falls_behind_is_told_so_and_finds_everything_when_it_begins_again() {
    let world = world().await;
    let mut slow = world.watch();
    while !is_end(&slow.next().await.unwrap().unwrap().event) {}
    // It takes nothing more: its queue fills with roles, and the store's backlog runs over behind it.
    world.put_roles(2 * OUTGOING).await;
    let others = (0..TOO_MANY).map(|n| Op::put(format!("other/{n}"), Condition::Any, &n).unwrap());
    world.cluster.store.commit(others.collect()).await.unwrap();
    // It takes one, and its queue is full again when the lag is noticed.
    slow.next().await.unwrap().unwrap();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let told = loop {
        if let Err(status) = slow.next().await.unwrap() {
            break status;
        }
    };
    assert_eq!((told.code(), told.message()), (Code::Aborted, "fell behind; watch again"));
    assert!(slow.next().await.is_none());

    let mut roles = 0;
    let mut again = world.watch();
    loop {
        match again.next().await.unwrap().unwrap().event {
            Some(Event::Put(proto::watch_event::Put {
                item: Some(proto::watch_event::put::Item::Resource(resource)),
            })) if resource.kind == "role" && resource.name.starts_with('r') => roles += 1,
            event if is_end(&event) => break,
            _ => {}
        }
    }
    assert_eq!(roles, 2 * OUTGOING);
}
