//! Whether a Redis is set up so that what is acknowledged is kept: said at start, loudly, and then it is the
//! operator's to decide. Must not know: what is kept there.

use crate::link::{LinkFault, RedisLink};

/// Says in the log what is wrong with the server's settings.
pub async fn complain(link: &dyn RedisLink) -> Result<(), LinkFault> {
    let mut info = String::new();
    for section in ["persistence", "memory"] {
        info.push_str(&link.info(section).await?);
    }
    for complaint in complaints(&info) {
        tracing::warn!("{complaint}");
    }
    Ok(())
}

fn complaints(info: &str) -> Vec<&'static str> {
    let is = |line: &str| info.lines().any(|said| said == line);
    let mut all = Vec::new();
    if !is("aof_enabled:1") {
        all.push("ACKNOWLEDGED MESSAGES DO NOT SURVIVE REDIS: set appendonly yes");
    }
    if !is("maxmemory_policy:noeviction") {
        all.push("REDIS MAY DROP MESSAGES TO SAVE MEMORY: set maxmemory-policy noeviction");
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redis_that_forgets_is_complained_about() {
        let good = "# Persistence\r\naof_enabled:1\r\n# Memory\r\nmaxmemory_policy:noeviction\r\n";
        assert!(complaints(good).is_empty());
        assert_eq!(complaints(&good.replace(":1", ":0")).len(), 1);
        assert_eq!(complaints(&good.replace("noeviction", "allkeys-lru")).len(), 1);
    }
}
