//! One client connection, from admission to close: its task, its input and output, its timers.
//!
//! Owns: the connection. Must not know: JSON (that is `parlance-wire`), permissions (that is `commands`).

mod admission;
mod attach;
mod handle;
mod input;
mod link;
mod replay;
mod restore;
mod run;
mod timers;
mod told;
mod work;
mod writer;

pub use admission::{Admission, admit};
pub(crate) use attach::invited;
pub use link::Link;
pub(crate) use replay::{Start, join, leave};
pub(crate) use restore::changed as subscriptions_changed;
pub use run::run;
