//! The durable file: what a restart and a `kill -9` leave, and retention by age.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parlance_backplane::embedded::{Embedded, Options};
use parlance_backplane::trail::{Kinds, Turn};
use parlance_backplane::{
    AckLevel, Appended, Backplane, Change, ChangeRefused, Fault, Find, MemberSet, Range, Reacted,
};
use parlance_model::{
    Author, BLOCK_BITS, ConversationId, ConversationKind, LogKey, Message, NodeId, ReceiptKind, Record,
    Status, Time, UserId,
};
use redb::ReadableTable;
use tokio::task::JoinSet;

const START: u64 = 1_755_633_600_000;

fn user(id: &str) -> UserId {
    UserId::parse(id).unwrap()
}

fn conv(id: &str) -> ConversationId {
    ConversationId::parse(id).unwrap()
}

fn open(path: &Path, clock: &Arc<AtomicU64>) -> Result<Embedded, Fault> {
    let (clock, path) = (clock.clone(), Some(path.to_owned()));
    Embedded::open(
        Options { path, ..Options::default() },
        Arc::new(move || Time(clock.load(Ordering::SeqCst))),
    )
}

fn attach(engine: &Embedded) -> Backplane {
    engine.attach(NodeId::parse("n1").unwrap())
}

fn message(client_id: &str) -> Message {
    Message {
        author: Author::bare(user("a")),
        client_id: Some(client_id.into()),
        body: client_id.into(),
        metadata: None,
        extra: None,
        trace: None,
    }
}

async fn create(node: &Backplane, id: &str) -> u32 {
    let change = Change {
        id: conv(id),
        create: true,
        only_create: true,
        kind: ConversationKind::Dm,
        title: None,
        members: MemberSet::Exactly(vec![user("a"), user("b")]),
        number: None,
        by: None,
    };
    node.conversations.change(change).await.unwrap().unwrap().conversation.number()
}

