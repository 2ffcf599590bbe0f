//! Each check finds a violation that was planted, and is silent without it.

use std::collections::BTreeMap;

use super::{Invariant, Run, Track, Verdict};
use crate::chaos::catchup::Item;
use crate::chaos::dump::Dump;
use crate::chaos::history::{Device, Entry, Sample, Shown, What};
use crate::chaos::outside::{Row, Seen, Told};
use crate::chaos::probes::FLOODED;
use crate::chaos::{Fault, Scenario};

const ROOM: &str = "1001";

fn at(at: u64, what: What) -> Entry {
    Entry { at, what }
}

fn body(n: u64) -> String {
    format!("m~{ROOM}~alice-0~{n}")
}

/// An id in the form of the server API, and its body.
fn item(n: u64) -> Item {
    Item {
        id: format!("msg_68a4d7c00001234500{n:06x}"),
        seq: n,
        sender: "alice".into(),
        body: body(n),
        client_id: Some(format!("c{n}")),
        created_at: "2025-01-01T00:00:00.000Z".into(),
    }
}

fn row(n: u64) -> Row {
    let Item { seq, sender, client_id, body, .. } = item(n);
    Row { seq, sender, client_id, body }
}

fn told(n: u64) -> Told {
    Told { event: format!("e-{n}"), body: body(n) }
}

fn shown(n: u64) -> What {
    let Item { id, sender, body, .. } = item(n);
    What::Shown(Shown { conversation: ROOM.into(), id, from: sender, body, fetched: false })
}

fn track(user: &str, dialect: &str, entries: Vec<Entry>) -> Track {
    let conversations = vec![ROOM.to_owned()];
    let device = Device { user: user.into(), dialect: dialect.into(), conversations };
    Track { name: format!("{user}-0"), device, entries }
}

/// Alice sends three messages, Bob and Carol hear them, a node is killed between, all is well.
fn well() -> Run {
    let mut alice = vec![at(0, What::Up)];
    let mut bob = vec![at(0, What::Reached { node: 1 }), at(0, What::Up)];
    for n in 1..=3 {
        let sent = What::Sent { conversation: ROOM.into(), body: body(n), client_id: format!("c{n}") };
        alice.push(at(n * 8000, sent));
        alice.push(at(n * 8000 + 10, What::Acked { body: body(n), id: None }));
        bob.push(at(n * 8000 + 10, shown(n)));
    }
    alice.push(at(24_100, What::Typed { conversation: ROOM.into() }));
    bob.push(at(24_200, typing(true)));
    bob.push(at(25_000, typing(false)));
    let receipt =
        What::Receipt { read: true, conversation: None, ids: vec![item(3).id], by: Some("bob".into()) };
    alice.push(at(26_000, receipt));
    let mut carol = bob.clone();
    carol.insert(2, at(10, What::Presence { user: "alice".into(), online: true }));
    let sample =
        || What::Sample(Sample { rss_kib: 200_000, descriptors: 100, threads: 9, ..Sample::default() });
    Run {
        scenario: Scenario { name: "planted".into(), ..Scenario::of(Fault::NodeKill, 1) },
        tracks: vec![
            track("alice", "famly", alice),
            track("bob", "socialhub", bob),
            track("carol", "socialhub", carol),
        ],
        rig: vec![
            at(900, sample()),
            at(1000, What::Fault { name: "node-kill".into() }),
            at(1000, What::Killed { node: 1 }),
            at(2000, What::Healed { name: "node-kill".into() }),
            at(59_000, sample()),
            at(60_000, What::Settle),
        ],
        dump: Dump {
            logs: BTreeMap::from([(ROOM.to_owned(), (1..=3).map(item).collect())]),
            members: BTreeMap::from([(
                ROOM.to_owned(),
                ["alice", "bob", "carol"].map(str::to_owned).to_vec(),
            )]),
            outside: Some(Seen {
                archived: BTreeMap::from([(ROOM.to_owned(), (1..=3).map(row).collect())]),
                told: BTreeMap::from([(ROOM.to_owned(), (1..=3).map(told).collect())]),
                ..Seen::default()
            }),
        },
        node_logs: vec![("node-0".into(), "all is well\n".into())],
    }
}

fn typing(on: bool) -> What {
    What::Typing { conversation: ROOM.into(), user: "alice".into(), on }
}

/// Plants, and expects this promise to be broken.
fn finds(invariant: Invariant, plant: impl FnOnce(&mut Run)) {
    let mut run = own_messages(well());
    plant(&mut run);
    let found = run.judge().verdicts.remove(&invariant);
    assert!(matches!(found, Some(Verdict::Broken(_))), "{invariant:?}: {found:?}");
}

/// Alice sees her own messages, as Famly shows them.
fn own_messages(mut run: Run) -> Run {
    for n in 1..=3 {
        push(&mut run, 0, n * 8000 + 20, shown(n));
    }
    run.tracks[0].entries.sort_by_key(|entry| entry.at);
    run
}

