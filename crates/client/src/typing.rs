//! When to say "typing" and when to take it back. Pure: every call is handed the time.

use std::time::{Duration, Instant};

/// The three intervals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timings {
    /// From the first input to the first word about it.
    pub debounce: Duration,
    /// Between repetitions while typing goes on.
    pub heartbeat: Duration,
    /// From the last input to taking it back.
    pub stop_after: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            debounce: Duration::from_millis(250),
            heartbeat: Duration::from_secs(3),
            stop_after: Duration::from_millis(700),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Idle,
    /// Input was heard, nothing said yet.
    Starting {
        say_at: Instant,
    },
    /// Others believe that we type.
    Typing {
        repeat_at: Instant,
    },
}

/// One user's typing in one conversation.
#[derive(Clone, Debug)]
pub struct Typing {
    timings: Timings,
    phase: Phase,
    last_input: Option<Instant>,
}

impl Typing {
    /// Nobody types yet.
    pub const fn new(timings: Timings) -> Self {
        Self { timings, phase: Phase::Idle, last_input: None }
    }

    /// A key was pressed.
    pub fn input(&mut self, now: Instant) {
        self.last_input = Some(now);
        if matches!(self.phase, Phase::Idle) {
            self.phase = Phase::Starting { say_at: now + self.timings.debounce };
        }
    }

    /// The message went out, or the input was emptied. `true`: say "stopped" now.
    pub fn stop(&mut self) -> bool {
        self.last_input = None;
        matches!(std::mem::replace(&mut self.phase, Phase::Idle), Phase::Typing { .. })
    }

    /// When [`Self::poll`] will next have something to say.
    pub fn deadline(&self) -> Option<Instant> {
        let stop_at = self.last_input? + self.timings.stop_after;
        match self.phase {
            Phase::Idle => None,
            Phase::Starting { say_at } => Some(say_at.min(stop_at)),
            Phase::Typing { repeat_at } => Some(repeat_at.min(stop_at)),
        }
    }

    /// What to say at `now`: typing, stopped, or nothing.
    pub fn poll(&mut self, now: Instant) -> Option<bool> {
        let stop_at = self.last_input? + self.timings.stop_after;
        if now >= stop_at {
            return self.stop().then_some(false);
        }
        let due = match self.phase {
            Phase::Idle => return None,
            Phase::Starting { say_at } => say_at,
            Phase::Typing { repeat_at } => repeat_at,
        };
        if now < due {
            return None;
        }
        self.phase = Phase::Typing { repeat_at: now + self.timings.heartbeat };
        Some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Types at the given times and returns what was said when, in milliseconds, polling at each deadline.
    fn said(inputs: &[u64]) -> Vec<(u64, bool)> {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut typing = Typing::new(Timings::default());
        let mut said = Vec::new();
        let mut inputs = inputs.iter().copied().peekable();
        loop {
            let next_input = inputs.peek().map(|ms| at(*ms));
            match (typing.deadline(), next_input) {
                (Some(due), next) if next.is_none_or(|input| due <= input) => {
                    if let Some(on) = typing.poll(due) {
                        said.push((u64::try_from((due - start).as_millis()).unwrap(), on));
                    }
                }
                (_, Some(input)) => {
                    typing.input(input);
                    inputs.next();
                }
                (_, None) => return said,
            }
        }
    }

    #[test]
    fn one_key_starts_after_the_debounce_and_stops_by_itself() {
        assert_eq!(said(&[0]), [(250, true), (700, false)]);
    }

    #[test]
    fn going_on_is_repeated_every_three_seconds() {
        let keys: Vec<u64> = (0..70).map(|n| n * 100).collect();
        assert_eq!(said(&keys), [(250, true), (3250, true), (6250, true), (7600, false)]);
    }

    #[test]
    fn a_pause_ends_it_and_the_next_key_begins_anew() {
        assert_eq!(said(&[0, 2000]), [(250, true), (700, false), (2250, true), (2700, false)]);
    }

    #[test]
    fn sending_takes_it_back_only_if_it_was_said() {
        let now = Instant::now();
        let mut typing = Typing::new(Timings::default());
        typing.input(now);
        assert!(!typing.stop());
        typing.input(now);
        assert_eq!(typing.poll(now + Duration::from_millis(250)), Some(true));
        assert!(typing.stop());
        assert_eq!(typing.deadline(), None);
    }

    proptest! {
        #[test]
        fn every_start_is_taken_back_and_silence_never_lasts(
            mut keys in prop::collection::vec(0u64..20_000, 1..60)
        ) {
            keys.sort_unstable();
            let said = said(&keys);
            prop_assert_eq!(said.last().map(|(_, on)| *on), Some(false));
            prop_assert!(said.first().is_some_and(|(at, on)| *on && *at == keys[0] + 250));
            for pair in said.windows(2) {
                let [(before, was), (after, is)] = pair else { unreachable!() };
                prop_assert!(*was || *is, "stopped twice");
                prop_assert!(!was || after - before <= 3000, "no word for {} ms", after - before);
            }
            for (stopped, _) in said.iter().filter(|(_, on)| !on) {
                prop_assert!(keys.contains(&(stopped - 700)));
            }
        }
    }
}
