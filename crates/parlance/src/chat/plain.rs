//! One line in, one message out; one update in, one line out.
//!
//! Owns: standard input and output. Must not know: what lines look like (that is `lines`).

use std::time::Duration;

use anyhow::{Context, bail};
use parlance_client::{Client, Dialect, Update};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::Args;
use super::commands::{Command, parse};
use super::lines::Lines;

/// How long the end of input waits for acknowledgements.
const PATIENCE: Duration = Duration::from_secs(30);
/// Lines read ahead of what the client has taken.
const AHEAD: usize = 16;

pub async fn run(args: &Args, client: &Client, mut updates: mpsc::Receiver<Update>) -> anyhow::Result<()> {
    let mut input = read_lines();
    let mut lines = Lines::default();
    let to: Vec<&str> = args.to.iter().map(String::as_str).collect();
    let mut ended: Option<Instant> = None;
    loop {
        let done_at = ended.map(|at| at + Duration::from_secs(args.linger));
        if done_at.is_some_and(|at| lines.all_settled() && Instant::now() >= at) {
            break;
        }
        // Settled: wait for the linger to end; unsettled: for patience to.
        let wake = ended.map(|at| if lines.all_settled() { done_at.unwrap_or(at) } else { at + PATIENCE });
        tokio::select! {
            line = input.recv(), if ended.is_none() => match line.transpose().context("cannot read the input")? {
                Some(line) if line == "/quit" => ended = Some(Instant::now()),
                Some(line) if line.trim().is_empty() => {}
                Some(line) if is_reaction(args, &line) => react(client, &lines, &line),
                Some(line) => {
                    // A piped file is faster than any server: wait for room, listening on.
                    let id = send(client, args, &to, &line, (&mut updates, &mut lines)).await?;
                    lines.sent(id, line);
                }
                None => ended = Some(Instant::now()),
            },
            update = updates.recv() => show((client, args), &mut lines, update).await?,
            () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {
                if !lines.all_settled() {
                    bail!("{} messages were not acknowledged", lines.unsettled());
                }
            }
        }
    }
    match lines.failed() {
        0 => Ok(()),
        failed => bail!("{failed} messages were refused"),
    }
}

/// Where there are reactions, a line can be one; all others are messages as they are.
fn is_reaction(args: &Args, line: &str) -> bool {
    args.dialect == Dialect::Chatgenius && matches!(parse(line), Command::React(..))
}

/// Reacts to the last message; without one there is nothing to react to.
fn react(client: &Client, lines: &Lines, line: &str) {
    if let (Command::React(kind, on), Some(message)) = (parse(line), lines.last_heard()) {
        // One that finds no room is lost: nobody waits for it.
        let _ = client.react(message, &kind, on);
    }
}

async fn send(
    client: &Client,
    args: &Args,
    to: &[&str],
    line: &str,
    (updates, lines): (&mut mpsc::Receiver<Update>, &mut Lines),
) -> anyhow::Result<String> {
    let sending = client.send_when_free(&args.conversation, line, to);
    tokio::pin!(sending);
    loop {
        tokio::select! {
            biased;
            id = &mut sending => return Ok(id?),
            update = updates.recv() => show((client, args), lines, update).await?,
        }
    }
}

/// Standard input on a thread of its own: reading it cannot be interrupted, and the end of the process must
/// not wait for a line that never comes.
fn read_lines() -> mpsc::Receiver<std::io::Result<String>> {
    let (lines, taken) = mpsc::channel(AHEAD);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            if lines.blocking_send(line).is_err() {
                return;
            }
        }
    });
    taken
}

async fn show(
    (client, args): (&Client, &Args),
    lines: &mut Lines,
    update: Option<Update>,
) -> anyhow::Result<()> {
    match &update {
        None => bail!("the client has stopped"),
        Some(Update::Refused { status, reason }) => bail!("refused by the gateway ({status}): {reason}"),
        Some(Update::Message(message)) if message.from != args.user && !args.no_receipts => {
            // Printed is seen.
            let _ = client.mark_read(message);
        }
        Some(_) => {}
    }
    if let Some(line) = update.as_ref().and_then(|update| lines.line(update)) {
        let mut out = tokio::io::stdout();
        out.write_all(format!("{line}\n").as_bytes()).await.context("cannot write")?;
        out.flush().await.context("cannot write")?;
    }
    Ok(())
}
