//! Conversations: changes, numbers, deletion, the index by user.

use std::collections::BTreeSet;

use parlance_model::{LogKey, Member, Record, SELF_NUMBER_LIMIT};

use super::{Rig, change, conv, create, exactly, head, heard, message, say, silent, topic, user};
use crate::{Appended, Change, ChangeRefused, Find, MemberSet, Publication, Range};

fn delta(add: &[&str], remove: &[&str]) -> MemberSet {
    let list = |ids: &[&str]| ids.iter().map(|id| user(id)).collect();
    MemberSet::Delta { add: list(add), remove: list(remove) }
}

fn joined(id: &str, seq: u64) -> Member {
    Member { user: user(id), joined_seq: seq }
}

pub async fn changes_are_seen_and_logged(rig: &dyn Rig) {
    let nodes = rig.nodes(2).await;
    let mut inbox = nodes[1].bus.inbox().unwrap();
    nodes[1].bus.subscribe(&[topic("c")]).await.unwrap();
    let wanted = Change { create: false, ..change("c", exactly(&["a"])) };
    assert_eq!(nodes[0].conversations.change(wanted).await.unwrap(), Err(ChangeRefused::NotFound));
    let made = create(&nodes[0], "c", &["b", "a", "a"]).await;
    assert_eq!(made.members, vec![joined("a", 0), joined("b", 0)]);
    assert_eq!(made.head.seq, 1);
    say(&nodes[0], "c", "a", "x").await;
    let wanted = Change {
        title: Some(Some("T".into())),
        by: Some(user("a")),
        ..change("c", delta(&["c", "a"], &["b", "zz"]))
    };
    let changed = nodes[1].conversations.change(wanted).await.unwrap().unwrap();
    assert_eq!(
        (changed.created, &changed.added, &changed.removed),
        (false, &vec![user("c")], &vec![user("b")])
    );
    assert_eq!(changed.conversation.members, vec![joined("a", 0), joined("c", 2)]);
    assert_eq!(changed.conversation.title.as_deref(), Some("T"));
    assert!(changed.conversation.head.version > made.head.version);
    assert_eq!(nodes[0].conversations.get(&conv("c")).await.unwrap(), Some(changed.conversation.clone()));
    assert_eq!(head(&nodes[0], "c").await, Some(changed.conversation.head));

    let mut records = Vec::new();
    for seq in 1..=4 {
        let Publication::Entry(entry) = heard(&mut inbox).await else { panic!("an entry") };
        assert_eq!(entry.seq, seq);
        records.push(entry.record);
    }
    let by = Some(user("a"));
    assert_eq!(records[0], Record::Members { added: vec![user("a"), user("b")], removed: vec![], by: None });
    let expected = Record::Members { added: vec![user("c")], removed: vec![user("b")], by: by.clone() };
    assert_eq!(records[2], expected);
    assert_eq!(records[3], Record::Title { title: Some("T".into()), by });
    let removed = nodes[0].log.append(&conv("c"), message("b", "", "x")).await.unwrap();
    assert_eq!(removed, Appended::NotMember);
}

pub async fn a_change_of_nothing_appends_nothing(rig: &dyn Rig) {
    let node = &rig.nodes(1).await[0];
    let made = create(node, "c", &["a", "b"]).await;
    let mut inbox = node.bus.inbox().unwrap();
    node.bus.subscribe(&[topic("c")]).await.unwrap();
    for members in [exactly(&["b", "a"]), delta(&["a"], &["zz"]), delta(&[], &[])] {
        let wanted = Change { title: Some(None), ..change("c", members) };
        let changed = node.conversations.change(wanted).await.unwrap().unwrap();
        assert_eq!((&changed.conversation, changed.added.len(), changed.removed.len()), (&made, 0, 0));
    }
    silent(node, &mut inbox).await;
}

pub async fn only_create_leaves_an_existing_one_alone(rig: &dyn Rig) {
    let node = &rig.nodes(1).await[0];
    let made = create(node, "c", &["a", "b"]).await;
    let wanted = Change { only_create: true, ..change("c", exactly(&["eve"])) };
    let changed = node.conversations.change(wanted).await.unwrap().unwrap();
    assert!(!changed.created);
    assert_eq!(changed.conversation, made);
}

