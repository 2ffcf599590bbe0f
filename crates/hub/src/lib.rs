//! This node's subscription registry and fan-out: which local connections listen to which topic, and
//! handing an event to all of them, encoded once per accent.
//!
//! Owns: rooms, listeners, outboxes. Must not know: sockets, the backplane, permissions. Nothing here
//! awaits while it delivers.
#![warn(missing_docs)]

mod crowd;
mod fanout;
mod listener;
mod memo;
mod outbox;
mod receipts;
mod registry;

pub use crowd::Share;
pub use fanout::{Entry, Fanout, Heard, NOTED, Reached};
pub use listener::{Announce, Listener, Notice, Voice};
pub use memo::Memo;
pub use outbox::{Exit, Limits, Mark, Outbox, Passed, Pushed, Waiting, Written};
pub use receipts::{Hold, Teller};
pub use registry::{Hub, Standing};
