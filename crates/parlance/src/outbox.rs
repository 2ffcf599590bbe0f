//! The outbox: wired to the node that publishes it, and `parlance outbox`.
//!
//! Owns: which process publishes, and what an operator is shown. Must not know: how it is read, what an event does.

use parlance_gateway::config::Config;

use crate::cli::NodeFlags;
use crate::failure::Failure;

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Make the table that the application writes to, or bring it to what this release needs.
    Migrate {
        /// Print what would do so in an empty database instead, for the application's own migrations.
        #[arg(long)]
        print: bool,
        #[command(flatten)]
        node: NodeFlags,
    },
    /// Show how much waits, for how long, and what was refused.
    Status {
        /// Refused events shown at most.
        #[arg(long, default_value_t = 20)]
        limit: usize,
        #[command(flatten)]
        node: NodeFlags,
    },
    /// Try again what was refused: all of it, or one event.
    Retry {
        /// As `parlance outbox status` shows it.
        #[arg(long, value_name = "ID")]
        id: Option<String>,
        #[command(flatten)]
        node: NodeFlags,
    },
}

/// `parlance outbox`.
pub async fn run(args: Args) -> Result<(), Failure> {
    match args.what {
        What::Migrate { print: true, .. } => wired::print(),
        What::Migrate { node, .. } => wired::migrate(&node).await,
        What::Status { limit, node } => wired::status(&node, limit).await,
        What::Retry { id, node } => wired::retry(&node, id.as_deref()).await,
    }
}

/// What can be said of the addresses without opening anything.
pub fn check(config: &Config) -> Result<(), Failure> {
    if config.outbox.is_there() { wired::check(config) } else { Ok(()) }
}

/// Has a node publish, when it is to; whether it does is shown where there is something.
pub fn begin(node: &parlance_gateway::Running) {
    let config = node.node().config.load();
    if config.outbox.is_there() {
        wired::begin(node.node());
    }
}

#[cfg(not(feature = "outbox"))]
mod wired {
    //! A build without it.

    use std::sync::Arc;

    use super::{Config, Failure, NodeFlags};

    fn without<T>() -> Result<T, Failure> {
        Err(Failure::Usage("outbox: this program was built without it".to_owned()))
    }

    pub fn print() -> Result<(), Failure> {
        without()
    }

    pub async fn migrate(_: &NodeFlags) -> Result<(), Failure> {
        without()
    }

    pub async fn status(_: &NodeFlags, _: usize) -> Result<(), Failure> {
        without()
    }

    pub async fn retry(_: &NodeFlags, _: Option<&str>) -> Result<(), Failure> {
        without()
    }

    pub fn check(_: &Config) -> Result<(), Failure> {
        without()
    }

    pub fn begin(_: &Arc<parlance_gateway::node::Node>) {}
}

#[cfg(feature = "outbox")]
mod wired {
    //! A build with it.

    use std::sync::Arc;
    use std::time::Duration;

    use anyhow::Context as _;
    use async_trait::async_trait;
    use parlance_gateway::http::api::calls::{self, Call, Outcome};
    use parlance_gateway::node::Node;
    use parlance_model::Time;
    use parlance_outbox::{
        Address, Backlog, Consumer, Event, Lane, Logins, Publisher, Refusal, Settings, Source, Stream, Table,
        Tally, Verdict,
    };

    use super::{Config, Failure, NodeFlags};
    use crate::sources::Sources;
    use crate::start;

    pub fn check(config: &Config) -> Result<(), Failure> {
        let wrong = |option: &str, why: String| Failure::Usage(format!("outbox.{option}: {why}"));
        let table = config.outbox.url.as_deref().map_or(Ok(()), parlance_postgres::check_address);
        table.map_err(|why| wrong("url", why))?;
        let stream =
            config.outbox.redis_url.as_deref().map_or(Ok(()), parlance_backplane_redis::check_address);
        stream.map_err(|why| wrong("redis_url", why.to_string()))
    }

    fn stream_address(config: &Config) -> Option<String> {
        config.outbox.redis_url.clone().or_else(|| config.redis_url.clone())
    }

    /// How one gets to the stream: with the logins of the nodes only to the Redis of the nodes.
    fn access(config: &Config) -> parlance_backplane_redis::Access {
        let all = start::access(config);
        if config.outbox.redis_url.is_none() {
            return all;
        }
        parlance_backplane_redis::Access { tls: all.tls, ..parlance_backplane_redis::Access::default() }
    }

    /// The configuration as it is now.
    type Now = Arc<dyn Fn() -> Arc<Config> + Send + Sync>;

    fn address(now: &Now, of: fn(&Config) -> Option<String>) -> Address {
        let now = now.clone();
        Arc::new(move || of(&now()))
    }

    /// The table and the stream, of those that are configured. Where they are and how one gets in is asked of `now`.
    fn sources(now: &Now) -> Vec<Box<dyn Source>> {
        let config = now();
        let largest = config.limits.http_body_bytes;
        let mut all: Vec<Box<dyn Source>> = Vec::new();
        if config.outbox.url.is_some() {
            all.push(Box::new(Table::new(address(now, |config| config.outbox.url.clone()), largest)));
        }
        if let Some(stream) = &config.outbox.stream {
            let asked = now.clone();
            let logins: Logins = Arc::new(move || access(&asked()));
            all.push(Box::new(Stream::new(stream, address(now, stream_address), logins, largest)));
        }
        all
    }

