//! SeChat against the real binary: raw WebSockets and Socket.IO.

mod delivery;
mod errors;
mod legacy;
mod limits;
mod messages;
mod presence;
mod receipt_order;
mod session;
mod socketio_events;
mod socketio_messages;
mod socketio_session;
mod socketio_support;
mod support;
mod typing;
