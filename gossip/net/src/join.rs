//! Joining: a newcomer with a token and no certificate talks once to any member and leaves with all it needs.
//!
//! The newcomer trusts the host only if its certificate was made by the authority whose fingerprint the token carries; only
//! then does it send the token's secret, its public keys, and a signature over this very TLS session, which proves that the
//! key is its own. The answer holds its certificate, the authority (every member can admit, hence holds its key) and the
//! roster. Whether the token is good is the agent's decision, not made here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dunlin_gossip::id::{ClusterId, NodeId};
use dunlin_gossip::limits::MAX_MEMBERS;
use dunlin_gossip::model::TokenId;
use dunlin_gossip::wire::codec;
use quinn::{Connection, RecvStream, SendStream};
use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, oneshot};
use zeroize::{Zeroize as _, Zeroizing};

use crate::authority::{Authority, Credentials};
use crate::conn::{Closing, explain};
use crate::error::NetError;
use crate::keys::{NodeKeys, node_id, verifies};
use crate::socket::{Plane, Socket};
use crate::tls::{Anchor, JOIN_NAME, newcomer};
use crate::token::{JoinToken, secret_hash};

/// Largest message of the exchange.
const MAX_MESSAGE: usize = 64 * 1024;
/// Records that an answer may hold (an admission and a removal for each member).
const MAX_RECORDS: u32 = (MAX_MEMBERS * 2) as u32;
/// For the whole exchange with one host.
const TIMEOUT: Duration = Duration::from_secs(10);
/// For reaching one address.
const CONNECT: Duration = Duration::from_secs(3);
const LABEL: &[u8] = b"EXPORTER-dunlin-join";
const VERSION: u16 = 1;

#[derive(Serialize, Deserialize)]
struct Ask {
    version: u16,
    token: TokenId,
    secret: [u8; 32],
    public_key: Vec<u8>,
    seal_key: [u8; 32],
    name: String,
    addresses: Vec<SocketAddr>,
}

impl Drop for Ask {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

#[derive(Serialize, Deserialize)]
enum Answer {
    Accepted {
        cluster: ClusterId,
        authority: Vec<u8>,
        authority_key: Vec<u8>,
        /// Earlier authorities that are still trusted.
        previous: Vec<Arc<[u8]>>,
        certificate: Vec<u8>,
        records: u32,
    },
    Refused(JoinRefusal),
}

/// True if bytes read as one of the exchange's messages. For tests that feed it anything: strangers send these.
#[must_use]
pub fn join_message_reads(bytes: &[u8]) -> bool {
    codec::decode_known::<Ask>(bytes).is_ok() || codec::decode_known::<Answer>(bytes).is_ok()
}

/// Why a host does not admit a newcomer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
pub enum JoinRefusal {
    /// No such token, or another secret.
    #[error("the token is unknown, was removed, or its secret is wrong")]
    WrongToken,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// Something else, in words.
    #[error("{0}")]
    Other(String),
}

/// Why a join did not succeed. Nothing was changed on this host.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Nobody answered.
    #[error("no host could be reached: {}; check the addresses given with --join, and that UDP passes", list(.0))]
    Unreachable(Vec<(String, String)>),
    /// The token's time is over.
    #[error("{seed}: the join token has expired; make a new one with 'dunlin token create' on any member")]
    Expired {
        /// Who said so.
        seed: String,
    },
    /// The cluster does not know the token.
    #[error(
        "{seed}: the join token is unknown there or was removed; make a new one with 'dunlin token create' on any member"
    )]
    WrongToken {
        /// Who said so.
        seed: String,
    },
    /// A host of another cluster answered.
    #[error("{seed} belongs to another cluster than the join token; check --join and --token")]
    OtherCluster {
        /// Which.
        seed: String,
    },
    /// The host gave another reason.
    #[error("{seed} refused: {reason}")]
    Refused {
        /// Who.
        seed: String,
        /// Why.
        reason: String,
    },
    /// This host's own network or keys.
    #[error(transparent)]
    Local(#[from] NetError),
}

fn list(reasons: &[(String, String)]) -> String {
    reasons.iter().map(|(seed, why)| format!("{seed} ({why})")).collect::<Vec<_>>().join(", ")
}

/// What a newcomer leaves with.
#[derive(Clone, Debug)]
pub struct Joined {
    /// Cluster, authority and own certificate; not yet on disk.
    pub credentials: Credentials,
    /// The roster, as records' bytes.
    pub roster_records: Vec<Vec<u8>>,
}

