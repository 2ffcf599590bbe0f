//! Socket.IO on a session's transport: packets to namespaces, connecting and disconnecting.
//!
//! Owns: which packet is allowed when, and what ends the connection (Socket.IO protocol v5; the behaviour of
//! the reference server). Must not know: events.

use std::sync::Arc;

use bytes::Bytes;
use parlance_model::{Answer, Reject, RejectCode};
use parlance_wire::{Auth, Class, Encoded, Tag, socketio};
use serde_json::value::RawValue;

use super::conn::Conn;
use super::link::Link;
use super::recovery::{self, Begun, fresh_id};
use super::refusal::Asked;
use super::run::Session;
use super::work::{Entrance, Work};
use crate::config::Mount;
use crate::drain::RESTARTING;

/// What a Socket.IO session has besides a raw one.
pub(super) struct Socketio {
    /// The namespaces of the path.
    pub mounts: Arc<[Arc<Mount>]>,
    pub decoder: socketio::Decoder,
    /// The token of the handshake.
    pub token: Option<String>,
}

/// Most namespaces one client can be in at once.
const MAX_NAMESPACES: usize = 16;

impl Session {
    pub(super) fn text_packet(&mut self, text: &str) {
        let Some(socketio) = &mut self.socketio else { return };
        let decoded = socketio.decoder.text(text);
        self.decoded(decoded);
    }

    pub(super) fn binary_packet(&mut self, data: Bytes) {
        let Some(socketio) = &mut self.socketio else { return };
        let decoded = socketio.decoder.binary(data);
        self.decoded(decoded);
    }

    fn decoded(&mut self, decoded: Result<Option<socketio::Packet>, socketio::Malformed>) {
        match decoded {
            Ok(Some(packet)) => self.packet(packet),
            Ok(None) => {}
            Err(malformed) => self.close(1008, malformed.reason()),
        }
    }

    fn packet(&mut self, packet: socketio::Packet) {
        let index = self.conns.iter().position(|c| c.mount.namespace == packet.namespace);
        match (packet.kind, index) {
            (socketio::Kind::Connect, None) => self.connect(&packet),
            (socketio::Kind::Connect, Some(_)) => self.close(1008, "the namespace is joined already"),
            (socketio::Kind::Disconnect, Some(index)) => self.leave_namespace(index),
            (socketio::Kind::Event, Some(index)) if self.conns.get(index).is_some_and(|c| c.connected) => {
                self.event(index, &packet);
            }
            (socketio::Kind::BinaryEvent, Some(index))
                if self.conns.get(index).is_some_and(|c| c.connected) =>
            {
                self.binary_event(index, &packet);
            }
            // Nothing was asked of the client: an ack of nothing is ignored.
            (socketio::Kind::Ack | socketio::Kind::BinaryAck, Some(_)) => {}
            _ => self.close(1008, "not connected to the namespace"),
        }
    }

    fn connect(&mut self, packet: &socketio::Packet) {
        if self.node.shutdown.is_cancelled() {
            // Not refused: a client that is would not come back by itself.
            return self.go_away(RESTARTING.code, RESTARTING.reason);
        }
        let Some(socketio) = &self.socketio else { return };
        let mount = socketio.mounts.iter().find(|m| m.namespace == packet.namespace).cloned();
        let Some(mount) = mount.filter(|_| self.conns.len() < MAX_NAMESPACES) else {
            let text = format!("4{}", socketio::connect_error(&packet.namespace, "Invalid namespace", None));
            self.outbox.push(&Encoded::framed(&[text], Class::Kept), None);
            return;
        };
        let mut conn = Conn::new(&self.node, mount, None);
        conn.todo.push_back(Work::Connect(Box::new(Auth::read(packet.data.as_deref()))));
        self.conns.push(conn);
    }

    fn event(&mut self, index: usize, packet: &socketio::Packet) {
        let Some(data) = packet.data.as_deref() else { return };
        let (name, args) = match socketio::event(data) {
            Ok(read) => read,
            Err(malformed) => return self.close(1008, malformed.reason()),
        };
        self.receive_event(index, &name, &args, packet.id);
    }

    /// No dialect carries binary: an event that does is refused in the dialect's words for an unknown one.
    fn binary_event(&mut self, index: usize, packet: &socketio::Packet) {
        let name =
            packet.data.as_deref().and_then(|d| socketio::event(d).ok()).map(|(name, _)| name.into_owned());
        self.receive_event(index, &format!("binary:{}", name.unwrap_or_default()), &[], packet.id);
    }

