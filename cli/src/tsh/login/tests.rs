use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use super::*;

mod touch;

fn profile() -> Profile {
    Profile {
        proxy: "auth.example.com:3080".parse().unwrap(),
        user: UserName::new("jerry").unwrap(),
        cluster: ClusterName::new("main").unwrap(),
    }
}

fn modes(directory: &Path) -> Vec<(bool, u32)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let metadata = entry.metadata().unwrap();
        found.push((metadata.is_dir(), metadata.permissions().mode() & 0o777));
        if metadata.is_dir() {
            found.extend(modes(&entry.path()));
        }
    }
    found
}

#[test]
fn all_that_a_login_keeps_is_the_owners_alone() {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::at(directory.path().join("tsh"));
    let certificates = LoginCertificates {
        tls_certificate: vec![1, 2, 3],
        ssh_certificate: "ssh-ed25519-cert-v01@openssh.com AAAA".to_owned(),
        host_authorities: vec![vec![4, 5, 6]],
        ssh_host_authorities: vec!["ssh-ed25519 AAAA".to_owned()],
        not_after: 0,
        roles: Vec::new(),
        user: "jerry".to_owned(),
    };
    keep(&home, &profile(), &Keys::generate().unwrap(), &certificates).unwrap();
    let modes = modes(directory.path());
    assert!(modes.len() >= 12, "{modes:?}");
    assert!(
        modes.iter().all(|&(is_directory, mode)| mode == if is_directory { 0o700 } else { 0o600 }),
        "{modes:?}"
    );
    assert_eq!(trust::saved(&home, &profile().proxy).unwrap(), [CertificateDer::from(vec![4, 5, 6])]);
}

#[test]
fn of_two_logins_at_once_one_is_kept_whole() {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::at(directory.path().join("tsh"));
    let proxy = "auth.example.com:3080".parse().unwrap();
    let files = home.user(&proxy, &profile().user);
    let log_in = || {
        let keys = Keys::generate().unwrap();
        // In the place of a certificate, the key that it would be for.
        let certificates = LoginCertificates {
            tls_certificate: keys.tls_public.clone(),
            user: "jerry".to_owned(),
            ..LoginCertificates::default()
        };
        keep(&home, &profile(), &keys, &certificates).unwrap();
    };
    log_in();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| (0..25).for_each(|_| log_in()));
        }
        for _ in 0..200 {
            let reading = home.lock_to_read().unwrap();
            let der = |path| pem::parse(fs::read(path).unwrap()).unwrap().into_contents();
            let (key, public) = (der(files.tls_key()), der(files.tls_certificate()));
            drop(reading);
            assert!(key.ends_with(&public[public.len() - 65..]), "a key and another one's certificate");
        }
    });
}

#[test]
fn keys_are_written_in_forms_that_other_tools_read() {
    let keys = Keys::generate().unwrap();
    assert!(armour::private_key(&keys.tls).starts_with("-----BEGIN PRIVATE KEY-----\n"));
    let text = keys.ssh.to_openssh(LineEnding::LF).unwrap();
    assert!(PrivateKey::from_openssh(text.as_bytes()).is_ok());
    assert!(keys.ssh.public_key().to_openssh().unwrap().starts_with("ssh-ed25519 "));
}
