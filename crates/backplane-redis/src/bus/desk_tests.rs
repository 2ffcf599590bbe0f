//! The desk without a server: a few channels, two primaries.

use std::time::Duration;

use parlance_backplane::{Delivery, Inbox, Signal};
use tokio::sync::mpsc;

use super::super::table::Verb;
use super::*;

struct Bench {
    desk: Desk,
    inbox: Inbox,
}

fn address(port: u16) -> Address {
    Address::plain("127.0.0.1", port)
}

fn standalone(port: u16) -> Arc<Layout> {
    Arc::new(Layout::standalone(address(port)))
}

impl Bench {
    fn new() -> Self {
        let (sender, inbox) = mpsc::channel(8);
        Self { desk: Desk::new(Outlet::new(sender, Arc::default()).spaced(Duration::ZERO)), inbox }
    }

    fn lay_out(&mut self, layout: Arc<Layout>) -> Vec<LineId> {
        self.desk.lay_out(layout).into_iter().map(|line| line.id).collect()
    }

    fn subscribe(&mut self, channels: &[&str]) -> oneshot::Receiver<()> {
        let (done, told) = oneshot::channel();
        let channels = channels.iter().map(|channel| ((*channel).to_owned(), Topic::Nodes)).collect();
        self.desk.subscribe(channels, done);
        told
    }

    fn sent(&mut self, line: LineId) -> Vec<(Verb, String)> {
        let commands = self.desk.work(line);
        let mut all: Vec<_> = commands
            .iter()
            .flat_map(|command| command.channels.iter().map(|it| (command.verb, it.to_string())))
            .collect();
        all.sort_by(|one, other| one.1.cmp(&other.1));
        all
    }

    /// How often gaps were told of since last asked.
    fn lost(&mut self) -> usize {
        std::iter::from_fn(|| self.inbox.try_recv().ok()).filter(|it| *it == Delivery::Lost).count()
    }
}

fn on(channel: &str) -> (Verb, String) {
    (Verb::Subscribe, channel.to_owned())
}

fn off(channel: &str) -> (Verb, String) {
    (Verb::Unsubscribe, channel.to_owned())
}

#[test]
fn callers_are_told_when_theirs_is_confirmed() {
    let mut bench = Bench::new();
    let mut early = bench.subscribe(&["a"]);
    assert_eq!(bench.lay_out(standalone(1)), [1]);
    assert_eq!(bench.sent(1), [on("a")]);
    let mut both = bench.subscribe(&["a", "b"]);
    bench.desk.subscribed(1, "a");
    assert_eq!((early.try_recv().is_ok(), both.try_recv().is_ok()), (true, false));
    assert_eq!(bench.sent(1), [on("b")]);
    bench.desk.subscribed(1, "b");
    assert!(both.try_recv().is_ok());
    assert!(bench.subscribe(&["b", "a"]).try_recv().is_ok(), "both stand");
    bench.desk.unsubscribe(vec!["a".to_owned(), "never".to_owned()]);
    assert_eq!(bench.sent(1), [off("a")]);
    assert!(bench.desk.topic(1, "a").is_none() && bench.desk.topic(1, "b").is_some());
    let mut again = bench.subscribe(&["a"]);
    assert!(!bench.desk.unsubscribed(1, "a"), "asked for");
    assert_eq!(bench.sent(1), [on("a")]);
    assert!(again.try_recv().is_err());
    bench.desk.subscribed(1, "a");
    assert!(again.try_recv().is_ok());
    assert_eq!(bench.lost(), 0, "nothing was missed at any time");
    assert!(bench.desk.tickets.is_empty());
}

