//! The archive: wired to the node that has it, and `parlance archive`.
//!
//! Owns: which process writes, and what an operator is shown. Must not know: what is in the tables.

use std::sync::{Arc, OnceLock, Weak};

use parlance_backplane::Backplane;
use parlance_gateway::config::Config;
use parlance_gateway::node::Node;

use crate::cli::NodeFlags;
use crate::failure::Failure;
use crate::{aside, backfill, keeping};

const CALL: &str = "/api/v1/archive";

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Bring the tables to what this release needs. Whoever writes does so too, where its login may.
    Migrate(NodeFlags),
    /// Show what is in the tables, and how much waits.
    Status(NodeFlags),
    /// Write, as a process of its own beside nodes that have `archive.run = false`; on Redis only.
    Run(NodeFlags),
    /// Remove what is kept no longer, now. Those who write do so every hour.
    Prune(keeping::Prune),
    /// Remove a conversation, or what a user wrote and was in.
    Forget(keeping::Forget),
    /// Show what PostgreSQL refused for its content: it was put aside. Asks one node, which answers for all.
    List(aside::List),
    /// Have that written again.
    Retry(aside::Retry),
    /// Bring in the history from before the archive, as far as the engine still keeps it.
    Backfill(backfill::Args),
}

/// `parlance archive`.
pub async fn run(args: Args) -> Result<(), Failure> {
    match args.what {
        What::Migrate(flags) => wired::migrate(&flags).await,
        What::Status(flags) => wired::status(&flags).await,
        What::Run(flags) => wired::alone(&flags).await,
        What::Prune(args) => keeping::prune(&args).await,
        What::Forget(args) => keeping::forget(&args).await,
        What::List(list) => list.show(CALL).await,
        What::Retry(retry) => retry.ask(CALL, "written").await,
        What::Backfill(args) => backfill::run(&args).await,
    }
}

/// What can be said of the address without opening anything.
pub fn check(config: &Config) -> Result<(), Failure> {
    config.archive.url.as_deref().map_or(Ok(()), wired::check)
}

/// What of it stands before the engine, and has to run beside the node.
pub struct Before(Option<wired::Confirmer>);

/// Has messages acknowledged as `ack_level` says.
pub fn before(config: &Config, backplane: &mut Backplane) -> Before {
    Before((config.ack_level == "archived").then(|| wired::acknowledged(backplane)))
}

/// Has conversations' logs read on in the archive, when they are to be; the node that does so is told of later.
pub fn read(config: &Config, backplane: Backplane) -> (Backplane, Late) {
    let late = Late::default();
    if config.archive.url.is_some() && config.archive.read {
        return (wired::read(config, backplane, &late), late);
    }
    (backplane, late)
}

/// A node that is not there yet when its engine is opened. It holds the engine, so it is not held by it.
pub type Late = Arc<OnceLock<Weak<Node>>>;

/// Has a node write, when it is to.
pub fn begin(node: &parlance_gateway::Running, backplane: &Backplane, before: Before) {
    let config = node.node().config.load();
    if config.archive.url.is_some() && config.archive.run {
        wired::begin(node.node(), backplane);
    }
    if config.archive.url.is_some() {
        backfill::offer(node.node(), backplane);
    }
    if let Some(confirmer) = before.0 {
        wired::confirm(node.node(), confirmer);
    }
}

#[cfg(not(feature = "archive"))]
mod wired {
    //! A build without it.

    use std::sync::Arc;

    use super::{Backplane, Config, Failure, Late, NodeFlags};

    fn without<T>() -> Result<T, Failure> {
        Err(Failure::Usage("archive: this program was built without it".to_owned()))
    }

    pub async fn migrate(_: &NodeFlags) -> Result<(), Failure> {
        without()
    }

    pub async fn status(_: &NodeFlags) -> Result<(), Failure> {
        without()
    }

    pub async fn alone(_: &NodeFlags) -> Result<(), Failure> {
        without()
    }

    pub fn check(_: &str) -> Result<(), Failure> {
        without()
    }

    pub fn begin(_: &Arc<parlance_gateway::node::Node>, _: &Backplane) {}

    /// Never there: [`check`] has refused what asks for it.
    pub struct Confirmer;

    pub fn acknowledged(_: &mut Backplane) -> Confirmer {
        Confirmer
    }

