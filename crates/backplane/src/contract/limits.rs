//! Rate windows and shared values.

use std::time::Duration;

use tokio::task::JoinSet;

use super::{Rig, user};
use crate::{Backplane, Over, Rule, Verdict};

fn rule(limit: u32) -> Rule {
    Rule { name: "send".into(), limit, window: Duration::from_secs(2) }
}

pub async fn windows_slide_exactly(rig: &dyn Rig) {
    let node = &rig.nodes(1).await[0];
    let rule = rule(3);
    let take = async || node.limits.take(&user("u"), &rule).await.unwrap();
    let begin = rig.now().await;
    for remaining in [2, 1, 0] {
        let verdict = take().await;
        assert_eq!((verdict.allowed, verdict.remaining), (true, remaining));
        rig.advance(Duration::from_millis(500)).await;
    }
    // t = 1.5 s: all three are in the window, the oldest leaves at 2 s.
    let refused = take().await;
    assert!(!refused.allowed && refused.reset >= begin + rule.window);
    assert!(refused.reset < begin + rule.window + Duration::from_millis(400));
    rig.advance(Duration::from_millis(600)).await;
    // t = 2.1 s: one left; the refused attempt counted for nothing.
    assert!(take().await.allowed);
    assert!(!take().await.allowed);
    assert!(node.limits.take(&user("v"), &rule).await.unwrap().allowed, "per user");
    let other = Rule { name: "type".into(), ..rule.clone() };
    assert!(node.limits.take(&user("u"), &other).await.unwrap().allowed, "per rule");
}

pub async fn limits_hold_over_nodes_and_entries_can_be_given_back(rig: &dyn Rig) {
    let nodes = rig.nodes(3).await;
    let rule = Rule { window: Duration::from_secs(600), ..rule(20) };
    let mut tasks = JoinSet::new();
    for n in 0..100 {
        let (node, rule) = (nodes[n % 3].clone(), rule.clone());
        tasks.spawn(async move { node.limits.take(&user("u"), &rule).await.unwrap() });
    }
    let verdicts = tasks.join_all().await;
    let allowed: Vec<_> = verdicts.iter().filter(|verdict| verdict.allowed).collect();
    assert_eq!(allowed.len(), 20);
    nodes[0].limits.give_back(&user("u"), &rule, allowed[7].stamp).await.unwrap();
    // Giving back twice, or what never was, changes nothing.
    nodes[1].limits.give_back(&user("u"), &rule, allowed[7].stamp).await.unwrap();
    assert!(nodes[1].limits.take(&user("u"), &rule).await.unwrap().allowed);
    assert!(!nodes[2].limits.take(&user("u"), &rule).await.unwrap().allowed);
}

async fn take(node: &Backplane, rule: &Rule) -> Verdict {
    node.limits.take(&user("u"), rule).await.unwrap()
}

pub async fn what_happened_later_counts_from_then_on(rig: &dyn Rig) {
    let nodes = rig.nodes(2).await;
    let rule = rule(2);
    let begin = rig.now().await;
    let (first, second) = (take(&nodes[0], &rule).await, take(&nodes[1], &rule).await);
    assert!(first.allowed && second.allowed);
    rig.advance(Duration::from_millis(1000)).await;
    // The first is overtaken by the second.
    let late = begin + Duration::from_millis(900);
    nodes[1].limits.happened(&user("u"), &rule, first.stamp, late).await.unwrap();
    let refused = take(&nodes[0], &rule).await;
    assert!(!refused.allowed && refused.reset < begin + rule.window + Duration::from_millis(400));
    rig.advance(Duration::from_millis(1400)).await;
    // t = 2.4 s: the second has left, the first has not.
    assert!(take(&nodes[1], &rule).await.allowed);
    let refused = take(&nodes[0], &rule).await;
    assert!(!refused.allowed && refused.reset >= late + rule.window);
    rig.advance(Duration::from_millis(800)).await;
    // t = 3.2 s: the first has left as well, and comes again: it took longer than a window.
    nodes[0].limits.happened(&user("u"), &rule, first.stamp, begin + Duration::from_secs(3)).await.unwrap();
    assert!(!take(&nodes[1], &rule).await.allowed);
}

