//! One connection's protocol state, sans-IO: frames in, requests out; answers in, frames out.

use std::collections::VecDeque;

use parlance_model::{Answer, Reject, Request, Time, UserId};

use crate::{
    Accent, Class, Dialect, Encoded,
    codec::{self, Context, Decoded},
};

/// How a request is to be answered: given out with the request, handed back with its result.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tag {
    /// The frame's type, for the refusal's details. Cut to 64 characters.
    pub(crate) event: String,
    /// The acknowledgement id the client asked to hear.
    pub(crate) ack: Option<String>,
    /// The client's own message id, for the refusal's details.
    pub(crate) reference: Option<String>,
    /// A field of the frame the answer repeats (session id, channel).
    pub(crate) subject: Option<String>,
    /// Whether the frame was of an edition that is on its way out.
    pub(crate) deprecated: bool,
}

impl Tag {
    /// The frame's type, for logs and metrics of known types only.
    pub fn event(&self) -> &str {
        &self.event
    }

    /// Whether the frame was of an edition that is on its way out (sechat v1), for a metric.
    pub const fn deprecated(&self) -> bool {
        self.deprecated
    }
}

/// What a peer is built with.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Which vocabulary.
    pub dialect: Dialect,
    /// Deepest JSON accepted.
    pub max_depth: usize,
    /// Differs between connections.
    pub salt: u64,
}

/// One connection's protocol state over raw JSON frames.
#[derive(Debug)]
pub struct Peer {
    dialect: Dialect,
    context: Context,
    requests: VecDeque<(Tag, Request)>,
    frames: VecDeque<Encoded>,
}

impl Peer {
    /// A peer for a fresh connection.
    pub fn new(settings: Settings) -> Self {
        let context = Context {
            accent: settings.dialect.default_accent(),
            settled: false,
            now: Time::default(),
            salt: settings.salt,
            counter: 0,
            max_depth: settings.max_depth,
            user: None,
        };
        Self { dialect: settings.dialect, context, requests: VecDeque::new(), frames: VecDeque::new() }
    }

    /// The accent events are to be encoded in now.
    pub const fn accent(&self) -> Accent {
        self.context.accent
    }

    /// Says whom the connection was authenticated as. Frames that name only one side of a conversation of
    /// two are read with it.
    pub fn set_user(&mut self, user: UserId) {
        self.context.user = Some(user);
    }

    /// Takes one text frame. What is wrong with it is answered in the dialect's own words.
    pub fn receive(&mut self, text: &str, now: Time) {
        self.context.now = now;
        match codec::decode(self.dialect, text, &mut self.context) {
            Decoded::Request(tag, request) => self.requests.push_back((tag, request)),
            Decoded::Nothing => {}
            Decoded::Refused(tag, reject) => self.answer(&tag, &Err(reject), now),
        }
    }

    /// The next request to carry out.
    pub fn poll_request(&mut self) -> Option<(Tag, Request)> {
        self.requests.pop_front()
    }

    /// Answers a request.
    pub fn answer(&mut self, tag: &Tag, result: &Result<Answer, Reject>, now: Time) {
        self.context.now = now;
        let texts = codec::answer(self.dialect, tag, result, &mut self.context);
        self.push(&texts);
    }

    /// The next output.
    pub fn poll_frame(&mut self) -> Option<Encoded> {
        self.frames.pop_front()
    }

    fn push(&mut self, texts: &[String]) {
        if !texts.is_empty() {
            self.frames.push_back(Encoded::framed(texts, Class::Kept));
        }
    }
}
