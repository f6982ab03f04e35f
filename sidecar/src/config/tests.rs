use super::*;

const MINIMAL: &str = "auth_server: auth.example.com:3080
targets:
  - name: prod-pg
    protocol: postgres
    listen: 127.0.0.1:0
    upstream:
      uri: localhost:5432
";

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(Path::new("sidecar.yaml"), text).map_err(|error| error.to_string())
}

#[test]
fn the_example_is_a_valid_configuration() {
    let config = parse(include_str!("../../sidecar.yaml")).unwrap();
    assert_eq!(config.targets.len(), 5);
    assert_eq!(config.spool_bound, DEFAULT_SPOOL_BOUND);
    assert_eq!(config.room, DEFAULT_ROOM);
    assert_eq!(config.targets[0].upstream.credential, CredentialSource::ClientCertificate);
    assert_eq!(config.targets[1].upstream.tls, TlsMode::Plaintext);
    assert!(matches!(config.targets[2].upstream.credential, CredentialSource::PasswordFile(_)));
    assert_eq!(config.targets[3].protocol, Protocol::Mysql);
    assert_eq!(config.targets[3].mysql_version, None);
    assert_eq!(config.targets[4].upstream.credential, CredentialSource::SshCertificate);
    assert_eq!(config.recordings_bound, DEFAULT_RECORDINGS_BOUND);
}

#[test]
fn the_example_has_every_key_that_there_is() {
    let example = include_str!("../../sidecar.yaml");
    let unknown = "no_such_key: 1";
    let [top, target, upstream] = ["auth_server:", "    protocol:", "      uri:"];
    let places = [
        MINIMAL.replace(top, &format!("{unknown}\n{top}")),
        MINIMAL.replace(target, &format!("    {unknown}\n{target}")),
        MINIMAL.replace(upstream, &format!("      {unknown}\n{upstream}")),
        MINIMAL.replace(top, &format!("audit: {{{unknown}}}\n{top}")),
        MINIMAL.replace(top, &format!("recordings: {{{unknown}}}\n{top}")),
        MINIMAL.replace(top, &format!("limits: {{{unknown}}}\n{top}")),
        MINIMAL.replace(target, &format!("    audit: {{{unknown}}}\n{target}")),
        MINIMAL.replace(target, &format!("    mysql: {{{unknown}}}\n{target}")),
    ];
    for text in places {
        let error = parse(&text).unwrap_err();
        let (_, known) = error.lines().next().unwrap().split_once("expected one of ").unwrap();
        for key in known.split(", ") {
            let is_said =
                |line: &str| line.trim_start_matches([' ', '#', '-']).starts_with(&format!("{key}:"));
            assert!(example.lines().any(is_said), "{key} is not in the example");
        }
    }
}

#[test]
fn what_is_not_said_is_safe() {
    let config = parse(MINIMAL).unwrap();
    let upstream = &config.targets[0].upstream;
    assert_eq!(
        (upstream.tls, &upstream.credential),
        (TlsMode::VerifyFull, &CredentialSource::ClientCertificate)
    );
    assert_eq!(config.drain_timeout, Duration::from_secs(30));
}

#[test]
fn an_unknown_key_is_named_with_file_and_line() {
    let error = parse(&MINIMAL.replace("      uri:", "      urii: x\n      uri:")).unwrap_err();
    for part in ["sidecar.yaml", "urii", "line 7"] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
}

#[test]
fn wrong_values_are_refused_with_their_line() {
    for (from, to, line) in [
        ("listen: 127.0.0.1:0", "listen: here", "line 5"),
        ("name: prod-pg", "name: prod pg", "line 3"),
        ("uri: localhost:5432", "uri: localhost", "line 7"),
        ("protocol: postgres", "protocol: oracle", "line 4"),
        ("auth_server:", "drain_timeout: 30\nauth_server:", "line 1"),
    ] {
        let error = parse(&MINIMAL.replace(from, to)).unwrap_err();
        assert!(error.contains(line), "{to}: {error}");
    }
}

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti user@example.com";

