//! The session's task: one loop over input, output, work and one timer.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use parlance_hub::{Limits, Outbox};
use parlance_model::Time;
use parlance_wire::socketio;
use tokio::time::Instant;

use super::admission::{Admission, Port};
use super::conn::Conn;
use super::socketio::Socketio;
use super::timers::Timers;
use super::work::{self, Done, Work};
use crate::config::Mount;
use crate::drain::RESTARTING;
use crate::http::socket::Socket;
use crate::journal;
use crate::line::{Greeting, Heard, Line};
use crate::node::Node;
use crate::trace::Parent;

/// Requests, and invitations, taken ahead of the one being carried out.
pub(super) const READ_AHEAD: usize = 16;

/// Most attachments of one Socket.IO packet.
const MAX_ATTACHMENTS: usize = 10;

pub(super) struct Session {
    pub(super) node: Arc<Node>,
    pub(super) line: Line,
    /// What waits to be written, of all uses of the transport.
    pub(super) outbox: Arc<Outbox>,
    /// The raw WebSocket's one use, or a Socket.IO client's namespaces.
    pub(super) conns: Vec<Conn>,
    pub(super) socketio: Option<Box<Socketio>>,
    pub(super) timers: Timers,
    pub(super) closing: bool,
    /// Something was handed over since the last ping.
    pub(super) unconfirmed: bool,
    /// Whoever delivers writes to the socket.
    pub(super) open: bool,
    /// Events wait for the answer of what is being done.
    pub(super) held: bool,
    /// Log lines about its refusals.
    pub(super) lines: journal::Own,
    /// The trace its handshake was part of.
    parent: Parent,
}

enum Wake {
    Heard(Heard),
    Outbox,
    Done(usize, Done),
    Timer,
    Stop,
}

/// An outbox within the configured limits.
pub(super) fn outbox(node: &Node) -> Arc<Outbox> {
    let limits = &node.config.load().limits;
    Arc::new(Outbox::new(Limits { bytes: limits.outbox_bytes, pieces: limits.outbox_frames }))
}

/// A raw WebSocket connection's session, to be [run](Running::run).
pub async fn begin(admission: Admission, socket: Socket) -> Running {
    let (node, mount, port, link) = admission.take();
    let line = Line::raw(socket, mount.max_frame_bytes, node.clock.clone(), port.heart).await;
    let mut conn = Conn::new(&node, mount.clone(), link);
    if let Some(link) = &conn.link {
        // What is asked is answered only once the connection hears what needs no reading.
        if link.dialect.implied_role().is_some() {
            conn.todo.push_back(Work::Greet);
        }
        conn.joins.push_back(Work::Attach);
    }
    let mut session = Box::new(Session::new(node, line, port.outbox, &mount));
    session.parent = port.parent;
    session.conns.push(conn);
    Running { session, mount }
}

/// A Socket.IO client's session. `mounts` are the namespaces of its path; without any there is nothing to run.
pub fn begin_socketio(node: &Arc<Node>, mounts: Arc<[Arc<Mount>]>, greeting: Greeting) -> Option<Running> {
    let first = mounts.first().cloned()?;
    let outbox = outbox(node);
    let mut session = Box::new(Session::new(node.clone(), greeting.line, outbox, &first));
    session.parent = greeting.parent;
    let depth = node.config.load().limits.json_depth;
    session.socketio = Some(Box::new(Socketio {
        mounts,
        // The codecs judge the depth of arguments: beyond it they answer, beyond twice that the packet is malformed.
        decoder: socketio::Decoder::new(MAX_ATTACHMENTS, depth * 2),
        token: greeting.token,
    }));
    Some(Running { session, mount: first })
}

/// A session that is to be run by a task of its own. Boxed from the beginning, and apart from what began it: a task keeps
/// room for everything that it ever held, for as long as the connection lives.
pub struct Running {
    session: Box<Session>,
    mount: Arc<Mount>,
}

impl Running {
    /// Runs the connection until it is closed, and gives back what it held. A panic inside ends only this connection.
    pub async fn run(self) {
        let Self { mut session, mount } = self;
        session.node.metrics.connection_opened(&mount);
        if AssertUnwindSafe(session.drive()).catch_unwind().await.is_err() {
            let mount = &mount.name;
            tracing::error!(%mount, "a connection's task panicked; the connection is closed");
        }
        Box::pin(session.finish()).await;
        session.node.metrics.connection_closed(&mount);
    }
}

