//! Conversations at a glance: whose, what is unread in them, what was said last.

use std::collections::BTreeSet;
use std::time::Duration;

use parlance_model::{Author, ConversationId, ReceiptKind, Record, UserId};

use super::{Rig, change, conv, create, exactly, say, user};
use crate::{Backplane, COUNTED, FEW, MemberSet, Overview, SCANNED};

async fn all_of(node: &Backplane, who: &str) -> Vec<Overview> {
    let ids = node.overviews.belonging(&user(who), None, 1000).await.unwrap().ids;
    let told = node.overviews.overviews(&user(who), &ids).await;
    told.into_iter().filter_map(Result::unwrap).collect()
}

async fn overview(node: &Backplane, who: &str, id: &str) -> Option<Overview> {
    node.overviews.overviews(&user(who), &[conv(id)]).await.remove(0).unwrap()
}

/// What is unread, whether there is more, and the text of the newest message.
async fn shown(node: &Backplane, who: &str, id: &str) -> (u64, bool, Option<String>) {
    let told = overview(node, who, id).await.unwrap();
    let text = told.last.map(|entry| match entry.record {
        Record::Message(message) => message.body.to_string(),
        other => panic!("no message: {other:?}"),
    });
    (told.unread, told.more_unread, text)
}

fn said(text: &str) -> Option<String> {
    Some(text.to_owned())
}

pub async fn what_others_said_is_unread_until_it_is_read(rig: &dyn Rig) {
    let nodes = rig.nodes(2).await;
    create(&nodes[0], "c", &["a", "b"]).await;
    assert_eq!(shown(&nodes[1], "b", "c").await, (0, false, None));
    let mut places = Vec::new();
    for n in 0..6 {
        places.push(say(&nodes[0], "c", if n % 2 == 0 { "a" } else { "b" }, &n.to_string()).await);
    }
    assert_eq!(shown(&nodes[1], "a", "c").await, (3, false, said("5")));
    assert_eq!(shown(&nodes[1], "b", "c").await, (3, false, said("5")));
    let none = overview(&nodes[1], "b", "c").await.unwrap().read;
    assert_eq!((none.at.millis(), none.message), (0, None), "nothing was read");
    // What was delivered only is as unread as before.
    let move_to = async |kind, seq| {
        nodes[0].cursors.advance(&conv("c"), &user("b"), kind, seq).await.unwrap().unwrap().at
    };
    move_to(ReceiptKind::Delivered, places[5].seq).await;
    assert_eq!(shown(&nodes[1], "b", "c").await.0, 3);
    let at = move_to(ReceiptKind::Read, places[2].seq).await;
    assert_eq!(shown(&nodes[1], "b", "c").await, (1, false, said("5")));
    let read = overview(&nodes[1], "b", "c").await.unwrap().read;
    assert_eq!((read.seq, read.at), (places[2].seq, at));
    assert_eq!(read.message, Some((places[2].seq, places[2].at)));
    // A reaction is no message: neither unread, nor the last one, nor what a cursor at it shows.
    let author = Author::bare(user("a"));
    nodes[0].log.react(&conv("c"), author, places[2].seq, "x".into(), true).await.unwrap();
    assert_eq!(shown(&nodes[1], "b", "c").await, (1, false, said("5")));
    move_to(ReceiptKind::Read, u64::MAX).await;
    assert_eq!(shown(&nodes[1], "b", "c").await, (0, false, said("5")));
    let read = overview(&nodes[1], "b", "c").await.unwrap().read;
    assert_eq!((read.seq, read.message), (places[5].seq + 1, Some((places[5].seq, places[5].at))));
}

pub async fn what_was_said_before_a_member_came_is_not_unread(rig: &dyn Rig) {
    let nodes = rig.nodes(1).await;
    create(&nodes[0], "c", &["a"]).await;
    for _ in 0..3 {
        say(&nodes[0], "c", "a", "before").await;
    }
    let alter = async |add: &[&str], remove: &[&str]| {
        let users = |ids: &[&str]| ids.iter().map(|id| user(id)).collect();
        let members = MemberSet::Delta { add: users(add), remove: users(remove) };
        nodes[0].conversations.change(change("c", members)).await.unwrap().unwrap();
    };
    alter(&["b"], &[]).await;
    assert_eq!(shown(&nodes[0], "b", "c").await, (0, false, said("before")));
    say(&nodes[0], "c", "a", "after").await;
    assert_eq!(shown(&nodes[0], "b", "c").await, (1, false, said("after")));
    alter(&[], &["b"]).await;
    assert_eq!(overview(&nodes[0], "b", "c").await, None, "no longer a member");
    say(&nodes[0], "c", "a", "meanwhile").await;
    alter(&["b"], &[]).await;
    assert_eq!(shown(&nodes[0], "b", "c").await, (0, false, said("meanwhile")));
    assert_eq!(overview(&nodes[0], "eve", "c").await, None);
    assert_eq!(overview(&nodes[0], "b", "none").await, None);
    assert!(nodes[0].conversations.delete(&conv("c")).await.unwrap());
    assert_eq!((overview(&nodes[0], "b", "c").await, all_of(&nodes[0], "b").await), (None, Vec::new()));
}

