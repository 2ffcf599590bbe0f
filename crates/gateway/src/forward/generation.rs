//! Since when there are nodes of this one's generation: whose is younger is the newer one.
//!
//! Kept in the backplane as long as one of them lives, and a little longer. Not the time a node started: one that crashes in the middle of
//! a rollout comes back into the old generation. Gone with its nodes: who rolls back to a generation of before begins it anew.

use std::sync::atomic::Ordering;
use std::time::Duration;

use parlance_backplane::Fault;

use crate::node::Node;

/// So many of a node's beats from one look to the next.
pub const BEATS: u32 = 5;
/// How long it is kept after the last look of a node.
const LIFE: Duration = Duration::from_secs(60);

/// Finds out since when, or begins it, and keeps it.
///
/// # Errors
/// When the backplane is away: what was known before holds.
pub async fn learn(node: &Node) -> Result<(), Fault> {
    let config = node.config.load_full();
    let name = config.drain.generation.as_str();
    if name.is_empty() {
        node.generation.store(0, Ordering::Relaxed);
        return Ok(());
    }
    let key = format!("generation:{name}");
    let now = node.clock.now().millis().to_string().into_bytes();
    let shared = &node.backplane.shared;
    let kept = shared.load_or_save(&key, now.clone(), Some(LIFE)).await?;
    if let Some(kept) = &kept {
        shared.save(&key, kept.clone(), Some(LIFE)).await?;
    }
    let since = String::from_utf8(kept.unwrap_or(now)).ok().and_then(|since| since.parse().ok());
    let since = since.ok_or_else(|| Fault::Corrupt(format!("{key} is no time")))?;
    node.generation.store(since, Ordering::Relaxed);
    Ok(())
}
