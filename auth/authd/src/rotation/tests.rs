use auth::clock::{Clock, ClockHandle};
use tempfile::TempDir;
use tonic::metadata::MetadataMap;

use super::*;
use crate::{admin::AdminCaller, audit::Query};

const MINUTE: Duration = Duration::from_secs(60);

struct World {
    cluster: Cluster,
    clock: ClockHandle,
    directory: TempDir,
}

async fn world() -> World {
    let directory = tempfile::tempdir().unwrap();
    let (time, clock) = Clock::fixed(std::time::SystemTime::now());
    let cluster = Cluster::unserved_at(directory.path(), time).await;
    World { cluster, clock, directory }
}

impl World {
    async fn rotate(&self, kind: &str, phase: &str, grace_seconds: u32) -> Result<String, Refused> {
        let root = self.cluster.allow_change(AdminCaller::root(), &MetadataMap::new(), [0; 32]).await?;
        let request = proto::RotateAuthorityRequest {
            r#type: kind.to_owned(),
            phase: phase.to_owned(),
            grace_seconds,
            force: false,
        };
        self.cluster.rotate(&request, &root).await.map(|answer| answer.phase)
    }

    /// Goes on with what is due; nothing may stand in the way.
    async fn lead(&self) {
        for (kind, led) in self.cluster.lead_rotations().await {
            led.unwrap_or_else(|error| panic!("{kind}: {error}"));
        }
    }

    fn phase(&self, kind: AuthorityKind) -> Phase {
        self.cluster.authorities.of(kind).phase()
    }

    fn trusted(&self, kind: AuthorityKind) -> Vec<[u8; 32]> {
        self.cluster.authorities.of(kind).trusted().map(|authority| authority.spki_sha256()).collect()
    }

    /// From and to, as the trail has them.
    async fn steps(&self) -> Vec<(String, String)> {
        let event = Some("cert_authority.rotate".to_owned());
        let lines = self.cluster.audit.list(Query { since: None, limit: 100, event }).await.unwrap();
        let step = |line: &String| {
            let event: Value = serde_json::from_str(line).unwrap();
            let word = |name: &str| event[name].as_str().unwrap().to_owned();
            (word("from"), word("phase"))
        };
        lines.iter().map(step).collect()
    }
}

#[tokio::test]
async fn authd_leads_a_rotation_through_its_phases_and_each_is_on_record() {
    let world = world().await;
    assert_eq!(world.rotate("user", "", 180).await.unwrap(), "init");
    let old = world.trusted(AuthorityKind::User)[0];
    for phase in [Phase::UpdateClients, Phase::UpdateServers, Phase::Standby] {
        let before = world.phase(AuthorityKind::User);
        world.clock.advance(MINUTE - Duration::from_secs(1));
        world.lead().await;
        assert_eq!(world.phase(AuthorityKind::User), before, "not before its time");
        world.clock.advance(Duration::from_secs(1));
        world.lead().await;
        assert_eq!(world.phase(AuthorityKind::User), phase);
    }
    let new = world.trusted(AuthorityKind::User);
    assert!(new.len() == 1 && new[0] != old);
    assert_eq!(world.phase(AuthorityKind::Host), Phase::Standby, "the others stay as they are");
    let steps = world.steps().await;
    let words = ["standby", "init", "update_clients", "update_servers", "standby"];
    let wanted: Vec<_> = words.windows(2).map(|pair| (pair[0].to_owned(), pair[1].to_owned())).collect();
    assert_eq!(steps, wanted);
}

#[tokio::test]
async fn a_rotation_goes_on_where_it_was_after_a_restart() {
    let world = world().await;
    world.rotate("db", "init", 0).await.unwrap();
    let trusted = world.trusted(AuthorityKind::Db);
    let World { cluster, directory, .. } = world;
    drop(cluster);
    let again = Cluster::unserved(directory.path()).await;
    let ring = again.authorities.of(AuthorityKind::Db);
    assert_eq!(ring.phase(), Phase::Init);
    assert_eq!(ring.trusted().map(|authority| authority.spki_sha256()).collect::<Vec<_>>(), trusted);
}

#[tokio::test]
async fn what_is_no_step_changes_nothing_and_says_why() {
    let world = world().await;
    world.rotate("host", "init", 0).await.unwrap();
    let before = world.trusted(AuthorityKind::Host);
    for (kind, phase, grace, said) in [
        ("jwt", "init", 0, "type: must be user, host, db, db_client or openssh"),
        ("user", "update_clients", 0, "can not switch to phase update_clients from standby"),
        ("user", "sideways", 0, "phase: must be init, update_clients, update_servers, standby or rollback"),
        ("user", "init", 600, "grace_seconds: stands beside phase; send one of them"),
        ("user", "", 179, "grace_seconds: must be at least 180"),
        ("host", "init", 0, "can not initiate rotation while another is in progress"),
        ("host", "", 0, "can not initiate rotation while another is in progress"),
        ("host", "standby", 0, "can not switch to phase standby from init"),
    ] {
        let refused = world.rotate(kind, phase, grace).await.unwrap_err();
        assert_eq!(refused.to_string(), said, "{kind} {phase}");
    }
    assert_eq!(world.trusted(AuthorityKind::Host), before);
    assert_eq!(world.phase(AuthorityKind::User), Phase::Standby);
    assert_eq!(world.steps().await.len(), 1);
}

#[tokio::test]
async fn of_two_steps_at_once_one_is_made() {
    let world = world().await;
    let (one, other) = tokio::join!(world.rotate("openssh", "init", 0), world.rotate("openssh", "init", 0));
    assert!(one.is_ok() != other.is_ok());
    let again = world.trusted(AuthorityKind::Openssh);
    let key = keys::authority(AuthorityKind::Openssh);
    let record = store::read::<KeyringRecord>(&*world.cluster.store, &key).await.unwrap().unwrap();
    let stored = Keyring::from_record(AuthorityKind::Openssh, &record.value).unwrap();
    assert_eq!(stored.trusted().map(|authority| authority.spki_sha256()).collect::<Vec<_>>(), again);
}
