//! Rooms, going live and fan-out, as the gateway uses them.

use std::collections::VecDeque;
use std::sync::Arc;

use parlance_hub::{Announce, Entry, Fanout, Hub, Limits, Listener, Outbox, Share, Voice};
use parlance_model::{
    Author, ConversationId, Event, Message, MessageEvent, MessageId, PresenceEvent, Role, Status, Time,
    Topic, UserId,
};
use parlance_wire::{Accent, Style};
use rustc_hash::FxHashMap;

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn topic() -> Topic {
    Topic::Conversation(ConversationId::parse("c1").unwrap())
}

fn listener(number: u64, name: &str, accent: Accent) -> Arc<Listener> {
    let outbox = Arc::new(Outbox::new(Limits { bytes: 1 << 20, pieces: 1024 }));
    let voice = Voice { accent, style: Style::default(), announce: Announce::default() };
    Arc::new(Listener::new(number, user(name), voice, outbox))
}

fn message(seq: u64) -> Event {
    Event::Message(MessageEvent {
        conversation: ConversationId::parse("c1").unwrap(),
        number: 1,
        id: MessageId::new(1, u32::try_from(seq).unwrap()).unwrap(),
        seq,
        at: Time(1_000),
        message: Message {
            author: Author::bare(user("author")),
            client_id: None,
            body: format!("m{seq}").into(),
            metadata: None,
            extra: None,
            trace: None,
        },
        queued: false,
    })
}

/// The bodies a listener was handed, in order.
fn bodies(listener: &Listener) -> Vec<String> {
    let mut all = VecDeque::new();
    listener.outbox.take(&mut all, &mut Vec::new(), usize::MAX);
    all.iter()
        .flat_map(|b| parlance_wire::websocket::texts(b))
        .filter_map(|t| {
            let value: serde_json::Value = serde_json::from_str(t).unwrap();
            let body = value.pointer("/payload/content").or_else(|| value.get("body"))?;
            Some(body.as_str().unwrap().to_owned())
        })
        .collect()
}

fn entry(hub: &Hub, seq: u64, integers: &FxHashMap<UserId, u64>) -> Fanout {
    let event = message(seq);
    hub.deliver_entry(&Entry { topic: &topic(), seq, event: Some(&event), integers }, |_, _| true)
}

fn deliver(hub: &Hub, seq: u64, integers: &FxHashMap<UserId, u64>) -> usize {
    entry(hub, seq, integers).delivered()
}

#[test]
fn a_listener_that_reads_the_log_goes_live_without_gap_or_double() {
    let (hub, alice) = (Hub::new(), listener(1, "alice", Accent::SechatV2));
    hub.set_last(&topic(), 5);
    assert!(hub.enter(&topic(), &alice, Role::Joined));
    assert!(!hub.enter(&topic(), &alice, Role::Joined), "entering twice is one seat");
    deliver(&hub, 6, &FxHashMap::default());
    assert!(bodies(&alice).is_empty(), "a reader hears nothing live");
    assert_eq!(hub.go_live(&topic(), 1, 5), Err(6), "entry 6 must be read first");
    assert_eq!(hub.go_live(&topic(), 1, 8), Ok(()), "having read ahead of the room is fine");
    for seq in 7..=9 {
        deliver(&hub, seq, &FxHashMap::default());
    }
    assert_eq!(bodies(&alice), ["m9"], "7 and 8 were read from the log");
}

#[test]
fn an_entry_is_handed_to_a_room_once() {
    let (hub, alice) = (Hub::new(), listener(1, "alice", Accent::SechatV2));
    hub.enter(&topic(), &alice, Role::Joined);
    hub.go_live_now(&topic(), 1);
    assert_eq!(deliver(&hub, 1, &FxHashMap::default()), 1);
    assert_eq!(deliver(&hub, 1, &FxHashMap::default()), 0);
    assert_eq!(bodies(&alice), ["m1"]);
}

#[test]
fn an_accent_with_integers_gets_each_users_own_and_owes_the_rest() {
    let hub = Hub::new();
    let (bob, carol) = (listener(1, "bob", Accent::Socialhub), listener(2, "carol", Accent::Socialhub));
    for l in [&bob, &carol] {
        hub.enter(&topic(), l, Role::Joined);
        hub.go_live_now(&topic(), l.number);
    }
    assert_eq!(hub.sequenced_users(&topic()), [user("bob"), user("carol")]);
    let integers = FxHashMap::from_iter([(user("bob"), 41)]);
    let fanout = entry(&hub, 1, &integers);
    assert_eq!(fanout.delivered(), 1);
    assert_eq!(fanout.owed.iter().map(|l| l.number).collect::<Vec<_>>(), [2]);
    let mut out = VecDeque::new();
    bob.outbox.take(&mut out, &mut Vec::new(), 10);
    let text = parlance_wire::websocket::texts(&out[0])[0].to_owned();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["seq"], 41);
}

