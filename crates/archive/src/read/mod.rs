//! Reading on in the archive where a conversation's log was trimmed.
//!
//! Owns: the log as callers see it, whole from either place. Must not know: who asks, how an answer is spelt.

mod breaker;
mod life;
mod merge;
#[cfg(test)]
mod model;
mod pool;
mod query;
mod through;

use std::sync::Arc;
use std::time::Duration;

use parlance_backplane::Backplane;

use pool::Pool;
pub use pool::{Asked, Watch};
use through::{Standing, Through, View};

use crate::Address;

/// How it is done.
pub struct Reading {
    /// From where.
    pub address: Address,
    /// Connections at most.
    pub connections: usize,
    /// Who counts.
    pub watch: Arc<dyn Watch>,
}

/// What whoever reads history waits at most.
const PATIENCE: Duration = Duration::from_secs(3);
/// What a client that catches up waits at most: it is told of the gap then, and goes on.
const HASTE: Duration = Duration::from_secs(1);

/// Has conversations' logs read on in the archive. Nothing is opened before somebody needs it.
#[must_use]
pub fn through(backplane: Backplane, reading: Reading) -> Backplane {
    let pool = Arc::new(Pool::new(reading));
    let (log, fences) = (backplane.log.clone(), backplane.fences.clone());
    let view =
        |view| Arc::new(Through { log: log.clone(), fences: fences.clone(), pool: pool.clone(), view });
    let strict = view(View { patience: PATIENCE, strict: true });
    let reactions = Standing { engine: backplane.reactions.clone(), through: strict.clone() };
    Backplane {
        log: view(View { patience: HASTE, strict: false }),
        history: strict,
        reactions: Arc::new(reactions),
        ..backplane
    }
}
