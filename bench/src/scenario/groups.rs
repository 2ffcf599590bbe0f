//! Rooms of senders and receivers: what fan-out, many rooms, pairs and acknowledgements have in common.
//!
//! Must not know: which of them it is.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::{Result, ensure};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::common::{Common, Stage};
use super::crowd::{Ended, Who, queue, receive, speak};
use super::ear::Ear;
use super::finish::{self, Counted, Window};
use super::flow::{Closing, Flow};
use super::gather::{Arrivals, Gate, Seat};
use super::mouth::Voice;
use crate::load::schedule::{Due, pace};
use crate::outcome::{Checks, Outcome};
use crate::speech::Speech;
use crate::target::Side;
use crate::target::rooms::{self, Room};

/// What is set up.
#[derive(Debug, Clone, Copy, Default)]
pub struct Groups {
    /// How many rooms.
    pub rooms: usize,
    /// How many in each only hear.
    pub receivers: usize,
    /// How many in each send (and hear).
    pub senders: usize,
    /// Receivers answer every message with receipts.
    pub receipts: bool,
    /// A closed loop goes on with acknowledgements, not with deliveries.
    pub by_acks: bool,
    /// Typing is told instead of messages.
    pub typing: bool,
    /// Those who are cut come back.
    pub comes_back: bool,
}

/// A load that is set up.
pub struct Load {
    groups: Groups,
    tasks: JoinSet<Ended>,
    queues: Vec<Option<mpsc::Sender<Due>>>,
    flow: Option<Arc<Flow>>,
    planned: Vec<u64>,
    closed: bool,
    arrivals: Arrivals,
    locals: usize,
}

impl Groups {
    /// All senders.
    pub const fn all_senders(&self) -> usize {
        self.rooms * self.senders
    }

    fn audience(&self, speech: &dyn Speech) -> usize {
        self.receivers + self.senders - usize::from(!speech.echoes() || self.typing)
    }

    /// Whether the connection `index` in `room` is this process's: one room is shared out, many are dealt whole.
    fn is_local(&self, common: &Common, room: usize, index: usize) -> bool {
        common.part.has(if self.rooms == 1 { index } else { room })
    }

    /// Makes the rooms and brings everybody in.
    pub async fn set_up(self, stage: &Stage) -> Result<Load> {
        let common = &stage.common;
        ensure!(self.rooms > 0 && self.senders > 0, "nobody is there");
        ensure!(
            !common.closed || common.part.of == 1 || self.rooms > 1,
            "a closed loop of one room is one process's"
        );
        let names: Vec<String> =
            (0..self.rooms).map(|room| rooms::name(&stage.place, &stage.run.id, room)).collect();
        let rooms: Vec<Room> = names
            .iter()
            .enumerate()
            .filter(|(room, _)| if self.rooms == 1 { common.part.index == 0 } else { common.part.has(*room) })
            .map(|(room, name)| Room { name: name.clone(), members: self.members(stage, room) })
            .collect();
        stage.make(&rooms).await?;
        let (mut queues, mut dues) = (Vec::new(), Vec::new());
        for sender in 0..self.all_senders() {
            let local = self.is_local(common, sender / self.senders, sender % self.senders);
            let pair = local.then(queue);
            let (queue, due) = pair.map_or((None, None), |(queue, due)| (Some(queue), Some(due)));
            queues.push(queue);
            dues.push(due);
        }
        let audience = self.audience(stage.place.speech()) as u32;
        let closing = if self.by_acks { Closing::Acked } else { Closing::Delivered { audience } };
        let flow = common.closed.then(|| Flow::new(closing, queues.clone()));
        let planned = if common.closed { Vec::new() } else { common.plan(self.all_senders()).counts() };
        let (gate, arrivals) = Gate::new(stage, self.comes_back);
        let (closed, tasks) = (common.closed, JoinSet::new());
        let mut load = Load { groups: self, tasks, queues, flow, planned, closed, arrivals, locals: 0 };
        for (room, name) in names.iter().enumerate() {
            load.fill(stage, &gate, (room, name), &mut dues);
        }
        load.arrivals.wait(load.locals).await?;
        Ok(load)
    }

    fn members(&self, stage: &Stage, room: usize) -> Vec<String> {
        let senders = (0..self.senders).map(|index| user(stage, 's', room, index));
        senders.chain((0..self.receivers).map(|index| user(stage, 'r', room, index))).collect()
    }
}

fn user(stage: &Stage, kind: char, room: usize, index: usize) -> String {
    format!("pb{}{kind}{room}-{index}", stage.run.id)
}

