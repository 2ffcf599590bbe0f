//! The contract suite against the Embedded engine, in memory and on a file.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use parlance_backplane::Backplane;
use parlance_backplane::contract::Rig;
use parlance_backplane::embedded::{Embedded, Options};
use parlance_backplane::trail::Kinds;
use parlance_model::{NodeId, Time};

struct EmbeddedRig {
    engine: Embedded,
    clock: Arc<AtomicU64>,
    options: Options,
    attached: AtomicUsize,
    keeping: Mutex<Option<Embedded>>,
    _directory: Option<tempfile::TempDir>,
}

impl EmbeddedRig {
    fn open(path: Option<PathBuf>, directory: Option<tempfile::TempDir>) -> Self {
        Self::build(Options { path, ..Options::default() }, directory)
    }

    fn build(options: Options, directory: Option<tempfile::TempDir>) -> Self {
        let clock = Arc::new(AtomicU64::new(1_755_633_600_000));
        let options = Options { retention_entries: 200, ..options };
        let time = clock.clone();
        let engine =
            Embedded::open(options.clone(), Arc::new(move || Time(time.load(Ordering::SeqCst)))).unwrap();
        Self {
            engine,
            clock,
            options,
            attached: AtomicUsize::new(0),
            keeping: Mutex::default(),
            _directory: directory,
        }
    }
}

#[async_trait]
impl Rig for EmbeddedRig {
    async fn nodes(&self, count: usize) -> Vec<Backplane> {
        let mut nodes = Vec::new();
        for _ in 0..count {
            let number = self.attached.fetch_add(1, Ordering::SeqCst);
            nodes.push(self.engine.attach(NodeId::parse(&format!("node-{number}")).unwrap()));
        }
        nodes
    }

    async fn keeping_for(&self, count: usize, groups: &[&'static str]) -> Vec<Backplane> {
        let path = self.options.path.as_ref().map(|path| path.join("keeping"));
        let (options, time) = (
            Options { path, trail: Kinds::ALL, trail_groups: groups.to_vec(), ..self.options.clone() },
            self.clock.clone(),
        );
        let engine = Embedded::open(options, Arc::new(move || Time(time.load(Ordering::SeqCst)))).unwrap();
        let attach = |number: usize| engine.attach(NodeId::parse(&format!("node-{number}")).unwrap());
        let nodes = (0..count).map(attach).collect();
        *self.keeping.lock() = Some(engine);
        nodes
    }

    async fn advance(&self, by: Duration) {
        self.clock.fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }

    async fn now(&self) -> Time {
        Time(self.clock.load(Ordering::SeqCst))
    }

    fn inbox_capacity(&self) -> usize {
        self.options.inbox
    }

    fn retention_entries(&self) -> u64 {
        self.options.retention_entries
    }
}

mod in_memory {
    use super::EmbeddedRig;

    parlance_backplane::contract_tests!(async { EmbeddedRig::open(None, None) });
}

mod inline {
    use super::{EmbeddedRig, Options};

    parlance_backplane::contract_tests!(async {
        EmbeddedRig::build(Options { inline: true, ..Options::default() }, None)
    });
}

mod on_file {
    use super::EmbeddedRig;

    parlance_backplane::contract_tests!(async {
        let directory = tempfile::tempdir().unwrap();
        EmbeddedRig::open(Some(directory.path().join("data")), Some(directory))
    });
}
