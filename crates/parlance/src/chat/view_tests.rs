//! The screen as text: what is where after which news.

use super::*;
use parlance_client::ReceiptKind;

const NOW: Time = Time::from_millis(12 * 3_600_000);

fn view() -> View {
    View::new(Place {
        user: "alice".into(),
        conversation: "demo".into(),
        dialect: "sechat",
        zone: TimeZone::UTC,
    })
}

fn message(from: &str, id: &str, body: &str) -> Message {
    Message {
        conversation: "demo".into(),
        id: id.into(),
        client_id: None,
        from: from.into(),
        body: body.into(),
        at: Some(NOW),
        queued: false,
        seq: None,
        local_id: None,
        metadata: None,
    }
}

fn hear(view: &mut View, from: &str, body: &str) {
    view.update(Update::Message(message(from, body, body)), NOW);
}

/// The rows between header and status line that are not empty.
fn rows(view: &mut View, columns: usize, rows: usize) -> Vec<String> {
    let lines = view.render(columns, rows);
    assert_eq!(lines.len(), rows);
    let shown = lines[1..rows - 1].iter().map(plain);
    shown.filter(|line| !line.is_empty()).collect()
}

fn bars(view: &mut View) -> (String, String) {
    let lines = view.render(60, 5);
    (plain(&lines[0]).trim().to_owned(), plain(&lines[4]).trim().to_owned())
}

fn state(view: &mut View, state: MessageState) {
    view.update(Update::State { local_id: "1".into(), state }, NOW);
}

#[test]
fn messages_wrap_under_their_text() {
    let mut view = view();
    hear(&mut view, "bob", "the quick brown fox");
    assert_eq!(rows(&mut view, 22, 10), ["12:00 bob: the quick ", "      brown fox"]);
    assert_eq!(rows(&mut view, 80, 10), ["12:00 bob: the quick brown fox"]);
}

#[test]
fn ticks_change_in_place_and_never_back() {
    let mut view = view();
    view.sent("1".into(), "hello", NOW);
    hear(&mut view, "bob", "hi");
    let first = |view: &mut View| rows(view, 40, 10)[0].clone();
    assert_eq!(first(&mut view), "12:00 alice: hello");
    assert_eq!(view.unsettled(), 1);
    for (next, shown) in [
        (MessageState::SocketSent, ""),
        (MessageState::ServerAcked, " ✓"),
        (MessageState::Delivered, " ✓✓"),
        (MessageState::ServerAcked, " ✓✓"),
    ] {
        state(&mut view, next);
        assert_eq!(first(&mut view), format!("12:00 alice: hello{shown}"), "{next:?}");
    }
    let hue = |view: &mut View| view.render(40, 4)[1].last().unwrap().hue;
    assert_eq!(hue(&mut view), Hue::Faint);
    state(&mut view, MessageState::Read);
    assert_eq!(hue(&mut view), Hue::Good);
    assert_eq!(view.unsettled(), 0);
}

#[test]
fn a_failed_message_has_a_cross() {
    let mut view = view();
    view.sent("1".into(), "hello", NOW);
    state(&mut view, MessageState::Failed);
    assert_eq!(rows(&mut view, 40, 5), ["12:00 alice: hello ✗"]);
}

#[test]
fn our_own_echo_is_not_shown_twice_but_other_devices_are() {
    let mut view = view();
    view.sent("1".into(), "hello", NOW);
    view.update(
        Update::Message(Message { local_id: Some("1".into()), ..message("alice", "1", "hello") }),
        NOW,
    );
    hear(&mut view, "alice", "from my phone");
    assert_eq!(rows(&mut view, 40, 9), ["12:00 alice: hello", "12:00 alice: from my phone"]);
    assert!(view.take_seen().is_empty(), "nobody reads their own words");
}

#[test]
fn scrolling_stops_at_both_ends_and_stays_where_it_is() {
    let mut view = view();
    for n in 0..20 {
        hear(&mut view, "bob", &format!("m{n}"));
    }
    let shown = |view: &mut View| -> Vec<String> {
        rows(view, 40, 7).iter().map(|line| line.replace("12:00 bob: ", "")).collect()
    };
    assert_eq!(shown(&mut view), ["m15", "m16", "m17", "m18", "m19"]);
    view.scroll_pages(1);
    assert_eq!(shown(&mut view), ["m11", "m12", "m13", "m14", "m15"]);
    hear(&mut view, "bob", "new");
    assert_eq!(shown(&mut view), ["m11", "m12", "m13", "m14", "m15"]);
    assert!(bars(&mut view).1.starts_with("↓ 5 more rows"));
    view.scroll_pages(100);
    assert_eq!(shown(&mut view)[0], "m0");
    view.scroll(-1);
    assert_eq!(shown(&mut view)[0], "m1");
    view.scroll_pages(-100);
    assert_eq!(shown(&mut view)[4], "new");
    view.scroll(3);
    view.sent("1".into(), "mine", NOW);
    assert_eq!(shown(&mut view)[4].as_str(), "12:00 alice: mine", "who speaks sees it");
}

