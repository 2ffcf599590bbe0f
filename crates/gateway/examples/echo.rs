//! The framing layer alone: an Engine.IO server that echoes, and a Socket.IO server with the events protocol
//! test-suites expect. No users, no dialects, no authentication.
//!
//! Owns: accepting connections and the two conversations. Must not know: the gateway's node.
#![expect(clippy::print_stdout, reason = "the address is told on standard output")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::response::Response;
use clap::Parser;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parlance_gateway::clock::Clock;
use parlance_gateway::http::patience::Patient;
use parlance_gateway::http::socket::Io;
use parlance_gateway::http::{Origin, Permits};
use parlance_gateway::line::{Endpoint, EngineSettings, Greeting, Heard, Line};
use parlance_model::Time;
use parlance_wire::engineio;
use parlance_wire::socketio::{self, Decoder, Kind, Packet};
use parlance_wire::websocket;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;

/// An echo server over Engine.IO and over Socket.IO.
#[derive(Parser, Clone)]
struct Options {
    /// Where to listen; port 0 takes any free one.
    #[arg(long, default_value = "127.0.0.1:3000")]
    listen: SocketAddr,
    /// Milliseconds from an answered ping to the next.
    #[arg(long, default_value_t = 300)]
    ping_interval: u64,
    /// Milliseconds an answer to a ping may take.
    #[arg(long, default_value_t = 200)]
    ping_timeout: u64,
    /// Bytes of the largest message or payload.
    #[arg(long, default_value_t = 1_000_000)]
    max_payload: usize,
    /// Milliseconds a Socket.IO client has to join a namespace.
    #[arg(long, default_value_t = 1_000)]
    connect_timeout: u64,
    /// Milliseconds moving to a WebSocket may take.
    #[arg(long, default_value_t = 10_000)]
    upgrade_timeout: u64,
    /// Milliseconds a posted payload may take to arrive.
    #[arg(long, default_value_t = 10_000)]
    body_timeout: u64,
    /// Polling sessions at once; 0 is no limit.
    #[arg(long, default_value_t = 0)]
    max_sessions: usize,
    /// The path of the Engine.IO echo.
    #[arg(long, default_value = "/engine.io/")]
    engine_path: String,
    /// The path of the Socket.IO echo.
    #[arg(long, default_value = "/socket.io/")]
    path: String,
}

/// What the connections share.
struct Server {
    options: Options,
    engine: Endpoint,
    socket: Endpoint,
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let (tracker, clock) = (TaskTracker::new(), Clock::system());
    let listener = TcpListener::bind(options.listen).await?;
    println!("ready {}", listener.local_addr()?);
    let engine = endpoint(&options, &clock, &tracker, |greeting, _, clock| echo(greeting.line, clock));
    let socket = endpoint(&options, &clock, &tracker, |greeting, options, clock| {
        converse(greeting.line, Duration::from_millis(options.connect_timeout), clock)
    });
    let server = Arc::new(Server { options, engine, socket });
    let permits = Permits::default();
    loop {
        let (stream, remote) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let Ok(permit) = permits.take(remote.ip(), 0, 0) else { continue };
        tracker.spawn(serve(server.clone(), stream, Origin(Arc::new(permit))));
    }
}

/// An endpoint whose sessions each run `session`.
fn endpoint<F, S>(options: &Options, clock: &Clock, tracker: &TaskTracker, session: S) -> Endpoint
where
    F: Future<Output = ()> + Send + 'static,
    S: Fn(Greeting, &Options, Clock) -> F + Send + Sync + 'static,
{
    let settings = EngineSettings {
        ping_interval_ms: options.ping_interval,
        ping_timeout_ms: options.ping_timeout,
        max_payload: options.max_payload,
        upgrade_timeout_ms: options.upgrade_timeout,
        body_timeout_ms: options.body_timeout,
        max_sessions: options.max_sessions,
        max_sessions_per_ip: 0,
        node_name: "echo".to_owned(),
    };
    let (options, tasks, time) = (options.clone(), tracker.clone(), clock.clone());
    let accept = move |greeting: Greeting| {
        tasks.spawn(session(greeting, &options, time.clone()));
    };
    Endpoint::new(settings, clock.clone(), tracker.clone(), Arc::new(accept))
}

async fn serve(server: Arc<Server>, stream: TcpStream, origin: Origin) {
    let service = service_fn(move |request: Request<Incoming>| {
        let server = server.clone();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(origin.clone());
        async move { Ok::<_, Infallible>(answer(&server, request).await) }
    });
    let io = TokioIo::new(Patient::new(Io(Arc::new(stream)), Duration::from_secs(10), Arc::default()));
    // A client may go whenever it likes.
    let _ =
        http1::Builder::new().timer(TokioTimer::new()).serve_connection(io, service).with_upgrades().await;
}

