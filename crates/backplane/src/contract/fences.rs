//! Noticing what a log lost, and going on behind it.

use std::time::Duration;

use parlance_model::{ConversationKind, Head, LogKey, Record, Time, Topic};
use tokio::task::JoinSet;

use super::{Rig, change, conv, create, exactly, heard, message, say, silent, topic, user};
use crate::{Appended, Backplane, FENCE_MARGIN, Fenced, Find, Page, Place, Publication, Range, Seen, Stored};

fn key() -> LogKey {
    LogKey::Conversation(conv("c"))
}

async fn place(node: &Backplane, log: &LogKey) -> Place {
    node.fences.heads(std::slice::from_ref(log)).await.remove(0).unwrap()
}

async fn head(node: &Backplane) -> Head {
    place(node, &key()).await.log().unwrap()
}

async fn read(node: &Backplane, log: &LogKey, range: Range) -> Page {
    node.log.range(log, range).await.unwrap()
}

fn seqs(page: &Page) -> Vec<u64> {
    page.entries.iter().map(|entry| entry.seq).collect()
}

/// What a node saw that is `ahead` of a head.
fn ahead(head: Head, ahead: u64) -> Seen {
    let at = Some(head.at + Duration::from_millis(1));
    Seen { seq: head.seq + ahead, at, epoch: head.epoch, number: 0, from: head.seq + 1 }
}

async fn begun(node: &Backplane, log: &LogKey, seen: Seen) -> Stored {
    match node.fences.fence(log, seen).await.unwrap() {
        Fenced::Begun(stored) => stored,
        other => panic!("{other:?}"),
    }
}

pub async fn heads_tell_logs_apart(rig: &dyn Rig) {
    let node = &rig.nodes(1).await[0];
    create(node, "c", &["a"]).await;
    create(node, "gone", &["a"]).await;
    assert!(node.conversations.delete(&conv("gone")).await.unwrap());
    let feed = LogKey::User(user("a"));
    node.log.post(&feed, Record::NotificationRead { id: None }, None).await.unwrap();
    let logs = [key(), feed, LogKey::Conversation(conv("gone")), LogKey::App("none".into())];
    let places: Vec<Place> = node.fences.heads(&logs).await.into_iter().collect::<Result<_, _>>().unwrap();
    assert!(matches!(places[0], Place::Log(head) if head.seq == 1 && head.since == 1), "{places:?}");
    assert!(matches!(places[1], Place::Log(head) if head.seq == 1), "{places:?}");
    assert!(matches!(places[2], Place::Deleted(head) if head.seq == 2), "{places:?}");
    assert!(matches!(places[3], Place::Nothing { .. }), "{places:?}");
    let page = read(node, &logs[3], Range::Before { seq: u64::MAX, limit: 1 }).await;
    assert!(matches!(place(node, &logs[3]).await, Place::Nothing { epoch } if epoch == page.epoch));
    assert!(node.fences.heads(&[]).await.is_empty());
}

pub async fn what_is_there_is_not_fenced(rig: &dyn Rig) {
    let node = &rig.nodes(1).await[0];
    create(node, "c", &["a"]).await;
    let count = rig.retention_entries() * 2 + 300;
    for _ in 0..count {
        say(node, "c", "a", "x").await;
    }
    let before = head(node).await;
    let page = read(node, &key(), Range::Before { seq: u64::MAX, limit: 2 }).await;
    let of = |seq, at| Seen { seq, at, epoch: before.epoch, number: 0, from: seq };
    let mut there =
        vec![of(0, None), of(1, Some(Time(1))), of(before.seq, None), of(before.seq, Some(before.at))];
    there.extend(page.entries.iter().map(|entry| of(entry.seq, Some(entry.at))));
    for seen in there {
        assert_eq!(node.fences.fence(&key(), seen).await.unwrap(), Fenced::There, "{seen:?}");
    }
    let nowhere = LogKey::Conversation(conv("none"));
    let epoch = read(node, &nowhere, Range::After { seq: 0, limit: 1 }).await.epoch;
    let nothing = Seen { epoch, ..of(0, None) };
    assert_eq!(node.fences.fence(&nowhere, nothing).await.unwrap(), Fenced::There);
    assert_eq!(head(node).await, before);
}