#[test]
fn an_interruption_is_said_when_it_begins_and_when_everything_stands_again() {
    let mut bench = Bench::new();
    bench.lay_out(standalone(1));
    let mut told = bench.subscribe(&["{1}a", "{1}b"]);
    bench.sent(1);
    bench.desk.subscribed(1, "{1}a");
    bench.desk.interrupted(1);
    assert_eq!(bench.lost(), 1);
    assert_eq!(bench.sent(1), [on("{1}a"), on("{1}b")]);
    bench.desk.subscribed(1, "{1}b");
    assert!(told.try_recv().is_ok());
    assert_eq!(bench.lost(), 0, "a is not back yet");
    bench.desk.interrupted(1);
    bench.sent(1);
    bench.desk.subscribed(1, "{1}b");
    bench.desk.unsubscribe(vec!["{1}a".to_owned()]);
    assert_eq!(bench.lost(), 2, "again, and when the last one nobody wants any more");
}

#[test]
fn channels_follow_their_slots() {
    let mut bench = Bench::new();
    // The slot of "foo" is 12182, that of "bar" 5061.
    let halves = |last: u16| Layout::new([(0, last, address(1)), (last + 1, 16383, address(2))]);
    assert_eq!(bench.lay_out(Arc::new(halves(8191))), [1, 2]);
    let mut told = bench.subscribe(&["foo", "bar"]);
    assert_eq!((bench.sent(1), bench.sent(2)), (vec![on("bar")], vec![on("foo")]));
    bench.desk.subscribed(1, "bar");
    bench.desk.subscribed(2, "foo");
    assert!(told.try_recv().is_ok());
    // The server says it before the layout does.
    assert!(bench.desk.unsubscribed(2, "foo"));
    assert!(bench.desk.waits(2));
    assert_eq!(bench.lost(), 1);
    assert!(bench.lay_out(Arc::new(halves(13000))).is_empty());
    bench.desk.retry(2);
    assert_eq!((bench.sent(1), bench.sent(2)), (vec![on("foo")], vec![]));
    assert!(bench.desk.topic(2, "foo").is_none() && bench.desk.topic(1, "foo").is_some());
    bench.desk.subscribed(1, "foo");
    assert_eq!(bench.lost(), 1);
    // The layout says it before the server does.
    bench.lay_out(Arc::new(halves(8191)));
    assert_eq!((bench.sent(1), bench.sent(2)), (vec![off("foo")], vec![on("foo")]));
    assert!(bench.desk.refused(1), "moved");
    assert!(!bench.desk.waits(1), "and not wanted there any more");
    bench.desk.subscribed(2, "foo");
    assert_eq!(bench.lost(), 2);
    assert!(!bench.desk.refused(1));
}

#[test]
fn a_primary_that_is_replaced_has_its_line_stopped() {
    let mut bench = Bench::new();
    let first = bench.desk.lay_out(standalone(1)).remove(0);
    let mut told = bench.subscribe(&["a"]);
    bench.sent(1);
    bench.desk.subscribed(1, "a");
    assert!(told.try_recv().is_ok());
    // Nobody has the slots: they stay where they were.
    assert!(bench.lay_out(Arc::default()).is_empty() && !first.stop.is_cancelled());
    assert_eq!(bench.lay_out(standalone(2)), [2]);
    assert!(first.stop.is_cancelled());
    assert_eq!((bench.sent(1), bench.sent(2)), (vec![], vec![on("a")]));
    bench.desk.interrupted(1);
    bench.desk.subscribed(2, "a");
    assert_eq!(bench.lost(), 2);
    bench.desk.deliver(Topic::Nodes, Publication::Signal(Signal::Maintenance));
    assert!(matches!(bench.inbox.try_recv(), Ok(Delivery::Published(..))));
}

#[test]
fn callers_that_gave_up_are_forgotten() {
    let mut bench = Bench::new();
    for _ in 0..1000 {
        drop(bench.subscribe(&["a"]));
    }
    assert!(bench.desk.tickets.len() < 200, "{}", bench.desk.tickets.len());
    assert_eq!(
        bench.desk.wanted.values().map(|it| it.waiting.len()).sum::<usize>(),
        bench.desk.tickets.len()
    );
}
