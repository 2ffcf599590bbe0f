//! The house rules a compiler does not know: who may depend on whom, what stays pure, how long a file may be.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};
use parlance_xtask::cargo::root;
use parlance_xtask::source::{Source, rust_files};

/// The allowed direct edges between workspace members; any kind of dependency counts.
const ALLOWED: &[(&str, &[&str])] = &[
    (
        "parlance",
        &[
            "parlance-gateway",
            "parlance-archive",
            "parlance-outbox",
            "parlance-postgres",
            "parlance-heap",
            "parlance-backplane",
            "parlance-backplane-redis",
            "parlance-client",
            "parlance-model",
        ],
    ),
    ("parlance-archive", &["parlance-backplane", "parlance-postgres", "parlance-model"]),
    ("parlance-outbox", &["parlance-backplane", "parlance-backplane-redis", "parlance-postgres"]),
    ("parlance-postgres", &[]),
    ("parlance-backplane-redis", &["parlance-backplane", "parlance-model", "parlance-redis-rig"]),
    ("parlance-gateway", &["parlance-hub", "parlance-backplane", "parlance-wire", "parlance-model"]),
    ("parlance-hub", &["parlance-wire", "parlance-model"]),
    ("parlance-wire", &["parlance-model"]),
    ("parlance-backplane", &["parlance-model"]),
    ("parlance-client", &["parlance-wire", "parlance-model"]),
    ("parlance-bench", &["parlance-client", "parlance-model"]),
    ("parlance-tests", &["parlance-client", "parlance-model", "parlance-redis-rig"]),
    ("parlance-redis-rig", &[]),
    ("parlance-heap", &[]),
    ("parlance-model", &[]),
    ("parlance-xtask", &[]),
];

/// Crates without sockets, timers or threads, and what they must therefore not pull in, however indirectly.
const PURE: &[&str] = &["parlance-model", "parlance-wire"];
const IMPURE: &[&str] = &["tokio", "mio", "socket2", "hyper", "async-std", "smol"];

const LONGEST_FILE: usize = 500;

fn metadata() -> Metadata {
    MetadataCommand::new().manifest_path(root().join("Cargo.toml")).exec().unwrap()
}

fn forbidden_edges(edges: &BTreeSet<(String, String)>) -> Vec<String> {
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    let is_forbidden = |from: &str, to: &str| !allowed.get(from).is_some_and(|to_all| to_all.contains(&to));
    edges
        .iter()
        .filter(|(from, to)| is_forbidden(from, to))
        .map(|(from, to)| format!("{from} -> {to}"))
        .collect()
}

#[test]
fn dependencies_point_only_where_the_layers_allow() {
    let metadata = metadata();
    let members: BTreeSet<&str> =
        metadata.workspace_packages().iter().map(|member| member.name.as_str()).collect();
    let unknown: Vec<_> =
        members.iter().filter(|name| !ALLOWED.iter().any(|(known, _)| known == *name)).collect();
    assert!(unknown.is_empty(), "crates without a place in the layers: {unknown:?}");
    let mut edges = BTreeSet::new();
    for member in metadata.workspace_packages() {
        for dependency in
            member.dependencies.iter().filter(|dependency| members.contains(dependency.name.as_str()))
        {
            edges.insert((member.name.to_string(), dependency.name.clone()));
        }
    }
    let forbidden = forbidden_edges(&edges);
    assert!(forbidden.is_empty(), "forbidden dependencies: {forbidden:?}");
}

#[test]
fn an_edge_outside_the_table_is_named() {
    let edge = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    let edges = BTreeSet::from([
        edge("parlance-hub", "parlance-wire"),
        edge("parlance-wire", "parlance-hub"),
        edge("parlance-new", "parlance-model"),
    ]);
    assert_eq!(forbidden_edges(&edges), ["parlance-new -> parlance-model", "parlance-wire -> parlance-hub"]);
}

/// The names of everything a package pulls in through normal dependencies.
fn pulled_in(metadata: &Metadata, name: &str) -> BTreeSet<String> {
    let nodes: BTreeMap<&PackageId, _> =
        metadata.resolve.as_ref().unwrap().nodes.iter().map(|node| (&node.id, node)).collect();
    let package = metadata.packages.iter().find(|package| package.name.as_str() == name).unwrap();
    let mut names = BTreeSet::new();
    let mut open = vec![&package.id];
    while let Some(id) = open.pop() {
        for dependency in &nodes[id].deps {
            let normal = dependency.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal);
            if normal && names.insert(metadata[&dependency.pkg].name.to_string()) {
                open.push(&dependency.pkg);
            }
        }
    }
    names
}

#[test]
fn pure_crates_pull_in_no_runtime() {
    let metadata = metadata();
    for name in PURE {
        let names = pulled_in(&metadata, name);
        let impure: Vec<_> = IMPURE.iter().filter(|impure| names.contains(**impure)).collect();
        assert!(impure.is_empty(), "{name} pulls in {impure:?}");
    }
    assert!(pulled_in(&metadata, "parlance-backplane").contains("tokio"), "the search finds nothing");
}

#[test]
fn files_are_short_and_open_by_saying_what_they_own() {
    let root = root();
    let mut faults = Vec::new();
    let mut seen = 0;
    for path in rust_files(&root).unwrap() {
        let source = Source::read(&root, &path).unwrap();
        if !source.path.starts_with("crates/") || !source.path.contains("/src/") {
            continue;
        }
        seen += 1;
        let lines = source.lines_without_tests();
        if lines > LONGEST_FILE {
            faults.push(format!("{}: {lines} lines, at most {LONGEST_FILE}", source.path));
        }
        if !source.text.starts_with("//!") {
            faults.push(format!("{}: does not open with //!", source.path));
        }
    }
    assert!(seen > 20, "only {seen} files found");
    assert!(faults.is_empty(), "house limits:\n{}", faults.join("\n"));
}
