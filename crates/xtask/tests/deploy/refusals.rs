//! Values that must not pass, each with what is said of it.

use serde_json::{Value, json};

use crate::tools::Helm;

/// What is wrong, and what names it.
fn wrong() -> Vec<(Value, &'static [&'static str])> {
    vec![
        (json!({"replicas": 3}), &["replicas"]),
        (json!({"replicaCount": "three"}), &["replicaCount"]),
        (json!({"replicaCount": -1}), &["replicaCount"]),
        (json!({"image": {"repo": "x"}}), &["image", "repo"]),
        (json!({"image": {"repository": ""}}), &["repository"]),
        (json!({"image": {"digest": "latest"}}), &["digest"]),
        (json!({"image": {"pullPolicy": "Sometimes"}}), &["pullPolicy"]),
        (json!({"redis": {"mode": "standalon"}}), &["mode"]),
        (json!({"redis": {"addresses": []}}), &["addresses"]),
        (json!({"redis": {"addresses": ["redis"]}}), &["addresses"]),
        (json!({"redis": {"addresses": ["a:1", "b:2"]}}), &["addresses"]),
        (json!({"redis": {"urlKey": "url"}}), &["existingSecret"]),
        (json!({"redis": {"password": "x"}}), &["password"]),
        (json!({"redis": {"tls": {"enable": true}}}), &["enable"]),
        (json!({"auth": {"jwtSecrets": ["short"]}}), &["jwtSecrets"]),
        (json!({"auth": {"existingSecret": "x", "apiKeys": ["0123456789abcdef"]}}), &["auth.existingSecret"]),
        (
            json!({"auth": {"publicKeys": {"items": [{"file": "a.pem", "algorithm": "HS256"}]}}}),
            &["algorithm"],
        ),
        (
            json!({"auth": {"publicKeys": {"items": [{"file": "a.pem", "algorithm": "ES256"}]}}}),
            &["existingSecret"],
        ),
        (json!({"config": {"limts": {}}}), &["limts"]),
        (json!({"config": {"limits": {"body_byte": 1}}}), &["body_byte"]),
        (json!({"config": {"limits": {"body_bytes": "many"}}}), &["body_bytes"]),
        (json!({"config": {"auth": {"secrets": ["0123456789abcdef0123456789abcdef"]}}}), &["secrets"]),
        (json!({"config": {"api_keys": ["k"]}}), &["api_keys"]),
        (json!({"config": {"listen": "0.0.0.0:1"}}), &["listen"]),
        (json!({"config": {"drain": {"deadline_ms": 1}}}), &["deadline_ms"]),
        (json!({"config": {"mounts": [{"paht": "/x"}]}}), &["paht"]),
        (json!({"drain": {"deadlineSeconds": 0}}), &["deadlineSeconds"]),
        (json!({"drain": {"slackSeconds": 0}}), &["slackSeconds"]),
        (json!({"containerPorts": {"public": 80}}), &["public"]),
        (json!({"service": {"public": {"type": "ExternalName"}}}), &["type"]),
        (json!({"service": {"internal": {"type": "LoadBalancer"}}}), &["type"]),
        (json!({"ingress": {"timeoutSeconds": 60}}), &["timeoutSeconds"]),
        (json!({"ingress": {"controller": "apache"}}), &["controller"]),
        (json!({"httpRoute": {"enabled": true}}), &["parentRefs"]),
        (json!({"autoscaling": {"enabled": true, "cpu": {"enabled": false}}}), &["autoscaling"]),
        (json!({"autoscaling": {"enabled": true, "minReplicas": 9, "maxReplicas": 3}}), &["minReplicas"]),
        (json!({"podDisruptionBudget": {"maxUnavailable": "some"}}), &["maxUnavailable"]),
        (
            json!({"metrics": {"podMonitor": {"enabled": true}, "serviceMonitor": {"enabled": true}}}),
            &["twice"],
        ),
        (json!({"metrics": {"podMonitor": {"interval": "often"}}}), &["interval"]),
        (json!({"extraEnv": [{"value": "x"}]}), &["extraEnv"]),
    ]
}

#[test]
fn wrong_values_are_refused_and_named() {
    let Some(helm) = Helm::find() else { return };
    let mut faults = Vec::new();
    for (values, words) in wrong() {
        match helm.text(&values) {
            Ok(_) => faults.push(format!("passes: {values}")),
            Err(said) => {
                faults.extend(
                    words
                        .iter()
                        .filter(|word| !said.contains(**word))
                        .map(|word| format!("{values}: no {word} in: {said}")),
                );
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
