//! What a scanner of manifests holds against the chart: nothing that is not explained in `helm/parlance/checkov.yaml`.

use std::collections::BTreeSet;
use std::fs;

use parlance_xtask::cargo::root;
use serde_json::Value;

use crate::tools::{Helm, documents, scanner, sets};

const EXPLAINED: &str = "helm/parlance/checkov.yaml";

/// A check that fails, and the kind of the object that it fails of.
type Finding = (String, String);

/// One whose name does not begin with a dot: the scanner would see nothing in it.
fn folder() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("scanned").tempdir().unwrap()
}

/// The findings of the scanner in a folder of manifests, which names as many as it passed; `None` where it is not installed.
fn findings(folder: &std::path::Path) -> Option<(BTreeSet<Finding>, u64)> {
    let mut command = scanner()?;
    command.args([
        "--framework",
        "kubernetes",
        "--compact",
        "--quiet",
        "--skip-download",
        "--output",
        "json",
    ]);
    // It would look for a newer one of itself.
    command.args(["--soft-fail", "--directory"]).arg(folder).env("CHECKOV_RUN_SCA_PACKAGE_SCAN_V2", "false");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    assert_eq!(report["summary"]["parsing_errors"], 0, "{said}");
    let failed = report["results"]["failed_checks"].as_array().unwrap();
    let finding = |one: &Value| {
        let word = |name: &str| one[name].as_str().unwrap().to_owned();
        (word("check_id"), word("resource").split('.').next().unwrap().to_owned())
    };
    Some((failed.iter().map(finding).collect(), report["summary"]["passed"].as_u64().unwrap()))
}

/// What is explained, each with the kinds it may be said of.
fn explained() -> BTreeSet<Finding> {
    let text = fs::read_to_string(root().join(EXPLAINED)).unwrap();
    let mut all = BTreeSet::new();
    for one in documents(&text).pop().unwrap().as_array().unwrap() {
        assert!(one["reason"].as_str().is_some_and(|reason| reason.len() > 20), "{one} has no reason");
        for kind in one["of"].as_array().unwrap() {
            let fresh =
                all.insert((one["check"].as_str().unwrap().to_owned(), kind.as_str().unwrap().to_owned()));
            assert!(fresh, "{one} is there twice");
        }
    }
    all
}

#[test]
fn the_scanner_finds_nothing_that_is_not_explained() {
    let Some(helm) = Helm::find() else { return };
    let folder = folder();
    for (name, values) in sets() {
        let text = helm.text(&values).unwrap();
        fs::write(folder.path().join(format!("{name}.yaml")), text).unwrap();
    }
    let Some((found, passed)) = findings(folder.path()) else { return };
    assert!(passed > 500, "only {passed} checks: it has not seen the chart");
    let explained = explained();
    let strange: Vec<&Finding> = found.difference(&explained).collect();
    assert!(strange.is_empty(), "neither mended nor explained in {EXPLAINED}: {strange:?}");
    let idle: Vec<&Finding> = explained.difference(&found).collect();
    assert!(idle.is_empty(), "explained in {EXPLAINED}, and never found: {idle:?}");
}

#[test]
fn the_scanner_does_find_what_is_wrong() {
    let folder = folder();
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: b}\nspec:\n  containers:\n    \
        - {name: a, image: a, securityContext: {privileged: true}}\n";
    fs::write(folder.path().join("pod.yaml"), pod).unwrap();
    let Some((found, _)) = findings(folder.path()) else { return };
    // A privileged container.
    assert!(found.contains(&("CKV_K8S_16".to_owned(), "Pod".to_owned())), "{found:?}");
}
