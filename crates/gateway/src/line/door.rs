//! How Engine.IO sessions begin: what a new one is made of.
//!
//! Must not know: requests, responses.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parlance_model::{NodeId, Time};
use parlance_wire::engineio::{Heartbeat, Open, Transport};

use super::Line;
use super::desk::{Candidate, Desk};
use super::engine::Engine;
use super::polling::Polling;
use super::pulse::Pulse;
use super::registry::{Entry, Registry};
use super::wire::{Wire, turn_away};
use crate::clock::Clock;
use crate::http::connection::Origin;
use crate::http::engine::EngineSettings;
use crate::http::permit::Permit;
use crate::http::socket::Socket;

pub use super::registry::Session;

/// Where sessions of one endpoint begin.
#[derive(Clone)]
pub struct Door {
    settings: Arc<EngineSettings>,
    clock: Clock,
    registry: Arc<Registry>,
}

impl Door {
    /// A door with no sessions behind it.
    pub fn new(settings: EngineSettings, clock: Clock) -> Self {
        let registry = Registry::new(&settings.node_name);
        Self { settings: Arc::new(settings), clock, registry }
    }

    /// What was agreed on.
    pub fn settings(&self) -> &EngineSettings {
        &self.settings
    }

    /// The session with that id.
    pub fn find(&self, sid: &str) -> Option<Session> {
        self.registry.find(sid)
    }

    /// The node that owns a session, when it is another one.
    pub fn foreign(&self, sid: &str) -> Option<NodeId> {
        self.registry.foreign(sid)
    }

    /// How many sessions there are.
    pub fn sessions(&self) -> usize {
        self.registry.len()
    }

    /// A session over HTTP polling, and the packet that opens it.
    pub fn open_polling(&self, permit: Permit) -> (Line, String) {
        let now = self.clock.now();
        let heart = Arc::new(AtomicU64::new(now.millis()));
        let desk = Desk::new(self.clock.clone(), heart.clone());
        let entry = self.registry.enter(Session::Polling(desk.clone()));
        let open = self.open(&entry, Transport::Polling);
        let upgrade_timeout = Duration::from_millis(self.settings.upgrade_timeout_ms);
        let polling = Polling::new(desk, upgrade_timeout, permit);
        let engine = Engine::polling(polling, self.pulse(now), self.clock.clone(), entry);
        (Line::engine(engine, heart), open)
    }

    /// A session over a WebSocket.
    pub async fn open_socket(&self, socket: Socket, origin: Origin) -> Line {
        let now = self.clock.now();
        let heart = Arc::new(AtomicU64::new(now.millis()));
        let wire = self.wire(socket, heart.clone()).await;
        let entry = self.registry.enter(Session::Socket);
        let open = self.open(&entry, Transport::WebSocket);
        let mut engine = Engine::socket(wire, origin, self.pulse(now), self.clock.clone(), entry);
        engine.push(super::frames::text(&open));
        Line::engine(engine, heart)
    }

    /// Brings a WebSocket to a session that may move to it, or closes it.
    pub async fn offer(&self, socket: Socket, origin: Origin, session: Session) {
        let stream = socket.stream.clone();
        if let Session::Polling(desk) = session {
            let wire = self.wire(socket, desk.heart().clone()).await;
            if desk.offer(Candidate { wire, origin }).is_none() {
                return;
            }
        }
        turn_away(&stream, 1000, "the session has its transport").await;
    }

    async fn wire(&self, socket: Socket, heart: Arc<AtomicU64>) -> Box<Wire> {
        Wire::new(socket, self.settings.max_payload, self.clock.clone(), heart).await
    }

    fn pulse(&self, now: Time) -> Pulse {
        let EngineSettings { ping_interval_ms, ping_timeout_ms, .. } = *self.settings;
        let (interval, timeout) =
            (Duration::from_millis(ping_interval_ms), Duration::from_millis(ping_timeout_ms));
        Pulse::new(Heartbeat::new(now, interval, timeout))
    }

    fn open(&self, entry: &Entry, transport: Transport) -> String {
        let open = Open {
            sid: &entry.sid(),
            upgrades: transport.upgrades(),
            ping_interval_ms: self.settings.ping_interval_ms,
            ping_timeout_ms: self.settings.ping_timeout_ms,
            max_payload: self.settings.max_payload as u64,
        };
        open.to_text()
    }
}
