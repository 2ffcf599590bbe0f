//! The history from before the archive, brought into it from the engine's logs while they still have it.
//!
//! Owns: going through all conversations, one after the other and none too fast, for as long as it takes; that one at a time does
//! so. It needs no memory of its own: what is there already is passed over. Must not know: who asks for it.

mod conversation;
mod known;
mod write;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use parlance_backplane::{Backplane, Fault};
use parlance_model::ConversationId;
use parlance_postgres::Refused;
use tokio::time::{Instant, sleep, timeout};

use crate::keep::Policies;
use crate::store::{Address, Store, connect};

/// How long connecting may take, and a transaction.
const PATIENCE: Duration = Duration::from_secs(10);
/// After a failure, twice as long each time, and half of it left to chance.
const WAITS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// A connection that broke may be there a while longer for PostgreSQL, and so has the lock.
const LINGERS: Duration = Duration::from_secs(60);
/// Things of the engine that are looked at for conversations at once.
const LOOKED_AT: usize = 500;
/// The rest after a page is as long as it took, and not longer than this.
const LONGEST_REST: Duration = Duration::from_secs(1);

/// What is to be brought in, and how.
pub struct Plan {
    /// Where to.
    pub address: Address,
    /// What is kept there; asked for with each page.
    pub policies: Arc<dyn Fn() -> Policies + Send + Sync>,
    /// Entries in a transaction at most.
    pub batch: usize,
    /// Of these conversations; `None`: of all.
    pub only: Option<Vec<ConversationId>>,
}

/// How far it is.
#[derive(Debug, Default)]
pub struct Progress {
    /// Conversations that it went through.
    pub conversations: AtomicU64,
    /// Entries that were not there before.
    pub entries: AtomicU64,
    /// Entries that PostgreSQL does not take for their content.
    pub refused: AtomicU64,
    /// Conversations of which something could not be read, or written, for what it is.
    pub unreadable: AtomicU64,
    /// What it waits for.
    pub waits: Mutex<Option<String>>,
}

impl Progress {
    fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }
}

/// The right to do so: one has it, over all nodes, for as long as its connection is there.
pub struct Hold(Store);

impl Hold {
    /// Takes it; `None`: somebody else has it.
    ///
    /// # Errors
    /// What PostgreSQL says.
    pub async fn take(address: &Address) -> Result<Option<Self>, Refused> {
        let store = connect(address, PATIENCE).await?;
        let held = timeout(PATIENCE, write::hold(&store)).await.map_err(|_| Refused::late())??;
        Ok(held.then_some(Self(store)))
    }

    /// Brings it in. Whatever is away is waited for, for as long as nobody drops this.
    ///
    /// # Errors
    /// Somebody else does so by now.
    pub async fn run(self, from: &Backplane, plan: &Plan, progress: &Progress) -> Result<(), String> {
        let walk =
            Walk { from, plan, progress, store: Some(self.0), wait: WAITS.0, taken: None, at: ("", 0) };
        walk.all().await
    }
}

/// Why a conversation is not through.
#[derive(Debug)]
enum Trouble {
    /// It is tried again.
    Later(String),
    /// Somebody else holds the lock.
    Taken,
    /// It would not be otherwise the next time.
    Never(String),
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Unavailable(why) => Self::Later(why),
            // What it says of that may quote a message.
            Fault::Corrupt(_) => Self::Never("it cannot be read".to_owned()),
        }
    }
}

impl From<Refused> for Trouble {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Away(why) => Self::Later(format!("PostgreSQL: {why}")),
            Refused::Content(why) => Self::Never(format!("PostgreSQL: {why}")),
        }
    }
}

struct Walk<'a> {
    from: &'a Backplane,
    plan: &'a Plan,
    progress: &'a Progress,
    store: Option<Store>,
    wait: Duration,
    /// Since when somebody else has the lock.
    taken: Option<Instant>,
    /// What of a conversation is read or written, and behind which place of its log.
    at: (&'static str, u64),
}

impl Walk<'_> {
    async fn all(mut self) -> Result<(), String> {
        if let Some(only) = &self.plan.only {
            for id in only {
                self.one(id).await?;
            }
            return Ok(());
        }
        let mut from: Option<String> = None;
        loop {
            let began = Instant::now();
            let page = match self.from.conversations.listed(from.as_deref(), LOOKED_AT).await {
                Ok(page) => page,
                Err(fault @ Fault::Unavailable(_)) => {
                    self.again(Trouble::Later(fault.to_string())).await?;
                    continue;
                }
                // Without it nothing tells which conversations there are.
                Err(fault @ Fault::Corrupt(_)) => return Err(fault.to_string()),
            };
            self.well();
            rest(began).await;
            for id in &page.ids {
                self.one(id).await?;
            }
            from = page.next;
            if from.is_none() {
                return Ok(());
            }
        }
    }

    /// All of one conversation, however often it takes.
    async fn one(&mut self, id: &ConversationId) -> Result<(), String> {
        loop {
            match self.conversation(id).await {
                Ok(is_there) => {
                    self.well();
                    Progress::add(&self.progress.conversations, u64::from(is_there));
                    return Ok(());
                }
                Err(Trouble::Never(why)) => {
                    let (place, after) = self.at;
                    tracing::error!(
                        conversation = %id, place, after, why,
                        "what is in a conversation cannot be brought into the archive"
                    );
                    Progress::add(&self.progress.unreadable, 1);
                    return Ok(());
                }
                Err(trouble) => self.again(trouble).await?,
            }
        }
    }

    /// Waits before it is tried again.
    async fn again(&mut self, trouble: Trouble) -> Result<(), String> {
        // What becomes of what got no answer is not known, and a lock that may be lost is taken again.
        self.store = None;
        let why = match trouble {
            Trouble::Later(why) | Trouble::Never(why) => {
                self.taken = None;
                why
            }
            Trouble::Taken => {
                let why = "somebody else brings history into the archive by now";
                if self.taken.get_or_insert_with(Instant::now).elapsed() > LINGERS {
                    return Err(why.to_owned());
                }
                why.to_owned()
            }
        };
        if self.progress.waits.lock().replace(why.clone()).is_none() {
            tracing::warn!(why, "bringing history into the archive waits");
        }
        sleep(self.wait.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
        self.wait = (self.wait * 2).min(WAITS.1);
        Ok(())
    }

    /// Something came through.
    fn well(&mut self) {
        (self.wait, self.taken) = (WAITS.0, None);
        if self.progress.waits.lock().take().is_some() {
            tracing::info!("bringing history into the archive goes on");
        }
    }

    async fn store(&mut self) -> Result<&mut Store, Trouble> {
        let store = match self.store.take().filter(|store| !store.is_closed()) {
            Some(store) => store,
            None => match Hold::take(&self.plan.address).await? {
                Some(Hold(store)) => store,
                None => return Err(Trouble::Taken),
            },
        };
        Ok(self.store.insert(store))
    }
}

/// Others have their turn, too.
async fn rest(began: Instant) {
    sleep(began.elapsed().min(LONGEST_REST)).await;
}