/// A newcomer at the door, its possession of the key already proved. Dropping it refuses.
#[derive(Debug)]
pub struct JoinAttempt {
    /// Where it comes from.
    pub from: SocketAddr,
    /// The token it shows.
    pub token: TokenId,
    /// SHA-256 of the secret it knows; compare with the token's.
    pub secret_hash: [u8; 32],
    /// Who it will be.
    pub node: NodeId,
    /// Its TLS public key (DER), to be certified by [`Authority::certify`].
    pub public_key: Vec<u8>,
    /// Its sealing key.
    pub seal_key: [u8; 32],
    /// The name that it wants.
    pub name: String,
    /// Where it says it can be reached.
    pub addresses: Vec<SocketAddr>,
    reply: oneshot::Sender<Result<Admission, JoinRefusal>>,
}

#[derive(Debug)]
struct Admission {
    certificate: Vec<u8>,
    roster_records: Vec<Vec<u8>>,
}

impl JoinAttempt {
    /// Admits it, with its certificate and the roster (its own record included).
    pub fn accept(self, certificate: Vec<u8>, roster_records: Vec<Vec<u8>>) {
        // A newcomer that has gone needs no answer.
        let _gone = self.reply.send(Ok(Admission { certificate, roster_records }));
    }

    /// Turns it away.
    pub fn refuse(self, why: JoinRefusal) {
        let _gone = self.reply.send(Err(why));
    }
}

pub(crate) async fn write_message(send: &mut SendStream, bytes: &[u8]) -> Result<(), String> {
    let length = u32::try_from(bytes.len()).ok().filter(|_| bytes.len() <= MAX_MESSAGE);
    let length = length.ok_or("a message is too large")?;
    send.write_all(&length.to_be_bytes()).await.map_err(|e| e.to_string())?;
    send.write_all(bytes).await.map_err(|e| e.to_string())
}

pub(crate) async fn read_message(recv: &mut RecvStream) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut length = [0; 4];
    recv.read_exact(&mut length).await.map_err(|e| e.to_string())?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > MAX_MESSAGE {
        return Err(format!("a message of {length} bytes; {MAX_MESSAGE} are allowed"));
    }
    let mut bytes = Zeroizing::new(vec![0; length]);
    recv.read_exact(&mut bytes).await.map_err(|e| e.to_string())?;
    Ok(bytes)
}

/// What is signed: this TLS session and the request, so that neither can be used elsewhere.
fn proof(connection: &Connection, ask: &[u8]) -> Result<Vec<u8>, String> {
    let mut session = [0; 32];
    connection.export_keying_material(&mut session, LABEL, &[]).map_err(|_| "no session secret")?;
    Ok([LABEL, &session, ask].concat())
}

/// The host's side: reads a request, has it decided, answers. The error is for the host's events.
pub(crate) async fn serve(
    connection: &Connection,
    from: SocketAddr,
    credentials: &Credentials,
    decide: impl AsyncFnOnce(JoinAttempt),
) -> Result<(), String> {
    let exchange = async {
        let (mut send, mut recv) = connection.accept_bi().await.map_err(|e| explain(&e))?;
        let (reply, decision) = oneshot::channel();
        let attempt = read_ask(connection, from, &mut recv, reply).await?;
        let (node, name) = (attempt.node, attempt.name.clone());
        decide(attempt).await;
        let decision =
            decision.await.unwrap_or_else(|_| Err(JoinRefusal::Other("the agent is busy; try again".into())));
        answer(&mut send, credentials, &decision).await?;
        send.finish().map_err(|e| e.to_string())?;
        // The newcomer closes once it has read everything.
        connection.closed().await;
        match decision {
            Ok(_) => Ok(()),
            Err(why) => Err(format!("node {node:?} ('{name}') was not admitted: {why}")),
        }
    };
    tokio::time::timeout(TIMEOUT, exchange).await.unwrap_or_else(|_| Err("a join took too long".into()))
}

async fn read_ask(
    connection: &Connection,
    from: SocketAddr,
    recv: &mut RecvStream,
    reply: oneshot::Sender<Result<Admission, JoinRefusal>>,
) -> Result<JoinAttempt, String> {
    let ask_bytes = read_message(recv).await?;
    let signature = read_message(recv).await?;
    // A newer one may have appended something.
    let (ask, _): (Ask, _) = codec::decode_known(&ask_bytes).map_err(|_| "a malformed request to join")?;
    if ask.version < VERSION {
        return Err(format!("a request to join of format {}, {VERSION} is understood", ask.version));
    }
    if !verifies(&ask.public_key, &proof(connection, &ask_bytes)?, &signature) {
        return Err("a request to join without proof of its key".into());
    }
    Ok(JoinAttempt {
        from,
        token: ask.token,
        secret_hash: secret_hash(&ask.secret),
        node: node_id(&ask.public_key),
        public_key: ask.public_key.clone(),
        seal_key: ask.seal_key,
        name: printable(&ask.name),
        addresses: ask.addresses.clone(),
        reply,
    })
}

