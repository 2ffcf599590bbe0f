//! Presence leases, in memory; when a user was last seen is kept in the durable file.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parlance_model::presence::{combined, transition};
use parlance_model::{ConnectionId, Status, Time, Topic, UserId};

use super::bus::Hub;
use super::rooms::{Book, Instant};
use super::tables::LAST_SEEN;
use super::typing::Moment;
use super::writer::Writer;
use super::{Engine, Node};
use crate::trail::{ConnectionChanged, Kinds};
use crate::{
    Fault, Happening, Presence, PresenceCause, PresenceChanged, Publication, RETURNED, Refreshed, Swept,
    Touch, Touched, UserPresence, WORTH,
};

/// Longer without a sweep means that the nodes could not refresh their leases either …
const SILENCE: Duration = Duration::from_secs(3);
/// … so for so long nothing expires, and all of them touch first.
const GRACE: Duration = Duration::from_secs(15);
/// Users remembered in memory after they went, until the file certainly has them.
const GONE: usize = 4096;
/// Comings and goings that wait for the writer at most.
const MOST_TOLD: usize = 100_000;

/// All leases.
#[derive(Default)]
pub struct Leases {
    users: HashMap<UserId, User>,
    deadlines: BTreeSet<(Time, UserId, ConnectionId)>,
    gone: HashMap<UserId, Time>,
    gone_order: VecDeque<UserId>,
    last_sweep: Option<Time>,
    grace_until: Time,
    /// What of leases a trail is kept of, and what of that was not passed on yet.
    kinds: Kinds,
    told: Vec<Happening>,
    /// Here, so that a lease and the rooms of its connection end under one lock.
    pub rooms: Book,
}

struct User {
    leases: HashMap<ConnectionId, Lease>,
    /// What was published last.
    status: Status,
    /// When the user was heard of, apart from what the leases tell.
    seen: Time,
}

struct Lease {
    mount: Arc<str>,
    status: Status,
    deadline: Time,
    length: Duration,
    /// Its connection has ended, and its client is to come back.
    lingers: bool,
}

impl User {
    /// Of what lingers on a mount, the first by name.
    fn lingering(&self, mount: &Arc<str>) -> Option<ConnectionId> {
        let lingers = self.leases.iter().filter(|(_, lease)| lease.lingers && lease.mount == *mount);
        lingers.map(|(connection, _)| connection).min_by_key(ToString::to_string).cloned()
    }

    fn last_seen(&self, now: Time) -> Time {
        let heard = self.leases.values().map(|lease| lease.heard(now)).max();
        heard.map_or(self.seen, |heard| heard.max(self.seen))
    }
}

impl Lease {
    fn is_live(&self, now: Time) -> bool {
        self.deadline > now && !self.lingers
    }

    fn heard(&self, now: Time) -> Time {
        (self.deadline - self.length).min(now)
    }
}

/// A user who has no lease any more, for the durable file.
type Left = (UserId, Time);

impl Leases {
    /// None yet, with a trail of these kinds.
    pub fn keeping(kinds: Kinds) -> Self {
        Self { kinds, ..Self::default() }
    }

    fn tell(&mut self, what: impl FnOnce() -> Happening) {
        if self.kinds.presence || self.kinds.connections {
            let what = what();
            if self.kinds.has(&what) {
                self.told.push(what);
            }
        }
    }

    /// In the order it happened; what the writer cannot take now goes with the next that it can.
    fn pass_on(&mut self, writer: &Writer) {
        if self.told.is_empty() {
            return;
        }
        let told = std::mem::take(&mut self.told);
        let kept = Arc::new(told);
        let given = kept.clone();
        if !writer.offer(move |step| given.iter().try_for_each(|what| step.happened(what))) {
            self.told = Arc::unwrap_or_clone(kept);
            let surplus = self.told.len().saturating_sub(MOST_TOLD);
            if surplus > 0 {
                tracing::error!(surplus, "the writer takes nothing: comings and goings are not written down");
                self.told.drain(..surplus);
            }
        }
    }

