//! Where things lie in a Cluster, and what is away while one of its primaries is.
//!
//! Must not know: clients, verdicts.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use parlance_redis_rig::Cluster;
use xxhash_rust::xxh3::xxh3_64;

/// The primary that has what is kept under this name.
///
/// # Errors
/// When nobody says it.
pub async fn lies_on(cluster: &Cluster, name: &str) -> Result<usize> {
    let slot = u16::try_from(xxh3_64(name.as_bytes()) % 256 * 64 + 32)?;
    cluster.primary_of_slot(slot).await
}

/// What a user's sessions ask for.
pub fn names_of(user: &str) -> [String; 3] {
    [format!("u:{user}"), format!("revoked:user:{user}"), format!("told:sechat:{user}")]
}

/// A primary without what every node and every login needs.
///
/// # Errors
/// When every one has some of it.
pub async fn victim(cluster: &Cluster) -> Result<usize> {
    let mut needed = vec![cluster.primary_of_slot(32).await?];
    for name in ["revoked:all", "maintenance", "a:~orders"] {
        needed.push(lies_on(cluster, name).await?);
    }
    let primaries = cluster.primaries().await?;
    primaries.into_iter().find(|it| !needed.contains(it)).context("every primary is needed")
}

/// Conversations and users of which something lies on this primary.
///
/// # Errors
/// When nobody says where something lies.
pub async fn away(
    cluster: &Cluster,
    primary: usize,
    members: &BTreeMap<String, Vec<String>>,
) -> Result<(Vec<String>, Vec<String>)> {
    let (mut conversations, mut users) = (Vec::new(), Vec::new());
    for id in members.keys() {
        if lies_on(cluster, &format!("c:{id}")).await? == primary {
            conversations.push(id.clone());
        }
    }
    let mut everybody: Vec<&String> = members.values().flatten().collect();
    everybody.sort();
    everybody.dedup();
    for user in everybody {
        for name in names_of(user) {
            if lies_on(cluster, &name).await? == primary {
                users.push(user.clone());
                break;
            }
        }
    }
    Ok((conversations, users))
}
