//! The session's task: one loop over input, output, work and one timer.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use parlance_hub::Outbox;
use parlance_model::Time;
use parlance_wire::{Dialect, Peer, Settings};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Message, error::Error, protocol::Role};

use super::admission::Admission;
use super::input::{Input, websocket_config};
use super::link::Link;
use super::timers::Timers;
use super::work::{Doing, Done, Work};
use super::writer::Writer;
use crate::config::Mount;
use crate::http::socket::{Io, Socket};
use crate::node::Node;

/// Requests, and invitations, taken ahead of the one being carried out.
pub(super) const READ_AHEAD: usize = 16;

pub(super) struct Session {
    pub(super) node: Arc<Node>,
    pub(super) mount: Arc<Mount>,
    pub(super) link: Option<Arc<Link>>,
    pub(super) peer: Peer,
    pub(super) stream: Arc<TcpStream>,
    pub(super) ws: WebSocketStream<Input>,
    pub(super) writer: Writer,
    pub(super) todo: VecDeque<Work>,
    pub(super) doing: Option<Doing>,
    /// Attaching and invitations, one after the other, beside the client's requests: a long backlog must not
    /// keep its receipts from being read.
    pub(super) joins: VecDeque<Work>,
    pub(super) joining: Option<Doing>,
    pub(super) timers: Timers,
    pub(super) closing: bool,
    /// The client said goodbye, or was told to go: what was handed over has reached it.
    pub(super) orderly: bool,
    /// Something was handed over since the last ping.
    pub(super) unconfirmed: bool,
}

enum Wake {
    Input(Option<Result<Message, Error>>),
    /// The first part of a message came.
    Began,
    Outbox,
    Writable,
    Done(Done),
    Timer,
    Stop,
}

/// Runs a connection until it is closed, and gives back what it held. A panic inside ends only it.
pub async fn run(admission: Admission, socket: Socket) {
    let (node, mount, link) = admission.take();
    let dialect = Dialect::parse(&mount.dialect).unwrap_or(Dialect::Sechat);
    node.metrics.connection_opened(&mount.name);
    let mut session = Session::new(node.clone(), mount.clone(), link, socket, dialect).await;
    if AssertUnwindSafe(session.drive()).catch_unwind().await.is_err() {
        tracing::error!(mount = %mount.name, "a connection's task panicked; the connection is closed");
    }
    session.finish().await;
    node.metrics.connection_closed(&mount.name);
}

impl Session {
    async fn new(
        node: Arc<Node>,
        mount: Arc<Mount>,
        link: Option<Arc<Link>>,
        socket: Socket,
        dialect: Dialect,
    ) -> Self {
        let config = node.config.load();
        let now = node.clock.now();
        let heard = link
            .as_ref()
            .map_or_else(|| Arc::new(std::sync::atomic::AtomicU64::new(now.millis())), |l| l.heard.clone());
        let input = Input::new(Io(socket.stream.clone()), heard, node.clock.clone());
        let ws = WebSocketStream::from_partially_read(
            input,
            socket.leftover.to_vec(),
            Role::Server,
            Some(websocket_config(mount.max_frame_bytes)),
        )
        .await;
        let settings = Settings { dialect, max_depth: config.limits.json_depth, salt: rand::random() };
        let mut peer = Peer::new(settings);
        if let Some(link) = &link {
            peer.set_user(link.listener.user.clone());
        }
        let timers = Timers::new(now, &mount, &config.limits, config.timings.restore());
        // What is asked is answered only once the connection hears what needs no reading.
        let (todo, joins) = match &link {
            Some(_) => (VecDeque::from([Work::Greet]), VecDeque::from([Work::Attach])),
            None => (VecDeque::new(), VecDeque::new()),
        };
        Self {
            node: node.clone(),
            mount,
            link,
            peer,
            stream: socket.stream,
            ws,
            writer: Writer::default(),
            todo,
            doing: None,
            joins,
            joining: None,
            timers,
            closing: false,
            orderly: false,
            unconfirmed: false,
        }
    }

    async fn drive(&mut self) {
        let sleep = tokio::time::sleep_until(Instant::now());
        tokio::pin!(sleep);
        let mut armed = Time::default();
        loop {
            self.start_work();
            let now = self.node.clock.now();
            let waited = !self.writer.is_empty();
            if self.writer.flush(&self.stream, now).is_err() || (self.closing && self.writer.is_empty()) {
                return;
            }
            if waited && self.writer.is_empty() {
                self.unblocked();
            }
            let (at, _) = self.timers.next(&self.view());
            if at != armed {
                armed = at;
                sleep.as_mut().reset(Instant::now() + at.since(now).min(Duration::from_secs(86_400)));
            }
            let reading = !self.closing && self.todo.len() < READ_AHEAD && self.timers.may_read(now);
            let blocked = !self.writer.is_empty();
            let outbox = self.link.as_ref().map(|l| &l.listener.outbox).filter(|_| !self.closing);
            let wake = tokio::select! {
                wake = input(&mut self.ws), if reading => wake,
                () = ready(outbox) => Wake::Outbox,
                _ = self.stream.writable(), if blocked => Wake::Writable,
                finished = done(&mut self.doing) => {
                    self.doing = None;
                    Wake::Done(finished)
                }
                finished = done(&mut self.joining) => {
                    self.joining = None;
                    Wake::Done(finished)
                }
                () = &mut sleep => Wake::Timer,
                // Authenticated connections are told one by one.
                () = self.node.shutdown.cancelled(), if self.link.is_none() && !self.closing => Wake::Stop,
            };
            match wake {
                Wake::Input(frame) => self.input(frame),
                Wake::Outbox => self.output(),
                Wake::Writable | Wake::Began => {}
                Wake::Stop => self.go_away(1012, "this server is restarting; reconnect"),
                Wake::Done(done) => self.done(done),
                Wake::Timer => {
                    armed = Time::default();
                    self.due();
                }
            }
        }
    }
}

/// The next frame; or, once, that one has begun and is not complete.
async fn input(ws: &mut WebSocketStream<Input>) -> Wake {
    std::future::poll_fn(|cx| match ws.poll_next_unpin(cx) {
        Poll::Ready(frame) => Poll::Ready(Wake::Input(frame)),
        Poll::Pending if ws.get_mut().has_begun() => Poll::Ready(Wake::Began),
        Poll::Pending => Poll::Pending,
    })
    .await
}

async fn ready(outbox: Option<&Outbox>) {
    match outbox {
        Some(outbox) => outbox.ready().await,
        None => std::future::pending().await,
    }
}

async fn done(doing: &mut Option<Doing>) -> Done {
    match doing {
        Some(doing) => doing.await,
        None => std::future::pending().await,
    }
}
