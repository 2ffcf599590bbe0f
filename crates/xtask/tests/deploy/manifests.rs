//! Kubernetes' own schemas know every field that is rendered.

use std::fs;
use std::path::Path;

use parlance_xtask::cargo::root;
use serde_json::Value;

use crate::tools::{Helm, documents, sets, validator};

/// Kinds of other projects, of which the validator knows nothing.
fn is_foreign(object: &Value) -> bool {
    let version = object["apiVersion"].as_str().unwrap();
    ["monitoring.coreos.com/", "gateway.networking.k8s.io/", "kustomize.config.k8s.io/"]
        .iter()
        .any(|group| version.starts_with(group))
}

/// What the validator says of these objects; `None` where it is not installed.
fn complaints(objects: &[Value], folder: &Path) -> Option<Result<(), String>> {
    let mut command = validator()?;
    command.args(["--strict", "--quiet"]);
    for (number, object) in objects.iter().filter(|object| !is_foreign(object)).enumerate() {
        let path = folder.join(format!("{number}.yaml"));
        fs::write(&path, object.to_string()).unwrap();
        command.arg(path);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    Some(if output.status.success() { Ok(()) } else { Err(said) })
}

#[test]
fn the_rendered_chart_is_what_kubernetes_knows() {
    let Some(helm) = Helm::find() else { return };
    for (name, values) in sets() {
        let folder = tempfile::tempdir().unwrap();
        let Some(said) = complaints(&helm.render(&values).0, folder.path()) else { return };
        assert_eq!(said, Ok(()), "{name}");
    }
}

#[test]
fn so_are_the_plain_manifests() {
    let read =
        |name: &str| documents(&fs::read_to_string(root().join("deploy/kubernetes").join(name)).unwrap());
    let objects = [read("namespace.yaml"), read("parlance.yaml")].concat();
    let folder = tempfile::tempdir().unwrap();
    let Some(said) = complaints(&objects, folder.path()) else { return };
    assert_eq!(said, Ok(()));
}

#[test]
fn a_field_that_there_is_not_is_noticed() {
    let Some(helm) = Helm::find() else { return };
    let mut objects = helm.render(&serde_json::json!({})).0;
    let deployment = objects.iter_mut().find(|object| object["kind"] == "Deployment").unwrap();
    deployment["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = serde_json::json!({});
    let folder = tempfile::tempdir().unwrap();
    let Some(said) = complaints(&objects, folder.path()) else { return };
    assert!(said.is_err_and(|said| said.contains("livenesProbe")), "anything passes");
}