/// A stranger's name, safe to log.
fn printable(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(64).collect()
}

async fn answer(
    send: &mut SendStream,
    credentials: &Credentials,
    decision: &Result<Admission, JoinRefusal>,
) -> Result<(), String> {
    let admission = match decision {
        Ok(admission) => admission,
        Err(why) => return write_message(send, &codec::encode(&Answer::Refused(why.clone()))).await,
    };
    let records = u32::try_from(admission.roster_records.len()).unwrap_or(u32::MAX);
    let key = credentials.authority.key_der();
    let head = Answer::Accepted {
        cluster: credentials.cluster,
        authority: credentials.authority.certificate().to_vec(),
        authority_key: key.to_vec(),
        previous: credentials.previous.clone(),
        certificate: admission.certificate.clone(),
        records,
    };
    write_message(send, &Zeroizing::new(codec::encode(&head))).await?;
    if let Answer::Accepted { mut authority_key, .. } = head {
        authority_key.zeroize();
    }
    for record in &admission.roster_records {
        write_message(send, record).await?;
    }
    Ok(())
}

/// How one host's attempt ended, when not well.
enum Failure {
    /// This host did not answer; another may.
    Unreachable(String),
    /// Another cluster's; another host may be the right one.
    OtherCluster,
    /// The cluster has decided.
    Final(JoinRefusal),
}

/// Only here to see refusals; a newcomer has no packets yet.
#[derive(Debug)]
struct Refusals(broadcast::Sender<SocketAddr>);

impl Plane for Refusals {
    fn datagram(&self, _from: SocketAddr, _bytes: &[u8]) {}

    fn refused(&self, to: SocketAddr) {
        let _nobody = self.0.send(to);
    }
}

/// Joins a cluster by way of any of these hosts (`host:port`, names resolved at each call), tried in order.
///
/// # Errors
/// [`JoinError`] tells a host that cannot be reached from a token that is not accepted.
pub async fn join(
    seeds: &[String],
    token: &JoinToken,
    me: &NodeKeys,
    name: &str,
    addresses: &[SocketAddr],
) -> Result<Joined, JoinError> {
    let (mut unreachable, mut other_cluster) = (Vec::new(), None);
    let ask = Ask {
        version: VERSION,
        token: token.id,
        secret: *token.secret(),
        public_key: me.public_key().to_vec(),
        seal_key: me.seal_key(),
        name: name.to_owned(),
        addresses: addresses.to_vec(),
    };
    for seed in seeds {
        let resolved = match tokio::time::timeout(CONNECT, tokio::net::lookup_host(seed)).await {
            Ok(Ok(resolved)) => resolved.collect(),
            Ok(Err(error)) => {
                unreachable.push((seed.clone(), error.to_string()));
                Vec::new()
            }
            Err(_) => {
                unreachable.push((seed.clone(), "its name could not be resolved in time".into()));
                Vec::new()
            }
        };
        for address in resolved {
            match attempt(address, token, me, &ask).await? {
                Ok(joined) => return Ok(joined),
                Err(Failure::Unreachable(why)) => unreachable.push((seed.clone(), why)),
                Err(Failure::OtherCluster) => other_cluster = Some(seed.clone()),
                Err(Failure::Final(refusal)) => return Err(refused(seed, refusal)),
            }
        }
    }
    Err(other_cluster.map_or(JoinError::Unreachable(unreachable), |seed| JoinError::OtherCluster { seed }))
}

fn refused(seed: &str, refusal: JoinRefusal) -> JoinError {
    let seed = seed.to_owned();
    match refusal {
        JoinRefusal::WrongToken => JoinError::WrongToken { seed },
        JoinRefusal::Expired => JoinError::Expired { seed },
        JoinRefusal::Other(reason) => JoinError::Refused { seed, reason },
    }
}

async fn attempt(
    address: SocketAddr,
    token: &JoinToken,
    me: &NodeKeys,
    ask: &Ask,
) -> Result<Result<Joined, Failure>, NetError> {
    let local = match address {
        SocketAddr::V4(_) => SocketAddr::from(([0; 4], 0)),
        SocketAddr::V6(_) => SocketAddr::from(([0; 16], 0)),
    };
    let (refusals, mut refused) = broadcast::channel(16);
    let socket = Socket::bind(local, Arc::new(Refusals(refusals))).map_err(|e| NetError::bind(local, e))?;
    let tasks = socket.spawn();
    let result = talk(address, token, me, ask, socket, &mut refused).await;
    tasks.iter().for_each(tokio::task::AbortHandle::abort);
    result
}