async fn bodies(node: &Backplane) -> Vec<String> {
    let (mut all, mut seq) = (Vec::new(), 0);
    loop {
        let range = Range::After { seq, limit: 1000 };
        let page = node.log.range(&LogKey::Conversation(conv("c")), range).await.unwrap();
        for entry in page.entries {
            assert_eq!(entry.seq, seq + 1, "dense");
            seq = entry.seq;
            if let Record::Message(message) = entry.record {
                all.push(message.body.to_string());
            }
        }
        if !page.more {
            return all;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_everything() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(AtomicU64::new(START));
    let engine = open(directory.path(), &clock).unwrap();
    let node = attach(&engine);
    assert_eq!(node.ack_level, AckLevel::File);
    let number = create(&node, "c").await;
    let gone = create(&node, "gone").await;
    node.conversations.delete(&conv("gone")).await.unwrap();
    let Appended::New(stored) = node.log.append(&conv("c"), message("m1")).await.unwrap() else { panic!() };
    node.cursors.advance(&conv("c"), &user("b"), ReceiptKind::Read, 2).await.unwrap();
    let pointer = [(user("b"), LogKey::Conversation(conv("c")), 2)];
    assert_eq!(node.sequences.assign(&pointer).await.unwrap(), vec![1]);
    node.shared.save("k", vec![1, 2], Some(Duration::from_secs(3600))).await.unwrap();
    let before = node.conversations.get(&conv("c")).await.unwrap();
    assert!(
        matches!(open(directory.path(), &clock), Err(Fault::Unavailable(why)) if why.contains("in use")),
        "one process holds the file"
    );
    engine.close().await;
    assert!(matches!(node.log.append(&conv("c"), message("m2")).await, Err(Fault::Unavailable(_))));
    assert!(matches!(node.conversations.get(&conv("c")).await, Err(Fault::Unavailable(_))));

    clock.fetch_add(60_000, Ordering::SeqCst);
    let engine = open(directory.path(), &clock).unwrap();
    let node = attach(&engine);
    assert_eq!(node.conversations.get(&conv("c")).await.unwrap(), before);
    assert_eq!(bodies(&node).await, ["m1"]);
    let again = node.log.append(&conv("c"), message("m1")).await.unwrap();
    assert_eq!(again, Appended::Duplicate(stored));
    let found = node.log.find(Find::Id(stored.id)).await.unwrap();
    assert_eq!(found, Some((LogKey::Conversation(conv("c")), stored.seq)));
    let (version, cursors) = node.cursors.cursors(&conv("c")).await.unwrap();
    assert_eq!((version, cursors[0].read), (1, 2));
    assert_eq!(node.sequences.assign(&pointer).await.unwrap(), vec![1]);
    assert_eq!(node.shared.load("k").await.unwrap(), Some(vec![1, 2]));
    let fresh = create(&node, "d").await;
    assert!(fresh != number && fresh != gone, "numbers are not used again");
    let asked = Change {
        id: conv("e"),
        create: true,
        only_create: false,
        kind: ConversationKind::Dm,
        title: None,
        members: MemberSet::Exactly(vec![]),
        number: Some(gone),
        by: None,
    };
    assert_eq!(node.conversations.change(asked).await.unwrap(), Err(ChangeRefused::NumberTaken));
    assert_eq!(node.presence.status(&[user("a")]).await.unwrap()[0].status, Status::Offline);
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dedupe_window_and_retention_end_by_age() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(AtomicU64::new(START));
    let engine = open(directory.path(), &clock).unwrap();
    let node = attach(&engine);
    create(&node, "c").await;
    let Appended::New(first) = node.log.append(&conv("c"), message("m1")).await.unwrap() else { panic!() };
    clock.fetch_add(48 * 3_600_000 - 1, Ordering::SeqCst);
    let again = node.log.append(&conv("c"), message("m1")).await.unwrap();
    assert_eq!(again, Appended::Duplicate(first));
    clock.fetch_add(1, Ordering::SeqCst);
    let Appended::New(second) = node.log.append(&conv("c"), message("m1")).await.unwrap() else { panic!() };
    assert_ne!(first.id, second.id);
    let by_client = Find::ClientId { author: user("a"), id: "m1".into(), conversation: None };
    let found = node.log.find(by_client.clone()).await.unwrap();
    assert_eq!(found.map(|(_, seq)| seq), Some(second.seq));
    clock.fetch_add(40 * 24 * 3_600_000, Ordering::SeqCst);
    node.log.append(&conv("c"), message("m9")).await.unwrap();
    assert_eq!(node.log.find(by_client).await.unwrap(), None);
    let range = Range::After { seq: 0, limit: 10 };
    let page = node.log.range(&LogKey::Conversation(conv("c")), range).await.unwrap();
    assert_eq!((page.first, page.head, page.entries.len()), (4, 4, 1));
    engine.close().await;
}

async fn react(node: &Backplane, target: u64, kind: &str, added: bool) -> Reacted {
    node.log.react(&conv("c"), Author::bare(user("b")), target, kind.into(), added).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn reactions_stand_over_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(AtomicU64::new(START));
    let engine = open(directory.path(), &clock).unwrap();
    let node = attach(&engine);
    create(&node, "c").await;
    let Appended::New(said) = node.log.append(&conv("c"), message("m1")).await.unwrap() else { panic!() };
    let Reacted::New(stands) = react(&node, said.seq, "up", true).await else { panic!() };
    for added in [true, false] {
        assert!(matches!(react(&node, said.seq, "down", added).await, Reacted::New(_)));
    }
    engine.close().await;

    clock.fetch_add(60_000, Ordering::SeqCst);
    let engine = open(directory.path(), &clock).unwrap();
    let node = attach(&engine);
    assert_eq!(react(&node, said.seq, "up", true).await, Reacted::Same(Some(stands)));
    assert_eq!(react(&node, said.seq, "down", false).await, Reacted::Same(None));
    let read = node.reactions.standing(&conv("c"), 1, 99).await.unwrap();
    assert_eq!(read.iter().map(|one| (one.seq, one.at)).collect::<Vec<_>>(), [(stands.seq, stands.at)]);
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reactions_of_an_older_file_get_their_places() {
    const OLD: redb::TableDefinition<'_, (&str, u64, &str, &str), ()> =
        redb::TableDefinition::new("reactions");
    const NEW: redb::TableDefinition<'_, (&str, u64, &str, &str), u64> =
        redb::TableDefinition::new("standing");
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(AtomicU64::new(START));
    let engine = open(directory.path(), &clock).unwrap();
    let node = attach(&engine);
    create(&node, "c").await;
    let Appended::New(said) = node.log.append(&conv("c"), message("m1")).await.unwrap() else { panic!() };
    for added in [true, false] {
        assert!(matches!(react(&node, said.seq, "up", added).await, Reacted::New(_)));
        assert!(matches!(react(&node, said.seq, "down", added).await, Reacted::New(_)));
    }
    let Reacted::New(stands) = react(&node, said.seq, "up", true).await else { panic!() };
    engine.close().await;
    drop((node, engine));

    let file = redb::Database::open(directory.path().join("parlance.redb")).unwrap();
    let txn = file.begin_write().unwrap();
    txn.open_table(OLD).unwrap().insert(("c:c", said.seq, "up", "b"), ()).unwrap();
    assert!(txn.delete_table(NEW).unwrap());
    txn.commit().unwrap();
    drop(file);

    let engine = open(directory.path(), &clock).unwrap();
    let node = attach(&engine);
    assert_eq!(react(&node, said.seq, "up", true).await, Reacted::Same(Some(stands)));
    assert_eq!(react(&node, said.seq, "down", false).await, Reacted::Same(None));
    assert!(matches!(react(&node, said.seq, "up", false).await, Reacted::New(_)));
    engine.close().await;
    drop((node, engine));
    // Once: what was removed since does not come back.
    let engine = open(directory.path(), &clock).unwrap();
    assert_eq!(react(&attach(&engine), said.seq, "up", false).await, Reacted::Same(None));
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_block_is_found_by_its_number() {
    const LOGS: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new("logs");
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(AtomicU64::new(START));
    let engine = open(directory.path(), &clock).unwrap();
    let node = attach(&engine);
    let first = create(&node, "c").await;
    engine.close().await;
    drop((node, engine));

    // As after four million entries: the log stands at the end of its first block.
    let file = redb::Database::open(directory.path().join("parlance.redb")).unwrap();
    let txn = file.begin_write().unwrap();
    {
        let mut logs = txn.open_table(LOGS).unwrap();
        let row = String::from_utf8(logs.get("c:c").unwrap().unwrap().value().to_vec()).unwrap();
        let moved = row.replacen("\"s\":1,", &format!("\"s\":{},", (1 << BLOCK_BITS) - 1), 1);
        assert_ne!(row, moved);
        logs.insert("c:c", moved.as_bytes()).unwrap();
    }
    txn.commit().unwrap();
    drop(file);

    let engine = open(directory.path(), &clock).unwrap();
    let node = attach(&engine);
    let Appended::New(said) = node.log.append(&conv("c"), message("m1")).await.unwrap() else { panic!() };
    assert_eq!((said.seq, said.id.offset()), (1 << BLOCK_BITS, 0));
    assert_ne!(said.id.number(), first);
    let key = LogKey::Conversation(conv("c"));
    for (number, base) in [(first, 0), (said.id.number(), 1 << BLOCK_BITS)] {
        assert_eq!(node.log.find(Find::Number(number)).await.unwrap(), Some((key.clone(), base)));
    }
    engine.close().await;
}

/// The child of [`a_kill_loses_nothing_acknowledged`]: appends from eight callers and prints what was acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn child_appends_until_it_is_killed() {
    let Ok(path) = std::env::var("PARLANCE_TEST_CRASH_DIR") else { return };
    let engine = open(Path::new(&path), &Arc::new(AtomicU64::new(START))).unwrap();
    let node = attach(&engine);
    create(&node, "c").await;
    let mut tasks = JoinSet::new();
    for caller in 0..8 {
        let node = node.clone();
        tasks.spawn(async move {
            for n in 0.. {
                let name = format!("{}-{caller}-{n}", std::process::id());
                let Appended::New(stored) = node.log.append(&conv("c"), message(&name)).await.unwrap() else {
                    panic!("fresh ids are new")
                };
                println!("acked {} {name}", stored.seq);
            }
        });
    }
    tasks.join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_loses_nothing_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let mut acked: Vec<(u64, String)> = Vec::new();
    for _ in 0..3 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_appends_until_it_is_killed", "--nocapture"])
            .env("PARLANCE_TEST_CRASH_DIR", directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let before = acked.len();
        for line in lines.map_while(Result::ok) {
            let mut words = line.split_once("acked ").map_or("", |(_, rest)| rest).split(' ');
            if let (Some(seq), Some(name)) = (words.next().and_then(|seq| seq.parse().ok()), words.next()) {
                acked.push((seq, name.to_owned()));
            }
            if acked.len() == before + 200 {
                // SIGKILL; what it had printed until then is still read.
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(acked.len() >= before + 200, "the child acknowledged nothing");
    }
    let engine = open(directory.path(), &Arc::new(AtomicU64::new(START))).unwrap();
    let node = attach(&engine);
    let all = bodies(&node).await;
    for (seq, name) in &acked {
        // Sequence 1 is the record of the creation.
        let index = usize::try_from(*seq).unwrap() - 2;
        assert_eq!(all.get(index), Some(name), "acknowledged, and not where it was");
        let resent = node.log.append(&conv("c"), message(name)).await.unwrap();
        assert!(matches!(resent, Appended::Duplicate(stored) if stored.seq == *seq));
    }
    let mut unique = all.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), all.len(), "everything is there once");
    engine.close().await;
}

#[tokio::test]
async fn what_of_a_trail_goes_because_too_many_wait_is_counted() {
    let options = Options { trail: Kinds::ALL, trail_steps: 5, ..Options::default() };
    let engine = Embedded::open(options, Arc::new(|| Time(START))).unwrap();
    let node = attach(&engine);
    create(&node, "c").await;
    let turn = Turn { group: "archive", part: 0, hold: Duration::from_secs(10) };
    node.trail.take(&turn, 1).await.unwrap();
    for n in 0..8 {
        node.log.append(&conv("c"), message(&n.to_string())).await.unwrap();
    }
    // Two of its creation.
    let backlog = node.trail.backlog("archive").await.unwrap();
    assert_eq!((backlog.steps, backlog.dropped), (5, 5));
    engine.close().await;
}
