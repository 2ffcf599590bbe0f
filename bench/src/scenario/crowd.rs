//! Connections that hear and send: one task each, in as little memory as possible.
//!
//! Must not know: which scenario they are in.

use std::sync::atomic::Ordering;

use tokio::sync::mpsc;

use super::ear::Ear;
use super::gather::{Gate, Seat, Way};
use super::mouth::{Mouth, Spoken, Voice};
use crate::load::checker::Seen;
use crate::load::run::Timing;
use crate::load::schedule::{Due, QUEUE};
use crate::net::Line;
use crate::speech::Heard;

/// A queue for one sender.
pub fn queue() -> (mpsc::Sender<Due>, mpsc::Receiver<Due>) {
    mpsc::channel(QUEUE)
}

/// What a task had at its end.
pub struct Ended {
    /// Who.
    pub who: Who,
    /// What it had of each sender.
    pub seen: Seen,
    /// What it sent.
    pub spoken: Spoken,
}

/// Which connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// The receiver with this number.
    Receiver(usize),
    /// The sender with this number.
    Sender(u32),
}

/// Why a connection is over.
enum Over {
    /// The run is.
    Stopped,
    /// It was cut, or ended by itself.
    Cut,
}

/// Comes in, and hears until the run stops.
pub async fn receive(gate: Gate, seat: Seat, mut ear: Ear) -> Ended {
    let who = Who::Receiver(seat.index);
    let entered = Box::pin(gate.enter(&seat)).await;
    if let Some((mut line, mut way)) = entered {
        while let Over::Cut = hear(&gate, &mut line, &mut ear).await {
            match Box::pin(return_(&gate, &seat, &mut way, &mut ear)).await {
                Some(again) => line = again,
                None => break,
            }
        }
    }
    Ended { who, seen: ear.seen, spoken: Spoken::default() }
}

async fn hear(gate: &Gate, line: &mut Line, ear: &mut Ear) -> Over {
    let run = ear.run.clone();
    let (stopped, cut) = (run.stop.cancelled(), gate.cut());
    tokio::pin!(stopped, cut);
    loop {
        let mut each = |payload: &[u8]| ear.hear(payload, &mut |_, _, _| {});
        let turned = tokio::select! {
            biased;
            turned = line.turn(&mut each) => turned,
            () = &mut stopped => return Over::Stopped,
            () = &mut cut => return Over::Cut,
        };
        let answered = turned.and_then(|()| reply(line, ear));
        if let Err(error) = answered {
            return over(gate, ear, "receiver", &error);
        }
    }
}

fn reply(line: &mut Line, ear: &mut Ear) -> anyhow::Result<()> {
    for reply in ear.replies.drain(..) {
        line.send(&reply)?;
    }
    Ok(())
}

fn over(gate: &Gate, ear: &Ear, who: &str, error: &anyhow::Error) -> Over {
    if gate.comes_back() {
        return Over::Cut;
    }
    ear.run.failed(who, error);
    Over::Stopped
}

/// Comes back after a cut, as long as it takes.
async fn return_(gate: &Gate, seat: &Seat, way: &mut Way, ear: &mut Ear) -> Option<Line> {
    let cut = ear.run.now();
    way.offset = ear.offset.take();
    // What was not confirmed may come again.
    ear.may_repeat = true;
    let line = gate.come_back(seat, way, ear).await?;
    ear.returns += 1;
    if way.anew {
        ear.seen.skip();
        ear.run.counts.anew.fetch_add(1, Ordering::Relaxed);
    }
    ear.run.counts.returned.fetch_add(1, Ordering::Relaxed);
    ear.run.counts.most_returns.fetch_max(u64::from(ear.returns), Ordering::Relaxed);
    ear.run.record(ear.shard, Timing::Recovered, ear.run.now() - cut);
    Some(line)
}

/// Comes in, sends what is due, and hears until the run stops.
pub async fn speak(
    gate: Gate,
    seat: Seat,
    mut ear: Ear,
    voice: Voice,
    mut dues: mpsc::Receiver<Due>,
) -> Ended {
    let who = Who::Sender(voice.sender);
    let mut mouth = Mouth::new(voice, &seat.user);
    let entered = Box::pin(gate.enter(&seat)).await;
    if let Some((mut line, mut way)) = entered {
        while let Over::Cut = talk(&gate, &mut line, &mut ear, &mut mouth, &mut dues).await {
            match Box::pin(return_(&gate, &seat, &mut way, &mut ear)).await {
                Some(again) => line = again,
                None => break,
            }
            if mouth.again(&mut line, &ear).is_err() {
                continue;
            }
        }
    }
    Ended { who, seen: ear.seen, spoken: mouth.end() }
}

async fn talk(
    gate: &Gate,
    line: &mut Line,
    ear: &mut Ear,
    mouth: &mut Mouth,
    dues: &mut mpsc::Receiver<Due>,
) -> Over {
    let run = ear.run.clone();
    let (stopped, cut) = (run.stop.cancelled(), gate.cut());
    tokio::pin!(stopped, cut);
    let mut open = true;
    loop {
        let mut each = |payload: &[u8]| {
            ear.hear(payload, &mut |ear, heard, line| match heard {
                Heard::Ack { number, good } => mouth.acked(ear, number, good, line),
                Heard::Other => mouth.told(ear, line),
                _ => {}
            });
        };
        let turned = tokio::select! {
            turned = line.turn(&mut each) => turned,
            due = dues.recv(), if open => match due {
                Some(due) => mouth.say(line, ear, due),
                None => {
                    open = false;
                    Ok(())
                }
            },
            () = &mut stopped => return Over::Stopped,
            () = &mut cut => return Over::Cut,
        };
        let answered = turned.and_then(|()| reply(line, ear));
        if let Err(error) = answered {
            return over(gate, ear, "sender", &error);
        }
    }
}
