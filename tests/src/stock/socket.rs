//! A stock socket as a test sees it: what it is told to do, what it reports.

use std::collections::VecDeque;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::{Connected, Driver, Event, Refused, Report};

/// A socket of a stock library. Waiting for one kind of report leaves the others where they are, in their order.
pub struct StockSocket {
    driver: Arc<Driver>,
    id: String,
}

impl StockSocket {
    pub(super) fn open(driver: &Arc<Driver>, command: Value) -> Result<Self> {
        let socket = Self { driver: Arc::clone(driver), id: format!("s{}", driver.number()) };
        socket.tell("connect", command)?;
        Ok(socket)
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Emits an event; binary values as [`super::binary`] makes them.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn emit(&self, event: &str, args: &[Value]) -> Result<()> {
        self.tell("emit", json!({ "event": event, "args": args }))
    }

    /// Emits an event and waits for its acknowledgement.
    ///
    /// # Errors
    /// When none comes in time.
    pub async fn emit_ack(&self, event: &str, args: &[Value]) -> Result<Vec<Value>> {
        let tag = self.emit_tagged(event, args)?;
        self.acked(tag).await.with_context(|| format!("{event} is not acknowledged"))
    }

    /// Emits an event with an acknowledgement, which [`StockSocket::acked`] waits for under the number returned.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn emit_tagged(&self, event: &str, args: &[Value]) -> Result<u64> {
        let tag = self.driver.number();
        self.tell("emit", json!({ "event": event, "args": args, "ack": true, "tag": tag }))?;
        Ok(tag)
    }

    /// Waits for an acknowledgement.
    ///
    /// # Errors
    /// When it does not come in time.
    pub async fn acked(&self, tag: u64) -> Result<Vec<Value>> {
        let is_answer =
            |report: &Report| matches!(report, Report::Ack { tag: answered, .. } if *answered == tag);
        match self.first("acknowledgement", is_answer).await? {
            Report::Ack { args: Some(args), .. } => Ok(args),
            other => bail!("no acknowledgement but {other:?}"),
        }
    }

    /// Acknowledges an event of the server ([`Event::ack`]).
    ///
    /// # Errors
    /// When the process is gone.
    pub fn answer(&self, ack: u64, args: &[Value]) -> Result<()> {
        self.tell("answer", json!({ "ack": ack, "args": args }))
    }

    /// The next report of any kind.
    ///
    /// # Errors
    /// When none comes in time.
    pub async fn next(&self) -> Result<Report> {
        self.first("report", |_| true).await
    }

    /// The arguments of the next event of that name.
    ///
    /// # Errors
    /// When none comes in time; the error shows what came instead.
    pub async fn expect(&self, event: &str) -> Result<Vec<Value>> {
        Ok(self.expect_event(event).await?.args)
    }

    /// The next event of that name, whole.
    ///
    /// # Errors
    /// When none comes in time; the error shows what came instead.
    pub async fn expect_event(&self, event: &str) -> Result<Event> {
        let is_it = |report: &Report| matches!(report, Report::Event(came) if came.name == event);
        match self.first(&format!("event {event}"), is_it).await? {
            Report::Event(event) => Ok(event),
            other => bail!("no event but {other:?}"),
        }
    }

    /// The next event, whatever its name.
    ///
    /// # Errors
    /// When none comes in time.
    pub async fn next_event(&self) -> Result<Event> {
        match self.first("event", |report| matches!(report, Report::Event(_))).await? {
            Report::Event(event) => Ok(event),
            other => bail!("no event but {other:?}"),
        }
    }

    /// Waits until the namespace is connected (again).
    ///
    /// # Errors
    /// When it is not in time; the error shows what came instead.
    pub async fn expect_connect(&self) -> Result<Connected> {
        match self.first("connect", |report| matches!(report, Report::Connect(_))).await? {
            Report::Connect(connected) => Ok(connected),
            other => bail!("not connected but {other:?}"),
        }
    }

    /// Waits until the connection is refused, and returns the error's message.
    ///
    /// # Errors
    /// When it is not in time.
    pub async fn expect_connect_error(&self) -> Result<String> {
        Ok(self.expect_refusal().await?.message)
    }

