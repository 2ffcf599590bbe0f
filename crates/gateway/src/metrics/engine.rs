//! Metrics of the engine: what it counts of its servers, read when somebody asks.
//!
//! Must not know: what the servers are; an engine without any has none of these.

use std::sync::Arc;

use parlance_backplane::Stats;
use parlance_backplane::stats::{BOUNDS, Failure, Server, Wire};
use parlance_backplane::trail::Backlog;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{IntCounter, IntGauge};

use super::registrar::{About, Registrar, Says, about, labelled, says};

/// Metrics of the engine.
pub struct Engine {
    /// Calls of the backplane that failed.
    pub errors: IntCounter,
    /// What consumers of the trail never got.
    pub trail_dropped: IntGauge,
}

impl Engine {
    pub(super) fn new(r: &Registrar, stats: Arc<Stats>) -> Self {
        r.group("Engine");
        let (servers, abouts) = Servers::new(stats);
        r.take(Box::new(servers), abouts);
        Self {
            errors: r.counter(
                "backplane_errors_total",
                says(
                    "Calls of the engine that failed, and what was refused because it is known to be away",
                    "Clients get retryable errors. `/readyz` and `parlance_redis_errors_total` say more.",
                ),
            ),
            trail_dropped: r.gauge(
                "trail_dropped_steps",
                says(
                    "Steps that went although the webhooks or the archive had not had them, of all nodes together, ever",
                    "Too many waited: more than a million in a partition of Redis, ten million on the embedded engine. They are lost to whoever had not had them.",
                ),
            ),
        }
    }
}

impl Engine {
    /// What a consumer of the trail was told of it.
    pub fn dropped(&self, backlog: &Backlog) {
        self.trail_dropped.set(i64::try_from(backlog.dropped).unwrap_or(i64::MAX));
    }
}

/// What is read of a server, and how it is shown.
struct Shown {
    name: &'static str,
    kind: MetricType,
    labels: &'static [&'static str],
    says: Says,
    read: fn(&str, &Server) -> Vec<Metric>,
}

const SHOWN: [Shown; 5] = [
    Shown {
        name: "redis_command_seconds",
        kind: MetricType::HISTOGRAM,
        labels: &["shard"],
        says: says(
            "From a command being put on the connection to a primary to its answer",
            "One shard alone: that server, its disk, or a hot slot. All: the network, or this node's CPU. With `redis-wait` the time that replicas take is in it.",
        ),
        read: |shard, server| vec![histogram(shard, server)],
    },
    Shown {
        name: "redis_errors_total",
        kind: MetricType::COUNTER,
        labels: &["shard", "kind"],
        says: says(
            "Commands without an answer that is of use",
            "`away`, `lost`, `silent`: the server or the way to it. `elsewhere`: a failover or slots that move. `functions`: it was restarted or replaced; they are loaded then. `forbidden`: its access rules. `failed`: the node's log tells.",
        ),
        read: |shard, server| {
            let one = |failure: Failure| {
                count(&[("kind", failure.as_str()), ("shard", shard)], server.failures(failure))
            };
            Failure::ALL.map(one).to_vec()
        },
    },
    Shown {
        name: "redis_reconnects_total",
        kind: MetricType::COUNTER,
        labels: &["shard", "connection"],
        says: says(
            "Connections made again",
            "The server restarts or is replaced, or something between cuts idle or busy connections.",
        ),
        read: |shard, server| {
            let one = |wire: Wire| {
                let (again, _) = server.connections(wire)?;
                Some(count(&[("connection", wire.as_str()), ("shard", shard)], again))
            };
            Wire::ALL.into_iter().filter_map(one).collect()
        },
    },
    Shown {
        name: "redis_connected",
        kind: MetricType::GAUGE,
        labels: &["shard", "connection"],
        says: says(
            "Whether there is a connection to the primary",
            "0 for longer than a failover takes: that part of all conversations can neither be sent into nor heard.",
        ),
        read: |shard, server| {
            let one = |wire: Wire| {
                let (_, open) = server.connections(wire)?;
                let labels = [("connection", wire.as_str()), ("shard", shard)];
                Some(gauge(&labels, if open > 0 { 1.0 } else { 0.0 }))
            };
            Wire::ALL.into_iter().filter_map(one).collect()
        },
    },
    Shown {
        name: "redis_clock_offset_seconds",
        kind: MetricType::GAUGE,
        labels: &["shard"],
        says: says(
            "By how much the primary's clock is ahead of this node's, looked at every 10 s, to the millisecond",
            "Delivery times and the feed's lag are corrected by it. Keep all clocks within some milliseconds.",
        ),
        read: |shard, server| {
            let known = server.ahead();
            known.map(|millis| gauge(&[("shard", shard)], millis as f64 / 1000.0)).into_iter().collect()
        },
    },
];

