//! History from before the archive: `parlance archive backfill`, and the node that brings it in.
//!
//! Owns: what an operator says and is shown. Must not know: what is written.

use std::time::Duration;

use anyhow::anyhow;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::aside::number;
use crate::failure::Failure;
use crate::nodes;

#[cfg(feature = "archive")]
pub use wired::offer;

/// Between two questions how far it is, in the first minute and from then on.
const LOOKS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));
const MINUTE: Duration = Duration::from_secs(60);
/// For how long a node may give no answer: what it does goes on meanwhile.
const PATIENCE: Duration = Duration::from_secs(5 * 60);

#[derive(clap::Args)]
#[group(skip)]
pub struct Args {
    /// Only this conversation; may be given several times.
    #[arg(long = "conversation", value_name = "ID")]
    conversations: Vec<String>,
    /// Only begin: the node goes on by itself, and `GET /api/v1/archive` says how far it is.
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    node: nodes::Args,
}

/// Has a node begin, and says how far it is until it ends.
pub async fn run(args: &Args) -> Result<(), Failure> {
    let body = (!args.conversations.is_empty()).then(|| json!({ "conversations": args.conversations }));
    let mut now = nodes::send(&args.node, Method::POST, "/api/v1/archive/backfill", body.as_ref()).await?;
    let began = text(&now, "startedAt").to_owned();
    if args.no_wait {
        println!("begun");
        return Ok(());
    }
    let (mut said, first) = (String::new(), Instant::now());
    loop {
        let line = told(&now);
        if line != said {
            println!("{line}");
            said = line;
        }
        match text(&now, "state") {
            "running" => {}
            "finished" => return left_out(&now),
            _ => return Err(Failure::Other(anyhow!("it has failed: {}", text(&now, "reason")))),
        }
        tokio::time::sleep(if first.elapsed() < MINUTE { LOOKS.0 } else { LOOKS.1 }).await;
        let mut answer = looked(&args.node).await?;
        now = answer.get_mut("backfill").map(Value::take).unwrap_or_default();
        if text(&now, "startedAt") != began {
            return Err(Failure::Other(anyhow!(
                "the node knows no more of it: it was started again. Begin it again"
            )));
        }
    }
}

/// How far it is, as soon as the node says so.
async fn looked(node: &nodes::Args) -> Result<Value, Failure> {
    let (since, mut said) = (Instant::now(), String::new());
    loop {
        let why = match nodes::get(node, "/api/v1/archive?limit=1").await {
            Err(Failure::Other(why)) if may_pass(&why) && since.elapsed() < PATIENCE => format!("{why:#}"),
            answer => return answer,
        };
        if why != said {
            eprintln!("waits: {why}");
            said = why;
        }
        tokio::time::sleep(LOOKS.0).await;
    }
}

/// Whether a node that is asked again may answer: it is away, or says that it cannot now.
fn may_pass(why: &anyhow::Error) -> bool {
    why.downcast_ref::<nodes::Answered>().is_none_or(|answer| {
        answer.status.is_server_error() || answer.status == StatusCode::TOO_MANY_REQUESTS
    })
}

fn text<'a>(of: &'a Value, field: &str) -> &'a str {
    of.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn told(now: &Value) -> String {
    let (conversations, entries) = (number(now, "conversations"), number(now, "entries"));
    let mut line =
        format!("{}: {conversations} conversations, {entries} entries written", text(now, "state"));
    if text(now, "state") == "running" && !text(now, "reason").is_empty() {
        line.push_str(", waits: ");
        line.push_str(text(now, "reason"));
    }
    line
}

fn left_out(now: &Value) -> Result<(), Failure> {
    match (number(now, "refused"), number(now, "unreadable")) {
        (0, 0) => Ok(()),
        (refused, unreadable) => Err(Failure::Other(anyhow!(
            "left out: {refused} entries that PostgreSQL refuses, something of {unreadable} conversations; the node's log says why"
        ))),
    }
}

#[cfg(not(feature = "archive"))]
pub fn offer(_: &std::sync::Arc<parlance_gateway::node::Node>, _: &parlance_backplane::Backplane) {}

#[cfg(feature = "archive")]
mod wired {
    //! A build with it.

