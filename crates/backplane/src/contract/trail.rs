//! Trails: every step, at least once, in order, to each group; to one node at a time.

use std::time::Duration;

use parlance_model::{ConnectionId, ReceiptKind, Record, Status};

use super::presence::lease;
use super::{Rig, change, conv, create, exactly, message, say, user};
use crate::trail::{ABANDONED, Backlog, Happening, Step, Taken, Turn};
use crate::{Backplane, MemberSet};

const HOLD: Duration = Duration::from_secs(10);

fn turn(group: &'static str, part: usize) -> Turn {
    Turn { group, part, hold: HOLD }
}

async fn taken(node: &Backplane, turn: &Turn, most: usize) -> Vec<Step> {
    match node.trail.take(turn, most).await.unwrap() {
        Taken::Steps(steps) => steps,
        Taken::Held(wait) => panic!("held for {wait:?}"),
    }
}

/// Everything that waits for a group, settled, in the order of each part.
async fn drained(node: &Backplane, group: &'static str) -> Vec<Step> {
    let mut all = Vec::new();
    for part in node.trail.waiting().await.unwrap() {
        let turn = turn(group, part);
        loop {
            let some = taken(node, &turn, 3).await;
            if some.is_empty() {
                break;
            }
            assert!(node.trail.settle(&turn, &some).await.unwrap());
            all.extend(some);
        }
    }
    all
}

fn said(steps: &[Step]) -> Vec<String> {
    steps
        .iter()
        .filter_map(|step| match step.what.as_ref()? {
            Happening::Entry { entry, .. } => match &entry.record {
                Record::Message(message) => Some(message.body.to_string()),
                _ => None,
            },
            _ => None,
        })
        .collect()
}

pub async fn nothing_is_kept_unless_it_is_asked_for(rig: &dyn Rig) {
    let nodes = rig.nodes(1).await;
    create(&nodes[0], "c", &["a", "b"]).await;
    say(&nodes[0], "c", "a", "x").await;
    assert!(nodes[0].trail.kinds().is_empty());
    assert_eq!(nodes[0].trail.waiting().await.unwrap(), Vec::<usize>::new());
}

pub async fn a_conversations_steps_come_in_order_and_once_they_are_settled_no_more(rig: &dyn Rig) {
    let nodes = rig.keeping(2).await;
    let by = Some(user("a"));
    let begin = crate::Change { by: by.clone(), ..change("c", exactly(&["a", "b"])) };
    nodes[0].conversations.change(begin).await.unwrap().unwrap();
    for body in ["1", "2", "3", "4"] {
        say(&nodes[1], "c", "a", body).await;
    }
    let again = message("a", "same", "5");
    nodes[0].log.append(&conv("c"), again.clone()).await.unwrap();
    nodes[1].log.append(&conv("c"), again).await.unwrap();
    let moved =
        nodes[1].cursors.advance(&conv("c"), &user("b"), ReceiptKind::Read, 3).await.unwrap().unwrap();
    nodes[1].cursors.advance(&conv("c"), &user("b"), ReceiptKind::Read, 2).await.unwrap();
    let delta = MemberSet::Delta { add: vec![user("z")], remove: vec![] };
    nodes[0].conversations.change(change("c", delta)).await.unwrap().unwrap();
    let all = drained(&nodes[0], "webhooks").await;
    let what: Vec<&Happening> = all.iter().map(|step| step.what.as_ref().unwrap()).collect();
    assert!(
        matches!(what[0], Happening::Created { conversation, by: who, .. } if *conversation == conv("c") && *who == by)
    );
    let seqs: Vec<u64> = what
        .iter()
        .filter_map(|w| if let Happening::Entry { entry, .. } = w { Some(entry.seq) } else { None })
        .collect();
    assert_eq!(seqs, (1..=7).collect::<Vec<_>>());
    assert_eq!(said(&all), ["1", "2", "3", "4", "5"]);
    assert!(what.contains(&&Happening::Cursor(moved)));
    assert_eq!(all.len(), 9);
    let mut ids: Vec<&str> = all.iter().map(|step| step.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all.len(), "each has an id of its own");
    assert!(drained(&nodes[1], "webhooks").await.is_empty());
    assert_eq!(nodes[1].trail.waiting().await.unwrap(), Vec::<usize>::new(), "what all have is not kept");
}

