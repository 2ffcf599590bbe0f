//! The balancers' files: read by HAProxy and nginx themselves, and patient with clients that have nothing to say.

use std::fs;
use std::process::Command;

use parlance_xtask::cargo::root;
use serde_json::Value;

use crate::tools::{file, program};

/// The longest silence of a client that is well: 25 s to the next ping, 60 s for the answer.
const SILENCE: u64 = 85;

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// Runs a check of a file; what it says when it refuses.
fn checked(mut command: Command) -> Result<(), String> {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    if output.status.success() { Ok(()) } else { Err(said) }
}

#[test]
fn haproxy_reads_its_file() {
    let Some(mut command) = program("haproxy", "-v") else { return };
    command.arg("-c").arg("-f").arg(root().join("deploy/haproxy/haproxy.cfg"));
    assert_eq!(checked(command), Ok(()));
}

#[test]
fn nginx_reads_its_file() {
    let Some(mut command) = program("nginx", "-v") else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nginx.conf");
    // It looks names up when it starts, and wants to write where it is told.
    let mut text = read("deploy/nginx/nginx.conf").replace("/tmp/", &format!("{}/", folder.path().display()));
    for node in ["node-1", "node-2", "node-3"] {
        text = text.replace(node, "127.0.0.1");
    }
    fs::write(&path, &text).unwrap();
    command.args(["-t", "-c"]).arg(&path);
    assert_eq!(checked(command), Ok(()));
}

/// The seconds behind a word.
fn seconds(text: &str, word: &str) -> u64 {
    let line = text.lines().map(str::trim).find(|line| line.starts_with(word));
    let line = line.unwrap_or_else(|| panic!("no {word}"));
    line[word.len()..].trim().trim_end_matches(';').trim_end_matches('s').parse().unwrap()
}

#[test]
fn every_balancer_waits_for_quiet_clients() {
    let haproxy = read("deploy/haproxy/haproxy.cfg");
    for word in ["timeout client ", "timeout server ", "timeout tunnel "] {
        assert!(seconds(&haproxy, word) > SILENCE, "{word}");
    }
    let nginx = read("deploy/nginx/nginx.conf");
    for word in ["proxy_read_timeout", "proxy_send_timeout"] {
        assert!(seconds(&nginx, word) > SILENCE, "{word}");
    }
    for word in [
        "random two least_conn;",
        "proxy_buffering off;",
        "proxy_request_buffering off;",
        "proxy_set_header Host $http_host;",
    ] {
        assert!(nginx.contains(word), "{word}");
    }
    let envoy = file("deploy/envoy/envoy.yaml");
    let manager =
        &envoy["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"];
    let route = &manager["route_config"]["virtual_hosts"][0]["routes"][0]["route"];
    assert_eq!((&route["timeout"], &manager["request_timeout"]), (&Value::from("0s"), &Value::from("0s")));
    for silence in [&route["idle_timeout"], &manager["stream_idle_timeout"]] {
        let silence: u64 = silence.as_str().unwrap().trim_end_matches('s').parse().unwrap();
        assert!(silence > SILENCE);
    }
    assert_eq!(manager["upgrade_configs"][0]["upgrade_type"], "websocket");
}

/// Mounts as they are shipped: pings and their time-outs.
#[test]
fn no_shipped_mount_is_silent_for_longer() {
    let page = read("docs/configuration.md");
    let of = |option: &str| -> u64 {
        let row = page.lines().find(|line| line.starts_with(&format!("| `mounts.{option}`"))).unwrap();
        row.split('`').nth(3).unwrap().parse().unwrap()
    };
    assert!((of("ping_interval_ms") + of("ping_timeout_ms")) / 1000 <= SILENCE);
}

#[test]
fn clients_reach_the_public_listener_only() {
    let haproxy = read("deploy/haproxy/haproxy.cfg");
    let servers: Vec<&str> = haproxy.lines().filter(|line| line.trim().starts_with("server ")).collect();
    assert!(servers.len() == 3 && servers.iter().all(|line| line.ends_with(":8082")), "{servers:?}");
    assert!(haproxy.contains("http-check send meth GET uri /readyz?for=newcomers "));
    let nginx = read("deploy/nginx/nginx.conf");
    let code = nginx.lines().filter(|line| !line.trim().starts_with('#')).collect::<String>();
    assert!(!code.contains("8083") && code.matches(":8082 ").count() == 3);
    let endpoints = &file("deploy/envoy/envoy.yaml")["static_resources"]["clusters"][0]["load_assignment"]["endpoints"]
        [0]["lb_endpoints"];
    for endpoint in endpoints.as_array().unwrap() {
        let endpoint = &endpoint["endpoint"];
        assert_eq!(endpoint["address"]["socket_address"]["port_value"], 8082);
        assert_eq!(endpoint["health_check_config"]["port_value"], 8083);
    }
}

#[test]
fn only_what_no_node_can_have_got_is_tried_again() {
    assert!(read("deploy/haproxy/haproxy.cfg").contains("retry-on conn-failure 503\n"));
    let nginx = read("deploy/nginx/nginx.conf");
    assert!(nginx.contains("proxy_next_upstream error http_503;") && !nginx.contains("non_idempotent"));
    let envoy = read("deploy/envoy/envoy.yaml");
    assert!(envoy.contains("retry_on: connect-failure\n"));
}
