//! The inbox's other end.
//!
//! Owns: that `Lost` is said where something may be missing, but not over and over. Must not know: channels.

use std::sync::Arc;
use std::time::Duration;

use parlance_backplane::{Delivery, Publication};
use parlance_model::Topic;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::failpoint::Drops;

/// Between two words about gaps: each makes the node compare everything with the logs, and a cluster whose slots move
/// opens and closes hundreds of gaps.
pub const SPACING: Duration = Duration::from_millis(100);

/// The sender of a node's inbox.
pub struct Outlet {
    inbox: mpsc::Sender<Delivery>,
    /// The newest thing in the inbox is `Lost`: until there is room, dropping more needs no second word.
    lost: bool,
    said: Option<Instant>,
    owed: bool,
    owing: Arc<Notify>,
    spacing: Duration,
    drops: Drops,
}

impl Outlet {
    /// An outlet into this inbox; `owing` is notified when [`Self::settle`] has to be called [`SPACING`] later.
    pub fn new(inbox: mpsc::Sender<Delivery>, owing: Arc<Notify>) -> Self {
        let drops = Drops::from_environment();
        Self { inbox, lost: false, said: None, owed: false, owing, spacing: SPACING, drops }
    }

    /// The same with another time between two words about gaps.
    #[cfg(test)]
    pub fn spaced(self, spacing: Duration) -> Self {
        Self { spacing, ..self }
    }

    /// Delivers, or says `Lost` in place of it.
    pub fn deliver(&mut self, topic: Topic, publication: Publication) {
        if self.drops.strike(&publication) {
            return;
        }
        if self.inbox.capacity() <= 1 {
            self.lose();
        } else if self.inbox.try_send(Delivery::Published(topic, publication)).is_ok() {
            self.lost = false;
        }
    }

    /// The last place is kept for this, so that it never has to wait for a later publication.
    fn lose(&mut self) {
        if !self.lost || self.inbox.capacity() > 1 {
            self.lost = self.inbox.try_send(Delivery::Lost).is_ok() || self.lost;
        }
        self.said = Some(Instant::now());
        self.owed = false;
    }

    /// Something may be missing: `Lost` is said now, or a moment later when it was said a moment ago.
    pub fn gap(&mut self) {
        if self.said.is_some_and(|said| said.elapsed() < self.spacing) {
            self.owed = true;
            self.owing.notify_one();
        } else {
            self.lose();
        }
    }

    /// Says what is owed.
    pub fn settle(&mut self) {
        if self.owed {
            self.lose();
        }
    }
}

#[cfg(test)]
mod tests {
    use parlance_backplane::Signal;

    use super::*;

    fn word() -> (Topic, Publication) {
        (Topic::Nodes, Publication::Signal(Signal::Maintenance))
    }

    #[test]
    fn a_full_inbox_loses_and_says_so_once() {
        let (sender, mut inbox) = mpsc::channel(3);
        let mut outlet = Outlet::new(sender, Arc::default());
        for _ in 0..10 {
            let (topic, publication) = word();
            outlet.deliver(topic, publication);
        }
        let heard: Vec<Delivery> = std::iter::from_fn(|| inbox.try_recv().ok()).collect();
        assert_eq!(heard.len(), 3);
        assert_eq!(heard.last(), Some(&Delivery::Lost));
        let (topic, publication) = word();
        outlet.deliver(topic, publication);
        assert!(matches!(inbox.try_recv(), Ok(Delivery::Published(..))));
    }

    #[test]
    fn many_gaps_are_said_at_once_and_once_more() {
        let (sender, mut inbox) = mpsc::channel(100);
        let mut outlet = Outlet::new(sender, Arc::default()).spaced(Duration::from_secs(3600));
        for _ in 0..50 {
            outlet.gap();
        }
        outlet.settle();
        outlet.settle();
        assert_eq!((inbox.try_recv(), inbox.try_recv()), (Ok(Delivery::Lost), Ok(Delivery::Lost)));
        assert!(inbox.try_recv().is_err());
    }
}