pub async fn counting_ends_somewhere(rig: &dyn Rig) {
    let nodes = rig.nodes(1).await;
    create(&nodes[0], "c", &["a", "b"]).await;
    let counted = usize::try_from(COUNTED).unwrap();
    for n in 1..=counted + 1 {
        let place = say(&nodes[0], "c", "a", &n.to_string()).await;
        let (unread, more, last) = shown(&nodes[0], "b", "c").await;
        assert_eq!(
            (unread, more, last),
            (n.min(counted) as u64, n > counted, said(&n.to_string())),
            "{place:?}"
        );
    }
    // One's own messages are looked past, and not for ever.
    create(&nodes[0], "own", &["a", "b"]).await;
    say(&nodes[0], "own", "b", "first").await;
    for n in 0..rig.retention_entries().min(SCANNED) / 2 {
        say(&nodes[0], "own", "a", &n.to_string()).await;
    }
    let (unread, more, _) = shown(&nodes[0], "a", "own").await;
    assert_eq!((unread, more), (1, false));
}

pub async fn long_messages_are_not_all_read_to_be_counted(rig: &dyn Rig) {
    let nodes = rig.nodes(1).await;
    create(&nodes[0], "c", &["a", "b"]).await;
    let long = "x".repeat(60_000);
    for _ in 0..12 {
        say(&nodes[0], "c", "a", &long).await;
    }
    let (unread, more, last) = shown(&nodes[0], "b", "c").await;
    assert!(more && (4..12).contains(&unread), "{unread} and {more}");
    assert_eq!(last.map(|text| text.len()), Some(long.len()));
    let (unread, more, _) = shown(&nodes[0], "a", "c").await;
    assert_eq!((unread, more), (0, true), "there may be something of others further back");
}

pub async fn trimmed_messages_are_not_counted(rig: &dyn Rig) {
    let nodes = rig.nodes(1).await;
    create(&nodes[0], "c", &["a", "b"]).await;
    let early = say(&nodes[0], "c", "a", "early").await;
    nodes[0].cursors.advance(&conv("c"), &user("b"), ReceiptKind::Read, early.seq).await.unwrap();
    for _ in 0..rig.retention_entries() * 2 + 20 {
        say(&nodes[0], "c", "b", "own").await;
    }
    rig.advance(Duration::from_millis(1)).await;
    let told = overview(&nodes[0], "b", "c").await.unwrap();
    assert_eq!((told.unread, told.more_unread), (0, false));
    assert_eq!((told.read.seq, told.read.message), (early.seq, None), "it is kept no more");
}

pub async fn a_walk_over_a_users_conversations_meets_each_once(rig: &dyn Rig) {
    let nodes = rig.nodes(2).await;
    let mut expected: BTreeSet<ConversationId> = BTreeSet::new();
    for n in 0..23 {
        create(&nodes[n % 2], &format!("c{n}"), &["a", "b"]).await;
        expected.insert(conv(&format!("c{n}")));
    }
    create(&nodes[0], "other", &["b"]).await;
    // Of a user whose id is the beginning of another's.
    create(&nodes[0], "foreign", &["ab"]).await;
    let (mut walked, mut after): (Vec<ConversationId>, Option<ConversationId>) = (Vec::new(), None);
    loop {
        let page = nodes[1].overviews.belonging(&user("a"), after.as_ref(), 5).await.unwrap();
        assert!(page.ids.len() <= 5);
        walked.extend(page.ids);
        if !page.more {
            break;
        }
        after = walked.last().cloned();
        // What is said meanwhile changes nothing about it.
        say(&nodes[0], "c3", "b", "x").await;
    }
    assert_eq!(walked, expected.into_iter().collect::<Vec<_>>());
    let beyond = nodes[0].overviews.belonging(&user("a"), walked.last(), 5).await.unwrap();
    assert_eq!((beyond.ids, beyond.more), (Vec::new(), false));
    assert_eq!(all_of(&nodes[0], "ab").await.len(), 1);
    assert_eq!(all_of(&nodes[0], "nobody").await, []);
}

pub async fn a_few_members_are_named(rig: &dyn Rig) {
    let nodes = rig.nodes(1).await;
    let few = usize::try_from(FEW).unwrap();
    let ids: Vec<String> = (0..=few).map(|n| format!("u{n}")).collect();
    let all: Vec<&str> = ids.iter().map(String::as_str).collect();
    let mut big = change("big", exactly(&all));
    big.title = Some(Some("A title".into()));
    nodes[0].conversations.change(big).await.unwrap().unwrap();
    create(&nodes[0], "small", &all[..few]).await;
    let big = overview(&nodes[0], "u0", "big").await.unwrap();
    assert_eq!((big.members, big.title.as_deref()), (None, Some("A title")));
    let small = overview(&nodes[0], "u0", "small").await.unwrap();
    let named: Vec<UserId> = all[..few].iter().map(|id| user(id)).collect();
    assert_eq!((small.members, small.title), (Some(named), None));
    let conversation = nodes[0].conversations.get(&conv("small")).await.unwrap().unwrap();
    assert_eq!((small.numbers, small.head), (conversation.numbers.clone(), conversation.head));
    assert_eq!(small.kind, conversation.kind);
}
