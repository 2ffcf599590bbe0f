//! Presence leases, and sweeping.
//!
//! A user's leases are in the user's partition, the rooms of the connections in those of the conversations. What a
//! lease's end has to take out is therefore written down in the same step ("endings"), carried out, and only then
//! struck off: after a crash in between any sweeper carries it out. Must not know: why connections end.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::future::{join_all, try_join_all};
use parking_lot::Mutex;
use parlance_backplane::{
    Fault, Nodes as _, Presence, RETURNED, Refreshed, Swept, Touch, Touched, UserPresence, WORTH, trail,
};
use parlance_model::{ConnectionId, ConversationId, LogKey, NodeId, Time, UserId};

use crate::engine::{Node, millis};
use crate::keys::{PARTITIONS, user_partition};
use crate::link::{Reply, at};
use crate::turns::Turns;

/// Leases and typists that one call ends at most; the rest waits for the next sweep.
const MOST: usize = 200;
/// Partitions that one call looks at, where one call may.
const SWEPT: usize = 16;
/// Leases that one call prolongs at most, where one call may touch several partitions: Redis does nothing else meanwhile.
const REFRESHED: usize = 200;
/// How often a sweeper asks which nodes there are.
const LOOK: Duration = Duration::from_secs(2);

/// A sweeper's memory.
pub struct Sweeper {
    began: Instant,
    plan: Mutex<Plan>,
}

struct Plan {
    turns: Turns,
    looked: Option<Instant>,
}

impl Sweeper {
    /// Of a node that shares the sweeping with the others.
    pub fn new(me: NodeId, typing_ttl: Duration) -> Self {
        let plan = Plan { turns: Turns::new(me, typing_ttl), looked: None };
        Self { began: Instant::now(), plan: Mutex::new(plan) }
    }

