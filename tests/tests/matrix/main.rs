//! Every dialect's clients in one conversation, event by event: the cross-dialect map, played.

mod answers;
mod cells;
mod devices;
mod ids;
mod nodes;
mod order;
mod stage;
