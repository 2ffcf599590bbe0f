//! Connections that end in the middle: at every byte of every call, in every way an end can come.

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, TryStreamExt};
use parlance_tests::hostile::memory;

use super::calls::{CALLS, Call};
use super::stage::Stage;

/// How a connection ends.
#[derive(Clone, Copy)]
enum End {
    /// Both ways at once.
    Drop,
    /// This side only; what comes is still read.
    Finish,
    /// With a reset.
    Reset,
}

async fn cut(stage: &Stage, call: &Call, bytes: &[u8], end: End) -> Result<()> {
    let mut raw = stage.raw(call.side).await?;
    raw.send(bytes).await?;
    match end {
        End::Drop => drop(raw),
        End::Reset => raw.reset()?,
        End::Finish => {
            // The node may have ended it already.
            let _ = raw.finish().await;
            raw.ended().await.with_context(|| format!("{} after {} bytes", call.target, bytes.len()))?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_connection_may_end_at_every_byte() -> Result<()> {
    let stage = Stage::plain().await?;
    stage.is_quiet().await?;
    let mut before = None;
    for round in 0..2 {
        for call in CALLS {
            // The first two rounds are alike: what the second needs more is kept somewhere.
            let whole = stage.whole(call);
            // Of a token every byte is like the other.
            let token = whole.find("Bearer ").map_or(0..0, |at| at + 20..at + 150);
            let places = (0..whole.len()).filter(|at| !token.contains(at));
            let ends = places.map(|at| (at, [End::Drop, End::Finish, End::Reset][(at + round) % 3]));
            let cuts =
                ends.map(|(at, end)| cut(&stage, call, whole.as_bytes().get(..at).unwrap_or_default(), end));
            futures_util::stream::iter(cuts).buffer_unordered(32).try_collect::<Vec<_>>().await?;
        }
        stage.is_quiet().await?;
        let now = memory(&stage.gateway)?;
        let first = *before.get_or_insert(now);
        ensure!(now < first + 16 * 1024 * 1024, "memory grows: {first} bytes, then {now}");
    }
    stage.left_as_before().await
}

/// Calls that are complete, and nobody who waits for the answer.
#[tokio::test]
async fn nobody_needs_to_wait_for_an_answer() -> Result<()> {
    let stage = Stage::plain().await?;
    for call in CALLS {
        let whole = stage.whole(call);
        let gone = (0..30).map(|n| cut(&stage, call, whole.as_bytes(), [End::Drop, End::Reset][n % 2]));
        futures_util::stream::iter(gone).buffer_unordered(16).try_collect::<Vec<_>>().await?;
    }
    stage.left_as_before().await
}

/// Sockets that nothing is ever said on, many at once.
#[tokio::test]
async fn silent_connections_leave_nothing_behind() -> Result<()> {
    let stage = Stage::plain().await?;
    let calls = CALLS.iter().filter(|call| call.socket);
    for call in calls {
        let opened = (0..100).map(|_| async {
            let mut raw = stage.raw(call.side).await?;
            let answer = raw.ask(stage.head(call, "")).await?;
            ensure!(answer.status == 101, "{answer:?}");
            Ok(raw)
        });
        let open = futures_util::stream::iter(opened).buffer_unordered(32).try_collect::<Vec<_>>().await?;
        drop(open);
    }
    stage.left_as_before().await
}
