//! Connections that send and hear: one task each, in as little memory as possible.
//!
//! Must not know: which scenario they are in.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::mpsc;

use super::gather::{Gate, Seat};
use crate::load::checker::{Seen, Verdict};
use crate::load::marker::Mark;
use crate::load::run::{Run, Timing};
use crate::load::schedule::{Due, QUEUE};
use crate::net::Line;
use crate::speech::{Heard, Say, Speech};

/// How many messages of a sender a closed loop tells apart; many more than may be on the way.
const RING: usize = 4096;

/// What a connection hears with.
pub struct Ear {
    run: Arc<Run>,
    speech: &'static dyn Speech,
    flow: Option<Arc<Flow>>,
    shard: usize,
    /// What it had of each sender.
    pub seen: Seen,
}

impl Ear {
    /// `shard` spreads what is timed over several histograms.
    pub fn new(run: &Arc<Run>, speech: &'static dyn Speech, flow: Option<&Arc<Flow>>, shard: usize) -> Self {
        Self { run: run.clone(), speech, flow: flow.cloned(), shard, seen: Seen::default() }
    }

    /// Takes what arrived, and says what it was.
    pub fn hear(&mut self, payload: &[u8]) -> Heard {
        let heard = self.speech.hear(payload);
        match heard {
            Heard::Message => {
                if let Some(mark) = self.run.marker.find(payload) {
                    self.message(mark);
                }
            }
            Heard::Refused => {
                self.run.error(&format!("refused: {}", crate::speech::excerpt(payload)));
            }
            Heard::Ack { .. } | Heard::Other => {}
        }
        heard
    }

    fn message(&mut self, mark: Mark) {
        if self.seen.note(mark.sender, mark.number) == Verdict::Doubled {
            return;
        }
        self.run.counts.delivered.fetch_add(1, Ordering::Relaxed);
        self.run.time(self.shard, Timing::Delivery, mark.intended);
        if let Some(flow) = &self.flow {
            flow.delivered(&self.run, mark);
        }
    }
}

/// What keeps a closed loop going.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// A message is over when everybody has it.
    Delivered {
        /// How many that are.
        audience: u32,
    },
    /// A message is over when it is acknowledged.
    Acked,
}

/// The queues of the senders, and what is on the way in a closed loop.
pub struct Flow {
    closing: Closing,
    queues: Vec<Option<mpsc::Sender<Due>>>,
    open: Vec<Vec<AtomicU32>>,
}

impl Flow {
    /// A closed loop over these queues, by sender.
    pub fn new(closing: Closing, queues: Vec<Option<mpsc::Sender<Due>>>) -> Arc<Self> {
        let ring = || (0..RING).map(|_| AtomicU32::new(0)).collect();
        let open = match closing {
            Closing::Delivered { .. } => queues.iter().map(|_| ring()).collect(),
            Closing::Acked => Vec::new(),
        };
        Arc::new(Self { closing, queues, open })
    }

    /// Lets every sender have `window` messages on the way.
    pub fn start(&self, run: &Run, window: usize) {
        for sender in 0..self.queues.len() {
            for _ in 0..window {
                self.next(run, sender as u32);
            }
        }
    }

    fn sent(&self, sender: u32, number: u64) {
        if let Closing::Delivered { audience } = self.closing {
            self.open[sender as usize][number as usize % RING].store(audience, Ordering::Release);
        }
    }

    fn delivered(&self, run: &Run, mark: Mark) {
        if !matches!(self.closing, Closing::Delivered { .. }) {
            return;
        }
        let Some(ring) = self.open.get(mark.sender as usize) else { return };
        if ring[mark.number as usize % RING].fetch_sub(1, Ordering::AcqRel) == 1 {
            self.next(run, mark.sender);
        }
    }

    fn acked(&self, run: &Run, sender: u32) {
        if self.closing == Closing::Acked {
            self.next(run, sender);
        }
    }

    fn next(&self, run: &Run, sender: u32) {
        let now = run.now();
        if now < run.end
            && let Some(Some(queue)) = self.queues.get(sender as usize)
        {
            // As many as the window wait at most, and the queue holds more; a sender that is gone has said why.
            let _ = queue.try_send(Due { intended: now });
        }
    }
}

/// A queue for one sender.
pub fn queue() -> (mpsc::Sender<Due>, mpsc::Receiver<Due>) {
    mpsc::channel(QUEUE)
}

