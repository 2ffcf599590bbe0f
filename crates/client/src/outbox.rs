//! Messages that the server has not acknowledged, in order. Pure.
//!
//! At most one message per conversation is on its way at a time: whatever is lost, refused for now or
//! resent, a later message of the conversation cannot overtake it.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;

use crate::backoff::Backoff;
use crate::update::Outgoing;

/// A message to be sent.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) id: String,
    pub(crate) conversation: String,
    /// What is written, at every attempt.
    pub(crate) frame: Outgoing,
    /// Its place in the bounded queue, given back when it settles.
    #[expect(dead_code, reason = "held, not read: dropping it frees the place")]
    pub(crate) place: Option<OwnedSemaphorePermit>,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    Waiting { until: Option<Instant> },
    InFlight { deadline: Instant },
}

#[derive(Debug)]
struct Pending {
    draft: Draft,
    stage: Stage,
    /// Attempts that a working connection did not answer.
    unanswered: u32,
    /// Attempts the server has put off.
    put_off: u32,
}

/// The rules of resending.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) ack_timeout: Duration,
    pub(crate) attempts: u32,
    pub(crate) backoff: Backoff,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Outbox {
    queue: VecDeque<Pending>,
    rules: Rules,
}

impl Outbox {
    pub(crate) fn new(rules: Rules) -> Self {
        Self { queue: VecDeque::new(), rules }
    }

    pub(crate) fn push(&mut self, draft: Draft) {
        self.queue.push_back(Pending {
            draft,
            stage: Stage::Waiting { until: None },
            unanswered: 0,
            put_off: 0,
        });
    }

    /// What is to be written now; from here on it counts as on its way.
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<(String, Outgoing)> {
        let mut busy = HashSet::new();
        let mut due = Vec::new();
        for pending in &mut self.queue {
            if !busy.insert(pending.draft.conversation.as_str()) {
                continue;
            }
            if let Stage::Waiting { until } = pending.stage
                && until.is_none_or(|until| until <= now)
            {
                pending.stage = Stage::InFlight { deadline: now + self.rules.ack_timeout };
                due.push((pending.draft.id.clone(), pending.draft.frame.clone()));
            }
        }
        due
    }

    /// Removes a message that settled: its conversation, if it was still here.
    pub(crate) fn settle(&mut self, id: &str) -> Option<String> {
        let at = self.queue.iter().position(|pending| pending.draft.id == id)?;
        self.queue.remove(at).map(|pending| pending.draft.conversation)
    }

    /// The conversation of a message that is still here.
    pub(crate) fn conversation(&self, id: &str) -> Option<&str> {
        let pending = self.queue.iter().find(|pending| pending.draft.id == id)?;
        Some(&pending.draft.conversation)
    }

    /// The server asks to try again after `wait`, or some time; `counts` as one of the attempts, or not.
    /// `false`: no attempt is left, or it is not here.
    pub(crate) fn postpone(&mut self, id: &str, now: Instant, wait: Option<Duration>, counts: bool) -> bool {
        let rules = self.rules;
        let Some(pending) = self.queue.iter_mut().find(|pending| pending.draft.id == id) else {
            return false;
        };
        let wait = wait.unwrap_or_else(|| rules.backoff.delay(pending.put_off, 0.5));
        pending.put_off = pending.put_off.saturating_add(1);
        pending.unanswered += u32::from(counts);
        pending.stage = Stage::Waiting { until: Some(now + wait) };
        pending.unanswered < rules.attempts
    }

    /// The only message on its way, if there is exactly one.
    pub(crate) fn only_in_flight(&self) -> Option<&str> {
        let mut flying = self.queue.iter().filter(|pending| matches!(pending.stage, Stage::InFlight { .. }));
        flying.next().filter(|_| flying.next().is_none()).map(|pending| pending.draft.id.as_str())
    }

    /// Whether a message still waits for its acknowledgement.
    pub(crate) fn contains(&self, id: &str) -> bool {
        self.queue.iter().any(|pending| pending.draft.id == id)
    }

    /// The connection is gone: what was on its way is sent again on the next. Attempts are not counted,
    /// for nobody was there to answer.
    pub(crate) fn disconnected(&mut self) {
        for pending in &mut self.queue {
            pending.stage = Stage::Waiting { until: None };
        }
    }

    /// Handles acknowledgement timeouts; returns the messages that have failed. `chance` is in `[0, 1)`.
    pub(crate) fn expire(&mut self, now: Instant, chance: f64) -> Vec<String> {
        let rules = self.rules;
        for pending in &mut self.queue {
            if let Stage::InFlight { deadline } = pending.stage
                && deadline <= now
            {
                let wait = rules.backoff.delay(pending.unanswered, chance);
                pending.unanswered += 1;
                pending.stage = Stage::Waiting { until: Some(now + wait) };
            }
        }
        let failed: Vec<String> = self
            .queue
            .iter()
            .filter(|pending| pending.unanswered >= rules.attempts)
            .map(|pending| pending.draft.id.clone())
            .collect();
        self.queue.retain(|pending| pending.unanswered < rules.attempts);
        failed
    }

    /// When [`Self::expire`] or [`Self::take_due`] will next have something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let mut busy = HashSet::new();
        self.queue
            .iter()
            .filter(|pending| busy.insert(pending.draft.conversation.as_str()))
            .filter_map(|pending| match pending.stage {
                Stage::Waiting { until } => until,
                Stage::InFlight { deadline } => Some(deadline),
            })
            .min()
    }
}

#[cfg(test)]
mod tests {
    use parlance_wire::Dialect;
    use proptest::prelude::*;

