//! What the chart makes of its values.

use std::path::Path;
use std::process::Command;

use parlance_xtask::cargo::root;
use parlance_xtask::chart as generated;
use serde_json::{Value, json};

use crate::tools::{Helm, Objects, documents, file, set, sets};

#[test]
fn lint_has_no_complaints() {
    let Some(helm) = Helm::find() else { return };
    for (name, values) in sets() {
        assert_eq!(helm.complaints(&values), None, "{name}");
    }
}

#[test]
fn lint_can_complain() {
    let Some(helm) = Helm::find() else { return };
    let said = helm.complaints(&json!({"replicaCount": "many"})).expect("a wrong value passes");
    assert!(said.contains("replicaCount"), "{said}");
}

#[test]
fn what_is_generated_is_up_to_date() {
    let read = |page: &str| std::fs::read_to_string(root().join(page)).unwrap();
    let page = generated::page(&read(generated::PAGE), &read(generated::VALUES)).unwrap();
    assert!(page == read(generated::PAGE), "{} is out of date: cargo xtask docs", generated::PAGE);
    let schema = generated::schema(&read(generated::SCHEMA), &read(generated::OPTIONS)).unwrap();
    assert!(schema == read(generated::SCHEMA), "{} is out of date: cargo xtask docs", generated::SCHEMA);
}

#[test]
fn the_plain_manifests_are_the_rendered_chart() {
    let Some(helm) = Helm::find() else { return };
    let values = file("deploy/kubernetes/values.yaml");
    let words = ["helm.sh/chart", "app.kubernetes.io/managed-by"];
    let bare = |mut object: Value| {
        object["metadata"]["namespace"] = "parlance".into();
        if let Some(labels) = object["metadata"]["labels"].as_object_mut() {
            labels.retain(|name, _| !words.contains(&name.as_str()));
        }
        object.to_string()
    };
    let sorted = |objects: Vec<Value>| {
        let mut all: Vec<String> = objects.into_iter().map(bare).collect();
        all.sort();
        all
    };
    let text = std::fs::read_to_string(root().join("deploy/kubernetes/parlance.yaml")).unwrap();
    let there = sorted(documents(&text));
    assert_eq!(there, sorted(helm.render(&values).0), "run deploy/kubernetes/render.sh");
}

/// Seconds.
fn grace(objects: &Objects) -> (u64, u64, u64) {
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let pod = objects.pod();
    let config: toml::Table = objects.toml().parse().unwrap();
    let drain = config["drain"]["deadline_ms"].as_integer().unwrap();
    let sleep = number(&objects.gateway()["lifecycle"]["preStop"]["sleep"]["seconds"]);
    (sleep, drain.unsigned_abs() / 1000, number(&pod["terminationGracePeriodSeconds"]))
}

#[test]
fn a_pod_has_time_for_the_delay_the_drain_and_some_slack() {
    let Some(helm) = Helm::find() else { return };
    assert_eq!(grace(&helm.render(&json!({}))), (5, 60, 75));
    let drain = json!({"drain": {"delaySeconds": 20, "deadlineSeconds": 300, "slackSeconds": 30}});
    assert_eq!(grace(&helm.render(&drain)), (20, 300, 350));
    let none = helm.render(&set("existing-secrets"));
    assert_eq!(grace(&none), (0, 20, 25));
    assert!(none.gateway()["lifecycle"].is_null());
}

#[test]
fn a_rollout_takes_nothing_away_before_its_successor_is_ready() {
    let Some(helm) = Helm::find() else { return };
    for (name, values) in sets() {
        let objects = helm.render(&values);
        let spec = &objects.of("Deployment")[0]["spec"];
        assert_eq!(spec["strategy"]["rollingUpdate"]["maxUnavailable"], 0, "{name}");
        assert_eq!(spec["minReadySeconds"], 10, "{name}");
        assert_eq!(objects.gateway()["readinessProbe"]["httpGet"]["path"], "/readyz", "{name}");
        assert_eq!(objects.gateway()["readinessProbe"]["httpGet"]["port"], "internal", "{name}");
        assert_eq!(objects.gateway()["livenessProbe"]["httpGet"]["path"], "/livez", "{name}");
    }
}