pub async fn shared_values_have_a_lifetime(rig: &dyn Rig) {
    let nodes = rig.nodes(2).await;
    let (a, b) = (&nodes[0].shared, &nodes[1].shared);
    assert_eq!(a.load("k").await.unwrap(), None);
    a.save("k", b"one".to_vec(), Some(Duration::from_secs(2))).await.unwrap();
    b.save("stays", vec![0, 255], None).await.unwrap();
    assert_eq!(b.load("k").await.unwrap().as_deref(), Some(&b"one"[..]));
    rig.advance(Duration::from_secs(1)).await;
    b.save("k", b"two".to_vec(), Some(Duration::from_secs(2))).await.unwrap();
    rig.advance(Duration::from_millis(1500)).await;
    assert_eq!(
        a.load("k").await.unwrap().as_deref(),
        Some(&b"two"[..]),
        "the last save wins, with its lifetime"
    );
    rig.advance(Duration::from_secs(1)).await;
    assert_eq!(a.load("k").await.unwrap(), None);
    a.save("other", vec![1], Some(Duration::from_secs(1))).await.unwrap();
    assert_eq!(a.load("stays").await.unwrap(), Some(vec![0, 255]));
    let begin = |on: &'static str| a.load_or_save("begun", on.into(), Some(Duration::from_secs(2)));
    assert_eq!(begin("first").await.unwrap(), None);
    assert_eq!(begin("second").await.unwrap().as_deref(), Some(&b"first"[..]));
    rig.advance(Duration::from_millis(2500)).await;
    assert_eq!(begin("third").await.unwrap(), None, "what was there is past its lifetime");
    assert_eq!(b.load("begun").await.unwrap().as_deref(), Some(&b"third"[..]));
    b.remove("stays").await.unwrap();
    b.remove("stays").await.unwrap();
    assert_eq!(a.load("stays").await.unwrap(), None);
}

pub async fn what_is_kept_takes_the_place_of_what_was_seen(rig: &dyn Rig) {
    let nodes = rig.nodes(2).await;
    let (a, b) = (&nodes[0].shared, &nodes[1].shared);
    let one = || b"one".to_vec();
    let short = Some(Duration::from_secs(2));
    assert!(!a.keep("k", one(), None, Over::This(Some(one()))).await.unwrap(), "nothing is there");
    assert!(a.keep("k", one(), short, Over::This(None)).await.unwrap());
    assert!(!b.keep("k", vec![2], None, Over::This(None)).await.unwrap());
    assert!(!b.keep("k", vec![2], None, Over::This(Some(vec![]))).await.unwrap());
    assert_eq!(b.load("k").await.unwrap(), Some(one()));
    rig.advance(Duration::from_millis(2500)).await;
    assert!(!b.keep("k", vec![2], None, Over::This(Some(one()))).await.unwrap(), "past its lifetime");
    assert!(b.keep("k", vec![], None, Over::This(None)).await.unwrap());
    assert!(a.keep("k", vec![0, 255], None, Over::This(Some(vec![]))).await.unwrap());
    assert!(a.keep("k", one(), None, Over::Anything).await.unwrap());
    assert_eq!(b.load("k").await.unwrap(), Some(one()));
}

pub async fn nothing_is_lost_of_what_several_nodes_widen_at_once(rig: &dyn Rig) {
    let nodes = rig.nodes(2).await;
    let mut tasks = JoinSet::new();
    for n in 0..40_u8 {
        let shared = nodes[usize::from(n % 2)].shared.clone();
        tasks.spawn(async move {
            loop {
                let seen = shared.load("k").await.unwrap();
                let mut wider = seen.clone().unwrap_or_default();
                wider.push(n);
                if shared.keep("k", wider, None, Over::This(seen)).await.unwrap() {
                    return;
                }
            }
        });
    }
    tasks.join_all().await;
    let mut all = nodes[0].shared.load("k").await.unwrap().unwrap();
    all.sort_unstable();
    assert_eq!(all, (0..40).collect::<Vec<u8>>());
}
