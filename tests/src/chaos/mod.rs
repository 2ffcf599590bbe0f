//! Chaos: several nodes on one Redis, clients of all dialects that keep talking, faults on a schedule, and a checker
//! that judges what the clients have written down.
//!
//! Owns: the whole way from a seed to a verdict. Must not know: the gateway's code; what is judged is what clients
//! saw.

pub mod actor;
pub mod apply;
pub mod catchup;
pub mod check;
pub mod door;
pub mod dump;
pub mod faults;
pub mod history;
pub mod outside;
pub mod plan;
pub mod probes;
pub mod progress;
pub mod rig;
pub mod run;
pub mod scenario;
pub mod shards;
pub mod stock;
pub mod store;
pub mod table;

pub use check::{Invariant, Report, Verdict};
pub use faults::Fault;
pub use run::run;
pub use scenario::{Scenario, Step};
