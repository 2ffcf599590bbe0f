//! Making metrics, and remembering of each what the reference page says.
//!
//! Owns: that everything registered has a name by the conventions, a help text and a word on what to look at. Must not
//! know: any one metric.

use std::cell::{Cell, RefCell};

use parlance_wire::Dialect;
use prometheus::core::Collector;
use prometheus::{
    Counter, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

/// A metric in words.
#[derive(Clone, Copy)]
pub(super) struct Says {
    /// What it counts.
    pub help: &'static str,
    /// What to look at when it moves.
    pub look: &'static str,
}

/// What it counts, and what to look at when it moves.
pub(super) const fn says(help: &'static str, look: &'static str) -> Says {
    Says { help, look }
}

/// What the reference page says of a metric.
pub(super) struct About {
    pub name: String,
    pub kind: &'static str,
    pub labels: Vec<String>,
    pub says: Says,
    pub group: &'static str,
    pub buckets: Vec<f64>,
}

/// The only way to register anything.
pub(super) struct Registrar {
    registry: Registry,
    group: Cell<&'static str>,
    all: RefCell<Vec<About>>,
}

/// One metric per dialect, looked up once: they are for what happens all the time.
pub struct PerDialect<C>([C; Dialect::ALL.len()]);

impl<C> PerDialect<C> {
    /// That of one dialect.
    pub const fn of(&self, dialect: Dialect) -> &C {
        let [sechat, lingochat, famly, chatgenius, socialhub] = &self.0;
        match dialect {
            Dialect::Sechat => sechat,
            Dialect::Lingochat => lingochat,
            Dialect::Famly => famly,
            Dialect::Chatgenius => chatgenius,
            Dialect::Socialhub => socialhub,
        }
    }
}

impl Registrar {
    pub fn new() -> Self {
        Self { registry: Registry::new(), group: Cell::new(""), all: RefCell::default() }
    }

    /// What is registered from here on belongs together.
    pub fn group(&self, group: &'static str) {
        self.group.set(group);
    }

    /// What there is, when all is registered.
    pub fn finish(self) -> (Registry, Vec<About>) {
        (self.registry, self.all.into_inner())
    }

    /// Registers something that other code made, of which `abouts` says what it is.
    pub fn take(&self, collector: Box<dyn Collector>, abouts: Vec<About>) {
        self.registry.register(collector).expect("metric names are distinct");
        self.all.borrow_mut().extend(abouts.into_iter().map(|it| About { group: self.group.get(), ..it }));
    }

    fn put<C: Collector + Clone + 'static>(&self, made: prometheus::Result<C>, about: About) -> C {
        let metric = made.expect("metric names and labels are constants of this crate");
        self.take(Box::new(metric.clone()), vec![about]);
        metric
    }

    pub fn counter(&self, name: &str, says: Says) -> IntCounter {
        let about = about(name, "counter", says);
        self.put(IntCounter::new(&about.name, says.help), about)
    }

    /// A counter of seconds.
    pub fn seconds(&self, name: &str, says: Says) -> Counter {
        let about = about(name, "counter", says);
        self.put(Counter::new(&about.name, says.help), about)
    }

    pub fn counters(&self, name: &str, labels: &[&str], says: Says) -> IntCounterVec {
        let about = labelled(about(name, "counter", says), labels);
        self.put(IntCounterVec::new(Opts::new(&about.name, says.help), labels), about)
    }

    /// A counter of each dialect.
    pub fn spoken(&self, name: &str, says: Says) -> PerDialect<IntCounter> {
        let all = self.counters(name, &["dialect"], says);
        PerDialect(Dialect::ALL.map(|dialect| all.with_label_values(&[dialect.as_str()])))
    }

    pub fn gauge(&self, name: &str, says: Says) -> IntGauge {
        let about = about(name, "gauge", says);
        self.put(IntGauge::new(&about.name, says.help), about)
    }

    /// A gauge of seconds.
    pub fn duration(&self, name: &str, says: Says) -> Gauge {
        let about = about(name, "gauge", says);
        self.put(Gauge::new(&about.name, says.help), about)
    }

    /// A gauge of seconds for each of these labels.
    pub fn durations(&self, name: &str, labels: &[&str], says: Says) -> GaugeVec {
        let about = labelled(about(name, "gauge", says), labels);
        self.put(GaugeVec::new(Opts::new(&about.name, says.help), labels), about)
    }

    pub fn gauges(&self, name: &str, labels: &[&str], says: Says) -> IntGaugeVec {
        let about = labelled(about(name, "gauge", says), labels);
        self.put(IntGaugeVec::new(Opts::new(&about.name, says.help), labels), about)
    }

    pub fn histogram(&self, name: &str, buckets: &[f64], says: Says) -> Histogram {
        let about = About { buckets: buckets.to_vec(), ..about(name, "histogram", says) };
        let opts = HistogramOpts::new(&about.name, says.help).buckets(buckets.to_vec());
        self.put(Histogram::with_opts(opts), about)
    }

    /// A histogram of each dialect.
    pub fn histograms(&self, name: &str, buckets: &[f64], says: Says) -> PerDialect<Histogram> {
        let about = About { buckets: buckets.to_vec(), ..about(name, "histogram", says) };
        let opts = HistogramOpts::new(&about.name, says.help).buckets(buckets.to_vec());
        let all = self.put(HistogramVec::new(opts, &["dialect"]), labelled(about, &["dialect"]));
        PerDialect(Dialect::ALL.map(|dialect| all.with_label_values(&[dialect.as_str()])))
    }
}

/// Of a metric of the project without labels.
pub(super) fn about(name: &str, kind: &'static str, says: Says) -> About {
    let name = format!("parlance_{name}");
    About { name, kind, labels: Vec::new(), says, group: "", buckets: Vec::new() }
}

/// With labels.
pub(super) fn labelled(about: About, labels: &[&str]) -> About {
    About { labels: labels.iter().map(|label| (*label).to_owned()).collect(), ..about }
}
