//! A session's deadlines: one timer for all of them. Pure over given times.

use std::time::Duration;

use parlance_model::{Channel, Time};
use parlance_wire::Framing;

use crate::config::{Limits, Mount, Timings};

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Ping the client.
    Ping,
    /// The client has been silent for too long.
    Silent,
    /// No identity in time.
    Unauthenticated,
    /// The token ends before long, and the client is to be told.
    Expiring,
    /// The token ended.
    Expired,
    /// The socket takes nothing.
    Stalled,
    /// A message was begun and not finished.
    Unfinished,
    /// The closing handshake takes too long.
    Closed,
    /// Keep the restorable subscriptions again.
    Save,
    /// Input may be read again.
    Refill,
}

/// What the deadlines depend on besides time.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    pub last_heard: Time,
    /// A raw WebSocket; Engine.IO has a heartbeat of its own.
    pub raw: bool,
    pub authenticated: bool,
    pub token_ends: Option<Time>,
    pub warns_at: Option<Time>,
    pub stalled_since: Option<Time>,
    pub message_began: Option<Time>,
    /// Whether there is something to keep from time to time.
    pub kept: bool,
    /// Whether durable events went out that no pong has confirmed yet.
    pub unconfirmed: bool,
}

/// A session's timers.
pub(super) struct Timers {
    opened: Time,
    ping_every: Duration,
    silence: Duration,
    unauthenticated: Duration,
    stall: Duration,
    message: Duration,
    save_every: Duration,
    next_ping: Time,
    next_save: Time,
    closing: Option<Time>,
    /// The last ping sent and what had been handed over before it.
    ping: Option<(u64, Vec<(Channel, u64)>)>,
    pings: u64,
    budget: Budget,
}

/// A pending confirmation is asked for this often at most.
const CONFIRM: Duration = Duration::from_secs(1);

/// Confirmed positions are kept this long after they moved.
const SAVE_SOON: Duration = Duration::from_secs(2);

/// What is due again and again is due at these moments, in milliseconds: a node wakes once for many connections.
const SLOT: u64 = 100;

/// So long after now, or a little later.
fn slot(now: Time, after: Duration) -> Time {
    let at = now + after;
    // Not where a slot would make a difference.
    if after < Duration::from_secs(5) { at } else { Time(at.millis().next_multiple_of(SLOT)) }
}

impl Timers {
    pub(super) fn new(now: Time, mount: &Mount, limits: &Limits, timings: &Timings) -> Self {
        let ping_every = Duration::from_millis(mount.ping_interval_ms);
        let (kept, unauthenticated) = match mount.carried() {
            Framing::Raw => (timings.restore(), limits.unauthenticated_ms),
            Framing::Socketio => (timings.recovery(), mount.connect_timeout_ms),
        };
        let save_every = (kept / 2).max(Duration::from_millis(500));
        Self {
            opened: now,
            ping_every,
            silence: ping_every + Duration::from_millis(mount.ping_timeout_ms),
            unauthenticated: Duration::from_millis(unauthenticated),
            stall: Duration::from_millis(limits.write_stall_ms),
            message: Duration::from_millis(limits.message_ms),
            save_every,
            next_ping: slot(now, ping_every),
            next_save: slot(now, save_every),
            closing: None,
            ping: None,
            pings: 0,
            budget: Budget::new(now, if limits.rates { limits.frames_per_second } else { 0 }),
        }
    }

    /// The earliest deadline and what it is for.
    pub(super) fn next(&self, view: &View) -> (Time, Due) {
        if let Some(at) = self.closing {
            return (at, Due::Closed);
        }
        let mut all: smallvec::SmallVec<[(Time, Due); 10]> = smallvec::SmallVec::new();
        if view.raw {
            all.push((self.ping_at(view), Due::Ping));
            all.push((view.last_heard + self.silence, Due::Silent));
        }
        if !view.authenticated {
            all.push((self.opened + self.unauthenticated, Due::Unauthenticated));
        }
        all.extend(view.warns_at.map(|at| (at, Due::Expiring)));
        all.extend(view.token_ends.map(|at| (at, Due::Expired)));
        all.extend(view.stalled_since.map(|at| (at + self.stall, Due::Stalled)));
        all.extend(view.message_began.map(|at| (at + self.message, Due::Unfinished)));
        if view.kept {
            all.push((self.next_save, Due::Save));
        }
        all.extend(self.budget.refill_at().map(|at| (at, Due::Refill)));
        all.into_iter().min_by_key(|(at, _)| *at).unwrap_or((self.next_save, Due::Save))
    }

    /// Pings come at their interval, and sooner when something awaits confirmation and no ping is under way.
    fn ping_at(&self, view: &View) -> Time {
        if view.unconfirmed && self.ping.is_none() {
            let soon = (self.next_ping - self.ping_every) + CONFIRM;
            return soon.min(self.next_ping);
        }
        self.next_ping
    }

    /// A ping goes out now; `handed` is what was surely written before it. Returns its number.
    pub(super) fn pinged(&mut self, now: Time, handed: Vec<(Channel, u64)>) -> u64 {
        self.pings += 1;
        self.ping = Some((self.pings, handed));
        self.next_ping = slot(now, self.ping_every);
        self.pings
    }

    /// A pong came: what was handed over before its ping has arrived.
    pub(super) fn ponged(&mut self, number: u64) -> Option<Vec<(Channel, u64)>> {
        let (expected, _) = self.ping.as_ref()?;
        if *expected != number {
            return None;
        }
        self.ping.take().map(|(_, handed)| handed)
    }

    /// The subscriptions were kept.
    pub(super) fn saved(&mut self, now: Time) {
        self.next_save = slot(now, self.save_every);
    }

