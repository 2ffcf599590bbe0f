//! Questions that are asked at the moment, and decisions that are remembered: the same question is asked once, whoever waits
//! for it.
//!
//! Must not know: how a question is asked.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use parlance_model::Time;
use tokio::sync::OnceCell;

use super::cache::{Cache, Slot};
use super::question::Decision;

/// What came of a question; `None`: there is no answer. Whoever comes first asks, everyone else waits for the same. When the
/// one who asks goes away, one of those who wait asks again.
type Cell = Arc<OnceCell<Option<Decision>>>;

/// See the module.
pub(super) struct Desk(Mutex<Papers>);

struct Papers {
    cache: Cache,
    /// As many as there are sessions that wait.
    asked: HashMap<Slot, Cell>,
}

/// Where to find out.
pub(super) enum Found<'a> {
    /// It was decided.
    Known(Decision),
    /// It is asked.
    Asked(Flight<'a>),
}

/// A question that is asked, of one who waits for it. The last one takes it off the desk.
pub(super) struct Flight<'a> {
    desk: &'a Desk,
    slot: Slot,
    cell: Option<Cell>,
}

impl Desk {
    pub(super) fn new(most: usize) -> Self {
        Self(Mutex::new(Papers { cache: Cache::new(most), asked: HashMap::new() }))
    }

    /// What is remembered.
    pub(super) fn recall(&self, slot: &Slot, now: Time) -> Option<Decision> {
        self.0.lock().cache.get(slot, now)
    }

    /// What is remembered, or else what is asked.
    pub(super) fn find(&self, slot: Slot, now: Time) -> Found<'_> {
        let mut papers = self.0.lock();
        if let Some(decision) = papers.cache.get(&slot, now) {
            return Found::Known(decision);
        }
        let cell = papers.asked.entry(slot).or_default();
        if cell.initialized() {
            // Answered already, and not to be remembered: only those who waited share it.
            *cell = Cell::default();
        }
        Found::Asked(Flight { desk: self, slot, cell: Some(cell.clone()) })
    }

    /// Remembers a decision until then.
    pub(super) fn keep(&self, slot: Slot, decision: Decision, span: (Time, Time)) {
        self.0.lock().cache.put(slot, decision, span);
    }
}

impl Flight<'_> {
    /// What comes of it; `ask` is for whoever is first.
    pub(super) async fn land<F: Future<Output = Option<Decision>>>(
        &self,
        ask: impl FnOnce() -> F,
    ) -> Option<Decision> {
        match &self.cell {
            Some(cell) => cell.get_or_init(ask).await.clone(),
            None => None,
        }
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let mut papers = self.desk.0.lock();
        let mine = self.cell.take();
        let Some(there) = papers.asked.get(&self.slot) else { return };
        let same = mine.is_some_and(|mine| Arc::ptr_eq(&mine, there));
        // Counted under the lock, with one's own given back: nobody else can come or go meanwhile.
        if same && Arc::strong_count(there) == 1 {
            papers.asked.remove(&self.slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOT: Slot = [7; 32];

    fn flight(desk: &Desk) -> Flight<'_> {
        match desk.find(SLOT, Time::default()) {
            Found::Asked(flight) => flight,
            Found::Known(decision) => panic!("known: {decision:?}"),
        }
    }

    #[tokio::test]
    async fn those_who_ask_the_same_share_one_answer_and_nobody_after_them_does() {
        let desk = Desk::new(10);
        let (first, second) = (flight(&desk), flight(&desk));
        let asked = std::cell::Cell::new(0);
        let ask = || async {
            asked.set(asked.get() + 1);
            tokio::task::yield_now().await;
            Some(Decision::Allowed)
        };
        let found = tokio::join!(first.land(ask), second.land(ask));
        assert_eq!((found, asked.get()), ((Some(Decision::Allowed), Some(Decision::Allowed)), 1));
        let third = flight(&desk);
        assert_eq!(third.land(|| async { None }).await, None, "asked anew");
        drop((first, second, third));
        assert!(desk.0.lock().asked.is_empty(), "nothing stays on the desk");
    }

    #[tokio::test]
    async fn one_who_goes_away_while_asking_takes_nobody_along() {
        let desk = Desk::new(10);
        let (first, second) = (flight(&desk), flight(&desk));
        tokio::select! {
            biased;
            _ = first.land(std::future::pending) => panic!("there was no answer"),
            () = tokio::task::yield_now() => {}
        }
        drop(first);
        assert_eq!(second.land(|| async { Some(Decision::Allowed) }).await, Some(Decision::Allowed));
        drop(second);
        assert!(desk.0.lock().asked.is_empty());
    }

    #[test]
    fn what_is_remembered_is_not_asked() {
        let desk = Desk::new(10);
        let span = (Time::default(), Time::from_millis(10));
        desk.keep(SLOT, Decision::Denied(None), span);
        assert!(matches!(desk.find(SLOT, Time::from_millis(9)), Found::Known(Decision::Denied(None))));
        assert_eq!(desk.recall(&SLOT, Time::from_millis(10)), None);
        drop(flight(&desk));
    }
}
