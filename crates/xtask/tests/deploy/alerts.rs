//! The alerts: read and tried by promtool, each with a situation in which it fires, and explained to whoever is woken by it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use parlance_xtask::cargo::root;
use parlance_xtask::dashboards::{self, DASHBOARDS};
use serde_json::Value;

use crate::tools::{Helm, file, program, set, skipped, target};

const RULES: &str = "helm/parlance/rules/parlance.yaml";
const TESTS: &str = "helm/parlance/rules/tests";
const OPERATIONS: &str = "docs/operations.md";

/// The program that `cargo xtask test` has unpacked, or one that is installed.
fn promtool() -> Option<Command> {
    let folder = match std::env::var_os("PARLANCE_TEST_PROMETHEUS") {
        Some(none) if none.is_empty() => {
            skipped("there is no promtool");
            return None;
        }
        Some(folder) => folder.into(),
        None => target().join("tools/prometheus/usr/bin"),
    };
    let unpacked = folder.join("promtool");
    if unpacked.exists() { Some(Command::new(unpacked)) } else { program("promtool", "--version") }
}

/// Whether promtool is content, and what it says.
fn checked(mut promtool: Command, words: [&str; 2], files: &[String], folder: &Path) -> (bool, String) {
    let output = promtool.args(words).args(files).current_dir(folder).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (output.status.success(), said)
}

fn tests() -> Vec<String> {
    let entries = fs::read_dir(root().join(TESTS)).unwrap();
    let names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.len() >= 4, "{names:?}");
    names
}

/// All rules of the file.
fn rules() -> Vec<Value> {
    let groups = file(RULES)["groups"].take();
    let groups = groups.as_array().unwrap().clone();
    groups.into_iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

fn alerts() -> Vec<(String, Value)> {
    let named = |rule: Value| rule["alert"].as_str().map(str::to_owned).map(|name| (name, rule));
    let all: Vec<_> = rules().into_iter().filter_map(named).collect();
    assert!(all.len() > 20);
    all
}

#[test]
fn prometheus_reads_the_rules() {
    let Some(promtool) = promtool() else { return };
    let (well, said) = checked(promtool, ["check", "rules"], &[RULES.to_owned()], &root());
    assert!(well && said.contains("SUCCESS"), "{said}");
}

#[test]
fn in_every_situation_fires_what_should_and_nothing_else() {
    let Some(promtool) = promtool() else { return };
    let (well, said) = checked(promtool, ["test", "rules"], &tests(), &root().join(TESTS));
    assert!(well, "{said}");
}

#[test]
fn a_rule_that_is_wrong_is_noticed() {
    let Some(promtool) = promtool() else { return };
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("tests")).unwrap();
    fs::copy(root().join(TESTS).join("nodes.yaml"), folder.path().join("tests/nodes.yaml")).unwrap();
    let text = fs::read_to_string(root().join(RULES)).unwrap();
    fs::write(folder.path().join("parlance.yaml"), text.replace("> 0.85", "> 0.95")).unwrap();
    let tests = folder.path().join("tests");
    let (well, said) = checked(promtool, ["test", "rules"], &["nodes.yaml".to_owned()], &tests);
    assert!(!well && said.contains("ParlanceDescriptorsRunOut"), "{said}");
}

/// The tests say all that fires in a situation; so an alert that one of them names is silent in all others.
#[test]
fn every_alert_has_a_situation_in_which_it_fires() {
    let mut fired = BTreeSet::new();
    for name in tests() {
        for test in file(&format!("{TESTS}/{name}"))["tests"].as_array().unwrap() {
            let queries = test["promql_expr_test"].as_array().unwrap();
            for sample in queries.iter().flat_map(|query| query["exp_samples"].as_array().unwrap()) {
                let labels = sample["labels"].as_str().unwrap();
                fired.extend(labels.split("alertname=\"").nth(1).map(|rest| {
                    let (name, _) = rest.split_once('"').unwrap();
                    name.to_owned()
                }));
            }
        }
    }
    let alerts: BTreeSet<String> = alerts().into_iter().map(|(name, _)| name).collect();
    assert_eq!(fired, alerts);
}

