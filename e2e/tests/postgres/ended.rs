//! A session that is ended from outside says so in words that drivers know, and who may end a statement.

use anyhow::{Context, Result, ensure};
use e2e::{ACCESS_DEV, Tctl, poll};
use tokio::{task::JoinHandle, time::timeout};
use tokio_postgres::{Client, Error, error::SqlState};

use crate::{
    scene::{Scene, connect, tls},
    stage::PATIENCE,
};

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

/// A statement that is running for a minute, as the database sees it.
fn sleeping(scene: &Scene, client: Client) -> Result<JoinHandle<Option<Error>>> {
    let running = tokio::spawn(async move { client.batch_execute("SELECT pg_sleep(60)").await.err() });
    scene.world.postgres.wait_until_running("pg_sleep(60)")?;
    Ok(running)
}

/// What a live session reads when `end` has been done.
fn last_words(end: impl FnOnce(&Tctl) -> Result<()>) -> Result<String> {
    let scene = Scene::new(&[])?;
    runtime()?.block_on(async {
        let (client, _heard) = timeout(PATIENCE, connect(&scene.psql()?)).await??;
        let running = sleeping(&scene, client)?;
        end(&scene.world.tctl)?;
        let error = timeout(PATIENCE, running).await??.context("it was not ended")?;
        let error = error.as_db_error().with_context(|| format!("no word of the server's: {error:?}"))?;
        assert_eq!((error.severity(), error.code()), ("FATAL", &SqlState::ADMIN_SHUTDOWN), "{error}");
        Ok(error.message().to_owned())
    })
}

#[test]
fn a_session_that_a_lock_ends_reads_57p01_and_the_locks_message() -> Result<()> {
    let said = last_words(|tctl| {
        tctl.ok(&["lock", "--user=jerry", "--message=Suspicious activity.", "--ttl=1h"]).map(drop)
    })?;
    ensure!(said.starts_with("the session ended: ") && said.contains("Suspicious activity."), "{said}");
    Ok(())
}

#[test]
fn a_session_that_a_policy_change_ends_reads_57p01_and_why() -> Result<()> {
    let said = last_words(|tctl| tctl.create(&ACCESS_DEV.replace("env: dev", "env: other")).map(drop))?;
    assert_eq!(said, "the session ended: access was withdrawn");
    Ok(())
}

#[test]
fn a_cancel_with_another_users_certificate_is_refused_and_with_ones_own_obeyed() -> Result<()> {
    let scene = Scene::new(&[])?;
    let olga = scene.world.psql_of(&scene.olga()?, &scene.sidecar)?;
    let jerry = scene.psql()?;
    runtime()?.block_on(async {
        let (client, _heard) = timeout(PATIENCE, connect(&jerry)).await??;
        let token = client.cancel_token();
        let running = sleeping(&scene, client)?;

        // Olga has come by the session's key.
        timeout(PATIENCE, token.cancel_query(tls(&olga)?)).await??;
        poll("the cancel to be refused", PATIENCE, || Ok((cancels(&scene, "refused")? == 1).then_some(())))?;
        ensure!(!running.is_finished(), "somebody else ended the statement");
        scene.world.postgres.wait_until_running("pg_sleep(60)")?;

        timeout(PATIENCE, token.cancel_query(tls(&jerry)?)).await??;
        let error = timeout(PATIENCE, running).await??.context("it was not cancelled")?;
        assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED), "{error}");
        assert_eq!(cancels(&scene, "refused")?, 1);
        Ok(())
    })
}

/// Cancels that came with a certificate and ended like that.
fn cancels(scene: &Scene, outcome: &str) -> Result<u64> {
    let answer = scene.sidecar.get("/metrics")?;
    let label = format!("\"{outcome}\"");
    let line = answer
        .lines()
        .find(|line| line.starts_with("touchstone_certified_cancels_total") && line.contains(&label));
    let (_, count) =
        line.and_then(|line| line.rsplit_once(' ')).with_context(|| format!("none in:\n{answer}"))?;
    Ok(count.parse()?)
}
