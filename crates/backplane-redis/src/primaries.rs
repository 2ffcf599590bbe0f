//! Greets every primary once: it gets the functions, and its settings are looked at.
//!
//! Owns: that this happens at start, and again for every primary that comes later. Must not know: commands, keys.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use parlance_backplane::Fault;

use crate::checks::{self, Demands};
use crate::durable::Socket;
use crate::engine::Options;
use crate::library::Library;
use crate::link::LinkFault;
use crate::times::Times;
use crate::topology::{Address, Topology};

/// Between two attempts to greet one that does not answer.
const PAUSE: Duration = Duration::from_secs(1);

/// With why it must be refused, if it must.
type Answered = Vec<(Address, Option<String>)>;
type Missed = Vec<(Address, LinkFault)>;

/// What a greeting consists of.
pub struct Greeter {
    library: Arc<Library>,
    topology: Topology,
    demands: Demands,
    patience: Duration,
    known: BTreeSet<Address>,
    /// Those that did not answer, as was said.
    missed: BTreeSet<Address>,
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
            missed: BTreeSet::new(),
            keeps: AtomicBool::new(true),
        }
    }

    /// Greets all there are. Those that do not answer are greeted when they do, as long as one does.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] when none answers in time, or one that answers cannot keep what the ack level promises.
    pub async fn all(&mut self, times: Times) -> Result<(), Fault> {
        let mut attempts = times.attempts();
        let (greeted, missed) = loop {
            match self.round().await {
                Ok(round) => break round,
                Err(fault) => attempts.again(fault).await?,
            }
        };
        for (address, refused) in greeted {
            if let Some(why) = refused {
                return Err(Fault::Unavailable(format!("Redis at {address}: {why}")));
            }
            self.known.insert(address);
        }
        for (address, fault) in missed {
            self.miss(address, &fault);
        }
        Ok(())
    }

    /// What an acknowledged message survives, as far as was seen.
    pub fn survives(&self) -> String {
        checks::survives(self.demands, self.keeps.load(Ordering::Relaxed))
    }

    /// Greets all at the same time: who answered, with why it must be refused if it must, and who did not.
    ///
    /// # Errors
    /// As one did not answer, when none did.
    async fn round(&self) -> Result<(Answered, Missed), LinkFault> {
        let layout = self.topology.layout();
        let greeted =
            layout.primaries().into_iter().map(async |it| (it.clone(), self.greet(it, false).await));
        let (mut answered, mut missed) = (Answered::new(), Missed::new());
        for (address, greeted) in join_all(greeted).await {
            match greeted {
                Ok(refused) => answered.push((address, refused)),
                Err(fault) => missed.push((address, fault)),
            }
        }
        if answered.is_empty() {
            // It may be that another server is primary by now.
            self.topology.doubt();
            let nobody = || LinkFault::Failed("Redis: no server has any slot".to_owned());
            return Err(missed.pop().map_or_else(nobody, |(_, fault)| fault));
        }
        Ok((answered, missed))
    }

    /// Says once of each that it does not answer.
    fn miss(&mut self, address: Address, fault: &LinkFault) {
        if self.missed.insert(address.clone()) {
            tracing::warn!(
                %address,
                ?fault,
                "A PRIMARY OF REDIS DOES NOT ANSWER: what is kept there cannot be used, its settings were not checked \
                 and it was not given the functions; that is done when it answers"
            );
        }
    }

    /// Greets those that come later, for ever. Nobody can be refused any more: what speaks against one is said.
    pub async fn newcomers(mut self) {
        let mut layouts = self.topology.watch();
        loop {
            let layout = layouts.borrow_and_update().clone();
            let current = layout.primaries();
            // One that went and comes again may have lost everything.
            self.known.retain(|address| current.contains(&address));
            self.missed.retain(|address| current.contains(&address));
            let new: Vec<&Address> =
                current.into_iter().filter(|address| !self.known.contains(*address)).collect();
            let greeted = join_all(new.iter().map(async |address| self.greet(address, true).await)).await;
            let mut all = true;
            for (address, greeted) in new.into_iter().cloned().zip(greeted) {
                match greeted {
                    Ok(refused) => self.welcome(address, refused),
                    Err(fault) => {
                        self.miss(address, &fault);
                        all = false;
                    }
                }
            }
            let changed = layouts.changed();
            match all {
                false => drop(tokio::time::timeout(PAUSE, changed).await),
                // Whoever could change it is gone.
                true if changed.await.is_err() => return,
                true => {}
            }
        }
    }

    fn welcome(&mut self, address: Address, refused: Option<String>) {
        if let Some(why) = refused {
            tracing::error!(%address, "{why}");
        } else if self.missed.remove(&address) {
            tracing::info!(%address, "the primary of Redis answers now and has the functions");
        }
        self.known.insert(address);
    }

    /// Why this one must be refused, if it must. `anyway`: it is used all the same and gets the functions: one that was
    /// started again has no replica for its first moments.
    async fn greet(&self, address: &Address, anyway: bool) -> Result<Option<String>, LinkFault> {
        let greet = async {
            let mut server = Socket::open(self.topology.dialer(), address)
                .await
                .map_err(|error| LinkFault::Failed(format!("Redis at {address}: {error}")))?;
            let findings = checks::inspect(&mut server, self.demands).await?;
            if findings.refused.is_some() && !anyway {
                return Ok(findings.refused);
            }
            self.keeps.fetch_and(findings.keeps, Ordering::Relaxed);
            for complaint in findings.complaints {
                tracing::warn!(%address, "{complaint}");
            }
            self.library.ensure(&mut server).await.map(|()| findings.refused)
        };
        match tokio::time::timeout(self.patience, greet).await {
            Ok(greeted) => greeted,
            Err(_) => Err(LinkFault::Failed(format!("Redis at {address}: no answer in time"))),
        }
    }
}
