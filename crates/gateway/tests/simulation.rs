//! Several nodes in one simulated world: the real feed, hub, background work, joining and commands of each, over one
//! engine and a bus that lose, delay and double what they carry, while nodes crash between any two of their calls.
//! Time is simulated too: a run of some minutes takes a moment, and a seed always gives the same run.
//!
//! `PARLANCE_SIMULATION_SEEDS` runs more seeds than usual, `PARLANCE_SIMULATION_FROM` begins with another one,
//! `PARLANCE_SIMULATION_TRACE` writes the whole diary of the first one.

#[path = "simulation/breaks.rs"]
mod breaks;
#[path = "simulation/bus.rs"]
mod bus;
#[path = "simulation/checks.rs"]
mod checks;
#[path = "simulation/diary.rs"]
mod diary;
#[path = "simulation/engine.rs"]
mod engine;
#[path = "simulation/fate.rs"]
mod fate;
#[path = "simulation/person.rs"]
mod person;
#[path = "simulation/random.rs"]
mod random;
#[path = "simulation/world.rs"]
mod world;

use std::collections::VecDeque;
use std::sync::Mutex;

/// Seeds of an ordinary run, besides those of the corpus.
const SEEDS: u64 = 150;
/// Seeds that once showed something wrong, with what it was.
const CORPUS: &str = include_str!("simulation/seeds.txt");
/// Failures told of at most.
const ENOUGH: usize = 3;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().map_or(otherwise, |text| text.parse().expect("a number"))
}

/// Runs a seed: its trace, and what does not hold.
fn run(seed: u64) -> (String, Vec<String>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let (diary, world) = world::run(seed).await;
        let wrong = checks::all(&world, &diary).await;
        (diary.text, wrong)
    })
}

fn corpus() -> Vec<u64> {
    let lines = CORPUS.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    lines.map(|line| line.split_whitespace().next().unwrap().parse().expect("a seed")).collect()
}

fn run_all(seeds: Vec<u64>) -> Vec<String> {
    let (seeds, failures) = (Mutex::new(VecDeque::from(seeds)), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, |count| count.get()) {
            scope.spawn(|| {
                while failures.lock().unwrap().len() < ENOUGH {
                    let Some(seed) = seeds.lock().unwrap().pop_front() else { break };
                    let (_, wrong) = run(seed);
                    if !wrong.is_empty() {
                        failures.lock().unwrap().push(format!("seed {seed}:\n    {}", wrong.join("\n    ")));
                    }
                }
            });
        }
    });
    failures.into_inner().unwrap()
}

#[test]
fn whatever_befalls_the_nodes_the_promises_hold() {
    let (from, count) = (number("PARLANCE_SIMULATION_FROM", 1), number("PARLANCE_SIMULATION_SEEDS", SEEDS));
    if std::env::var_os("PARLANCE_SIMULATION_TRACE").is_some() {
        println!("{}", run(from).0);
    }
    let began = std::time::Instant::now();
    let mut seeds = corpus();
    seeds.extend(from..from + count);
    let ran = seeds.len();
    let failures = run_all(seeds);
    println!("{ran} seeds in {:?}", began.elapsed());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_seed_always_gives_the_same_run() {
    for seed in 1..9 {
        let (one, other) = (run(seed).0, run(seed).0);
        if let Some((line, (a, b))) = one.lines().zip(other.lines()).enumerate().find(|(_, (a, b))| a != b) {
            panic!("seed {seed} gave two different runs, from line {line} on:\n    {a}\n    {b}");
        }
        assert!(one.len() == other.len(), "seed {seed} gave two runs of different length");
    }
}
