//! What sidecars are told: a snapshot, then each change, and a heartbeat.

use std::{pin::Pin, sync::Arc, time::Duration};

use auth::{
    clock::unix_millis,
    proto::{self, watch_event::Event},
    resource::{AUTH_PREFERENCE_NAME, AuthPreference, Kind, Resource},
};
use futures_util::Stream;
use tokio::{
    sync::{broadcast, mpsc},
    time::{MissedTickBehavior, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::{
    api::caller::SidecarCaller,
    ca::{AuthorityKind, Keyring, KeyringRecord},
    cluster::Cluster,
    ended::EndedLogins,
    error::Refused,
    keys,
    mfa::Device,
    store::{self, Change, Item},
};

/// A replica that hears nothing for much longer knows that the connection is dead.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Events on their way to one sidecar. What does not fit waits in the store's own backlog; who falls behind even there is
/// cut off.
const OUTGOING: usize = 64;
/// A sidecar that takes nothing for this long is cut off; it begins again with a snapshot.
const SEND_DEADLINE: Duration = Duration::from_secs(30);

/// For the last word to one that is cut off.
const FAREWELL: Duration = Duration::from_secs(5);

pub(crate) type WatchStream = Pin<Box<dyn Stream<Item = Result<proto::WatchEvent, Status>> + Send>>;

/// Resources that a decision depends on.
const WATCHED: [Kind; 3] = [Kind::Role, Kind::AuthPreference, Kind::Lock];

/// Begins a stream; it ends with the shutdown, or when the sidecar is gone.
pub(crate) fn stream(
    cluster: Arc<Cluster>,
    watcher: SidecarCaller,
    shutdown: CancellationToken,
) -> WatchStream {
    let (events, receiver) = mpsc::channel(OUTGOING);
    tokio::spawn(async move {
        let outgoing = Outgoing(events);
        let end = tokio::select! {
            end = run(&cluster, &watcher, &outgoing) => end,
            () = shutdown.cancelled() => Err(End::With(Status::unavailable("authd is shutting down"))),
        };
        if let Err(End::With(status)) = end {
            // Who is cut off for falling behind has a full queue by nature, and is to be told why all the same. The sidecar
            // may be gone already.
            let _ = timeout(FAREWELL, outgoing.0.send(Err(status))).await;
        }
    });
    Box::pin(ReceiverStream::new(receiver))
}

enum End {
    /// The sidecar hung up.
    Gone,
    With(Status),
}

impl From<Refused> for End {
    fn from(refused: Refused) -> Self {
        Self::With(refused.into())
    }
}

impl From<store::StoreError> for End {
    fn from(error: store::StoreError) -> Self {
        Refused::from(error).into()
    }
}

struct Outgoing(mpsc::Sender<Result<proto::WatchEvent, Status>>);

impl Outgoing {
    async fn send(&self, event: Event) -> Result<(), End> {
        let event = Ok(proto::WatchEvent { event: Some(event) });
        match timeout(SEND_DEADLINE, self.0.send(event)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Gone),
            Err(_) => Err(End::With(Status::aborted("too slow; watch again"))),
        }
    }
}

async fn run(cluster: &Cluster, watcher: &SidecarCaller, out: &Outgoing) -> Result<(), End> {
    // The race: somebody commits while the snapshot is read. We subscribe before we read, so that such a change is in the
    // snapshot, in the subscription, or in both; the revision tells which, and what the snapshot has seen is skipped.
    let mut changes = cluster.store.watch();
    let mut prefixes: Vec<String> = WATCHED.iter().map(|kind| keys::resources(*kind)).collect();
    let others = [keys::AUTHORITY, keys::DEVICE, keys::ENDED_LOGINS];
    prefixes.extend(others.map(|path| store::below(&[path])));
    let store::Range { items, revision: seen } = cluster.store.range(&prefixes).await?;

    out.send(facts(cluster, &*cluster.preference().await?)).await?;
    for item in items {
        if let Some(put) = put_event(&item)? {
            out.send(put).await?;
        }
    }
    out.send(Event::SnapshotEnd(proto::watch_event::SnapshotEnd {})).await?;

    let mut heartbeat = tokio::time::interval(HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = heartbeat.tick() => {
                // A stream outlives the request that began it; the right to it is asked for again.
                watcher.still_may(cluster).await?;
                let time = unix_millis(cluster.clock.now());
                out.send(Event::Heartbeat(proto::watch_event::Heartbeat { time })).await?;
            }
            change = changes.recv() => match change {
                Ok(change) if change.revision <= seen => {}
                Ok(change) => tell(cluster, out, change).await?,
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    return Err(End::With(Status::aborted("fell behind; watch again")));
                }
                Err(broadcast::error::RecvError::Closed) => {
                    return Err(End::With(Status::unavailable("the store is closed")));
                }
            }
        }
    }
}