    /// Carries events out at a node, and counts there.
    struct At(Arc<Node>);

    fn call(event: &Event) -> Call<'_> {
        Call {
            name: &event.call,
            target: event.target.as_deref(),
            body: event.body.as_deref(),
            key: &event.key,
            at: Time::from_millis(event.at),
        }
    }

    #[async_trait]
    impl Publisher for At {
        fn lane(&self, event: &Event) -> Lane {
            let calls::Lane { name, alone } = call(event).lane();
            Lane { name, alone }
        }

        fn patience(&self, event: &Event) -> Duration {
            call(event).patience()
        }

        async fn publish(&self, event: &Event) -> Verdict {
            match call(event).carry_out(&self.0).await {
                Outcome::Done { fresh } => Verdict::Published { fresh },
                Outcome::Refused { code, why } => Verdict::Refused(Refusal { code: code.to_owned(), why }),
                Outcome::Later(why) => Verdict::Later(why),
            }
        }
    }

    impl Tally for At {
        fn came(&self, source: &'static str, event: &Event, verdict: &Verdict, took: Duration) {
            let call = calls::NAMES.into_iter().find(|name| *name == event.call).unwrap_or("unknown");
            let outcome = match verdict {
                Verdict::Published { fresh: true } => "published",
                Verdict::Published { fresh: false } => "repeated",
                Verdict::Refused(_) => "refused",
                Verdict::Later(_) => "later",
            };
            self.0.metrics.outbox.came(source, call, outcome, took);
            if let Verdict::Refused(refusal) = verdict {
                tracing::warn!(
                    source,
                    id = event.id,
                    key = event.key,
                    call,
                    code = refusal.code,
                    why = refusal.why,
                    "an event of the outbox is refused and put aside"
                );
            }
        }

        fn leads(&self, source: &'static str, leads: bool) {
            self.0.metrics.outbox.leads(source, leads);
        }

        fn waits(&self, source: &'static str, backlog: &Backlog) {
            let counts = (backlog.waiting, backlog.aside);
            self.0.metrics.outbox.backlog(source, counts, backlog.lag);
        }
    }

    pub fn begin(node: &Arc<Node>) {
        let config = node.config.load();
        let from = node.clone();
        let now: Now = Arc::new(move || from.config.load_full());
        let poll = Duration::from_millis(config.outbox.poll_ms);
        let settings = Settings { batch: config.outbox.batch, poll };
        for source in sources(&now) {
            let at = Arc::new(At(node.clone()));
            // Also at a node that never does: where none does, somebody has to be told.
            at.leads(source.name(), false);
            if !config.outbox.run {
                continue;
            }
            node.tracker.spawn(Consumer::new(source, at.clone(), at, settings).run(node.halt.clone()));
        }
    }

    fn configured(flags: &NodeFlags) -> Result<Config, Failure> {
        let config = Sources::new(Config::default(), flags).load()?;
        if !config.outbox.is_there() {
            return Err(Failure::Usage("outbox: neither outbox.url nor outbox.stream is set".to_owned()));
        }
        check(&config)?;
        Ok(config)
    }

    fn fixed(config: Config) -> Now {
        let config = Arc::new(config);
        Arc::new(move || config.clone())
    }

    pub fn print() -> Result<(), Failure> {
        print!("{}", parlance_outbox::as_sql());
        Ok(())
    }

    pub async fn migrate(flags: &NodeFlags) -> Result<(), Failure> {
        let config = configured(flags)?;
        let Some(url) = config.outbox.url else {
            println!("nothing to do: a stream has no table");
            return Ok(());
        };
        let mut table = Table::new(Arc::new(move || Some(url.clone())), 0);
        let applied = table.migrate().await.context("PostgreSQL")?;
        for one in &applied {
            println!("applied {:04} {}", one.number, one.name);
        }
        println!("{}", if applied.is_empty() { "nothing to do" } else { "done" });
        Ok(())
    }

    pub async fn status(flags: &NodeFlags, limit: usize) -> Result<(), Failure> {
        let config = configured(flags)?;
        for mut source in sources(&fixed(config)) {
            source.connect().await.context(source.name())?;
            let backlog = source.backlog().await.context(source.name())?;
            let Backlog { waiting, aside, lag } = backlog;
            let oldest = if waiting > 0 {
                format!(", the oldest for {:.1} s", lag.as_secs_f64())
            } else {
                String::new()
            };
            println!("{}: waiting: {waiting}{oldest}\n{0}: refused: {aside}", source.name());
            for one in source.aside(limit).await.context(source.name())? {
                println!(
                    "  {}  {} {}  {}: {}",
                    one.id, one.call, one.target, one.refusal.code, one.refusal.why
                );
            }
        }
        Ok(())
    }

    pub async fn retry(flags: &NodeFlags, id: Option<&str>) -> Result<(), Failure> {
        let config = configured(flags)?;
        // Ids of entries of a stream have a hyphen.
        let is_of = |name: &str| id.is_none_or(|id| id.contains('-') == (name == "stream"));
        for mut source in sources(&fixed(config)) {
            if is_of(source.name()) {
                source.connect().await.context(source.name())?;
                println!(
                    "{}: tried again: {}",
                    source.name(),
                    source.retry(id).await.context(source.name())?
                );
            }
        }
        Ok(())
    }
}
