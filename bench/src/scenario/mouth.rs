//! What a connection sends with: numbered messages, what becomes of each, and sending again after a cut.
//!
//! Must not know: connections' ends, scenarios.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;

use super::ear::Ear;
use crate::load::marker::Mark;
use crate::load::run::Timing;
use crate::load::schedule::Due;
use crate::net::Line;
use crate::speech::{Say, Told};

/// Who sends, where to, and what.
pub struct Voice {
    /// The sender's number in the run.
    pub sender: u32,
    /// The room.
    pub room: String,
    /// Who hears it, where a protocol names recipients.
    pub to: Vec<String>,
    /// Bytes of a text.
    pub bytes: usize,
    /// Whether a message's time counts from when it is sent: in a closed loop there is no schedule.
    pub closed: bool,
    /// Instead of a message: that one types; the moment stands here.
    pub typing: Option<Arc<AtomicU64>>,
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

/// The state of a sender.
pub struct Mouth {
    voice: Voice,
    user: String,
    spoken: Spoken,
    /// When each message without an answer was meant to be sent.
    waiting: BTreeMap<u64, u64>,
    /// When each message was meant to be sent, by the id its author is told of it under.
    known: HashMap<String, u64>,
    /// What was told before the acknowledgement came, and when.
    early: HashMap<String, Vec<(Told, u64)>>,
    /// Whether typing is on.
    on: bool,
}

impl Mouth {
    /// One that has said nothing.
    pub fn new(voice: Voice, user: &str) -> Self {
        Self {
            voice,
            user: user.to_owned(),
            spoken: Spoken::default(),
            waiting: BTreeMap::new(),
            known: HashMap::new(),
            early: HashMap::new(),
            on: false,
        }
    }

    /// Says what is due.
    pub fn say(&mut self, line: &mut Line, ear: &Ear, due: Due) -> Result<()> {
        if let Some(moment) = &self.voice.typing {
            self.on = !self.on;
            let Voice { room, to, .. } = &self.voice;
            let Some(signal) = ear.speech.typing(room, &self.user, to, self.on) else { return Ok(()) };
            moment.store(due.intended, Ordering::Relaxed);
            ear.run.counts.sent.fetch_add(1, Ordering::Relaxed);
            self.spoken.sent += 1;
            return line.send(&signal);
        }
        let number = self.spoken.sent;
        let intended = if self.voice.closed { ear.run.now() } else { due.intended };
        if let Some(flow) = &ear.flow {
            flow.sent(self.voice.sender, number);
        }
        if ear.speech.acks() {
            self.waiting.insert(number, intended);
        }
        self.spoken.sent += 1;
        ear.run.counts.sent.fetch_add(1, Ordering::Relaxed);
        line.send(&self.message(ear, number, intended))
    }

    fn message(&self, ear: &Ear, number: u64, intended: u64) -> String {
        let Voice { sender, room, to, bytes, .. } = &self.voice;
        let text = ear.run.marker.text(Mark { sender: *sender, number, intended }, *bytes);
        let id = format!("{}-{sender}-{number}", ear.run.id);
        ear.speech.message(&Say { user: &self.user, room, to, id: &id, number, text: &text })
    }

    /// Says everything again that was not answered: the same messages, under the same ids.
    pub fn again(&self, line: &mut Line, ear: &Ear) -> Result<()> {
        for (number, intended) in &self.waiting {
            line.send(&self.message(ear, *number, *intended))?;
        }
        Ok(())
    }

    /// A message was answered.
    pub fn acked(&mut self, ear: &Ear, number: u64, good: bool, payload: &[u8]) {
        let Some(intended) = self.waiting.remove(&number) else { return };
        if good {
            ear.run.counts.acked.fetch_add(1, Ordering::Relaxed);
            ear.run.time(ear.shard, Timing::Ack, intended);
            if ear.author
                && let Some(id) = ear.speech.receipt_id(payload)
            {
                for (told, at) in self.early.remove(id).into_iter().flatten() {
                    time(ear, told, intended, at);
                }
                self.known.insert(id.to_owned(), intended);
            }
        } else {
            let what = crate::speech::excerpt(payload);
            ear.run.error(&format!(
                "message refused: {}",
                what.trim_start_matches(|c: char| c.is_ascii_digit())
            ));
            self.spoken.refused.insert(number);
        }
        if let Some(flow) = &ear.flow {
            flow.acked(&ear.run, self.voice.sender);
        }
    }

    /// Something else arrived: a receipt perhaps.
    pub fn told(&mut self, ear: &Ear, payload: &[u8]) {
        if !ear.author {
            return;
        }
        let Some((told, id)) = ear.speech.told(payload) else { return };
        ear.run.counts.events.fetch_add(1, Ordering::Relaxed);
        let now = ear.run.now();
        let known = match told {
            Told::Delivered => self.known.get(id).copied(),
            Told::Read => self.known.remove(id),
        };
        match known {
            Some(intended) => time(ear, told, intended, now),
            None => self.early.entry(id.to_owned()).or_default().push((told, now)),
        }
    }

    /// What was said.
    pub fn end(mut self) -> Spoken {
        self.spoken.unacked = self.waiting.len() as u64;
        self.spoken
    }
}

fn time(ear: &Ear, told: Told, intended: u64, at: u64) {
    if intended >= ear.run.warm {
        let timing = match told {
            Told::Delivered => Timing::Delivered,
            Told::Read => Timing::Read,
        };
        ear.run.record(ear.shard, timing, at.saturating_sub(intended));
    }
}
