//! Whether the engines are one: the same random commands on the Embedded engine and on Redis, told the same time, give
//! equal answers and equal publications. `PARLANCE_DIFFERENTIAL_TRACES` runs more traces than usual,
//! `PARLANCE_DIFFERENTIAL_SEED` begins with another one.

mod traces;

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use parlance_redis_rig::{Kind, Server, Setup};
use tokio::task::JoinSet;
use traces::{Difference, run};

/// Traces of an ordinary run, of some hundred steps each.
const TRACES: u64 = 335;
/// Traces at a time on the one server.
const AT_ONCE: usize = 8;
/// Differences told of at most.
const ENOUGH: usize = 4;
/// Seeds that once showed a difference, with what was wrong.
const CORPUS: &str = include_str!("seeds.txt");

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().map_or(otherwise, |text| text.parse().expect("a number"))
}

fn corpus() -> Vec<u64> {
    let lines = CORPUS.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    lines.map(|line| line.split_whitespace().next().unwrap().parse().expect("a seed")).collect()
}

/// Runs the seeds, several at a time, until some differences are found; how many steps there were.
async fn run_all(seeds: Vec<u64>) -> (usize, Vec<Difference>) {
    let setup = Setup::new(Kind::Plain).set("appendonly", "no").set("save", "\"\"");
    let server = Arc::new(Server::start(setup).await.unwrap());
    let found = Arc::new(Mutex::new((0, Vec::new())));
    let seeds = Arc::new(Mutex::new(VecDeque::from(seeds)));
    let mut workers = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (server, seeds, found) = (server.clone(), seeds.clone(), found.clone());
        workers.spawn(async move {
            loop {
                let Some(seed) = seeds.lock().pop_front() else { break };
                let outcome = run(&server, seed).await;
                let mut found = found.lock();
                match outcome {
                    Ok(steps) => found.0 += steps,
                    Err(difference) => found.1.push(*difference),
                }
                if found.1.len() >= ENOUGH {
                    break;
                }
            }
        });
    }
    while let Some(ended) = workers.join_next().await {
        ended.unwrap();
    }
    let mut found = found.lock();
    std::mem::take(&mut *found)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_engines_answer_and_publish_alike() {
    let (first, count) =
        (number("PARLANCE_DIFFERENTIAL_SEED", 1), number("PARLANCE_DIFFERENTIAL_TRACES", TRACES));
    let began = std::time::Instant::now();
    let mut seeds = corpus();
    seeds.extend(first..first + count);
    let (steps, differences) = run_all(seeds).await;
    println!("{steps} steps in {:?}", began.elapsed());
    let told: Vec<String> = differences.iter().map(ToString::to_string).collect();
    assert!(told.is_empty(), "{}", told.join("\n"));
}
