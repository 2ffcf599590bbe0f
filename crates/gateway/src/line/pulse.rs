//! A session's heartbeat and what its owner wants to know of it.
//!
//! Must not know: packets, transports.

use std::time::Duration;

use parlance_model::Time;
use parlance_wire::engineio::{Beat, Heartbeat};

use super::Beats;

/// A timer may be late by so much on an idle node.
const LATE: Duration = Duration::from_millis(50);

/// A heartbeat.
pub(super) struct Pulse {
    heartbeat: Heartbeat,
    beats: Beats,
    awaiting: bool,
}

impl Pulse {
    pub(super) fn new(heartbeat: Heartbeat) -> Self {
        Self { heartbeat, beats: Beats::default(), awaiting: false }
    }

    /// When something is due next.
    pub(super) const fn deadline(&self) -> Time {
        self.heartbeat.deadline()
    }

    /// Until when the ping under way is to be answered, if there is one.
    pub(super) fn expires(&self) -> Option<Time> {
        self.awaiting.then(|| self.heartbeat.deadline())
    }

    /// What is due. A timer is late by a little: that is not added to the client's time.
    pub(super) fn due(&mut self, now: Time) -> Option<Beat> {
        let late = now.since(self.heartbeat.deadline());
        let beat = self.heartbeat.due(if late < LATE { now - late } else { now })?;
        if beat == Beat::Ping {
            self.beats.pinged = true;
            self.awaiting = true;
        }
        Some(beat)
    }

    /// A pong came. One that nobody awaits confirms nothing.
    pub(super) fn pong(&mut self, now: Time) {
        self.heartbeat.pong(now);
        self.beats.ponged |= self.awaiting;
        self.awaiting = false;
    }

    /// Another packet came.
    pub(super) fn other(&mut self, now: Time) {
        self.heartbeat.other(now);
    }

    /// What happened since this was asked last.
    pub(super) const fn take_beats(&mut self) -> Beats {
        std::mem::replace(&mut self.beats, Beats { pinged: false, ponged: false })
    }
}