    /// The subscriptions are kept again before long: one save for what moves in the meantime.
    /// Where there are many connections, each keeps less often.
    pub(super) fn save_soon(&mut self, now: Time, connections: usize) {
        let crowd = u32::try_from(connections / 1000).unwrap_or(u32::MAX);
        let wait = SAVE_SOON.saturating_mul(crowd.saturating_add(1)).min(self.save_every);
        self.next_save = self.next_save.min(now + wait);
    }

    /// The client is in no namespace since now.
    pub(super) const fn alone_since(&mut self, now: Time) {
        self.opened = now;
    }

    /// The connection is closing; it must be done by `at`.
    pub(super) const fn close_by(&mut self, at: Time) {
        self.closing = Some(at);
    }

    /// Counts a frame.
    pub(super) fn frame(&mut self, now: Time) {
        self.budget.spend(now);
    }

    /// Whether another frame may be read now.
    pub(super) fn may_read(&mut self, now: Time) -> bool {
        self.budget.has(now)
    }
}

/// A bucket of frames: full for one second's worth.
struct Budget {
    per_second: u32,
    /// Thousandths of a frame.
    left: u64,
    at: Time,
}

impl Budget {
    const fn new(now: Time, per_second: u32) -> Self {
        Self { per_second, left: per_second as u64 * 1000, at: now }
    }

    fn refill(&mut self, now: Time) {
        let ms = u64::try_from(now.since(self.at).as_millis()).unwrap_or(u64::MAX);
        let full = u64::from(self.per_second) * 1000;
        self.left = self.left.saturating_add(ms.saturating_mul(u64::from(self.per_second))).min(full);
        self.at = self.at.max(now);
    }

    fn spend(&mut self, now: Time) {
        if self.per_second > 0 {
            self.refill(now);
            self.left = self.left.saturating_sub(1000);
        }
    }

    fn has(&mut self, now: Time) -> bool {
        if self.per_second == 0 {
            return true;
        }
        self.refill(now);
        self.left >= 1000
    }

    fn refill_at(&self) -> Option<Time> {
        if self.per_second == 0 || self.left >= 1000 {
            return None;
        }
        let ms = (1000 - self.left).div_ceil(u64::from(self.per_second)).max(1);
        Some(self.at + Duration::from_millis(ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::default_mounts;

    fn timers() -> Timers {
        Timers::new(Time(0), &default_mounts()[0], &Limits::default(), &Timings::default())
    }

    fn view() -> View {
        View {
            last_heard: Time(0),
            raw: true,
            authenticated: true,
            token_ends: None,
            warns_at: None,
            stalled_since: None,
            message_began: None,
            kept: false,
            unconfirmed: false,
        }
    }

    #[test]
    fn pings_come_at_25_s_and_silence_ends_at_45_s() {
        let mut t = timers();
        assert_eq!(t.next(&view()), (Time(25_000), Due::Ping));
        t.pinged(Time(25_000), vec![]);
        assert_eq!(t.next(&view()), (Time(45_000), Due::Silent));
        let heard = View { last_heard: Time(25_010), ..view() };
        assert_eq!(t.next(&heard), (Time(50_000), Due::Ping));
    }

    #[test]
    fn connections_that_came_at_about_the_same_time_are_pinged_at_the_same_moment() {
        for came in [1, 40, 99, 100] {
            let mut t =
                Timers::new(Time(came), &default_mounts()[0], &Limits::default(), &Timings::default());
            let now = View { last_heard: Time(came), ..view() };
            assert_eq!(t.next(&now), (Time(25_100), Due::Ping), "{came}");
            t.pinged(Time(25_100 + came % 3), vec![]);
            assert_eq!(t.next_ping, Time(if came % 3 == 0 { 50_100 } else { 50_200 }));
        }
    }

    #[test]
    fn an_unauthenticated_socket_has_10_s_and_a_started_message_10_s() {
        let t = timers();
        assert_eq!(t.next(&View { authenticated: false, ..view() }), (Time(10_000), Due::Unauthenticated));
        let began = View { message_began: Some(Time(3_000)), ..view() };
        assert_eq!(t.next(&began), (Time(13_000), Due::Unfinished));
        let stalled = View { stalled_since: Some(Time(5_000)), ..view() };
        assert_eq!(t.next(&stalled), (Time(15_000), Due::Stalled));
        assert_eq!(t.next(&View { token_ends: Some(Time(7)), ..view() }), (Time(7), Due::Expired));
        let warned = View { token_ends: Some(Time(7)), warns_at: Some(Time(3)), ..view() };
        assert_eq!(t.next(&warned), (Time(3), Due::Expiring));
    }

    #[test]
    fn what_awaits_confirmation_is_pinged_for_within_a_second_and_confirmed_by_its_pong_only() {
        let mut t = timers();
        let waiting = View { unconfirmed: true, ..view() };
        assert_eq!(t.next(&waiting), (Time(1_000), Due::Ping));
        let number = t.pinged(Time(1_000), vec![(Channel::Notifications, 7)]);
        assert_eq!(t.next(&waiting), (Time(26_000), Due::Ping), "one at a time");
        assert_eq!(t.ponged(number + 1), None);
        assert_eq!(t.ponged(number), Some(vec![(Channel::Notifications, 7)]));
        assert_eq!(t.ponged(number), None);
    }

    #[test]
    fn more_frames_than_allowed_are_not_read_until_the_bucket_refills() {
        let mut t = timers();
        for _ in 0..200 {
            assert!(t.may_read(Time(0)));
            t.frame(Time(0));
        }
        assert!(!t.may_read(Time(0)));
        assert_eq!(t.next(&view()), (Time(5), Due::Refill));
        assert!(t.may_read(Time(5)));
    }
}
