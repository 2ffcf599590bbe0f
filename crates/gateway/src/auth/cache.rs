//! Verified tokens, so that a reconnect storm does not pay for the same signature twice.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use parlance_model::{Identity, Time};
use sha2::{Digest, Sha256};

use super::claims;

const MOST: usize = 10_000;

/// Names a token and the claims its subject was read from. Cryptographic on purpose: with a fast hash
/// somebody could forge a token that meets another one's slot.
pub(super) type Slot = [u8; 32];

pub(super) fn slot(token: &str, subjects: &[String]) -> Slot {
    let mut hash = Sha256::new();
    hash.update(token.as_bytes());
    for name in subjects {
        hash.update([0]);
        hash.update(name.as_bytes());
    }
    hash.finalize().into()
}

/// At most [`MOST`] identities; when full the oldest goes.
#[derive(Default)]
pub(super) struct VerifiedTokens(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    by_slot: HashMap<Slot, Arc<Identity>>,
    /// Oldest first; exactly the keys of `by_slot`.
    order: VecDeque<Slot>,
}

impl VerifiedTokens {
    pub(super) fn get(&self, slot: &Slot) -> Option<Arc<Identity>> {
        self.0.lock().by_slot.get(slot).cloned()
    }

    pub(super) fn put(&self, slot: Slot, identity: Arc<Identity>, now: Time) {
        let mut inner = self.0.lock();
        if inner.by_slot.insert(slot, identity).is_none() {
            inner.order.push_back(slot);
        }
        inner.shrink(now);
    }

    /// Forgets those that fit.
    pub(super) fn forget(&self, fits: &dyn Fn(&Identity) -> bool) {
        let mut inner = self.0.lock();
        let Inner { by_slot, order } = &mut *inner;
        let before = by_slot.len();
        by_slot.retain(|_, identity| !fits(identity));
        if by_slot.len() < before {
            order.retain(|slot| by_slot.contains_key(slot));
        }
    }

    pub(super) fn clear(&self) {
        let mut inner = self.0.lock();
        *inner = Inner::default();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.lock().by_slot.len()
    }
}

impl Inner {
    /// Drops the oldest while there are too many or they are over.
    fn shrink(&mut self, now: Time) {
        while let Some(oldest) = self.order.front() {
            let over =
                self.by_slot.get(oldest).is_none_or(|identity| claims::expired(identity.expires_at, now));
            if !over && self.by_slot.len() <= MOST {
                return;
            }
            self.by_slot.remove(oldest);
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parlance_model::{Proof, UserId};

    fn identity(expires_at: u64) -> Arc<Identity> {
        Arc::new(Identity {
            user: UserId::parse("u").unwrap(),
            name: None,
            username: None,
            picture: None,
            expires_at: Time(expires_at),
            issued_at: None,
            token_id: None,
            token_hash: 0,
            verified: true,
            proof: Proof::None,
            claims: None,
        })
    }

    #[test]
    fn it_is_bounded_and_the_oldest_goes_first() {
        let cache = VerifiedTokens::default();
        let slots: Vec<Slot> = (0..=MOST).map(|n| slot(&n.to_string(), &[])).collect();
        for slot in &slots {
            cache.put(*slot, identity(1_000_000), Time(0));
        }
        assert_eq!(cache.len(), MOST);
        assert!(cache.get(&slots[0]).is_none());
        assert!(cache.get(&slots[1]).is_some() && cache.get(&slots[MOST]).is_some());
    }

    #[test]
    fn what_is_forgotten_is_gone_and_the_rest_stays_in_order() {
        let cache = VerifiedTokens::default();
        for n in 0..3 {
            cache.put([n; 32], identity(1_000_000 + u64::from(n)), Time(0));
        }
        cache.forget(&|identity| identity.expires_at == Time(1_000_001));
        assert!(
            cache.get(&[1; 32]).is_none() && cache.get(&[0; 32]).is_some() && cache.get(&[2; 32]).is_some()
        );
        assert_eq!(cache.0.lock().order, [[0; 32], [2; 32]]);
    }

    #[test]
    fn what_is_over_makes_room() {
        let cache = VerifiedTokens::default();
        cache.put([1; 32], identity(1000), Time(0));
        cache.put([2; 32], identity(900_000), Time(100_000));
        assert_eq!(cache.len(), 1);
        assert!(cache.get(&[2; 32]).is_some());
    }

    #[test]
    fn the_subject_order_is_part_of_the_name() {
        let (a, b) = (["sub".to_owned()], ["user_id".to_owned()]);
        assert_ne!(slot("t", &a), slot("t", &b));
    }
}
