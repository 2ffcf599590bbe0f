//! Which server has which slot: looked at again and again, and at once when somebody doubts it.
//!
//! Owns: the layout as it was last seen, and telling of new ones. Must not know: keys, functions, subscriptions.

mod address;
mod cluster;
mod probe;
mod sentinel;
mod tls;
mod url;
mod watcher;

use std::collections::BTreeMap;
use std::sync::Arc;

use parlance_backplane::stats::{Server, Stats};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

pub use address::Address;
pub use tls::{Dialer, Stream};
pub use url::Place;
pub use watcher::start;

/// Slots of a cluster; a standalone server has them all.
pub const SLOTS: u16 = 16384;

/// Which primary has which slots, as it was seen at one time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    /// The first slot of each range, and who has it from there to the next one; `None`: nobody.
    ranges: BTreeMap<u16, Option<Address>>,
}

impl Layout {
    /// One server with all slots.
    pub fn standalone(address: Address) -> Self {
        Self { ranges: BTreeMap::from([(0, Some(address))]) }
    }

    /// From ranges (first and last slot, both included) with their primaries.
    pub fn new(ranges: impl IntoIterator<Item = (u16, u16, Address)>) -> Self {
        let mut all = BTreeMap::from([(0, None)]);
        let mut sorted: Vec<_> = ranges.into_iter().collect();
        sorted.sort_by_key(|(first, ..)| *first);
        for (first, last, address) in sorted {
            all.insert(first, Some(address));
            if last + 1 < SLOTS {
                all.insert(last + 1, None);
            }
        }
        Self { ranges: all }
    }

    /// The primary that has a slot.
    pub fn of_slot(&self, slot: u16) -> Option<&Address> {
        self.ranges.range(..=slot).next_back().and_then(|(_, address)| address.as_ref())
    }

    /// Every primary once.
    pub fn primaries(&self) -> Vec<&Address> {
        let mut all: Vec<_> = self.ranges.values().flatten().collect();
        all.sort();
        all.dedup();
        all
    }
}

/// The layout as everybody sees it. Cheap to clone.
#[derive(Clone)]
pub struct Topology {
    seen: watch::Receiver<Arc<Layout>>,
    doubt: Arc<Notify>,
    dialer: Dialer,
    /// When the last look began that saw where everything is; `None`: nobody looks, it never changes.
    begun: Option<watch::Receiver<Instant>>,
    /// What is counted of each server.
    stats: Arc<Stats>,
}

impl Topology {
    /// A layout that whoever holds the sender changes, looking again when `doubt` is notified.
    pub fn new(seen: watch::Receiver<Arc<Layout>>, doubt: Arc<Notify>) -> Self {
        Self { seen, doubt, dialer: Dialer::default(), begun: None, stats: Arc::default() }
    }

    /// With another way to open connections than without TLS.
    #[must_use]
    pub fn dialed_by(self, dialer: Dialer) -> Self {
        Self { dialer, ..self }
    }

    /// With somebody who looks, and says when the last look began that saw something.
    #[must_use]
    pub fn looked_at(self, begun: watch::Receiver<Instant>) -> Self {
        Self { begun: Some(begun), ..self }
    }

    /// Whether a server may be replaced without its address changing: then a connection that broke is not to be made
    /// again before [`Self::vouches`].
    pub const fn moves(&self) -> bool {
        self.begun.is_some()
    }

    /// Whether the server at an address is a primary, as of a look that began after `since`: one that died and was
    /// started again holds itself for the primary that it was, also after it has got a successor.
    pub fn vouches(&self, address: &Address, since: Instant) -> bool {
        let Some(begun) = &self.begun else { return true };
        // In this order: what is seen is told before it is told when.
        let looked = *begun.borrow() > since;
        looked && self.seen.borrow().primaries().contains(&address)
    }

    /// Waits for that, for ever if need be.
    pub async fn vouched(&self, address: &Address, since: Instant) {
        let Some(mut begun) = self.begun.clone() else { return };
        loop {
            begun.mark_unchanged();
            if self.vouches(address, since) {
                return;
            }
            self.doubt();
            if begun.changed().await.is_err() {
                // Nobody looks any more: the engine ends.
                return std::future::pending().await;
            }
        }
    }

    /// What is counted of all servers.
    pub const fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// And of one.
    pub fn stats_of(&self, address: &Address) -> Arc<Server> {
        self.stats.server(&address.to_string())
    }

    /// How connections to its servers are opened.
    pub const fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    /// As it was last seen.
    pub fn layout(&self) -> Arc<Layout> {
        self.seen.borrow().clone()
    }

    /// For awaiting changes.
    pub fn watch(&self) -> watch::Receiver<Arc<Layout>> {
        self.seen.clone()
    }

    /// Something speaks against the layout (a redirection, a broken connection, an ended subscription): it is looked
    /// at again at once.
    pub fn doubt(&self) {
        self.doubt.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> Address {
        Address::plain("127.0.0.1", port)
    }

    #[test]
    fn slots_have_the_primary_of_their_range() {
        let layout = Layout::new([(100, 199, address(2)), (0, 99, address(1)), (300, 16383, address(1))]);
        let port = |slot| layout.of_slot(slot).map(|address| address.port);
        assert_eq!(
            [0, 99, 100, 199, 200, 300, 16383].map(port),
            [Some(1), Some(1), Some(2), Some(2), None, Some(1), Some(1)]
        );
        assert_eq!(layout.primaries(), [&address(1), &address(2)]);
    }
}
