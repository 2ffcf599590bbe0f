//! A balancer without stickiness: each HTTP request goes to the next node, whatever connection it came by.
//!
//! Owns: turns, passing over nodes that refuse connections, WebSockets byte for byte. Must not know: what is asked.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1 as client;
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

type Body = BoxBody<Bytes, hyper::Error>;

/// A request and how it was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// The node's address.
    pub node: String,
    /// Method and target; behind it why there is no answer, when there is none.
    pub request: String,
    /// The answer's status; 502 when there was none, 499 when the client went before it.
    pub status: u16,
}

/// A balancer; dropped, it cuts everything off.
pub struct Balancer {
    address: String,
    shared: Arc<Shared>,
}

struct Shared {
    nodes: Vec<String>,
    next: AtomicUsize,
    turns: Mutex<Vec<Turn>>,
    tasks: TaskTracker,
    end: CancellationToken,
}

impl Balancer {
    /// Listens on a free port in front of these nodes.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn start<A: Into<String>>(nodes: impl IntoIterator<Item = A>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let shared = Arc::new(Shared {
            nodes: nodes.into_iter().map(Into::into).collect(),
            next: AtomicUsize::new(0),
            turns: Mutex::default(),
            tasks: TaskTracker::new(),
            end: CancellationToken::new(),
        });
        let accepting = shared.clone();
        let ended = shared.end.clone();
        shared.tasks.spawn(ended.run_until_cancelled_owned(async move {
            while let Ok((stream, _)) = listener.accept().await {
                accepting.clone().serve(stream);
            }
        }));
        Ok(Self { address, shared })
    }

    /// Where it listens, `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Every request so far, in the order of the answers.
    pub fn turns(&self) -> Vec<Turn> {
        lock(&self.shared.turns).clone()
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.shared.end.cancel();
    }
}

impl Shared {
    fn serve(self: Arc<Self>, stream: TcpStream) {
        let shared = self.clone();
        let service = service_fn(move |request| {
            let shared = shared.clone();
            async move { Ok::<_, Infallible>(shared.answer(request).await) }
        });
        let ended = self.end.clone();
        self.tasks.spawn(ended.run_until_cancelled_owned(async move {
            // Either side may go whenever it likes.
            let _ = stream.set_nodelay(true);
            let _ =
                server::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await;
        }));
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let line = format!("{} {}", request.method(), request.uri());
        let mut turn = Open { shared: self, turn: Turn { node: String::new(), request: line, status: 499 } };
        let answer = match self.connect().await {
            Ok((node, stream)) => {
                turn.turn.node = node;
                self.ask(stream, request).await
            }
            Err(error) => Err(error),
        };
        let answer = answer.unwrap_or_else(|error| {
            turn.turn.request.push_str(&format!(" ({error:#})"));
            let mut answer = Response::new(Empty::new().map_err(|never| match never {}).boxed());
            *answer.status_mut() = StatusCode::BAD_GATEWAY;
            answer
        });
        turn.turn.status = answer.status().as_u16();
        answer
    }

    /// Connects to the node whose turn it is, or to the next one that takes connections.
    async fn connect(&self) -> Result<(String, TcpStream)> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.nodes.len().max(1);
        for node in self.nodes.iter().cycle().skip(turn).take(self.nodes.len()) {
            if let Ok(stream) = TcpStream::connect(node).await {
                stream.set_nodelay(true)?;
                return Ok((node.clone(), stream));
            }
        }
        bail!("no node takes connections")
    }

    async fn ask(&self, stream: TcpStream, mut request: Request<Incoming>) -> Result<Response<Body>> {
        let upgrade = request.headers().contains_key(header::UPGRADE);
        let of_client = upgrade.then(|| hyper::upgrade::on(&mut request));
        if !upgrade {
            // One request per connection.
            request.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
        }
        // Whole, whatever the node makes of it: a connection with an unread rest is closed, and the client would find
        // that out with its next request.
        let (head, body) = request.into_parts();
        let request = Request::from_parts(head, Full::new(body.collect().await?.to_bytes()));
        let (mut sender, connection) = client::handshake(TokioIo::new(stream)).await?;
        let ended = self.end.clone();
        self.tasks.spawn(ended.run_until_cancelled_owned(connection.with_upgrades()));
        let mut answer = sender.send_request(request).await?;
        answer.headers_mut().remove(header::TRANSFER_ENCODING);
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            answer.headers_mut().remove(header::CONNECTION);
            return Ok(answer.map(BodyExt::boxed));
        }
        let (of_node, of_client) = (hyper::upgrade::on(&mut answer), of_client.context("nobody asked")?);
        let ended = self.end.clone();
        self.tasks.spawn(ended.run_until_cancelled_owned(async move {
            let (client, node) = tokio::try_join!(of_client, of_node)?;
            let (mut client, mut node) = (TokioIo::new(client), TokioIo::new(node));
            tokio::io::copy_bidirectional(&mut client, &mut node).await?;
            anyhow::Ok(())
        }));
        Ok(answer.map(BodyExt::boxed))
    }
}

/// A turn that is noted when it is over, however it ends.
struct Open<'a> {
    shared: &'a Shared,
    turn: Turn,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        lock(&self.shared.turns).push(self.turn.clone());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