async fn answer(server: &Server, request: Request<Body>) -> Response {
    let path = request.uri().path();
    if path == server.options.engine_path {
        return server.engine.handle(request).await;
    }
    if path == server.options.path {
        return server.socket.handle(request).await;
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NOT_FOUND;
    if path == "/sessions" {
        // How much is going on, for tests that want to see it end.
        let count = server.engine.sessions() + server.socket.sessions();
        response = Response::new(Body::from(count.to_string()));
    }
    response
}

/// A line with the upkeep every session needs.
struct Talk {
    line: Line,
    clock: Clock,
    closing: bool,
}

/// What a session is to look at.
enum Wake {
    Heard(Heard),
    Due,
    Over,
}

impl Talk {
    const fn new(line: Line, clock: Clock) -> Self {
        Self { line, clock, closing: false }
    }

    /// Waits for the next thing, while what is queued goes out. Nothing is read while a lot is queued.
    async fn next(&mut self, until: Option<Time>) -> Wake {
        let now = self.clock.now();
        if self.line.flush(now).is_err() || (self.closing && self.line.is_idle()) {
            return Wake::Over;
        }
        let at = self.line.deadline().into_iter().chain(until).min();
        let wait = at.map_or(Duration::from_secs(3600), |at| at.since(now));
        let read = !self.closing && self.line.waiting() < 256;
        tokio::select! {
            heard = self.line.next(read) => match heard {
                Heard::Gone => Wake::Over,
                Heard::Goodbye => {
                    self.closing = true;
                    Wake::Due
                }
                Heard::Violation(code, reason) => {
                    self.close(code, reason);
                    Wake::Due
                }
                heard => Wake::Heard(heard),
            },
            () = tokio::time::sleep(wait) => match self.line.due(self.clock.now()) {
                Some(_) => Wake::Over,
                None => Wake::Due,
            },
        }
    }

    fn send(&mut self, packet: &str) {
        let mut frame = bytes::BytesMut::new();
        websocket::put_text(&mut frame, engineio::message(packet).as_bytes());
        self.line.push(frame.freeze());
    }

    fn close(&mut self, code: u16, reason: &str) {
        if !self.closing {
            self.closing = true;
            self.line.close(code, reason);
        }
    }
}

/// Sends back what comes.
async fn echo(line: Line, clock: Clock) {
    let mut talk = Talk::new(line, clock);
    loop {
        match talk.next(None).await {
            Wake::Heard(Heard::Text(text)) => talk.send(&text),
            Wake::Heard(Heard::Binary(data)) => talk.line.push_binary(&data),
            Wake::Heard(_) | Wake::Due => {}
            Wake::Over => break,
        }
    }
    talk.line.finish(Duration::from_secs(1)).await;
}

/// Socket.IO on the namespaces `/` and `/custom`.
struct Conversation {
    talk: Talk,
    decoder: Decoder,
    joined: Vec<String>,
    /// A namespace was joined once: a client that has left all of them may stay.
    welcome: bool,
}

async fn converse(line: Line, connect_timeout: Duration, clock: Clock) {
    let until = clock.now() + connect_timeout;
    let talk = Talk::new(line, clock);
    let mut this = Conversation { talk, decoder: Decoder::new(10, 32), joined: Vec::new(), welcome: false };
    loop {
        let waiting = !this.welcome && !this.talk.closing;
        if waiting && this.talk.clock.now() >= until {
            this.talk.close(1000, "no namespace was joined in time");
        }
        let read = match this.talk.next(waiting.then_some(until)).await {
            Wake::Heard(Heard::Text(text)) => this.decoder.text(&text),
            Wake::Heard(Heard::Binary(data)) => this.decoder.binary(data),
            Wake::Heard(_) | Wake::Due => continue,
            Wake::Over => break,
        };
        match read {
            Ok(None) => {}
            Ok(Some(packet)) if this.packet(&packet).is_some() => {}
            Ok(Some(_)) => this.talk.close(1002, "a packet out of place"),
            Err(malformed) => this.talk.close(1002, malformed.reason()),
        }
    }
    this.talk.line.finish(Duration::from_secs(1)).await;
}

impl Conversation {
    /// Answers a packet; `None` when no client may send it now.
    fn packet(&mut self, packet: &Packet) -> Option<()> {
        let joined = self.joined.contains(&packet.namespace);
        match packet.kind {
            Kind::Connect if !joined => self.connect(packet),
            Kind::Disconnect if joined => self.joined.retain(|known| *known != packet.namespace),
            Kind::Event | Kind::BinaryEvent if joined => self.event(packet)?,
            // Nothing was asked, so nothing is awaited.
            Kind::Ack | Kind::BinaryAck if joined => {}
            _ => return None,
        }
        Some(())
    }

    fn connect(&mut self, packet: &Packet) {
        let namespace = packet.namespace.as_str();
        if !matches!(namespace, "/" | "/custom") {
            self.talk.send(&socketio::connect_error(namespace, "Invalid namespace", None));
            return;
        }
        self.welcome = true;
        self.joined.push(namespace.to_owned());
        let sid = format!("{:032x}", rand::random::<u128>());
        self.talk.send(&socketio::connect(namespace, &sid, None));
        let auth = packet.data.as_ref().map_or("{}", |data| data.get());
        self.talk.send(&socketio::event_text(namespace, None, "auth", &[auth], None));
    }

    fn event(&mut self, packet: &Packet) -> Option<()> {
        let Some(data) = &packet.data else { return Some(()) };
        let (name, args) = socketio::event(data).ok()?;
        let args: Vec<&str> = args.iter().map(|arg| arg.get()).collect();
        let (namespace, attachments) = (packet.namespace.as_str(), packet.attachments.len());
        let text = match (&*name, packet.id) {
            ("message", _) => {
                let all: Vec<&str> = std::iter::once("\"message-back\"").chain(args).collect();
                socketio::binary_event(namespace, None, &format!("[{}]", all.join(",")), attachments)
            }
            ("message-with-ack", Some(id)) => {
                socketio::binary_ack(namespace, id, &format!("[{}]", args.join(",")), attachments)
            }
            _ => return Some(()),
        };
        self.talk.send(&text);
        for data in &packet.attachments {
            self.talk.line.push_binary(data);
        }
        Some(())
    }
}
