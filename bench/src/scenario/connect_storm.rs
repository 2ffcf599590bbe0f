//! Many connect at once: how long it takes, what it costs, and what is left when they have gone.

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args as ClapArgs;
use tokio::time::sleep;

use super::common::{Common, Stage};
use super::finish::{self, Moment, Window};
use super::hold::{Crowd, Holder};
use crate::outcome::{Better, Join, Outcome};

/// Many connect at once, in waves with everything closed between.
#[derive(ClapArgs, Clone, Debug)]
pub struct Args {
    /// How many connections, each of its own user.
    #[arg(long, default_value_t = 1000)]
    pub connections: usize,
    /// How many handshakes are under way at once.
    #[arg(long, default_value_t = 400)]
    pub in_flight: usize,
    /// How many times.
    #[arg(long, default_value_t = 1)]
    pub waves: usize,
    /// Seconds to let things settle after each wave and after closing it.
    #[arg(long, default_value_t = 1.0)]
    pub settle: f64,
}

/// Runs it.
pub async fn run(args: &Args, common: &Common) -> Result<Outcome> {
    ensure!(args.connections > 0 && args.waves > 0, "nobody comes");
    let mut common = common.clone();
    // Every connect counts; what is allocated once is allocated by the first connection, which does not.
    common.warmup = 0.0;
    let mut stage = Stage::open(&common).await?;
    first(&mut stage).await?;
    stage.begin().await?;
    let mut sum = Window::default();
    let (mut full, mut empty) = (Vec::new(), Vec::new());
    let mut connected = 0;
    for wave in 0..args.waves {
        let before = Moment::now(&mut stage)?;
        let mine: Vec<usize> = stage.part().of_all(args.connections).collect();
        let user = |index| Holder { user: format!("pb{}c{index}", stage.run.id), index, rooms: Vec::new() };
        let in_flight = args.in_flight.div_ceil(stage.part().of);
        let crowd = Crowd::open(&stage, mine.into_iter().map(user).collect(), in_flight);
        connected += crowd.wait(&stage).await;
        add(&mut sum, before.until_now(&mut stage)?);
        settle(&mut stage, args.settle, &format!("wave {}", wave + 1)).await;
        full.push(stage.watcher.sample() as f64);
        crowd.close().await?;
        settle(&mut stage, args.settle, "closed").await;
        empty.push(stage.watcher.sample() as f64);
    }
    let mut outcome = finish::outcome(&stage, "connect-storm", &sum)?;
    outcome.setting("connections", args.connections as u64).setting("in_flight", args.in_flight as u64);
    outcome.setting("waves", args.waves as u64);
    outcome.figure("connects", connected as f64, "", Better::None, Join::Sum);
    let rate = connected as f64 / sum.seconds.max(1e-9);
    outcome.figure("connects_per_second", rate, "1/s", Better::Higher, Join::Sum);
    outcome.cost("cpu_us_per_connect", "connects");
    memory(&mut outcome, &stage, args, (&full, &empty));
    outcome.checks.errors = stage.run.errors();
    Ok(outcome)
}

/// One connection comes and goes.
pub async fn first(stage: &mut Stage) -> Result<()> {
    use crate::target::{Plug, Side};
    let user = format!("pb{}-first-{}", stage.run.id, stage.part().index);
    drop(stage.place.connect(Plug { user: &user, index: 0, side: Side::Receiver }).await?);
    sleep(Duration::from_millis(200)).await;
    stage.watch_again()
}

async fn settle(stage: &mut Stage, seconds: f64, what: &str) {
    stage.progress.show("settling", 1.0, what);
    sleep(Duration::from_secs_f64(seconds)).await;
    stage.progress.clear();
}

fn add(sum: &mut Window, wave: Window) {
    sum.seconds += wave.seconds;
    if sum.servers.is_empty() {
        sum.servers = wave.servers;
        return;
    }
    for (sum, wave) in sum.servers.iter_mut().zip(wave.servers) {
        sum.cpu_us += wave.cpu_us;
        sum.rss_kib_peak = sum.rss_kib_peak.max(wave.rss_kib_peak);
        sum.rss_kib_after = wave.rss_kib_after;
    }
}

fn memory(outcome: &mut Outcome, stage: &Stage, args: &Args, (full, empty): (&[f64], &[f64])) {
    let ([first, ..], [.., last], [.., left]) = (full, full, empty) else { return };
    if stage.watcher.is_empty() {
        return;
    }
    for (wave, kib) in full.iter().enumerate() {
        outcome.figure(&format!("rss_kib_wave_{}", wave + 1), *kib, "KiB", Better::Lower, Join::Max);
    }
    outcome.figure("rss_kib_empty", *left, "KiB", Better::Lower, Join::Max);
    let each = (first - stage.watcher.before() as f64) / args.connections as f64;
    outcome.figure("rss_kib_per_connection", each, "KiB", Better::Lower, Join::Max);
    outcome.figure("rss_last_to_first", last / first, "x", Better::Lower, Join::Max);
    outcome.figure("rss_empty_to_first", left / first, "x", Better::Lower, Join::Max);
}
