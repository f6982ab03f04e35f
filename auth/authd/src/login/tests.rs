//! What strangers can have for nothing: neither a line in the audit trail nor a count in the store.

use tempfile::TempDir;

use super::*;
use crate::{
    audit::Query,
    password::PasswordError,
    store::{Condition, Op},
    users::{Account, MadeUp},
};

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

struct World {
    cluster: Cluster,
    _directory: TempDir,
}

impl World {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { cluster: Cluster::unserved(directory.path()).await, _directory: directory }
    }

    async fn log_in(&self, user: &str) -> Refused {
        let request = proto::BeginLoginRequest { user: user.to_owned(), password: "guess".to_owned() };
        self.cluster.begin_login(request, CLIENT).await.unwrap_err()
    }

    async fn recover(&self, user: &str) -> Refused {
        let (password, code) = (Zeroizing::new("guess".to_owned()), Zeroizing::new("1".to_owned()));
        let recovered = self.cluster.begin_recovery(user.to_owned(), password, code, CLIENT).await;
        recovered.map(drop).unwrap_err()
    }

    /// Names that failures are counted of.
    async fn counted(&self) -> Vec<String> {
        let items = self.cluster.store.range(&["failures/".to_owned()]).await.unwrap().items;
        items.iter().map(|item| crate::store::last_part(&item.key)).collect()
    }

    async fn recorded(&self) -> usize {
        let query = Query { since: None, limit: 1000, event: None };
        self.cluster.audit.list(query).await.unwrap().len()
    }
}

#[tokio::test]
async fn who_finds_no_room_is_not_recorded() {
    let world = World::new().await;
    let crowd: Vec<_> = std::iter::from_fn(|| world.cluster.passwords.place(CLIENT).ok()).collect();
    for n in 0..3 {
        let name = format!("nobody-{n}");
        for refused in [world.log_in(&name).await, world.recover(&name).await] {
            assert!(matches!(refused, Refused::Password(PasswordError::Busy)), "{refused}");
        }
    }
    assert_eq!((world.recorded().await, world.counted().await.len()), (0, 0));
    drop(crowd);
    assert!(matches!(world.log_in("nobody").await, Refused::Credentials));
    assert_eq!(world.recorded().await, 1);
}

#[tokio::test]
async fn who_finds_the_account_closed_is_not_recorded() {
    let world = World::new().await;
    for _ in 0..5 {
        assert!(matches!(world.log_in("nobody").await, Refused::Credentials));
    }
    let before = world.recorded().await;
    for refused in [world.log_in("nobody").await, world.recover("nobody").await] {
        assert!(matches!(refused, Refused::LockedOut(_)), "{refused}");
    }
    assert_eq!(world.recorded().await, before);
}

#[tokio::test]
async fn no_attempt_is_counted_before_its_turn() {
    let world = World::new().await;
    let passwords = &world.cluster.passwords;
    let mut turns = Vec::new();
    for n in 1.. {
        let place = passwords.place([192, 0, 2, n].into()).unwrap();
        match futures_util::poll!(Box::pin(passwords.turn(place))) {
            std::task::Poll::Ready(turn) => turns.push(turn.unwrap()),
            std::task::Poll::Pending => break,
        }
    }
    for attempt in [true, false] {
        let attempt: futures_util::future::BoxFuture<'_, Refused> = match attempt {
            true => Box::pin(world.log_in("nobody")),
            false => Box::pin(world.recover("nobody")),
        };
        // It is given up while it waits, after all that it can do without a turn.
        tokio::select! {
            biased;
            refused = attempt => panic!("was judged: {refused}"),
            () = commit_others(&world.cluster) => {}
        }
    }
    drop(turns);
    assert!(world.counted().await.is_empty());
}

/// Ends after whatever was asked of the store before.
async fn commit_others(cluster: &Cluster) {
    for n in 0..3 {
        cluster.store.commit(vec![Op::put("other".to_owned(), Condition::Any, &n).unwrap()]).await.unwrap();
    }
}

#[tokio::test]
async fn made_up_names_are_counted_as_far_as_there_is_room_and_users_whatever_comes() {
    let mut world = World::new().await;
    world.cluster.made_up = MadeUp::with_room(4);
    let olga = UserName::new("olga").unwrap();
    let account = Account::new(world.cluster.clock.now());
    let ops = world.cluster.new_account_ops(&olga, &account).await.unwrap();
    world.cluster.store.commit(ops).await.unwrap();
    world.log_in("olga").await;
    for n in 0..10 {
        assert!(matches!(world.log_in(&format!("nobody-{n}")).await, Refused::Credentials));
    }
    let counted = world.counted().await;
    assert!(counted.len() <= 5 && counted.contains(&"olga".to_owned()), "{counted:?}");
}
