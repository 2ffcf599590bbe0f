//! The half of a build with the feature `otel`: OpenTelemetry's spans.
//!
//! Owns: beginning and ending them, and how a context reaches the next node. Must not know: where they are sent.

use std::time::{Duration, SystemTime};

use axum::http::HeaderMap;
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId,
    TraceState, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, Span};
use parlance_hub::Fanout;
use parlance_model::{Entry, MessageId, NodeId, Time, TraceContext};
use parlance_wire::Dialect;

use super::budget::Budget;
use super::{Outcome, export};
use crate::node::Node;

const HEADER: &str = "traceparent";
/// What is left to be sent when a node stops has so long.
const FAREWELL: Duration = Duration::from_secs(2);

/// What this node traces, if anything.
#[derive(Default)]
pub struct Tracing(Option<Live>);

struct Live {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    /// Of traces that clients ask for.
    asked: Budget,
}

impl Tracing {
    /// Of a node, as the environment says. What is wrong there is logged: a gateway starts without its traces, too.
    pub fn start(node: &NodeId) -> Self {
        match export::provider(node) {
            Ok(Some(provider)) => {
                let tracer = provider.tracer("parlance");
                Self(Some(Live { provider, tracer, asked: Budget::default() }))
            }
            Ok(None) => Self(None),
            Err(error) => {
                tracing::error!(%error, "messages are not traced");
                Self(None)
            }
        }
    }

    /// See [`super::flush`].
    pub async fn flush(&self) {
        let Some(live) = &self.0 else { return };
        let provider = live.provider.clone();
        let ended = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(FAREWELL)).await;
        if !matches!(ended, Ok(Ok(()))) {
            tracing::warn!("the last spans are not exported");
        }
    }
}

/// What a request says of the trace it is part of.
#[derive(Clone, Default)]
pub struct Parent(Option<Box<TraceContext>>);

impl Parent {
    /// Of a call of the server API: its caller decides for this message, either way.
    pub fn of_call(headers: &HeaderMap) -> Self {
        let mut all = headers.get_all(HEADER).iter();
        let (Some(one), None) = (all.next(), all.next()) else { return Self(None) };
        Self(one.to_str().ok().and_then(TraceContext::parse).map(Box::new))
    }

    /// Of the handshake of a connection: one that is not sampled says nothing of the messages to come.
    pub fn of_handshake(headers: &HeaderMap) -> Self {
        Self(Self::of_call(headers).0.filter(|context| context.is_sampled()))
    }
}

/// A moment.
#[derive(Clone, Copy)]
pub struct Mark(SystemTime);

impl Mark {
    /// This one.
    pub fn now() -> Self {
        // As spans have it. Nothing is decided by it.
        Self(opentelemetry::time::now())
    }
}

/// A message that is being accepted, if it is sampled.
pub struct Accept(Option<Box<Sampled>>);

struct Sampled {
    span: Span,
    tracer: SdkTracer,
}

impl Accept {
    /// Its log is being asked to take it.
    pub fn append(&self) -> Append {
        Append(self.0.as_deref().map(|sampled| {
            let builder = SpanBuilder::from_name("append").with_kind(SpanKind::Producer);
            let parent = Context::new().with_remote_span_context(sampled.span.span_context().clone());
            Box::new(sampled.tracer.build_with_context(builder, &parent))
        }))
    }

    /// It is answered.
    pub fn end(self, outcome: Outcome) {
        if let Some(mut sampled) = self.0 {
            end(&mut sampled.span, outcome);
        }
    }
}

/// A log that is being written.
pub struct Append(Option<Box<Span>>);

impl Append {
    /// What its record carries.
    pub fn context(&self) -> Option<Box<TraceContext>> {
        let context = self.0.as_ref()?.span_context();
        Some(Box::new(TraceContext {
            trace: u128::from_be_bytes(context.trace_id().to_bytes()),
            span: u64::from_be_bytes(context.span_id().to_bytes()),
            flags: context.trace_flags().to_u8(),
        }))
    }

    /// The log has answered.
    pub fn end(self, outcome: Outcome) {
        if let Some(mut span) = self.0 {
            end(&mut span, outcome);
        }
    }
}

fn end(span: &mut Span, (word, stored): Outcome) {
    span.set_attribute(KeyValue::new("parlance.outcome", word));
    if let Some((id, at)) = stored {
        span.set_attribute(message(id, at));
    }
    if matches!(word, "unavailable" | "internal") {
        span.set_status(Status::error(word));
    }
    span.end();
}

/// As the server API and `explain` have it.
fn message(id: MessageId, at: Time) -> KeyValue {
    KeyValue::new("messaging.message.id", id.to_opaque(at.seconds32()))
}

/// Above what another process began.
fn below(parent: &TraceContext) -> Context {
    let (trace, span) = (parent.trace.to_be_bytes(), parent.span.to_be_bytes());
    let flags = TraceFlags::new(parent.flags);
    let (trace, span) = (TraceId::from_bytes(trace), SpanId::from_bytes(span));
    Context::new().with_remote_span_context(SpanContext::new(trace, span, flags, true, TraceState::NONE))
}

/// A message has come, by a connection of this dialect or over the server API: here is decided whether it is sampled.
pub fn begin(node: &Node, parent: &Parent, dialect: Option<Dialect>) -> Accept {
    let Some(live) = &node.tracing.0 else { return Accept(None) };
    let from_outside = dialect.is_some();
    let parent = parent.0.as_deref().filter(|_| !from_outside || live.asked.takes(node.clock.now()));
    let parent = parent.map_or_else(Context::new, below);
    let builder = SpanBuilder::from_name("accept").with_kind(SpanKind::Server);
    let mut span = live.tracer.build_with_context(builder, &parent);
    if !span.span_context().is_sampled() {
        return Accept(None);
    }
    span.set_attribute(KeyValue::new("parlance.via", dialect.map_or("api", Dialect::as_str)));
    Accept(Some(Box::new(Sampled { span, tracer: live.tracer.clone() })))
}

/// An entry was handed to its room; `begun`: when the feed took it up.
pub fn delivered(node: &Node, entry: &Entry, fanout: &Fanout, begun: Mark) {
    let (Some(live), Some(context)) = (&node.tracing.0, entry.record.trace()) else { return };
    let few = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let latency = i64::try_from(node.since(entry.at).as_millis()).unwrap_or(i64::MAX);
    let builder = SpanBuilder::from_name("deliver")
        .with_kind(SpanKind::Consumer)
        .with_start_time(begun.0)
        .with_attributes([
            message(entry.id, entry.at),
            KeyValue::new("parlance.sockets", few(fanout.heard.iter().map(|heard| heard.delivered).sum())),
            KeyValue::new("parlance.too_slow", few(fanout.overflowed)),
            KeyValue::new("parlance.latency_ms", latency),
        ]);
    live.tracer.build_with_context(builder, &below(context)).end();
}