    fn receive_event(&mut self, index: usize, name: &str, args: &[&RawValue], id: Option<u64>) {
        let now = self.node.clock.now();
        let Some(conn) = self.conns.get_mut(index) else { return };
        self.node.metrics.frame_in(conn.peer.dialect());
        conn.peer.receive_event(name, args, id, now);
        self.take_requests(index);
    }

    /// The client left the namespace; its transport stays.
    fn leave_namespace(&mut self, index: usize) {
        let mut conn = self.conns.remove(index);
        conn.orderly = true;
        if let (Some(link), true) = (&conn.link, self.socketio.is_some()) {
            recovery::end(&self.node, link);
            // Nothing more is pushed for it from here on.
            for topic in link.topics() {
                self.node.hub.leave(&topic, link.connection.number);
            }
        }
        if self.conns.is_empty() {
            self.timers.alone_since(self.node.clock.now());
        }
        let node = self.node.clone();
        self.node.tracker.spawn(async move { conn.finish(&node).await });
    }

    pub(super) fn connected(&mut self, index: usize, entrance: Result<Entrance, Reject>) {
        let Some(conn) = self.conns.get_mut(index) else { return };
        match entrance {
            Err(reject) => self.turn_away(index, reject),
            Ok(Entrance::Unnamed) => {
                conn.connected = true;
                conn.peer.connected(&fresh_id(), None);
                self.send_frames(index);
            }
            Ok(Entrance::Named(link, begun)) => self.let_in(index, link, begun),
        }
    }

    fn turn_away(&mut self, index: usize, mut reject: Reject) {
        self.correlate(index, Asked { event: "connect", client_id: None, place: None }, &mut reject);
        let Some(conn) = self.conns.get_mut(index) else { return };
        self.node.metrics.refused(Some(&conn.mount), crate::metrics::word(reject.code));
        if reject.code == RejectCode::Unavailable {
            // A client that is refused stays away until its user does something; one that is cut off tries again.
            self.conns.remove(index);
            return self.close(1013, "temporarily unavailable: reconnect");
        }
        let closes = conn.peer.refuse(&fresh_id(), &reject);
        self.send_frames(index);
        self.conns.remove(index);
        if closes {
            self.close(1008, "not authenticated");
        }
    }

    fn let_in(&mut self, index: usize, link: Arc<Link>, begun: Begun) {
        let Some(conn) = self.conns.get_mut(index) else { return };
        conn.peer.set_user(link.listener.user.clone());
        conn.peer.resume(link.listener.accent());
        conn.link = Some(link);
        conn.connected = true;
        conn.joins.push_back(Work::Attach);
        conn.todo.push_back(Work::Greet);
        // Before it is in any room: nothing may come to a client that is not connected yet. A recovered one is
        // connected after what it missed.
        if begun.recovered { conn.greeting = Some(Box::new(begun)) } else { self.greet(index, begun) }
    }

    /// Tells a client that it is connected, and what its dialect says first.
    fn greet(&mut self, index: usize, begun: Begun) {
        let Some(conn) = self.conns.get_mut(index) else { return };
        let Some(user) = conn.link.as_ref().map(|link| link.listener.user.clone()) else { return };
        conn.peer.connected(&begun.sid, begun.pid.as_deref());
        let welcome = Answer::Welcome { user, conversations: begun.conversations };
        conn.peer.answer(&Tag::default(), &Ok(welcome), self.node.clock.now());
        // Of a recovered session: behind what was missed.
        self.send_behind(index);
    }

    /// A recovered client has been sent what it missed.
    pub(super) fn greet_recovered(&mut self, index: usize) {
        let greeting = self.conns.get_mut(index).and_then(|conn| conn.greeting.take());
        if let Some(begun) = greeting {
            self.greet(index, *begun);
            if let Some(conn) = self.conns.get(index) {
                self.node.metrics.recovery(conn.peer.dialect(), "recovered");
            }
        }
    }

    /// Ends a namespace for good: the client does not come back by itself.
    pub(super) fn kick(&mut self, index: usize) {
        let Some(conn) = self.conns.get_mut(index) else { return };
        conn.orderly = true;
        if let Some(link) = &conn.link {
            recovery::end(&self.node, link);
        }
        conn.peer.disconnected();
        // A client that has left hears nothing more.
        self.send_behind(index);
    }

    /// No namespace was joined in time.
    pub(super) fn unjoined(&mut self) {
        let reject = Reject::new(RejectCode::Unauthenticated, "no session was registered in time");
        for index in 0..self.conns.len() {
            self.answer(index, &parlance_wire::Tag::default(), Err(reject.clone()));
        }
        self.close(1008, "no namespace was joined in time");
    }
}
