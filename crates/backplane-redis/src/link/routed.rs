//! Commands to whichever primary has the slot of a key.
//!
//! Owns: one link per primary, following redirections, trying again what was not executed. A shard that is away
//! costs the others nothing: each has a connection of its own, and after a second its commands fail at once; one that
//! hangs, after the first command it did not answer in time.
//! Must not know: what is called.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use parking_lot::Mutex;
use parlance_backplane::{Clock, Stats};
use rustc_hash::FxHashMap;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::redirect::Redirect;
use super::wire::{Primary, Wire};
use super::{LinkFault, Pipe, RedisLink, Reply, Way, at};
use crate::keys::slot;
use crate::times::Times;
use crate::topology::{Address, Topology};

/// What was not executed is tried again for so long. A server that is away for longer is not waited for.
const AGAIN: Duration = Duration::from_secs(1);
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(160));
/// Redirections in a row before the layout is given time to settle.
const HOPS: u32 = 3;

/// Links to all primaries. Opened when they are needed, closed when the server is a primary no more.
pub struct Routed {
    topology: Topology,
    patience: Duration,
    wires: Mutex<FxHashMap<Address, Arc<Wire>>>,
    /// Since when nobody has a slot that was asked for, in the layout there is now.
    nobody: Mutex<Option<Instant>>,
    tasks: TaskTracker,
    /// Those of the links. They go on until they are closed: what is under way is finished first.
    lines: TaskTracker,
    stop: CancellationToken,
}

/// Where a command goes next.
enum Aim {
    Owner,
    Named(Address),
    Asked(Address),
}

/// How much patience one command still has.
struct Retry {
    until: Instant,
    pause: Duration,
    hops: u32,
}

impl Retry {
    /// Waits a little; `false`: there is no time left.
    async fn pause(&mut self) -> bool {
        let go_on = Instant::now() + self.pause < self.until;
        if go_on {
            tokio::time::sleep(self.pause).await;
            self.pause = (self.pause * 2).min(PAUSE.1);
        }
        go_on
    }
}

/// Questions to a server what time it is, of which the one that is answered most quickly counts.
const LOOKS: usize = 3;

/// The milliseconds of an answer to `TIME`: seconds and microseconds.
fn server_time(answer: Reply) -> Option<i64> {
    let parts = answer.list().ok()?;
    let (seconds, micros) = (at(&parts, 0).number().ok()?, at(&parts, 1).number().ok()?);
    i64::try_from(seconds * 1000 + micros / 1000).ok()
}

