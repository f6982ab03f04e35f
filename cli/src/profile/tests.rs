use std::time::{Duration, UNIX_EPOCH};

use super::*;

fn profile(user: &str) -> Profile {
    Profile {
        proxy: "auth.example.com:3080".parse().unwrap(),
        user: UserName::new(user).unwrap(),
        cluster: ClusterName::new("main").unwrap(),
    }
}

fn home() -> (tempfile::TempDir, Home) {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::at(directory.path().join("tsh"));
    (directory, home)
}

#[test]
fn a_saved_profile_is_the_current_one() {
    let (_directory, home) = home();
    profile("alice").save(&home).unwrap();
    assert_eq!(Profile::load(&home, &Selection::default()).unwrap(), profile("alice"));
    assert_eq!(Profile::all(&home).unwrap(), [profile("alice")]);
}

#[test]
fn another_user_of_the_same_proxy_can_be_selected() {
    let (_directory, home) = home();
    profile("alice").save(&home).unwrap();
    let selection = Selection { user: Some(UserName::new("bob").unwrap()), ..Selection::default() };
    assert_eq!(Profile::load(&home, &selection).unwrap(), profile("bob"));
}

#[test]
fn without_a_profile_one_is_told_to_log_in() {
    let (_directory, home) = home();
    let error = Profile::load(&home, &Selection::default()).unwrap_err();
    assert_eq!(error.to_string(), "not logged in, run: tsh login --proxy=HOST:PORT --user=USER");
}

#[test]
fn without_a_certificate_one_is_told_the_whole_command() {
    let (_directory, home) = home();
    profile("o'neil").save(&home).unwrap();
    let error = Login::load(&home, &Selection::default(), UNIX_EPOCH).err().unwrap();
    assert_eq!(
        error.to_string(),
        r#"not logged in, run: tsh login --proxy=auth.example.com:3080 --user="o'neil""#
    );
}

#[test]
fn an_expired_login_says_what_to_run() {
    let error = LoginError::Expired { profile: profile("alice"), not_after: UNIX_EPOCH };
    assert_eq!(
        error.to_string(),
        "your login has expired, run: tsh login --proxy=auth.example.com:3080 --user=alice"
    );
}

#[test]
fn a_profile_with_an_unknown_field_is_damaged() {
    let (_directory, home) = home();
    let saved = profile("alice");
    saved.save(&home).unwrap();
    home::write(&home.profile(&saved.proxy), b"proxy: h:1\nuser: a\ncluster: c\nextra: 1\n").unwrap();
    let error = Profile::load(&home, &Selection::default()).unwrap_err();
    assert!(error.to_string().contains("is damaged"), "{error}");
}

#[test]
fn a_damaged_certificate_is_reported_as_such() {
    let (_directory, home) = home();
    let saved = profile("alice");
    saved.save(&home).unwrap();
    let files = home.user(&saved.proxy, &saved.user);
    home::write(&files.tls_certificate(), b"garbage").unwrap();
    home::write(&files.tls_key(), b"garbage").unwrap();
    let error = Login::load(&home, &Selection::default(), UNIX_EPOCH + Duration::from_secs(1)).err().unwrap();
    assert!(error.to_string().contains("not a certificate"), "{error}");
}