#[test]
fn what_a_listener_is_owed_does_not_count_as_handed_to_it() {
    let hub = Hub::new();
    let (bob, carol) = (listener(1, "bob", Accent::Socialhub), listener(2, "carol", Accent::Socialhub));
    for l in [&bob, &carol] {
        hub.enter(&topic(), l, Role::Joined);
        hub.go_live_now(&topic(), l.number);
    }
    entry(&hub, 1, &FxHashMap::from_iter([(user("bob"), 1), (user("carol"), 1)]));
    let fanout = entry(&hub, 2, &FxHashMap::from_iter([(user("bob"), 2)]));
    assert_eq!(fanout.owed.len(), 1);
    let positions = || [1, 2].map(|number| hub.position(&topic(), number));
    assert_eq!(positions(), [Some(2), Some(1)], "carol has not been told the second one");
    hub.settled(&topic(), 2);
    assert_eq!(positions(), [Some(2), Some(2)]);
}

#[test]
fn who_still_reads_the_log_needs_no_integer_for_what_is_live() {
    let (hub, bob) = (Hub::new(), listener(1, "bob", Accent::Socialhub));
    hub.enter(&topic(), &bob, Role::Joined);
    assert!(hub.sequenced_users(&topic()).is_empty(), "what bob reads comes first and gets smaller ones");
    hub.go_live_now(&topic(), 1);
    assert_eq!(hub.sequenced_users(&topic()), [user("bob")]);
}

#[test]
fn an_evicted_user_hears_nothing_more() {
    let hub = Hub::new();
    let (a, b, c) = (
        listener(1, "alice", Accent::SechatV2),
        listener(2, "alice", Accent::SechatV2),
        listener(3, "bob", Accent::SechatV2),
    );
    for l in [&a, &b, &c] {
        hub.enter(&topic(), l, Role::Joined);
        hub.go_live_now(&topic(), l.number);
    }
    assert_eq!(hub.evict(&topic(), &user("alice")).len(), 2);
    assert_eq!(deliver(&hub, 1, &FxHashMap::default()), 1);
    assert!(bodies(&a).is_empty() && bodies(&b).is_empty());
    assert_eq!(bodies(&c), ["m1"]);
}

#[test]
fn an_empty_room_is_forgotten_and_a_full_one_is_not() {
    let (hub, alice) = (Hub::new(), listener(1, "alice", Accent::SechatV2));
    hub.enter(&topic(), &alice, Role::Joined);
    assert!(!hub.close_if_empty(&topic()));
    hub.leave(&topic(), 1);
    assert!(hub.close_if_empty(&topic()));
    assert_eq!(hub.rooms(), 0);
}

fn presence(name: &str) -> Event {
    Event::Presence(PresenceEvent {
        user: user(name),
        status: Status::Online,
        last_seen: Time(1_000),
        at: Time(1_000),
    })
}

#[test]
fn a_crowd_is_told_together_and_each_only_what_is_for_it() {
    let (hub, events) = (Hub::new(), [presence("ann"), presence("bob"), presence("eve")]);
    let everybody = ["ann", "bob", "zoe", "late"];
    let listeners: Vec<_> =
        (1..).zip(everybody).map(|(number, name)| listener(number, name, Accent::SechatV2)).collect();
    for listener in &listeners {
        hub.enter(&Topic::PresenceAll, listener, Role::Joined);
        if listener.user.as_str() != "late" {
            hub.go_live_now(&Topic::PresenceAll, listener.number);
        }
    }
    assert_eq!(hub.count(&Topic::PresenceAll), 4);
    let share = |listener: &Listener| match listener.user.as_str() {
        "zoe" => Share::All,
        "ann" => Share::Some,
        _ => Share::Nothing,
    };
    let hears = |listener: &Listener, event: &Event| match event {
        Event::Presence(presence) => presence.user != listener.user,
        _ => false,
    };
    let fanout = hub.deliver_together(&Topic::PresenceAll, &events, share, hears);
    assert_eq!((fanout.delivered(), fanout.dropped()), (5, 0), "three events for zoe, two for ann");
    assert_eq!(hub.take_listed().len(), 2);
    let told = |index: usize| {
        let mut all = VecDeque::new();
        listeners[index].outbox.take(&mut all, &mut Vec::new(), usize::MAX);
        let texts: Vec<String> =
            all.iter().flat_map(|piece| parlance_wire::websocket::texts(piece)).map(str::to_owned).collect();
        let names = texts.iter().map(|text| {
            let value: serde_json::Value = serde_json::from_str(text).unwrap();
            value["sessionId"].as_str().unwrap().to_owned()
        });
        (all.len(), names.collect::<Vec<_>>())
    };
    assert_eq!(told(0), (2, vec!["bob".to_owned(), "eve".to_owned()]));
    assert_eq!(told(1), (0, vec![]), "nothing is for bob");
    assert_eq!(told(2), (1, ["ann", "bob", "eve"].map(str::to_owned).to_vec()));
    assert_eq!(told(3), (0, vec![]), "who still reads hears nothing");
}
