//! What joining must keep, whatever is joined.
//!
//! Owns: the properties of joining. Must not know: how it is done.

use hdrhistogram::Histogram;
use proptest::collection::vec;
use proptest::prelude::*;

use super::join;
use crate::outcome::{Better, Checks, Join, Outcome, sample};

/// Parts of one run: what each could find, but with one that watches.
#[derive(Clone, Debug)]
struct Found {
    values: [f64; 3],
    latencies: Vec<u64>,
    points: Vec<(f64, f64)>,
    counts: [u64; 4],
    errors: Vec<(String, u64)>,
    seconds: f64,
}

fn found() -> impl Strategy<Value = Found> {
    (
        [0.0..1e6, 0.0..1e6, 0.0..1e6],
        vec(1_u64..100_000_000, 0..40),
        vec((0.0..20.0, -1e3..1e3), 0..20),
        [0_u64..1000, 0..1000, 0..1000, 0..1000],
        vec(("[a-c]", 0_u64..9), 0..3),
        0.1..100.0,
    )
        .prop_map(|(values, latencies, points, counts, errors, seconds)| Found {
            values,
            latencies,
            points,
            counts,
            errors,
            seconds,
        })
}

fn outcome(found: &Found, watches: bool) -> Outcome {
    let sample = sample::outcome();
    let mut outcome = Outcome::new(&sample.scenario, sample.target.clone());
    outcome.started = format!("2026-01-02T03:04:0{}Z", found.counts[0] % 10);
    outcome.seconds = found.seconds;
    outcome.setting("members", 10);
    if watches {
        outcome.servers = sample.servers;
    }
    let [sum, max, mean] = found.values;
    outcome
        .figure("sum", sum, "1/s", Better::Higher, Join::Sum)
        .figure("max", max, "s", Better::Lower, Join::Max)
        .figure("mean", mean, "", Better::None, Join::Mean)
        .cost("cost", "sum")
        .memory("memory", "sum");
    let mut histogram = Histogram::<u64>::new(3).unwrap();
    for latency in &found.latencies {
        histogram.record(*latency).unwrap();
    }
    outcome.times("delivery", &histogram).unwrap();
    outcome.series("rate", "1/s", Join::Sum, found.points.clone());
    outcome.series("share", "%", Join::Mean, found.points.clone());
    let [sent, acked, lost, doubled] = found.counts;
    let errors = found.errors.iter().cloned().collect();
    outcome.check(&Checks { sent, acked, lost, doubled, errors, ..Checks::default() });
    if found.counts[1].is_multiple_of(2) {
        outcome.warn(format!("warning {}", found.counts[1] % 5));
    }
    outcome
}

/// The parts of one run and the same in another order.
fn shuffled() -> impl Strategy<Value = (Vec<Outcome>, Vec<Outcome>)> {
    vec(found(), 1..6).prop_flat_map(|all| {
        let parts: Vec<Outcome> =
            all.iter().enumerate().map(|(part, found)| outcome(found, part == 0)).collect();
        (Just(parts.clone()), Just(parts).prop_shuffle())
    })
}

