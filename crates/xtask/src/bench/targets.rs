//! What is compared: each target is one entry here. Runs, load, figures, and what is asked of them.
//!
//! Fan-out is measured in SeChat over raw WebSockets: every recipient of a room hears the same bytes there, as from the peers.
//!
//! Must not know: how a run is made, how a goal is judged.

use super::goals::{Bound, Goal, Measure};
use super::servers::{Kind, Setup};

/// A metric with its goals.
pub struct Target {
    /// Its number on the command line.
    pub number: u32,
    /// What is measured.
    pub title: &'static str,
    /// The load generator's scenario.
    pub scenario: &'static str,
    /// Its flags.
    pub flags: &'static str,
    /// What is different in a quick run.
    pub quick: &'static str,
    /// What it is run on.
    pub runs: Vec<Run>,
    /// What is asked.
    pub goals: Vec<Goal>,
}

/// A scenario on one contestant.
#[derive(Clone, Copy)]
pub struct Run {
    /// Its name within the target.
    pub name: &'static str,
    /// What is started.
    pub setup: Setup,
    /// A scenario of its own.
    pub scenario: Option<&'static str>,
    /// Flags of its own.
    pub flags: &'static str,
    /// Flags of its own in a quick run.
    pub quick: &'static str,
}

impl Run {
    const fn of(name: &'static str, kind: Kind, nodes: usize) -> Self {
        Self { name, setup: Setup::of(kind, nodes), scenario: None, flags: "", quick: "" }
    }

    const fn flags(mut self, flags: &'static str) -> Self {
        self.flags = flags;
        self
    }

    const fn quick(mut self, flags: &'static str) -> Self {
        self.quick = flags;
        self
    }

    const fn scenario(mut self, scenario: &'static str) -> Self {
        self.scenario = Some(scenario);
        self
    }

    const fn durable(mut self) -> Self {
        self.setup.durable = true;
        self
    }

    const fn without_file(mut self) -> Self {
        self.setup.aof = false;
        self
    }

    /// Only the first nodes get load.
    const fn loaded(mut self, nodes: usize) -> Self {
        self.setup.loaded = nodes;
        self
    }
}

const fn parlance(nodes: usize) -> Run {
    Run::of("parlance", Kind::Parlance, nodes)
}

const fn floor() -> Run {
    Run::of("floor", Kind::Floor, 1)
}

const fn node(nodes: usize) -> Run {
    Run::of("node-redis", Kind::NodeRedis, nodes)
}

const fn streams(nodes: usize) -> Run {
    Run::of("node-streams", Kind::NodeStreams, nodes)
}

const fn siox(nodes: usize) -> Run {
    Run::of("siox-redis", Kind::SioxRedis, nodes)
}

const fn centrifugo(nodes: usize) -> Run {
    Run::of("centrifugo", Kind::Centrifugo, nodes)
}

/// A figure of Parlance itself.
const fn value(figure: &'static str) -> Measure {
    Measure::Value { of: "parlance", figure }
}

/// Parlance's figure over another's: for what may be no more than so much of it.
const fn over(figure: &'static str, other: &'static str) -> Measure {
    Measure::Ratio { of: "parlance", over: other, figure }
}

/// Another's figure over Parlance's: how many times as much the other costs.
const fn times_better(figure: &'static str, other: &'static str) -> Measure {
    Measure::Ratio { of: other, over: "parlance", figure }
}

const fn at_most(measure: Measure, target: f64) -> Goal {
    Goal { measure, bound: Bound::AtMost, target, stretch: None, unit: "" }
}

const fn at_least(measure: Measure, target: f64) -> Goal {
    Goal { measure, bound: Bound::AtLeast, target, stretch: None, unit: "" }
}

impl Goal {
    const fn stretch(mut self, stretch: f64) -> Self {
        self.stretch = Some(stretch);
        self
    }

    const fn unit(mut self, unit: &'static str) -> Self {
        self.unit = unit;
        self
    }
}

const DELIVERY: &str = "cpu_us_per_delivery";
const MESSAGE: &str = "cpu_us_per_message";

/// All of them.
pub fn all() -> Vec<Target> {
    let mut all = fan_out();
    all.extend(messages());
    all.extend(idle());
    all.extend(storms());
    all.push(growth());
    all.sort_by_key(|target| target.number);
    all
}

