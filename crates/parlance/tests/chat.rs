//! `parlance chat` on pipes, against the real gateway, in all dialects.

mod support;

use parlance_client::{Client, Dialect, Options, Update};
use support::{Process, add_members, chat, gateway, gateway_with_api, token};

/// Alice, and Bob as given, after each has heard the other.
fn meet(url: &str, dialect: &str, more: &[&str]) -> (Process, Process) {
    // Who was never there before is not sent what was said earlier: one after the other, and an
    // acknowledgement says that its receiver is in.
    let mut bob = chat(url, dialect, "bob", more);
    bob.say("first");
    bob.prints("✓ first");
    let mut alice = chat(url, "sechat", "alice", &[]);
    alice.say("hello");
    alice.prints("✓ hello");
    bob.prints("alice: hello");
    bob.say("good day");
    bob.prints("✓ good day");
    alice.prints("bob: good day");
    (alice, bob)
}

#[test]
fn two_dialects_talk_both_ways_with_ticks() {
    let folder = tempfile::tempdir().unwrap();
    let (_gateway, url) = gateway(folder.path());
    let (mut alice, mut bob) = meet(&url, "socialhub", &[]);
    alice.prints("✓✓ read hello");
    bob.prints("✓✓ read good day");

    // The end of input waits for the acknowledgement of what was said last.
    alice.say("last words");
    assert_eq!(alice.end(), (Some(0), String::new()));
    assert_eq!(alice.count("✓ last words"), 1, "{:#?}", alice.all);
    bob.prints("alice: last words");
    assert_eq!(bob.end(), (Some(0), String::new()));
    for (process, line) in [(&alice, "bob: good day"), (&bob, "alice: hello"), (&bob, "alice: last words")] {
        assert_eq!(process.count(line), 1, "once: {line}");
    }
    assert!(!alice.all.iter().any(|line| line.starts_with("alice:")), "no echo: {:#?}", alice.all);
}

/// Everybody by dialect, and once more over the other framing.
const EVERYBODY: [(&str, &str, &[&str]); 6] = [
    ("alice", "sechat", &[]),
    ("bob", "socialhub", &[]),
    ("carol", "famly", &[]),
    ("dave", "chatgenius", &[]),
    ("erin", "lingochat", &[]),
    ("frank", "sechat", &["--framing", "socketio"]),
];

#[test]
fn in_all_dialects_everybody_hears_everybody_once_and_in_one_order() {
    let folder = tempfile::tempdir().unwrap();
    let (_gateway, url, api) = gateway_with_api(folder.path());
    add_members(&api, &EVERYBODY.map(|(user, ..)| user));
    let mut all: Vec<Process> = Vec::new();
    for (user, dialect, more) in EVERYBODY {
        let mut process = chat(&url, dialect, user, more);
        // An acknowledgement says that its receiver is in.
        process.say("here");
        process.prints("✓ here");
        all.push(process);
    }
    for n in 0..4 {
        for process in &mut all {
            process.say(&format!("line {n}"));
        }
    }
    for (process, (user, ..)) in all.iter_mut().zip(EVERYBODY) {
        for (other, ..) in EVERYBODY.iter().filter(|(other, ..)| *other != user) {
            process.prints(&format!("{other}: line 3"));
        }
        process.prints("✓ line 3");
    }
    for process in &mut all {
        assert_eq!(process.end(), (Some(0), String::new()));
    }
    let heard = |process: &Process, but: [&str; 2]| -> Vec<String> {
        let lines = process.all.iter().filter_map(|line| line.split_once(": line "));
        lines.filter(|(from, _)| !but.contains(from)).map(|(from, n)| format!("{from} {n}")).collect()
    };
    for (process, (user, ..)) in all.iter().zip(EVERYBODY) {
        assert_eq!(heard(process, [user, ""]).len(), 5 * 4, "{user}: {:#?}", process.all);
        for (other_process, (other, ..)) in all.iter().zip(EVERYBODY) {
            let (ours, theirs) = (heard(process, [user, other]), heard(other_process, [user, other]));
            assert_eq!(ours, theirs, "{user} and {other}");
        }
        for (other, ..) in EVERYBODY.iter().filter(|(other, ..)| *other != user) {
            let of: Vec<String> = heard(process, [user, ""])
                .into_iter()
                .filter_map(|line| line.strip_prefix(&format!("{other} ")).map(str::to_owned))
                .collect();
            assert_eq!(of, ["0", "1", "2", "3"], "{user} of {other}");
        }
    }
}

#[test]
fn that_something_was_read_is_told_in_every_dialect() {
    let folder = tempfile::tempdir().unwrap();
    let (_gateway, url) = gateway(folder.path());
    let mut bob = chat(&url, "sechat", "bob", &[]);
    bob.say("here");
    bob.prints("✓ here");
    for (at, (_, dialect, more)) in EVERYBODY.into_iter().enumerate() {
        let mut alice = chat(&url, dialect, "alice", more);
        let (hers, his) = (format!("hers {at}"), format!("his {at}"));
        alice.say(&hers);
        bob.prints(&format!("alice: {hers}"));
        alice.prints(&format!("✓✓ read {hers}"));
        bob.say(&his);
        alice.prints(&format!("bob: {his}"));
        bob.prints(&format!("✓✓ read {his}"));
        assert_eq!(alice.end(), (Some(0), String::new()), "{dialect}");
    }
}