    fn touch(&mut self, touch: &Touch, now: Time, hub: &Hub) -> Touched {
        let new_user = || User { leases: HashMap::new(), status: Status::Offline, seen: now };
        let user = self.users.entry(touch.user.clone()).or_insert_with(new_user);
        let length = touch.deadline.since(touch.heard);
        let (mut returned, mut came) = (None, false);
        let lease = match user.leases.remove(&touch.connection) {
            Some(lease) => {
                self.deadlines.remove(&(lease.deadline, touch.user.clone(), touch.connection.clone()));
                let status = touch.status.unwrap_or(lease.status);
                let deadline = lease.deadline.max(touch.deadline);
                Lease { mount: touch.mount.clone(), status, deadline, length, lingers: false }
            }
            None => {
                let live = |lease: &&Lease| lease.mount == touch.mount && lease.is_live(now);
                if touch.max > 0 && user.leases.values().filter(live).count() >= touch.max as usize {
                    return Touched::TooMany;
                }
                returned = user.lingering(&touch.mount);
                came = true;
                let status = touch.status.unwrap_or_default();
                Lease { mount: touch.mount.clone(), status, deadline: touch.deadline, length, lingers: false }
            }
        };
        if let Some(before) = returned
            && let Some(lingering) = user.leases.get_mut(&before)
        {
            // It is nobody else's place any more.
            lingering.mount = "".into();
            let until = lingering.deadline.min(now + RETURNED);
            self.deadlines.remove(&(lingering.deadline, touch.user.clone(), before.clone()));
            self.deadlines.insert((until, touch.user.clone(), before));
            lingering.deadline = until;
        }
        self.deadlines.insert((lease.deadline, touch.user.clone(), touch.connection.clone()));
        user.leases.insert(touch.connection.clone(), lease);
        user.seen = user.seen.max(now);
        if came {
            self.tell(|| connection(&touch.user, &touch.connection, &touch.mount, (true, now)));
        }
        self.settle(&touch.user, PresenceCause::Said, now, hub);
        Touched::Ok
    }

    /// `false` when there is no such lease.
    fn prolong(&mut self, touch: &Touch) -> bool {
        let Some(user) = self.users.get_mut(&touch.user) else { return false };
        let Some(lease) = user.leases.get_mut(&touch.connection) else { return false };
        if touch.deadline >= lease.deadline + WORTH {
            self.deadlines.remove(&(lease.deadline, touch.user.clone(), touch.connection.clone()));
            self.deadlines.insert((touch.deadline, touch.user.clone(), touch.connection.clone()));
            lease.deadline = touch.deadline;
        }
        true
    }

    fn linger(&mut self, touch: &Touch) {
        let user = self.users.get_mut(&touch.user);
        let Some(lease) = user.and_then(|user| user.leases.get_mut(&touch.connection)) else { return };
        let until = lease.deadline.max(touch.deadline);
        self.deadlines.remove(&(lease.deadline, touch.user.clone(), touch.connection.clone()));
        self.deadlines.insert((until, touch.user.clone(), touch.connection.clone()));
        (lease.deadline, lease.lingers) = (until, true);
    }

    /// Whether the connection holds a lease that has not ended.
    pub fn holds(&self, user: &UserId, connection: &ConnectionId) -> bool {
        self.users.get(user).is_some_and(|user| user.leases.contains_key(connection))
    }

    fn close(&mut self, user: &UserId, connection: &ConnectionId, now: Time, hub: &Hub) -> Option<Left> {
        let known = self.users.get_mut(user)?;
        let lease = known.leases.remove(connection)?;
        known.seen = known.seen.max(now);
        self.deadlines.remove(&(lease.deadline, user.clone(), connection.clone()));
        self.tell(|| self::connection(user, connection, &lease.mount, (false, now)));
        self.rooms.end(connection, Instant { now, hub });
        self.settle(user, PresenceCause::Closed, now, hub)
    }

    /// Publishes the user's status when it changed; lets go of users without a lease.
    fn settle(&mut self, id: &UserId, cause: PresenceCause, now: Time, hub: &Hub) -> Option<Left> {
        let user = self.users.get_mut(id)?;
        let before = user.status;
        if let Some(status) = transition(before, combined(user.leases.values().map(|lease| lease.status))) {
            user.status = status;
            let last_seen = user.last_seen(now);
            let changed = PresenceChanged { user: id.clone(), status, before, last_seen, at: now, cause };
            hub.publish(Topic::Presence(id.clone()), Publication::Presence(changed.clone()));
            hub.publish(Topic::PresenceAll, Publication::Presence(changed.clone()));
            self.tell(|| Happening::Presence(changed));
        }
        let user = self.users.get(id)?;
        if !user.leases.is_empty() {
            return None;
        }
        let left = (id.clone(), user.seen);
        self.users.remove(id);
        if self.gone.insert(left.0.clone(), left.1).is_none() {
            self.gone_order.push_back(left.0.clone());
        }
        while self.gone_order.len() > GONE {
            if let Some(oldest) = self.gone_order.pop_front() {
                self.gone.remove(&oldest);
            }
        }
        Some(left)
    }

    fn sweep(&mut self, now: Time, hub: &Hub) -> (usize, Vec<Left>) {
        let silence = self.last_sweep.replace(now).map_or(Duration::ZERO, |last| now.since(last));
        if silence > SILENCE {
            self.grace_until = now + GRACE;
        }
        if now < self.grace_until {
            return (0, Vec::new());
        }
        let (mut ended, mut touched) = (0, BTreeSet::new());
        while self.deadlines.first().is_some_and(|(deadline, ..)| *deadline <= now) {
            let Some((_, user, connection)) = self.deadlines.pop_first() else { break };
            if let Some(known) = self.users.get_mut(&user)
                && let Some(lease) = known.leases.remove(&connection)
            {
                known.seen = known.seen.max(lease.heard(now));
                self.tell(|| self::connection(&user, &connection, &lease.mount, (false, now)));
            }
            self.rooms.end(&connection, Instant { now, hub });
            ended += 1;
            touched.insert(user);
        }
        let settle = |user: UserId| self.settle(&user, PresenceCause::Expired, now, hub);
        (ended, touched.into_iter().filter_map(settle).collect())
    }

