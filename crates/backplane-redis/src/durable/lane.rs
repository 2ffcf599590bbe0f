//! One primary's lane: whatever waits is sent at once, and then it is asked how many replicas have it.
//!
//! Owns: the batches. A batch is sent as soon as the one before is through, with what has gathered meanwhile: alone
//! under little load, up to [`BATCH`] under much, and never held up by a timer. While a server hangs, whoever comes is
//! told so at once. Must not know: why somebody waits.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parlance_backplane::stats::{Connected, Failure, Server, Wire};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::{Setting, Socket};
use crate::keys::tag;
use crate::link::{Command, LinkFault, Reply};
use crate::topology::Address;

/// Calls of one batch.
const BATCH: usize = 64;
/// Calls that wait for the next batches; callers wait beyond, and not for ever.
const QUEUE: usize = 1024;
/// Between two knocks at a server that does not answer; each waits as long as a command may take.
const PROBE: Duration = Duration::from_millis(200);
const NO_ANSWER: &str = "no answer in time";

/// How long a batch waits for the word that a server is still the primary, after its connection broke.
const CONFIRMED: Duration = Duration::from_millis(300);

type Answered = Result<Reply, LinkFault>;

/// A call.
pub struct Job {
    pub function: String,
    pub keys: Vec<String>,
    pub args: Vec<Bytes>,
    pub answer: oneshot::Sender<Answered>,
}

/// The way in.
pub type Lane = mpsc::Sender<Job>;

/// A connection, counted for as long as there is one.
struct Open {
    socket: Socket,
    _counted: Connected,
}

/// The task behind it.
pub struct Keeper {
    shared: Arc<Setting>,
    address: Address,
    jobs: mpsc::Receiver<Job>,
    socket: Option<Open>,
    stats: Arc<Server>,
    /// When the connection broke that there was.
    broken: Option<Instant>,
}

/// A lane to one primary, not connected yet.
pub fn open(shared: Arc<Setting>, address: Address) -> (Lane, Keeper) {
    let (lane, jobs) = mpsc::channel(QUEUE);
    let stats = shared.topology.stats_of(&address);
    (lane, Keeper { shared, address, jobs, socket: None, stats, broken: None })
}