pub async fn what_is_not_settled_comes_again_with_the_same_id(rig: &dyn Rig) {
    let nodes = rig.keeping(2).await;
    create(&nodes[0], "c", &["a", "b"]).await;
    for body in ["1", "2", "3"] {
        say(&nodes[0], "c", "a", body).await;
    }
    let part = nodes[0].trail.waiting().await.unwrap()[0];
    let turn = turn("webhooks", part);
    let first = taken(&nodes[0], &turn, 4).await;
    assert!(first.iter().all(|step| step.taken == 1));
    let again = taken(&nodes[0], &turn, 4).await;
    assert!(again.iter().all(|step| step.taken == 2));
    let ids = |steps: &[Step]| steps.iter().map(|step| step.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&first), ids(&again));
    // One node at a time, until its time is up.
    assert!(matches!(nodes[1].trail.take(&turn, 4).await.unwrap(), Taken::Held(wait) if wait <= HOLD));
    rig.advance(HOLD + Duration::from_millis(1)).await;
    let other = taken(&nodes[1], &turn, 2).await;
    assert_eq!(ids(&other), ids(&first)[..2]);
    assert!(!nodes[0].trail.settle(&turn, &first).await.unwrap(), "it is another node's now");
    assert!(nodes[1].trail.settle(&turn, &other).await.unwrap());
    let rest = taken(&nodes[1], &turn, 9).await;
    assert_eq!(ids(&rest)[..2], ids(&first)[2..4]);
    let backlog = nodes[0].trail.backlog("webhooks").await.unwrap();
    assert!(backlog.steps >= 2 && backlog.since.is_some() && backlog.dead == 0, "{backlog:?}");
}

pub async fn each_group_gets_everything_and_what_one_lacks_is_kept(rig: &dyn Rig) {
    let nodes = rig.keeping(1).await;
    create(&nodes[0], "c", &["a", "b"]).await;
    let part = nodes[0].trail.waiting().await.unwrap()[0];
    // The archive was there, and then is away for a while.
    taken(&nodes[0], &turn("archive", part), 1).await;
    for body in ["1", "2"] {
        say(&nodes[0], "c", "a", body).await;
    }
    assert_eq!(said(&drained(&nodes[0], "webhooks").await), ["1", "2"]);
    say(&nodes[0], "c", "a", "3").await;
    assert_eq!(said(&drained(&nodes[0], "webhooks").await), ["3"]);
    assert_eq!(nodes[0].trail.backlog("webhooks").await.unwrap().steps, 0);
    assert_eq!(said(&drained(&nodes[0], "archive").await), ["1", "2", "3"]);
    assert_eq!(nodes[0].trail.waiting().await.unwrap(), Vec::<usize>::new());
}

pub async fn what_is_put_aside_keeps_its_id_and_can_be_brought_back(rig: &dyn Rig) {
    let nodes = rig.keeping(1).await;
    create(&nodes[0], "c", &["a", "b"]).await;
    let part = nodes[0].trail.waiting().await.unwrap()[0];
    // Known from the beginning: what all known groups have is not kept.
    taken(&nodes[0], &turn("archive", part), 1).await;
    drained(&nodes[0], "webhooks").await;
    drained(&nodes[0], "archive").await;
    for body in ["1", "2", "3"] {
        say(&nodes[0], "c", "a", body).await;
    }
    let turn = turn("webhooks", part);
    let first = taken(&nodes[0], &turn, 1).await;
    assert!(nodes[0].trail.bury(&turn, &first).await.unwrap());
    assert_eq!(said(&drained(&nodes[0], "webhooks").await), ["2", "3"]);
    assert_eq!(said(&drained(&nodes[0], "archive").await), ["1", "2", "3"]);
    let buried = nodes[0].trail.buried("webhooks", part, 9).await.unwrap();
    assert_eq!((&buried[0].id, said(&buried)), (&first[0].id, vec!["1".to_owned()]));
    assert_eq!(nodes[0].trail.backlog("webhooks").await.unwrap().dead, 1);
    assert_eq!(nodes[0].trail.revive("webhooks", part).await.unwrap(), 1);
    let back = drained(&nodes[0], "webhooks").await;
    assert_eq!((&back[0].id, said(&back)), (&first[0].id, vec!["1".to_owned()]));
    assert_eq!(
        said(&drained(&nodes[0], "archive").await),
        Vec::<String>::new(),
        "to others it is nothing new"
    );
    assert_eq!(nodes[0].trail.backlog("webhooks").await.unwrap(), crate::trail::Backlog::default());
}