fn node(upstream: &str) -> Result<Config, String> {
    let upstream = format!("uri: 127.0.0.1:22\n{upstream}").replace('\n', "\n      ");
    parse(&MINIMAL.replace("protocol: postgres", "protocol: ssh").replace("uri: localhost:5432", &upstream))
}

#[test]
fn a_node_is_known_by_its_key_or_its_authority_and_logged_in_to_by_certificate_unless_said_otherwise() {
    let config = node(&format!("host_key: {KEY}")).unwrap();
    let upstream = &config.targets[0].upstream;
    assert_eq!(upstream.credential, CredentialSource::SshCertificate);
    assert_eq!(upstream.ssh.host_keys, [KEY]);
    let config = node(&format!("host_ca: [{KEY}]\nhost_name: web1\ncredential: key\nkey_file: /k")).unwrap();
    let upstream = &config.targets[0].upstream;
    assert_eq!(upstream.credential, CredentialSource::SshKeyFile("/k".into()));
    assert_eq!(
        (&upstream.ssh.host_authorities[..], &upstream.ssh.host_names[..]),
        (&[KEY.to_owned()][..], &["web1".to_owned()][..])
    );
    assert!(node("host_key_file: /etc/ssh/ssh_host_ed25519_key.pub").is_ok());
}

#[test]
fn a_node_that_nothing_is_known_by_is_refused() {
    assert!(node("credential: certificate").unwrap_err().contains("must say how sshd is known"));
}

#[test]
fn settings_of_a_node_that_mean_nothing_or_exclude_each_other_are_refused() {
    let known = format!("host_key: {KEY}\n");
    for (more, told) in [
        ("tls: verify-full", "TLS settings mean nothing"),
        ("ca_file: /x", "TLS settings mean nothing"),
        ("password_file: /x", "means nothing with protocol: ssh"),
        ("credential: password", "certificate or key"),
        ("credential: none", "certificate or key"),
        ("credential: key", "needs upstream.key_file"),
        ("credential: certificate\nkey_file: /x", "goes with credential: key"),
        ("host_name: web1", "goes with upstream.host_ca"),
        ("host_ca: no key", "are lines such as"),
        ("danger_any_rsa_key: true", "goes with protocol: mysql"),
    ] {
        let error = node(&format!("{known}{more}")).unwrap_err();
        assert!(error.contains(told), "{more}: {error}");
    }
    assert!(node("host_key: ssh-ed25519").unwrap_err().contains("are lines such as"));
}

#[test]
fn host_keys_go_with_ssh_alone() {
    for more in [
        format!("host_key: {KEY}"),
        "host_key_file: /x".to_owned(),
        "key_file: /x".to_owned(),
        "credential: key".to_owned(),
    ] {
        let text = MINIMAL.replace("uri: localhost:5432", &format!("uri: localhost:5432\n      {more}"));
        assert!(parse(&text).unwrap_err().contains("go with protocol: ssh"), "{more}");
    }
}

#[test]
fn a_version_for_greetings_is_mysqls_alone_and_can_be_shown() {
    let with = |protocol: &str, version: &str| {
        let protocol = format!("protocol: {protocol}\n    mysql: {{server_version: \"{version}\"}}");
        parse(&MINIMAL.replace("protocol: postgres", &protocol))
    };
    let version = with("mysql", "8.0.36-ours").unwrap().targets[0].mysql_version.clone();
    assert_eq!(version.as_deref(), Some("8.0.36-ours"));
    assert!(with("postgres", "8.0.36").unwrap_err().contains("goes with protocol: mysql"));
    for version in ["", "8.0\\0", "8.0\\e[2J", "8.\u{f6}", &"8".repeat(101)] {
        assert!(with("mysql", version).unwrap_err().contains("printable"), "{version:?}");
    }
}