fn push(run: &mut Run, track: usize, when: u64, what: What) {
    run.tracks[track].entries.push(at(when, what));
    run.tracks[track].entries.sort_by_key(|entry| entry.at);
}

fn drop_shown(run: &mut Run, track: usize, n: u64) {
    run.tracks[track].entries.retain(|entry| entry.what != shown(n));
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    let report = own_messages(well()).judge();
    assert!(report.is_well(), "{}", report.evidence());
    for invariant in
        [Invariant::Acked, Invariant::Once, Invariant::Order, Invariant::Typing, Invariant::Receipts]
    {
        assert!(matches!(report.verdicts[&invariant], Verdict::Kept(1.., _)), "{invariant:?}");
    }
}

#[test]
fn an_acknowledged_message_that_is_lost() {
    finds(Invariant::Acked, |run| drop(run.dump.logs.get_mut(ROOM).map(|items| items.remove(1))));
}

#[test]
fn a_message_that_never_reaches_a_member() {
    finds(Invariant::Acked, |run| drop_shown(run, 1, 3));
}

#[test]
fn a_message_that_is_shown_and_in_no_log() {
    finds(Invariant::Acked, |run| push(run, 1, 30_000, shown(9)));
}

#[test]
fn a_message_that_is_in_the_log_twice() {
    finds(Invariant::Once, |run| {
        let again = Item { seq: 4, id: item(4).id, ..item(3) };
        run.dump.logs.get_mut(ROOM).unwrap().push(again);
    });
}

#[test]
fn a_message_that_is_shown_twice_under_two_ids() {
    finds(Invariant::Once, |run| {
        let Item { id, .. } = item(7);
        let What::Shown(again) = shown(3) else { unreachable!() };
        push(run, 1, 30_000, What::Shown(Shown { id, ..again }));
    });
}

#[test]
fn two_acknowledgements_of_one_message_under_two_ids() {
    finds(Invariant::Once, |run| {
        for id in ["x", "y"] {
            push(run, 0, 30_000, What::Acked { body: body(3), id: Some(id.into()) });
        }
    });
}

#[test]
fn messages_out_of_order() {
    finds(Invariant::Order, |run| {
        drop_shown(run, 1, 1);
        push(run, 1, 17_000, shown(1));
    });
}

#[test]
fn an_authors_messages_out_of_order() {
    finds(Invariant::Order, |run| {
        let log = run.dump.logs.get_mut(ROOM).unwrap();
        (log[0].seq, log[1].seq) = (2, 1);
    });
}

#[test]
fn a_silent_gap_and_not_one_that_was_told() {
    finds(Invariant::Gap, |run| drop_shown(run, 1, 2));
    let mut run = own_messages(well());
    drop_shown(&mut run, 1, 2);
    push(&mut run, 1, 20_000, What::Told { kind: "resync".into() });
    assert!(!matches!(run.judge().verdicts[&Invariant::Gap], Verdict::Broken(_)));
}

#[test]
fn a_loss_that_is_allowed_but_not_told() {
    finds(Invariant::Gap, |run| {
        run.scenario = Scenario::of(Fault::RedisEmpty, 1);
        run.dump.logs.get_mut(ROOM).unwrap().remove(2);
        drop_shown(run, 1, 3);
    });
}

/// Somebody who went without a word at 1,500 ms.
fn gone() -> Track {
    track("dave", "socialhub", vec![at(0, What::Up), at(1500, What::Gone)])
}

fn said_gone(run: &mut Run, when: u64) {
    for track in 0..3 {
        push(run, track, when, What::Presence { user: "dave".into(), online: false });
    }
}

#[test]
fn somebody_who_is_never_seen_to_go() {
    finds(Invariant::Ghost, |run| run.tracks.push(gone()));
}

#[test]
fn somebody_who_is_seen_to_go_late_or_twice() {
    finds(Invariant::Ghost, |run| {
        run.tracks.push(gone());
        said_gone(run, 45_000);
    });
    finds(Invariant::Ghost, |run| {
        run.tracks.push(gone());
        said_gone(run, 36_000);
        said_gone(run, 37_000);
    });
    let mut run = own_messages(well());
    run.tracks.push(gone());
    said_gone(&mut run, 37_000);
    assert!(matches!(run.judge().verdicts[&Invariant::Ghost], Verdict::Kept(..)));
}

#[test]
fn somebody_who_is_there_and_said_to_be_gone() {
    finds(Invariant::FalseOffline, |run| {
        push(run, 1, 30_000, What::Presence { user: "alice".into(), online: false });
    });
}

#[test]
fn somebody_whose_node_died_and_who_came_back_was_never_gone() {
    finds(Invariant::FalseOffline, |run| {
        push(run, 1, 1010, What::Down { code: None, reason: String::new() });
        push(run, 1, 9000, What::Up);
        push(run, 2, 8900, What::Presence { user: "bob".into(), online: false });
    });
}

#[test]
fn typing_that_does_not_stop_or_starts_late() {
    finds(Invariant::Typing, |run| run.tracks[1].entries.retain(|entry| entry.what != typing(false)));
    finds(Invariant::Typing, |run| push(run, 1, 40_000, typing(true)));
}

