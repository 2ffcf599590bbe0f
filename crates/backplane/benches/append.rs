//! What the embedded engine takes for a message, from one task and from many at once: in memory, and durable in its file.
#![allow(clippy::expect_used, reason = "a benchmark that cannot run says so")]

mod appending;

use std::path::PathBuf;
use std::sync::Arc;

use appending::{Subject, measure, runtime};
use criterion::{Criterion, criterion_group, criterion_main};
use parlance_backplane::embedded::{Embedded, Options};
use parlance_model::{NodeId, Time};

fn embedded(criterion: &mut Criterion, name: &'static str, path: Option<PathBuf>) {
    let options = Options { path, retention_entries: 1000, ..Options::default() };
    let runtime = runtime();
    let engine = Embedded::open(options, Arc::new(|| Time(1_755_633_600_000))).expect("an engine");
    let node = engine.attach(NodeId::parse("n1").expect("a name"));
    measure(criterion, &runtime, &Subject { name, engine: node, servers: Vec::new() });
    runtime.block_on(engine.close());
}

fn all(criterion: &mut Criterion) {
    embedded(criterion, "embedded-memory", None);
    let folder = tempfile::tempdir().expect("a folder");
    embedded(criterion, "embedded-file", Some(folder.path().to_owned()));
}

criterion_group!(benches, all);
criterion_main!(benches);
