//! Pairs of users: acknowledged messages per second, and whether every message arrived once and in order.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::socket::Socket;
use crate::target::{self, Dialect, Target};

/// How long a receiver waits for one more message before it counts the rest as lost.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Args, Clone)]
pub struct Arguments {
    #[command(flatten)]
    target: Target,
    /// How many pairs of a sender (sechat) and a receiver.
    #[arg(long, default_value_t = 100)]
    senders: usize,
    /// Messages of each sender.
    #[arg(long, default_value_t = 100)]
    messages: u64,
    /// Messages a sender has under way without an acknowledgement.
    #[arg(long, default_value_t = 1)]
    window: usize,
    /// The dialect of the receivers: sechat or socialhub.
    #[arg(long, value_enum, default_value = "socialhub")]
    receivers: Dialect,
}

/// What came of it.
#[derive(Serialize)]
pub struct Report {
    senders: usize,
    acked: u64,
    seconds: f64,
    acked_per_second: f64,
    ack_p50_ms: f64,
    ack_p99_ms: f64,
    delivered: u64,
    lost: u64,
    duplicated: u64,
    out_of_order: u64,
}

impl Report {
    /// Whether every message arrived once and in order.
    pub const fn is_clean(&self) -> bool {
        self.lost == 0 && self.duplicated == 0 && self.out_of_order == 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} acked/s ({} in {:.2} s, {} senders), ack p50 {:.2} ms, p99 {:.2} ms; {} delivered, {} lost, {} doubled, {} out of order",
            self.acked_per_second.round(),
            self.acked,
            self.seconds,
            self.senders,
            self.ack_p50_ms,
            self.ack_p99_ms,
            self.delivered,
            self.lost,
            self.duplicated,
            self.out_of_order
        )
    }
}

