//! Every dialect and every transport is spoken: exact counts of a small fan-out.

use crate::rig::{Floor, gateway, on, run};

/// Of 20 a second over 1.2 s.
const SENT: u64 = 24;
const FLAGS: &str = "--rate 20 --warmup 0.2 --seconds 1 --members 4 --publishers 2";

/// Both publishers are in the room: `hearers` are those who hear one message.
async fn fans_out(flags: &str, hearers: u64) {
    let gateway = gateway().await;
    let done = on(&gateway, &format!("fanout {FLAGS} {flags}")).await;
    done.is_exactly(SENT, SENT * hearers);
    assert_eq!(done.check("acked"), SENT);
    assert_eq!(done.timed("delivery"), 20 * hearers, "only what was sent after the warm-up is timed");
    assert_eq!(done.timed("ack"), 20);
}

#[tokio::test]
async fn sechat() {
    fans_out("--dialect sechat", 5).await;
}

#[tokio::test]
async fn sechat_over_socket_io() {
    fans_out("--dialect sechat-io", 5).await;
}

#[tokio::test]
async fn sechat_where_the_first_message_makes_the_room() {
    fans_out("--dialect sechat --membership open", 5).await;
}

#[tokio::test]
async fn lingochat() {
    fans_out("--dialect lingochat", 6).await;
}

#[tokio::test]
async fn famly() {
    fans_out("--dialect famly", 6).await;
}

#[tokio::test]
async fn famly_by_polling() {
    fans_out("--dialect famly --transport polling", 6).await;
}

#[tokio::test]
async fn chatgenius() {
    fans_out("--dialect chatgenius", 6).await;
}

#[tokio::test]
async fn socialhub() {
    fans_out("--dialect socialhub", 6).await;
}

#[tokio::test]
async fn socialhub_by_polling() {
    fans_out("--dialect socialhub --transport polling", 6).await;
}

#[tokio::test]
async fn several_processes_are_one_load() {
    fans_out("--dialect famly --processes 2", 6).await;
}

#[tokio::test]
async fn the_floor() {
    let floor = Floor::start();
    let words = format!("fanout --kind floor --nodes {} --watch floor={} {FLAGS}", floor.url, floor.pid());
    let done = run(&words.split(' ').collect::<Vec<_>>()).await;
    done.is_exactly(SENT, SENT * 5);
    assert!(done.figure("cpu_us_per_delivery") > 0.0);
}
