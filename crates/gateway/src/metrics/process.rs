//! Metrics of the process, and what is measured only when somebody asks.
//!
//! Must not know: who asks.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::{Counter, IntGauge, Opts};
use tokio::runtime::Handle;

use super::registrar::{About, Registrar, Says, about, labelled, says};
use crate::node::Node;

/// Metrics of the process.
pub struct Process {
    /// Whether the node is ready.
    ready: IntGauge,
    workers: IntGauge,
    tasks: IntGauge,
    queue: IntGauge,
    busy: Counter,
    /// Two who ask at the same time are answered one after the other.
    measuring: Mutex<()>,
}

impl Process {
    pub(super) fn new(r: &Registrar) -> Self {
        r.group("Process");
        register_build(r);
        register_process(r);
        Self {
            ready: r.gauge(
                "ready",
                says("Whether the node is ready, as `/readyz` says", "`/readyz` says why not. While the node stops it is 0, too."),
            ),
            workers: r.gauge(
                "runtime_workers",
                says("Threads that run tasks", "One for each processor that the process may use, unless it was told otherwise."),
            ),
            tasks: r.gauge(
                "runtime_tasks",
                says("Tasks that there are", "About one for each connection, and one for each poll. If they grow while connections do not, something hangs."),
            ),
            queue: r.gauge(
                "runtime_queue",
                says("Tasks that wait for any thread", "More than a few for long: this node's CPU is exhausted."),
            ),
            busy: r.seconds(
                "runtime_busy_seconds_total",
                says("Time for which threads were busy with tasks, all together", "Its rate by `parlance_runtime_workers` is the load; above 0.8 deliveries get late."),
            ),
            measuring: Mutex::default(),
        }
    }
}

fn register_build(r: &Registrar) {
    let said = says("Always 1; the label names the version", "Which release runs where.");
    let about = labelled(about("build_info", "gauge", said), &["version"]);
    let opts = Opts::new(&about.name, said.help).const_label("version", env!("CARGO_PKG_VERSION"));
    match IntGauge::with_opts(opts) {
        Ok(build) => {
            build.set(1);
            r.take(Box::new(build), vec![about]);
        }
        Err(error) => tracing::warn!(%error, "a version that cannot be a label"),
    }
}

/// The collector's metrics have no prefix: dashboards know them by these names.
#[cfg(target_os = "linux")]
fn register_process(r: &Registrar) {
    const LOOK: [(&str, Says); 7] = [
        (
            "process_cpu_seconds_total",
            says("Processor time used", "Its rate is the number of processors in use."),
        ),
        (
            "process_open_fds",
            says("Open descriptors", "Near `process_max_fds`: raise the limit, or add nodes."),
        ),
        (
            "process_max_fds",
            says("Most descriptors that there may be", "The limit of open files of the process."),
        ),
        ("process_virtual_memory_bytes", says("Address space", "Says little; look at resident memory.")),
        (
            "process_resident_memory_bytes",
            says(
                "Memory in use",
                "Grows with connections; what they leave is given back when a crowd is gone. See `parlance_outbox_bytes`.",
            ),
        ),
        (
            "process_start_time_seconds",
            says("When the process was started, since the epoch", "A change is a restart."),
        ),
        ("process_threads", says("Threads", "Workers, and those that wait for disks and names.")),
    ];
    let about = |(name, said): &(&str, Says)| {
        let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
        About { name: (*name).to_owned(), ..super::registrar::about("", kind, *said) }
    };
    let collector = prometheus::process_collector::ProcessCollector::for_self();
    r.take(Box::new(collector), LOOK.iter().map(about).collect());
}

#[cfg(not(target_os = "linux"))]
fn register_process(_: &Registrar) {}

/// Measures what is measured only now, and returns everything as Prometheus text.
pub async fn scrape(node: &Arc<Node>) -> String {
    let (asked, handle) = (node.clone(), Handle::current());
    // A look at every connection: not on a thread that serves them.
    let text = node.tracker.spawn_blocking(move || {
        let process = &asked.metrics.process;
        let _alone = process.measuring.lock();
        process.ready.set(i64::from(asked.ready().is_ok()));
        asked.metrics.feed.idle.set(Duration::from_millis(asked.feed_lag_ms()).as_secs_f64());
        measure_outboxes(&asked);
        process.measure_runtime(&handle);
        asked.metrics.render()
    });
    text.await.unwrap_or_else(|error| {
        tracing::error!(%error, "measuring");
        String::new()
    })
}

fn measure_outboxes(node: &Node) {
    let (mut pieces, mut bytes, mut deepest) = (0, 0, 0);
    for link in &node.links {
        let (waiting, size) = link.listener.outbox.depth();
        pieces += waiting;
        bytes += size;
        deepest = waiting.max(deepest);
    }
    let delivery = &node.metrics.delivery;
    delivery.outbox_pieces.set(integer(pieces));
    delivery.outbox_bytes.set(integer(bytes));
    delivery.outbox_deepest.set(integer(deepest));
}

impl Process {
    fn measure_runtime(&self, handle: &Handle) {
        let metrics = handle.metrics();
        self.workers.set(integer(metrics.num_workers()));
        self.tasks.set(integer(metrics.num_alive_tasks()));
        self.queue.set(integer(metrics.global_queue_depth()));
        let busy: Duration =
            (0..metrics.num_workers()).map(|it| metrics.worker_total_busy_duration(it)).sum();
        self.busy.inc_by((busy.as_secs_f64() - self.busy.get()).max(0.0));
    }
}

/// As a gauge takes it.
pub(super) fn integer(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
