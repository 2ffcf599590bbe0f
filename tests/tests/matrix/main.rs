//! Every dialect's clients in one conversation, event by event: the cross-dialect map, played.

mod cells;
mod stage;
