//! Reading logs and finding messages.

use std::time::Duration;

use parlance_model::LogKey;

use super::{Rig, conv, create, message, say, user};
use crate::{Appended, Backplane, Find, Page, Range};

async fn read(node: &Backplane, range: Range) -> Page {
    node.log.range(&LogKey::Conversation(conv("c")), range).await.unwrap()
}

fn seqs(page: &Page) -> Vec<u64> {
    page.entries.iter().map(|entry| entry.seq).collect()
}

pub async fn ranges_read_both_ways_and_by_time(rig: &dyn Rig) {
    let node = &rig.nodes(1).await[0];
    let unknown = read(node, Range::After { seq: 0, limit: 10 }).await;
    assert_eq!((seqs(&unknown), unknown.first, unknown.head, unknown.more), (vec![], 1, 0, false));
    create(node, "c", &["a"]).await;
    for n in 2..=10 {
        rig.advance(Duration::from_millis(5)).await;
        assert_eq!(say(node, "c", "a", "x").await.seq, n);
    }
    let table = [
        (Range::After { seq: 0, limit: 3 }, vec![1, 2, 3], true),
        (Range::After { seq: 7, limit: 3 }, vec![8, 9, 10], false),
        (Range::After { seq: 7, limit: 0 }, vec![], true),
        (Range::After { seq: 10, limit: 3 }, vec![], false),
        (Range::After { seq: u64::MAX, limit: 3 }, vec![], false),
        (Range::Before { seq: u64::MAX, limit: 2 }, vec![9, 10], true),
        (Range::Before { seq: 4, limit: 2 }, vec![2, 3], true),
        (Range::Before { seq: 4, limit: 3 }, vec![1, 2, 3], false),
        (Range::Before { seq: 4, limit: 30 }, vec![1, 2, 3], false),
        (Range::Before { seq: 1, limit: 3 }, vec![], false),
        (Range::Before { seq: 0, limit: 3 }, vec![], false),
    ];
    for (range, expected, more) in table {
        let page = read(node, range).await;
        assert_eq!((seqs(&page), page.more), (expected, more), "{range:?}");
        assert_eq!((page.first, page.head), (1, 10));
    }
    let all = read(node, Range::After { seq: 0, limit: 100 }).await.entries;
    for from in [all[0].at, all[4].at, all[9].at, all[9].at + Duration::from_secs(1)] {
        let page = read(node, Range::Since { at: from, limit: 100 }).await;
        let expected: Vec<u64> = all.iter().filter(|entry| entry.at >= from).map(|entry| entry.seq).collect();
        assert_eq!((seqs(&page), page.more), (expected, false));
    }
    let page = read(node, Range::Since { at: all[4].at, limit: 2 }).await;
    assert_eq!((seqs(&page), page.more), (vec![5, 6], true));
}

pub async fn trimmed_logs_say_where_they_begin(rig: &dyn Rig) {
    let node = &rig.nodes(1).await[0];
    create(node, "c", &["a"]).await;
    let count = rig.retention_entries() * 3 + 300;
    for _ in 0..count {
        say(node, "c", "a", "x").await;
    }
    let page = read(node, Range::After { seq: 0, limit: 3 }).await;
    assert!(page.first > 1, "nothing was trimmed");
    assert_eq!(page.head, count + 1, "the head stays");
    assert_eq!(seqs(&page), (page.first..page.first + 3).collect::<Vec<_>>());
    let oldest = read(node, Range::Before { seq: page.first + 1, limit: 5 }).await;
    assert_eq!((seqs(&oldest), oldest.more), (vec![page.first], false));
}

pub async fn messages_are_found_by_both_ids(rig: &dyn Rig) {
    let node = &rig.nodes(1).await[0];
    create(node, "c", &["a", "b"]).await;
    create(node, "d", &["a", "b"]).await;
    let by_client = async |author: &str, id: &str, place: Option<&str>| {
        let what = Find::ClientId { author: user(author), id: id.into(), conversation: place.map(conv) };
        node.log.find(what).await.unwrap()
    };
    let mut ids = Vec::new();
    for (place, author, client_id) in [("c", "a", "m"), ("c", "b", "m"), ("d", "a", "m"), ("d", "a", "n")] {
        rig.advance(Duration::from_millis(5)).await;
        match node.log.append(&conv(place), message(author, client_id, "x")).await.unwrap() {
            Appended::New(stored) => ids.push((LogKey::Conversation(conv(place)), stored)),
            other => panic!("{other:?}"),
        }
    }
    for (key, stored) in &ids {
        assert_eq!(node.log.find(Find::Id(stored.id)).await.unwrap(), Some((key.clone(), stored.seq)));
    }
    let at = |n: usize| Some((ids[n].0.clone(), ids[n].1.seq));
    assert_eq!(by_client("a", "m", None).await, at(2), "the newest");
    assert_eq!(by_client("a", "m", Some("c")).await, at(0));
    assert_eq!(by_client("b", "m", None).await, at(1), "another author's id is another id");
    assert_eq!(by_client("b", "m", Some("d")).await, None);
    assert_eq!(by_client("a", "zz", None).await, None);
    let far = parlance_model::MessageId::new(ids[0].1.id.number(), 4000).unwrap();
    assert_eq!(node.log.find(Find::Id(far)).await.unwrap(), None);
    let nobodys = parlance_model::MessageId::new(77, 1).unwrap();
    assert_eq!(node.log.find(Find::Id(nobodys)).await.unwrap(), None);
}
