//! Certificates that open nothing: each is shown to the built sidecar by psql and refused with its own words.

use std::time::SystemTime;

use anyhow::{Result, ensure};
use auth::identity::{DeviceId, MfaEvidence, UserName};
use authd::ca::{Attribute, AuthorityKind};
use e2e::World;

use crate::forge::{DAY, Forgery, identity, pretended_authority, stolen_authority};

#[test]
fn expired_future_and_foreign_certificates_are_refused_each_in_its_own_words() -> Result<()> {
    let world = World::jerry_and_olga()?;
    let jerry = identity(&world.tctl, &world.login_certificate()?)?;
    let user_authority = stolen_authority(&world.authd, AuthorityKind::User)?;
    let now = SystemTime::now();

    // A certificate that nothing is wrong with opens development: the forger's tools work.
    let good = Forgery::of(&jerry)?.psql(&world, &world.dev, &user_authority)?;
    assert_eq!(good.query("SELECT 'let in'")?.output()?, "let in\n");

    let expired = Forgery::of(&jerry)?.between(now - 2 * DAY, now - DAY);
    let error = expired.shown_to(&world, &world.dev, &user_authority)?;
    ensure!(error.contains("the certificate expired at") && error.contains("tsh login"), "{error}");

    let future = Forgery::of(&jerry)?.between(now + DAY, now + 2 * DAY);
    let error = future.shown_to(&world, &world.dev, &user_authority)?;
    ensure!(error.contains("the certificate is not valid before"), "{error}");

    let foreign = pretended_authority(AuthorityKind::User)?;
    let error = Forgery::of(&jerry)?.shown_to(&world, &world.dev, &foreign)?;
    ensure!(error.contains("the certificate was not issued by this cluster"), "{error}");
    Ok(())
}

#[test]
fn certificates_of_the_clusters_other_authorities_are_not_users() -> Result<()> {
    let world = World::jerry_and_olga()?;
    let jerry = identity(&world.tctl, &world.login_certificate()?)?;

    // Authentic, and for something else: an authority vouches for its own kind only.
    for kind in [AuthorityKind::Host, AuthorityKind::Db, AuthorityKind::DbClient] {
        let error =
            Forgery::of(&jerry)?.shown_to(&world, &world.dev, &stolen_authority(&world.authd, kind)?)?;
        ensure!(error.contains("FATAL:") && error.contains("certificate"), "{kind}: {error}");
    }

    // A sidecar's name, signed by the host authority: what every sidecar has on its disk.
    let host = stolen_authority(&world.authd, AuthorityKind::Host)?;
    let subject = vec![
        Attribute::common_name("3c0cf7c9-6fcd-4b8c-b4ad-6d4a8f9a6d5e.main"),
        Attribute::organization("Sidecar"),
    ];
    let error = Forgery::of(&jerry)?.subject(subject).shown_to(&world, &world.dev, &host)?;
    ensure!(error.contains("FATAL:") && error.contains("certificate"), "{error}");
    Ok(())
}

#[test]
fn a_session_certificate_opens_its_own_target_and_no_other() -> Result<()> {
    let world = World::jerry_and_olga()?;
    let (certificate, key) = world.jerry.stolen_session("prod-pg")?;
    let prod = world.psql(&world.prod)?.certificate(&certificate, &key);
    assert_eq!(prod.query("SELECT 'let in'")?.output()?, "let in\n");

    let error = world.psql(&world.dev)?.certificate(&certificate, &key).query("SELECT 1")?.error()?;
    ensure!(error.contains("the certificate is for target prod-pg, not dev-pg"), "{error}");
    ensure!(error.contains("HINT:") && error.contains("tsh db connect dev-pg"), "{error}");

    let error = prod.clone().user("olga").query("SELECT 1")?.error()?;
    ensure!(error.contains("the certificate is for database user \"jerry\""), "{error}");
    let error = prod.database("postgres").query("SELECT 1")?.error()?;
    ensure!(error.contains("and database \"app\""), "{error}");
    Ok(())
}

#[test]
fn a_forger_who_holds_the_user_authority_still_has_no_touch() -> Result<()> {
    let world = World::jerry_and_olga()?;
    let (certificate, _key) = world.jerry.stolen_session("prod-pg")?;
    let session = identity(&world.tctl, &certificate)?;
    let MfaEvidence::Receipt { device, .. } = session.mfa.clone() else {
        anyhow::bail!("the session certificate has no receipt: {:?}", session.mfa)
    };
    let user_authority = stolen_authority(&world.authd, AuthorityKind::User)?;
    let shown = |identity| Forgery::of(&identity)?.shown_to(&world, &world.prod, &user_authority);
    let refused = "the proof of MFA in the certificate was not accepted";

    // The real receipt, over another key than the one that was touched for.
    let error = shown(session.clone())?;
    ensure!(error.contains(refused), "another key: {error}");

    // The bare word of the authority, which is what others would have trusted.
    let mut claimed = session.clone();
    claimed.mfa = MfaEvidence::Claimed { device };
    let error = shown(claimed.clone())?;
    ensure!(error.contains(refused), "no receipt: {error}");

    // A device that nobody has.
    claimed.mfa = MfaEvidence::Claimed { device: DeviceId(uuid::Uuid::new_v4()) };
    let error = shown(claimed)?;
    ensure!(error.contains(refused), "unknown device: {error}");

    // Jerry's receipt under somebody else's name.
    let mut other = session.clone();
    other.user = UserName::new("olga")?;
    let error = shown(other)?;
    ensure!(error.contains(refused), "other user: {error}");

    // And no claim at all.
    let mut nothing = session;
    nothing.mfa = MfaEvidence::None;
    let error = shown(nothing)?;
    ensure!(error.contains("access to resource requires MFA"), "no claim: {error}");
    Ok(())
}

#[test]
fn a_tampered_receipt_is_refused_whichever_byte_was_changed() -> Result<()> {
    let world = World::jerry_and_olga()?;
    let (certificate, _key) = world.jerry.stolen_session("prod-pg")?;
    let session = identity(&world.tctl, &certificate)?;
    let MfaEvidence::Receipt { device, receipt } = session.mfa.clone() else {
        anyhow::bail!("the session certificate has no receipt: {:?}", session.mfa)
    };
    let user_authority = stolen_authority(&world.authd, AuthorityKind::User)?;
    for at in [receipt.len() / 8, receipt.len() / 2, receipt.len() - 1] {
        let mut tampered = receipt.clone();
        tampered[at] ^= 1;
        let mut identity = session.clone();
        identity.mfa = MfaEvidence::Receipt { device, receipt: tampered };
        let error = Forgery::of(&identity)?.shown_to(&world, &world.prod, &user_authority)?;
        ensure!(error.contains("the proof of MFA in the certificate was not accepted"), "byte {at}: {error}");
    }
    Ok(())
}