    /// The partitions that are this node's first of all.
    pub fn own(&self) -> Vec<usize> {
        self.plan.lock().turns.own()
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Node {
    /// Takes connections whose leases ended out of their rooms.
    async fn carry_out(&self, partition: usize, endings: Vec<Reply>) -> Result<(), Fault> {
        if endings.is_empty() {
            return Ok(());
        }
        let leave = async |ending: &Reply| {
            let text = ending.text()?;
            let corrupt = || Fault::Corrupt(format!("ending {text:?}"));
            let parts: Vec<&str> = text.splitn(5, '\0').collect();
            let [user, connection, lease, place, _] = parts[..] else { return Err(corrupt()) };
            let log = LogKey::Conversation(ConversationId::parse(place).map_err(|_| corrupt())?);
            let args = self.timed().and(user).and(connection).and(0).and(lease).and("");
            self.call("gw1_leave", &self.keys.log(&log), args).await.map(drop)
        };
        // One that cannot be carried out stays for the next sweep, and holds up no other.
        let done = join_all(endings.iter().map(leave)).await;
        let done: Vec<&str> = endings
            .iter()
            .zip(done)
            .filter(|(_, done)| done.is_ok())
            .filter_map(|(it, _)| it.text().ok())
            .collect();
        if done.is_empty() {
            return Ok(());
        }
        self.call("gw1_ended", &[self.keys.endings(partition)], self.timed().all(done)).await.map(drop)
    }

    /// Sweeps partitions in one call. Returns of each what was done, and in how many milliseconds something is due.
    async fn sweep_some(&self, partitions: &[usize]) -> Vec<Result<(Swept, Option<u64>), Fault>> {
        let keys: Vec<String> = partitions.iter().flat_map(|partition| self.keys.sweep(*partition)).collect();
        let answer = match self.list("gw1_sweep", &keys, self.timed().and(MOST)).await {
            Ok(answer) => answer,
            Err(fault) => return vec![Err(fault); partitions.len()],
        };
        join_all(partitions.iter().enumerate().map(|(index, partition)| {
            let of_one = at(&answer, index).clone();
            async move {
                let answer = of_one.list()?;
                self.carry_out(*partition, at(&answer, 2).clone().list()?).await?;
                let count =
                    |of: &Reply| of.number().map(|count| usize::try_from(count).unwrap_or(usize::MAX));
                // Functions of an earlier build say nothing of it.
                let late = Duration::from_millis(at(&answer, 4).number().unwrap_or_default());
                let swept = Swept { leases: count(at(&answer, 0))?, typists: count(at(&answer, 1))?, late };
                // Negative: nothing is there at all.
                Ok((swept, at(&answer, 3).number().ok()))
            }
        }))
        .await
    }

    /// Sweeps partitions, many with one call where that may be.
    async fn sweep_all(&self, turn: &[usize]) -> Vec<Result<(Swept, Option<u64>), Fault>> {
        let by =
            async |size: usize| join_all(turn.chunks(size).map(|some| self.sweep_some(some))).await.concat();
        if self.together.load(Ordering::Relaxed) {
            let done = by(SWEPT).await;
            let apart = |one: &Result<_, Fault>| one.as_ref().is_err_and(|fault| self.turns_out_apart(fault));
            if !done.iter().any(apart) {
                return done;
            }
        }
        by(1).await
    }

    /// The partitions to be swept now.
    async fn turn(&self) -> Vec<usize> {
        let Some(sweeper) = &self.sweeper else { return (0..PARTITIONS).collect() };
        let look = sweeper.plan.lock().looked.is_none_or(|at| at.elapsed() >= LOOK);
        if look {
            match self.live().await {
                Ok(live) => {
                    let mut plan = sweeper.plan.lock();
                    plan.turns.among(live.into_iter().map(|node| node.state.id).collect(), sweeper.now());
                    plan.looked = Some(Instant::now());
                }
                Err(fault) => tracing::debug!(%fault, "asking which nodes there are"),
            }
        }
        sweeper.plan.lock().turns.due(sweeper.now())
    }

    /// Prolongs leases of some partitions. Returns which of them had ended.
    async fn prolong_some(&self, parts: &[Part<'_>]) -> Result<Vec<usize>, Fault> {
        let now = (self.options.clock)();
        let keys: Vec<String> = parts.iter().map(|part| self.keys.deadlines(part.partition)).collect();
        let args = parts.iter().fold(self.timed().and(millis(WORTH)), |args, part| {
            let touches = || part.touches.iter().map(|(_, touch)| touch);
            let members = touches().map(|touch| format!("{}\0{}", touch.user, touch.connection));
            let lengths = touches().map(|touch| millis(touch.deadline.since(now)));
            args.and(part.touches.len()).all(members).all(lengths)
        });
        let missing = self.list("gw1_prolong", &keys, args).await?;
        let index = |reply: &Reply| Ok(usize::try_from(reply.number()?).unwrap_or(usize::MAX));
        let missing = missing.iter().map(index).collect::<Result<Vec<_>, Fault>>()?;
        let all: Vec<usize> = indexes(parts).collect();
        Ok(missing.into_iter().filter_map(|at| all.get(at).copied()).collect())
    }

    /// Prolongs all of these, so many in one call at most. A call that fails names those it was for.
    async fn prolong_all(&self, parts: &[Part<'_>], most: usize) -> Vec<Result<Vec<usize>, Failed>> {
        let calls = chunks(parts, most).map(|some| async move {
            let prolonged = self.prolong_some(some).await;
            prolonged.map_err(|fault| Failed { fault, of: indexes(some).collect() })
        });
        join_all(calls).await
    }
}

/// Leases of one partition that are prolonged together, with their places among all.
struct Part<'a> {
    partition: usize,
    touches: Vec<(usize, &'a Touch)>,
}

/// A call that failed, and which leases it was for.
struct Failed {
    fault: Fault,
    of: Vec<usize>,
}

/// The leases by partition, no more together than one call may prolong.
fn parts(touches: &[Touch]) -> Vec<Part<'_>> {
    let mut partitions: BTreeMap<usize, Vec<(usize, &Touch)>> = BTreeMap::new();
    for (index, touch) in touches.iter().enumerate() {
        partitions.entry(user_partition(&touch.user)).or_default().push((index, touch));
    }
    let part = |(partition, all): (usize, Vec<_>)| {
        let chunks: Vec<_> = all.chunks(REFRESHED).map(<[_]>::to_vec).collect();
        chunks.into_iter().map(move |touches| Part { partition, touches })
    };
    partitions.into_iter().flat_map(part).collect()
}

fn indexes(parts: &[Part<'_>]) -> impl Iterator<Item = usize> {
    parts.iter().flat_map(|part| part.touches.iter().map(|(index, _)| *index))
}

/// As many parts at a time as hold no more than `most` leases, at least one.
fn chunks<'a, 'b>(parts: &'b [Part<'a>], most: usize) -> impl Iterator<Item = &'b [Part<'a>]> {
    let mut count = 0;
    parts.chunk_by(move |before, next| {
        count += before.touches.len();
        let fits = count + next.touches.len() <= most;
        if !fits {
            count = 0;
        }
        fits
    })
}

fn status_word(touch: &Touch) -> String {
    touch.status.map(|status| trail::status_digit(status).to_string()).unwrap_or_default()
}

#[async_trait]
impl Presence for Node {
    async fn touch(&self, touch: Touch) -> Result<Touched, Fault> {
        let args = self
            .timed()
            .and(&touch.user)
            .and(&touch.connection)
            .and(&touch.mount)
            .and(status_word(&touch))
            .and(millis(touch.deadline.since((self.options.clock)())))
            .and(touch.max)
            .and(millis(touch.deadline.since(touch.heard)))
            .and(millis(RETURNED));
        let answer = self.call("gw1_touch", &self.keys.coming(&touch.user), args).await?;
        Ok(if answer.text()? == "many" { Touched::TooMany } else { Touched::Ok })
    }

    async fn refresh(&self, touches: &[Touch]) -> Result<Refreshed, Fault> {
        let parts = parts(touches);
        let together = self.together.load(Ordering::Relaxed);
        let mut done = self.prolong_all(&parts, if together { REFRESHED } else { 1 }).await;
        let apart = |one: &Result<_, Failed>| one.as_ref().is_err_and(|it| self.turns_out_apart(&it.fault));
        if together && done.iter().any(apart) {
            done = self.prolong_all(&parts, 1).await;
        }
        let mut refreshed = Refreshed::default();
        // Of several faults one says enough.
        let mut failed = None;
        for answer in done {
            match answer {
                Ok(missing) => refreshed.ended.extend(missing),
                Err(Failed { fault, of }) => {
                    refreshed.away.extend(of);
                    failed = Some(fault);
                }
            }
        }
        refreshed.ended.sort_unstable();
        match failed {
            Some(fault) if refreshed.away.len() == touches.len() => Err(fault),
            Some(fault) => {
                tracing::warn!(%fault, "some leases could not be refreshed");
                Ok(refreshed)
            }
            None => Ok(refreshed),
        }
    }

    async fn close(&self, user: &UserId, connection: &ConnectionId) -> Result<(), Fault> {
        let args = self.timed().and(user).and(connection);
        let endings = self.list("gw1_close", &self.keys.presence(user), args).await?;
        self.carry_out(user_partition(user), endings).await
    }

    async fn linger(&self, touch: &Touch) -> Result<(), Fault> {
        let long = millis(touch.deadline.since((self.options.clock)()));
        let args = self.timed().and(&touch.user).and(&touch.connection).and(long);
        self.call("gw1_linger", &self.keys.coming(&touch.user), args).await.map(drop)
    }

    async fn sweep(&self) -> Result<Swept, Fault> {
        let turn = self.turn().await;
        let done = self.sweep_all(&turn).await;
        let (mut sum, mut failed) = (Swept::default(), None);
        for (partition, done) in turn.iter().zip(done) {
            match done {
                Ok((swept, idle)) => {
                    sum.leases += swept.leases;
                    sum.typists += swept.typists;
                    sum.late = sum.late.max(swept.late);
                    if let Some(sweeper) = &self.sweeper {
                        sweeper.plan.lock().turns.swept(*partition, sweeper.now(), idle);
                    }
                }
                // It is tried again with the next sweep, and holds up no other.
                Err(fault) => failed = Some(fault),
            }
        }
        failed.map_or(Ok(sum), Err)
    }

    async fn status(&self, users: &[UserId]) -> Result<Vec<UserPresence>, Fault> {
        let ask = async |user: &UserId| {
            let answer = self.list("gw1_status", &self.keys.presence(user), self.timed().and(user)).await?;
            Ok::<_, Fault>(UserPresence {
                status: trail::status(at(&answer, 0).number()?)?,
                devices: usize::try_from(at(&answer, 1).number()?).unwrap_or(usize::MAX),
                last_seen: at(&answer, 2).number().ok().map(Time),
            })
        };
        try_join_all(users.iter().map(ask)).await
    }
}
