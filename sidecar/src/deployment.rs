//! The examples in `deploy/` say what this program takes, and leave it the time and the room that it asks for.

use std::{path::Path, time::Duration};

use clap::Parser as _;
use protocols::UpstreamAddress;
use serde_json::Value;
use sidecar::{
    LONGEST_GOODBYE,
    config::{Config, Token},
};

use super::{Cli, Command};

const KUBERNETES: &str = include_str!("../../deploy/kubernetes/postgresql.yaml");
const COMPOSE: &str = include_str!("../../deploy/compose/compose.yaml");
const COMPOSED: &str = include_str!("../../deploy/compose/sidecar.yaml");
const UNIT: &str = include_str!("../../deploy/systemd/touchstone-sidecar.service");
const CONTAINERFILE: &str = include_str!("../../deploy/Containerfile");
const MAKEFILE: &str = include_str!("../../Makefile");
const PAGE: &str = include_str!("../../docs/deployment.md");

fn documents(text: &str) -> Vec<Value> {
    text.split("\n---\n").map(|document| serde_saphyr::from_str(document).unwrap()).collect()
}

fn named<'v>(list: &'v Value, name: &str) -> &'v Value {
    list.as_array().unwrap().iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("no {name}"))
}

fn words(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect()
}

/// The file that these arguments of the program name.
fn config_file(arguments: &[&str]) -> String {
    let command = Cli::try_parse_from([&["sidecar"], arguments].concat()).map(|cli| cli.command);
    match command {
        Ok(Command::Start(start)) => start.config.unwrap().display().to_string(),
        Ok(_) => panic!("another command: {arguments:?}"),
        Err(error) => panic!("{error}"),
    }
}

fn parsed(text: &str) -> Config {
    Config::parse(Path::new("sidecar.yaml"), text).unwrap()
}

/// Is something mounted there, or above it?
fn is_under(path: &Path, mounts: &[&str]) -> bool {
    mounts.iter().any(|mount| path.starts_with(mount))
}

#[test]
fn the_pod_gives_the_sidecar_what_it_needs() {
    let documents = documents(KUBERNETES);
    let of_kind = |kind: &str| documents.iter().find(|document| document["kind"] == kind).unwrap();
    let config = parsed(of_kind("ConfigMap")["data"]["sidecar.yaml"].as_str().unwrap());
    let set = &of_kind("StatefulSet")["spec"];
    let pod = &set["template"]["spec"];
    let container = named(&pod["containers"], "sidecar");
    let mounts: Vec<_> = container["volumeMounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|at| at["mountPath"].as_str().unwrap())
        .collect();

    assert_eq!(config_file(&words(&container["args"])), "/etc/touchstone/sidecar.yaml");
    assert!(mounts.contains(&"/etc/touchstone"));
    let below = config.data_dir.parent().unwrap().to_str().unwrap();
    assert!(mounts.contains(&below), "{below} is no volume, and its root is not the sidecar's own");
    let Some(Token::File(token)) = &config.token else { panic!("the token is in no file") };
    assert!(is_under(token, &mounts), "{}", token.display());
    let UpstreamAddress::Unix(socket) = &config.targets[0].upstream.address else { panic!("no socket") };
    assert!(is_under(socket, &mounts), "{}", socket.display());

    let port = |name: &str| named(&container["ports"], name)["containerPort"].as_u64().unwrap();
    assert_eq!(port("postgres"), u64::from(config.targets[0].listen.port()));
    assert_eq!(port("diag"), u64::from(config.diag_addr.unwrap().port()));
    for (probe, path) in [("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")] {
        let get = &container[probe]["httpGet"];
        assert_eq!((get["path"].as_str(), get["port"].as_str()), (Some(path), Some("diag")), "{probe}");
    }

    let pause = container["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().unwrap();
    let grace = Duration::from_secs(pod["terminationGracePeriodSeconds"].as_u64().unwrap());
    assert!(grace >= Duration::from_secs(pause) + config.drain_timeout + LONGEST_GOODBYE, "{grace:?}");

    let memory = container["resources"]["limits"]["memory"].as_str().unwrap().strip_suffix("Mi").unwrap();
    let sessions = config.room.connections as u64 * 40 / 1024;
    assert!(memory.parse::<u64>().unwrap() >= 14 + 2 * sessions, "{memory} MiB for {sessions} of sessions");
    let volume = &named_volume(&set["volumeClaimTemplates"], "sidecar-data")["spec"]["resources"]["requests"];
    let size = volume["storage"].as_str().unwrap().strip_suffix("Gi").unwrap().parse::<u64>().unwrap() << 30;
    assert!(size > config.spool_bound + config.recordings_bound);
}

fn named_volume<'v>(templates: &'v Value, name: &str) -> &'v Value {
    templates.as_array().unwrap().iter().find(|claim| claim["metadata"]["name"] == name).unwrap()
}