#[test]
fn every_alert_says_how_bad_it_is_and_where_it_stands_what_to_do() {
    let operations = fs::read_to_string(root().join(OPERATIONS)).unwrap();
    for (name, rule) in alerts() {
        let severity = rule["labels"]["severity"].as_str().unwrap_or_default();
        assert!(["critical", "warning"].contains(&severity), "{name}: {severity}");
        for word in ["summary", "description"] {
            assert!(rule["annotations"][word].is_string(), "{name}: no {word}");
        }
        let anchor = format!("{OPERATIONS}#{}", name.to_lowercase());
        assert_eq!(rule["annotations"]["runbook"], anchor.as_str(), "{name}");
        assert!(
            operations.contains(&format!("\n#### {name}\n")),
            "{OPERATIONS} does not say what to do about {name}"
        );
    }
    let known: BTreeSet<String> = alerts().into_iter().map(|(name, _)| name).collect();
    for heading in operations.lines().filter_map(|line| line.strip_prefix("#### Parlance")) {
        assert!(known.contains(&format!("Parlance{heading}")), "there is no alert Parlance{heading}");
    }
}

#[test]
fn alerts_come_from_the_rule_files() {
    let Some(helm) = Helm::find() else { return };
    let objects = helm.render(&set("everything"));
    let groups = objects.get("PrometheusRule", "chat")["spec"]["groups"].as_array().unwrap();
    let rendered: Vec<Value> =
        groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect();
    let mut kept = rules();
    kept.retain(|rule| rule["alert"] != "ParlanceSlowConsumers");
    assert_eq!(rendered, kept);
}

/// What an expression asks for, with what Prometheus adds to the names of histograms taken away.
fn metrics(expression: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let words = expression.split(|c: char| !is_part(c));
    let names = words.filter(|word| word.starts_with("parlance") || word.starts_with("process_"));
    let bare = |name: &str| {
        let ends = ["_bucket", "_count", "_sum"];
        ends.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name).to_owned()
    };
    names.map(bare).collect()
}

/// Every metric of the gateway's, from the page that follows from its registry, and what the rules record.
fn known() -> BTreeSet<String> {
    let page = fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    let mut known: BTreeSet<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|rest| rest.split('`').next())
        .map(str::to_owned)
        .collect();
    assert!(known.len() > 40, "{known:?}");
    known.extend(rules().iter().filter_map(|rule| rule["record"].as_str().map(str::to_owned)));
    known
}

#[test]
fn rules_and_dashboards_ask_for_metrics_that_there_are() {
    let known = known();
    let mut asked = 0;
    let mut check = |place: &str, expression: &str| {
        for name in metrics(expression) {
            assert!(known.contains(&name), "{place}: no metric {name}");
            asked += 1;
        }
    };
    for rule in rules() {
        check(RULES, rule["expr"].as_str().unwrap());
    }
    for (path, text) in dashboards::all().unwrap() {
        let dashboard: Value = serde_json::from_str(&text).unwrap();
        for panel in dashboard["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                check(&format!("{path}: {}", panel["title"]), target["expr"].as_str().unwrap());
            }
        }
        for variable in dashboard["templating"]["list"].as_array().unwrap() {
            check(&path, variable["definition"].as_str().unwrap_or_default());
        }
    }
    assert!(asked > 100, "only {asked} metrics found");
}

#[test]
fn dashboards_are_up_to_date() {
    let written = dashboards::all().unwrap();
    for (path, text) in &written {
        let there = fs::read_to_string(root().join(path)).unwrap_or_default();
        let read = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
        assert!(read(text) == read(&there), "{path} is out of date: cargo xtask docs");
    }
    let entries = fs::read_dir(root().join(DASHBOARDS)).unwrap();
    let there = entries
        .map(|entry| format!("{DASHBOARDS}/{}", entry.unwrap().file_name().into_string().unwrap()))
        .filter(|path| path.ends_with(".json"));
    assert_eq!(there.collect::<BTreeSet<_>>(), written.into_keys().collect::<BTreeSet<_>>());
}

#[test]
fn names_of_histograms_are_bare() {
    let all =
        metrics(r#"rate(parlance_a_seconds_bucket{le="1"}[5m]) / parlance:b:ratio_rate5m + process_c_count"#);
    assert_eq!(
        all.into_iter().collect::<Vec<_>>(),
        ["parlance:b:ratio_rate5m", "parlance_a_seconds", "process_c"]
    );
}
