//! Pods keep to the strictest of Kubernetes' profiles, *restricted*, and to what scanners ask beyond it.

use serde_json::{Value, json};

use crate::tools::{Helm, Objects, file, sets};

/// Every specification of a pod among the objects.
fn pods(objects: &Objects) -> Vec<(String, &Value)> {
    let spec = |object: &'_ Value| -> Option<&'static str> {
        match object["kind"].as_str()? {
            "Pod" => Some("/spec"),
            "Deployment" | "Job" => Some("/spec/template/spec"),
            _ => None,
        }
    };
    let pod = |object| {
        spec(object).map(|path| (object["metadata"]["name"].to_string(), object.pointer(path).unwrap()))
    };
    objects.0.iter().filter_map(pod).collect()
}

/// What of a pod is not as it must be.
fn faults(pod: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let mut must = |is: bool, what: &str| {
        if !is {
            faults.push(what.to_owned());
        }
    };
    let context = &pod["securityContext"];
    must(context["runAsNonRoot"] == true, "runAsNonRoot");
    must(context["runAsUser"].as_u64().is_some_and(|user| user > 10_000), "runAsUser");
    must(context["seccompProfile"]["type"] == "RuntimeDefault", "seccompProfile");
    must(pod["automountServiceAccountToken"] == false, "automountServiceAccountToken");
    must(pod["enableServiceLinks"] == false, "enableServiceLinks");
    for name in ["hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"] {
        must(pod[name].is_null() || pod[name] == false, name);
    }
    for volume in pod["volumes"].as_array().into_iter().flatten() {
        must(volume["hostPath"].is_null(), "hostPath");
    }
    for container in pod["containers"].as_array().unwrap() {
        let context = &container["securityContext"];
        must(context["allowPrivilegeEscalation"] == false, "allowPrivilegeEscalation");
        must(context["readOnlyRootFilesystem"] == true, "readOnlyRootFilesystem");
        must(context["privileged"].is_null(), "privileged");
        must(context["capabilities"] == json!({"drop": ["ALL"]}), "capabilities");
        must(!container["resources"]["requests"]["cpu"].is_null(), "requests.cpu");
        must(!container["resources"]["requests"]["memory"].is_null(), "requests.memory");
        must(!container["resources"]["limits"]["memory"].is_null(), "limits.memory");
        let image = container["image"].as_str().unwrap();
        must(image.contains(['@', ':']) && !image.ends_with(":latest"), "image without a version");
        must(!image.split_once('/').is_some_and(|(host, _)| host.contains('.')), "image names a registry");
    }
    faults
}

#[test]
fn every_pod_is_restricted() {
    let Some(helm) = Helm::find() else { return };
    for (name, values) in sets() {
        let objects = helm.render(&values);
        let pods = pods(&objects);
        assert!(pods.len() >= 2, "{name}: {} pods", pods.len());
        for (pod, spec) in pods {
            assert_eq!(faults(spec), Vec::<String>::new(), "{name}: {pod}");
        }
    }
}

#[test]
fn a_pod_that_is_not_is_noticed() {
    let Some(helm) = Helm::find() else { return };
    let loose = json!({"securityContext": {"readOnlyRootFilesystem": false}, "podSecurityContext": {"runAsUser": 0}, "image": {"tag": "latest"}});
    let objects = helm.render(&loose);
    let found = faults(objects.pod());
    for fault in ["runAsUser", "readOnlyRootFilesystem", "image without a version"] {
        assert!(found.iter().any(|one| one == fault), "{fault}: {found:?}");
    }
}

#[test]
fn no_object_may_do_anything_in_the_cluster() {
    let Some(helm) = Helm::find() else { return };
    for (name, values) in sets() {
        let objects = helm.render(&values);
        for kind in ["Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"] {
            assert!(objects.of(kind).is_empty(), "{name}: {kind}");
        }
        for account in objects.of("ServiceAccount") {
            assert_eq!(account["automountServiceAccountToken"], false, "{name}");
        }
        for object in &objects.0 {
            assert!(
                object["metadata"]["namespace"].is_string() || object["metadata"]["name"] == "parlance-more",
                "{name}: {object}"
            );
        }
    }
}

#[test]
fn the_namespace_of_the_plain_manifests_enforces_it() {
    let labels = file("deploy/kubernetes/namespace.yaml")["metadata"]["labels"].clone();
    assert_eq!(labels["pod-security.kubernetes.io/enforce"], "restricted");
}
