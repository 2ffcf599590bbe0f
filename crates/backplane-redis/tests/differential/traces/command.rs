//! What a trace is made of. Sequences, ids and stamps are named by what earlier steps made, so that a step keeps a
//! meaning when others are left out.

use std::time::Duration;

use parlance_backplane::{MemberSet, Signal};
use parlance_model::{
    Author, ConnectionId, ConversationId, ConversationKind, LogKey, Message, ReceiptKind, Record, Status,
    Topic, UserId,
};

/// One step: which of the two nodes does it, and what.
#[derive(Debug, Clone)]
pub struct Step {
    pub node: usize,
    pub command: Command,
}

/// A sequence in some log.
#[derive(Debug, Clone, Copy)]
pub enum Place {
    /// So many before the head.
    Back(u64),
    /// So many after it.
    Beyond(u64),
    /// This one.
    At(u64),
}

/// A part of a log.
#[derive(Debug, Clone, Copy)]
pub enum Part {
    After(Place, usize),
    Before(Place, usize),
    /// So long ago, in milliseconds.
    Since(u64, usize),
}

/// A number of a conversation.
#[derive(Debug, Clone)]
pub enum Named {
    /// The one this conversation had last.
    Of(ConversationId),
    /// This one.
    Number(u32),
}

#[derive(Debug, Clone)]
pub struct Lease {
    pub user: UserId,
    pub connection: ConnectionId,
    pub mount: &'static str,
    pub status: Option<Status>,
    pub life: Duration,
    /// For how long its connection was not heard of.
    pub silent: Duration,
    pub max: u32,
}

#[derive(Debug, Clone)]
pub enum Command {
    /// Time passes.
    Pass(Duration),
    Append(ConversationId, Message),
    React {
        conversation: ConversationId,
        author: Author,
        target: Place,
        kind: &'static str,
        added: bool,
    },
    Post(LogKey, Record),
    Range(LogKey, Part),
    FindClient {
        author: UserId,
        id: &'static str,
        conversation: Option<ConversationId>,
    },
    FindId(Named, Place),
    FindNumber(Named),
    Standing(ConversationId, Place, Place),
    Change {
        id: ConversationId,
        create: bool,
        only_create: bool,
        kind: ConversationKind,
        title: Option<Option<&'static str>>,
        members: MemberSet,
        number: Option<u32>,
        by: Option<UserId>,
    },
    Get(ConversationId),
    OfUser(UserId),
    Heads(Vec<ConversationId>),
    Delete(ConversationId),
    Advance(ConversationId, UserId, ReceiptKind, Place),
    Cursors(ConversationId),
    Assign(Vec<(UserId, LogKey, Place)>),
    Pointers {
        user: UserId,
        after: u64,
        limit: usize,
    },
    Marks(UserId),
    Touch(Lease),
    Refresh(Vec<Lease>),
    Linger(Lease),
    Close(UserId, ConnectionId),
    Sweep,
    Status(Vec<UserId>),
    Enter {
        rooms: Vec<ConversationId>,
        author: Author,
        connection: ConnectionId,
        explicit: bool,
    },
    Leave {
        rooms: Vec<ConversationId>,
        author: Author,
        connection: ConnectionId,
        explicit: bool,
    },
    Present(ConversationId),
    Type {
        conversation: ConversationId,
        author: Author,
        on: bool,
        to: Vec<UserId>,
    },
    Take {
        user: UserId,
        rule: &'static str,
        limit: u32,
        window: Duration,
    },
    /// The stamp taken so many takes ago.
    GiveBack {
        user: UserId,
        rule: &'static str,
        back: usize,
    },
    Save {
        key: &'static str,
        value: Vec<u8>,
        life: Option<Duration>,
    },
    Load(&'static str),
    Remove(&'static str),
    Subscribe(Vec<Topic>),
    Unsubscribe(Vec<Topic>),
    Signal(Topic, Signal),
}
