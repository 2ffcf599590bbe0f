//! The trail trait: one stream for each partition, read by consumer groups.
//!
//! The functions write a step where they write what it tells of, so one is never without the other. Which node reads a
//! partition is said beside it, under a deadline. Must not know: who consumes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::{join_all, try_join_all};
use parlance_backplane::trail::{Backlog, Kinds, Step, Taken, Turn, read};
use parlance_backplane::{Fault, Trail};
use parlance_model::{ConversationId, NodeId, Time};

use crate::engine::{Args, Node, millis};
use crate::keys::{PARTITIONS, partition};
use crate::link::{Reply, at};

/// Where each call touches one partition, those of other nodes are looked at every so many times.
const OTHERS: u64 = 20;
/// Steps that are brought back in one call.
const REVIVED: u64 = 500;

/// A node's part in reading.
pub struct Reader {
    /// The name it reads under.
    name: String,
    /// How often it looked.
    looks: AtomicU64,
}

impl Reader {
    /// Of a node, or of one without a name.
    pub fn new(node: Option<&NodeId>) -> Self {
        let name = node.map_or_else(|| format!("{:016x}", rand::random::<u64>()), ToString::to_string);
        Self { name, looks: AtomicU64::new(0) }
    }
}

/// Reads `id, how often taken, fields`.
fn step(partition: usize, group: &str, told: Reply) -> Result<Step, Fault> {
    let told = told.list()?;
    let fields = at(&told, 2).clone().list()?;
    let field = |name: &str| {
        let mut pairs = fields.chunks(2);
        pairs.find(|pair| at(pair, 0).text() == Ok(name)).map(|pair| at(pair, 1).clone())
    };
    let id = field("i").unwrap_or_else(|| at(&told, 0).clone());
    // What was brought back for one group is nothing new for the others.
    let other = field("g").is_some_and(|to| to.text() != Ok(group));
    let what = match (field("k"), field("w")) {
        (Some(of), Some(Reply::Bytes(word))) if !other => read(of.text()?, &word).unwrap_or_else(|fault| {
            tracing::error!(%fault, "a step of the trail cannot be read");
            None
        }),
        _ => None,
    };
    let is_unreadable = what.is_none() && !other;
    let place = at(&told, 0).text()?.to_owned();
    Ok(Step {
        id: format!("{partition}-{}", id.text()?),
        place,
        taken: at(&told, 1).number()?,
        what,
        is_unreadable,
    })
}

impl Node {
    fn turn_args(&self, turn: &Turn) -> Args {
        self.timed().and(turn.group).and(&self.reader.name).and(millis(turn.hold))
    }

    async fn settled(&self, turn: &Turn, steps: &[Step], aside: bool) -> Result<bool, Fault> {
        let places = steps.iter().map(|step| &step.place);
        let args = self.turn_args(turn).and(u8::from(aside)).all(places);
        Ok(self.call("gw1_trail_settled", &self.keys.trail(turn.part), args).await?.number()? == 1)
    }

    /// Which of these have something, in one call.
    async fn waiting_among(&self, parts: &[usize]) -> Result<Vec<usize>, Fault> {
        let keys: Vec<String> = parts.iter().map(|part| self.keys.trail(*part)[0].clone()).collect();
        let lengths = self.list("gw1_trail_waiting", &keys, Args::none()).await?;
        let found =
            parts.iter().zip(lengths).filter(|(_, length)| length.number().is_ok_and(|steps| steps > 0));
        Ok(found.map(|(part, _)| *part).collect())
    }

    /// Those this node is to look at now, where it looks at each apart.
    fn own_parts(&self) -> Vec<usize> {
        let looks = self.reader.looks.fetch_add(1, Ordering::Relaxed);
        match &self.sweeper {
            Some(sweeper) if !looks.is_multiple_of(OTHERS) => sweeper.own(),
            _ => (0..PARTITIONS).collect(),
        }
    }

