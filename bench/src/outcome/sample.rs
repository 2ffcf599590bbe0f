//! An outcome for tests.
//!
//! Owns: one of everything that an outcome can hold. Must not know: what the tests are about.

use hdrhistogram::Histogram;

use super::{Better, Checks, Join, Machine, Outcome, Server, Target};

/// A run of everything.
pub fn outcome() -> Outcome {
    let nodes = vec!["ws://127.0.0.1:8081".to_owned(), "ws://127.0.0.1:8082".to_owned()];
    let (kind, dialect) = ("parlance".to_owned(), "sechat".to_owned());
    let mut outcome =
        Outcome::new("fanout", Target { kind, dialect, transport: "websocket".to_owned(), nodes });
    "before".clone_into(&mut outcome.label);
    "2026-01-02T03:04:05Z".clone_into(&mut outcome.started);
    outcome.seconds = 10.0;
    outcome.machine = Machine { cpus: 4, memory_mib: 8192, kernel: "6.1.0".to_owned() };
    outcome.setting("members", 1000).setting("bytes", 200);
    let server = Server {
        name: "gateway".to_owned(),
        pid: 4711,
        cpu_us: 3_500_000,
        rss_kib_before: 20_000,
        rss_kib_peak: 31_000,
        rss_kib_after: 30_000,
    };
    outcome.servers.push(server);
    outcome
        .figure("deliveries", 1_000_000.0, "deliveries", Better::None, Join::Sum)
        .figure("deliveries_per_second", 100_000.0, "1/s", Better::Higher, Join::Sum)
        .cost("cpu_us_per_delivery", "deliveries");
    let mut histogram = Histogram::new(3).unwrap();
    for value in 1..=10_000_u64 {
        histogram.record(value * 3).unwrap();
    }
    outcome.times("delivery", &histogram).unwrap();
    outcome.series("deliveries", "1/s", Join::Sum, (0..10).map(|at| (f64::from(at), 1e5)).collect());
    let expected = 1_000_000;
    outcome.check(&Checks { sent: 1000, acked: 1000, delivered: expected, expected, ..Checks::default() });
    outcome
}