pub async fn a_consumer_that_is_configured_misses_nothing_when_another_one_is_faster(rig: &dyn Rig) {
    let nodes = rig.keeping_for(1, &["webhooks", "archive"]).await;
    create(&nodes[0], "c", &["a", "b"]).await;
    say(&nodes[0], "c", "a", "1").await;
    assert_eq!(said(&drained(&nodes[0], "webhooks").await), ["1"]);
    say(&nodes[0], "c", "a", "2").await;
    assert_eq!(said(&drained(&nodes[0], "webhooks").await), ["2"]);
    assert_eq!(said(&drained(&nodes[0], "archive").await), ["1", "2"]);
    assert_eq!(nodes[0].trail.waiting().await.unwrap(), Vec::<usize>::new(), "what all have is not kept");
}

pub async fn comings_and_goings_are_kept_with_presence(rig: &dyn Rig) {
    let nodes = rig.keeping(1).await;
    let (one, two) = (lease(rig, "u", 1, None).await, lease(rig, "u", 2, None).await);
    for touch in [&one, &two, &one] {
        nodes[0].presence.touch(touch.clone()).await.unwrap();
    }
    let close =
        async |connection: &ConnectionId| nodes[0].presence.close(&user("u"), connection).await.unwrap();
    close(&one.connection).await;
    close(&two.connection).await;
    close(&two.connection).await;
    let mut seen = Vec::new();
    // On an engine that writes it down soon after.
    let end = tokio::time::Instant::now() + Duration::from_secs(10);
    while seen.len() < 6 {
        for step in drained(&nodes[0], "webhooks").await {
            seen.push(match step.what.unwrap() {
                Happening::Connection(c) => {
                    assert_eq!((&c.user, c.mount.as_str()), (&user("u"), &*one.mount));
                    format!("{} {}", c.connection, c.on)
                }
                Happening::Presence(p) => format!("{}", p.status == Status::Online),
                other => panic!("{other:?}"),
            });
        }
        assert!(tokio::time::Instant::now() < end, "{seen:?}");
    }
    let (one, two) = (one.connection.to_string(), two.connection.to_string());
    let came = [format!("{one} true"), "true".to_owned(), format!("{two} true")];
    let went = [format!("{one} false"), format!("{two} false"), "false".to_owned()];
    assert_eq!(seen, [came, went].concat());
}

pub async fn a_consumer_that_is_configured_nowhere_holds_nothing_back_for_ever(rig: &dyn Rig) {
    let nodes = rig.keeping_for(1, &["webhooks"]).await;
    create(&nodes[0], "c", &["a", "b"]).await;
    let part = nodes[0].trail.waiting().await.unwrap()[0];
    // It was there once, and is no longer.
    taken(&nodes[0], &turn("archive", part), 1).await;
    say(&nodes[0], "c", "a", "1").await;
    assert_eq!(said(&drained(&nodes[0], "webhooks").await), ["1"]);
    rig.advance(ABANDONED.saturating_sub(HOLD)).await;
    say(&nodes[0], "c", "a", "2").await;
    assert_eq!(said(&drained(&nodes[0], "webhooks").await), ["2"]);
    assert_eq!(nodes[0].trail.waiting().await.unwrap(), [part], "it may come back");
    rig.advance(HOLD * 2).await;
    say(&nodes[0], "c", "a", "3").await;
    assert_eq!(said(&drained(&nodes[0], "webhooks").await), ["3"]);
    assert_eq!(nodes[0].trail.waiting().await.unwrap(), Vec::<usize>::new());
    // Comes it back all the same, it begins with what is there then.
    say(&nodes[0], "c", "a", "4").await;
    assert_eq!(said(&drained(&nodes[0], "archive").await), ["4"]);
    assert_eq!(said(&drained(&nodes[0], "webhooks").await), ["4"]);
    assert_eq!(nodes[0].trail.backlog("webhooks").await.unwrap(), Backlog::default());
}
