//! The bytes of a WebSocket between a client and the node that owns its session.
//!
//! Owns: carrying them through unread, a few at a time, and ending when either side has. Must not know: frames.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use parlance_model::NodeId;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::UnderWay;
use crate::http::Origin;
use crate::node::Node;

/// Bytes on their way in one direction.
const BUFFER: usize = 4096;
/// How long one direction may go on after the other has ended.
const LINGER: Duration = Duration::from_secs(5);

/// Both ends, once they are upgraded.
pub struct Ends {
    pub client: OnUpgrade,
    pub owner: OnUpgrade,
    /// Whose session it is.
    pub of: NodeId,
    /// The client's connection counts for as long as the tunnel is there.
    pub origin: Origin,
}

/// Carries until one end is done, the owner is gone, or this node stops.
pub async fn carry(node: Arc<Node>, ends: Ends) {
    let _under_way = UnderWay::new(&node);
    let _origin = ends.origin;
    let (client, owner) = match tokio::try_join!(ends.client, ends.owner) {
        Ok((client, owner)) => (TokioIo::new(client), TokioIo::new(owner)),
        // The client went before its answer.
        Err(error) => return tracing::debug!(%error, "upgrade of a forwarded socket"),
    };
    let (mut client_reads, mut client_writes) = tokio::io::split(client);
    let (mut owner_reads, mut owner_writes) = tokio::io::split(owner);
    let stall = Duration::from_millis(node.config.load().limits.write_stall_ms);
    let up = async {
        tokio::select! {
            moved = pump(&mut client_reads, &mut owner_writes, stall) => moved?,
            // Nothing more is taken from the client; what the owner still says is brought.
            () = leaving(&node) => {}
        }
        owner_writes.shutdown().await
    };
    let down = async {
        pump(&mut owner_reads, &mut client_writes, stall).await?;
        client_writes.shutdown().await
    };
    let both = async {
        tokio::pin!(up, down);
        let ended = tokio::select! {
            ended = &mut up => match ended {
                Ok(()) => tokio::time::timeout(LINGER, down).await.unwrap_or(Ok(())),
                broken => broken,
            },
            ended = &mut down => match ended {
                Ok(()) => tokio::time::timeout(LINGER, up).await.unwrap_or(Ok(())),
                broken => broken,
            },
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "forwarded socket");
        }
    };
    tokio::select! {
        () = both => {}
        () = node.forward.roster.gone(&ends.of) => {}
        () = node.halt.cancelled() => {}
    }
}

/// Until it is this socket's turn to leave a stopping node: not all come back in one moment.
async fn leaving(node: &Node) {
    node.shutdown.cancelled().await;
    let spread = node.config.load().drain.deadline() / 2;
    tokio::time::sleep(spread.mul_f64(rand::random_range(0.0..1.0))).await;
}

/// Brings what comes until it ends. Whoever takes nothing for `stall` is given up.
async fn pump(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    stall: Duration,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.read(&mut buffer).await?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { return Ok(()) };
        tokio::time::timeout(stall, to.write_all(bytes)).await??;
    }
}
