//! People come and go: how long until the others know, and what it costs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args as ClapArgs;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::common::{Common, Stage};
use super::finish;
use crate::load::run::{Run, Timing};
use crate::net::Line;
use crate::outcome::{Better, Join, Outcome};
use crate::target::rooms::{self, Room};
use crate::target::{Kind, Place, Plug, Side};

/// What a socket may have subscribed, less what it needs itself.
const SUBSCRIPTIONS: usize = 120;

/// People come and go, --rate a second: others who share a room with them hear of it (in the dialects that tell presence).
#[derive(ClapArgs, Clone, Debug)]
pub struct Args {
    /// How many watch.
    #[arg(long, default_value_t = 10)]
    pub watchers: usize,
    /// How many come and go, in turn.
    #[arg(long, default_value_t = 100)]
    pub users: usize,
    /// How long each stays, in milliseconds.
    #[arg(long, default_value_t = 500)]
    pub stay: u64,
}

/// When each of those who come and go was meant to come last; 0 before.
type Comings = Arc<Vec<AtomicU64>>;

/// Runs it.
pub async fn run(args: &Args, common: &Common) -> Result<Outcome> {
    ensure!(args.users > 0 && args.watchers > 0, "nobody is there");
    ensure!(common.part.of == 1 && !common.closed, "presence is one process's, on a schedule");
    ensure!(common.target.kind == Kind::Parlance, "presence is a matter of dialects");
    let mut stage = Stage::open(common).await?;
    let run = stage.run.clone();
    let room = rooms::name(&stage.place, &run.id, 0);
    let names = |kind: char, count: usize| (0..count).map(move |index| (kind, index));
    let user = |(kind, index): (char, usize)| format!("pb{}{kind}{index}", run.id);
    let members = names('w', args.watchers).chain(names('c', args.users)).map(user).collect();
    stage.make(&[Room { name: room.clone(), members }]).await?;
    let comings: Comings = Arc::new((0..args.users).map(|_| AtomicU64::new(0)).collect());
    let mut tasks = JoinSet::new();
    for index in 0..args.watchers {
        let line = watcher(&stage.place, &room, args, (index, &run)).await?;
        tasks.spawn(watch(line, run.clone(), comings.clone(), index));
    }
    stage.begin().await?;
    let churn = churn(stage.place.clone(), run.clone(), (args.clone(), common.clone(), room), comings);
    tasks.spawn(churn);
    let window = finish::measure(&mut stage, |_| true).await?;
    run.stop.cancel();
    while let Some(ended) = tasks.join_next().await {
        ended?;
    }
    let mut outcome = finish::outcome(&stage, "presence-churn", &window)?;
    outcome.series.retain(|series| series.name != "deliveries");
    outcome
        .setting("watchers", args.watchers as u64)
        .setting("users", args.users as u64)
        .setting("stay", args.stay);
    outcome.figure("comings", window.counted.sent as f64, "", Better::None, Join::Sum);
    outcome.figure("heard", window.counted.events as f64, "", Better::None, Join::Sum);
    outcome.cost("cpu_us_per_coming", "comings");
    outcome.checks.errors = run.errors();
    if window.counted.events == 0 {
        outcome.warn("nobody heard of anybody: this dialect tells no presence");
    }
    Ok(outcome)
}

async fn watcher(place: &Place, room: &str, args: &Args, (index, run): (usize, &Arc<Run>)) -> Result<Line> {
    let user = format!("pb{}w{index}", run.id);
    let mut line = place.connect(Plug { user: &user, index, side: Side::Receiver }).await?;
    place.join(&mut line, room, 0, &mut |_| {}).await?;
    for number in 0..args.users.min(SUBSCRIPTIONS) {
        let Some(request) = place.speech().watch(&format!("pb{}c{number}", run.id), number as u64 + 1) else {
            break;
        };
        place.ask(&mut line, &request, number as u64 + 1, &mut |_| {}).await?;
    }
    Ok(line)
}

async fn watch(mut line: Line, run: Arc<Run>, comings: Comings, shard: usize) {
    let prefix = format!("pb{}c", run.id);
    let speech_prefix = prefix.as_str();
    let hearing = async {
        loop {
            let mut each = |payload: &[u8]| {
                let Some(at) = memchr::memmem::find(payload, speech_prefix.as_bytes()) else { return };
                let online = [&b"\"online\""[..], b"\"isOnline\":true", b"user:online", b"user_joined"];
                if !online.iter().any(|word| memchr::memmem::find(payload, word).is_some()) {
                    return;
                }
                let digits =
                    payload[at + speech_prefix.len()..].iter().take_while(|byte| byte.is_ascii_digit());
                let index = digits.fold(0usize, |sum, digit| sum * 10 + usize::from(digit - b'0'));
                let intended = comings.get(index).map_or(0, |coming| coming.load(Ordering::Relaxed));
                if intended > 0 {
                    run.counts.events.fetch_add(1, Ordering::Relaxed);
                    run.time(shard, Timing::Presence, intended);
                }
            };
            if let Err(error) = line.turn(&mut each).await {
                run.failed("watcher", &error);
                return;
            }
        }
    };
    tokio::select! {
        () = hearing => {}
        () = run.stop.cancelled() => {}
    }
}

async fn churn(
    place: Arc<Place>,
    run: Arc<Run>,
    (args, common, room): (Args, Common, String),
    comings: Comings,
) {
    let mut visits = JoinSet::new();
    for (number, intended) in common.plan(1).messages().map(|(_, due)| due).enumerate() {
        run.until(intended).await;
        let (place, run, room, comings) = (place.clone(), run.clone(), room.clone(), comings.clone());
        let (index, stay, watchers) = (number % args.users, Duration::from_millis(args.stay), args.watchers);
        visits.spawn(async move {
            let user = format!("pb{}c{index}", run.id);
            comings[index].store(intended.max(1), Ordering::Relaxed);
            let plug = Plug { user: &user, index: watchers + index, side: Side::Publisher };
            let visit = async {
                let mut line = place.connect(plug).await?;
                run.time(index, Timing::Connect, intended);
                place.join(&mut line, &room, 0, &mut |_| {}).await?;
                run.counts.sent.fetch_add(1, Ordering::Relaxed);
                tokio::time::timeout(stay, line.until(|_| None::<()>, &mut |_| {})).await.unwrap_or(Ok(()))
            };
            if let Err(error) = visit.await {
                run.failed("visit", &error);
            }
        });
        while visits.try_join_next().is_some() {}
    }
    sleep(Duration::from_millis(args.stay)).await;
    visits.join_all().await;
}