    pub fn confirm(_: &Arc<parlance_gateway::node::Node>, _: Confirmer) {}

    pub fn read(_: &Config, backplane: Backplane, _: &Late) -> Backplane {
        backplane
    }
}

#[cfg(feature = "archive")]
pub mod wired {
    //! A build with it.

    use std::fmt::Write as _;
    use std::sync::{Arc, Weak};
    use std::time::Duration;

    use anyhow::{Context as _, anyhow};
    use parlance_archive::{Address, Asked, Count, GROUP, Reading, Settings, State, Store, Tally, Watch};
    pub use parlance_archive::{Confirmer, acknowledged};
    use parlance_backplane::trail::{Backlog, Outcome};
    use parlance_gateway::clock::Clock;
    use parlance_gateway::config::Config;
    use parlance_gateway::node::Node;

    use super::{Backplane, Failure, Late, NodeFlags};
    use crate::keeping;
    use crate::serve::{self, Signals};
    use crate::sources::Sources;
    use crate::start;

    pub fn check(url: &str) -> Result<(), Failure> {
        parlance_postgres::check_address(url).map_err(|why| Failure::Usage(format!("archive.url: {why}")))
    }

    /// An outcome as a label.
    const fn word(outcome: Outcome) -> &'static str {
        match outcome {
            Outcome::Taken => "written",
            Outcome::Refused | Outcome::Away => outcome.as_str(),
        }
    }

    /// A node counts in its metrics.
    struct Counts(Arc<Node>);

    impl Tally for Counts {
        fn came(&self, outcome: Outcome, steps: usize, took: Duration) {
            self.0.metrics.archive.came(word(outcome), steps, took);
        }

        fn buried(&self) {
            self.0.metrics.archive.dead.inc();
        }

        fn waits(&self, backlog: &Backlog) {
            self.0.metrics.archive.backlog(backlog, self.0.clock.now());
            self.0.metrics.engine.dropped(backlog);
        }
    }

    impl Count for Counts {
        fn came(&self, outcome: Outcome, messages: usize, took: Duration) {
            self.0.metrics.archive.acks.came(word(outcome), messages, took);
        }
    }

    pub fn address(node: &Arc<Node>) -> Address {
        let from = node.clone();
        Arc::new(move || from.config.load().archive.url.clone())
    }

    pub fn confirm(node: &Arc<Node>, confirmer: Confirmer) {
        let confirmer = confirmer.run(address(node), Arc::new(Counts(node.clone())));
        let halt = node.halt.clone();
        node.tracker.spawn(async move { halt.run_until_cancelled(confirmer).await });
    }

    pub fn begin(node: &Arc<Node>, backplane: &Backplane) {
        let from = node.clone();
        let kept = parlance_archive::keep(
            address(node),
            move || keeping::policies(&from.config.load()),
            Arc::new(keeping::Counts(node.clone())),
        );
        let halt = node.halt.clone();
        node.tracker.spawn(async move { halt.run_until_cancelled(kept).await });
        let (batch, clock) = (node.config.load().archive.batch, node.clock.for_engine());
        let settings = Settings { address: address(node), batch, clock };
        let sink = parlance_archive::run(backplane.trail.clone(), settings, Arc::new(Counts(node.clone())));
        let halt = node.halt.clone();
        node.tracker.spawn(async move { halt.run_until_cancelled(sink).await });
    }

    /// Counts in the metrics of a node, as soon as there is one.
    struct Seen(Late);

    impl Watch for Seen {
        fn asked(&self, outcome: Asked, took: Duration) {
            if let Some(node) = self.0.get().and_then(Weak::upgrade) {
                node.metrics.archive.reads.came(outcome.as_str(), took);
            }
        }
    }

    pub fn read(config: &Config, backplane: Backplane, late: &Late) -> Backplane {
        let (from, known) = (late.clone(), config.archive.url.clone());
        let address = Arc::new(move || match from.get().and_then(Weak::upgrade) {
            Some(node) => node.config.load().archive.url.clone(),
            None => known.clone(),
        });
        let (connections, watch) = (config.archive.read_connections, Arc::new(Seen(late.clone())));
        parlance_archive::through(backplane, Reading { address, connections, watch })
    }

    /// A process of its own says it in its log: its metrics are nowhere.
    struct Says;

    impl Tally for Says {
        fn came(&self, outcome: Outcome, steps: usize, took: Duration) {
            tracing::debug!(outcome = word(outcome), steps, ?took, "archive");
        }

        fn buried(&self) {}

        fn waits(&self, backlog: &Backlog) {
            tracing::info!(steps = backlog.steps, aside = backlog.dead, "archive: not written yet");
        }
    }

    /// The configuration, and the address in it.
    pub fn configured(sources: &Sources) -> Result<(Config, String), Failure> {
        let config = sources.load()?;
        super::check(&config)?;
        let url = config.archive.url.clone();
        let url = url.ok_or_else(|| Failure::Usage("archive.url: is not set".to_owned()))?;
        Ok((config, url))
    }

    async fn connect(url: &str) -> Result<Store, Failure> {
        Ok(Store::connect(url).await.context("PostgreSQL")?)
    }

    pub async fn migrate(flags: &NodeFlags) -> Result<(), Failure> {
        let (_, url) = configured(&Sources::new(Config::default(), flags))?;
        let applied = connect(&url).await?.migrate().await.context("PostgreSQL")?;
        for one in &applied {
            println!("applied {:04} {}", one.number, one.name);
        }
        println!("{}", if applied.is_empty() { "nothing to do" } else { "done" });
        Ok(())
    }

    pub async fn status(flags: &NodeFlags) -> Result<(), Failure> {
        let (config, url) = configured(&Sources::new(Config::default(), flags))?;
        let state = connect(&url).await?.state().await.context("PostgreSQL")?;
        print!("{}", told(&state));
        if config.redis_url.is_none() {
            println!("waiting: on the embedded engine only its node knows: parlance_archive_backlog_steps");
            return Ok(());
        }
        let engine = start::open(&config, &Clock::system()).await?;
        let backlog = engine.backplane().trail.backlog(GROUP).await;
        engine.close().await;
        let backlog = backlog.map_err(anyhow::Error::from)?;
        let since =
            backlog.since.map(|since| format!(", the oldest of {}", since.to_iso())).unwrap_or_default();
        println!("waiting: {}{since}\nput aside: {}", backlog.steps, backlog.dead);
        Ok(())
    }

    fn told(state: &State) -> String {
        let mut out = String::new();
        let applied: Vec<String> = state.applied.iter().map(|number| format!("{number:04}")).collect();
        _ = writeln!(
            out,
            "migrations: {}",
            if applied.is_empty() { "none".to_owned() } else { applied.join(" ") }
        );
        for one in &state.missing {
            _ = writeln!(out, "missing: {:04} {} (parlance archive migrate)", one.number, one.name);
        }
        for (table, rows) in &state.rows {
            _ = writeln!(out, "{table}: {rows}");
        }
        out
    }

    pub async fn alone(flags: &NodeFlags) -> Result<(), Failure> {
        let sources = Sources::new(Config::default(), flags);
        let (config, _) = configured(&sources)?;
        if config.redis_url.is_none() {
            return Err(Failure::Usage(
                "redis_url: the embedded engine is of one process: its node writes by itself, with archive.run"
                    .to_owned(),
            ));
        }
        let _logs = serve::begin(&sources, &config)?;
        let mut signals = Signals::listen()?;
        let clock = Clock::system();
        let engine = start::open(&config, &clock).await?;
        let (batch, clock) = (config.archive.batch, clock.for_engine());
        // Read again each time: the file may hold another password by then.
        let now = Arc::new(move || sources.load().unwrap_or_else(|_| config.clone()));
        let (from, by) = (now.clone(), now);
        let address: Address = Arc::new(move || from().archive.url);
        let policies = move || keeping::policies(&by());
        let kept = parlance_archive::keep(address.clone(), policies, Arc::new(keeping::Says));
        let settings = Settings { address, batch, clock };
        let sink = parlance_archive::run(engine.backplane().trail, settings, Arc::new(Says));
        println!("ready");
        tokio::select! {
            () = sink => {}
            () = kept => {}
            () = signals.stop() => {}
        }
        tracing::info!("stopping");
        tokio::time::timeout(Duration::from_secs(5), engine.close())
            .await
            .map_err(|_| anyhow!("Redis did not answer while stopping"))?;
        Ok(())
    }
}
