//! What the load generator is there to notice.

use std::time::Duration;

use parlance_tests::Ws;
use parlance_tests::hostile::metric;
use rustix::process::{Pid, Signal, kill_process};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::rig::{Done, Floor, gateway, on, run, to};

fn begin(words: &str, more: Vec<String>) -> JoinSet<Done> {
    let all: Vec<String> = words.split(' ').map(str::to_owned).chain(more).collect();
    JoinSet::from_iter([async move { run(&all.iter().map(String::as_str).collect::<Vec<_>>()).await }])
}

#[tokio::test]
async fn a_server_that_dies_in_the_middle_is_no_clean_run() {
    let mut gateway = gateway().await;
    let words = "fanout --members 3 --rate 50 --warmup 0.5 --seconds 6 --patience 1";
    let running = begin(words, to(&gateway));
    // In the middle: warm-up is over, and three seconds of messages are still due.
    let delivered = async || metric(&gateway, "parlance_deliveries_total").await.unwrap();
    while delivered().await < 3.0 * 50.0 * 2.0 {
        sleep(Duration::from_millis(20)).await;
    }
    gateway.kill9().unwrap();
    let done = running.join_all().await.remove(0);
    assert_eq!(done.code, Some(1), "{done:?}");
    // What was due then was never sent, and is told; whether anything acknowledged was still on its way is chance.
    assert!(!done.outcome["checks"]["errors"].as_object().unwrap().is_empty(), "{done:?}");
    assert!(done.check("sent") < 325, "{done:?}");
}

#[tokio::test]
async fn a_server_that_stalls_is_seen_in_the_times_of_all_it_held_up() {
    let floor = Floor::start();
    let words =
        format!("fanout --kind floor --members 3 --rate 100 --warmup 0.2 --seconds 4 --nodes {}", floor.url);
    let running = begin(&words, Vec::new());
    // In the middle: somebody who is there hears the first half of what is sent.
    let mut witness = Ws::connect(&floor.url).await.unwrap();
    for _ in 0..200 {
        witness.line().await.unwrap();
    }
    let pid = Pid::from_raw(i32::try_from(floor.pid()).unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    sleep(Duration::from_secs(1)).await;
    kill_process(pid, Signal::CONT).unwrap();
    let done = running.join_all().await.remove(0);
    assert_eq!((done.code, done.check("sent")), (Some(0), 420), "{done:?}");
    // A tenth of all messages was due in the second half of the pause and before its last 100 ms, and waited for it:
    // a loop that waits for answers would have sent one.
    let p90 = done.outcome["times"]["delivery"]["p90"].as_u64().unwrap();
    assert!(p90 > 400_000, "{done:?}");
}

#[tokio::test]
async fn a_broken_threshold_and_a_wrong_address_are_told_apart() {
    let gateway = gateway().await;
    let words = "fanout --members 2 --rate 20 --warmup 0 --seconds 0.5 --threshold delivery.p50_us<=1";
    assert_eq!(on(&gateway, words).await.code, Some(1));
    let refused = run(&["fanout", "--nodes", "ws://127.0.0.1:1", "--api", "http://127.0.0.1:1"]).await;
    assert_eq!(refused.code, Some(2), "{refused:?}");
    let address = format!("ws://{}", gateway.address());
    let secret = run(&["idle", "--connections", "1", "--secret", "another", "--nodes", &address]).await;
    assert_ne!(secret.code, Some(0));
}
