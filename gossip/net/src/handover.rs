//! How a member gets the authority that is in force from another one: a connection for nothing else.
//!
//! Each side is known by its key, which the roster admits; certificates are not looked at, since this is what those use whose
//! certificate has expired, or is by an authority that is trusted no more, or who do not know the peer's. They may do nothing
//! else. With the authority goes who was removed, so that nobody holds it who would give it to one of those.

use std::sync::Arc;
use std::time::Duration;

use dunlin_gossip::id::NodeId;
use dunlin_gossip::limits::MAX_MEMBERS;
use dunlin_gossip::wire::codec;
use quinn::Connection;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use zeroize::{Zeroize as _, Zeroizing};

use crate::authority::{Authority, Credentials};
use crate::conn::{Closing, explain};
use crate::endpoint::{DIAL, Net};
use crate::error::NetError;
use crate::join::{read_message, write_message};

/// Facts that an answer may hold.
const MAX_FACTS: u32 = MAX_MEMBERS as u32;
/// For the whole exchange.
const TIMEOUT: Duration = Duration::from_secs(10);
const VERSION: u16 = 1;

#[derive(Serialize, Deserialize)]
struct Head {
    version: u16,
    authority: Vec<u8>,
    authority_key: Vec<u8>,
    previous: Vec<Arc<[u8]>>,
    facts: u32,
}

/// A member asks for the authority in force; the facts are who was removed. Dropping it refuses.
#[derive(Debug)]
pub struct HandoverAsked {
    /// Who asks.
    pub peer: NodeId,
    reply: oneshot::Sender<Vec<Vec<u8>>>,
}

impl HandoverAsked {
    /// Hands it over, together with these facts (records' bytes).
    pub fn answer(self, facts: Vec<Vec<u8>>) {
        // Who asked and has gone needs no answer.
        let _gone = self.reply.send(facts);
    }
}

/// What a member handed over.
#[derive(Clone, Debug)]
pub struct Handed {
    /// Who.
    pub by: NodeId,
    /// The authority that is in force there.
    pub authority: Authority,
    /// Earlier ones that are still trusted there.
    pub previous: Vec<Arc<[u8]>>,
    /// Who was removed, as records' bytes; to be believed first.
    pub facts: Vec<Vec<u8>>,
}

/// The answering side.
pub(crate) async fn serve(
    connection: &Connection,
    peer: NodeId,
    credentials: impl FnOnce() -> Option<Credentials>,
    decide: impl AsyncFnOnce(HandoverAsked),
) -> Result<(), String> {
    let exchange = async {
        let (mut send, mut recv) = connection.accept_bi().await.map_err(|e| explain(&e))?;
        let request = read_message(&mut recv).await?;
        // A newer one may have appended something, here and in the answer.
        let (version, _): (u16, _) = codec::decode_known(&request).map_err(|_| "a malformed request")?;
        if version < VERSION {
            return Err(format!("a request of format {version}, {VERSION} is understood"));
        }
        let (reply, decision) = oneshot::channel();
        decide(HandoverAsked { peer, reply }).await;
        let facts = decision.await.map_err(|_| "the agent is busy")?;
        let credentials = credentials().ok_or("it was removed meanwhile")?;
        let mut head = Head {
            version: VERSION,
            authority: credentials.authority.certificate().to_vec(),
            authority_key: credentials.authority.key_der().to_vec(),
            previous: credentials.previous,
            facts: u32::try_from(facts.len()).unwrap_or(u32::MAX),
        };
        let bytes = Zeroizing::new(codec::encode(&head));
        head.authority_key.zeroize();
        write_message(&mut send, &bytes).await?;
        for fact in &facts {
            write_message(&mut send, fact).await?;
        }
        send.finish().map_err(|e| e.to_string())?;
        // The other side closes once it has read everything.
        connection.closed().await;
        Ok(())
    };
    tokio::time::timeout(TIMEOUT, exchange).await.unwrap_or_else(|_| Err("a handover took too long".into()))
}

/// The asking side.
async fn ask(connection: &Connection, by: NodeId) -> Result<Handed, String> {
    let exchange = async {
        let (mut send, mut recv) = connection.open_bi().await.map_err(|e| explain(&e))?;
        write_message(&mut send, &codec::encode(&VERSION)).await?;
        let malformed = |_| "its answer is malformed; it may be of a newer version".to_owned();
        let answer = read_message(&mut recv).await?;
        let (head, _): (Head, _) = codec::decode_known(&answer).map_err(malformed)?;
        let key = Zeroizing::new(head.authority_key);
        if head.facts > MAX_FACTS {
            return Err("its answer holds too many facts".into());
        }
        let mut facts = Vec::new();
        for _ in 0..head.facts {
            facts.push(read_message(&mut recv).await?.to_vec());
        }
        let authority = Authority::from_parts(&head.authority, &key).map_err(|e| e.to_string())?;
        Ok(Handed { by, authority, previous: head.previous, facts })
    };
    let result = tokio::time::timeout(TIMEOUT, exchange).await;
    let result = result.unwrap_or_else(|_| Err("a handover took too long".into()));
    result.map_err(|why| connection.close_reason().as_ref().map_or(why, explain))
}

impl Net {
    /// Asks a member for the authority that is in force there.
    ///
    /// # Errors
    /// [`NetError`] if it is unknown or does not answer.
    pub async fn ask_for_authority(&self, peer: NodeId) -> Result<Handed, NetError> {
        let inner = &self.inner;
        let addresses = inner.book.dial_addresses(peer).ok_or(NetError::UnknownPeer(peer))?;
        let mut reasons = Vec::new();
        for address in addresses {
            let handed = match inner.connect_as(&inner.heir, peer, address, DIAL).await {
                Ok(connection) => {
                    let handed = ask(&connection, peer).await;
                    Closing::Idle.close(&connection, "done");
                    handed
                }
                Err(why) => Err(why),
            };
            match handed {
                Ok(handed) => return Ok(handed),
                Err(why) => reasons.push(format!("{address}: {why}")),
            }
        }
        Err(NetError::Unreachable { node: peer, why: reasons.join(", ") })
    }
}
