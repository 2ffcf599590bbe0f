//! Appending messages to some engine from many tasks at once, and what that takes: processor time of everybody who takes
//! part, and time by the clock.
//!
//! Must not know: which engine.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use parlance_backplane::{Appended, Backplane, Change, MemberSet};
use parlance_model::{Author, ConversationId, ConversationKind, Message, UserId};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// Tasks that append at the same time, each to a conversation of its own and one message after the other.
const TASKS: [u64; 3] = [1, 16, 256];

/// What is measured.
#[derive(Clone, Copy)]
enum Time {
    /// Of this process and the servers.
    Cpu,
    Wall,
}

/// An engine and who else spends time for it.
pub struct Subject {
    pub name: &'static str,
    pub engine: Backplane,
    /// The processes of its servers.
    pub servers: Vec<u32>,
}

/// The processor time that each thread of some processes has had.
pub struct Spent(BTreeMap<PathBuf, Duration>);

impl Spent {
    /// What was spent since; of a thread that has ended meanwhile (idle ones end) nothing is known any more.
    pub fn since(&self, before: &Self) -> Duration {
        let earlier = |thread: &PathBuf| before.0.get(thread).copied().unwrap_or_default();
        self.0.iter().map(|(thread, spent)| spent.saturating_sub(earlier(thread))).sum()
    }
}

/// What these processes have spent.
pub fn cpu(processes: &[u32]) -> Spent {
    let of_thread = |path: PathBuf| -> Option<(PathBuf, Duration)> {
        let nanos = std::fs::read_to_string(path.join("schedstat")).ok()?.split(' ').next()?.parse().ok()?;
        Some((path, Duration::from_nanos(nanos)))
    };
    let threads = processes.iter().filter_map(|pid| std::fs::read_dir(format!("/proc/{pid}/task")).ok());
    Spent(threads.flatten().flatten().filter_map(|thread| of_thread(thread.path())).collect())
}

/// A runtime as the gateway has it.
pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime")
}

pub fn user(name: &str) -> UserId {
    UserId::parse(name).expect("an id")
}

pub fn conversation(task: u64) -> ConversationId {
    ConversationId::parse(&format!("bench-{task}")).expect("an id")
}

/// About two hundred bytes.
pub fn message(number: u64) -> Message {
    Message {
        author: Author::bare(user("alice")),
        client_id: Some(format!("{number:032x}").into()),
        body: "See you at eight in front of the cinema, bring the tickets please.".repeat(3).into(),
        metadata: None,
        extra: None,
        trace: None,
    }
}

/// Makes the conversation of a task, with two members.
pub async fn create(engine: &Backplane, task: u64) {
    let change = Change {
        id: conversation(task),
        number: None,
        create: true,
        only_create: true,
        kind: ConversationKind::Dm,
        title: None,
        members: MemberSet::Exactly(vec![user("alice"), user("bob")]),
        by: None,
    };
    engine.conversations.change(change).await.expect("the engine answers").expect("a conversation");
}

/// One task: so many messages.
async fn append(engine: Backplane, task: u64, first: u64, count: u64) {
    let conversation = conversation(task);
    for number in first..first + count {
        let appended = engine.log.append(&conversation, message(number)).await.expect("the engine answers");
        assert!(matches!(appended, Appended::New(_)), "not appended: {appended:?}");
    }
}

/// What so many appends take, from so many tasks.
fn take(
    subject: &Subject,
    runtime: &Runtime,
    (tasks, times): (u64, u64),
    next: &mut u64,
    time: Time,
) -> Duration {
    let each = times.div_ceil(tasks);
    let processes: Arc<[u32]> = subject.servers.iter().copied().chain([std::process::id()]).collect();
    let (before, began) = (cpu(&processes), Instant::now());
    runtime.block_on(async {
        let mut all = JoinSet::new();
        for task in 0..tasks {
            all.spawn(append(subject.engine.clone(), task, *next, each));
        }
        while let Some(done) = all.join_next().await {
            done.expect("no task fails");
        }
    });
    *next += each;
    let spent = match time {
        Time::Cpu => cpu(&processes).since(&before),
        Time::Wall => began.elapsed(),
    };
    spent.mul_f64(times as f64 / (each * tasks) as f64)
}

/// Measures an engine: `append/<name>-cpu/<tasks>` and `append/<name>-wall/<tasks>`, each for one message.
pub fn measure(criterion: &mut Criterion, runtime: &Runtime, subject: &Subject) {
    runtime.block_on(async {
        for task in 0..TASKS[TASKS.len() - 1] {
            create(&subject.engine, task).await;
        }
    });
    let mut next = 1;
    for (what, time) in [("cpu", Time::Cpu), ("wall", Time::Wall)] {
        let mut group = criterion.benchmark_group(format!("append/{}-{what}", subject.name));
        group.sample_size(10).throughput(Throughput::Elements(1));
        group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
        for tasks in TASKS {
            group.bench_function(tasks.to_string(), |bencher| {
                bencher.iter_custom(|times| take(subject, runtime, (tasks, times), &mut next, time));
            });
        }
        group.finish();
    }
}
