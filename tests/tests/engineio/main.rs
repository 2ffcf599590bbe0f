//! Engine.IO: the echo server, the gateway and the reference, over every transport.

mod gateway;
mod polling;
mod protocol;
mod socketio;
mod support;
mod upgrade;
