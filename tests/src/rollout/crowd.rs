//! Stock clients while nodes are replaced: each in a room, saying something all the time, as an application would with the
//! library's own `retries`.
//!
//! Owns: what each was told and how often it was sent away. Must not know: nodes, balancers.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::stock::Report;
use crate::{ConnectOptions, Stock, StockSocket, Transports, token};

/// How many are in a room.
const ROOM: usize = 5;
/// Between two looks at what came.
const TICK: Duration = Duration::from_millis(20);
/// How long getting in may take, and what is under way at the end.
const LONG: Duration = Duration::from_secs(40);

/// What all of them may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Phase {
    Talk,
    Listen,
    Stop,
}

/// What one had.
#[derive(Debug, Clone, Default)]
struct Had {
    said: u64,
    acked: u64,
    refused: Vec<String>,
    bounces: u64,
    /// Why, in the library's words.
    reasons: Vec<String>,
    /// Of these, how many came back into the session of before.
    recovered: u64,
    /// From being away until being back, each time.
    back: Vec<Duration>,
    /// The numbers of what each of the others said, in the order in which they came.
    heard: BTreeMap<String, Vec<u64>>,
}

/// What all of them had.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// How many there are.
    pub clients: usize,
    /// Messages said and acknowledged.
    pub said: u64,
    /// Deliveries.
    pub heard: u64,
    /// Deliveries that did not come.
    pub lost: u64,
    /// Deliveries that came again.
    pub doubled: u64,
    /// Deliveries that came before what was said earlier.
    pub disordered: u64,
    /// How often they were sent away, together.
    pub bounces: u64,
    /// How often the one was that was most often.
    pub bounces_most: u64,
    /// Who was sent away more than once, and why each time, in the library's words.
    pub often: Vec<String>,
    /// Comings back into the session of before.
    pub recovered: u64,
    /// From being away until being back, sorted.
    pub back: Vec<Duration>,
}

/// See the module.
pub struct Crowd {
    names: Vec<String>,
    had: Vec<Arc<Mutex<Had>>>,
    phase: watch::Sender<Phase>,
    tasks: JoinSet<Result<()>>,
    // The process ends with it.
    _stock: Stock,
}

/// The conversations and members that `clients` of them need.
pub fn rooms(clients: usize) -> Vec<(String, Vec<String>)> {
    let names: Vec<String> = (0..clients).map(name).collect();
    names.chunks(ROOM).enumerate().map(|(room, names)| (room_name(room), names.to_vec())).collect()
}

fn name(client: usize) -> String {
    format!("stock-{client}")
}

fn room_name(room: usize) -> String {
    format!("stock-room-{room}")
}

impl Crowd {
    /// Connects so many through a balancer, and waits until all are in their rooms. Each says something every `pause`.
    ///
    /// # Errors
    /// When somebody does not get in.
    pub async fn enter(address: &str, clients: usize, pause: Duration) -> Result<Self> {
        let stock = Stock::start()?;
        let (phase, seen) = watch::channel(Phase::Talk);
        let mut sockets = Vec::new();
        for client in 0..clients {
            let options = ConnectOptions::new(Transports::ALL[client % Transports::ALL.len()])
                .path("/socket.io/")
                .auth(json!({ "token": token(&name(client))? }))
                // As the library has them when it is told nothing.
                .set("reconnectionDelay", json!(1000))
                .set("reconnectionDelayMax", json!(5000))
                .set("retries", json!(50))
                .set("ackTimeout", json!(3000));
            sockets.push(stock.connect(address, options)?);
        }
        let mut crowd =
            Self { names: Vec::new(), had: Vec::new(), phase, tasks: JoinSet::new(), _stock: stock };
        let mut inside = Vec::new();
        for (client, socket) in sockets.into_iter().enumerate() {
            timeout(LONG, socket.expect_connect()).await.context("not everybody gets in")??;
            let room = room_name(client / ROOM);
            let joined = socket.emit_ack("room:join", &[json!({ "chatId": room })]).await?;
            ensure!(joined.get(1).is_some_and(|answer| answer["ok"] == true), "not in {room}: {joined:?}");
            inside.push((client, socket, room));
        }
        for (client, socket, room) in inside {
            let had: Arc<Mutex<Had>> = Arc::default();
            crowd.names.push(name(client));
            crowd.had.push(had.clone());
            let one = One { name: name(client), room, socket, pause, had, phase: seen.clone() };
            crowd.tasks.spawn(one.run());
        }
        Ok(crowd)
    }

    /// Nobody says anything more; waits for what is under way, and sums up.
    ///
    /// # Errors
    /// When a client fails, or is refused something.
    pub async fn leave(mut self) -> Result<Summary> {
        self.phase.send_replace(Phase::Listen);
        let until = Instant::now() + LONG;
        while !self.is_whole() && Instant::now() < until {
            sleep(TICK).await;
        }
        self.phase.send_replace(Phase::Stop);
        while let Some(ended) = self.tasks.join_next().await {
            ended.context("a client panicked")??;
        }
        self.sum()
    }

    /// How much they said so far.
    pub fn said(&self) -> u64 {
        self.all().iter().map(|had| had.said).sum()
    }

    fn all(&self) -> Vec<Had> {
        self.had.iter().map(|had| had.lock().unwrap_or_else(PoisonError::into_inner).clone()).collect()
    }