    /// Those of these users who have a lease.
    pub fn leased(&self, users: Vec<UserId>) -> Vec<UserId> {
        users.into_iter().filter(|user| self.users.contains_key(user)).collect()
    }

    /// `Err`: ask the durable file.
    fn status(&self, id: &UserId, now: Time) -> Result<UserPresence, ()> {
        if let Some(user) = self.users.get(id) {
            let devices = user.leases.values().filter(|lease| lease.is_live(now)).count();
            return Ok(UserPresence { status: user.status, devices, last_seen: Some(user.last_seen(now)) });
        }
        self.gone.get(id).map(|at| absent(Some(*at))).ok_or(())
    }
}

fn connection(user: &UserId, id: &ConnectionId, mount: &str, (on, at): (bool, Time)) -> Happening {
    let (user, connection, mount) = (user.clone(), id.to_string(), mount.to_owned());
    Happening::Connection(ConnectionChanged { user, connection, mount, on, at })
}

fn absent(last_seen: Option<Time>) -> UserPresence {
    UserPresence { status: Status::Offline, devices: 0, last_seen }
}

impl Engine {
    /// Soon, not now: it is only ever a detail of an absent user.
    fn keep_last_seen(&self, left: Vec<Left>) {
        if left.is_empty() {
            return;
        }
        self.writer.run_behind(move |step| {
            for (user, at) in &left {
                step.write().last_seen.insert(user.as_str(), at.millis())?;
            }
            Ok(())
        });
    }
}

#[async_trait]
impl Presence for Node {
    async fn touch(&self, touch: Touch) -> Result<Touched, Fault> {
        let now = self.engine.now();
        let mut leases = self.engine.leases.lock();
        let touched = leases.touch(&touch, now, &self.engine.hub);
        leases.pass_on(&self.engine.writer);
        Ok(touched)
    }

    async fn refresh(&self, touches: &[Touch]) -> Result<Refreshed, Fault> {
        let mut leases = self.engine.leases.lock();
        let missing = touches.iter().enumerate().filter(|(_, touch)| !leases.prolong(touch));
        Ok(Refreshed { ended: missing.map(|(index, _)| index).collect(), away: Vec::new() })
    }

    async fn close(&self, user: &UserId, connection: &ConnectionId) -> Result<(), Fault> {
        let now = self.engine.now();
        let left = {
            let mut leases = self.engine.leases.lock();
            let left = leases.close(user, connection, now, &self.engine.hub);
            leases.pass_on(&self.engine.writer);
            left
        };
        self.engine.keep_last_seen(left.into_iter().collect());
        Ok(())
    }

    async fn linger(&self, touch: &Touch) -> Result<(), Fault> {
        self.engine.leases.lock().linger(touch);
        Ok(())
    }

    async fn sweep(&self) -> Result<Swept, Fault> {
        let engine = &self.engine;
        let now = engine.now();
        let (leases, left, due) = {
            let mut leases = engine.leases.lock();
            let due = leases.deadlines.first().map(|(deadline, ..)| *deadline);
            let (ended, left) = leases.sweep(now, &engine.hub);
            leases.pass_on(&engine.writer);
            (ended, left, due.filter(|_| ended > 0))
        };
        engine.keep_last_seen(left);
        let moment = Moment { now, ttl: engine.options.typing_ttl, hub: &engine.hub };
        let (typists, silent) = engine.typists.lock().sweep(&moment);
        let first = due.into_iter().chain(silent).min();
        Ok(Swept { leases, typists, late: first.map_or(Duration::ZERO, |first| now.since(first)) })
    }

    async fn status(&self, users: &[UserId]) -> Result<Vec<UserPresence>, Fault> {
        let now = self.engine.now();
        let mut known: Vec<Result<UserPresence, ()>> = {
            let leases = self.engine.leases.lock();
            users.iter().map(|user| leases.status(user, now)).collect()
        };
        if known.iter().any(Result::is_err) {
            let (users, before) = (users.to_vec(), known);
            known = self
                .engine
                .read(move |txn| {
                    let table = txn.open_table(LAST_SEEN)?;
                    let ask = |user: &UserId| {
                        let seen = table.get(user.as_str())?.map(|at| Time(at.value()));
                        Ok::<_, Fault>(Ok(absent(seen)))
                    };
                    let pairs = before.into_iter().zip(&users);
                    pairs.map(|(known, user)| known.map_or_else(|()| ask(user), |p| Ok(Ok(p)))).collect()
                })
                .await?;
        }
        Ok(known.into_iter().map(|known| known.unwrap_or_else(|()| absent(None))).collect())
    }
}
