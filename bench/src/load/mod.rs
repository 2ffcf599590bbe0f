//! How a load is put on and what comes of it is counted: the run and its clock, schedules, markers, the checker, the
//! servers' CPU time and memory, progress.
//!
//! Must not know: dialects, how connections work.

pub mod checker;
pub mod marker;
pub mod procfs;
pub mod progress;
pub mod run;
pub mod schedule;
