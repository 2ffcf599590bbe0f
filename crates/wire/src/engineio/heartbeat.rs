//! The heartbeat: the server pings, the client answers in time or is gone.
//!
//! Owns: when to ping and when to give up. Must not know: clocks, timers, sockets.

use std::time::Duration;

use parlance_model::Time;

/// What is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Beat {
    /// Send `2`; from now on the pong is awaited.
    Ping,
    /// The pong did not come: close the session. It stays due.
    TimedOut,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// The next ping goes out then.
    Resting(Time),
    /// A pong is awaited until then; whether another packet has already put that off.
    Waiting(Time, bool),
}

/// One session's heartbeat. A timer set to [`Heartbeat::deadline`] and then [`Heartbeat::due`] drive it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Heartbeat {
    interval: Duration,
    timeout: Duration,
    state: State,
}

impl Heartbeat {
    /// The heartbeat of a session opened now: the first ping comes after one interval.
    pub fn new(now: Time, interval: Duration, timeout: Duration) -> Self {
        Self { interval, timeout, state: State::Resting(now + interval) }
    }

    /// When something is due next.
    pub const fn deadline(&self) -> Time {
        match self.state {
            State::Resting(at) | State::Waiting(at, _) => at,
        }
    }

    /// What is due by now, if anything. A late call pings first: the client gets its whole timeout even if
    /// nobody asked for longer than that.
    pub fn due(&mut self, now: Time) -> Option<Beat> {
        if now < self.deadline() {
            return None;
        }
        match self.state {
            State::Resting(_) => {
                self.state = State::Waiting(now + self.timeout, false);
                Some(Beat::Ping)
            }
            State::Waiting(..) => Some(Beat::TimedOut),
        }
    }

    /// A pong (`3`) came: the next ping goes out one interval from now. One that nobody awaits changes
    /// nothing, so that a client cannot keep itself from being pinged.
    pub fn pong(&mut self, now: Time) {
        if matches!(self.state, State::Waiting(..)) {
            self.state = State::Resting(now + self.interval);
        }
    }

    /// Another packet came. It is no pong; but once per ping it gives the pong its whole time again, as the
    /// reference does, for a client whose pong queues behind a long upload.
    pub fn other(&mut self, now: Time) {
        match self.state {
            State::Waiting(until, false) if now < until => {
                self.state = State::Waiting(now + self.timeout, true);
            }
            _ => {}
        }
    }
}