#[test]
fn two_targets_may_not_share_a_name_or_an_address() {
    let second = |name: &str, listen: &str| {
        let one = MINIMAL.replace("127.0.0.1:0", "127.0.0.1:5432");
        let target = one.split("targets:\n").nth(1).unwrap();
        format!("{one}{}", target.replace("prod-pg", name).replace("127.0.0.1:5432", listen))
    };
    assert!(parse(&second("dev-pg", "127.0.0.1:5433")).is_ok());
    assert!(parse(&second("prod-pg", "127.0.0.1:5433")).unwrap_err().contains("the same name"));
    assert!(parse(&second("dev-pg", "127.0.0.1:5432")).unwrap_err().contains("the same listen address"));
}

#[test]
fn upstream_settings_that_exclude_each_other_are_refused() {
    for extra in [
        "tls: insecure-plaintext\n      credential: certificate",
        "tls: insecure\n      ca_file: /ca.pem",
        "tls: insecure-plaintext\n      server_name: db",
        "credential: password",
        "credential: none\n      password_file: /password",
    ] {
        let text = MINIMAL.replace("localhost:5432", &format!("localhost:5432\n      {extra}"));
        assert!(parse(&text).unwrap_err().contains("target prod-pg"), "{extra}");
    }
    let unix = MINIMAL.replace("localhost:5432", "unix:/run/socket\n      tls: verify-full");
    assert!(parse(&unix).unwrap_err().contains("Unix socket"));
}

#[test]
fn a_password_for_an_unproven_key_is_asked_for_by_name_and_where_it_can_matter() {
    let with = |protocol: &str, extra: &str| {
        let text = MINIMAL.replace("protocol: postgres", &format!("protocol: {protocol}"));
        parse(&text.replace(
            "localhost:5432",
            &format!("localhost:3306\n      {extra}\n      danger_any_rsa_key: true"),
        ))
    };
    let password = "password_file: /password";
    let plaintext = format!("tls: insecure-plaintext\n      {password}");
    assert!(with("mysql", &plaintext).unwrap().targets[0].upstream.danger_any_rsa_key);
    assert!(with("postgres", &plaintext).unwrap_err().contains("goes with protocol: mysql"));
    for extra in [password, "tls: insecure-plaintext"] {
        assert!(with("mysql", extra).unwrap_err().contains("danger_any_rsa_key means nothing"), "{extra}");
    }
    let without = MINIMAL.replace("localhost:5432", &format!("localhost:5432\n      {plaintext}"));
    assert!(!parse(&without).unwrap().targets[0].upstream.danger_any_rsa_key);
}

#[test]
fn limits_that_would_let_nobody_in_are_refused() {
    assert!(parse(&format!("limits: {{max_unknown: 0}}\n{MINIMAL}")).unwrap_err().contains("max_unknown"));
    assert!(parse(&format!("audit: {{max_spool: 1MiB}}\n{MINIMAL}")).unwrap_err().contains("max_spool"));
}

#[test]
fn a_secret_is_read_without_its_line_break_and_within_bounds() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secret");
    for (content, expected) in
        [("s3cret\n", Some("s3cret")), ("s3cret\r\n", Some("s3cret")), (" a b ", Some(" a b ")), ("\n", None)]
    {
        fs::write(&path, content).unwrap();
        assert_eq!(read_secret(&path).ok().as_deref().map(Vec::as_slice), expected.map(str::as_bytes));
    }
    fs::write(&path, vec![b'x'; 5000]).unwrap();
    assert!(read_secret(&path).is_err());
}

#[test]
fn parameter_values_are_recorded_unless_a_target_says_otherwise() {
    let values = |text: &str| parse(text).unwrap().targets[0].parameters;
    assert_eq!(values(MINIMAL), Parameters::Recorded);
    let with = |value: &str| {
        MINIMAL.replace("    upstream:", &format!("    audit: {{parameter_values: {value}}}\n    upstream:"))
    };
    assert_eq!(values(&with("true")), Parameters::Recorded);
    assert_eq!(values(&with("false")), Parameters::Withheld);
    assert!(parse(&with("maybe")).is_err());
}