fn config(objects: &Objects) -> toml::Table {
    objects.toml().parse().unwrap()
}

#[test]
fn redis_of_every_kind_has_its_address() {
    let Some(helm) = Helm::find() else { return };
    let url = |name: &str| helm.render(&set(name)).variable("PARLANCE_REDIS_URL").unwrap().clone();
    assert_eq!(url("default"), "redis://redis:6379");
    assert_eq!(
        url("sentinel"),
        "redis-sentinel://sentinel-0.redis:26379,sentinel-1.redis:26379,sentinel-2.redis:26379/chat"
    );
    assert_eq!(
        url("cluster-tls"),
        "rediss-cluster://redis-0.redis:6379,redis-1.redis:6379,redis-2.redis:6379"
    );
    let whole = helm.render(&set("existing-secrets"));
    assert_eq!(whole.variable("PARLANCE_REDIS_URL"), None);
    assert_eq!(config(&whole)["redis_url_file"].as_str(), Some("/etc/parlance/redis-auth/url"));
    let redis = config(&helm.render(&set("sentinel")))["redis"].clone();
    for (option, value) in [
        ("username", "parlance"),
        ("password_file", "/etc/parlance/redis-auth/redis-password"),
        ("sentinel_username", "watcher"),
        ("sentinel_password_file", "/etc/parlance/redis-auth/sentinel-password"),
    ] {
        assert_eq!(redis[option].as_str(), Some(value), "{option}");
    }
}

#[test]
fn a_variable_comes_before_what_refers_to_it() {
    let Some(helm) = Helm::find() else { return };
    for (name, values) in sets() {
        let objects = helm.render(&values);
        let all = objects.gateway()["env"].as_array().unwrap();
        for (at, variable) in all.iter().enumerate() {
            for used in variable["value"].as_str().unwrap_or_default().split("$(").skip(1) {
                let used = used.split(')').next().unwrap();
                let before = all[..at].iter().any(|earlier| earlier["name"] == used);
                assert!(before, "{name}: {used} in {variable}");
            }
        }
    }
}

/// The files that the gateway's container finds, and from which Secret each comes.
fn mounted(objects: &Objects) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for mount in objects.gateway()["volumeMounts"].as_array().unwrap() {
        let volumes = objects.pod()["volumes"].as_array().unwrap();
        let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]).unwrap();
        let Some(secret) = volume["secret"]["secretName"].as_str() else { continue };
        assert_eq!(mount["readOnly"], true, "{mount}");
        assert!(mount["subPath"].is_null(), "what is mounted so never changes: {mount}");
        for item in volume["secret"]["items"].as_array().into_iter().flatten() {
            let path = format!("{}/{}", mount["mountPath"].as_str().unwrap(), item["path"].as_str().unwrap());
            all.push((path, secret.to_owned()));
        }
    }
    all
}

/// Every `…_file` of a configuration.
fn files(table: &toml::Table) -> Vec<String> {
    let mut all = Vec::new();
    for (name, value) in table {
        match value {
            toml::Value::Table(inside) => all.extend(files(inside)),
            toml::Value::String(path) if name.ends_with("_file") => all.push(path.clone()),
            _ => {}
        }
    }
    all
}

#[test]
fn secrets_are_files_of_secrets_and_nothing_else() {
    let Some(helm) = Helm::find() else { return };
    for (name, values) in sets() {
        let objects = helm.render(&values);
        let (mut read, mounted) = (files(&config(&objects)), mounted(&objects));
        let mut there: Vec<String> = mounted.into_iter().map(|(path, _)| path).collect();
        read.sort();
        there.sort();
        assert_eq!(read, there, "{name}: what is read is what is mounted");
        let env = objects.gateway()["env"].to_string();
        assert!(!env.contains("secretKeyRef"), "{name}: {env}");
    }
    let from = |name: &str, path: &str| {
        let all = mounted(&helm.render(&set(name)));
        all.into_iter().find(|(file, _)| file == path).map(|(_, secret)| secret)
    };
    for key in ["JWT", "API", "SESSION"] {
        let path = format!("/etc/parlance/auth/{key}");
        assert_eq!(from("existing-secrets", &path).as_deref(), Some("chat-keys"), "{key}");
    }
    for file in ["redis/ca.crt", "redis/tls.crt", "redis/tls.key"] {
        assert_eq!(from("cluster-tls", &format!("/etc/parlance/{file}")).as_deref(), Some("redis-tls"));
    }
    let auth = &config(&helm.render(&set("cluster-tls")))["auth"].clone();
    assert!(auth.get("secrets_file").is_none() && auth["keys"].as_array().unwrap().len() == 2, "{auth}");
    assert!(helm.render(&set("existing-secrets")).of("Secret").is_empty());
    let made = helm.render(&set("everything"));
    assert_eq!(made.get("Secret", "chat-auth")["stringData"]["api-keys"], "0123456789abcdef");
    let configuration = made.get("ConfigMap", "chat").to_string();
    assert!(!configuration.contains("0123456789abcdef"), "a secret is in the ConfigMap");
}

