//! The composition: three nodes, each with its own address, everything named by version and with as few rights as it needs.

use std::collections::BTreeSet;

use parlance_xtask::cargo::root;
use serde_json::Value;

use crate::tools::file;

const FOLDER: &str = "deploy/compose";

fn compose() -> Value {
    let mut compose = file(&format!("{FOLDER}/compose.yaml"));
    for service in compose["services"].as_object_mut().unwrap().values_mut() {
        merge(service);
        if let Some(environment) = service.get_mut("environment") {
            merge(environment);
        }
    }
    compose
}

/// `<<` is not resolved by every parser.
fn merge(map: &mut Value) {
    let Some(map) = map.as_object_mut() else { return };
    let Some(Value::Object(below)) = map.remove("<<") else { return };
    for (key, value) in below {
        map.entry(key).or_insert(value);
    }
}

#[test]
fn three_nodes_advertise_their_own_addresses() {
    let compose = compose();
    let services = compose["services"].as_object().unwrap();
    let nodes: Vec<_> = services.iter().filter(|(name, _)| name.starts_with("node-")).collect();
    assert_eq!(nodes.len(), 3);
    let haproxy = std::fs::read_to_string(root().join("deploy/haproxy/haproxy.cfg")).unwrap();
    let scraped =
        file("deploy/prometheus/prometheus.yml")["scrape_configs"][0]["static_configs"][0]["targets"]
            .to_string();
    for (name, node) in nodes {
        assert_eq!(node["environment"]["PARLANCE_ADVERTISE"], format!("{name}:8083"));
        assert_eq!(node["environment"]["PARLANCE_REDIS_URL"], "redis://redis:6379");
        assert!(haproxy.contains(&format!("server {name} {name}:8082")), "{name}");
        assert!(scraped.contains(&format!("{name}:8083")), "{name}");
    }
}

#[test]
fn a_node_has_time_to_drain() {
    let config: toml::Table =
        std::fs::read_to_string(root().join(FOLDER).join("parlance.toml")).unwrap().parse().unwrap();
    let drain = config["drain"]["deadline_ms"].as_integer().unwrap() / 1000;
    let grace: i64 = compose()["services"]["node-1"]["stop_grace_period"]
        .as_str()
        .unwrap()
        .trim_end_matches('s')
        .parse()
        .unwrap();
    assert!(grace > drain + 5, "{grace} s for {drain} s");
}

#[test]
fn the_health_of_a_node_is_asked_by_the_configuration_that_it_runs_on() {
    let node = &compose()["services"]["node-2"];
    let file = &node["command"][2];
    let asked = serde_json::json!(["CMD", "/usr/bin/parlance", "probe", "--config", file]);
    assert_eq!(node["healthcheck"]["test"], asked);
    let mounted = node["volumes"][0].as_str().unwrap();
    assert!(mounted.contains(&format!(":{}:", file.as_str().unwrap())), "{mounted}");
}

#[test]
fn images_have_versions_and_services_few_rights() {
    let compose = compose();
    for (name, service) in compose["services"].as_object().unwrap() {
        let image = service["image"].as_str().unwrap();
        let (repository, tag) = image.rsplit_once(':').unwrap_or_else(|| panic!("{name}: {image}"));
        assert!(tag != "latest" && !repository.split('/').next().unwrap().contains('.'), "{name}: {image}");
        assert_eq!(service["security_opt"][0], "no-new-privileges:true", "{name}");
        assert!(service["privileged"].is_null() && service["network_mode"].is_null(), "{name}");
        let open = service["ports"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|port| !port.as_str().unwrap().starts_with("127.0.0.1:"));
        assert!(open.count() == usize::from(name == "haproxy"), "{name} is open to the network");
    }
}

#[test]
fn every_file_that_is_mounted_is_there() {
    let compose = compose();
    let volumes: BTreeSet<&String> = compose["volumes"].as_object().unwrap().keys().collect();
    for (name, service) in compose["services"].as_object().unwrap() {
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let source = volume.as_str().unwrap().split(':').next().unwrap().to_owned();
            let there = volumes.contains(&source) || root().join(FOLDER).join(&source).exists();
            assert!(there, "{name}: {source}");
        }
        for other in service["depends_on"].as_object().into_iter().flat_map(|map| map.keys()) {
            assert!(!compose["services"][other].is_null(), "{name}: {other}");
        }
    }
}

#[test]
fn every_variable_that_must_be_given_is_in_the_example() {
    let text = std::fs::read_to_string(root().join(FOLDER).join("compose.yaml")).unwrap();
    let example = std::fs::read_to_string(root().join(FOLDER).join(".env.example")).unwrap();
    let wanted: Vec<&str> =
        text.split("${").skip(1).map(|rest| rest.split([':', '}']).next().unwrap()).collect();
    assert!(wanted.len() >= 3);
    for name in wanted {
        assert!(example.contains(&format!("\n{name}=")), "{name}");
    }
}

#[test]
fn redis_keeps_what_it_is_given() {
    let command = compose()["services"]["redis"]["command"].clone();
    let words: Vec<&str> = command.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    for (option, value) in
        [("--appendonly", "yes"), ("--maxmemory-policy", "noeviction"), ("--stream-node-max-bytes", "1024")]
    {
        let at = words.iter().position(|word| *word == option).unwrap();
        assert_eq!(words[at + 1], value, "{option}");
    }
}
