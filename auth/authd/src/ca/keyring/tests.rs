use super::*;

const START: u64 = 1_767_225_600;

fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(START)
}

fn keyring(kind: AuthorityKind) -> Keyring {
    Keyring::generate(kind, "main", start()).unwrap()
}

fn step(keyring: &Keyring, to: Phase) -> Keyring {
    keyring.step(to, None, "main", start()).unwrap()
}

fn pins(keyring: &Keyring) -> Vec<[u8; 32]> {
    keyring.trusted().map(|authority| authority.spki_sha256()).collect()
}

#[test]
fn who_signs_and_who_is_trusted_in_each_phase() {
    use Phase::{Init, Rollback, UpdateClients, UpdateServers};
    for kind in AuthorityKind::ALL {
        let first = match kind {
            AuthorityKind::Db => Init,
            AuthorityKind::Host => UpdateServers,
            AuthorityKind::User | AuthorityKind::DbClient | AuthorityKind::Openssh => UpdateClients,
        };
        let standby = keyring(kind);
        let old = standby.signer().spki_sha256();
        assert_eq!(pins(&standby), [old], "{kind}");
        let (mut now, mut new_signs) = (standby, false);
        for phase in [Init, UpdateClients, UpdateServers] {
            now = step(&now, phase);
            new_signs |= phase == first;
            let trusted = pins(&now);
            assert_eq!(trusted.len(), 2, "{kind} {phase}");
            assert_eq!(trusted[0], now.signer().spki_sha256(), "{kind} {phase}: who signs comes first");
            assert_eq!(trusted[0] != old, new_signs, "{kind} {phase}");
            assert!(trusted.contains(&old), "{kind} {phase}");
            let back = step(&now, Rollback);
            assert_eq!(pins(&back).len(), 2, "{kind} {phase}: what the new one signed is still trusted");
            assert_eq!(back.signer().spki_sha256(), old, "{kind} {phase}");
            assert_eq!(pins(&step(&back, Phase::Standby)), [old], "{kind} {phase}");
        }
        let new = now.signer().spki_sha256();
        let end = step(&now, Phase::Standby);
        assert_eq!((pins(&end), end.last_rotated()), (vec![new], Some(start())), "{kind}");
    }
}

#[test]
fn there_is_no_other_step() {
    use Phase::{Init, Rollback, Standby, UpdateClients, UpdateServers};
    let at = |phases: &[Phase]| {
        phases.iter().fold(keyring(AuthorityKind::Db), |keyring, phase| step(&keyring, *phase))
    };
    let all = [Standby, Init, UpdateClients, UpdateServers, Rollback];
    for (way, follow) in [
        (&[][..], &[Init][..]),
        (&[Init], &[UpdateClients, Rollback]),
        (&[Init, UpdateClients], &[UpdateServers, Rollback]),
        (&[Init, UpdateClients, UpdateServers], &[Standby, Rollback]),
        (&[Init, Rollback], &[Standby]),
    ] {
        let keyring = at(way);
        for to in all {
            let made = keyring.step(to, None, "main", start());
            assert_eq!(made.is_ok(), follow.contains(&to), "{way:?} {to}");
            match made {
                Err(RotationError::InProgress) => assert_eq!(to, Init),
                Err(RotationError::NoSuchStep { from, to: asked }) => {
                    assert_eq!((from, asked), (keyring.phase(), to));
                }
                Err(RotationError::Ca(error)) => panic!("{error}"),
                Ok(made) => assert_eq!(made.phase(), to),
            }
        }
    }
}

#[test]
fn what_is_stored_is_read_back_in_each_phase() {
    let mut now = keyring(AuthorityKind::User);
    let mut phases =
        vec![Phase::Init, Phase::UpdateClients, Phase::UpdateServers, Phase::Standby].into_iter();
    loop {
        let text = serde_json::to_string(&now.to_record()).unwrap();
        let read = Keyring::from_record(now.kind, &serde_json::from_str(&text).unwrap()).unwrap();
        assert_eq!((read.phase(), pins(&read)), (now.phase(), pins(&now)));
        assert_eq!((read.under_way(), read.last_rotated()), (now.under_way(), now.last_rotated()));
        assert_eq!(read.ssh_public_keys(), now.ssh_public_keys());
        let Some(next) = phases.next() else { return };
        now = now.step(next, Some(Duration::from_secs(90)), "main", start()).unwrap();
    }
}

#[test]
fn what_earlier_versions_stored_is_read_and_without_a_rotation_they_read_ours() {
    let authority = Authority::generate(AuthorityKind::Host, "main", start()).unwrap();
    let text = serde_json::to_string(&authority.to_record()).unwrap();
    let read = Keyring::from_record(AuthorityKind::Host, &serde_json::from_str(&text).unwrap()).unwrap();
    assert_eq!((pins(&read), read.phase()), (vec![authority.spki_sha256()], Phase::Standby));
    assert_eq!(serde_json::to_string(&read.to_record()).unwrap(), text);
}

#[test]
fn a_phase_that_began_late_is_no_shorter_for_it() {
    let grace = Duration::from_secs(300);
    let after = |seconds| start() + Duration::from_secs(seconds);
    let led = keyring(AuthorityKind::Host).step(Phase::Init, Some(grace), "main", start()).unwrap();
    assert_eq!(led.ends(), Some(after(300)));
    // authd was down for a day, and somebody looks at each step.
    let mut now = led;
    for (late, phase, ends) in [
        (86_400, Phase::UpdateClients, Some(86_600)),
        (86_500, Phase::UpdateServers, Some(86_600)),
        (90_000, Phase::Standby, None),
    ] {
        now = now.step(now.due(after(late)).unwrap(), None, "main", after(late)).unwrap();
        assert_eq!((now.phase(), now.ends()), (phase, ends.map(after)));
        // As it is read after a restart, too.
        now = Keyring::from_record(now.kind, &now.to_record()).unwrap();
        assert_eq!(now.due(after(late + 99)), None, "{phase}");
    }
}

#[test]
fn a_rotation_that_authd_leads_goes_on_by_thirds() {
    let grace = Duration::from_secs(300);
    let after = |seconds| start() + Duration::from_secs(seconds);
    let mut now = keyring(AuthorityKind::Db).step(Phase::Init, Some(grace), "main", start()).unwrap();
    for (third, phase) in [(100, Phase::UpdateClients), (200, Phase::UpdateServers), (300, Phase::Standby)] {
        assert_eq!(now.due(after(third - 1)), None);
        assert_eq!(now.due(after(third)), Some(phase));
        // Long asleep: a step at a time all the same.
        assert_eq!(now.due(after(100_000)), Some(phase));
        now = now.step(phase, None, "main", after(third)).unwrap();
    }
    assert_eq!(now.due(after(100_000)), None);
    let by_hand = step(&keyring(AuthorityKind::Db), Phase::Init);
    assert_eq!(by_hand.due(after(100_000)), None);
    let led = keyring(AuthorityKind::Db).step(Phase::Init, Some(grace), "main", start()).unwrap();
    assert_eq!(step(&led, Phase::Rollback).due(after(100_000)), None, "who rolls back ends it by hand");
}
