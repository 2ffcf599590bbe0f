//! What befalls one node's calls of the engine: they fail before or after they took effect, take their time, are cut
//! off, and end for good when the node crashes, which it does between any two of them.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use parlance_backplane::Fault;
use tokio::sync::Notify;

use super::random::Random;

/// How long a call waits for an engine that is cut off.
const PATIENCE: Duration = Duration::from_secs(2);

/// How bad the way is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Weather {
    /// Calls of a thousand that fail before they take effect.
    pub refused: u64,
    /// Calls of a thousand whose answer is lost.
    pub unanswered: u64,
    /// Calls and deliveries may take so many milliseconds.
    pub slow: u64,
    /// Deliveries of a thousand that are lost, said so.
    pub lost: u64,
    /// Entries and cursors of a thousand that are lost without a word: the head check has to notice.
    pub silent: u64,
    /// Entries and cursors of a thousand that come again, at once or later.
    pub doubled: u64,
}

struct State {
    random: Random,
    weather: Weather,
    cut: bool,
    dead: bool,
    /// Steps until the node crashes.
    steps: Option<u64>,
    /// Steps until one fails.
    good: Option<u64>,
}

impl State {
    fn fails_now(&mut self) -> bool {
        self.good = match self.good {
            Some(0) => None,
            Some(steps) => Some(steps - 1),
            None => return false,
        };
        self.good.is_none()
    }
}

/// One node's.
pub struct Fate {
    state: Mutex<State>,
    /// Told when the node crashes, and when it is reached again.
    pub turned: Notify,
}

impl Fate {
    pub fn new(random: Random) -> Arc<Self> {
        let state =
            State { random, weather: Weather::default(), cut: false, dead: false, steps: None, good: None };
        Arc::new(Self { state: Mutex::new(state), turned: Notify::new() })
    }

    pub fn set(&self, weather: Weather) {
        self.state.lock().weather = weather;
    }

    /// Cuts the node off, or lets it be reached again.
    pub fn cut(&self, cut: bool) {
        self.state.lock().cut = cut;
        self.turned.notify_waiters();
    }

    /// The node crashes after so many more steps of its calls.
    pub fn crash_in(&self, steps: u64) {
        self.state.lock().steps = Some(steps);
    }

    /// One step fails after so many more that do not.
    pub fn fail_in(&self, steps: u64) {
        self.state.lock().good = Some(steps);
    }

    /// Whether that is still to come.
    pub fn is_to_fail(&self) -> bool {
        self.state.lock().good.is_some()
    }

    /// Now at the latest.
    pub fn crash(&self) {
        self.state.lock().dead = true;
        self.turned.notify_waiters();
    }

    pub fn is_dead(&self) -> bool {
        self.state.lock().dead
    }

    pub fn is_cut(&self) -> bool {
        self.state.lock().cut
    }

    /// Draws by the weather.
    pub fn draw<T>(&self, by: impl FnOnce(&mut Random, &Weather) -> T) -> T {
        let mut state = self.state.lock();
        let State { random, weather, .. } = &mut *state;
        by(random, weather)
    }

    /// One step of a call: it may be the node's last.
    async fn step(&self, fails: impl FnOnce(&Weather) -> u64) -> Result<(), Fault> {
        let (wait, fails) = self.draw(|random, weather| {
            let wait = if weather.slow > 0 && random.per_mille(200) { random.below(weather.slow) } else { 0 };
            (wait, random.per_mille(fails(weather)))
        });
        let fails = fails || self.state.lock().fails_now();
        if wait > 0 {
            tokio::time::sleep(Duration::from_millis(wait)).await;
        }
        let last = {
            let mut state = self.state.lock();
            match &mut state.steps {
                Some(0) => true,
                Some(steps) => {
                    *steps -= 1;
                    false
                }
                None => false,
            }
        };
        if last {
            self.crash();
        }
        if self.is_dead() {
            // Nothing of the node goes on from here.
            std::future::pending::<()>().await;
        }
        if self.is_cut() {
            tokio::time::sleep(PATIENCE).await;
            return Err(Fault::Unavailable("cut off".to_owned()));
        }
        if fails { Err(Fault::Unavailable("bad weather".to_owned())) } else { Ok(()) }
    }

    /// Before a call takes effect.
    pub async fn before(&self) -> Result<(), Fault> {
        self.step(|weather| weather.refused).await
    }

    /// After it did.
    pub async fn after<T>(&self, answer: Result<T, Fault>) -> Result<T, Fault> {
        self.step(|weather| weather.unanswered).await?;
        answer
    }
}