#[test]
fn pods_are_replaced_when_their_configuration_changes_and_not_for_what_they_read_again() {
    let Some(helm) = Helm::find() else { return };
    let template = |values: &Value| helm.render(values).of("Deployment")[0]["spec"]["template"].clone();
    let keys = |secret: &str| json!({"auth": {"jwtSecrets": [secret]}});
    let (one, two) = ("0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210");
    assert_eq!(template(&keys(one)), template(&keys(two)));
    assert_ne!(template(&json!({})), template(&json!({"config": {"degraded": "close"}})));
    assert_eq!(
        template(&json!({})),
        template(&json!({"service": {"public": {"port": 81}}, "ingress": {"enabled": true}}))
    );
}

#[test]
fn the_test_asks_with_the_gateways_own_image() {
    let Some(helm) = Helm::find() else { return };
    let objects = helm.render(&set("everything"));
    let containers = objects.get("Pod", "chat-test")["spec"]["containers"].as_array().unwrap();
    let asked: Vec<&Value> = containers.iter().map(|container| &container["args"]).collect();
    assert_eq!(
        asked,
        [
            &json!(["probe", "--url", "http://chat:443", "--for", "livez"]),
            &json!(["probe", "--url", "http://chat-internal:8083", "--for", "readyz"])
        ]
    );
    assert!(containers.iter().all(|container| container["image"] == objects.gateway()["image"]));
}

#[test]
fn services_find_the_gateways_pods_and_no_others() {
    let Some(helm) = Helm::find() else { return };
    let objects = helm.render(&set("everything"));
    let labels = &objects.of("Deployment")[0]["spec"]["template"]["metadata"]["labels"];
    let others = [
        &objects.get("Pod", "chat-test")["metadata"]["labels"],
        &objects.of("Job")[0]["spec"]["template"]["metadata"]["labels"],
    ];
    let fits = |selector: &Value, labels: &Value| {
        selector.as_object().unwrap().iter().all(|(name, value)| labels[name] == *value)
    };
    for name in ["chat", "chat-internal", "chat-nodes"] {
        let selector = &objects.get("Service", name)["spec"]["selector"];
        assert!(fits(selector, labels), "{name}");
        assert!(!others.iter().any(|other| fits(selector, other)), "{name}");
    }
    for (kind, path) in [("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")] {
        let selector = &objects.of(kind)[0]["spec"][path];
        assert!(fits(selector.get("matchLabels").unwrap_or(selector), labels), "{kind}");
    }
    let nodes = &objects.get("Service", "chat-nodes")["spec"];
    assert_eq!((&nodes["clusterIP"], &nodes["publishNotReadyAddresses"]), (&json!("None"), &json!(true)));
    let public = &objects.get("Service", "chat")["spec"];
    assert_eq!((&public["type"], &public["sessionAffinity"]), (&json!("LoadBalancer"), &json!("None")));
    assert_eq!(objects.get("Service", "chat-internal")["spec"]["type"], "ClusterIP");
}

#[test]
fn nothing_from_outside_leads_to_the_internal_listener() {
    let Some(helm) = Helm::find() else { return };
    for (name, values) in sets() {
        let objects = helm.render(&values);
        for object in objects.of("Ingress").into_iter().chain(objects.of("HTTPRoute")) {
            let text = object["spec"].to_string();
            assert!(!text.contains("internal") && !text.contains("8083"), "{name}: {text}");
        }
        let rules = objects.of("NetworkPolicy")[0]["spec"]["ingress"].as_array().unwrap();
        for rule in rules.iter().filter(|rule| rule["ports"][0]["port"] == "internal") {
            assert!(
                rule["from"].as_array().is_some_and(|from| !from.is_empty()),
                "{name}: open to everybody"
            );
        }
    }
}