pub async fn one_of_many_fences_and_the_log_goes_on(rig: &dyn Rig) {
    let nodes = rig.nodes(2).await;
    create(&nodes[0], "c", &["a"]).await;
    let kept = nodes[0].log.append(&conv("c"), message("a", "kept", "x")).await.unwrap();
    let Appended::New(kept) = kept else { panic!("{kept:?}") };
    let before = head(&nodes[0]).await;
    let mut inbox = nodes[1].bus.inbox().unwrap();
    nodes[1].bus.subscribe(&[topic("c")]).await.unwrap();
    let mut tasks = JoinSet::new();
    for n in 0..16 {
        let node = nodes[n % 2].clone();
        tasks.spawn(async move { node.fences.fence(&key(), ahead(before, 3)).await.unwrap() });
    }
    let all = tasks.join_all().await;
    let places: Vec<Stored> =
        all.iter().filter_map(|f| if let Fenced::Begun(stored) = f { Some(*stored) } else { None }).collect();
    assert_eq!(places.len(), 1, "{all:?}");
    assert_eq!(all.iter().filter(|f| **f == Fenced::Already).count(), 15, "{all:?}");
    let (fence, now) = (places[0], head(&nodes[1]).await);
    assert_eq!((fence.seq, now.seq, now.since), (before.seq + 3 + FENCE_MARGIN, fence.seq, fence.seq));
    assert!(now.epoch > before.epoch && now.version > before.version);
    assert!(now.cursor_version > before.cursor_version);
    let Publication::Entry(entry) = heard(&mut inbox).await else { panic!() };
    assert_eq!((entry.seq, entry.epoch, entry.id), (fence.seq, now.epoch, fence.id));
    assert_eq!(entry.record, Record::Lost { from: before.seq + 1, to: fence.seq - 1 });
    silent(&nodes[1], &mut inbox).await;
    // What was not lost is as it was.
    let again = nodes[1].log.append(&conv("c"), message("a", "kept", "x")).await.unwrap();
    assert_eq!(again, Appended::Duplicate(kept));
    let author = user("a");
    for what in [Find::Id(kept.id), Find::ClientId { author, id: "kept".into(), conversation: None }] {
        assert_eq!(nodes[0].log.find(what).await.unwrap(), Some((key(), kept.seq)));
    }
    assert_eq!(say(&nodes[0], "c", "a", "next").await.seq, fence.seq + 1);
}

pub async fn ranges_reach_over_a_fence(rig: &dyn Rig) {
    let node = &rig.nodes(1).await[0];
    create(node, "c", &["a"]).await;
    for _ in 2..=5 {
        rig.advance(Duration::from_millis(5)).await;
        say(node, "c", "a", "x").await;
    }
    rig.advance(Duration::from_millis(5)).await;
    let fence = begun(node, &key(), ahead(head(node).await, 2)).await.seq;
    for _ in 0..3 {
        rig.advance(Duration::from_millis(5)).await;
        say(node, "c", "a", "y").await;
    }
    let table = [
        (Range::After { seq: 3, limit: 4 }, vec![4, 5, fence, fence + 1], true),
        (Range::After { seq: 7, limit: 9 }, vec![fence, fence + 1, fence + 2, fence + 3], false),
        (Range::Before { seq: u64::MAX, limit: 5 }, vec![5, fence, fence + 1, fence + 2, fence + 3], true),
        (Range::Before { seq: fence, limit: 2 }, vec![4, 5], true),
        (Range::Before { seq: fence, limit: 9 }, vec![1, 2, 3, 4, 5], false),
    ];
    for (range, expected, more) in table {
        let page = read(node, &key(), range).await;
        assert_eq!((seqs(&page), page.more), (expected, more), "{range:?}");
        assert_eq!((page.first, page.head), (1, fence + 3));
    }
    let all = read(node, &key(), Range::After { seq: 0, limit: 100 }).await.entries;
    assert!(all.windows(2).all(|two| two[1].prev_at == two[0].at || two[1].seq == fence), "{all:?}");
    for from in &all {
        let page = read(node, &key(), Range::Since { at: from.at, limit: 100 }).await;
        let expected: Vec<u64> =
            all.iter().filter(|entry| entry.at >= from.at).map(|entry| entry.seq).collect();
        assert_eq!(seqs(&page), expected, "since {from:?}");
    }
}

pub async fn what_was_left_free_does_not_count_as_kept(rig: &dyn Rig) {
    let node = &rig.nodes(1).await[0];
    create(node, "c", &["a"]).await;
    for _ in 0..9 {
        say(node, "c", "a", "x").await;
    }
    begun(node, &key(), ahead(head(node).await, 5000)).await;
    say(node, "c", "a", "y").await;
    let page = read(node, &key(), Range::After { seq: 0, limit: 1000 }).await;
    assert_eq!((page.first, page.entries.len()), (1, 12), "few entries are kept, however far apart");
    for _ in 0..rig.retention_entries() * 2 + 300 {
        say(node, "c", "a", "z").await;
    }
    let page = read(node, &key(), Range::After { seq: 0, limit: 1 }).await;
    assert_eq!(page.entries.first().map(|entry| entry.seq), Some(page.first));
}

