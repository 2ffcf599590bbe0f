//! `parlance chat` on pipes, against the real gateway, in all dialects.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use parlance_client::{Client, Dialect, Options, Update};
use parlance_gateway::auth::sign_dev_token;
use parlance_gateway::clock::Clock;
use parlance_model::UserId;

const SECRET: &str = "a-test-secret-of-more-than-32-bytes!";
/// Longer than anything here takes; a test that waits this long has failed.
const LONG: Duration = Duration::from_secs(20);

/// A process and the lines it prints; killed when a test ends early.
struct Process {
    child: Child,
    input: Option<ChildStdin>,
    printed: Receiver<String>,
    all: Vec<String>,
    complained: Option<JoinHandle<String>>,
}

impl Process {
    fn start(args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_parlance"))
            .args(args)
            .env_clear()
            .env("PARLANCE_JWT_SECRET", SECRET)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (lines, printed) = sync_channel(1024);
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| lines.send(line)));
        let mut err = child.stderr.take().unwrap();
        let complained = std::thread::spawn(move || {
            let mut text = String::new();
            err.read_to_string(&mut text).unwrap();
            text
        });
        let input = child.stdin.take();
        Self { child, input, printed, all: Vec::new(), complained: Some(complained) }
    }

    fn say(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Waits until a line was printed that is good.
    fn wait(&mut self, what: &str, good: impl Fn(&str) -> bool) -> String {
        while !self.all.iter().any(|line| good(line)) {
            match self.printed.recv_timeout(LONG) {
                Ok(line) => self.all.push(line),
                Err(_) => panic!("no {what} in {:#?}", self.all),
            }
        }
        self.all.iter().find(|line| good(line)).unwrap().clone()
    }

    fn prints(&mut self, line: &str) {
        self.wait(line, |printed| printed == line);
    }

    fn count(&self, line: &str) -> usize {
        self.all.iter().filter(|printed| *printed == line).count()
    }

    /// Ends its input and waits for its end: exit code and what it wrote to stderr.
    fn end(&mut self) -> (Option<i32>, String) {
        drop(self.input.take());
        let code = self.exit();
        self.all.extend(self.printed.iter());
        (code, self.complained.take().unwrap().join().unwrap())
    }

    /// Waits for the end of its output, and then for its own.
    fn exit(&mut self) -> Option<i32> {
        loop {
            match self.printed.recv_timeout(LONG) {
                Ok(line) => self.all.push(line),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
                Err(_) => panic!("it does not end: {:#?}", self.all),
            }
        }
        self.child.wait().unwrap().code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A gateway and its address.
fn gateway(data: &Path) -> (Process, String) {
    let (gateway, url, _) = gateway_with_api(data);
    (gateway, url)
}

/// The same, and the address of its server API.
fn gateway_with_api(data: &Path) -> (Process, String, String) {
    let data = data.to_str().unwrap();
    let mut gateway = Process::start(&[
        "dev",
        "--listen",
        "127.0.0.1:0",
        "--internal-listen",
        "127.0.0.1:0",
        "--data-dir",
        data,
    ]);
    let ready = gateway.wait("ready line", |line| line.starts_with("ready "));
    let (public, internal) = ready.strip_prefix("ready public=").unwrap().split_once(' ').unwrap();
    let internal = internal.strip_prefix("internal=").unwrap().split(' ').next().unwrap();
    (gateway, format!("ws://{public}"), internal.to_owned())
}

/// Makes users members of the demo conversation.
fn add_members(api: &str, users: &[&str]) {
    let names: Vec<String> = users.iter().map(|user| format!("\"{user}\"")).collect();
    let body = format!("{{\"addMembers\":[{}]}}", names.join(","));
    let mut tcp = std::net::TcpStream::connect(api).unwrap();
    write!(
        tcp,
        "PATCH /api/v1/conversations/demo HTTP/1.1\r\nhost: {api}\r\nconnection: close\r\n\
         authorization: Bearer parlance-development-api-key\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

fn chat(url: &str, dialect: &str, user: &str, more: &[&str]) -> Process {
    let mut args = vec!["chat", "--url", url, "--dialect", dialect, "--user", user];
    args.extend(more);
    Process::start(&args)
}

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

    let id = UserId::parse("bob").unwrap();
    let token = sign_dev_token(SECRET, &id, None, Duration::from_secs(60), Clock::system().now()).unwrap();
    let options = Options::new(&url, Dialect::Socialhub, "bob").token(token).conversation("demo");
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
