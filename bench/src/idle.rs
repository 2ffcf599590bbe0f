//! Idle connections: how much memory the gateway holds for each.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use futures_util::StreamExt;
use futures_util::stream;
use serde::Serialize;
use tokio::task::JoinSet;

use crate::target::{self, Dialect, Plug, Target, Transport};

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    target: Target,
    /// How many connections, each of its own user.
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// The gateway's process id.
    #[arg(long)]
    pid: u32,
    /// The dialect to connect with. On sechat everyone hears everyone's presence, unless the mount has
    /// `presence_scope = "contacts"`.
    #[arg(long, value_enum, default_value = "socialhub")]
    dialect: Dialect,
    /// What carries a Socket.IO dialect.
    #[arg(long, value_enum, default_value = "websocket")]
    transport: Transport,
    /// How many handshakes are under way at once.
    #[arg(long, default_value_t = 200)]
    concurrency: usize,
    /// Seconds to let things settle before memory is read again.
    #[arg(long, default_value_t = 5)]
    settle: u64,
}

/// What came of it.
#[derive(Serialize)]
pub struct Report {
    connections: usize,
    rss_before_kib: u64,
    rss_after_kib: u64,
    kib_per_connection: f64,
    connects_per_second: f64,
    connect_p50_ms: f64,
    connect_p99_ms: f64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} connections: {:.2} KiB each ({} -> {} KiB); {:.0} connects/s, p50 {:.1} ms, p99 {:.1} ms",
            self.connections,
            self.kib_per_connection,
            self.rss_before_kib,
            self.rss_after_kib,
            self.connects_per_second,
            self.connect_p50_ms,
            self.connect_p99_ms
        )
    }
}

/// Opens the connections, keeps them open, and reads the gateway's memory before and after.
pub async fn run(arguments: &Arguments) -> Result<Report> {
    let address = arguments.target.address().await?;
    let run = target::run_id();
    // One connection first: what the gateway allocates once is not counted.
    let plug = |user, index| Plug {
        address,
        dialect: arguments.dialect,
        transport: arguments.transport,
        user,
        index,
    };
    let first = arguments.target.connect(&plug(format!("{run}-first"), 0)).await?;
    let rss_before_kib = target::resident_kib(arguments.pid)?;
    let mut held = JoinSet::new();
    held.spawn(first.hold());
    let mut times = target::times()?;
    let started = Instant::now();
    let mut opening = stream::iter(0..arguments.connections)
        .map(|index| {
            let (run, plug) = (&run, &plug);
            async move {
                let user = format!("{run}-{index}");
                let asked = Instant::now();
                let socket = arguments.target.connect(&plug(user, index)).await;
                socket.map(|socket| (socket, asked.elapsed())).with_context(|| format!("connection {index}"))
            }
        })
        .buffer_unordered(arguments.concurrency);
    while let Some(opened) = opening.next().await {
        let (socket, time) = opened?;
        times.saturating_record(u64::try_from(time.as_micros())?);
        held.spawn(socket.hold());
    }
    let elapsed = started.elapsed();
    tokio::time::sleep(Duration::from_secs(arguments.settle)).await;
    let rss_after_kib = target::resident_kib(arguments.pid)?;
    if let Some(ended) = held.try_join_next() {
        ended?.context("a connection did not stay open")?;
    }
    ensure!(held.len() == arguments.connections + 1, "some connections did not stay open");
    Ok(Report {
        connections: arguments.connections,
        rss_before_kib,
        rss_after_kib,
        kib_per_connection: (rss_after_kib as f64 - rss_before_kib as f64) / arguments.connections as f64,
        connects_per_second: arguments.connections as f64 / elapsed.as_secs_f64(),
        connect_p50_ms: target::milliseconds(&times, 0.50),
        connect_p99_ms: target::milliseconds(&times, 0.99),
    })
}