async fn tell(cluster: &Cluster, out: &Outgoing, change: Change) -> Result<(), End> {
    let Some(kind) = watched_kind(&change.key) else { return Ok(()) };
    let Change { key, value, revision, .. } = change;
    let event = match value {
        None => Some(delete_event(&kind, &key)),
        Some(value) => {
            let item = Item { key: key.clone(), value: value.to_vec(), expires: None, revision };
            let put = put_event(&item)?;
            // Who we are, for WebAuthn, depends on the preference.
            if let Some(Event::Put(proto::watch_event::Put {
                item: Some(proto::watch_event::put::Item::Resource(resource)),
            })) = &put
                && let Ok(Resource::AuthPreference(preference)) = Resource::from_json(&resource.json)
            {
                out.send(facts(cluster, &preference)).await?;
            }
            put
        }
    };
    match event {
        Some(event) => out.send(event).await,
        None => Ok(()),
    }
}

/// The word of the API for what a key holds, where sidecars are told of it.
fn watched_kind(key: &str) -> Option<String> {
    let mut parts = key.split('/');
    match (parts.next()?, parts.next()?) {
        (keys::RESOURCE, kind) => {
            WATCHED.iter().find(|watched| watched.as_str() == kind).map(|kind| kind.as_str().to_owned())
        }
        (keys::AUTHORITY, _) => Some("authority".to_owned()),
        (keys::DEVICE, _) => Some("device_key".to_owned()),
        (keys::ENDED_LOGINS, _) => Some("ended_logins".to_owned()),
        _ => None,
    }
}

fn delete_event(kind: &str, key: &str) -> Event {
    Event::Delete(proto::watch_event::Delete { kind: kind.to_owned(), name: store::last_part(key) })
}

/// What a sidecar is told of an item; private keys stay here.
fn put_event(item: &Item) -> Result<Option<Event>, Refused> {
    use proto::watch_event::put::Item as Put;
    let put = match watched_kind(&item.key).as_deref() {
        None => return Ok(None),
        Some("authority") => {
            let name = store::last_part(&item.key);
            let Some(kind) = AuthorityKind::parse(&name) else {
                return Ok(None);
            };
            // As it is stored: what signs with it may not know of it yet.
            let record = store::decode::<KeyringRecord>(item)?.value;
            let keyring = Keyring::from_record(kind, &record).map_err(Refused::from)?;
            Put::Authority(authority(kind, &keyring))
        }
        Some("device_key") => Put::DeviceKey(store::decode::<Device>(item)?.value.to_device_key()),
        Some("ended_logins") => Put::EndedLogins(store::decode::<EndedLogins>(item)?.value.to_proto()),
        Some(_) => Put::Resource(resource(&crate::cluster::read_resource(item)?)),
    };
    Ok(Some(Event::Put(proto::watch_event::Put { item: Some(put) })))
}

/// The public half of an authority.
pub(crate) fn authority(kind: AuthorityKind, keyring: &Keyring) -> proto::Authority {
    proto::Authority {
        r#type: kind.as_str().to_owned(),
        certificates: keyring.certificates().iter().map(|certificate| certificate.to_vec()).collect(),
        ssh_public_keys: keyring.ssh_public_keys(),
    }
}

/// A resource as the API carries it.
pub(crate) fn resource(resource: &Resource) -> proto::Resource {
    proto::Resource {
        kind: resource.kind().as_str().to_owned(),
        name: resource.name().to_owned(),
        json: resource.to_json(),
    }
}

fn facts(cluster: &Cluster, preference: &AuthPreference) -> Event {
    debug_assert_eq!(preference.metadata.name.as_str(), AUTH_PREFERENCE_NAME);
    Event::Cluster(proto::ClusterFacts {
        cluster_name: cluster.name.to_string(),
        webauthn_rp_id: cluster.rp_id(preference).unwrap_or_default(),
        webauthn_origins: vec![cluster.origin_text()],
    })
}

#[cfg(test)]
mod tests;