#[test]
fn an_ingress_waits_for_quiet_clients() {
    let Some(helm) = Helm::find() else { return };
    let annotations = |controller: &str| {
        let values = json!({"ingress": {"enabled": true, "controller": controller, "timeoutSeconds": 300, "annotations": {"haproxy.org/load-balance": "random"}}});
        helm.render(&values).of("Ingress")[0]["metadata"]["annotations"].clone()
    };
    let nginx = annotations("nginx");
    assert_eq!(nginx["nginx.ingress.kubernetes.io/proxy-read-timeout"], "300");
    assert_eq!(nginx["nginx.ingress.kubernetes.io/proxy-buffering"], "off");
    let haproxy = annotations("haproxy");
    assert_eq!(haproxy["haproxy.org/timeout-tunnel"], "300s");
    assert_eq!(haproxy["haproxy.org/load-balance"], "random", "what was given wins");
    assert_eq!(annotations("none").as_object().unwrap().len(), 1);
}

#[test]
fn a_route_has_no_time_limit() {
    let Some(helm) = Helm::find() else { return };
    let route = helm.render(&set("gateway-api")).get("HTTPRoute", "parlance")["spec"].clone();
    assert_eq!(route["rules"][0]["timeouts"], json!({"request": "0s", "backendRequest": "0s"}));
    assert_eq!(route["rules"][0]["backendRefs"][0], json!({"name": "parlance", "port": 80}));
    assert_eq!(route["hostnames"][1], "rt.example.com");
}

#[test]
fn the_autoscaler_counts_sockets_and_the_deployment_no_pods() {
    let Some(helm) = Helm::find() else { return };
    let objects = helm.render(&set("everything"));
    assert!(objects.of("Deployment")[0]["spec"].get("replicas").is_none());
    let metrics = &objects.of("HorizontalPodAutoscaler")[0]["spec"]["metrics"];
    assert_eq!(metrics[0]["resource"]["name"], "cpu");
    assert_eq!(metrics[1]["pods"]["metric"]["name"], "parlance_public_sockets");
    assert_eq!(metrics[1]["pods"]["target"]["averageValue"], "20k");
}

/// A chart with what is here, and a dashboard of the test's own.
fn with_a_dashboard(folder: &Path) {
    let chart = root().join("helm/parlance");
    let copied = Command::new("cp").arg("-r").arg(chart).arg(folder.join("parlance")).status().unwrap();
    assert!(copied.success());
    std::fs::write(
        folder.join("parlance/dashboards/Of_The_Test.json"),
        r#"{"title": "{{ not a template }}"}"#,
    )
    .unwrap();
}

#[test]
fn every_dashboard_is_a_config_map() {
    let Some(helm) = Helm::find() else { return };
    let folder = tempfile::tempdir().unwrap();
    with_a_dashboard(folder.path());
    let chart = folder.path().join("parlance");
    let text = helm.template(chart.to_str().unwrap(), &set("everything")).unwrap();
    let objects = Objects(documents(&text));
    let files = std::fs::read_dir(chart.join("dashboards")).unwrap();
    let files =
        files.filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|end| end == "json"));
    let maps = objects.of("ConfigMap");
    let is_dashboard = |map: &&&Value| map["metadata"]["labels"]["grafana_dashboard"] == "1";
    let dashboards: Vec<_> = maps.iter().filter(is_dashboard).collect();
    assert_eq!(dashboards.len(), files.count());
    for map in dashboards {
        assert_eq!(map["metadata"]["annotations"]["grafana_folder"], "Chat");
        for text in map["data"].as_object().unwrap().values() {
            serde_json::from_str::<Value>(text.as_str().unwrap()).unwrap();
        }
    }
    let own = objects.get("ConfigMap", "chat-dashboard-of-the-test");
    assert_eq!(own["data"]["Of_The_Test.json"], r#"{"title": "{{ not a template }}"}"#);
}