impl Routed {
    /// Connects to every primary, and follows the layout until `stop`. One that does not answer is complained about,
    /// and looked for in the background; if none does, again until `until`.
    ///
    /// # Errors
    /// When none of them answers.
    pub async fn start(
        topology: &Topology,
        times: Times,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<Arc<Self>, LinkFault> {
        let routed = Arc::new(Self {
            topology: topology.clone(),
            patience: times.patience,
            wires: Mutex::default(),
            nobody: Mutex::default(),
            tasks: tasks.clone(),
            lines: TaskTracker::new(),
            stop: stop.clone(),
        });
        let mut attempts = times.attempts();
        while let Err(fault) = routed.connect().await {
            attempts.again(fault).await?;
        }
        let (followed, stop) = (routed.clone(), stop.clone());
        tasks.spawn(async move { stop.run_until_cancelled(followed.follow()).await });
        Ok(routed)
    }

    async fn connect(&self) -> Result<(), LinkFault> {
        let layout = self.topology.layout();
        let opened = join_all(layout.primaries().into_iter().map(async |address| {
            let link = Pipe::connect(&self.way(address), &self.lines).await;
            let wire = link.map(|link| Wire::new(address.clone(), link));
            wire.map(|wire| drop(self.wires.lock().insert(address.clone(), wire)))
        }));
        let mut fault = LinkFault::Away("Redis: no server has any slot".to_owned());
        for opened in opened.await {
            if let Err(error) = opened {
                fault = error;
            }
        }
        if self.wires.lock().is_empty() { Err(fault) } else { Ok(()) }
    }

    /// Opens links to new primaries before they are needed, and closes those to servers that are primaries no more.
    async fn follow(self: Arc<Self>) {
        let mut seen = self.topology.watch();
        while seen.changed().await.is_ok() {
            let layout = seen.borrow_and_update().clone();
            *self.nobody.lock() = None;
            let current = layout.primaries();
            for address in &current {
                drop(self.wire(address));
            }
            let gone: Vec<Arc<Wire>> = {
                let mut wires = self.wires.lock();
                let left: Vec<Address> =
                    wires.keys().filter(|known| !current.contains(known)).cloned().collect();
                left.iter().filter_map(|address| wires.remove(address)).collect()
            };
            join_all(gone.iter().map(|wire| wire.link.close())).await;
            self.topology.stats().keep(|name| current.iter().any(|address| address.to_string() == name));
        }
    }

    fn way<'a>(&'a self, address: &'a Address) -> Way<'a> {
        let (dialer, again) = (self.topology.dialer(), !self.topology.moves());
        Way { address, dialer, patience: self.patience, stats: self.topology.stats_of(address), again }
    }

    fn wire(&self, address: &Address) -> Arc<Wire> {
        let mut wires = self.wires.lock();
        let known = wires.get(address).cloned();
        if let Some(wire) = &known {
            // Whoever answers there next may have been replaced meanwhile without knowing.
            let renew = wire.ended().is_some_and(|since| self.topology.vouches(address, since));
            if !renew {
                return wire.clone();
            }
        }
        let link = Pipe::open(&self.way(address), &self.lines);
        let wire = known
            .map_or_else(|| Wire::new(address.clone(), link.clone()), |it| it.renewed(link.clone(), AGAIN));
        wires.insert(address.clone(), wire.clone());
        wire
    }

    /// Does something at the primary that has the slot of `key`: again where it was not executed, for a second at
    /// most.
    ///
    /// # Errors
    /// The last fault.
    pub async fn at<T, W, F>(&self, key: &str, work: W) -> Result<T, LinkFault>
    where
        W: Fn(Arc<Primary>) -> F,
        F: Future<Output = Result<T, LinkFault>>,
    {
        let slot = slot(key);
        let mut retry = Retry { until: Instant::now() + AGAIN.min(self.patience), pause: PAUSE.0, hops: 0 };
        let mut aim = Aim::Owner;
        loop {
            let (wire, primary) = match self.aimed(&aim, slot) {
                Ok(aimed) => aimed,
                Err(fault) => {
                    self.topology.doubt();
                    // As of a server that is away: who comes later does not wait.
                    let since = *self.nobody.lock().get_or_insert_with(Instant::now);
                    if since.elapsed() < AGAIN && retry.pause().await {
                        continue;
                    }
                    return Err(fault);
                }
            };
            let answer = match wire.usable() {
                Ok(()) => work(primary).await,
                Err(fault) => {
                    self.topology.stats_of(&wire.primary.address).failed(fault.kind());
                    Err(fault)
                }
            };
            let fault = match answer {
                Err(fault) => fault,
                done => {
                    wire.back();
                    return done;
                }
            };
            match self.after(&fault, &wire, &mut retry).await {
                Some(next) => aim = next,
                None => return Err(fault),
            }
        }
    }

    fn aimed(&self, aim: &Aim, slot: u16) -> Result<(Arc<Wire>, Arc<Primary>), LinkFault> {
        match aim {
            Aim::Owner => {
                let layout = self.topology.layout();
                let nobody = || LinkFault::Elsewhere(format!("Redis: no server has slot {slot}"));
                let wire = self.wire(layout.of_slot(slot).ok_or_else(nobody)?);
                Ok((wire.clone(), wire.primary.clone()))
            }
            Aim::Named(address) => {
                let wire = self.wire(address);
                Ok((wire.clone(), wire.primary.clone()))
            }
            Aim::Asked(address) => {
                let wire = self.wire(address);
                let primary = Primary { address: address.clone(), link: Arc::new(wire.link.asking()) };
                Ok((wire, Arc::new(primary)))
            }
        }
    }

    /// Where to go after a fault; `None`: nowhere.
    async fn after(&self, fault: &LinkFault, wire: &Arc<Wire>, retry: &mut Retry) -> Option<Aim> {
        let from = &wire.primary.address;
        if !matches!(fault, LinkFault::Away(_) | LinkFault::Lost(_) | LinkFault::Silent(_)) {
            wire.back();
        }
        let named = |host: &str, port| from.beside(if host.is_empty() { &from.host } else { host }, port);
        match fault {
            LinkFault::Elsewhere(said) => {
                let redirect = Redirect::of(said);
                // A slot on its way is where the layout says it is.
                if !matches!(redirect, Redirect::Ask(..)) {
                    self.topology.doubt();
                }
                retry.hops += 1;
                let settled = retry.hops <= HOPS;
                match redirect {
                    Redirect::Moved(host, port) if settled => Some(Aim::Named(named(&host, port))),
                    Redirect::Ask(host, port) if settled => Some(Aim::Asked(named(&host, port))),
                    _ => retry.pause().await.then_some(Aim::Owner),
                }
            }
            LinkFault::Away(_) => {
                self.topology.doubt();
                // Who comes while the server is long gone does not wait for it; who waited may see its successor.
                let gone = wire.usable().is_err() || wire.away().elapsed() >= AGAIN;
                (!gone && retry.pause().await).then_some(Aim::Owner)
            }
            LinkFault::Lost(_) => {
                self.topology.doubt();
                None
            }
            LinkFault::Silent(_) => {
                self.topology.doubt();
                if wire.fell_silent() {
                    let (wire, stop) = (wire.clone(), self.stop.clone());
                    self.tasks.spawn(async move { stop.run_until_cancelled(wire.mend()).await });
                }
                None
            }
            _ => None,
        }
    }

    /// Publishes on a sharded channel.
    ///
    /// # Errors
    /// As [`Self::at`].
    pub async fn spublish(&self, channel: &str, payload: Bytes) -> Result<(), LinkFault> {
        self.at(channel, |primary| {
            let payload = payload.clone();
            async move { primary.link.spublish(channel, payload).await }
        })
        .await
    }

    /// Does something at every primary there is now.
    async fn everywhere<T, W, F>(&self, work: W) -> Result<Vec<T>, LinkFault>
    where
        W: Fn(Arc<Primary>) -> F,
        F: Future<Output = Result<T, LinkFault>>,
    {
        let layout = self.topology.layout();
        let primaries = layout.primaries();
        if primaries.is_empty() {
            return Err(LinkFault::Away("Redis: there is no primary now".to_owned()));
        }
        let asked = primaries.into_iter().map(async |address| {
            let wire = self.wire(address);
            wire.usable()?;
            work(wire.primary.clone()).await
        });
        join_all(asked).await.into_iter().collect()
    }

    /// The primaries that have these slots, each once.
    ///
    /// # Errors
    /// When nobody has one of them now.
    pub fn owners(&self, slots: impl Iterator<Item = u16>) -> Result<BTreeSet<Address>, LinkFault> {
        let layout = self.topology.layout();
        let nobody = |slot| LinkFault::Elsewhere(format!("Redis: no server has slot {slot}"));
        slots.map(|slot| layout.of_slot(slot).cloned().ok_or_else(|| nobody(slot))).collect()
    }

    /// The way to one primary.
    ///
    /// # Errors
    /// When it is away.
    pub fn to(&self, address: &Address) -> Result<Arc<dyn RedisLink>, LinkFault> {
        let wire = self.wire(address);
        wire.usable()?;
        Ok(wire.primary.link.clone())
    }

    /// Whether all primaries answer.
    ///
    /// # Errors
    /// The fault of one that does not.
    pub async fn ping(&self) -> Result<(), LinkFault> {
        let ping = |primary: Arc<Primary>| async move { primary.link.ping().await };
        self.everywhere(ping).await.map(drop)
    }

    /// A section of what each primary says of itself.
    ///
    /// # Errors
    /// The fault of one that does not answer.
    pub async fn info(&self, section: &str) -> Result<Vec<String>, LinkFault> {
        self.everywhere(|primary| async move { primary.link.info(section).await }).await
    }

    /// What is counted of the servers.
    pub fn stats(&self) -> &Arc<Stats> {
        self.topology.stats()
    }

    /// Asks every primary what time it is. A server that does not answer keeps the difference that is known of it.
    pub async fn compare_clocks(&self, clock: &Clock) {
        let layout = self.topology.layout();
        let compared = layout.primaries().into_iter().map(async |address| {
            let wire = self.wire(address);
            let mut best: Option<(u64, i64)> = None;
            for _ in 0..LOOKS {
                wire.usable().ok()?;
                let before = clock().millis();
                let answer = wire.primary.link.plain("TIME", &[]).await.ok()?;
                let after = clock().millis();
                let took = after.saturating_sub(before);
                // What was quickest is most exact.
                if best.is_none_or(|(least, _)| took < least) {
                    let here = i64::try_from(before + took / 2).unwrap_or(i64::MAX);
                    best = Some((took, server_time(answer)?.saturating_sub(here)));
                }
            }
            best.map(|(_, ahead)| self.topology.stats().clock(&self.topology.stats_of(address), ahead))
        });
        join_all(compared).await;
    }

    /// Ends the connections.
    pub async fn close(&self) {
        let wires: Vec<Arc<Wire>> = self.wires.lock().drain().map(|(_, wire)| wire).collect();
        join_all(wires.iter().map(|wire| wire.link.close())).await;
        self.lines.close();
        self.lines.wait().await;
    }
}
