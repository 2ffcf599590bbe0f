//! The half of a build without the feature `otel`: the same names, and nothing behind them.

use axum::http::HeaderMap;
use parlance_hub::Fanout;
use parlance_model::{Entry, NodeId, TraceContext};
use parlance_wire::Dialect;

use super::Outcome;
use crate::node::Node;

/// What this node traces: nothing.
#[derive(Default)]
pub struct Tracing;

impl Tracing {
    /// Of a node.
    pub const fn start(_: &NodeId) -> Self {
        Self
    }

    /// See [`super::flush`].
    #[expect(clippy::unused_async, reason = "as the other half has it")]
    pub async fn flush(&self) {}
}

/// What a request says of the trace it is part of.
#[derive(Clone, Default)]
pub struct Parent(());

impl Parent {
    /// Of a call of the server API.
    pub const fn of_call(_: &HeaderMap) -> Self {
        Self(())
    }

    /// Of the handshake of a connection.
    pub const fn of_handshake(_: &HeaderMap) -> Self {
        Self(())
    }
}

/// A moment.
#[derive(Clone, Copy)]
pub struct Mark;

impl Mark {
    /// This one.
    pub const fn now() -> Self {
        Self
    }
}

/// A message that is being accepted.
pub struct Accept;

impl Accept {
    /// Its log is being asked to take it.
    pub const fn append(&self) -> Append {
        Append
    }

    /// It is answered.
    pub const fn end(self, _: Outcome) {}
}

/// A log that is being written.
pub struct Append;

impl Append {
    /// What its record carries.
    pub const fn context(&self) -> Option<Box<TraceContext>> {
        None
    }

    /// The log has answered.
    pub const fn end(self, _: Outcome) {}
}

/// A message has come.
pub const fn begin(_: &Node, _: &Parent, _: Option<Dialect>) -> Accept {
    Accept
}

/// An entry was handed to its room.
pub const fn delivered(_: &Node, _: &Entry, _: &Fanout, _: Mark) {}
