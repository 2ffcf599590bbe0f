//! One run, from starting Redis to the verdict.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlance_client::Dialect;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::actor::{Actor, Given, Phase};
use super::apply::Stage;
use super::catchup::Item;
use super::check::{Report, Run};
use super::door::{Door, Line};
use super::dump::Dump;
use super::faults::Fault;
use super::history::{Origin, Recorder, What};
use super::plan::{Plan, Role, Size};
use super::probes::{FLOOD, FLOODED, Probe, TWIN};
use super::progress::Progress;
use super::rig::Rig;
use super::scenario::Scenario;
use super::stock::StockActor;
use crate::Stock;

/// How long everybody may take to be in at first.
const ARRIVAL: Duration = Duration::from_secs(20);
/// How long what is under way at the end of the load may take.
const SETTLE: Duration = Duration::from_secs(25);
/// When the one who leaves without a word does.
const LEAVE_MS: u64 = 1500;
/// What a run needs after that for everybody to hear of it, even right after an outage.
pub const LEAVER_MS: u64 = LEAVE_MS + 35_000 + 2000 + 15_000 + 3000;

/// The clients of a run.
struct Cast {
    doors: Vec<Door>,
    roles: Vec<Role>,
    progress: Vec<Progress>,
    leaver: Option<usize>,
    notes: Vec<Recorder>,
    tasks: JoinSet<Result<()>>,
    phase: watch::Sender<Phase>,
}

/// Runs a scenario, leaves everything in `folder`, and judges it.
///
/// # Errors
/// When it cannot be run; a violation is no error.
pub async fn run(scenario: &Scenario, folder: &Path) -> Result<Report> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join("scenario.json"), serde_json::to_string_pretty(scenario)?)?;
    let origin = Origin::new();
    let notes = Recorder::create(origin, &folder.join("rig.jsonl"))?;
    let size = Size { users: scenario.users, conversations: 4, leaver: scenario.leaver };
    let plan = Plan::draw(scenario.seed, size);
    let mut members = plan.conversations.clone();
    if let Some(room) = members.values_mut().next() {
        room.push(TWIN.to_owned());
    }
    if scenario.has(Fault::Flood) {
        members.insert(FLOODED.to_owned(), vec![FLOOD.to_owned()]);
    }
    let mut rig = Rig::start(scenario, notes.clone()).await.context("starting")?;
    rig.seed(&members).await?;
    rig.until_ready().await?;
    let mut cast = enter(&rig, &plan, &members, (scenario, origin, folder)).await?;
    let played = play(&mut rig, &mut cast, &mut members, scenario).await;
    let ended = end(&mut rig, cast, &members, folder).await;
    notes.finish()?;
    rig.save_logs(folder)?;
    played?;
    ended?;
    Ok(Run::load(folder)?.judge())
}

async fn enter(
    rig: &Rig,
    plan: &Plan,
    members: &BTreeMap<String, Vec<String>>,
    (scenario, origin, folder): (&Scenario, Origin, &Path),
) -> Result<Cast> {
    let (phase, seen) = watch::channel(Phase::Enter);
    let mut cast = Cast {
        doors: Vec::new(),
        roles: Vec::new(),
        progress: Vec::new(),
        leaver: None,
        notes: Vec::new(),
        tasks: JoinSet::new(),
        phase,
    };
    let (shared, stock) = (Arc::new(members.clone()), Stock::start()?);
    for role in &plan.roles {
        let notes = Recorder::create(origin, &folder.join(format!("{}.jsonl", role.name)))?;
        let door = Door::open(rig.targets.clone(), notes.clone(), role.seed).await?;
        let progress = Progress::default();
        let given = Given {
            role: role.clone(),
            members: Arc::clone(&shared),
            address: door.address(),
            targets: rig.targets.clone(),
            notes: notes.clone(),
            phase: seen.clone(),
            progress: progress.clone(),
        };
        if let Some(transports) = role.stock {
            cast.tasks.spawn(StockActor::start(given, &stock, transports)?.run());
        } else {
            cast.tasks.spawn(Actor::start(given)?.run());
        }
        if role.leaves {
            cast.leaver = Some(cast.doors.len());
        }
        cast.doors.push(door);
        cast.roles.push(role.clone());
        cast.progress.push(progress);
        cast.notes.push(notes);
    }
    let probe = |name: &str| -> Result<Probe> {
        let notes = Recorder::create(origin, &folder.join(format!("{name}.jsonl")))?;
        Ok(Probe { targets: rig.targets.clone(), notes, phase: seen.clone() })
    };
    if let Some(room) = members.keys().next() {
        cast.tasks.spawn(probe("twins")?.twins(room.clone()));
    }
    if scenario.has(Fault::Flood) {
        cast.tasks.spawn(probe("flood")?.flood());
    }
    Ok(cast)
}