#[test]
fn each_container_is_as_restricted_as_it_can_be() {
    for document in documents(KUBERNETES).iter().filter(|document| document["kind"] == "StatefulSet") {
        let pod = &document["spec"]["template"]["spec"];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        for container in pod["containers"].as_array().unwrap() {
            let context = &container["securityContext"];
            assert!(context["runAsUser"].as_u64().unwrap() > 0);
            assert_eq!(context["readOnlyRootFilesystem"], true);
            assert_eq!(context["allowPrivilegeEscalation"], false);
            assert_eq!(context["capabilities"]["drop"], serde_json::json!(["ALL"]));
        }
    }
}

#[test]
fn the_composed_sidecar_finds_what_its_file_names() {
    let compose = &documents(COMPOSE)[0];
    let service = &compose["services"]["sidecar"];
    let config = parsed(COMPOSED);
    let file = config_file(&words(&service["command"]));
    let volumes = words(&service["volumes"]);
    let mounts: Vec<_> = volumes.iter().map(|volume| volume.split(':').nth(1).unwrap()).collect();
    assert!(volumes.contains(&format!("./sidecar.yaml:{file}:ro").as_str()), "{volumes:?}");
    assert!(mounts.contains(&config.data_dir.parent().unwrap().to_str().unwrap()));
    let Some(Token::File(token)) = &config.token else { panic!("the token is in no file") };
    assert!(is_under(token, &mounts));
    let grace = service["stop_grace_period"].as_str().unwrap();
    assert!(sidecar::config::parse_duration(grace).unwrap() >= config.drain_timeout + LONGEST_GOODBYE);
    for service in compose["services"].as_object().unwrap().values() {
        assert_eq!(service["read_only"], true);
        assert_eq!(service["cap_drop"], serde_json::json!(["ALL"]));
    }
}

#[test]
fn the_unit_starts_this_program_and_gives_it_time_to_stop() {
    let value = |key: &str| {
        let line = UNIT.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("no {key}"))
    };
    let words: Vec<_> = value("ExecStart").split_whitespace().skip(1).collect();
    assert_eq!(config_file(&words), "/etc/touchstone/sidecar.yaml");
    let stop = Duration::from_secs(value("TimeoutStopSec").parse().unwrap());
    assert!(stop >= sidecar::config::DEFAULT_DRAIN_TIMEOUT + LONGEST_GOODBYE);
    let data_dir = Path::new("/var/lib").join(value("StateDirectory"));
    assert_eq!(data_dir, Path::new(sidecar::config::DEFAULT_DATA_DIR));
}

#[test]
fn images_are_built_as_releases_are_and_named_by_this_version() {
    assert!(CONTAINERFILE.contains("\nRUN make release\n") && MAKEFILE.contains("\nrelease: ##"));
    let rust = env!("CARGO_PKG_RUST_VERSION");
    assert!(CONTAINERFILE.contains(&format!("FROM docker.io/library/rust:{rust}-bookworm AS build")));
    assert!(CONTAINERFILE.contains(&format!("ENV RUSTUP_TOOLCHAIN={rust}.0")));
    let authd = include_str!("../../deploy/kubernetes/authd.yaml");
    for text in [KUBERNETES, COMPOSE, CONTAINERFILE, PAGE, authd] {
        for (at, name) in
            text.match_indices("touchstone-sidecar:").chain(text.match_indices("touchstone-authd:"))
        {
            let version = text[at + name.len()..].split(|c: char| c.is_whitespace()).next().unwrap();
            assert_eq!(version, env!("CARGO_PKG_VERSION"));
        }
    }
}
