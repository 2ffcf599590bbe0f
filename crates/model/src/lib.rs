//! The words of Parlance: what a client can ask ([`Command`]), what it can be told ([`Event`],
//! [`Answer`], [`Reject`]), what the log keeps ([`Entry`]), and the pure rules over them.
//!
//! Owns: identifiers, canonical shapes, transition rules. Must not know: JSON field names (that is
//! `parlance-wire`), storage formats (that is `parlance-backplane`), sockets, tasks or clocks.
#![warn(missing_docs)]

mod answer;
mod command;
mod conversation;
pub mod delivery;
mod event;
mod id;
mod log;
mod message_id;
pub mod presence;
mod raw;
mod time;
mod topic;
mod trace;
pub mod typing;

pub use answer::{Accepted, Answer, HistoryPage, Reject, RejectCode};
pub use command::{
    Command, History, PresenceChange, React, Receipt, ReceiptKind, ReceiptTarget, Register, Request, Role,
    Send, Since, TypingChange,
};
pub use conversation::{Conversation, ConversationKind, Cursor, Head, Member};
pub use event::{
    AppEvent, ConversationChanged, CursorMoved, Event, MaintenanceNotice, MessageEvent, MessageReceipt,
    MessageRef, NotificationEvent, NotificationRead, PresenceEvent, ReactionEvent, Resync, RoomEvent,
    TypingEvent,
};
pub use id::{ConnectionId, ConversationId, IdError, Identity, NodeId, Proof, UserId, is_house_id};
pub use log::{Author, Entry, LogKey, Message, Record};
pub use message_id::{BLOCK_BITS, MAX_NUMBER, MessageId, SELF_NUMBER_LIMIT};
pub use presence::Status;
pub use raw::{RawJson, RawJsonError};
pub use time::Time;
pub use topic::{Channel, Topic};
pub use trace::TraceContext;
