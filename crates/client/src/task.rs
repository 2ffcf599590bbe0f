//! The task that owns the socket: moves frames, keeps the time, comes back after a loss.
//!
//! Owns: connecting and waiting. Must not know: what frames mean (that is `engine`).

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{sleep_until, timeout};
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_util::sync::CancellationToken;

use crate::dial::{DialError, Socket, dial};
use crate::engine::{Engine, Order, Over};
use crate::{Options, Update};

/// A connection that lasted this long was a good one: the next loss starts the back-off anew.
const GOOD_AFTER: Duration = Duration::from_secs(5);
/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// See the module.
pub(crate) struct Task {
    pub(crate) options: Options,
    pub(crate) engine: Engine,
    pub(crate) orders: mpsc::Receiver<Order>,
    pub(crate) updates: mpsc::Sender<Update>,
    pub(crate) stop: CancellationToken,
}

/// Why a connection, or the client, is over.
enum End {
    Stopped,
    Lost { reason: String, code: Option<u16> },
    Refused { status: u16, reason: String },
}

impl Task {
    pub(crate) async fn run(mut self) {
        let mut attempt = 0;
        loop {
            let started = Instant::now();
            let end = self.once().await;
            match end {
                End::Stopped => return,
                End::Refused { status, reason } => {
                    self.tell(Update::Refused { status, reason }).await;
                    return;
                }
                End::Lost { reason, code } => self.engine.disconnected(reason, code),
            }
            if started.elapsed() >= GOOD_AFTER {
                attempt = 0;
            }
            let wait = self.options.backoff.delay(attempt, rand::random());
            attempt = attempt.saturating_add(1);
            if !self.wait(wait).await {
                return;
            }
        }
    }

    /// One connection, from dialling to its end.
    async fn once(&mut self) -> End {
        let url = match self.options.address() {
            Ok(url) => url,
            Err(reason) => return End::Refused { status: 400, reason },
        };
        let dialled = {
            let dialling = timeout(self.options.connect_timeout, dial(&url));
            tokio::pin!(dialling);
            loop {
                tokio::select! {
                    () = self.stop.cancelled() => return End::Stopped,
                    dialled = &mut dialling => break dialled,
                    Some(order) = self.orders.recv() => self.engine.order(order, Instant::now()),
                }
                if !flush_updates(&mut self.engine, &self.updates, &self.stop).await {
                    return End::Stopped;
                }
            }
        };
        match dialled {
            Ok(Ok(socket)) => self.converse(socket).await,
            Ok(Err(DialError::Refused { status, body })) if matches!(status, 400 | 401 | 403 | 404) => {
                End::Refused { status, reason: body }
            }
            Ok(Err(DialError::Address(reason))) => End::Refused { status: 400, reason },
            Ok(Err(error)) => End::Lost { reason: error.to_string(), code: None },
            Err(_) => End::Lost { reason: "no answer to the handshake".to_owned(), code: None },
        }
    }

    async fn converse(&mut self, mut socket: Socket) -> End {
        self.engine.opened(Instant::now());
        loop {
            if let Err(error) = self.flush(&mut socket).await {
                return End::Lost { reason: error.to_string(), code: None };
            }
            if let Some(over) = self.engine.over().cloned() {
                let _ = timeout(GOODBYE, socket.close(None)).await;
                return match over {
                    Over::Lost(reason) => End::Lost { reason, code: None },
                    Over::Refused { status, reason } => End::Refused { status, reason },
                };
            }
            let deadline = self.engine.deadline().unwrap_or_else(|| Instant::now() + GOOD_AFTER);
            tokio::select! {
                () = self.stop.cancelled() => return self.goodbye(socket).await,
                order = self.orders.recv() => match order {
                    Some(order) => self.engine.order(order, Instant::now()),
                    None => return self.goodbye(socket).await,
                },
                frame = socket.next() => match frame {
                    Some(Ok(Frame::Text(text))) => self.engine.text(&text, Instant::now()),
                    Some(Ok(Frame::Binary(bytes))) => self.engine.binary(bytes, Instant::now()),
                    Some(Ok(Frame::Close(close))) => {
                        let _ = timeout(GOODBYE, socket.close(None)).await;
                        let code = close.as_ref().map(|close| u16::from(close.code));
                        let reason = close.map_or_else(String::new, |close| close.reason.to_string());
                        return self.closed(code, reason);
                    }
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return self.closed(None, error.to_string()),
                    None => return self.closed(None, "connection closed".to_owned()),
                },
                () = sleep_until(deadline.into()) => self.engine.timeout(Instant::now(), rand::random()),
            }
        }
    }

    fn closed(&self, code: Option<u16>, reason: String) -> End {
        match self.engine.refused() {
            Some(reason) => End::Refused { status: 401, reason: reason.to_owned() },
            None => End::Lost { reason, code },
        }
    }

    /// Writes and tells everything that is ready.
    async fn flush(&mut self, socket: &mut Socket) -> Result<(), tokio_tungstenite::tungstenite::Error> {
        let mut wrote = false;
        while let Some(text) = self.engine.poll_write() {
            socket.feed(Frame::text(text)).await?;
            wrote = true;
        }
        if wrote {
            socket.flush().await?;
        }
        flush_updates(&mut self.engine, &self.updates, &self.stop).await;
        Ok(())
    }

    async fn goodbye(&mut self, mut socket: Socket) -> End {
        if let Some(text) = self.engine.goodbye() {
            let _ = timeout(GOODBYE, socket.send(Frame::text(text))).await;
        }
        let _ = timeout(GOODBYE, socket.close(None)).await;
        // Reading on answers the close handshake, so that the server sees a clean end.
        let _ = timeout(GOODBYE, async { while let Some(Ok(_)) = socket.next().await {} }).await;
        End::Stopped
    }

    /// Waits for the next attempt and goes on taking orders meanwhile. `false`: stopped.
    async fn wait(&mut self, wait: Duration) -> bool {
        let until = tokio::time::Instant::now() + wait;
        loop {
            if !flush_updates(&mut self.engine, &self.updates, &self.stop).await {
                return false;
            }
            tokio::select! {
                () = self.stop.cancelled() => return false,
                () = sleep_until(until) => return true,
                order = self.orders.recv() => match order {
                    Some(order) => self.engine.order(order, Instant::now()),
                    None => return false,
                },
            }
        }
    }

    async fn tell(&mut self, update: Update) {
        flush_updates(&mut self.engine, &self.updates, &self.stop).await;
        tokio::select! {
            () = self.stop.cancelled() => {}
            _ = self.updates.send(update) => {}
        }
    }
}

/// Tells what is ready; `false` when the client is being stopped. An application that no longer listens loses
/// its updates, one that listens slowly slows the socket down.
async fn flush_updates(
    engine: &mut Engine,
    updates: &mpsc::Sender<Update>,
    stop: &CancellationToken,
) -> bool {
    while let Some(update) = engine.poll_update() {
        tokio::select! {
            () = stop.cancelled() => return false,
            _ = updates.send(update) => {}
        }
    }
    true
}
