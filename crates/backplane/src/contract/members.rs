//! Members in bulk and by name: what is added is added once, whoever is there is named, and many are left out.

use std::time::Duration;

use parlance_model::{ConnectionId, NodeId, ReceiptKind, Record, UserId};

use tokio::task::JoinSet;

use super::{Rig, conv, create, head, heard, message, say, silent, topic, user};
use crate::{Appended, Backplane, Enlisted, Enlistment, MANY, NAMED, Publication, Range, Touch};

fn some(from: usize, to: usize) -> Vec<UserId> {
    (from..to).map(|n| user(&format!("u{n:05}"))).collect()
}

async fn enlist(node: &Backplane, add: Vec<UserId>, remove: Vec<UserId>) -> Option<Enlisted> {
    let mut done = node.members.enlist(Enlistment { id: conv("c"), add, remove }).await.unwrap()?;
    done.added.sort();
    done.removed.sort();
    done.present.sort();
    Some(done)
}

async fn last_record(node: &Backplane) -> Record {
    let range = Range::Before { seq: u64::MAX, limit: 1 };
    let page = node.log.range(&parlance_model::LogKey::Conversation(conv("c")), range).await.unwrap();
    page.entries.into_iter().next().unwrap().record
}

pub async fn enlisting_is_idempotent_and_logged(rig: &dyn Rig) {
    let nodes = rig.nodes(2).await;
    let node = &nodes[0];
    assert_eq!(enlist(node, some(0, 3), vec![]).await, None, "nothing is created");
    assert_eq!(enlist(node, vec![], vec![]).await, None, "also when nobody is named");
    assert_eq!(node.conversations.of_user(&user("u00000")).await.unwrap(), []);
    let made = create(node, "c", &["a", "u00001"]).await;
    let mut inbox = nodes[1].bus.inbox().unwrap();
    nodes[1].bus.subscribe(&[topic("c")]).await.unwrap();
    let done = enlist(node, some(0, 3), vec![user("a"), user("zz")]).await.unwrap();
    assert_eq!((done.added, done.removed), (vec![user("u00000"), user("u00002")], vec![user("a")]));
    let now = node.conversations.get(&conv("c")).await.unwrap().unwrap();
    let names: Vec<&UserId> = now.members.iter().map(|member| &member.user).collect();
    assert_eq!(names, some(0, 3).iter().collect::<Vec<_>>());
    assert!(now.head.version > made.head.version);
    assert_eq!(node.log.append(&conv("c"), message("a", "", "x")).await.unwrap(), Appended::NotMember);
    assert_eq!(node.conversations.of_user(&user("a")).await.unwrap(), []);
    assert_eq!(node.conversations.of_user(&user("u00002")).await.unwrap().len(), 1);
    let (mut came, mut went) = (0, 0);
    while came < 2 || went < 1 {
        let Publication::Entry(entry) = heard(&mut inbox).await else { panic!("an entry") };
        let Record::Members { added, removed, by: None } = entry.record else { panic!("members") };
        (came, went) = (came + added.len(), went + removed.len());
    }
    let before = head(node, "c").await;
    let again = enlist(node, some(0, 3), vec![user("a")]).await.unwrap();
    assert_eq!(again, Enlisted::default());
    assert_eq!(enlist(node, vec![], vec![]).await, Some(Enlisted::default()));
    assert_eq!(head(node, "c").await, before);
    silent(&nodes[1], &mut inbox).await;
}

