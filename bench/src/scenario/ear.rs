//! What a connection hears with: it counts, times and checks what arrives, and says what is answered to it.
//!
//! Must not know: connections, scenarios.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::flow::Flow;
use crate::load::checker::{Seen, Verdict};
use crate::load::marker::Mark;
use crate::load::run::{Run, Timing};
use crate::speech::{Heard, Speech};

/// What a connection hears with.
pub struct Ear {
    /// The run.
    pub run: Arc<Run>,
    /// How what arrives is told apart.
    pub speech: &'static dyn Speech,
    /// What a delivery sets going.
    pub flow: Option<Arc<Flow>>,
    /// Spreads what is timed over several histograms.
    pub shard: usize,
    /// What it had of each sender.
    pub seen: Seen,
    /// Answers messages with receipts, as this user.
    pub receipts: Option<String>,
    /// Hears of receipts of its own messages.
    pub author: bool,
    /// When the last signal (typing, say) of its room was meant to be given; 0 when it has been heard.
    pub signal: Option<Arc<AtomicU64>>,
    /// Whether what came before may come again: after a cut, of what was not confirmed.
    pub may_repeat: bool,
    /// Notes where Socket.IO's recovery goes on.
    pub follows: bool,
    /// What is to be said in answer.
    pub replies: Vec<String>,
    /// Where Socket.IO's recovery goes on.
    pub offset: Option<String>,
    /// How often it came back after a cut.
    pub returns: u32,
}

impl Ear {
    /// An ear that counts, times and checks messages.
    pub fn new(run: &Arc<Run>, speech: &'static dyn Speech, flow: Option<&Arc<Flow>>, shard: usize) -> Self {
        Self {
            run: run.clone(),
            speech,
            flow: flow.cloned(),
            shard,
            seen: Seen::default(),
            receipts: None,
            author: false,
            signal: None,
            may_repeat: false,
            follows: false,
            replies: Vec::new(),
            offset: None,
            returns: 0,
        }
    }

    /// Takes what arrived, and says what it was, or what each of its lines was.
    pub fn hear(&mut self, payload: &[u8], each: &mut dyn FnMut(&mut Self, Heard, &[u8])) {
        let Some(pong) = self.speech.pong() else {
            let heard = self.take(payload);
            return each(self, heard, payload);
        };
        for line in payload.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let heard = self.take(line);
            if heard == Heard::Ping {
                self.replies.push(pong.to_owned());
            }
            each(self, heard, line);
        }
    }

    fn take(&mut self, payload: &[u8]) -> Heard {
        let heard = self.speech.hear(payload);
        match heard {
            Heard::Message => {
                if let Some(mark) = self.run.marker.find(payload) {
                    self.message(mark, payload.len());
                    if let Some(user) = &self.receipts {
                        self.replies.extend(self.speech.receipts(payload, user).into_iter().flatten());
                    }
                }
                if self.follows
                    && let Some(offset) = crate::speech::offset(payload)
                {
                    self.offset = Some(offset.to_owned());
                }
            }
            Heard::Signal => self.signal(),
            Heard::Refused => {
                self.run.error(&format!("refused: {}", crate::speech::excerpt(payload)));
            }
            Heard::Ack { .. } | Heard::Ping | Heard::Other => {}
        }
        heard
    }

    fn message(&mut self, mark: Mark, bytes: usize) {
        match self.seen.note(mark.sender, mark.number) {
            Verdict::Doubled if self.may_repeat => {
                self.seen.doubled -= 1;
                self.run.counts.repeated.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Verdict::Doubled => return,
            Verdict::Fresh | Verdict::Disordered => {}
        }
        self.run.counts.delivered.fetch_add(1, Ordering::Relaxed);
        self.run.counts.delivered_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.run.time(self.shard, Timing::Delivery, mark.intended);
        if let Some(flow) = &self.flow {
            flow.delivered(&self.run, mark);
        }
    }

    fn signal(&self) {
        let Some(signal) = &self.signal else { return };
        self.run.counts.events.fetch_add(1, Ordering::Relaxed);
        let given = signal.load(Ordering::Relaxed);
        if given > 0 {
            self.run.time(self.shard, Timing::Typing, given);
        }
    }
}
