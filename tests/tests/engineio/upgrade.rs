//! The move from polling to a WebSocket: what it releases, what may go wrong with it, and that nothing is lost,
//! doubled or reordered on the way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::ws::Socket;
use crate::support::{SEPARATOR, Server, Timing, at, both, ours, until};
use anyhow::{Context, Result, ensure};
use parlance_tests::PATIENCE;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

const CALM: [&str; 4] = ["--ping-interval", "25000", "--ping-timeout", "20000"];

fn calm(more: &[&str]) -> Result<Server> {
    ours(&[&CALM[..], more].concat())
}

async fn probed(server: &Server, sid: &str) -> Result<Socket> {
    let mut socket = Socket::for_session(server, sid).await?;
    socket.send("2probe").await?;
    let answer = socket.text().await?;
    ensure!(answer == "3probe", "{answer}");
    Ok(socket)
}

/// Probes until the server has seen the end of the last probe.
async fn probed_at_last(server: &Server, sid: &str) -> Result<Socket> {
    // The reference now and then holds a probe that broke off for one under way until its time (10 s) is up.
    let patience = tokio::time::Instant::now() + PATIENCE * 3;
    loop {
        let mut socket = Socket::for_session(server, sid).await?;
        socket.send("2probe").await?;
        match socket.next().await? {
            Some(answer) if answer == Message::text("3probe") => return Ok(socket),
            other => ensure!(tokio::time::Instant::now() < patience, "{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_probe_releases_the_pending_poll_and_every_further_one() -> Result<()> {
    for server in both(Timing::Calm).await? {
        let sid = server.open().await?;
        let pending = server.begin_poll(&sid).await?;
        server.post(&sid, "6").await?.ok()?;
        let mut socket = probed(&server, &sid).await?;
        ensure!(pending.answer().await?.ok()? == "6");
        for _ in 0..3 {
            ensure!(at(&server, server.poll(&sid).await)?.ok()? == "6");
        }
        // Polling goes on until the move is complete.
        server.post(&sid, "4a").await?.ok()?;
        ensure!(server.poll(&sid).await?.ok()? == "4a");
        socket.send("5").await?;
        socket.send("4b").await?;
        ensure!(socket.text().await? == "4b");
    }
    Ok(())
}

#[tokio::test]
async fn what_waits_for_a_poll_goes_to_the_websocket() -> Result<()> {
    for server in both(Timing::Calm).await? {
        let sid = server.open().await?;
        server.post(&sid, "4a\u{1e}bAQID").await?.ok()?;
        let mut socket = probed(&server, &sid).await?;
        server.post(&sid, "4b").await?.ok()?;
        socket.send("5").await?;
        socket.send("4c").await?;
        let expected =
            [Message::text("4a"), Message::binary(vec![1, 2, 3]), Message::text("4b"), Message::text("4c")];
        for message in expected {
            ensure!(socket.next().await?.as_ref() == Some(&message), "{message:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_probe_that_fails_leaves_polling_as_it_was() -> Result<()> {
    for server in both(Timing::Calm).await? {
        let sid = server.open().await?;
        for bad in [Message::text("4too early"), Message::text("2"), Message::text("x"), Message::Close(None)]
        {
            let mut socket = Socket::for_session(&server, &sid).await?;
            socket.message(bad.clone()).await?;
            socket.closed().await?;
            let mut socket = probed_at_last(&server, &sid).await?;
            socket.message(bad).await?;
            socket.closed().await?;
        }
        let cut = probed_at_last(&server, &sid).await?;
        drop(cut);
        let pending = server.begin_poll(&sid).await?;
        server.post(&sid, "4a").await?.ok()?;
        let answer = pending.answer().await?.ok()?;
        if answer == "6" {
            // The end of the last probe was not seen yet.
            ensure!(server.poll(&sid).await?.ok()? == "4a");
        } else {
            ensure!(answer == "4a", "{answer}");
        }
        let mut socket = probed_at_last(&server, &sid).await?;
        socket.send("5").await?;
        socket.send("4b").await?;
        ensure!(socket.text().await? == "4b");
    }
    Ok(())
}

#[tokio::test]
async fn a_probe_that_takes_too_long_is_closed() -> Result<()> {
    let server = calm(&["--upgrade-timeout", "200"])?;
    let sid = server.open().await?;
    let mut silent = Socket::for_session(&server, &sid).await?;
    silent.closed().await?;
    let mut halfway = probed(&server, &sid).await?;
    halfway.closed().await?;
    let pending = server.begin_poll(&sid).await?;
    server.post(&sid, "4a").await?.ok()?;
    ensure!(pending.answer().await?.ok()? == "4a");
    Ok(())
}

#[tokio::test]
async fn a_second_probe_beside_the_first_is_closed() -> Result<()> {
    for server in both(Timing::Calm).await? {
        let sid = server.open().await?;
        let mut first = probed(&server, &sid).await?;
        let mut second = Socket::for_session(&server, &sid).await?;
        second.closed().await?;
        first.send("5").await?;
        first.send("4a").await?;
        ensure!(first.text().await? == "4a");
    }
    Ok(())
}

#[tokio::test]
async fn a_payload_on_its_way_during_the_move_is_heard_before_the_websocket() -> Result<()> {
    // The reference loses it.
    let server = calm(&[])?;
    let sid = server.open().await?;
    let mut post = server.begin_post(&sid, "4fir", 6).await?;
    let mut socket = probed(&server, &sid).await?;
    socket.send("5").await?;
    socket.send("4second").await?;
    socket.silent(Duration::from_millis(100)).await?;
    post.send(b"st").await?;
    ensure!(post.answer().await?.ok()? == "ok");
    ensure!(socket.text().await? == "4first");
    ensure!(socket.text().await? == "4second");
    Ok(())
}

#[tokio::test]
async fn a_payload_that_is_given_up_during_the_move_holds_nothing_up() -> Result<()> {
    let server = calm(&[])?;
    let sid = server.open().await?;
    let post = server.begin_post(&sid, "4fir", 6).await?;
    let mut socket = probed(&server, &sid).await?;
    socket.send("5").await?;
    socket.send("4second").await?;
    until("the session moves", async || Ok(server.poll(&sid).await?.status == 400)).await?;
    drop(post);
    ensure!(socket.text().await? == "4second");
    Ok(())
}

#[tokio::test]
async fn pings_go_on_across_the_move() -> Result<()> {
    for server in both(Timing::Suite).await? {
        let sid = server.open().await?;
        let mut socket = probed(&server, &sid).await?;
        socket.send("5").await?;
        for _ in 0..3 {
            ensure!(at(&server, socket.text().await)? == "2");
            socket.send("3").await?;
        }
        socket.closed().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_session_that_ends_closes_its_probe() -> Result<()> {
    for server in both(Timing::Calm).await? {
        let sid = server.open().await?;
        let mut socket = probed(&server, &sid).await?;
        server.post(&sid, "1").await?.ok()?;
        at(&server, socket.closed().await)?;
    }
    Ok(())
}

/// One client that sends numbered messages as fast as it can, and moves in between as the stock client does:
/// probe, pause polling, let the requests under way come to their end, `5`.
struct Mover {
    server: Arc<Server>,
    sid: String,
    total: usize,
    /// The next message to send.
    next: AtomicUsize,
    paused: AtomicBool,
    received: Mutex<Vec<usize>>,
}

impl Mover {
    async fn note(&self, text: &str) -> Result<()> {
        let mut received = self.received.lock().await;
        for packet in text.split(SEPARATOR) {
            match packet.strip_prefix('4') {
                Some(message) => received.push(message.split(' ').next().unwrap_or_default().parse()?),
                None => ensure!(packet == "6", "{packet:?}"),
            }
        }
        Ok(())
    }

    fn message(&self, random: &mut StdRng) -> Option<String> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let padding = if random.random_ratio(1, 20) { 5_000 } else { random.random_range(0..50) };
        (number < self.total).then(|| format!("4{number} {}", "x".repeat(padding)))
    }

    async fn poll(&self) -> Result<()> {
        while !self.paused.load(Ordering::Relaxed) {
            let text = self.server.poll(&self.sid).await?.ok()?;
            self.note(&text).await?;
        }
        Ok(())
    }

    async fn post(&self, mut random: StdRng) -> Result<()> {
        while !self.paused.load(Ordering::Relaxed) {
            let count = random.random_range(1..40);
            let batch: Vec<String> = (0..count).map_while(|_| self.message(&mut random)).collect();
            if batch.is_empty() {
                return Ok(());
            }
            self.server.post(&self.sid, &batch.join("\u{1e}")).await?.ok()?;
        }
        Ok(())
    }

    async fn probe(&self, after: Duration) -> Result<Socket> {
        tokio::time::sleep(after).await;
        let socket = probed(&self.server, &self.sid).await?;
        self.paused.store(true, Ordering::Relaxed);
        Ok(socket)
    }

    async fn run(&self, seed: u64) -> Result<()> {
        let mut random = StdRng::seed_from_u64(seed);
        let after = Duration::from_micros(random.random_range(0..15_000));
        let poster = StdRng::seed_from_u64(seed + 1_000);
        let (mut socket, (), ()) = tokio::try_join!(self.probe(after), self.poll(), self.post(poster))?;
        // A client keeps its order: what was numbered and not sent yet does not exist here.
        socket.send("5").await?;
        while self.received.lock().await.len() < self.total {
            for _ in 0..random.random_range(1..50) {
                if let Some(message) = self.message(&mut random) {
                    socket.send(&message).await?;
                }
            }
            while let Ok(came) = timeout(Duration::from_millis(1), socket.text()).await {
                self.note(&came?).await?;
            }
        }
        Ok(())
    }
}

async fn moves(server: Arc<Server>, seed: u64) -> Result<()> {
    let sid = server.open().await?;
    let mover = Mover {
        server,
        sid,
        total: 1_000,
        next: AtomicUsize::new(0),
        paused: AtomicBool::new(false),
        received: Mutex::default(),
    };
    let run = timeout(PATIENCE * 2, mover.run(seed)).await;
    let received = mover.received.into_inner();
    let wrong = received.iter().enumerate().position(|(at, number)| at != *number);
    ensure!(wrong.is_none(), "at {wrong:?}: {:?}", &received[wrong.unwrap_or(0)..][..8.min(received.len())]);
    run.with_context(|| format!("{} of {} arrived", received.len(), mover.total))?
}

#[tokio::test]
async fn nothing_is_lost_doubled_or_reordered_while_moving() -> Result<()> {
    let server = Arc::new(calm(&[])?);
    for seed in 0..50 {
        moves(server.clone(), seed).await.with_context(|| format!("seed {seed}"))?;
    }
    server.settle(0).await
}

#[tokio::test]
async fn nothing_is_lost_while_many_move_at_once() -> Result<()> {
    let server = Arc::new(calm(&[])?);
    let all = (100..120).map(|seed| {
        let server = server.clone();
        async move { moves(server, seed).await.with_context(|| format!("seed {seed}")) }
    });
    futures_util::future::try_join_all(all).await?;
    server.settle(0).await
}