#[test]
fn more_than_the_limit_and_much_less() {
    let log = |spacing: u64, count: u64| {
        (0..count)
            .map(|n| {
                let ms = n * spacing;
                let created_at = format!("2025-01-01T00:00:{:02}.{:03}Z", ms / 1000, ms % 1000);
                Item { created_at, body: format!("m~{FLOODED}~flood~{n}"), client_id: None, ..item(n + 1) }
            })
            .collect::<Vec<_>>()
    };
    finds(Invariant::Limits, |run| drop(run.dump.logs.insert(FLOODED.into(), log(500, 30))));
    finds(Invariant::Limits, |run| drop(run.dump.logs.insert(FLOODED.into(), log(2000, 15))));
    let mut run = own_messages(well());
    run.dump.logs.insert(FLOODED.into(), log(1000, 30));
    assert!(matches!(run.judge().verdicts[&Invariant::Limits], Verdict::Kept(..)));
}

#[test]
fn receipts_that_go_back_or_come_from_the_author() {
    let receipt = |read, n, by: &str| What::Receipt {
        read,
        conversation: None,
        ids: vec![item(n).id],
        by: Some(by.to_owned()),
    };
    finds(Invariant::Receipts, |run| push(run, 0, 30_000, receipt(true, 1, "bob")));
    finds(Invariant::Receipts, |run| push(run, 0, 30_000, receipt(false, 3, "bob")));
    finds(Invariant::Receipts, |run| push(run, 1, 30_000, receipt(true, 3, "alice")));
    finds(Invariant::Receipts, |run| push(run, 0, 30_000, receipt(true, 3, "mallory")));
}

#[test]
fn what_is_not_for_somebody() {
    finds(Invariant::Leak, |run| {
        push(run, 1, 30_000, What::Glimpse { conversation: "1002".into(), frame: "{}".into() });
    });
    finds(Invariant::Leak, |run| {
        run.rig.push(at(10_000, What::Removed { conversation: ROOM.into(), user: "bob".into() }));
    });
}

#[test]
fn descriptors_that_do_not_come_back() {
    finds(Invariant::Bounded, |run| {
        let more = Sample { rss_kib: 200_000, descriptors: 400, threads: 9, ..Sample::default() };
        for when in [59_100, 59_200] {
            run.rig.push(at(when, What::Sample(more.clone())));
        }
    });
}

#[test]
fn slow_after_healing_or_not_back() {
    finds(Invariant::Live, |run| {
        for entry in &mut run.tracks[0].entries {
            if matches!(&entry.what, What::Acked { .. }) {
                entry.at += 5000;
            }
        }
    });
    finds(Invariant::Live, |run| {
        push(run, 1, 3000, What::Down { code: None, reason: String::new() });
        push(run, 1, 9000, What::Up);
    });
}

#[test]
fn a_node_that_ends_badly_or_says_that_it_is_ready_while_it_stops() {
    finds(Invariant::Drain, |run| run.rig.push(at(61_000, What::Exited { node: 0, code: Some(101) })));
    finds(Invariant::Drain, |run| run.rig.push(at(61_000, What::Readiness { node: 0, status: 200 })));
}

#[test]
fn a_client_that_is_sent_away_twice_in_a_rollout() {
    finds(Invariant::Drain, |run| {
        run.rig.insert(1, at(1000, What::Rollout));
        for when in [1200, 1600] {
            push(run, 1, when, What::Down { code: Some(1012), reason: String::new() });
            push(run, 1, when + 100, What::Up);
        }
    });
}

#[test]
fn what_a_log_must_not_say() {
    for line in
        ["thread 'x' panicked at src/a.rs:1", crate::SECRET, "token eyJhbGciOi", "body m~1001~alice-0~1"]
    {
        finds(Invariant::Log, |run| run.node_logs.push(("node-1".into(), line.to_owned())));
    }
}

fn outside(run: &mut Run) -> &mut Seen {
    run.dump.outside.as_mut().unwrap()
}

#[test]
fn what_the_archive_lacks_has_twice_or_elsewhere() {
    finds(Invariant::Outside, |run| drop(outside(run).archived.get_mut(ROOM).unwrap().pop()));
    finds(Invariant::Outside, |run| outside(run).archived.get_mut(ROOM).unwrap().push(row(3)));
    finds(Invariant::Outside, |run| outside(run).archived.get_mut(ROOM).unwrap()[0].seq = 9);
    finds(Invariant::Outside, |run| outside(run).superseded = 1);
}

#[test]
fn what_the_backend_is_not_told_is_told_twice_or_out_of_order() {
    finds(Invariant::Outside, |run| drop(outside(run).told.get_mut(ROOM).unwrap().pop()));
    finds(Invariant::Outside, |run| outside(run).told.get_mut(ROOM).unwrap().swap(0, 1));
    finds(Invariant::Outside, |run| {
        let again = Told { event: "another".to_owned(), ..told(3) };
        outside(run).told.get_mut(ROOM).unwrap().push(again);
    });
}