    async fn backlog_among(&self, group: &str, parts: &[usize]) -> Result<Backlog, Fault> {
        let keys: Vec<String> = parts.iter().flat_map(|part| self.keys.trail(*part)).collect();
        let mut sum = Backlog::default();
        for one in self.list("gw1_trail_backlog", &keys, Args::none().and(group)).await? {
            let one = one.list()?;
            sum.steps += at(&one, 0).number()?;
            sum.dead += at(&one, 2).number()?;
            sum.dropped += at(&one, 3).number()?;
            let since = Some(Time(at(&one, 1).number()?)).filter(|since| since.millis() > 0);
            sum.since = sum.since.into_iter().chain(since).min();
        }
        Ok(sum)
    }

    /// Asks about all partitions, where one call may touch several with one for many.
    async fn over_parts<T, F>(&self, parts: &[usize], ask: impl Fn(Vec<usize>) -> F) -> Result<Vec<T>, Fault>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        if self.together.load(Ordering::Relaxed) {
            let asked = try_join_all(parts.chunks(64).map(|some| ask(some.to_vec()))).await;
            match asked {
                Err(fault) if self.turns_out_apart(&fault) => {}
                answer => return answer,
            }
        }
        join_all(parts.iter().map(|part| ask(vec![*part]))).await.into_iter().collect()
    }
}

#[async_trait]
impl Trail for Node {
    fn kinds(&self) -> Kinds {
        self.options.trail
    }

    fn parts(&self) -> usize {
        PARTITIONS
    }

    fn part_of(&self, conversation: &ConversationId) -> usize {
        partition(&format!("c:{conversation}"))
    }

    async fn waiting(&self) -> Result<Vec<usize>, Fault> {
        let parts =
            if self.together.load(Ordering::Relaxed) { (0..PARTITIONS).collect() } else { self.own_parts() };
        let found = self.over_parts(&parts, |some| async move { self.waiting_among(&some).await }).await?;
        Ok(found.concat())
    }

    async fn take(&self, turn: &Turn, most: usize) -> Result<Taken, Fault> {
        let others = self.options.trail_groups.iter().filter(|group| **group != turn.group);
        let args = self.turn_args(turn).and(most.max(1)).all(others);
        let answer = self.list("gw1_trail_take", &self.keys.trail(turn.part), args).await?;
        if at(&answer, 0).text()? == "held" {
            return Ok(Taken::Held(Duration::from_millis(at(&answer, 1).number()?)));
        }
        let steps = at(&answer, 1).clone().list()?;
        let steps = steps.into_iter().map(|told| step(turn.part, turn.group, told));
        Ok(Taken::Steps(steps.collect::<Result<_, _>>()?))
    }

    async fn settle(&self, turn: &Turn, steps: &[Step]) -> Result<bool, Fault> {
        self.settled(turn, steps, false).await
    }

    async fn bury(&self, turn: &Turn, steps: &[Step]) -> Result<bool, Fault> {
        self.settled(turn, steps, true).await
    }

    async fn buried(&self, group: &'static str, part: usize, most: usize) -> Result<Vec<Step>, Fault> {
        let args = Args::none().and(group).and(most.max(1));
        let all = self.list("gw1_trail_buried", &self.keys.trail(part), args).await?;
        all.into_iter().map(|told| step(part, group, told)).collect()
    }

    async fn revive(&self, group: &'static str, part: usize) -> Result<u64, Fault> {
        let mut count = 0;
        loop {
            let args = Args::none().and(group).and(REVIVED);
            let some = self.call("gw1_trail_revive", &self.keys.trail(part), args).await?.number()?;
            count += some;
            if some < REVIVED {
                return Ok(count);
            }
        }
    }

    async fn backlog(&self, group: &'static str) -> Result<Backlog, Fault> {
        let parts: Vec<usize> = (0..PARTITIONS).collect();
        let all =
            self.over_parts(&parts, |some| async move { self.backlog_among(group, &some).await }).await?;
        Ok(all.into_iter().fold(Backlog::default(), |sum, one| Backlog {
            steps: sum.steps + one.steps,
            since: sum.since.into_iter().chain(one.since).min(),
            dead: sum.dead + one.dead,
            dropped: sum.dropped + one.dropped,
        }))
    }
}
