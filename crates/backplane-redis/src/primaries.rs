//! Greets every primary once: it gets the functions, and its settings are looked at.
//!
//! Owns: that this happens at start, and again for every primary that comes later. Must not know: commands, keys.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parlance_backplane::Fault;

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
}

impl Greeter {
    /// Greets with these functions, and asks what the options ask.
    pub fn new(options: &Options, topology: &Topology, library: &Arc<Library>) -> Self {
        let demands = Demands { level: options.ack_level, replicas: options.replicas.count };
        Self { library: library.clone(), topology: topology.clone(), demands, patience: options.patience }
    }

    /// Greets all there are.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] when one does not answer, or cannot keep what the ack level promises.
    pub async fn all(&self) -> Result<(), Fault> {
        for address in self.topology.layout().primaries() {
            if let Some(why) = self.greet(address).await? {
                return Err(Fault::Unavailable(format!("Redis at {address}: {why}")));
            }
        }
        Ok(())
    }

    /// Greets those that come later, for ever. Nobody can be refused any more: what speaks against one is said.
    pub async fn newcomers(self) {
        let mut known: BTreeSet<Address> = self.topology.layout().primaries().into_iter().cloned().collect();
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