fn fan_out() -> Vec<Target> {
    vec![
        Target {
            number: 1,
            title: "fan-out to 1,000 in one room on another node, CPU time for each delivery",
            scenario: "fanout",
            flags: "--dialect sechat --cross --members 1000 --rate 20 --warmup 2 --seconds 8",
            quick: "--warmup 1 --seconds 4",
            runs: vec![parlance(2), floor(), node(2), siox(2), streams(2), centrifugo(2)],
            goals: vec![
                at_most(over(DELIVERY, "floor"), 1.4).stretch(1.2),
                at_least(times_better(DELIVERY, "node-redis"), 2.5).stretch(3.1),
                at_least(times_better(DELIVERY, "siox-redis"), 1.5),
            ],
        },
        Target {
            number: 2,
            title: "fan-out to 10,000 in one room on another node, CPU time for each delivery",
            scenario: "fanout",
            flags: "--dialect sechat --cross --members 10000 --rate 2 --warmup 2 --seconds 8",
            quick: "--members 5000 --warmup 1 --seconds 4",
            runs: vec![parlance(2), floor(), node(2), siox(2)],
            goals: vec![
                at_most(over(DELIVERY, "floor"), 1.4).stretch(1.15),
                at_least(times_better(DELIVERY, "node-redis"), 3.2),
                at_least(times_better(DELIVERY, "siox-redis"), 2.0),
            ],
        },
        Target {
            number: 3,
            title: "fan-out to 1,000 with four messages on the way, CPU time for each delivery",
            scenario: "fanout",
            flags: "--dialect sechat --cross --members 1000 --closed --window 4 --warmup 2 --seconds 8",
            quick: "--warmup 1 --seconds 4",
            runs: vec![parlance(2), floor()],
            goals: vec![at_most(over(DELIVERY, "floor"), 0.75).stretch(0.55)],
        },
    ]
}

fn messages() -> Vec<Target> {
    vec![
        Target {
            number: 4,
            title: "100 rooms of 20, CPU time for each message (Parlance durable, the others not)",
            scenario: "rooms",
            flags: "--dialect sechat --cross --rooms 100 --members 20 --rate 400 --warmup 2 --seconds 8",
            quick: "--warmup 1 --seconds 4",
            runs: vec![parlance(2), node(2), siox(2), streams(2), centrifugo(2)],
            goals: vec![
                at_least(times_better(MESSAGE, "node-redis"), 2.5).stretch(3.2),
                at_least(times_better(MESSAGE, "siox-redis"), 1.4),
            ],
        },
        Target {
            number: 5,
            title: "500 pairs on two nodes, CPU time for each message (Parlance durable)",
            scenario: "direct",
            flags: "--dialect sechat --cross --pairs 500 --no-receipts --rate 2000 --warmup 2 --seconds 8",
            quick: "--warmup 1 --seconds 4",
            runs: vec![parlance(2), node(2)],
            goals: vec![
                at_most(value(MESSAGE), 45.0).stretch(33.0).unit("µs"),
                at_least(times_better(MESSAGE, "node-redis"), 2.0),
            ],
        },
        Target {
            number: 6,
            title: "durable acknowledgements a second, 200 senders",
            scenario: "acks",
            flags: "--dialect sechat --senders 200 --closed --window 8 --warmup 2 --seconds 8",
            quick: "--warmup 1 --seconds 4",
            runs: vec![
                parlance(1),
                Run { name: "parlance-no-aof", ..parlance(1) }.without_file(),
                node(1).durable(),
            ],
            goals: vec![
                at_least(over("acks_per_second", "node-redis"), 2.5).stretch(3.8),
                at_least(over("acks_per_second", "parlance-no-aof"), 0.8),
            ],
        },
        Target {
            number: 7,
            title: "latency across nodes at 4,000 deliveries a second",
            scenario: "rooms",
            flags: "--dialect sechat --cross --rooms 20 --members 20 --rate 200 --warmup 2 --seconds 12",
            quick: "--warmup 1 --seconds 5",
            runs: vec![parlance(2), node(2)],
            goals: vec![
                at_most(over("delivery.p50", "node-redis"), 0.65).stretch(0.48),
                at_most(over("delivery.p99", "node-redis"), 0.35).stretch(0.19),
            ],
        },
    ]
}