pub async fn the_index_of_users_agrees_with_the_members(rig: &dyn Rig) {
    let node = &rig.nodes(1).await[0];
    for (id, members) in [("c", vec!["a", "b"]), ("d", vec!["a"]), ("ab", vec!["ab"])] {
        create(node, id, &members).await;
    }
    say(node, "c", "a", "x").await;
    node.conversations.change(change("d", delta(&["b"], &["a"]))).await.unwrap().unwrap();
    let list = async |id: &str| {
        let all = node.conversations.of_user(&user(id)).await.unwrap();
        all.into_iter().map(|m| (m.conversation.to_string(), m.joined_seq, m.head.seq)).collect::<Vec<_>>()
    };
    assert_eq!(list("a").await, vec![("c".to_owned(), 0, 2)]);
    let mut of_b = list("b").await;
    of_b.sort();
    assert_eq!(of_b, vec![("c".to_owned(), 0, 2), ("d".to_owned(), 1, 2)]);
    assert_eq!(list("ab").await.len(), 1);
    assert_eq!(list("nobody").await, vec![]);
    let of_b = node.conversations.of_user(&user("b")).await.unwrap();
    assert_eq!(node.conversations.named_of_user(&user("b")).await.unwrap(), [conv("c"), conv("d")]);
    // However good the guess is: nothing, too little, too much, another's, what is not there.
    for guess in [&[][..], &["d"], &["d", "c"], &["ab", "c", "d"], &["zz", "ab", "d", "d"]] {
        let guess: Vec<_> = guess.iter().map(|id| conv(id)).collect();
        let found = node.conversations.found_with(&user("b"), &guess).await.unwrap();
        assert_eq!((found.here, found.away), (of_b.clone(), vec![]), "{guess:?}");
    }
    assert!(node.conversations.delete(&conv("c")).await.unwrap());
    assert_eq!(list("a").await, vec![]);
}

pub async fn numbers_are_never_used_twice(rig: &dyn Rig) {
    let node = &rig.nodes(1).await[0];
    let mut used = Vec::new();
    for id in ["c", "d", "e"] {
        let made = create(node, id, &["a"]).await;
        assert!(made.number() >= SELF_NUMBER_LIMIT);
        used.push(made.number());
    }
    let asked = |id: &str, number: u32| Change { number: Some(number), ..change(id, exactly(&["a"])) };
    let got = node.conversations.change(asked("f", 4711)).await.unwrap().unwrap();
    assert_eq!(got.conversation.number(), 4711);
    used.push(4711);
    for number in used.clone() {
        let refused = node.conversations.change(asked("g", number)).await.unwrap();
        assert_eq!(refused, Err(ChangeRefused::NumberTaken), "{number}");
    }
    assert_eq!(node.conversations.get(&conv("g")).await.unwrap(), None, "a refused change does nothing");
    // An assigned number that somebody asked for is passed over, and deleting frees none.
    let ahead = used[2] + 1;
    node.conversations.change(asked("h", ahead)).await.unwrap().unwrap();
    used.push(ahead);
    for id in ["c", "h"] {
        assert!(node.conversations.delete(&conv(id)).await.unwrap());
    }
    for id in ["c", "i", "j", "h"] {
        let made = create(node, id, &["a"]).await;
        assert!(!used.contains(&made.number()), "{id} got {} again", made.number());
        used.push(made.number());
    }
}

pub async fn digit_ids_are_their_own_number(rig: &dyn Rig) {
    let node = &rig.nodes(1).await[0];
    assert_eq!(create(node, "42", &["a"]).await.number(), 42);
    assert_eq!(create(node, "1073741823", &["a"]).await.number(), SELF_NUMBER_LIMIT - 1);
    for id in ["1073741824", "042", "99999999999999"] {
        assert!(create(node, id, &["a"]).await.number() >= SELF_NUMBER_LIMIT, "{id}");
    }
    let taken = Change { number: Some(43), ..change("c", exactly(&["a"])) };
    node.conversations.change(taken).await.unwrap().unwrap();
    let refused = node.conversations.change(change("43", exactly(&["a"]))).await.unwrap();
    assert_eq!(refused, Err(ChangeRefused::NumberTaken));
}

pub async fn numbers_find_their_conversation(rig: &dyn Rig) {
    let nodes = rig.nodes(2).await;
    let node = &nodes[0];
    let find = async |number: u32| nodes[1].log.find(Find::Number(number)).await.unwrap();
    // Sequences begin at 1: offset 0 of the first block is nobody's.
    let is = |id: &str| Some((LogKey::Conversation(conv(id)), 0));
    let assigned = create(node, "c", &["a"]).await.number();
    assert_eq!(find(42).await, None);
    create(node, "42", &["a"]).await;
    let asked = Change { number: Some(4711), ..change("d", exactly(&["a"])) };
    node.conversations.change(asked).await.unwrap().unwrap();
    let said = say(node, "c", "a", "x").await;
    assert_eq!(said.id.number(), assigned);
    for (number, id) in [(assigned, "c"), (42, "42"), (4711, "d")] {
        assert_eq!(find(number).await, is(id));
    }
    // A feed has a number too, and is no conversation.
    let record = Record::NotificationRead { id: None };
    let posted = node.log.post(&LogKey::User(user("a")), record, None).await.unwrap();
    for number in [posted.stored.id.number(), 43, u32::MAX] {
        assert_eq!(find(number).await, None, "{number}");
    }
    for id in ["c", "42"] {
        assert!(node.conversations.delete(&conv(id)).await.unwrap());
    }
    assert_eq!((find(assigned).await, find(42).await), (None, None));
    let again = create(node, "c", &["a"]).await.number();
    create(node, "42", &["a"]).await;
    assert_eq!((find(assigned).await, find(again).await, find(42).await), (None, is("c"), is("42")));
}