    /// The numbers of those whom one hears: the others of its room.
    fn others(&self, client: usize) -> impl Iterator<Item = usize> + use<> {
        let (first, all) = (client / ROOM * ROOM, self.names.len());
        (first..(first + ROOM).min(all)).filter(move |other| *other != client)
    }

    fn is_whole(&self) -> bool {
        let all = self.all();
        all.iter().enumerate().all(|(client, had)| {
            let heard = |other: usize| had.heard.get(&self.names[other]).map_or(0, Vec::len) as u64;
            had.acked == had.said && self.others(client).all(|other| heard(other) >= all[other].said)
        })
    }

    fn sum(&self) -> Result<Summary> {
        let all = self.all();
        let mut sum = Summary { clients: all.len(), ..Summary::default() };
        for (client, had) in all.iter().enumerate() {
            if let Some(refused) = had.refused.first() {
                bail!("{} was refused: {refused}", self.names[client]);
            }
            ensure!(
                had.acked == had.said,
                "{}: {} of {} acknowledged",
                self.names[client],
                had.acked,
                had.said
            );
            sum.said += had.said;
            sum.bounces += had.bounces;
            sum.bounces_most = sum.bounces_most.max(had.bounces);
            if had.bounces > 1 {
                sum.often.push(format!("{}: {}", self.names[client], had.reasons.join(", ")));
            }
            sum.recovered += had.recovered;
            sum.back.extend(&had.back);
            for other in self.others(client) {
                let heard = had.heard.get(&self.names[other]).map(Vec::as_slice).unwrap_or_default();
                let (lost, doubled, disordered) = compared(heard, all[other].said);
                sum.heard += heard.len() as u64;
                sum.lost += lost;
                sum.doubled += doubled;
                sum.disordered += disordered;
            }
        }
        sum.back.sort_unstable();
        Ok(sum)
    }
}

/// How many of the numbers from 1 to `said` are missing, came again, came before a smaller one.
fn compared(heard: &[u64], said: u64) -> (u64, u64, u64) {
    let (mut times, mut greatest, mut disordered) = (HashMap::<u64, u64>::new(), 0, 0);
    for number in heard {
        let time = times.entry(*number).or_default();
        *time += 1;
        if *time == 1 && *number < greatest {
            disordered += 1;
        }
        greatest = greatest.max(*number);
    }
    let lost = (1..=said).filter(|number| !times.contains_key(number)).count() as u64;
    let doubled = times.values().map(|times| times - 1).sum();
    (lost, doubled, disordered)
}

/// One of them.
struct One {
    name: String,
    room: String,
    socket: StockSocket,
    pause: Duration,
    had: Arc<Mutex<Had>>,
    phase: watch::Receiver<Phase>,
}

impl One {
    async fn run(self) -> Result<()> {
        let (mut next, mut away) = (Instant::now(), None);
        loop {
            let phase = *self.phase.borrow();
            if phase == Phase::Stop {
                return self.socket.disconnect();
            }
            for report in self.socket.taken().await? {
                self.heard(report, &mut away)?;
            }
            if phase == Phase::Talk && next <= Instant::now() {
                next += self.pause;
                let number = self.with(|had| {
                    had.said += 1;
                    had.said
                });
                let text = format!("{}~{number}", self.name);
                let message = json!({ "chatId": self.room, "body": text, "clientId": text });
                self.socket.emit_tagged("message:send", &[message])?;
            }
            sleep(TICK).await;
        }
    }

    fn with<T>(&self, look: impl FnOnce(&mut Had) -> T) -> T {
        look(&mut self.had.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn heard(&self, report: Report, away: &mut Option<Instant>) -> Result<()> {
        match report {
            Report::Connect(connected) => {
                if let Some(since) = away.take() {
                    self.with(|had| {
                        had.back.push(since.elapsed());
                        had.recovered += u64::from(connected.recovered);
                    });
                }
            }
            Report::Disconnect { reason } => {
                *away = Some(Instant::now());
                self.with(|had| {
                    had.bounces += 1;
                    had.reasons.push(reason);
                });
            }
            Report::Event(event) if event.name == "message:new" => {
                let message = event.args.first().context("a message without a payload")?;
                let body = message["body"].as_str().context("no body")?;
                let (from, number) = body.rsplit_once('~').with_context(|| body.to_owned())?;
                let number: u64 = number.parse()?;
                if from != self.name {
                    self.with(|had| had.heard.entry(from.to_owned()).or_default().push(number));
                }
            }
            Report::Ack { args, error, .. } => {
                // The library puts its own error first.
                let answer = args.as_deref().and_then(|args| args.get(1)).unwrap_or(&Value::Null);
                self.with(|had| match answer["ok"] == true {
                    true => had.acked += 1,
                    false => had.refused.push(format!("{args:?} {error:?}")),
                });
            }
            // What refuses a connection while it comes back, the library tries again.
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::compared;

    #[test]
    fn what_is_missing_comes_again_or_too_early_is_counted() {
        assert_eq!(compared(&[1, 2, 3], 3), (0, 0, 0));
        assert_eq!(compared(&[1, 3], 3), (1, 0, 0));
        assert_eq!(compared(&[1, 2, 2, 3, 1], 4), (1, 2, 0));
        assert_eq!(compared(&[1, 3, 2], 3), (0, 0, 1));
        assert_eq!(compared(&[], 2), (2, 0, 0));
    }
}
