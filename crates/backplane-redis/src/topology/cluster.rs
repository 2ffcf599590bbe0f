//! What a cluster looks like, by its own account.
//!
//! Any node may be asked, but not every node knows: one that is cut off from the others tells of the past. Nodes
//! are asked in turn until one is of good health and at least as far as the last answer was.

use std::io;

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
}

/// What one node says.
struct Account {
    layout: Layout,
    healthy: bool,
    epoch: u64,
}

impl Eye {
    /// One that begins at some nodes.
    pub const fn new(dialer: Dialer, seeds: Vec<Address>) -> Self {
        Self { dialer, seeds, open: None, epoch: 0 }
    }

    /// The next look asks another node.
    pub fn turn(&mut self) {
        self.open = None;
    }

    /// Looks.
    ///
    /// # Errors
    /// What the nodes said instead, in one line.
    pub async fn look(&mut self, known: &Layout) -> Result<Layout, String> {
        let mut errors = Vec::new();
        let mut second: Option<Account> = None;
        let mut asked: Vec<Address> = Vec::new();
        let open = self.open.take();
        let others = known.primaries().into_iter().cloned().chain(self.seeds.iter().cloned());
        let mut candidates: Vec<(Address, Option<Probe>)> =
            open.map(|(address, probe)| (address, Some(probe))).into_iter().collect();
        candidates.extend(others.map(|address| (address, None)));
        for (address, probe) in candidates {
            if asked.contains(&address) {
                continue;
            }
            asked.push(address.clone());
            match self.ask(&address, probe).await {
                Ok((account, probe)) if account.healthy && account.epoch >= self.epoch => {
                    self.epoch = account.epoch;
                    self.open = Some((address, probe));
                    return Ok(account.layout);
                }
                Ok((account, _)) => {
                    if second.as_ref().is_none_or(|best| account.epoch > best.epoch) {
                        second = Some(account);
                    }
                }
                Err(error) => errors.push(format!("{address}: {error}")),
            }
        }
        match second {
            Some(account) => {
                self.epoch = account.epoch;
                Ok(account.layout)
            }
            None => Err(format!("no node of the Redis Cluster answers ({})", errors.join("; "))),
        }
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
        let asked = Address { login: Some(("u".to_owned(), "p".to_owned())), ..Address::plain("seed", 7) };
        let layout = layout(&slots, &asked);
        let of = |slot| layout.of_slot(slot).cloned();
        assert_eq!(
            [0, 100, 200, 16383].map(of),
            [("10.0.0.1", 1), ("seed", 2), ("seed", 3), ("seed", 4)]
                .map(|(host, port)| Some(asked.beside(host, port)))
        );
    }
}
