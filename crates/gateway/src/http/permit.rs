//! How many TCP connections there are, in all and per address.

use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::IntGauge;
use rustc_hash::FxHashMap;

/// Counts the connections of one listener.
#[derive(Clone, Default)]
pub struct Permits(Arc<Mutex<Counts>>);

#[derive(Default)]
struct Counts {
    all: usize,
    by_address: FxHashMap<IpAddr, usize>,
}

/// One counted connection; dropping it counts it off. Goes along through the upgrade.
pub struct Permit {
    permits: Permits,
    address: IpAddr,
    counts: Counted,
    /// The connection that it came over, for one that was told of by a proxy.
    _carrier: Option<Arc<Self>>,
    /// Where it is shown for as long as there is the connection, whatever is spoken over it.
    shown: Option<IntGauge>,
}

/// What a permit is counted in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Counted {
    Both,
    /// The connection of a proxy is nobody's.
    All,
    /// Of a client behind a proxy, whose connection is counted already.
    Address,
}

impl Permits {
    /// Counts one more connection, unless a limit (0 = unlimited) is reached.
    ///
    /// # Errors
    /// The limit's name.
    pub fn take(&self, address: IpAddr, all: usize, per_address: usize) -> Result<Permit, &'static str> {
        // A v4 client at a dual-stack listener is the same client.
        let address = address.to_canonical();
        let mut counts = self.0.lock();
        if all > 0 && counts.all >= all {
            return Err("node_full");
        }
        let here = counts.by_address.entry(address).or_default();
        if per_address > 0 && *here >= per_address {
            return Err("address_full");
        }
        *here += 1;
        counts.all += 1;
        Ok(Permit { permits: self.clone(), address, counts: Counted::Both, _carrier: None, shown: None })
    }

    /// The same for the connection of a trusted proxy, which counts in all only.
    ///
    /// # Errors
    /// The limit's name.
    pub fn take_shared(&self, address: IpAddr, all: usize) -> Result<Permit, &'static str> {
        let mut counts = self.0.lock();
        if all > 0 && counts.all >= all {
            return Err("node_full");
        }
        counts.all += 1;
        let address = address.to_canonical();
        Ok(Permit { permits: self.clone(), address, counts: Counted::All, _carrier: None, shown: None })
    }
}

impl Permit {
    /// Whether it is a trusted proxy's connection: whose requests come over it, each of them says.
    pub fn is_shared(&self) -> bool {
        self.counts == Counted::All
    }

    /// Counts one more request of a client behind the proxy whose connection this is.
    ///
    /// # Errors
    /// The limit's name.
    pub fn behind(self: &Arc<Self>, address: IpAddr, per_address: usize) -> Result<Self, &'static str> {
        let address = address.to_canonical();
        let mut counts = self.permits.0.lock();
        let here = counts.by_address.entry(address).or_default();
        if per_address > 0 && *here >= per_address {
            return Err("address_full");
        }
        *here += 1;
        let (permits, carrier) = (self.permits.clone(), Some(self.clone()));
        Ok(Self { permits, address, counts: Counted::Address, _carrier: carrier, shown: None })
    }

    /// The same, counted in a gauge, too.
    #[must_use]
    pub fn shown(mut self, gauge: IntGauge) -> Self {
        gauge.inc();
        self.shown = Some(gauge);
        self
    }

    /// Where the connection comes from.
    pub const fn address(&self) -> IpAddr {
        self.address
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(gauge) = &self.shown {
            gauge.dec();
        }
        let mut counts = self.permits.0.lock();
        if self.counts != Counted::Address {
            counts.all = counts.all.saturating_sub(1);
        }
        if self.counts == Counted::All {
            return;
        }
        let Some(here) = counts.by_address.get_mut(&self.address) else { return };
        *here = here.saturating_sub(1);
        if *here == 0 {
            counts.by_address.remove(&self.address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_and_what_ends_makes_room() {
        let permits = Permits::default();
        let (a, b): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        let first = permits.take(a, 3, 2).unwrap();
        let _second = permits.take(mapped, 3, 2).unwrap();
        assert_eq!(permits.take(a, 3, 2).err(), Some("address_full"));
        let _third = permits.take(b, 3, 2).unwrap();
        assert_eq!(permits.take(b, 3, 2).err(), Some("node_full"));
        drop(first);
        assert!(permits.take(a, 3, 2).is_ok());
        assert!(permits.take(a, 0, 0).is_ok());
        assert_eq!(permits.0.lock().all, 2);
    }

    #[test]
    fn a_proxys_connection_counts_once_and_its_clients_by_themselves() {
        let permits = Permits::default();
        let (proxy, client): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "203.0.113.7".parse().unwrap());
        let shared = Arc::new(permits.take_shared(proxy, 2).unwrap());
        let one = shared.behind(client, 1).unwrap();
        assert!(shared.is_shared() && !one.is_shared());
        assert_eq!(shared.behind(client, 1).err(), Some("address_full"));
        assert!(shared.behind(proxy, 1).is_ok(), "the connection itself is nobody's");
        let _second = permits.take_shared(proxy, 2).unwrap();
        assert_eq!(permits.take_shared(proxy, 2).err(), Some("node_full"));
        drop(shared);
        assert_eq!(permits.take(proxy, 2, 0).err(), Some("node_full"), "its client holds the connection");
        drop(one);
        assert!(permits.take(client, 2, 1).is_ok());
    }
}
