//! One room: a few send, all hear.

use anyhow::{Result, ensure};
use clap::Args as ClapArgs;
use tokio::task::JoinSet;

use super::common::{Common, Stage};
use super::crowd::{Closing, Ear, Ended, Flow, Voice, Who, queue, receive, speak};
use super::finish::{self, Counted};
use super::gather::{Gate, Seat};
use crate::load::schedule::pace;
use crate::outcome::Outcome;
use crate::target::rooms::{self, Room};
use crate::target::Side;

/// One room: a few send, all hear.
#[derive(ClapArgs, Clone, Debug)]
pub struct Args {
    /// How many hear.
    #[arg(long, default_value_t = 100)]
    pub members: usize,
    /// How many send; they are members too.
    #[arg(long, default_value_t = 1)]
    pub publishers: usize,
}

/// Runs it.
pub async fn run(args: &Args, common: &Common) -> Result<Outcome> {
    ensure!(args.members > 0 && args.publishers > 0, "nobody is there");
    ensure!(!common.closed || common.part.of == 1, "a closed loop of one room is one process's");
    let mut stage = Stage::open(common).await?;
    let (senders, receivers) = (args.publishers, args.members);
    let speech = stage.place.speech();
    let run = stage.run.clone();
    let room = rooms::name(&stage.place, &run.id, 0);
    let users = |kind: &str, count: usize| (0..count).map(|i| format!("pb{}{kind}{i}", run.id)).collect::<Vec<_>>();
    let (speaking, hearing) = (users("s", senders), users("r", receivers));
    if stage.part().index == 0 {
        let members = speaking.iter().chain(&hearing).cloned().collect();
        rooms::create(&stage.place, &run.id, &[Room { name: room.clone(), members }]).await?;
    }
    let (mut queues, mut dues) = (vec![None; senders], Vec::new());
    for sender in stage.part().of_all(senders) {
        let (queue, due) = queue();
        queues[sender] = Some(queue);
        dues.push((sender, due));
    }
    let audience = receivers + if speech.echoes() { senders } else { senders - 1 };
    let closing = Closing::Delivered { audience: audience as u32 };
    let flow = common.closed.then(|| Flow::new(closing, queues.clone()));

    let (gate, mut arrivals) = Gate::new(&stage);
    let mut tasks: JoinSet<Ended> = JoinSet::new();
    let seat = |user: &str, index, side| Seat { user: user.to_owned(), index, side, rooms: vec![room.clone()] };
    let mut local = 0;
    for number in stage.part().of_all(receivers) {
        let ear = Ear::new(&run, speech, flow.as_ref(), number);
        tasks.spawn(receive(gate.clone(), seat(&hearing[number], number, Side::Receiver), ear));
        local += 1;
    }
    for (sender, due) in dues {
        let ear = Ear::new(&run, speech, flow.as_ref(), sender);
        let voice = Voice {
            sender: sender as u32,
            user: String::new(),
            room: room.clone(),
            to: Vec::new(),
            bytes: common.bytes,
            closed: common.closed,
        };
        let seat = seat(&speaking[sender], receivers + sender, Side::Publisher);
        tasks.spawn(speak(gate.clone(), seat, ear, voice, due));
        local += 1;
    }
    arrivals.wait(local).await?;
    stage.begin().await?;
    let plan = common.plan(senders);
    let planned = if common.closed { Vec::new() } else { plan.counts() };
    match &flow {
        Some(flow) => flow.start(&run, common.window),
        None => pace(run.clone(), plan, queues)?,
    }
    // Senders of other load processes send what their plan says.
    let part = stage.part();
    let hearers = part.of_all(receivers).count() + part.of_all(senders).count();
    let own: u64 = part.of_all(senders).map(|sender| planned.get(sender).copied().unwrap_or(0)).sum();
    let unheard = if speech.echoes() { 0 } else { own };
    let everything = planned.iter().sum::<u64>() * hearers as u64 - unheard;
    let window = finish::measure(&mut stage, |now: Counted| {
        let sent = if common.closed { now.sent * audience as u64 } else { everything };
        let acks = if speech.acks() { now.sent } else { 0 };
        now.delivered >= sent && now.acked >= acks && now.sent >= own
    })
    .await?;
    let ended = finish::stop(&stage, &mut tasks).await?;
    let sent = finish::spoken(&ended, senders, &planned);
    let checks = finish::check(&stage, &ended, &sent, |who| {
        (0..senders as u32).filter(|sender| speech.echoes() || who != Who::Sender(*sender)).collect()
    });
    let mut outcome = finish::outcome(&stage, "fanout", &window)?;
    outcome.setting("members", receivers as u64).setting("publishers", senders as u64);
    finish::message_figures(&mut outcome, &window);
    outcome.check(&checks);
    Ok(outcome)
}
