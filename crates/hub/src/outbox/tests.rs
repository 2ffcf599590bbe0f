//! Order, bounds and the way out of an outbox.

use super::*;

fn piece(text: &str, class: Class) -> Encoded {
    Encoded::framed(&[text], class)
}

fn drain(outbox: &Outbox) -> (Vec<String>, bool) {
    let mut all = VecDeque::new();
    outbox.take(&mut all, &mut Vec::new(), 100);
    let texts =
        all.iter().flat_map(|b| parlance_wire::websocket::texts(b)).map(str::to_owned).collect::<Vec<_>>();
    (texts, outbox.is_overflown())
}

#[test]
fn passing_events_give_way_to_messages() {
    let outbox = Outbox::new(Limits { bytes: 1000, pieces: 3 });
    assert_eq!(outbox.push(&piece("t1", Class::Passing), None), Pushed::Queued);
    assert_eq!(outbox.push(&piece("m1", Class::Kept), None), Pushed::Queued);
    assert_eq!(outbox.push(&piece("t2", Class::Passing), None), Pushed::Queued);
    assert_eq!(outbox.push(&piece("t3", Class::Passing), None), Pushed::Dropped);
    assert_eq!(outbox.push(&piece("m2", Class::Kept), None), Pushed::Queued);
    assert_eq!(outbox.push(&piece("m3", Class::Kept), None), Pushed::Queued);
    assert_eq!(drain(&outbox), (vec!["m1".into(), "m2".into(), "m3".into()], false));
}

#[test]
fn a_message_that_does_not_fit_ends_it() {
    let outbox = Outbox::new(Limits { bytes: 20, pieces: 10 });
    assert_eq!(outbox.push(&piece("0123456789", Class::Kept), None), Pushed::Queued);
    assert_eq!(outbox.push(&piece("0123456789", Class::Kept), None), Pushed::Overflow);
    assert_eq!(outbox.push(&piece("x", Class::Kept), None), Pushed::Overflow);
    assert!(drain(&outbox).1);
    assert!(outbox.is_empty() && !outbox.has_passed_all(), "what did not fit is on no way");
}

#[test]
fn answers_go_ahead_of_events_in_the_order_of_asking() {
    let outbox = Outbox::new(Limits { bytes: 1000, pieces: 3 });
    outbox.push(&piece("event", Class::Kept), None);
    outbox.push_first(&piece("a1", Class::Kept));
    outbox.push_first(&piece("a2", Class::Kept));
    assert_eq!(drain(&outbox).0, ["a1", "a2", "event"]);
    outbox.push(&piece("event", Class::Kept), None);
    outbox.push_first(&piece("a3", Class::Kept));
    assert_eq!(drain(&outbox).0, ["a3", "event"]);
    for _ in 0..6 {
        assert_eq!(outbox.push_first(&piece("a", Class::Kept)), Pushed::Queued);
    }
    assert_eq!(outbox.push_first(&piece("a", Class::Kept)), Pushed::Overflow);
}

#[test]
fn one_large_piece_passes_alone() {
    let outbox = Outbox::new(Limits { bytes: 5, pieces: 10 });
    assert_eq!(outbox.push(&piece("0123456789", Class::Kept), None), Pushed::Queued);
    assert_eq!(drain(&outbox).0, ["0123456789"]);
}

/// Takes so many bytes, and keeps the rest of the piece that did not fit.
#[derive(Debug, Default)]
struct Way {
    room: Mutex<usize>,
    written: Mutex<Vec<u8>>,
    rest: Mutex<Vec<u8>>,
}

impl Exit for Way {
    fn write(&self, waiting: &VecDeque<Waiting>) -> Written {
        let (mut room, mut written, mut rest) = (self.room.lock(), self.written.lock(), self.rest.lock());
        if !rest.is_empty() {
            return Written::NOTHING;
        }
        let mut pieces = 0;
        for piece in waiting {
            let fits = piece.bytes().len().min(*room);
            written.extend_from_slice(&piece.bytes()[..fits]);
            *room -= fits;
            pieces += 1;
            if fits < piece.bytes().len() {
                rest.extend_from_slice(&piece.bytes()[fits..]);
                return Written { pieces, stuck: true };
            }
        }
        Written { pieces, stuck: false }
    }
}