#[test]
fn a_reaction_is_told_to_the_channel() {
    let folder = tempfile::tempdir().unwrap();
    let (_gateway, url) = gateway(folder.path());
    let mut bob = chat(&url, "chatgenius", "bob", &[]);
    bob.say("here");
    bob.prints("✓ here");
    let mut alice = chat(&url, "chatgenius", "alice", &[]);
    alice.say("hello");
    alice.prints("✓ hello");
    bob.prints("alice: hello");
    bob.say("/react 👍");
    alice.prints("* bob reacted 👍");
    bob.say("/unreact 👍");
    alice.prints("* bob no longer reacts 👍");
    assert_eq!((alice.end().0, bob.end().0), (Some(0), Some(0)));
}

#[test]
fn a_piped_file_arrives_whole_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let (_gateway, url) = gateway(folder.path());
    let (mut alice, mut bob) = meet(&url, "socialhub", &[]);
    // Within what a user may send at once.
    let lines: Vec<String> = (0..5).map(|n| format!("line {n}")).collect();
    lines.iter().for_each(|line| alice.say(line));
    assert_eq!(alice.end(), (Some(0), String::new()));
    bob.prints("alice: line 4");
    let heard: Vec<&str> = bob.all.iter().filter_map(|line| line.strip_prefix("alice: line ")).collect();
    assert_eq!(heard, ["0", "1", "2", "3", "4"]);
}

#[test]
fn without_receipts_nobody_learns_what_was_read() {
    let folder = tempfile::tempdir().unwrap();
    let (_gateway, url) = gateway(folder.path());
    let (mut alice, mut bob) = meet(&url, "sechat", &["--no-receipts"]);
    alice.prints("✓✓ hello");
    // Bob's second message comes after any receipt he could have sent for the first.
    alice.say("and this?");
    alice.prints("✓✓ and this?");
    bob.say("done");
    alice.prints("bob: done");
    assert_eq!(alice.end().0, Some(0));
    assert!(!alice.all.iter().any(|line| line.contains("read")), "{:#?}", alice.all);
}

#[tokio::test(flavor = "multi_thread")]
async fn coming_going_and_typing_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let (_gateway, url) = gateway(folder.path());
    let mut alice = chat(&url, "sechat", "alice", &[]);
    let mut carol = chat(&url, "socialhub", "carol", &["--conversation", "elsewhere"]);
    // Both are there once the server has answered.
    alice.say("hello");
    alice.prints("✓ hello");
    carol.say("anybody?");
    carol.wait("answer", |line| line.ends_with("anybody?"));

    let options = Options::new(&url, Dialect::Socialhub, "bob").token(token("bob")).conversation("demo");
    let (bob, mut updates) = Client::connect(options);
    alice.prints("* bob is online");
    carol.prints("* bob is online");
    // Keys pressed before the connection is there are not told.
    assert_eq!(updates.recv().await, Some(Update::Connected));
    bob.typing("demo", &[]).unwrap();
    alice.prints("* bob is typing");
    bob.close().await;
    alice.prints("* bob is offline");
    carol.prints("* bob is offline");
    assert_eq!(carol.count("* bob is typing"), 0, "she is in another conversation");
    assert_eq!(alice.end().0, Some(0));
}

#[test]
fn a_wrong_token_ends_with_one_and_one_line_although_input_is_open() {
    let folder = tempfile::tempdir().unwrap();
    let (_gateway, url) = gateway(folder.path());
    for (user, dialect, more) in EVERYBODY {
        let mut refused = chat(
            &url,
            dialect,
            user,
            &[&["--jwt-secret", "another-secret-of-more-than-32-bytes"], more].concat(),
        );
        assert_eq!(refused.exit(), Some(1), "{dialect}");
        let complaint = refused.complained.take().unwrap().join().unwrap();
        assert_eq!(complaint.lines().count(), 1, "{complaint}");
        assert!(complaint.starts_with("parlance: refused by the gateway (401)"), "{complaint}");
        assert_eq!(refused.all, Vec::<String>::new());
    }
}

#[test]
fn quit_leaves_although_input_is_open() {
    let folder = tempfile::tempdir().unwrap();
    let (_gateway, url) = gateway(folder.path());
    let mut alice = chat(&url, "sechat", "alice", &[]);
    alice.say("hello");
    alice.say("/quit");
    assert_eq!(alice.exit(), Some(0));
    assert_eq!(alice.count("✓ hello"), 1, "{:#?}", alice.all);
}

#[test]
fn a_message_that_is_refused_is_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let (_gateway, url) = gateway(folder.path());
    // Not a member of the demo conversation.
    let mut eve = chat(&url, "sechat", "eve", &[]);
    eve.say("let me in");
    let (code, complaint) = eve.end();
    assert_eq!((code, complaint.as_str()), (Some(1), "parlance: 1 messages were refused\n"));
    assert_eq!(eve.count("✗ let me in"), 1, "{:#?}", eve.all);
}
