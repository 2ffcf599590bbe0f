//! The typing rule: when others are told that somebody starts or stops, given heartbeats and silence.

use std::time::Duration;

use crate::Time;

/// What others are to be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transition {
    /// Typing began.
    Start,
    /// Still typing: nobody is told, deadlines move.
    Refresh,
    /// Typing ended.
    Stop,
    /// Nothing changed.
    Nothing,
}

/// One typist in one conversation: `None` when not typing, else the deadline of the last heartbeat.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Typist {
    until: Option<Time>,
}

impl Typist {
    /// When silence ends it.
    pub const fn deadline(self) -> Option<Time> {
        self.until
    }

    /// A heartbeat (or start): it lasts `ttl` from `now`.
    pub fn heartbeat(&mut self, now: Time, ttl: Duration) -> Transition {
        let was = self.until.is_some_and(|until| now < until);
        self.until = Some(now + ttl);
        if was { Transition::Refresh } else { Transition::Start }
    }

    /// The typist says stop, sends the message, or goes.
    pub fn stop(&mut self) -> Transition {
        if self.until.take().is_some() { Transition::Stop } else { Transition::Nothing }
    }

    /// Time passes.
    pub fn expire(&mut self, now: Time) -> Transition {
        if self.until.is_some_and(|until| until <= now) { self.stop() } else { Transition::Nothing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TTL: Duration = Duration::from_secs(4);

    proptest! {
        /// Over any trace: starts and stops alternate, and silence of 4 s always ends in a stop.
        #[test]
        fn starts_and_stops_alternate(steps in prop::collection::vec((0u64..6000, 0u8..3), 0..40)) {
            let (mut typist, mut now, mut on) = (Typist::default(), Time(0), false);
            for (ms, what) in steps {
                now = now + Duration::from_millis(ms);
                // The sweeper runs before anything else is looked at.
                if typist.expire(now) == Transition::Stop {
                    prop_assert!(on);
                    on = false;
                }
                let told = match what {
                    0 => typist.heartbeat(now, TTL),
                    1 => typist.stop(),
                    _ => typist.expire(now),
                };
                match told {
                    Transition::Start => { prop_assert!(!on); on = true }
                    Transition::Stop => { prop_assert!(on); on = false }
                    Transition::Refresh => prop_assert!(on),
                    Transition::Nothing => {}
                }
                prop_assert_eq!(typist.deadline().is_some(), on);
            }
            let end = typist.expire(now + TTL);
            prop_assert_eq!(end == Transition::Stop, on);
        }
    }
}
