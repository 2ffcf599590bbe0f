//! Who held itself for the primary when, and what the Sentinels said of it.
//!
//! Must not know: engines, conversations.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use parlance_redis_rig::{Operator, Sentinels};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Between two questions to one of them.
const PERIOD: Duration = Duration::from_millis(3);

/// Something that was not so before.
struct Sight {
    at: Instant,
    who: String,
    says: String,
}

/// Asks all servers and Sentinels all the time.
pub struct Witness {
    began: Instant,
    sights: Arc<Mutex<Vec<Sight>>>,
    stop: CancellationToken,
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.stop.cancel();
        if std::thread::panicking() {
            println!("{}", self.account());
        }
    }
}

impl Witness {
    /// Begins to ask.
    pub fn of(sentinels: &mut Sentinels) -> Self {
        let (sights, stop) = (Arc::default(), CancellationToken::new());
        let (witness, tasks) = (Self { began: Instant::now(), sights, stop }, TaskTracker::new());
        let servers: Vec<u16> = sentinels.servers().iter().map(|it| it.port()).collect();
        let watchers: Vec<u16> = sentinels.sentinels().iter().map(|it| it.port()).collect();
        let servers = servers.into_iter().enumerate().map(|(n, port)| (server(n), port, true));
        let watchers =
            watchers.into_iter().enumerate().map(|(n, port)| (format!("Sentinel {n}"), port, false));
        for (who, port, is_server) in servers.chain(watchers) {
            let (sights, stop) = (witness.sights.clone(), witness.stop.clone());
            tasks.spawn(stop.run_until_cancelled_owned(watch(sights, who, port, is_server)));
        }
        witness
    }

    /// When a server began to hold itself for the primary, for the first time after `since`.
    pub fn promoted(&self, which: usize, since: Instant) -> Option<Instant> {
        let (who, sights) = (server(which), self.sights.lock());
        let seen = sights.iter().find(|it| it.at > since && it.who == who && it.says == "master");
        seen.map(|sight| sight.at)
    }

    /// How long it has watched.
    pub fn millis(&self) -> u128 {
        self.began.elapsed().as_millis()
    }

    /// What was seen, a line each.
    fn account(&self) -> String {
        let mut text = String::new();
        for sight in self.sights.lock().iter() {
            let at = sight.at.duration_since(self.began).as_millis();
            let _ = writeln!(text, "{at:>6} ms {}: {}", sight.who, sight.says);
        }
        text
    }
}

fn server(which: usize) -> String {
    format!("server {which}")
}

async fn watch(sights: Arc<Mutex<Vec<Sight>>>, who: String, port: u16, is_server: bool) {
    let (mut last, mut operator) = (String::new(), None);
    loop {
        let says = ask(&mut operator, port, is_server).await.unwrap_or_else(|| "away".to_owned());
        if says != last {
            last.clone_from(&says);
            sights.lock().push(Sight { at: Instant::now(), who: who.clone(), says });
        }
        tokio::time::sleep(PERIOD).await;
    }
}

/// What it says of itself; nothing when it does not answer.
async fn ask(kept: &mut Option<Operator>, port: u16, is_server: bool) -> Option<String> {
    let mut operator = match kept.take() {
        Some(operator) => operator,
        None => Operator::connect(port).await.ok()?,
    };
    let words: &[&str] = if is_server { &["ROLE"] } else { &["SENTINEL", "MASTER", "mymaster"] };
    let answer = operator.command(words).await.ok()?;
    *kept = Some(operator);
    if is_server {
        return answer.lines().next().map(str::to_owned);
    }
    let lines: Vec<&str> = answer.lines().collect();
    let value = |name| lines.chunks(2).find(|pair| pair[0] == name).and_then(|pair| pair.get(1).copied());
    Some(format!("{} {} as of {}", value("port")?, value("flags")?, value("config-epoch")?))
}
