//! The client library over a line that is cut, against the real gateway: nothing lost, doubled or reordered.

mod support;

use std::time::Duration;

use parlance_client::{Backoff, Client, Dialect, Framing, MessageState, Options, Update};
use support::{LONG, Line, gateway, token};
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

const SPOKEN: [(Dialect, Framing); 4] = [
    (Dialect::Famly, Framing::Socketio),
    (Dialect::Chatgenius, Framing::Socketio),
    (Dialect::Lingochat, Framing::Socketio),
    (Dialect::Sechat, Framing::Socketio),
];

fn client(url: &str, user: &str, (dialect, framing): (Dialect, Framing)) -> (Client, Receiver<Update>) {
    let mut options = Options::new(url, dialect, user).over(framing).token(token(user)).conversation("demo");
    options.backoff =
        Backoff { base: Duration::from_millis(20), max: Duration::from_millis(100), jitter: 0.2 };
    Client::connect(options)
}

async fn until<T>(updates: &mut Receiver<Update>, pick: impl Fn(&Update) -> Option<T>) -> T {
    let mut passed = Vec::new();
    let find = async {
        loop {
            let update = updates.recv().await.expect("the client ended");
            match pick(&update) {
                Some(found) => return found,
                None => passed.push(update),
            }
        }
    };
    timeout(LONG, find).await.unwrap_or_else(|_| panic!("only {passed:#?}"))
}

async fn accepted(updates: &mut Receiver<Update>, id: &str) {
    until(updates, |update| match update {
        Update::State { local_id, state } if local_id == id && state.is_accepted() => Some(()),
        Update::State { local_id, state: MessageState::Failed } if local_id == id => panic!("refused"),
        _ => None,
    })
    .await;
}

/// Says something and waits for the acknowledgement.
async fn say(client: &Client, updates: &mut Receiver<Update>, body: &str) {
    let id = client.send("demo", body, &[]).unwrap();
    accepted(updates, &id).await;
}

/// The next message of others: where and what.
async fn heard(updates: &mut Receiver<Update>) -> (String, String) {
    until(updates, |update| match update {
        Update::Message(message) if message.local_id.is_none() => {
            Some((message.conversation.clone(), message.body.clone()))
        }
        _ => None,
    })
    .await
}

fn demo(body: &str) -> (String, String) {
    ("demo".to_owned(), body.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_cut_is_recovered_in_every_socket_io_dialect() {
    for spoken in SPOKEN {
        let folder = tempfile::tempdir().unwrap();
        let (_gateway, url) = gateway(folder.path());
        let line = Line::to(&url).await;
        let (alice, mut to_alice) = client(&line.url, "alice", spoken);
        say(&alice, &mut to_alice, "here").await;
        let (bob, mut to_bob) = client(&url, "bob", (Dialect::Sechat, Framing::Raw));
        say(&bob, &mut to_bob, "before").await;
        assert_eq!(heard(&mut to_alice).await, demo("before"), "{spoken:?}");
        line.cut();
        until(&mut to_alice, |update| matches!(update, Update::Disconnected { .. }).then_some(())).await;
        let offline = alice.send("demo", "from the dark", &[]).unwrap();
        for n in 0..3 {
            say(&bob, &mut to_bob, &format!("missed {n}")).await;
        }
        line.lay(&url);
        until(&mut to_alice, |update| (*update == Update::Recovered).then_some(())).await;
        for n in 0..3 {
            assert_eq!(heard(&mut to_alice).await, demo(&format!("missed {n}")), "{spoken:?}");
        }
        accepted(&mut to_alice, &offline).await;
        assert_eq!(heard(&mut to_bob).await.1, "from the dark");
        say(&bob, &mut to_bob, "after").await;
        assert_eq!(heard(&mut to_alice).await, demo("after"), "{spoken:?}");
        alice.close().await;
        bob.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lingochat_asks_for_what_a_restarted_gateway_cannot_recover() {
    let folder = tempfile::tempdir().unwrap();
    let (first, url) = gateway(folder.path());
    let line = Line::to(&url).await;
    let (alice, mut to_alice) = client(&line.url, "alice", (Dialect::Lingochat, Framing::Socketio));
    say(&alice, &mut to_alice, "here").await;
    let (bob, mut to_bob) = client(&url, "bob", (Dialect::Sechat, Framing::Raw));
    say(&bob, &mut to_bob, "before").await;
    assert_eq!(heard(&mut to_alice).await, demo("before"));
    line.cut();
    bob.close().await;
    drop(first);
    let (_second, url) = gateway(folder.path());
    let (bob, mut to_bob) = client(&url, "bob", (Dialect::Sechat, Framing::Raw));
    for n in 0..3 {
        say(&bob, &mut to_bob, &format!("missed {n}")).await;
    }
    line.lay(&url);
    for n in 0..3 {
        assert_eq!(heard(&mut to_alice).await, demo(&format!("missed {n}")));
    }
    say(&bob, &mut to_bob, "after").await;
    assert_eq!(heard(&mut to_alice).await, demo("after"));
    alice.close().await;
    bob.close().await;
}