pub async fn very_many_come_without_their_names_and_each_is_in(rig: &dyn Rig) {
    let node = &rig.nodes(1).await[0];
    create(node, "c", &["a"]).await;
    let joined = say(node, "c", "a", "x").await.seq;
    let all = some(0, MANY + NAMED);
    let done = enlist(node, all.clone(), vec![]).await.unwrap();
    assert_eq!(done.added, all);
    let outline = node.members.outline(&conv("c")).await.unwrap().unwrap();
    assert!(outline.many && outline.conversation.members.is_empty());
    let whole = node.conversations.get(&conv("c")).await.unwrap().unwrap();
    assert_eq!(whole.members.len(), all.len() + 1);
    assert!(whole.members.is_sorted_by_key(|member| &member.user));
    let asked = [user("a"), all[0].clone(), user("stranger")];
    let found = node.members.joined(&conv("c"), &asked).await.unwrap();
    assert_eq!((found[0], found[2]), (Some(0), None));
    assert!(found[1].is_some_and(|seq| seq >= joined));
    assert_eq!(node.members.joined(&conv("nowhere"), &asked).await.unwrap(), [None, None, None]);
    // Those who go are named: others have to let go of them.
    let gone = some(0, NAMED + 1);
    let done = enlist(node, vec![], gone.clone()).await.unwrap();
    assert_eq!(done.removed, gone);
    let Record::Members { added, removed, .. } = last_record(node).await else { panic!("members") };
    assert_eq!((added.len(), removed.len()), (0, NAMED + 1));
    let outline = node.members.outline(&conv("c")).await.unwrap().unwrap();
    assert!(!outline.many);
    assert_eq!(outline.conversation.members.len(), MANY);
    enlist(node, gone, vec![]).await.unwrap();
    let Record::Members { added, removed, .. } = last_record(node).await else { panic!("members") };
    assert_eq!((added.len(), removed.len()), (0, 0), "a record of very many newcomers names none");
}

pub async fn whoever_has_a_lease_is_found_among_those_who_come(rig: &dyn Rig) {
    let node = &rig.nodes(1).await[0];
    create(node, "c", &["u00001"]).await;
    let mut leased = some(1, 3);
    leased.push(user("elsewhere"));
    for (number, user) in (1..).zip(&leased) {
        let touch = Touch {
            user: user.clone(),
            connection: ConnectionId { node: NodeId::parse("n1").unwrap(), number },
            mount: "m".into(),
            status: None,
            deadline: rig.now().await + Duration::from_secs(35),
            heard: rig.now().await,
            max: 0,
        };
        node.presence.touch(touch).await.unwrap();
    }
    // A member already, as after an import that broke off, is found like a newcomer.
    assert_eq!(enlist(node, some(0, 5), vec![]).await.unwrap().present, some(1, 3));
    assert_eq!(enlist(node, some(0, 5), vec![]).await.unwrap().present, some(1, 3), "again");
}

pub async fn what_very_many_read_is_told_and_they_can_be_deleted(rig: &dyn Rig) {
    let node = &rig.nodes(1).await[0];
    create(node, "c", &["a"]).await;
    let all = some(0, MANY + 10);
    enlist(node, all.clone(), vec![]).await.unwrap();
    let seq = say(node, "c", "a", "x").await.seq;
    let mut reading = JoinSet::new();
    for user in all.clone() {
        let cursors = node.cursors.clone();
        reading.spawn(async move { cursors.advance(&conv("c"), &user, ReceiptKind::Read, seq).await });
    }
    for moved in reading.join_all().await {
        assert!(moved.unwrap().is_some());
    }
    let (version, cursors) = node.cursors.cursors(&conv("c")).await.unwrap();
    assert_eq!(version, all.len() as u64);
    let told: Vec<(&UserId, u64)> = cursors.iter().map(|cursor| (&cursor.user, cursor.read)).collect();
    assert_eq!(told, all.iter().map(|user| (user, seq)).collect::<Vec<_>>());
    let set = node.cursors.standing(&[conv("c")]).await.remove(0).unwrap();
    assert_eq!((set.version, &set.cursors), (version, &cursors));
    assert!(node.conversations.delete(&conv("c")).await.unwrap());
    assert!(!node.conversations.delete(&conv("c")).await.unwrap());
    for user in [&all[0], &all[MANY]] {
        assert_eq!(node.conversations.of_user(user).await.unwrap(), []);
    }
    let made = create(node, "c", &["a"]).await;
    assert_eq!(made.members.len(), 1);
    assert_eq!(node.cursors.cursors(&conv("c")).await.unwrap().1, []);
}