async fn talk(
    address: SocketAddr,
    token: &JoinToken,
    me: &NodeKeys,
    ask: &Ask,
    socket: Arc<Socket>,
    refused: &mut broadcast::Receiver<SocketAddr>,
) -> Result<Result<Joined, Failure>, NetError> {
    let (config, mismatch) = newcomer(token.fingerprint)?;
    let runtime = Arc::new(quinn::TokioRuntime);
    let mut endpoint_config = quinn::EndpointConfig::default();
    // A host's greased packets could look like sealed ones to this socket.
    endpoint_config.grease_quic_bit(false);
    let endpoint = quinn::Endpoint::new_with_abstract_socket(endpoint_config, None, socket, runtime)
        .map_err(|source| NetError::Socket { address, source })?;
    let connecting = match endpoint.connect_with(config, address, JOIN_NAME) {
        Ok(connecting) => connecting,
        Err(error) => return Ok(Err(Failure::Unreachable(error.to_string()))),
    };
    let connected = tokio::select! {
        done = tokio::time::timeout(CONNECT, connecting) => done,
        Ok(_) = refused.recv() => return Ok(Err(Failure::Unreachable("nobody listens on that port".into()))),
    };
    let connection = match connected {
        Ok(Ok(connection)) => connection,
        Ok(Err(_)) if mismatch.load(Ordering::Relaxed) => return Ok(Err(Failure::OtherCluster)),
        Ok(Err(error)) => return Ok(Err(Failure::Unreachable(explain(&error)))),
        Err(_) => return Ok(Err(Failure::Unreachable(format!("no answer within {} s", CONNECT.as_secs())))),
    };
    let result = match tokio::time::timeout(TIMEOUT, exchange(&connection, token, me, ask)).await {
        Ok(result) => result,
        Err(_) => Err(Failure::Unreachable(format!("no decision within {} s", TIMEOUT.as_secs()))),
    };
    Closing::Idle.close(&connection, "done");
    // Lets the farewell leave; a lost one only costs the host a time-out.
    let _best_effort = tokio::time::timeout(Duration::from_millis(500), endpoint.wait_idle()).await;
    Ok(result)
}

async fn exchange(connection: &Connection, token: &JoinToken, me: &NodeKeys, ask: &Ask) -> Result<Joined, Failure> {
    let lost = |why: String| match connection.close_reason() {
        Some(reason) => Failure::Unreachable(explain(&reason)),
        None => Failure::Unreachable(why),
    };
    let (mut send, mut recv) = connection.open_bi().await.map_err(|e| Failure::Unreachable(explain(&e)))?;
    let bytes = Zeroizing::new(codec::encode(ask));
    let signature = me.sign(&proof(connection, &bytes).map_err(lost)?).map_err(|e| lost(e.to_string()))?;
    write_message(&mut send, &bytes).await.map_err(lost)?;
    write_message(&mut send, &signature).await.map_err(lost)?;
    let head = read_message(&mut recv).await.map_err(lost)?;
    let malformed = |what: &str| Failure::Final(JoinRefusal::Other(format!("its answer is malformed: {what}")));
    let (cluster, authority, authority_key, previous, certificate, records) =
        match codec::decode_known(&head).map(|(answer, _)| answer) {
            Ok(Answer::Accepted { cluster, authority, authority_key, previous, certificate, records }) => {
                (cluster, authority, Zeroizing::new(authority_key), previous, certificate, records)
            }
            Ok(Answer::Refused(why)) => return Err(Failure::Final(why)),
            Err(_) => return Err(malformed("it may be of a newer version")),
        };
    if records > MAX_RECORDS {
        return Err(malformed("too many records"));
    }
    let mut roster_records = Vec::new();
    for _ in 0..records {
        roster_records.push(read_message(&mut recv).await.map_err(lost)?.to_vec());
    }
    let authority = Authority::from_parts(&authority, &authority_key).map_err(|e| malformed(&e.to_string()))?;
    if cluster != token.cluster || authority.fingerprint() != token.fingerprint {
        return Err(Failure::OtherCluster);
    }
    let ours = crate::keys::certificate_key(&certificate).is_ok_and(|key| key == me.public_key());
    let credentials = Credentials { cluster, authority, previous, certificate: certificate.into(), next: None };
    let signed = Anchor::new(&credentials).is_ok_and(|anchor| anchor.verify(&credentials.certificate).is_ok());
    if !(ours && signed) {
        return Err(malformed("the certificate is not ours"));
    }
    Ok(Joined { credentials, roster_records })
}