    use super::*;
    use crate::options::Options;

    fn outbox() -> Outbox {
        let backoff = Backoff { base: Duration::from_millis(100), max: Duration::from_secs(1), jitter: 0.0 };
        Outbox::new(Rules { ack_timeout: Duration::from_secs(10), attempts: 3, backoff })
    }

    fn draft(id: &str, conversation: &str) -> Draft {
        Draft { id: id.into(), conversation: conversation.into(), frame: Outgoing::Keepalive, place: None }
    }

    fn ids(due: Vec<(String, Outgoing)>) -> Vec<String> {
        due.into_iter().map(|(id, _)| id).collect()
    }

    #[test]
    fn one_per_conversation_is_on_its_way() {
        let (mut outbox, now) = (outbox(), Instant::now());
        for (id, conversation) in [("1", "a"), ("2", "a"), ("3", "b")] {
            outbox.push(draft(id, conversation));
        }
        assert_eq!(ids(outbox.take_due(now)), ["1", "3"]);
        assert!(outbox.take_due(now).is_empty());
        assert!(outbox.settle("1").is_some());
        assert_eq!(ids(outbox.take_due(now)), ["2"]);
    }

    #[test]
    fn three_unanswered_attempts_and_it_has_failed() {
        let (mut outbox, mut now) = (outbox(), Instant::now());
        outbox.push(draft("1", "a"));
        outbox.push(draft("2", "a"));
        for attempt in 1..=3 {
            assert_eq!(ids(outbox.take_due(now)), ["1"], "attempt {attempt}");
            now += Duration::from_secs(10);
            let failed = outbox.expire(now, 0.5);
            assert_eq!(failed, if attempt == 3 { vec!["1".to_owned()] } else { vec![] });
            now = outbox.deadline().unwrap_or(now);
        }
        assert_eq!(ids(outbox.take_due(now)), ["2"]);
    }

    /// The waits before each further attempt of a message nobody acknowledges, as a dialect's rules have them.
    fn waits(dialect: Dialect, chance: f64) -> Vec<Duration> {
        let (mut outbox, mut now) =
            (Outbox::new(Options::new("ws://h:1", dialect, "alice").rules()), Instant::now());
        outbox.push(draft("1", "a"));
        let mut waits = Vec::new();
        loop {
            assert_eq!(ids(outbox.take_due(now)), ["1"]);
            let unanswered = outbox.deadline().unwrap();
            if !outbox.expire(unanswered, chance).is_empty() {
                return waits;
            }
            now = outbox.deadline().unwrap();
            waits.push(now - unanswered);
        }
    }

    #[test]
    fn lingochat_retries_three_times_after_one_two_and_four_seconds() {
        for chance in [0.0, 0.5, 0.99] {
            assert_eq!(waits(Dialect::Lingochat, chance), [1, 2, 4].map(Duration::from_secs));
        }
    }

    #[test]
    fn sechat_tries_three_times_with_a_fifth_of_jitter() {
        let millis =
            |chance| waits(Dialect::Sechat, chance).iter().map(Duration::as_millis).collect::<Vec<_>>();
        assert_eq!(millis(0.0), [400, 800]);
        assert_eq!(millis(0.5), [500, 1000]);
        assert_eq!(millis(1.0), [600, 1200]);
    }

    #[test]
    fn a_pace_that_is_too_fast_is_no_attempt_but_waits_grow() {
        let (mut outbox, mut now) = (outbox(), Instant::now());
        outbox.push(draft("1", "a"));
        let mut waits = Vec::new();
        for _ in 0..6 {
            assert_eq!(ids(outbox.take_due(now)), ["1"]);
            assert!(outbox.postpone("1", now, None, false));
            let until = outbox.deadline().unwrap();
            waits.push((until - now).as_millis());
            now = until;
        }
        assert_eq!(waits, [100, 200, 400, 800, 1000, 1000]);
        assert!(outbox.expire(now, 0.5).is_empty());
    }

    #[test]
    fn a_lost_connection_is_no_attempt() {
        let (mut outbox, now) = (outbox(), Instant::now());
        outbox.push(draft("1", "a"));
        for _ in 0..10 {
            assert_eq!(ids(outbox.take_due(now)), ["1"]);
            outbox.disconnected();
        }
        assert!(outbox.expire(now, 0.5).is_empty());
    }

    proptest! {
        /// A server that acknowledges, loses or postpones at will still sees each conversation in order.
        #[test]
        fn nothing_is_overtaken(luck in prop::collection::vec((0u8..4, 0u8..3), 1..80)) {
            let (mut outbox, mut now) = (outbox(), Instant::now());
            for n in 0..12u32 {
                outbox.push(draft(&format!("{n:02}"), if n % 3 == 0 { "a" } else { "b" }));
            }
            let mut accepted: Vec<String> = Vec::new();
            for (what, which) in luck {
                now += Duration::from_secs(1);
                for (id, _) in outbox.take_due(now) {
                    if what == u8::from(which == 0) { outbox.postpone(&id, now, Some(Duration::from_millis(500)), true); }
                    if what == 2 { prop_assert!(outbox.settle(&id).is_some()); accepted.push(id); }
                }
                if what == 3 { outbox.disconnected(); }
                outbox.expire(now, 0.5);
            }
            for of_a in [true, false] {
                let of: Vec<u32> = accepted.iter().map(|id| id.parse().unwrap()).filter(|n| (n % 3 == 0) == of_a).collect();
                prop_assert!(of.windows(2).all(|w| w[0] < w[1]), "{of:?}");
            }
        }
    }
}