fn idle() -> Vec<Target> {
    const RESIDENT: &str = "rss_kib_per_connection";
    let socketio = Run { name: "parlance-socketio", ..parlance(1) }.flags("--dialect chatgenius");
    // Hears of the presence of everybody it shares a room with, here 99 people: no peer has that.
    let famly = Run { name: "parlance-famly", ..parlance(1) }.flags("--dialect famly");
    let of_socketio = Measure::Value { of: "parlance-socketio", figure: RESIDENT };
    vec![
        Target {
            number: 8,
            title: "resident memory for each idle connection that has joined three rooms",
            scenario: "idle",
            flags: "--connections 10000 --rooms 3 --seconds 5",
            quick: "--connections 3000 --seconds 2",
            runs: vec![parlance(1), socketio, famly, node(1), siox(1), centrifugo(1)],
            goals: vec![
                at_most(value(RESIDENT), 6.0).stretch(2.5).unit("KiB"),
                at_most(of_socketio, 6.0).stretch(2.5).unit("KiB"),
            ],
        },
        Target {
            number: 10,
            title: "CPU time of an idle connection with presence, for each second",
            scenario: "idle",
            flags: "--connections 10000 --rooms 0 --warmup 15 --seconds 50",
            quick: "--connections 3000 --warmup 5 --seconds 30",
            runs: vec![parlance(1), node(1), centrifugo(1)],
            goals: vec![at_most(value("cpu_us_per_connection_second"), 0.8).stretch(0.5).unit("µs")],
        },
    ]
}

fn storms() -> Vec<Target> {
    vec![
        Target {
            number: 9,
            title: "connecting with a verified token and presence written, 400 under way at once",
            scenario: "connect-storm",
            flags: "--connections 10000 --in-flight 400",
            quick: "--connections 4000",
            runs: vec![parlance(1), node(1), siox(1)],
            goals: vec![
                at_most(value("cpu_us_per_connect"), 60.0).stretch(35.0).unit("µs"),
                at_most(value("connect.p99"), 100_000.0).unit("µs"),
                at_least(value("connects_per_second"), 10_000.0).unit("1/s"),
            ],
        },
        Target {
            number: 11,
            title: "resident memory after three waves of connections",
            scenario: "connect-storm",
            // Memory is given back 15 s after a crowd has gone.
            flags: "--connections 10000 --waves 3 --settle 20",
            quick: "--connections 3000",
            runs: vec![parlance(1), node(1), siox(1)],
            goals: vec![
                at_most(value("rss_last_to_first"), 1.3).stretch(1.1),
                at_most(value("rss_empty_to_first"), 0.5),
            ],
        },
    ]
}

fn growth() -> Target {
    let run = |name, nodes| Run { name, ..parlance(nodes) };
    let members = |name, flags, quick| run(name, 2).scenario("fanout").flags(flags).quick(quick);
    let nodes = |name, count| run(name, count).loaded(2).flags("--rooms 100 --members 20 --rate 1000");
    let pairs = |name, flags| run(name, 2).scenario("direct").flags(flags);
    let times = |from, to, times| Measure::Growth { from, to, figure: MESSAGE, times };
    Target {
        number: 12,
        title: "how CPU time for each message grows: with members, with nodes that are not concerned, with conversations",
        scenario: "rooms",
        flags: "--dialect sechat --cross --warmup 2 --seconds 8",
        quick: "--warmup 1 --seconds 4",
        runs: vec![
            members("members-1k", "--members 1000 --rate 2", "--members 500"),
            members("members-10k", "--members 10000 --rate 2", "--members 5000"),
            nodes("nodes-2", 2),
            nodes("nodes-8", 8),
            pairs("pairs-10", "--pairs 10 --no-receipts --rate 2000"),
            pairs("pairs-4k", "--pairs 4000 --no-receipts --rate 2000"),
        ],
        goals: vec![
            at_most(times("members-1k", "members-10k", 10.0), 1.2).stretch(1.15),
            at_most(times("nodes-2", "nodes-8", 4.0), 0.05).stretch(0.0),
            at_most(times("pairs-10", "pairs-4k", 400.0), 0.05).stretch(0.02),
        ],
    }
}
