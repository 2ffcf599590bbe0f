//! What a cluster looks like, by its own account.
//!
//! Any node may be asked, but not every node knows: one that is cut off from the others, or was started again after it
//! got a successor, tells of the past. While nothing speaks against the layout one is asked, and others in turn until
//! one is of good health and at least as far as the last answer was; in doubt all are, and who knows of the latest
//! change is believed.

use std::io;

use futures_util::future::join_all;

use super::probe::Probe;
use super::{Address, Dialer, Layout};
use crate::link::{Reply, at};

/// Looks at a cluster.
pub struct Eye {
    dialer: Dialer,
    seeds: Vec<Address>,
    /// Kept open: the node that answered last.
    open: Option<(Address, Probe)>,
    /// The newest epoch that was told.
    epoch: u64,
    doubted: bool,
}

/// What one node says.
struct Account {
    layout: Layout,
    healthy: bool,
    epoch: u64,
}

impl Account {
    /// Who is cut off does not know that it is; one that was started again is of no health for its first seconds.
    const fn rank(&self, known: u64) -> (bool, u64) {
        (self.healthy && self.epoch >= known, self.epoch)
    }
}

impl Eye {
    /// One that begins at some nodes.
    pub const fn new(dialer: Dialer, seeds: Vec<Address>) -> Self {
        Self { dialer, seeds, open: None, epoch: 0, doubted: true }
    }

    /// The next look asks all.
    pub const fn doubt(&mut self) {
        self.doubted = true;
    }

    /// Looks.
    ///
    /// # Errors
    /// What the nodes said instead, in one line.
    pub async fn look(&mut self, known: &Layout) -> Result<Layout, String> {
        let mut waiting = self.candidates(known);
        let (mut best, mut errors) = (None::<Account>, Vec::new());
        while !waiting.is_empty() {
            let others = waiting.split_off(if self.doubted { waiting.len() } else { 1 });
            let asked = std::mem::replace(&mut waiting, others);
            let (this, known) = (&*self, self.epoch);
            let asked = asked.into_iter().map(async |(address, probe)| {
                let answer = this.ask(&address, probe).await;
                (address, answer)
            });
            let answers = join_all(asked).await;
            for (address, answer) in answers {
                match answer {
                    Ok((account, probe))
                        if best.as_ref().is_none_or(|best| account.rank(known) > best.rank(known)) =>
                    {
                        self.open = Some((address, probe));
                        best = Some(account);
                    }
                    Ok(_) => {}
                    Err(error) => errors.push(format!("{address}: {error}")),
                }
            }
            if best.as_ref().is_some_and(|best| best.rank(self.epoch).0) {
                break;
            }
        }
        self.doubted = false;
        let Some(best) = best else {
            return Err(format!("no node of the Redis Cluster answers ({})", errors.join("; ")));
        };
        self.epoch = best.epoch;
        Ok(best.layout)
    }

    /// Whom to ask, each once: who answered last, the primaries, and who was named to begin with.
    fn candidates(&mut self, known: &Layout) -> Vec<(Address, Option<Probe>)> {
        let mut all: Vec<(Address, Option<Probe>)> =
            self.open.take().map(|(address, probe)| (address, Some(probe))).into_iter().collect();
        for address in known.primaries().into_iter().chain(&self.seeds) {
            if !all.iter().any(|(there, _)| there == address) {
                all.push((address.clone(), None));
            }
        }
        all
    }

    async fn ask(&self, address: &Address, probe: Option<Probe>) -> io::Result<(Account, Probe)> {
        let mut probe = match probe {
            Some(probe) => probe,
            None => Probe::open(&self.dialer, address).await?,
        };
        let info = probe.ask("CLUSTER", &["INFO"]).await?;
        // Not CLUSTER SHARDS: that names failed primaries beside their successors, and not every server has it.
        let slots = probe.ask("CLUSTER", &["SLOTS"]).await?;
        let info = info.text().unwrap_or_default();
        let said = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let account = Account {
            layout: layout(&slots, address),
            healthy: said("cluster_state:") == Some("ok"),
            epoch: said("cluster_current_epoch:").and_then(|epoch| epoch.parse().ok()).unwrap_or(0),
        };
        Ok((account, probe))
    }
}

/// Reads `CLUSTER SLOTS`: first slot, last slot, primary, replicas; a server is host, port and more.
fn layout(slots: &Reply, asked: &Address) -> Layout {
    let Reply::List(ranges) = slots else { return Layout::new([]) };
    Layout::new(ranges.iter().filter_map(|range| {
        let Reply::List(parts) = range else { return None };
        let Reply::List(server) = at(parts, 2) else { return None };
        let slot = |index| at(parts, index).number().ok().and_then(|slot| u16::try_from(slot).ok());
        // A node that was not told its own address says nothing, or a question mark: it is where it was asked.
        let host = at(server, 0).text().ok().filter(|host| !matches!(*host, "" | "?"));
        let port = at(server, 1).number().ok().and_then(|port| u16::try_from(port).ok())?;
        Some((slot(0)?, slot(1)?, asked.beside(host.unwrap_or(&asked.host), port)))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &'static str) -> Reply {
        Reply::Bytes(text.into())
    }

    #[test]
    fn primaries_are_where_they_say_or_where_they_were_asked() {
        let server = |host, port| Reply::List(vec![host, Reply::Int(port), bytes("id")]);
        let range = |first, last, server| {
            let replica = Reply::List(vec![bytes("replica"), Reply::Int(9)]);
            Reply::List(vec![Reply::Int(first), Reply::Int(last), server, replica])
        };
        let slots = Reply::List(vec![
            range(0, 99, server(bytes("10.0.0.1"), 1)),
            range(100, 199, server(Reply::Nil, 2)),
            range(200, 299, server(bytes(""), 3)),
            range(300, 16383, server(bytes("?"), 4)),
            Reply::Nil,
        ]);
        let asked = Address { tls: true, ..Address::plain("seed", 7) };
        let layout = layout(&slots, &asked);
        let of = |slot| layout.of_slot(slot).cloned();
        assert_eq!(
            [0, 100, 200, 16383].map(of),
            [("10.0.0.1", 1), ("seed", 2), ("seed", 3), ("seed", 4)]
                .map(|(host, port)| Some(asked.beside(host, port)))
        );
    }
}
