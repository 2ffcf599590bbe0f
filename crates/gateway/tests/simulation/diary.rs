//! What was seen in a run, in order: the trace that two runs of a seed must share, and what the checks look at.

use std::fmt::Write as _;

use parlance_model::{ConversationId, Time, UserId};

/// What a client was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    Message {
        conversation: String,
        body: String,
    },
    Presence {
        user: String,
        online: bool,
    },
    Typing {
        conversation: String,
        user: String,
        on: bool,
    },
    /// Sequences that may be missing.
    Lost {
        conversation: String,
        from: u64,
        to: u64,
    },
    Other(String),
}

/// One connection of a device.
#[derive(Debug)]
pub struct Session {
    pub user: UserId,
    pub device: u64,
    pub node: String,
    pub from: Time,
    pub until: Option<Time>,
    /// Ended with a word, so that its lease ended too.
    pub closed: bool,
    pub heard: Vec<(Time, Word)>,
}

/// A typing command: when it began and ended.
#[derive(Debug)]
pub struct Typed {
    pub conversation: ConversationId,
    pub user: UserId,
    pub on: bool,
    pub from: Time,
    pub until: Option<Time>,
}

/// All of it.
#[derive(Default)]
pub struct Diary {
    pub sessions: Vec<Session>,
    pub typed: Vec<Typed>,
    /// Bodies by (sender, device), in the order of their acknowledgements.
    pub acked: Vec<(String, String)>,
    /// When nodes were cut off, from and until.
    pub notes: Vec<(Time, String)>,
    pub text: String,
}

impl Diary {
    pub fn note(&mut self, at: Time, what: &str) {
        writeln!(self.text, "{} {what}", at.millis()).unwrap();
        self.notes.push((at, what.to_owned()));
    }

    pub fn open(&mut self, session: Session) -> usize {
        let line = format!(
            "session {}: {}/{} on {}",
            self.sessions.len(),
            session.user,
            session.device,
            session.node
        );
        writeln!(self.text, "{} {line}", session.from.millis()).unwrap();
        self.sessions.push(session);
        self.sessions.len() - 1
    }

    pub fn heard(&mut self, session: usize, at: Time, word: Word) {
        writeln!(self.text, "{} session {session} hears {word:?}", at.millis()).unwrap();
        self.sessions[session].heard.push((at, word));
    }

    pub fn end(&mut self, session: usize, at: Time, closed: bool) {
        writeln!(self.text, "{} session {session} ends, closed: {closed}", at.millis()).unwrap();
        let session = &mut self.sessions[session];
        session.until = Some(at);
        session.closed = closed;
    }
}