/// Sets the pairs up, lets them all go at once, and adds up what they saw.
pub async fn run(arguments: &Arguments) -> Result<Report> {
    let receivers = arguments.receivers;
    ensure!(
        matches!(receivers, Dialect::Sechat | Dialect::Socialhub),
        "receivers speak sechat or socialhub here"
    );
    ensure!(arguments.window > 0 && arguments.messages > 0 && arguments.senders > 0, "nothing to send");
    let address = arguments.target.address().await?;
    let run = target::run_id();
    let mut pairs = Vec::with_capacity(arguments.senders);
    for index in 0..arguments.senders {
        pairs.push(
            Pair::open(arguments, address, &run, index).await.with_context(|| format!("pair {index}"))?,
        );
    }
    let (mut sending, mut receiving) = (JoinSet::new(), JoinSet::new());
    let started = Instant::now();
    for pair in pairs {
        sending.spawn(send(pair.sender, pair.names, arguments.clone()));
        receiving.spawn(receive(pair.receiver, arguments.messages, arguments.receivers));
    }
    let mut times = target::times()?;
    let mut acked = 0;
    while let Some(done) = sending.join_next().await {
        for time in done?? {
            times.saturating_record(time);
            acked += 1;
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let mut tally = Tally::default();
    while let Some(done) = receiving.join_next().await {
        tally.add(&done??);
    }
    Ok(Report {
        senders: arguments.senders,
        acked,
        seconds,
        acked_per_second: acked as f64 / seconds,
        ack_p50_ms: target::milliseconds(&times, 0.50),
        ack_p99_ms: target::milliseconds(&times, 0.99),
        delivered: tally.delivered,
        lost: acked.saturating_sub(tally.delivered),
        duplicated: tally.duplicated,
        out_of_order: tally.out_of_order,
    })
}

/// The names of a pair and of its conversation.
struct Names {
    sender: String,
    receiver: String,
    conversation: String,
}

impl Names {
    fn message(&self, number: u64) -> String {
        let message = json!({
            "type": "message:send", "messageId": format!("{}-{number}", self.sender),
            "conversationId": self.conversation, "fromUserId": self.sender,
            "toUserIds": [self.receiver], "body": number.to_string(),
        });
        message.to_string()
    }
}

struct Pair {
    names: Names,
    sender: Socket,
    receiver: Socket,
}

impl Pair {
    /// Creates the conversation with message 0, which the receiver sees before it counts.
    async fn open(arguments: &Arguments, address: SocketAddr, run: &str, index: usize) -> Result<Self> {
        let names = Names {
            sender: format!("{run}-s{index}"),
            receiver: format!("{run}-r{index}"),
            conversation: format!("{run}-c{index}"),
        };
        let open = async |dialect, user: &str| {
            let path = arguments.target.path(dialect, user)?;
            Socket::open(address, target::source(address, index), &path).await
        };
        let mut sender = open(Dialect::Sechat, &names.sender).await?;
        sender.send(&names.message(0)).await?;
        acknowledged(&mut sender).await?;
        let mut receiver = open(arguments.receivers, &names.receiver).await?;
        if arguments.receivers == Dialect::Socialhub {
            let channel = format!("conversation:{}", names.conversation);
            let subscribe = json!({ "type": "subscribe", "payload": { "channel": channel }, "ack_id": "s" });
            receiver.send(&subscribe.to_string()).await?;
            let answer = until(&mut receiver, |message| message["type"] == "ack").await?;
            ensure!(answer["payload"]["status"] == "success", "not subscribed: {answer}");
        } else {
            until(&mut receiver, |message| message["body"] == "0").await?;
        }
        Ok(Self { names, sender, receiver })
    }
}

async fn until(socket: &mut Socket, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
    let search = async {
        loop {
            let message: Value = serde_json::from_str(&socket.next().await?)?;
            if wanted(&message) {
                return Ok(message);
            }
        }
    };
    timeout(PATIENCE, search).await.context("no answer")?
}

/// Waits for the next acknowledgement.
async fn acknowledged(socket: &mut Socket) -> Result<()> {
    let answer =
        until(socket, |message| message["type"] == "message:acked" || message["type"] == "error").await?;
    if answer["code"] == "RATE_LIMITED" {
        bail!("the gateway limits rates; start it with --no-limits for a load test");
    }
    ensure!(answer["type"] == "message:acked", "refused: {answer}");
    Ok(())
}

/// Sends all messages and returns how long each waited for its acknowledgement, in microseconds.
async fn send(mut socket: Socket, names: Names, arguments: Arguments) -> Result<Vec<u64>> {
    let mut open = VecDeque::with_capacity(arguments.window);
    let mut times = Vec::new();
    let mut next = 1;
    // Acknowledgements come in the order of the messages, so the oldest open one is meant.
    loop {
        while next <= arguments.messages && open.len() < arguments.window {
            open.push_back(Instant::now());
            socket.send(&names.message(next)).await?;
            next += 1;
        }
        let Some(sent) = open.pop_front() else { return Ok(times) };
        acknowledged(&mut socket).await?;
        times.push(u64::try_from(sent.elapsed().as_micros())?);
    }
}

/// What one receiver saw.
#[derive(Default, Debug, PartialEq, Eq)]
struct Tally {
    delivered: u64,
    duplicated: u64,
    out_of_order: u64,
    seen: Vec<bool>,
    last: u64,
}

impl Tally {
    fn see(&mut self, number: u64) {
        let at = usize::try_from(number).unwrap_or(usize::MAX - 1);
        if self.seen.len() <= at {
            self.seen.resize(at + 1, false);
        }
        if std::mem::replace(&mut self.seen[at], true) {
            self.duplicated += 1;
            return;
        }
        self.delivered += 1;
        if number < self.last {
            self.out_of_order += 1;
        }
        self.last = self.last.max(number);
    }

    fn add(&mut self, other: &Self) {
        self.delivered += other.delivered;
        self.duplicated += other.duplicated;
        self.out_of_order += other.out_of_order;
    }
}

/// Counts until the last message, and a moment longer, or until nothing comes any more.
async fn receive(mut socket: Socket, messages: u64, dialect: Dialect) -> Result<Tally> {
    let mut tally = Tally::default();
    loop {
        // A duplicate of the last message would come at once, a missing message may take its time.
        let patience = if tally.delivered < messages { PATIENCE } else { Duration::from_millis(500) };
        let Ok(text) = timeout(patience, socket.next()).await else { return Ok(tally) };
        if let Some(number) = number(&serde_json::from_str(&text?)?, dialect).filter(|number| *number > 0) {
            ensure!(number <= messages, "a message that nobody sent: {number}");
            tally.see(number);
        }
    }
}

/// The number a delivered message carries; `None` for everything else that arrives.
fn number(message: &Value, dialect: Dialect) -> Option<u64> {
    let (kind, body) = match dialect {
        Dialect::Sechat => ("message:received", &message["body"]),
        Dialect::Socialhub => ("message", &message["payload"]["content"]),
        Dialect::Lingochat | Dialect::Famly | Dialect::Chatgenius => return None,
    };
    if message["type"] == kind { body.as_str()?.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Tally, number};
    use crate::target::Dialect;

    #[test]
    fn doubled_and_reordered_messages_are_counted_as_such() {
        let mut tally = Tally::default();
        for number in [1, 2, 4, 3, 2, 5] {
            tally.see(number);
        }
        assert_eq!((tally.delivered, tally.duplicated, tally.out_of_order), (5, 1, 1));
    }

    #[test]
    fn only_bodies_count() {
        let body = json!({"type": "message:received", "body": "7"});
        assert_eq!(number(&body, Dialect::Sechat), Some(7));
        assert_eq!(number(&json!({"type": "message:delivered"}), Dialect::Sechat), None);
        assert_eq!(
            number(&json!({"type": "message", "payload": {"content": "8"}}), Dialect::Socialhub),
            Some(8)
        );
    }
}
