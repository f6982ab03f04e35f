//! A change and its event: both are there, or neither.

use std::time::Duration;

use auth::{clock::rfc3339, proto, resource::parse_documents};
use tonic::{Code, Status};

use crate::world::*;

fn role(name: &str) -> proto::PutResourceRequest {
    let yaml = format!("kind: role\nversion: v7\nmetadata: {{name: {name}}}\nspec: {{}}\n");
    let json = parse_documents(&yaml).unwrap().remove(0).resource.to_json();
    let resource = Some(proto::Resource { json, ..Default::default() });
    proto::PutResourceRequest { resource, ..Default::default() }
}

fn delete(kind: &str, name: &str) -> proto::DeleteResourceRequest {
    proto::DeleteResourceRequest { kind: kind.into(), name: name.into() }
}

/// Names of those that begin so, in order.
fn those<'a>(prefix: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut names: Vec<_> = names.filter(|name| name.starts_with(prefix)).map(str::to_owned).collect();
    names.sort();
    names
}

/// Makes a call, and gives it up after so many turns of everything else: it is reset then.
async fn give_up<T>(call: impl Future<Output = Result<T, Status>>, turns: u32) -> bool {
    let patience = async {
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        answer = call => answer.map(drop).is_err(),
        () = patience => true,
    }
}

#[tokio::test]
async fn a_change_whose_caller_hangs_up_is_recorded() {
    let mut world = World::new().await;
    let mut admin = world.admin().await;
    let (mut given_up, mut turns) = (0, 1);
    // From a moment before the request is sent to one after its answer, whatever the disk takes.
    while turns < 100_000 {
        let mut calls = admin.clone();
        given_up += u32::from(give_up(calls.put_resource(role(&format!("kept-{turns}"))), turns).await);
        let gone = format!("gone-{turns}");
        admin.put_resource(role(&gone)).await.unwrap();
        given_up += u32::from(give_up(calls.delete_resource(delete("role", &gone)), turns).await);
        turns += 1 + turns / 4;
    }
    assert!(given_up > 1);
    drop(admin);
    // Whatever is under way is over then.
    world = world.restart().await;
    let request = proto::GetResourcesRequest { kind: "role".into(), name: String::new() };
    let roles = world.admin().await.get_resources(request).await.unwrap().into_inner().resources;
    let (created, deleted) = (world.events("role.created").await, world.events("role.deleted").await);
    let there = |prefix| those(prefix, roles.iter().map(|role| role.name.as_str()));
    let told = |prefix, events: &'_ [serde_json::Value]| {
        those(prefix, events.iter().map(|event| event["name"].as_str().unwrap()))
    };
    assert!(!there("kept-").is_empty());
    assert_eq!(there("kept-"), told("kept-", &created));
    let mut all = [there("gone-"), told("gone-", &deleted)].concat();
    all.sort();
    assert_eq!(all, told("gone-", &created));
}

#[tokio::test]
async fn what_cannot_be_recorded_is_not_done() {
    const LOCK: &str = "kind: lock\nversion: v2\nmetadata: {name: l}\nspec: {target: {user: jerry}}\n";
    let world = World::new().await;
    world.put(LOCK).await;
    let mut admin = world.admin().await;
    let invite = |name: &str| proto::AddUserRequest {
        name: name.into(),
        roles: vec!["access".into()],
        ttl_seconds: 48 * 3600,
        ..Default::default()
    };
    let token = token_of(&admin.add_user(invite("jerry")).await.unwrap().into_inner().url);

    // The file of the next day cannot be written: its name is taken.
    world.clock.advance(Duration::from_secs(24 * 3600));
    let day: String = rfc3339(world.time.now()).chars().take(10).collect();
    let file = world.directory.path().join(format!("data/log/{day}.log"));
    std::fs::create_dir(&file).unwrap();
    let begin = world.begin_invitation(&token, proto::DeviceKind::Totp).await.unwrap();
    let device = Person::new("jerry").new_totp(&begin, world.time.now());
    let reset = proto::ResetUserRequest { name: "jerry".into(), ttl_seconds: 0 };
    let unrecorded = [
        refused(admin.put_resource(role("r")).await),
        refused(admin.delete_resource(delete("lock", "l")).await),
        refused(admin.delete_resource(delete("cap", "")).await),
        refused(admin.add_user(invite("olga")).await),
        refused(admin.reset_user(reset).await),
        refused(admin.add_token(proto::AddTokenRequest { types: vec!["db".into()], ttl_seconds: 0 }).await),
        refused(world.accept(&token, Some(device.clone())).await),
    ];
    for (n, (code, text)) in unrecorded.iter().enumerate() {
        assert_eq!((*code, text.as_str()), (Code::Unavailable, "the audit trail cannot be written"), "{n}");
    }

    std::fs::remove_dir(&file).unwrap();
    for (kind, name) in [("role", "r"), ("user", "olga")] {
        let request = proto::GetResourcesRequest { kind: kind.into(), name: name.into() };
        assert_eq!(refused(admin.get_resources(request).await).0, Code::NotFound, "{kind}");
    }
    let tokens = proto::GetResourcesRequest { kind: "token".into(), name: String::new() };
    assert!(admin.get_resources(tokens).await.unwrap().into_inner().resources.is_empty());
    admin.delete_resource(delete("lock", "l")).await.unwrap();
    // Neither the reset nor the first try has used the invitation up.
    world.accept(&token, Some(device)).await.unwrap();
}