async fn play(
    rig: &mut Rig,
    cast: &mut Cast,
    members: &mut BTreeMap<String, Vec<String>>,
    scenario: &Scenario,
) -> Result<()> {
    let inside = async {
        while cast.progress.iter().any(|progress| !progress.is_connected()) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(ARRIVAL, inside).await.context("not everybody gets in")?;
    // A first subscription shows what comes after it, and nobody says when that is.
    sleep(Duration::from_millis(1000)).await;
    cast.phase.send_replace(Phase::Load);
    let began = Instant::now();
    if let Some(leaver) = cast.leaver {
        sleep(Duration::from_millis(LEAVE_MS)).await;
        cast.doors[leaver].set(Line::Silent);
        cast.notes[leaver].note(What::Gone);
    }
    let mut healed = Instant::now();
    let mut stage = Stage::new(rig, &cast.doors, members, (scenario.seed, scenario.long));
    for step in &scenario.steps {
        tokio::time::sleep_until(began + Duration::from_millis(step.at_ms)).await;
        stage.apply(step.fault).await?;
        healed = Instant::now();
    }
    let least = if scenario.leaver { scenario.load_ms.max(LEAVER_MS) } else { scenario.load_ms };
    let until = (began + Duration::from_millis(least)).max(healed + Duration::from_millis(scenario.after_ms));
    tokio::time::sleep_until(until).await;
    rig.notes.note(What::Settle);
    cast.phase.send_replace(Phase::Settle);
    Ok(())
}

/// Waits for what is under way, as long as it may take; what is missing then, the checker finds.
async fn settle(rig: &Rig, cast: &Cast, members: &BTreeMap<String, Vec<String>>) -> Result<Dump> {
    // Whoever was just about to say something may have said it.
    sleep(Duration::from_millis(300)).await;
    let deadline = Instant::now() + SETTLE;
    while Instant::now() < deadline && cast.progress.iter().any(|progress| progress.pending() > 0) {
        sleep(Duration::from_millis(50)).await;
    }
    loop {
        let dump = Dump::read(rig, members).await?;
        let is_whole = (0..cast.progress.len()).all(|n| Some(n) == cast.leaver || has_all(cast, n, &dump));
        if is_whole || Instant::now() > deadline {
            return Ok(dump);
        }
        sleep(Duration::from_millis(300)).await;
    }
}

/// Whether a client has shown all that is in the logs of its conversations.
fn has_all(cast: &Cast, n: usize, dump: &Dump) -> bool {
    let Role { user, dialect, .. } = &cast.roles[n];
    let is_for = |item: &&Item| *dialect != Dialect::Sechat || item.sender != *user;
    let mine = dump.logs.iter().filter(|(id, _)| dump.members[*id].contains(user));
    let mut mine = mine.map(|(id, items)| (id, items.iter().filter(is_for)));
    mine.all(|(id, items)| cast.progress[n].has_shown(id, items))
}

async fn end(
    rig: &mut Rig,
    mut cast: Cast,
    members: &BTreeMap<String, Vec<String>>,
    folder: &Path,
) -> Result<()> {
    let mut dump = settle(rig, &cast, members).await;
    if let (Ok(dump), Some(outside)) = (&mut dump, &rig.outside) {
        dump.outside = Some(outside.seen(&dump.logs).await?);
    }
    cast.phase.send_replace(Phase::Stop);
    let joined = async {
        while let Some(done) = cast.tasks.join_next().await {
            done.context("a client panicked")??;
        }
        Ok::<_, anyhow::Error>(())
    };
    let joined = timeout(Duration::from_secs(20), joined).await.context("the clients do not end");
    cast.notes.iter().try_for_each(Recorder::finish)?;
    rig.end().await;
    dump?.save(&folder.join("dump.json"))?;
    joined??;
    for node in 0..rig.nodes.len() {
        let Ok(gateway) = rig.node(node) else { continue };
        if gateway.pid().is_some() {
            let ended = gateway.sigterm().await;
            rig.notes.note(What::Exited { node, code: ended.ok().and_then(|status| status.code()) });
        }
    }
    ensure!(cast.doors.len() == cast.roles.len(), "a door is missing");
    Ok(())
}
