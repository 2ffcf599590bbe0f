//! How many TCP connections there are, in all and per address.

use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
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
        Ok(Permit { permits: self.clone(), address })
    }
}

impl Permit {
    /// Where the connection comes from.
    pub const fn address(&self) -> IpAddr {
        self.address
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut counts = self.permits.0.lock();
        counts.all = counts.all.saturating_sub(1);
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
}