fn with_exit(room: usize) -> (Arc<Outbox>, Arc<Way>) {
    let outbox = Arc::new(Outbox::new(Limits { bytes: 1000, pieces: 10 }));
    let way = Arc::new(Way { room: Mutex::new(room), ..Way::default() });
    outbox.set_exit(Some(way.clone()));
    (outbox, way)
}

async fn is_woken(outbox: &Outbox) -> bool {
    futures_poll(Box::pin(outbox.ready())).await.is_some()
}

#[tokio::test]
async fn what_the_way_out_takes_wakes_nobody() {
    let (outbox, way) = with_exit(1000);
    let mut list = Vec::new();
    let (a, b) = (piece("a", Class::Kept), piece("b", Class::Kept));
    outbox.push_listed(&a, None, &mut list);
    outbox.push_listed(&b, None, &mut list);
    assert_eq!(list.len(), 1, "written once for both");
    outbox.deliver();
    assert_eq!(*way.written.lock(), [a.bytes().as_ref(), b.bytes()].concat());
    assert!(outbox.is_empty() && !is_woken(&outbox).await);
    outbox.push_listed(&a, None, &mut list);
    assert_eq!(list.len(), 2, "listed again");
}

#[tokio::test]
async fn what_it_does_not_take_is_for_the_task() {
    let (outbox, way) = with_exit(2);
    let mut list = Vec::new();
    outbox.push_listed(&piece("long", Class::Kept), None, &mut list);
    outbox.deliver();
    assert!(outbox.is_empty() && is_woken(&outbox).await, "the rest of it is");
    outbox.push_listed(&piece("next", Class::Kept), None, &mut list);
    outbox.deliver();
    assert!(!outbox.is_empty() && is_woken(&outbox).await);
    way.rest.lock().clear();
    *way.room.lock() = 1000;
    outbox.hold(true);
    outbox.deliver();
    assert!(!outbox.is_empty() && is_woken(&outbox).await, "held back");
    outbox.hold(false);
    assert!(!outbox.write_out() && outbox.is_empty());
}

#[tokio::test]
async fn an_outbox_is_written_before_it_counts_as_full() {
    let (outbox, way) = with_exit(usize::MAX);
    let mut list = Vec::new();
    for n in 0..50 {
        assert_eq!(outbox.push_listed(&piece(&n.to_string(), Class::Kept), None, &mut list), Pushed::Queued);
    }
    outbox.deliver();
    let texts = parlance_wire::websocket::texts(&way.written.lock()).len();
    assert_eq!((texts, list.len()), (50, 1));
}

#[tokio::test]
async fn the_task_hears_once_that_something_passed_and_finds_every_mark() {
    let (outbox, _way) = with_exit(usize::MAX);
    let mark = |seq| Mark { listener: 1, offset: Offset { number: 7, seq } };
    outbox.watch();
    for seq in 0..MAX_SENT as u64 {
        outbox.push_listed(&piece("m", Class::Kept), Some(mark(seq)), &mut Vec::new());
        outbox.deliver();
        assert_eq!(is_woken(&outbox).await, seq == 0);
    }
    outbox.push_listed(&piece("m", Class::Kept), Some(mark(9)), &mut Vec::new());
    outbox.deliver();
    assert!(is_woken(&outbox).await && !outbox.is_empty(), "marks are noted first");
    assert_eq!(outbox.take_passed(), Passed { any: true, marked: true });
    assert!(outbox.write_out() && outbox.take_sent(Some(2)).is_empty());
    assert_eq!(outbox.take_sent(Some(1)).len(), MAX_SENT);
    assert!(!outbox.write_out());
    assert_eq!(outbox.take_sent(None), [mark(9)]);
}

#[tokio::test]
async fn a_replay_waits_for_space() {
    let outbox = std::sync::Arc::new(Outbox::new(Limits { bytes: 1000, pieces: 4 }));
    for _ in 0..3 {
        outbox.push(&piece("m", Class::Kept), None);
    }
    let waiting = outbox.half_empty();
    tokio::pin!(waiting);
    assert!(futures_poll(waiting.as_mut()).await.is_none());
    drain(&outbox);
    waiting.await;
}

async fn futures_poll<F: Future + Unpin>(future: F) -> Option<F::Output> {
    let mut future = future;
    std::future::poll_fn(|cx| {
        std::task::Poll::Ready(match std::pin::Pin::new(&mut future).poll(cx) {
            std::task::Poll::Ready(v) => Some(v),
            std::task::Poll::Pending => None,
        })
    })
    .await
}