pub async fn whoever_saw_more_or_other_things_fences_again(rig: &dyn Rig) {
    let node = &rig.nodes(1).await[0];
    create(node, "c", &["a"]).await;
    let before = head(node).await;
    let first = begun(node, &key(), ahead(before, 1)).await;
    let more = Seen { seq: first.seq + 7, ..ahead(before, 1) };
    let second = begun(node, &key(), more).await;
    assert_eq!(second.seq, first.seq + 7 + FENCE_MARGIN);
    assert_eq!(node.fences.fence(&key(), more).await.unwrap(), Fenced::Already);
    let place = say(node, "c", "a", "x").await;
    let now = head(node).await;
    let other =
        Seen { seq: place.seq, at: Some(place.at + Duration::from_secs(1)), epoch: now.epoch, ..more };
    assert!(begun(node, &key(), other).await.seq > place.seq);
}

pub async fn a_lost_conversation_goes_on_where_it_is_created_again(rig: &dyn Rig) {
    let node = &rig.nodes(1).await[0];
    let seen = Seen { seq: 40, at: Some(rig.now().await), epoch: 7, number: 77, from: 1 };
    let fence = begun(node, &key(), seen).await;
    assert_eq!((fence.seq, fence.id.number()), (40 + FENCE_MARGIN, 77));
    assert!(matches!(place(node, &key()).await, Place::Lost(head) if head.seq == fence.seq));
    assert_eq!(node.fences.fence(&key(), seen).await.unwrap(), Fenced::Already);
    assert_eq!(node.conversations.get(&conv("c")).await.unwrap(), None);
    let refused = node.log.append(&conv("c"), message("a", "", "x")).await.unwrap();
    assert_eq!(refused, Appended::NoConversation);
    let page = read(node, &key(), Range::After { seq: 40, limit: 9 }).await;
    assert_eq!((seqs(&page), page.first), (vec![fence.seq], fence.seq));
    let again = create(node, "c", &["a"]).await;
    assert_eq!((again.number(), again.head.seq), (77, fence.seq + 1));
    assert_eq!(again.members[0].joined_seq, fence.seq - 1, "members are told of the loss");
    let page = read(node, &key(), Range::After { seq: again.members[0].joined_seq, limit: 9 }).await;
    assert_eq!(seqs(&page), [fence.seq, fence.seq + 1]);
    assert_eq!(page.entries[1].prev_at, page.entries[0].at);
    assert_eq!(say(node, "c", "a", "x").await.seq, fence.seq + 2);
}

pub async fn a_lost_conversation_may_get_another_number_or_be_deleted(rig: &dyn Rig) {
    let node = &rig.nodes(1).await[0];
    let seen = Seen { seq: 4, at: None, epoch: 7, number: 77, from: 1 };
    begun(node, &key(), seen).await;
    let wanted = crate::Change { number: Some(78), ..change("c", exactly(&["a"])) };
    assert_eq!(wanted.kind, ConversationKind::Group);
    let changed = node.conversations.change(wanted).await.unwrap().unwrap();
    assert_eq!((changed.created, changed.conversation.number()), (true, 78));
    let other = LogKey::Conversation(conv("d"));
    let taken = begun(node, &other, seen).await;
    assert_ne!(taken.id.number(), 77, "it belongs to the first one");
    assert!(node.conversations.delete(&conv("d")).await.unwrap());
    assert!(matches!(place(node, &other).await, Place::Deleted(head) if head.seq > taken.seq));
    assert!(!node.conversations.delete(&conv("d")).await.unwrap());
}

pub async fn feeds_and_their_integers_go_on_above_all_earlier_ones(rig: &dyn Rig) {
    let node = &rig.nodes(1).await[0];
    let a = user("a");
    let feed = LogKey::User(a.clone());
    create(node, "c", &["a"]).await;
    let pointer = |seq| [(a.clone(), key(), seq)];
    let before = node.sequences.assign(&pointer(1)).await.unwrap()[0];
    node.bus.subscribe(&[Topic::User(a.clone())]).await.unwrap();
    let mut inbox = node.bus.inbox().unwrap();
    let seen = Seen { seq: 0, at: None, epoch: 7, number: 0, from: 1 };
    let fence = begun(node, &feed, seen).await;
    assert!(matches!(heard(&mut inbox).await, Publication::Entry(entry) if entry.seq == fence.seq));
    let after = node.sequences.assign(&pointer(2)).await.unwrap()[0];
    assert!(after > before + FENCE_MARGIN, "{before} {after}");
    assert_eq!(node.sequences.assign(&pointer(1)).await.unwrap(), [before]);
    let own = node.sequences.assign(&[(a.clone(), feed.clone(), fence.seq)]).await.unwrap()[0];
    assert!(before < own && own < after);
    let posted = node.log.post(&feed, Record::NotificationRead { id: None }, None).await.unwrap();
    assert_eq!(posted.stored.seq, fence.seq + 1);
    // Nothing was ever given to this one, as far as is known here.
    let b = LogKey::User(user("b"));
    begun(node, &b, seen).await;
    let first = node.sequences.assign(&[(user("b"), key(), 1)]).await.unwrap()[0];
    assert!(first > rig.now().await.millis() / 2, "{first}");
    begun(node, &LogKey::App("feed:x".into()), Seen { seq: 3, ..seen }).await;
}