#[test]
fn only_what_came_into_sight_is_seen_and_only_once() {
    let mut view = view();
    for n in 0..5 {
        hear(&mut view, "bob", &format!("m{n}"));
    }
    let seen = |view: &mut View| view.take_seen().into_iter().map(|message| message.id).collect::<Vec<_>>();
    assert!(seen(&mut view).is_empty(), "nothing was drawn yet");
    view.render(40, 4);
    assert_eq!(seen(&mut view), ["m3", "m4"]);
    view.render(40, 4);
    assert!(seen(&mut view).is_empty());
    view.scroll(1);
    view.render(40, 4);
    assert_eq!(seen(&mut view), ["m2"]);
    view.see_all();
    assert_eq!(seen(&mut view), ["m0", "m1"]);
}

#[test]
fn the_status_line_tells_who_is_there_and_who_types() {
    let mut view = view();
    let typing = |view: &mut View, user: &str, conversation: &str, on| {
        view.update(Update::Typing { conversation: conversation.into(), user: user.into(), on }, NOW);
    };
    assert_eq!(bars(&mut view).1, "nobody else seen online");
    view.update(Update::Presence { user: "bob".into(), status: Status::Busy }, NOW);
    view.update(Update::Presence { user: "alice".into(), status: Status::Online }, NOW);
    assert_eq!(bars(&mut view).1, "online: bob (busy)");
    typing(&mut view, "bob", "demo", true);
    typing(&mut view, "carol", "other", true);
    assert_eq!(bars(&mut view).1, "online: bob (busy) · bob is typing…");
    typing(&mut view, "carol", "", true);
    assert_eq!(bars(&mut view).1, "online: bob (busy), carol · bob and carol are typing…");
    hear(&mut view, "bob", "done");
    typing(&mut view, "carol", "demo", false);
    assert_eq!(bars(&mut view).1, "online: bob (busy), carol");
    typing(&mut view, "bob", "demo", true);
    view.update(Update::Presence { user: "bob".into(), status: Status::Offline }, NOW);
    assert_eq!(bars(&mut view).1, "online: carol", "who is gone does not type");
    assert!(view.who().contains("\n  bob: offline\n  carol: online"), "{}", view.who());
    let receipt = Update::Receipt {
        kind: ReceiptKind::Read,
        conversation: None,
        ids: Vec::new(),
        by: Some("dan".into()),
    };
    view.update(receipt, NOW);
    assert_eq!(bars(&mut view).1, "online: carol, dan");
}

#[test]
fn old_messages_do_not_make_their_author_present() {
    let mut view = view();
    let old = Message { at: Some(Time(0)), ..message("bob", "1", "old") };
    view.update(Update::Message(old), NOW);
    assert_eq!(bars(&mut view).1, "nobody else seen online");
}

#[test]
fn the_header_tells_of_the_connection() {
    let mut view = view();
    assert_eq!(bars(&mut view).0, "demo · alice · sechat · connecting…");
    view.update(Update::Connected, NOW);
    view.update(Update::Presence { user: "bob".into(), status: Status::Online }, NOW);
    assert_eq!(bars(&mut view).0, "demo · alice · sechat · connected");
    view.update(Update::Disconnected { reason: "gone".into(), code: None }, NOW);
    assert_eq!(bars(&mut view).0, "demo · alice · sechat · reconnecting… (gone)");
    assert_eq!(bars(&mut view).1, "nobody else seen online", "what we knew is old");
    view.set_status(Status::Away);
    assert!(bars(&mut view).0.starts_with("demo · alice (away)"));
}

#[test]
fn users_differ_in_colour_and_other_conversations_are_named() {
    let mut view = view();
    hear(&mut view, "bob", "x");
    hear(&mut view, "carol", "y");
    let elsewhere = Message { conversation: "c2".into(), ..message("bob", "3", "z") };
    view.update(Update::Message(elsewhere), NOW);
    let lines = view.render(40, 5);
    assert_eq!((lines[1][1].hue, lines[2][1].hue), (Hue::User(1), Hue::User(2)));
    assert_eq!(plain(&lines[3]), "12:00 [c2] bob: z");
}

#[test]
fn history_counts_messages_only() {
    let mut view = view();
    hear(&mut view, "bob", "one");
    view.notice("something", false, NOW);
    hear(&mut view, "bob", "two");
    assert_eq!(view.history(1), "1 of 2 messages of this session:\n12:00 bob: two");
    assert_eq!(view.history(9).lines().count(), 3);
}

#[test]
fn any_size_is_drawn_within_its_bounds() {
    let mut view = view();
    hear(&mut view, "bob", "日本語 and a_very_long_word_that_fits_nowhere\u{1b}[2J");
    view.sent("1".into(), "two\nlines", NOW);
    view.notice("note", true, NOW);
    for columns in 0..60 {
        for rows in 0..12 {
            let lines = view.render(columns, rows);
            assert_eq!(lines.len(), rows, "{columns}x{rows}");
            for line in &lines {
                let text = plain(line);
                assert!(width(&text) <= columns.max(2), "{columns}x{rows}: {text:?}");
                assert!(!text.contains('\u{1b}'));
            }
        }
    }
}
