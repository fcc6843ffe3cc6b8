//! Output of an allocation, wherever it runs: from this node's drivers, or from another's over a request stream.
//!
//! Between agents: the header is JSON ([`Ask`]); the answer begins with one byte, [`FINE`] and then the output as it is, or
//! [`REFUSED`] and then the reason in words.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dunlin_core::face::{Problem, ProblemKind};
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::AllocId;
use dunlin_net::{Net, RecvHalf, SendHalf};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

use crate::api::call::Located;
use crate::driver::Drivers;

const FINE: u8 = 0;
const REFUSED: u8 = 1;
/// The longest reason that is read.
const MAX_REASON: u64 = 4 * 1024;
/// For another agent's verdict.
const PATIENCE: Duration = Duration::from_secs(5);
/// A piece of output on its way.
const PIECE: usize = 16 * 1024;

/// What is asked of another agent.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Ask {
    /// Output of an allocation.
    Logs { alloc: u64, follow: bool, tail: Option<usize> },
}

/// Which part of an output is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Part {
    pub(crate) follow: bool,
    pub(crate) tail: Option<usize>,
}

/// Pieces of output on their way to a reader that is slow.
const QUEUE: usize = 16;

/// The output of an allocation, from whichever node has it; the channel closes at its end.
pub(crate) async fn logs(
    me: NodeId,
    net: &Net,
    drivers: &Drivers,
    at: Located,
    part: Part,
) -> Result<mpsc::Receiver<Bytes>, Problem> {
    if at.node == me {
        return Ok(drivers.logs(at.alloc, part.follow, part.tail));
    }
    let unavailable = |text: String| Problem { kind: ProblemKind::Unavailable, text };
    let ask = Ask::Logs { alloc: at.alloc.0, follow: part.follow, tail: part.tail };
    let header = serde_json::to_vec(&ask).map_err(|e| unavailable(e.to_string()))?;
    let (send, mut recv) = net.request(at.node, header).await.map_err(|e| unavailable(e.to_string()))?;
    let verdict = tokio::time::timeout(PATIENCE, recv.read_u8()).await;
    let verdict = verdict.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
    let verdict = verdict.map_err(|e| unavailable(format!("node {} did not answer: {e}", at.node)))?;
    if verdict != FINE {
        let mut reason = String::new();
        let read = recv.take(MAX_REASON).read_to_string(&mut reason).await;
        return Err(unavailable(read.map_or_else(|e| e.to_string(), |_| reason)));
    }
    let (to, from) = mpsc::channel(QUEUE);
    tokio::spawn(pump(recv, send, to));
    Ok(from)
}

/// Moves what another node sends to whoever reads it here. Dropping `send` tells the other node that nobody reads.
async fn pump(mut from: RecvHalf, send: SendHalf, to: mpsc::Sender<Bytes>) {
    loop {
        let mut piece = vec![0; PIECE];
        let read = tokio::select! {
            read = from.read(&mut piece) => read,
            () = to.closed() => break,
        };
        match read {
            Ok(n @ 1..) => {
                piece.truncate(n);
                if to.send(piece.into()).await.is_err() {
                    break;
                }
            }
            Ok(0) => break,
            Err(why) => {
                tracing::debug!(%why, "a relayed output ended early");
                break;
            }
        }
    }
    drop(send);
}

/// Answers another agent, on a task of its own.
pub(crate) fn serve(peer: NodeId, header: &[u8], mut send: SendHalf, mut recv: RecvHalf, drivers: Arc<Drivers>) {
    let ask: Result<Ask, _> = serde_json::from_slice(header);
    tokio::spawn(async move {
        let sent = async {
            match ask {
                Ok(Ask::Logs { alloc, follow, tail }) => {
                    send.write_u8(FINE).await?;
                    let output = drivers.logs(AllocId(alloc), follow, tail);
                    // Not held while a follower waits: the agent must be able to end.
                    drop(drivers);
                    copy(output, &mut send, &mut recv).await?;
                }
                Err(_) => {
                    send.write_u8(REFUSED).await?;
                    send.write_all(b"the request is not understood there; that node may be of an older version")
                        .await?;
                }
            }
            send.shutdown().await
        };
        if let Err(why) = sent.await {
            tracing::debug!(%peer, %why, "a relayed output ended early");
        }
    });
}

/// Copies until the output ends or the asker goes: a followed output that is silent must not outlive who follows it.
async fn copy(mut from: mpsc::Receiver<Bytes>, to: &mut SendHalf, asker: &mut RecvHalf) -> std::io::Result<()> {
    let mut nothing = [0; 1];
    loop {
        tokio::select! {
            piece = from.recv() => match piece {
                Some(piece) => to.write_all(&piece).await?,
                None => return Ok(()),
            },
            // The asker sends nothing: an end or an error of its side means that it went.
            _ = asker.read(&mut nothing) => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_between_agents_stands() {
        let ask = Ask::Logs { alloc: 7, follow: true, tail: Some(3) };
        let text = r#"{"logs":{"alloc":7,"follow":true,"tail":3}}"#;
        assert_eq!(serde_json::to_string(&ask).unwrap(), text);
        assert_eq!(serde_json::from_str::<Ask>(text).unwrap(), ask);
    }
}