    use std::sync::atomic::Ordering;
    use std::sync::{Arc, Weak};

    use async_trait::async_trait;
    use parking_lot::Mutex;
    use parlance_archive::{Hold, Plan, Progress};
    use parlance_backplane::Backplane;
    use parlance_gateway::backfill::{Backfill, NotBegun, State, Status};
    use parlance_gateway::node::Node;
    use parlance_model::{ConversationId, Time};

    use crate::archive::wired::address;
    use crate::keeping;

    /// What this node brings in.
    struct Desk {
        /// It holds this.
        node: Weak<Node>,
        from: Backplane,
        latest: Arc<Mutex<Option<Run>>>,
    }

    struct Run {
        progress: Arc<Progress>,
        state: State,
        started: Time,
        ended: Option<Time>,
        failed: Option<String>,
    }

    impl Run {
        fn status(&self) -> Status {
            let count = |of: &std::sync::atomic::AtomicU64| of.load(Ordering::Relaxed);
            let progress = &self.progress;
            Status {
                state: self.state,
                started: self.started,
                ended: self.ended,
                conversations: count(&progress.conversations),
                entries: count(&progress.entries),
                refused: count(&progress.refused),
                unreadable: count(&progress.unreadable),
                why: self.failed.clone().or_else(|| progress.waits.lock().clone()),
            }
        }
    }

    /// Tells how it ended, also where it broke off.
    struct Ending {
        latest: Arc<Mutex<Option<Run>>>,
        progress: Arc<Progress>,
        node: Arc<Node>,
        told: bool,
    }

    impl Ending {
        fn tell(&mut self, done: Result<(), String>) {
            self.told = true;
            let mut latest = self.latest.lock();
            let Some(run) = latest.as_mut().filter(|run| Arc::ptr_eq(&run.progress, &self.progress)) else {
                return;
            };
            run.ended = Some(self.node.clock.now());
            run.state = if done.is_ok() { State::Finished } else { State::Failed };
            run.failed = done.err();
            let (state, entries) = (run.state, self.progress.entries.load(Ordering::Relaxed));
            tracing::info!(?state, why = run.failed, entries, "bringing history into the archive has ended");
        }
    }

    impl Drop for Ending {
        fn drop(&mut self) {
            if !self.told {
                self.tell(Err("it broke off: the node stops, or its log says why".to_owned()));
            }
        }
    }

    /// Has a node do so when it is asked.
    pub fn offer(node: &Arc<Node>, backplane: &Backplane) {
        let desk = Desk { node: Arc::downgrade(node), from: backplane.clone(), latest: Arc::default() };
        // Set once: there is one.
        _ = node.backfill.set(Arc::new(desk));
    }

    #[async_trait]
    impl Backfill for Desk {
        async fn begin(&self, only: Option<Vec<ConversationId>>) -> Result<Status, NotBegun> {
            let stops = || NotBegun::Away("the node stops".to_owned());
            let node = self.node.upgrade().ok_or_else(stops)?;
            let address = address(&node);
            let hold = Hold::take(&address).await.map_err(|why| NotBegun::Away(why.to_string()))?;
            let hold = hold.ok_or(NotBegun::Taken)?;
            let policies = node.clone();
            let plan = Plan {
                address,
                policies: Arc::new(move || keeping::policies(&policies.config.load())),
                batch: node.config.load().archive.batch,
                only,
            };
            let progress = Arc::<Progress>::default();
            let (started, state) = (node.clock.now(), State::Running);
            let run = Run { progress: progress.clone(), state, started, ended: None, failed: None };
            let status = run.status();
            *self.latest.lock() = Some(run);
            tracing::info!("bringing history into the archive");
            let (from, halt) = (self.from.clone(), node.halt.clone());
            let mut ending = Ending {
                latest: self.latest.clone(),
                progress: progress.clone(),
                node: node.clone(),
                told: false,
            };
            let work = async move {
                let done = hold.run(&from, &plan, &progress).await;
                ending.tell(done);
            };
            node.tracker.spawn(async move { halt.run_until_cancelled(work).await });
            Ok(status)
        }

        fn latest(&self) -> Option<Status> {
            self.latest.lock().as_ref().map(Run::status)
        }
    }
}
