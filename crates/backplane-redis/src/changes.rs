//! Counters of changes: whether anything happened to any log of a kind in a partition, in one number.
//!
//! The counting is `save_log`'s in `00_common.lua`. Must not know: what happened, who asks why.

use std::sync::atomic::Ordering;

use futures_util::future::join_all;
use parlance_backplane::Fault;
use parlance_model::LogKey;

use crate::engine::Node;
use crate::keys::{PARTITIONS, log_partition};
use crate::link::Reply;

/// Kinds of logs: one changes often where another is quiet.
const KINDS: [&str; 3] = ["c", "u", "a"];
/// Counters asked for in one command at most.
const CHUNK: usize = 256;

/// The group of a log: its partition and its kind.
pub fn group(log: &LogKey) -> Option<u32> {
    let kind = match log {
        LogKey::Conversation(_) => 0,
        LogKey::User(_) => 1,
        LogKey::App(_) => 2,
    };
    u32::try_from(log_partition(log) * KINDS.len() + kind).ok()
}

fn stamp(told: &Reply) -> Option<u64> {
    match told {
        // Nothing ever changed there; or it did, and was lost.
        Reply::Nil => Some(0),
        told => told.number().ok(),
    }
}

impl Node {
    fn counter_of(&self, group: u32) -> String {
        let group = usize::try_from(group).unwrap_or_default();
        let kind = KINDS.get(group % KINDS.len()).copied().unwrap_or_default();
        self.keys.changes(group / KINDS.len() % PARTITIONS, kind)
    }

    /// The counters of these groups; those that cannot be read are not known.
    pub async fn stamps_of(&self, groups: &[u32]) -> Vec<Option<u64>> {
        let keys: Vec<String> = groups.iter().map(|group| self.counter_of(*group)).collect();
        if self.together.load(Ordering::Relaxed) {
            let all = join_all(keys.chunks(CHUNK).map(|keys| self.several(keys))).await;
            return all.into_iter().flatten().collect();
        }
        let one = async |key: &String| {
            self.plain("GET", &[key.as_bytes()]).await.ok().and_then(|told| stamp(&told))
        };
        join_all(keys.iter().map(one)).await
    }

    async fn several(&self, keys: &[String]) -> Vec<Option<u64>> {
        let words: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
        let told: Result<Vec<Reply>, Fault> = async { self.plain("MGET", &words).await?.list() }.await;
        match told {
            Ok(told) => told.iter().map(stamp).collect(),
            Err(fault) => {
                // One by one the next time, if this is why.
                self.turns_out_apart(&fault);
                tracing::debug!(%fault, "counters of changes");
                vec![None; keys.len()]
            }
        }
    }
}
