//! A Redis of somebody else's: no engine on it, only scripts that run there.
//!
//! Owns: that one gets there as the engine does, whatever kind of Redis it is. Must not know: what the scripts do.

use std::sync::Arc;
use std::time::Duration;

use parlance_backplane::Fault;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::access::Access;
use crate::link::{Primary, Reply, Routed, Run};
use crate::times::Times;
use crate::topology::{self, Dialer, Place};

/// A script, by hash and by text.
#[derive(Debug, Clone)]
pub struct Script {
    text: &'static str,
    hash: String,
}

impl Script {
    /// From its text.
    pub fn new(text: &'static str) -> Self {
        use sha1::{Digest as _, Sha1};
        let digest = Sha1::digest(text.as_bytes());
        Self { text, hash: digest.iter().map(|byte| format!("{byte:02x}")).collect() }
    }
}

/// The way there; ends when it is dropped.
pub struct Scripts {
    link: Arc<Routed>,
    tasks: TaskTracker,
    stop: CancellationToken,
    _ended: DropGuard,
}

impl Scripts {
    /// Connects, to any of the addresses that [`crate::Options::url`] may be; `patience`: how long a command may take.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] when nobody answers there in time, or the address is none.
    pub async fn connect(url: &str, access: &Access, patience: Duration) -> Result<Self, Fault> {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let ended = stop.clone().drop_guard();
        let times = Times { patience, until: Instant::now() + patience };
        let (place, logins) = Place::parse(url)?;
        let dialer = Dialer::new(place.speaks_tls(), logins, access)?;
        let topology = topology::start(place, dialer, times, &tasks, &stop).await?;
        let link = Routed::start(&topology, times, &tasks, &stop).await?;
        tasks.close();
        Ok(Self { link, tasks, stop, _ended: ended })
    }

    /// Runs one at the primary of the keys, which have to be of one slot.
    ///
    /// # Errors
    /// [`Fault::Unavailable`]; whether it ran is not known then.
    pub async fn run(&self, script: &Script, keys: &[String], args: &[&[u8]]) -> Result<Reply, Fault> {
        let key = keys.first().map_or("", String::as_str);
        let work = |primary: Arc<Primary>| async move {
            match primary.link.run(Run::Script(&script.hash), keys, args).await {
                Err(crate::link::LinkFault::NoScript) => {
                    primary.link.run(Run::Text(script.text), keys, args).await
                }
                answer => answer,
            }
        };
        Ok(self.link.at(key, work).await?)
    }

    /// Ends the connections.
    pub async fn close(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
        self.link.close().await;
    }
}

/// Checks an address without opening anything.
///
/// # Errors
/// [`Fault::Unavailable`] that says what is wrong with it.
pub fn check_address(url: &str) -> Result<(), Fault> {
    Place::parse(url).map(drop)
}
