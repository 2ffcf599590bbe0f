//! One client connection, from admission to close: its task, its input and output, its timers.
//!
//! Owns: the connection. Must not know: JSON (that is `parlance-wire`), permissions (that is `commands`).

mod admission;
mod ahead;
mod attach;
mod bare;
mod conn;
mod handle;
mod link;
mod output;
mod recovery;
mod refusal;
mod replay;
mod restore;
mod run;
mod socketio;
mod timers;
mod told;
mod work;

pub use admission::{Admission, admit};
pub(crate) use attach::invited;
pub use bare::Bare;
pub use link::{Link, Own};
pub(crate) use replay::{Start, change_role, join, leave};
pub(crate) use restore::{changed as subscriptions_changed, subscribed};
pub use run::{Running, begin, begin_socketio};
