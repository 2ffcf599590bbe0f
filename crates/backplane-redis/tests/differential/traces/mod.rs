//! Random traces of commands on two engines at once: the same answers, the same publications.
//!
//! Owns: the traces, what counts as the same, and finding a short trace that shows a difference. Must not know: how
//! either engine works inside.

mod command;
mod generate;
mod invoke;
mod normal;
mod pair;
mod random;

use std::sync::Arc;

use parlance_redis_rig::Server;

pub use command::Step;
pub use generate::Trace;
use pair::Pair;

/// A difference, with the shortest trace found that shows one.
pub struct Difference {
    pub seed: u64,
    pub steps: Vec<Step>,
    pub what: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "seed {}: the engines differ after", self.seed)?;
        for step in &self.steps {
            writeln!(f, "    {step:?}")?;
        }
        write!(f, "{}", self.what)
    }
}

/// Runs a seed's trace; the number of steps when nothing differs.
pub async fn run(server: &Arc<Server>, seed: u64) -> Result<usize, Box<Difference>> {
    let trace = Trace::of(seed);
    match attempt(server, &trace, &trace.steps).await {
        Ok(()) => Ok(trace.steps.len()),
        Err((at, what)) => {
            let steps = trace.steps.iter().take(at + 1).cloned().collect();
            Err(Box::new(shrink(server, &trace, steps, what).await))
        }
    }
}

/// The step at which something differed, and what.
type Failed = (usize, String);

async fn attempt(server: &Arc<Server>, trace: &Trace, steps: &[Step]) -> Result<(), Failed> {
    let mut pair = Pair::start(server, trace).await;
    for (index, step) in steps.iter().enumerate() {
        pair.step(step).await.map_err(|what| (index, what))?;
    }
    pair.settle().await.map_err(|what| (steps.len().saturating_sub(1), what))?;
    pair.close().await;
    Ok(())
}

/// Leaves out what is not needed: halves first, then smaller and smaller pieces.
async fn shrink(server: &Arc<Server>, trace: &Trace, mut steps: Vec<Step>, mut what: String) -> Difference {
    let mut piece = steps.len().div_ceil(2);
    while piece > 0 {
        let mut from = 0;
        while from < steps.len() {
            let mut fewer = steps.clone();
            fewer.drain(from..(from + piece).min(steps.len()));
            match attempt(server, trace, &fewer).await {
                Ok(()) => from += piece,
                Err((at, now)) => {
                    fewer.truncate(at + 1);
                    (steps, what) = (fewer, now);
                }
            }
        }
        piece /= 2;
    }
    Difference { seed: trace.seed, steps, what }
}