/// Who sends, where to, and what.
pub struct Voice {
    /// The sender's number in the run.
    pub sender: u32,
    /// The user; that of the seat it is given.
    pub user: String,
    /// The room.
    pub room: String,
    /// Who hears it, where a protocol names recipients.
    pub to: Vec<String>,
    /// Bytes of a text.
    pub bytes: usize,
    /// Whether a message's time counts from when it is sent: in a closed loop there is no schedule.
    pub closed: bool,
}

/// What a sender did.
#[derive(Debug, Default)]
pub struct Spoken {
    /// How many it sent.
    pub sent: u64,
    /// Which of them were refused.
    pub refused: BTreeSet<u64>,
    /// How many were never acknowledged.
    pub unacked: u64,
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

/// Comes in, and hears until the run stops.
pub async fn receive(gate: Gate, seat: Seat, mut ear: Ear) -> Ended {
    let who = Who::Receiver(seat.index);
    let entered = Box::pin(gate.enter(seat)).await;
    let Some(mut line) = entered else {
        return Ended { who, seen: ear.seen, spoken: Spoken::default() };
    };
    let run = ear.run.clone();
    {
        let stopped = run.stop.cancelled();
        tokio::pin!(stopped);
        let mut each = |payload: &[u8]| {
            ear.hear(payload);
        };
        loop {
            let turned = tokio::select! {
                biased;
                turned = line.turn(&mut each) => turned,
                () = &mut stopped => break,
            };
            if let Err(error) = turned {
                run.failed("receiver", &error);
                break;
            }
        }
    }
    Ended { who, seen: ear.seen, spoken: Spoken::default() }
}

/// Comes in, sends what is due, and hears until the run stops.
pub async fn speak(gate: Gate, seat: Seat, mut ear: Ear, mut voice: Voice, mut dues: mpsc::Receiver<Due>) -> Ended {
    let run = ear.run.clone();
    let mut mouth = Mouth { spoken: Spoken::default(), waiting: HashMap::new(), id: String::new() };
    voice.user.clone_from(&seat.user);
    let entered = Box::pin(gate.enter(seat)).await;
    let Some(mut line) = entered else {
        return Ended { who: Who::Sender(voice.sender), seen: ear.seen, spoken: mouth.spoken };
    };
    let stopped = run.stop.cancelled();
    tokio::pin!(stopped);
    let mut open = true;
    loop {
        let mut each = |payload: &[u8]| {
            if let Heard::Ack { number, good } = ear.hear(payload) {
                mouth.acked(&ear, voice.sender, number, good);
            }
        };
        let turned = tokio::select! {
            turned = line.turn(&mut each) => turned,
            due = dues.recv(), if open => match due {
                Some(due) => mouth.say(&mut line, &ear, &mut voice, due),
                None => {
                    open = false;
                    Ok(())
                }
            },
            () = &mut stopped => break,
        };
        if let Err(error) = turned {
            run.failed("sender", &error);
            break;
        }
    }
    mouth.spoken.unacked = mouth.waiting.len() as u64;
    Ended { who: Who::Sender(voice.sender), seen: ear.seen, spoken: mouth.spoken }
}

struct Mouth {
    spoken: Spoken,
    /// When each message without an answer was meant to be sent.
    waiting: HashMap<u64, u64>,
    id: String,
}

impl Mouth {
    fn say(&mut self, line: &mut Line, ear: &Ear, voice: &mut Voice, due: Due) -> anyhow::Result<()> {
        use std::fmt::Write as _;
        let number = self.spoken.sent;
        let intended = if voice.closed { ear.run.now() } else { due.intended };
        let text = ear.run.marker.text(Mark { sender: voice.sender, number, intended }, voice.bytes);
        self.id.clear();
        write!(self.id, "{}-{}-{number}", ear.run.id, voice.sender)?;
        let Voice { user, room, to, .. } = voice;
        let say = Say { user, room, to, id: &self.id, number, text: &text };
        let message = ear.speech.message(&say);
        if let Some(flow) = &ear.flow {
            flow.sent(voice.sender, number);
        }
        if ear.speech.acks() {
            self.waiting.insert(number, intended);
        }
        self.spoken.sent += 1;
        ear.run.counts.sent.fetch_add(1, Ordering::Relaxed);
        line.send(&message)
    }

    fn acked(&mut self, ear: &Ear, sender: u32, number: u64, good: bool) {
        let Some(intended) = self.waiting.remove(&number) else { return };
        if good {
            ear.run.counts.acked.fetch_add(1, Ordering::Relaxed);
            ear.run.time(ear.shard, Timing::Ack, intended);
        } else {
            ear.run.error("message refused");
            self.spoken.refused.insert(number);
        }
        if let Some(flow) = &ear.flow {
            flow.acked(&ear.run, sender);
        }
    }
}