fn labels(of: &[(&str, &str)]) -> Vec<LabelPair> {
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    of.iter().map(pair).collect()
}

fn count(of: &[(&str, &str)], value: u64) -> Metric {
    let (mut metric, mut counter) = (Metric::from_label(labels(of)), Counter::default());
    counter.set_value(value as f64);
    metric.set_counter(counter);
    metric
}

fn gauge(of: &[(&str, &str)], value: f64) -> Metric {
    let (mut metric, mut gauge) = (Metric::from_label(labels(of)), Gauge::default());
    gauge.set_value(value);
    metric.set_gauge(gauge);
    metric
}

fn bounds() -> impl Iterator<Item = f64> {
    BOUNDS.iter().map(|micros| *micros as f64 / 1e6)
}

fn histogram(shard: &str, server: &Server) -> Metric {
    let (counts, sum) = server.commands.read();
    let bucket = |(bound, count): (f64, &u64)| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound);
        bucket.set_cumulative_count(*count);
        bucket
    };
    let (mut metric, mut histogram) = (Metric::from_label(labels(&[("shard", shard)])), Histogram::default());
    histogram.set_sample_count(counts.last().copied().unwrap_or_default());
    histogram.set_sample_sum(sum.as_secs_f64());
    histogram.set_bucket(bounds().zip(&counts).map(bucket).collect());
    metric.set_histogram(histogram);
    metric
}

/// All servers of an engine as they are when somebody asks: they come and go.
struct Servers {
    stats: Arc<Stats>,
    descs: Vec<Desc>,
}

impl Servers {
    fn new(stats: Arc<Stats>) -> (Self, Vec<About>) {
        let said = |shown: &Shown| {
            let kind = match shown.kind {
                MetricType::HISTOGRAM => "histogram",
                MetricType::GAUGE => "gauge",
                _ => "counter",
            };
            let about = labelled(about(shown.name, kind, shown.says), shown.labels);
            let buckets = if kind == "histogram" { bounds().collect() } else { Vec::new() };
            About { buckets, ..about }
        };
        let abouts: Vec<About> = SHOWN.iter().map(said).collect();
        let desc = |about: &About| {
            Desc::new(
                about.name.clone(),
                about.says.help.to_owned(),
                about.labels.clone(),
                Default::default(),
            )
            .expect("metric names and labels are constants of this file")
        };
        let descs = abouts.iter().map(desc).collect();
        (Self { stats, descs }, abouts)
    }
}

impl Collector for Servers {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let servers = self.stats.servers();
        let family = |(shown, desc): (&Shown, &Desc)| {
            let metrics: Vec<Metric> =
                servers.iter().flat_map(|(shard, server)| (shown.read)(shard, server)).collect();
            let mut family = MetricFamily::default();
            family.set_name(desc.fq_name.clone());
            family.set_help(desc.help.clone());
            family.set_field_type(shown.kind);
            family.set_metric(metrics);
            family
        };
        SHOWN.iter().zip(&self.descs).map(family).filter(|family| !family.get_metric().is_empty()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus::{Encoder as _, TextEncoder};

    use super::*;

    #[test]
    fn what_is_counted_of_a_server_is_shown_under_its_name() {
        let stats = Arc::new(Stats::default());
        let (servers, _) = Servers::new(stats.clone());
        assert!(servers.collect().is_empty(), "an engine without servers");
        let server = stats.server("redis-0:6379");
        let _open = server.connected(Wire::Commands);
        server.commands.note(Duration::from_micros(700));
        server.failed(Failure::Lost);
        stats.clock(&server, -20);
        let mut text = Vec::new();
        TextEncoder::new().encode(&servers.collect(), &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        for line in [
            "parlance_redis_command_seconds_bucket{shard=\"redis-0:6379\",le=\"0.0005\"} 0",
            "parlance_redis_command_seconds_bucket{shard=\"redis-0:6379\",le=\"0.001\"} 1",
            "parlance_redis_command_seconds_bucket{shard=\"redis-0:6379\",le=\"+Inf\"} 1",
            "parlance_redis_command_seconds_sum{shard=\"redis-0:6379\"} 0.0007",
            "parlance_redis_errors_total{kind=\"lost\",shard=\"redis-0:6379\"} 1",
            "parlance_redis_errors_total{kind=\"away\",shard=\"redis-0:6379\"} 0",
            "parlance_redis_reconnects_total{connection=\"commands\",shard=\"redis-0:6379\"} 0",
            "parlance_redis_connected{connection=\"commands\",shard=\"redis-0:6379\"} 1",
            "parlance_redis_clock_offset_seconds{shard=\"redis-0:6379\"} -0.02",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }
}