pub async fn a_deleted_one_is_gone_and_may_come_back(rig: &dyn Rig) {
    let node = &rig.nodes(1).await[0];
    let mut inbox = node.bus.inbox().unwrap();
    for id in ["c", "42"] {
        let before = create(node, id, &["a", "b"]).await;
        let Appended::New(stored) = node.log.append(&conv(id), message("a", "m", "secret")).await.unwrap()
        else {
            panic!("a first append is new")
        };
        node.bus.subscribe(&[topic(id)]).await.unwrap();
        assert!(node.conversations.delete(&conv(id)).await.unwrap());
        let Publication::Entry(last) = heard(&mut inbox).await else { panic!("an entry") };
        assert_eq!((last.seq, last.record), (3, Record::Deleted));
        assert!(!node.conversations.delete(&conv(id)).await.unwrap());
        assert_eq!(node.conversations.get(&conv(id)).await.unwrap(), None);
        assert_eq!(head(node, id).await, None);
        assert_eq!(node.log.find(Find::Id(stored.id)).await.unwrap(), None);
        let refused = node.log.append(&conv(id), message("a", "m", "x")).await.unwrap();
        assert_eq!(refused, Appended::NoConversation);

        let after = create(node, id, &["b"]).await;
        assert!(after.head.epoch > before.head.epoch, "positions of the earlier life are void");
        assert_eq!(node.cursors.cursors(&conv(id)).await.unwrap().1, vec![]);
        let again = node.log.append(&conv(id), message("b", "m", "y")).await.unwrap();
        let Appended::New(fresh) = again else { panic!("{again:?}") };
        assert_ne!(fresh.id, stored.id);
        let key = LogKey::Conversation(conv(id));
        let page = node.log.range(&key, Range::After { seq: 0, limit: 100 }).await.unwrap();
        let secret = page
            .entries
            .iter()
            .any(|entry| matches!(&entry.record, Record::Message(message) if &*message.body == "secret"));
        assert!(!secret, "nothing of the earlier life is read");
        assert_eq!(node.log.find(Find::Id(stored.id)).await.unwrap(), None);
        let by_client = Find::ClientId { author: user("a"), id: "m".into(), conversation: None };
        assert_eq!(node.log.find(by_client).await.unwrap(), None);
        // What was published may still be on its way when its call is answered.
        assert!(matches!(heard(&mut inbox).await, Publication::Entry(_)));
        assert!(matches!(heard(&mut inbox).await, Publication::Entry(_)));
        node.bus.unsubscribe(&[topic(id)]).await.unwrap();
    }
}

pub async fn a_walk_meets_every_conversation_that_stays(rig: &dyn Rig) {
    let nodes = rig.nodes(2).await;
    let node = &nodes[0];
    let named = |from: usize, to: usize| (from..to).map(|n| format!("c@{n}")).collect::<Vec<_>>();
    for id in named(0, 90) {
        create(node, &id, &["a", "b"]).await;
    }
    // What is beside them is no conversation.
    let record = Record::NotificationRead { id: None };
    node.log.post(&LogKey::User(user("a")), record.clone(), None).await.unwrap();
    node.log.post(&LogKey::App("c:c@1".into()), record, None).await.unwrap();
    assert!(node.conversations.delete(&conv("c@89")).await.unwrap());
    let (mut met, mut from, mut pages) = (BTreeSet::new(), None::<String>, 0);
    loop {
        // Whichever node goes on.
        let page = nodes[pages % 2].conversations.listed(from.as_deref(), 20).await.unwrap();
        met.extend(page.ids.iter().map(ToString::to_string));
        match pages {
            0 => assert!(node.conversations.delete(&conv("c@88")).await.unwrap()),
            1 => drop(create(node, "late", &["a"]).await),
            _ => {}
        }
        pages += 1;
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    assert!(pages > 2, "a page is bounded");
    met.retain(|id| !["c@88", "c@89", "late"].contains(&id.as_str()));
    assert_eq!(met, named(0, 88).into_iter().collect());
    let all = nodes[1].conversations.listed(Some("nonsense of another engine"), 10_000).await.unwrap();
    assert!(all.ids.len() <= 100, "{}", all.ids.len());
}
