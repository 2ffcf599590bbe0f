//! Every scenario, with the counts it must come to.

use std::time::Duration;

use crate::rig::{gateway, on};

/// Of 20 a second over 1.2 s, 20 of them after the warm-up.
const SENT: u64 = 24;
const OPEN: &str = "--rate 20 --warmup 0.2 --seconds 1";

#[tokio::test]
async fn rooms() {
    let gateway = gateway().await;
    let done = on(&gateway, &format!("rooms {OPEN} --rooms 3 --members 4 --senders 2 --dialect famly")).await;
    done.is_exactly(SENT, SENT * 4);
}

#[tokio::test]
async fn direct_with_receipts() {
    let gateway = gateway().await;
    for (dialect, hearers, delivered) in
        [("sechat", 1, true), ("lingochat", 2, true), ("famly", 2, false), ("chatgenius", 2, false)]
    {
        let done = on(&gateway, &format!("direct {OPEN} --pairs 4 --dialect {dialect}")).await;
        done.is_exactly(SENT, SENT * hearers);
        assert!(done.timed("receipt_read") > 0, "{done:?}");
        assert_eq!(done.outcome["times"].get("receipt_delivered").is_some(), delivered, "{dialect}");
    }
}

#[tokio::test]
async fn acks_in_a_closed_loop() {
    let gateway = gateway().await;
    let done = on(&gateway, "acks --closed --window 4 --senders 3 --warmup 0.2 --seconds 1").await;
    let sent = done.check("sent");
    assert!(sent > 12, "{done:?}");
    done.is_exactly(sent, sent * 2);
    assert_eq!(done.check("acked"), sent);
}

#[tokio::test]
async fn fan_out_in_a_closed_loop() {
    let gateway = gateway().await;
    let done = on(&gateway, "fanout --closed --window 4 --members 5 --warmup 0.2 --seconds 1").await;
    let sent = done.check("sent");
    assert!(sent > 4, "{done:?}");
    done.is_exactly(sent, sent * 6);
}

#[tokio::test]
async fn typing() {
    let gateway = gateway().await;
    let done = on(&gateway, &format!("typing {OPEN} --rooms 2 --members 4 --dialect famly")).await;
    assert_eq!((done.code, done.check("sent")), (Some(0), SENT), "{done:?}");
    assert!(done.timed("typing") > 0, "{done:?}");
}

#[tokio::test]
async fn presence() {
    let gateway = gateway().await;
    let words = format!("presence-churn {OPEN} --watchers 3 --users 30 --stay 100 --dialect sechat");
    let done = on(&gateway, &words).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.figure("comings") > 10.0 && done.timed("presence") > 10, "{done:?}");
}

#[tokio::test]
async fn polling() {
    let gateway = gateway().await;
    for (dialect, hearers) in [("lingochat", 3), ("socialhub", 3)] {
        let done = on(&gateway, &format!("polling {OPEN} --rooms 2 --members 3 --dialect {dialect}")).await;
        done.is_exactly(SENT, SENT * hearers);
    }
}

#[tokio::test]
async fn connect_storm() {
    let gateway = gateway().await;
    let watch = gateway.pid().unwrap();
    let words =
        format!("connect-storm --connections 40 --in-flight 10 --waves 2 --settle 0.2 --watch node={watch}");
    for dialect in ["socialhub", "chatgenius"] {
        let done = on(&gateway, &format!("{words} --dialect {dialect}")).await;
        assert_eq!((done.code, done.timed("connect")), (Some(0), 80), "{done:?}");
        assert!((done.figure("connects") - 80.0).abs() < 0.5);
        assert!(done.figure("cpu_us_per_connect") > 1.0 && done.figure("rss_last_to_first") > 0.0);
    }
}

#[tokio::test]
async fn idle() {
    let gateway = gateway().await;
    let watch = gateway.pid().unwrap();
    let words = format!(
        "idle --connections 30 --rooms 3 --room-size 10 --settle 0.2 --warmup 0 --seconds 1 --watch node={watch}"
    );
    for flags in ["--dialect socialhub", "--dialect famly", "--dialect famly --transport polling"] {
        let done = on(&gateway, &format!("{words} {flags}")).await;
        assert_eq!(done.code, Some(0), "{done:?}");
        assert!((done.figure("connections") - 30.0).abs() < 0.5, "{done:?}");
    }
}

#[tokio::test]
async fn a_storm_of_reconnects_loses_nothing() {
    let gateway = gateway().await;
    for dialect in ["sechat", "socialhub", "famly", "lingochat", "chatgenius"] {
        let words = format!("reconnect-storm {OPEN} --rooms 3 --members 3 --cuts 1 --dialect {dialect}");
        let done = on(&gateway, &words).await;
        assert_eq!(
            (done.code, done.check("lost"), done.check("sent")),
            (Some(0), 0, SENT),
            "{dialect}: {done:?}"
        );
        assert_eq!(done.check("delivered"), done.check("expected"), "{dialect}: {done:?}");
        assert!((done.figure("came_back") - 9.0).abs() < 0.5, "{dialect}: {done:?}");
        assert!(done.figure("all_back_ms") > 0.0);
    }
}

#[tokio::test]
async fn a_rollout_loses_nothing() {
    let mut gateway = gateway().await;
    let words = "rollout --rooms 3 --members 3 --rate 20 --warmup 0.5 --seconds 5 --dialect sechat";
    let to = crate::rig::to(&gateway);
    let all: Vec<String> = words.split(' ').map(str::to_owned).chain(to).collect();
    let running = tokio::task::JoinSet::from_iter([async move {
        crate::rig::run(&all.iter().map(String::as_str).collect::<Vec<_>>()).await
    }]);
    // In the middle of the run, whenever that is: clients come back and nothing is lost at any moment.
    tokio::time::sleep(Duration::from_secs(2)).await;
    gateway.restart().await.unwrap();
    let done = running.join_all().await.remove(0);
    assert_eq!((done.code, done.check("lost")), (Some(0), 0), "{done:?}");
    assert_eq!(done.check("delivered"), done.check("expected"), "{done:?}");
    assert!(done.figure("came_back") >= 9.0, "{done:?}");
}

#[tokio::test]
async fn soak() {
    let gateway = gateway().await;
    let watch = gateway.pid().unwrap();
    let words =
        format!("soak --minutes 0.1 --rooms 3 --members 3 --rate 20 --warmup 0.2 --watch node={watch}");
    let done = on(&gateway, &words).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.figure("rss_growth") > 0.5, "{done:?}");
}
