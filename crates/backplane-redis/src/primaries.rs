//! Greets every primary once: it gets the functions, and its settings are looked at.
//!
//! Owns: that this happens at start, and again for every primary that comes later. Must not know: commands, keys.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parlance_backplane::{AckLevel, Fault};

use crate::checks::{self, Demands};
use crate::durable::Socket;
use crate::engine::Options;
use crate::library::Library;
use crate::link::LinkFault;
use crate::topology::{Address, Topology};

/// Between two attempts to greet one that does not answer.
const PAUSE: Duration = Duration::from_secs(1);

/// What a greeting consists of.
pub struct Greeter {
    library: Arc<Library>,
    topology: Topology,
    demands: Demands,
    patience: Duration,
    known: BTreeSet<Address>,
    /// All that were greeted have an append-only file.
    keeps: AtomicBool,
}

impl Greeter {
    /// Greets with these functions, and asks what the options ask.
    pub fn new(options: &Options, topology: &Topology, library: &Arc<Library>) -> Self {
        let demands = Demands { level: options.ack_level, replicas: options.replicas.count };
        Self {
            library: library.clone(),
            topology: topology.clone(),
            demands,
            patience: options.patience,
            known: BTreeSet::new(),
            keeps: AtomicBool::new(true),
        }
    }

    /// Greets all there are. One that does not answer is greeted later, unless the ack level has to be sure of it.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] when none answers, or one cannot keep what the ack level promises.
    pub async fn all(&mut self) -> Result<(), Fault> {
        let mut fault = LinkFault::Failed("Redis: no server has any slot".to_owned());
        for address in self.topology.layout().primaries() {
            match self.greet(address).await {
                Ok(None) => drop(self.known.insert(address.clone())),
                Ok(Some(why)) => return Err(Fault::Unavailable(format!("Redis at {address}: {why}"))),
                Err(error) if self.demands.level == AckLevel::Redis => {
                    tracing::warn!(%address, ?error, "a primary of Redis does not answer");
                    fault = error;
                }
                Err(error) => return Err(error.into()),
            }
        }
        if self.known.is_empty() { Err(fault.into()) } else { Ok(()) }
    }

    /// What an acknowledged message survives, as far as was seen.
    pub fn survives(&self) -> String {
        checks::survives(self.demands, self.keeps.load(Ordering::Relaxed))
    }

    /// Greets those that come later, for ever. Nobody can be refused any more: what speaks against one is said.
    pub async fn newcomers(self) {
        let mut known = self.known.clone();
        let mut layouts = self.topology.watch();
        loop {
            let layout = self.topology.layout();
            // One that went and comes again may have lost everything.
            known.retain(|address| layout.primaries().contains(&address));
            let mut missed = false;
            for address in layout.primaries() {
                if known.contains(address) {
                    continue;
                }
                match self.greet(address).await {
                    Ok(refused) => {
                        if let Some(why) = refused {
                            tracing::error!(%address, "{why}");
                        }
                        known.insert(address.clone());
                    }
                    Err(fault) => {
                        tracing::warn!(%address, ?fault, "a new primary does not answer");
                        missed = true;
                    }
                }
            }
            let changed = layouts.changed();
            match missed {
                true => drop(tokio::time::timeout(PAUSE, changed).await),
                // Whoever could change it is gone.
                false if changed.await.is_err() => return,
                false => {}
            }
        }
    }

    /// Why this one must be refused, if it must.
    async fn greet(&self, address: &Address) -> Result<Option<String>, LinkFault> {
        let greet = async {
            let mut server = Socket::open(self.topology.dialer(), address)
                .await
                .map_err(|error| LinkFault::Failed(format!("Redis at {address}: {error}")))?;
            let findings = checks::inspect(&mut server, self.demands).await?;
            if findings.refused.is_some() {
                return Ok(findings.refused);
            }
            self.keeps.fetch_and(findings.keeps, Ordering::Relaxed);
            for complaint in findings.complaints {
                tracing::warn!(%address, "{complaint}");
            }
            self.library.ensure(&mut server).await.map(|()| None)
        };
        match tokio::time::timeout(self.patience, greet).await {
            Ok(greeted) => greeted,
            Err(_) => Err(LinkFault::Failed(format!("Redis at {address}: no answer in time"))),
        }
    }
}
