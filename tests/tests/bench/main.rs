//! The load generator as a process against the real gateway: every scenario, with exact counts, and that it notices
//! what it is there to notice.

mod dialects;
mod rig;
mod scenarios;
mod trouble;