impl Load {
    fn fill(
        &mut self,
        stage: &Stage,
        gate: &Gate,
        (room, name): (usize, &String),
        dues: &mut [Option<mpsc::Receiver<Due>>],
    ) {
        let Groups { receivers, senders, receipts, typing, .. } = self.groups;
        let moment = typing.then(|| Arc::new(AtomicU64::new(0)));
        let ear = |shard: usize, user: &str| {
            let mut ear = Ear::new(&stage.run, stage.place.speech(), self.flow.as_ref(), shard);
            ear.receipts = receipts.then(|| user.to_owned());
            ear.signal.clone_from(&moment);
            ear.follows = self.groups.comes_back;
            ear
        };
        let mut seats = Vec::new();
        for index in 0..receivers {
            if self.groups.is_local(&stage.common, room, index) {
                let (user, index) = (user(stage, 'r', room, index), room * receivers + index);
                seats.push((
                    ear(index, &user),
                    Seat { user, index, side: Side::Receiver, rooms: vec![name.clone()] },
                ));
            }
        }
        self.locals += seats.len();
        for (ear, seat) in seats {
            self.tasks.spawn(receive(gate.clone(), seat, ear));
        }
        for index in 0..senders {
            let sender = room * senders + index;
            let Some(due) = dues[sender].take() else { continue };
            let mut ear = Ear::new(&stage.run, stage.place.speech(), self.flow.as_ref(), sender);
            let user = user(stage, 's', room, index);
            // Authors hear of receipts; they give none.
            ear.author = receipts;
            ear.follows = self.groups.comes_back;
            let others = self.groups.members(stage, room).into_iter().filter(|member| *member != user);
            let voice = Voice {
                sender: sender as u32,
                room: name.clone(),
                to: if typing { others.take(8).collect() } else { Vec::new() },
                bytes: stage.common.bytes,
                closed: stage.common.closed,
                typing: moment.clone(),
            };
            let at = self.groups.rooms * receivers + sender;
            let seat = Seat { user, index: at, side: Side::Publisher, rooms: vec![name.clone()] };
            self.tasks.spawn(speak(gate.clone(), seat, ear, voice, due));
            self.locals += 1;
        }
    }

    /// The load begins.
    pub async fn begin(&mut self, stage: &Stage) -> Result<()> {
        stage.begin().await?;
        match &self.flow {
            Some(flow) => {
                flow.start(&stage.run, stage.common.window);
                self.queues.clear();
                Ok(())
            }
            None => {
                let plan = stage.common.plan(self.groups.all_senders());
                pace(stage.run.clone(), plan, std::mem::take(&mut self.queues))
            }
        }
    }

    /// Cuts every connection when it is changed.
    pub fn cuts(&self) -> tokio::sync::watch::Sender<u64> {
        self.arrivals.cuts.clone()
    }

    /// How many connections are this process's.
    pub const fn locals(&self) -> usize {
        self.locals
    }

    /// Whether everything has been sent, acknowledged and delivered.
    pub fn arrived(&self, stage: &Stage) -> impl Fn(Counted) -> bool + use<> {
        let speech = stage.place.speech();
        let Groups { rooms, senders, typing, .. } = self.groups;
        let audience = self.groups.audience(speech) as u64;
        let (closed, acks) = (self.closed, speech.acks() && !typing);
        let common = &stage.common;
        let is_local = |sender: &usize| self.groups.is_local(common, sender / senders, sender % senders);
        let count = |sender: usize| self.planned.get(sender).copied().unwrap_or(0);
        let own: u64 = (0..self.groups.all_senders()).filter(is_local).map(count).sum();
        // Of one room the messages of other load processes are heard too, and one's own perhaps not.
        let expected = if rooms == 1 {
            let unheard = if speech.echoes() { 0 } else { own };
            (self.planned.iter().sum::<u64>() * self.locals as u64).saturating_sub(unheard)
        } else {
            own * audience
        };
        move |now| {
            let (all, sent) = if closed { (now.sent * audience, 0) } else { (expected, own) };
            let heard = if typing { true } else { now.delivered >= all };
            heard && now.sent >= sent && (!acks || now.acked >= now.sent)
        }
    }

    /// Ends the load and compares what everybody had with what was sent.
    pub async fn end(&mut self, stage: &Stage) -> Result<Checks> {
        let ended = finish::stop(stage, &mut self.tasks).await?;
        let Groups { rooms, receivers, senders, typing, .. } = self.groups;
        let echoes = stage.place.speech().echoes();
        let sent = finish::spoken(&ended, rooms * senders, &self.planned);
        let mut checks = finish::check(stage, &ended, &sent, |who| {
            let room = match who {
                _ if typing => return Vec::new(),
                Who::Receiver(index) => index / receivers.max(1),
                Who::Sender(sender) => sender as usize / senders,
            };
            let all = (room * senders) as u32..((room + 1) * senders) as u32;
            all.filter(|sender| echoes || who != Who::Sender(*sender)).collect()
        });
        let local = |sender: &usize| self.groups.is_local(&stage.common, sender / senders, sender % senders);
        let planned: u64 = (0..self.planned.len()).filter(local).map(|sender| self.planned[sender]).sum();
        if planned > checks.sent {
            checks.errors.insert("never sent".to_owned(), planned - checks.sent);
        }
        Ok(checks)
    }

    /// The whole of it, from the beginning to the outcome.
    pub async fn run(mut self, stage: &mut Stage, scenario: &str) -> Result<(Outcome, Window)> {
        self.begin(stage).await?;
        let arrived = self.arrived(stage);
        let window = finish::measure(stage, arrived).await?;
        self.finish(stage, scenario, window).await
    }

    /// From the measured window to the outcome.
    pub async fn finish(
        mut self,
        stage: &mut Stage,
        scenario: &str,
        window: Window,
    ) -> Result<(Outcome, Window)> {
        let checks = self.end(stage).await?;
        let mut outcome = finish::outcome(stage, scenario, &window)?;
        let Groups { rooms, receivers, senders, .. } = self.groups;
        outcome.setting("rooms", rooms as u64).setting("receivers", receivers as u64);
        outcome.setting("senders", senders as u64);
        finish::message_figures(&mut outcome, &window);
        outcome.check(&checks);
        Ok((outcome, window))
    }
}