    /// Waits until the connection is refused.
    ///
    /// # Errors
    /// When it is not in time.
    pub async fn expect_refusal(&self) -> Result<Refused> {
        match self.first("connect_error", |report| matches!(report, Report::ConnectError(_))).await? {
            Report::ConnectError(refused) => Ok(refused),
            other => bail!("not refused but {other:?}"),
        }
    }

    /// Waits until the socket is no longer connected, and returns the library's reason.
    ///
    /// # Errors
    /// When it stays connected.
    pub async fn expect_disconnect(&self) -> Result<String> {
        match self.first("disconnect", |report| matches!(report, Report::Disconnect { .. })).await? {
            Report::Disconnect { reason } => Ok(reason),
            other => bail!("not disconnected but {other:?}"),
        }
    }

    /// Waits until the connection goes on over another transport, and returns its name.
    ///
    /// # Errors
    /// When it does not in time.
    pub async fn expect_upgrade(&self) -> Result<String> {
        match self.first("upgrade", |report| matches!(report, Report::Upgrade { .. })).await? {
            Report::Upgrade { transport } => Ok(transport),
            other => bail!("not upgraded but {other:?}"),
        }
    }

    /// Breaks the connection off, as a network does: the server gets no goodbye, the library connects again.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn drop_transport(&self) -> Result<()> {
        self.tell("drop", json!({}))
    }

    /// Closes the connection below Socket.IO: the server is told by the transport, the library connects again.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn close_engine(&self) -> Result<()> {
        self.tell("drop", json!({ "how": "close" }))
    }

    /// Stops reading from the network (and so answering pings), with the connection left open.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn pause(&self) -> Result<()> {
        self.tell("pause", json!({}))
    }

    /// Reads on.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn resume(&self) -> Result<()> {
        self.tell("resume", json!({}))
    }

    /// Leaves the namespace; the library does not connect again.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn disconnect(&self) -> Result<()> {
        self.tell("disconnect", json!({}))
    }

    /// Connects again after [`StockSocket::disconnect`], or after the server's.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn reconnect(&self) -> Result<()> {
        self.tell("reconnect", json!({}))
    }

    /// Makes sure that no `event` comes before the event `until`, whose arguments are returned. Let something be
    /// sent to this socket that the server must send after the unwanted event: no time has to be waited out then.
    ///
    /// # Errors
    /// When it does, or the other does not come.
    pub async fn assert_silent(&self, event: &str, until: &str) -> Result<Vec<Value>> {
        let args = self.expect(until).await?;
        self.assert_none(event).await?;
        Ok(args)
    }

    /// Makes sure that no `event` comes before the acknowledgement of `marker`, which is emitted now.
    ///
    /// # Errors
    /// When it does, or the marker is not acknowledged.
    pub async fn assert_silent_over(&self, event: &str, marker: &str, args: &[Value]) -> Result<Vec<Value>> {
        let answer = self.emit_ack(marker, args).await?;
        self.assert_none(event).await?;
        Ok(answer)
    }

    /// Makes sure that no `event` has been reported and not been taken by the test.
    ///
    /// # Errors
    /// When one has.
    pub async fn assert_none(&self, event: &str) -> Result<()> {
        let came = self.queued().await?;
        let unwanted = came.iter().find(|report| matches!(report, Report::Event(came) if came.name == event));
        ensure!(unwanted.is_none(), "unwanted: {unwanted:?}");
        Ok(())
    }

    /// What has been reported and not been taken by the test; it stays there.
    ///
    /// # Errors
    /// When the process is gone.
    pub async fn queued(&self) -> Result<Vec<Report>> {
        self.driver.wait(&self.id, "reports", |reports| Some(reports.iter().cloned().collect())).await
    }

    /// Takes what has been reported so far.
    ///
    /// # Errors
    /// When the process is gone.
    pub async fn taken(&self) -> Result<Vec<Report>> {
        self.driver.wait(&self.id, "reports", |reports| Some(reports.drain(..).collect())).await
    }

    async fn first(&self, what: &str, wanted: impl Fn(&Report) -> bool) -> Result<Report> {
        let pick = |reports: &mut VecDeque<Report>| {
            let at = reports.iter().position(&wanted)?;
            reports.remove(at)
        };
        self.driver.wait(&self.id, what, pick).await
    }

    fn tell(&self, operation: &str, mut command: Value) -> Result<()> {
        command["op"] = json!(operation);
        command["id"] = json!(self.id);
        self.driver.tell(&command)
    }
}