fn near(one: f64, two: f64) -> bool {
    (one - two).abs() <= 1e-9 * one.abs().max(two.abs()).max(1.0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_order_of_the_parts_does_not_matter((parts, shuffled) in shuffled()) {
        prop_assert_eq!(join(&parts).unwrap(), join(&shuffled).unwrap());
    }

    #[test]
    fn joining_one_is_that_one(found in found(), watches in any::<bool>()) {
        let part = outcome(&found, watches);
        prop_assert_eq!(join(std::slice::from_ref(&part)).unwrap(), part);
    }

    #[test]
    fn what_was_joined_can_be_joined_on(parts in vec(found(), 2..6), at in 1_usize..5) {
        let parts: Vec<Outcome> =
            parts.iter().enumerate().map(|(part, found)| outcome(found, part == 0)).collect();
        let (one, two) = parts.split_at(at.min(parts.len() - 1));
        let (at_once, in_steps) =
            (join(&parts).unwrap(), join(&[join(one).unwrap(), join(two).unwrap()]).unwrap());
        prop_assert_eq!(&at_once.times, &in_steps.times);
        prop_assert_eq!(&at_once.checks, &in_steps.checks);
        prop_assert_eq!(at_once.parts, in_steps.parts);
        prop_assert_eq!(&at_once.warnings, &in_steps.warnings);
        for (name, figure) in &at_once.figures {
            prop_assert!(near(figure.value, in_steps.figures[name].value), "{}", name);
        }
    }

    #[test]
    fn nothing_timed_is_lost_and_percentiles_are_of_all(parts in vec(found(), 1..6)) {
        let all: Vec<Outcome> = parts.iter().map(|found| outcome(found, false)).collect();
        let joined = join(&all).unwrap();
        let mut latencies: Vec<u64> = parts.iter().flat_map(|part| part.latencies.clone()).collect();
        latencies.sort_unstable();
        let times = &joined.times["delivery"];
        prop_assert_eq!(times.count, latencies.len() as u64);
        if let (Some(least), Some(most)) = (latencies.first(), latencies.last()) {
            let median = latencies[(latencies.len() - 1) / 2];
            for (found, real) in [(times.min, *least), (times.max, *most), (times.p50, median)] {
                prop_assert!(found.abs_diff(real) as f64 <= 0.002 * real as f64 + 1.0, "{} {}", found, real);
            }
        }
    }
}

#[test]
fn cost_and_memory_are_of_all_operations() {
    let mut one = sample::outcome();
    one.memory("memory", "deliveries");
    let mut two = one.clone();
    two.servers.clear();
    two.figures.remove("cpu_us_per_delivery");
    two.figures.remove("memory");
    let joined = join(&[two, one.clone()]).unwrap();
    assert_eq!(joined.servers, one.servers);
    let half = |name: &str| near(joined.figures[name].value, one.figures[name].value / 2.0);
    assert!(half("cpu_us_per_delivery") && half("memory"), "{:?}", joined.figures);
}

#[test]
fn series_add_up_second_by_second() {
    let (mut one, mut two) = (sample::outcome(), sample::outcome());
    one.series = Vec::new();
    two.series = Vec::new();
    one.series("rate", "1/s", Join::Sum, vec![(1.02, 10.0), (1.97, 20.0), (2.1, 40.0)]);
    two.series("rate", "1/s", Join::Sum, vec![(0.9, 1.0), (2.4, 2.0), (3.0, 7.0)]);
    let joined = join(&[one, two]).unwrap();
    assert_eq!(joined.series[0].points, [(1.0, 11.0), (2.0, 32.0), (3.0, 7.0)]);
}

#[test]
fn means_weigh_the_processes_behind_them() {
    let with = |value: f64| {
        let mut outcome = sample::outcome();
        outcome.figure("mean", value, "", Better::None, Join::Mean);
        outcome
    };
    let pair = join(&[with(1.0), with(1.0)]).unwrap();
    let joined = join(&[pair, with(4.0)]).unwrap();
    assert!(near(joined.figures["mean"].value, 2.0));
    assert_eq!(joined.parts, 3);
}

#[test]
fn what_is_not_of_one_run_is_refused() {
    let refused = |change: fn(&mut Outcome)| {
        let (one, mut two) = (sample::outcome(), sample::outcome());
        change(&mut two);
        join(&[one, two]).unwrap_err().to_string()
    };
    assert!(join(&[]).is_err());
    assert!(refused(|it| "rooms".clone_into(&mut it.scenario)).contains("fanout and rooms"));
    assert!(refused(|it| "after".clone_into(&mut it.label)).contains("labels"));
    assert!(refused(|it| it.target.nodes.clear()).contains("targets"));
    assert!(
        refused(|it| {
            it.setting("members", 5);
        })
        .contains("members differs: 1000 and 5")
    );
    assert!(refused(|it| drop(it.settings.remove("bytes"))).contains("bytes differs: 200 and not set"));
    assert!(
        refused(|it| "s".clone_into(&mut it.figures.get_mut("deliveries").unwrap().unit)).contains("unit")
    );
    assert!(
        refused(|it| "%%%".clone_into(&mut it.times.get_mut("delivery").unwrap().encoded))
            .contains("delivery")
    );
}
