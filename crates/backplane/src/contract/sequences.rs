//! The per-user integer sequence.

use parlance_model::LogKey;
use tokio::task::JoinSet;

use super::{Rig, conv, create, say, user};

fn log(id: &str) -> LogKey {
    LogKey::Conversation(conv(id))
}

pub async fn assignment_is_idempotent_and_grows(rig: &dyn Rig) {
    let node = &rig.nodes(1).await[0];
    for id in ["c", "d"] {
        create(node, id, &["u"]).await;
        for _ in 0..5 {
            say(node, id, "u", "x").await;
        }
    }
    let wanted = [
        (user("u"), log("c"), 3),
        (user("u"), log("d"), 1),
        (user("v"), log("c"), 3),
        (user("u"), log("c"), 3),
    ];
    assert_eq!(node.sequences.assign(&wanted).await.unwrap(), vec![1, 2, 1, 1]);
    assert_eq!(node.sequences.assign(&wanted).await.unwrap(), vec![1, 2, 1, 1]);
    let more = [(user("u"), log("c"), 2), (user("u"), LogKey::User(user("u")), 9)];
    assert_eq!(node.sequences.assign(&more).await.unwrap(), vec![3, 4]);
    let all = [(1, log("c"), 3), (2, log("d"), 1), (3, log("c"), 2), (4, LogKey::User(user("u")), 9)];
    assert_eq!(node.sequences.pointers(&user("u"), 0, 10).await.unwrap(), all);
    assert_eq!(node.sequences.pointers(&user("u"), 1, 2).await.unwrap(), all[1..3]);
    assert_eq!(node.sequences.pointers(&user("u"), 4, 10).await.unwrap(), []);
    let mut marks = node.sequences.marks(&user("u")).await.unwrap();
    marks.sort();
    assert_eq!(marks, vec![(log("c"), 3), (log("d"), 1), (LogKey::User(user("u")), 9)]);
    assert_eq!(node.sequences.marks(&user("nobody")).await.unwrap(), vec![]);
}

pub async fn concurrent_assignments_agree(rig: &dyn Rig) {
    let nodes = rig.nodes(2).await;
    create(&nodes[0], "c", &["u"]).await;
    for _ in 0..10 {
        say(&nodes[0], "c", "u", "x").await;
    }
    let mut tasks = JoinSet::new();
    for n in 0..24u64 {
        let node = nodes[usize::from(n % 2 == 0)].clone();
        tasks.spawn(async move {
            let seq = n % 10 + 1;
            (seq, node.sequences.assign(&[(user("u"), log("c"), seq)]).await.unwrap()[0])
        });
    }
    let mut pairs = tasks.join_all().await;
    pairs.sort_unstable();
    pairs.dedup();
    assert_eq!(pairs.len(), 10, "each pointer has one integer: {pairs:?}");
    let mut integers: Vec<u64> = pairs.iter().map(|(_, integer)| *integer).collect();
    integers.sort_unstable();
    assert_eq!(integers, (1..=10).collect::<Vec<_>>());
}