impl Session {
    fn new(node: Arc<Node>, line: Line, outbox: Arc<Outbox>, mount: &Mount) -> Self {
        let config = node.config.load();
        let timers = Timers::new(node.clock.now(), mount, &config.limits, &config.timings);
        Self {
            node: node.clone(),
            line,
            outbox,
            // Nearly always one; a vector that grows by itself begins with room for four.
            conns: Vec::with_capacity(1),
            socketio: None,
            timers,
            closing: false,
            unconfirmed: false,
            open: false,
            held: false,
            lines: journal::Own::default(),
            parent: Parent::default(),
        }
    }

    pub(super) fn is_raw(&self) -> bool {
        self.socketio.is_none()
    }

    async fn drive(&mut self) {
        let sleep = tokio::time::sleep_until(Instant::now());
        tokio::pin!(sleep);
        let mut armed = Time::default();
        loop {
            self.start_work();
            self.open_exit();
            let now = self.node.clock.now();
            let waited = !self.line.is_idle();
            if self.line.flush(now).is_err() || (self.closing && self.line.is_idle()) {
                return;
            }
            if waited && self.line.is_idle() {
                self.unblocked();
            }
            let at = self.next_deadline();
            if at != armed {
                armed = at;
                sleep.as_mut().reset(Instant::now() + at.since(now).min(Duration::from_secs(86_400)));
            }
            // A Socket.IO client's own goodbye ends a closing session at once.
            let read = if self.closing { !self.is_raw() } else { self.may_read(now) };
            let write = !self.closing;
            let alone = self.conns.iter().all(|c| c.link.is_none());
            let wake = tokio::select! {
                heard = self.line.next(read) => Wake::Heard(heard),
                () = self.outbox.ready(), if write => Wake::Outbox,
                (index, done) = done(&mut self.conns) => Wake::Done(index, done),
                () = &mut sleep => Wake::Timer,
                // Authenticated connections are told one by one.
                () = self.node.shutdown.cancelled(), if alone && !self.closing => Wake::Stop,
            };
            match wake {
                Wake::Heard(heard) => self.heard(heard),
                Wake::Outbox => self.output(),
                Wake::Stop => self.go_away(RESTARTING.code, RESTARTING.reason),
                Wake::Done(index, done) => self.done(index, done),
                Wake::Timer => {
                    armed = Time::default();
                    self.due();
                }
            }
        }
    }

    /// Unless so much is asked, or so fast, that it must be done first.
    fn may_read(&mut self, now: Time) -> bool {
        let asked = self.conns.iter().map(|c| c.todo.len()).sum::<usize>();
        asked < READ_AHEAD && self.timers.may_read(now)
    }

    fn start_work(&mut self) {
        if self.closing {
            return;
        }
        let (node, outbox, heart, parent) = (&self.node, &self.outbox, self.line.heart(), &self.parent);
        let token = self.socketio.as_ref().and_then(|s| s.token.as_ref());
        for conn in &mut self.conns {
            conn.start_work(|conn, work| {
                let seat = work::Seat {
                    node: node.clone(),
                    mount: conn.mount.clone(),
                    link: conn.link.clone(),
                    port: Port { outbox: outbox.clone(), heart: heart.clone(), parent: parent.clone() },
                    token: token.cloned(),
                };
                work::start(seat, work)
            });
        }
    }
}

async fn done(conns: &mut [Conn]) -> (usize, Done) {
    std::future::poll_fn(|cx| {
        for (index, conn) in conns.iter_mut().enumerate() {
            if let Poll::Ready(done) = conn.poll(cx) {
                return Poll::Ready((index, done));
            }
        }
        Poll::Pending
    })
    .await
}

/// Boxed, so that an idle session stays small.
pub(super) type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

#[cfg(test)]
mod tests {
    use super::*;

    const fn result_of<F, A>(_: fn(A) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_idle_connection_stays_small() {
        // Each of these is there once per connection, for as long as it lives.
        assert!(result_of(Running::run) <= 1000, "{}", result_of(Running::run));
        assert!(size_of::<Session>() <= 320, "{}", size_of::<Session>());
        assert!(size_of::<Conn>() <= 400, "{}", size_of::<Conn>());
    }
}