impl Keeper {
    /// Until nobody can send any more.
    pub async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        while self.jobs.recv_many(&mut batch, BATCH).await > 0 {
            // Whoever gave up has been told that it failed: it need not happen any more.
            batch.retain(|job| !job.answer.is_closed());
            if !batch.is_empty() && !self.serve(std::mem::take(&mut batch)).await {
                self.mend(&mut batch).await;
            }
        }
    }

    /// Whether the server answered or was seen to be gone: not that it hangs.
    async fn serve(&mut self, batch: Vec<Job>) -> bool {
        let most = self.shared.patience + self.shared.replicas.within;
        let (since, count) = (Instant::now(), batch.len());
        let attempt = tokio::time::timeout(most, self.attempt(&batch)).await;
        let answered = attempt.is_ok();
        match attempt {
            Ok(Ok(answers)) => {
                self.stats.commands.note_all(since.elapsed(), count as u64);
                for fault in answers.iter().filter_map(|answer| answer.as_ref().err()) {
                    self.stats.failed(fault.kind());
                }
                for (job, answer) in batch.into_iter().zip(answers) {
                    // Nobody waits any more: the client was told that it failed, and asks again.
                    drop(job.answer.send(answer));
                }
            }
            Ok(Err(error)) => {
                self.stats.failed_all(Failure::Lost, count as u64);
                self.broken(&error.to_string(), batch);
            }
            Err(_) => {
                self.stats.failed_all(Failure::Silent, count as u64);
                self.broken(NO_ANSWER, batch);
            }
        }
        answered
    }

    fn counted(&self, socket: Socket) -> Open {
        Open { socket, _counted: self.stats.connected(Wire::Durable) }
    }

    fn broken(&mut self, why: &str, batch: Vec<Job>) {
        self.socket = None;
        self.broken = Some(Instant::now());
        self.shared.topology.doubt();
        self.refuse(why, batch);
    }

    fn refuse(&self, why: &str, batch: impl IntoIterator<Item = Job>) {
        for job in batch {
            drop(job.answer.send(Err(LinkFault::Failed(format!("Redis ({}): {why}", self.address)))));
        }
    }

    /// Until the server answers again, or nobody can send any more, nobody is kept waiting.
    async fn mend(&mut self, batch: &mut Vec<Job>) {
        tracing::warn!(address = %self.address, "Redis does not answer: nothing is acknowledged there until it does");
        let (dialer, patience) = (self.shared.topology.dialer().clone(), self.shared.patience);
        let (address, topology) = (self.address.clone(), self.shared.topology.clone());
        let since = self.broken.unwrap_or_else(Instant::now);
        let knock = async move {
            loop {
                topology.vouched(&address, since).await;
                if let Ok(Ok(socket)) = tokio::time::timeout(patience, Socket::open(&dialer, &address)).await
                {
                    return socket;
                }
                tokio::time::sleep(PROBE).await;
            }
        };
        let mut knock = std::pin::pin!(knock);
        loop {
            tokio::select! {
                socket = &mut knock => {
                    tracing::info!(address = %self.address, "Redis answers again");
                    self.socket = Some(self.counted(socket));
                    return;
                }
                count = self.jobs.recv_many(batch, BATCH) => {
                    self.stats.failed_all(Failure::Away, count as u64);
                    self.refuse(NO_ANSWER, batch.drain(..));
                    self.shared.topology.doubt();
                    if count == 0 {
                        return;
                    }
                }
            }
        }
    }

    /// What to call is called, and once more where the server lacked the functions.
    async fn attempt(&mut self, batch: &[Job]) -> std::io::Result<Vec<Answered>> {
        let mut answers = self.round(batch.iter().collect()).await?;
        let lacking = |answer: &Answered| {
            matches!(answer, Err(LinkFault::NoFunction | LinkFault::NoScript | LinkFault::Forbidden(_)))
        };
        let again: Vec<usize> = (0..answers.len()).filter(|index| lacking(&answers[*index])).collect();
        let Some(Err(fault)) = again.first().and_then(|index| answers.get(*index)).cloned() else {
            return Ok(answers);
        };
        let Some(open) = &mut self.socket else { return Ok(answers) };
        if self.shared.library.supply(&mut open.socket, &fault).await.is_ok() {
            let jobs = again.iter().filter_map(|index| batch.get(*index)).collect();
            for (index, answer) in again.iter().zip(self.round(jobs).await?) {
                answers[*index] = answer;
            }
        }
        Ok(answers)
    }

    /// The calls, a word written after them, and the question how many replicas have that word.
    ///
    /// `WAIT` speaks of what its own connection wrote. The word makes it speak of everything before: also of what a
    /// call found to be there already, written by another node.
    async fn round(&mut self, jobs: Vec<&Job>) -> std::io::Result<Vec<Answered>> {
        let Some(first) = jobs.first().and_then(|job| job.keys.first()) else { return Ok(Vec::new()) };
        let replicas = self.shared.replicas;
        let word = format!("{}k:{{{}}}", self.shared.prefix, tag(first));
        let (count, within) = (replicas.count.to_string(), replicas.within.as_millis().max(1).to_string());
        let library = &self.shared.library;
        let calls = jobs.iter().map(|job| library.command(&job.function, &job.keys, job.args.clone()));
        let mut commands: Vec<Command> = calls.collect();
        commands.push(Command::new("SET", &[&word, ""]));
        commands.push(Command::new("WAIT", &[&count, &within]));
        let open = match &mut self.socket {
            Some(open) => open,
            none => {
                if let Some(since) = self.broken {
                    // Whoever answers there next may have got a successor and not know.
                    let vouched = self.shared.topology.vouched(&self.address, since);
                    tokio::time::timeout(CONFIRMED, vouched).await?;
                }
                let socket = Socket::open(self.shared.topology.dialer(), &self.address).await?;
                none.insert(Open { socket, _counted: self.stats.connected(Wire::Durable) })
            }
        };
        let mut answers = open.socket.batch(&commands).await?;
        let (waited, written) = (answers.pop(), answers.pop());
        match confirmed(replicas.count, waited, written) {
            Ok(()) => Ok(answers),
            Err(fault) => Ok(answers.into_iter().map(|answer| answer.and(Err(fault.clone()))).collect()),
        }
    }
}

/// Whether so many replicas have what was written.
fn confirmed(count: u32, waited: Option<Answered>, written: Option<Answered>) -> Result<(), LinkFault> {
    // What was executed is not to be repeated by anybody but its client: not `Elsewhere`.
    let failed = |fault| LinkFault::Failed(format!("Redis does not confirm: {fault:?}"));
    written.unwrap_or(Ok(Reply::Nil)).map_err(failed)?;
    let have = waited.unwrap_or(Ok(Reply::Nil)).map_err(failed)?.number().unwrap_or(0);
    if have >= u64::from(count) {
        return Ok(());
    }
    Err(LinkFault::Failed(format!("only {have} of {count} replicas confirmed in time")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_replicas_or_no_word_is_no_confirmation() {
        let (ok, one) = (Some(Ok(Reply::Nil)), Some(Ok(Reply::Int(1))));
        assert_eq!(confirmed(1, one.clone(), ok.clone()), Ok(()));
        assert!(confirmed(2, one.clone(), ok.clone()).is_err());
        assert!(confirmed(1, None, ok).is_err());
        let refused = Some(Err(LinkFault::Elsewhere("MOVED 1 h:1".to_owned())));
        assert!(matches!(confirmed(1, one, refused), Err(LinkFault::Failed(_))));
    }
}
