//! How a data directory comes to belong to a cluster: made anew by `dunlin init`, or by joining with a token.
//!
//! Both end with the credentials file, written last: a crash before it leaves a directory that belongs to nothing and can
//! be used again. Joining never creates a cluster, and an empty directory without `--join` is refused: two nodes that
//! each make "the" cluster by accident is the mistake that cannot be healed.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dunlin_gossip::hlc::Hlc;
use dunlin_gossip::id::{Actor, ClusterId, NodeId};
use dunlin_gossip::model::{Asker, NodeName, RosterEntry, Token};
use dunlin_gossip::wire::{Context, Record, RecordId, Stamp, codec};
use dunlin_net::{Credentials, JoinError, JoinToken, KeyError, NodeKeys, TokenError};
use tokio::time::Instant;

use crate::clock;
use crate::disk::{self, DiskError};
use crate::host;
use crate::lock::{DataLock, LockError};
use crate::settings::Settings;

/// How long to knock at seeds that do not answer; a host's services start in any order.
const KNOCK: Duration = Duration::from_secs(30);
/// Between two knocks.
const KNOCK_PAUSE: Duration = Duration::from_millis(500);

/// Why a data directory does not (come to) belong to a cluster. Nothing was changed that a second try would mind.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// It cannot be had.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Keys or certificates.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The state file.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The way in.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// `init` on a member.
    #[error("{} already holds a node of cluster {cluster}; start it with `dunlin agent`, or make the new cluster elsewhere with --data-dir", .data.display())]
    AlreadyMember {
        /// The data directory.
        data: PathBuf,
        /// Its cluster.
        cluster: ClusterId,
    },
    /// An empty directory, and no way in.
    #[error("{} belongs to no cluster yet; make a new one with `dunlin init`, or join one with `dunlin agent --join HOST:PORT --token-file F`", .data.display())]
    NoCluster {
        /// The data directory.
        data: PathBuf,
    },
    /// A seed but no token.
    #[error(
        "joining needs a token: make one with `dunlin token create` on any member, and give it by --token-file F or in DUNLIN_TOKEN"
    )]
    NoToken,
    /// The token leads elsewhere.
    #[error("{} holds a node of cluster {mine}, and the join token is for cluster {theirs}; leave the token out to start this node, or join with an empty --data-dir", .data.display())]
    OtherCluster {
        /// The data directory.
        data: PathBuf,
        /// Whose it is.
        mine: ClusterId,
        /// Whose the token is.
        theirs: ClusterId,
    },
    /// Half a node.
    #[error("{} has the cluster's credentials but not the node's keys; restore the folder `keys` from a backup, or join again with an empty --data-dir", .data.display())]
    KeysMissing {
        /// The data directory.
        data: PathBuf,
    },
    /// A leftover cannot be removed.
    #[error("cannot remove {}, left by an interrupted start: {source}; remove it by hand", .path.display())]
    Leftover {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Who this node is.
#[derive(Clone, Debug)]
pub struct Membership {
    /// Its keys.
    pub keys: NodeKeys,
    /// Its cluster.
    pub credentials: Credentials,
}

/// What `dunlin init` shows.
#[derive(Debug)]
pub struct Created {
    /// The new cluster.
    pub cluster: ClusterId,
    /// This node.
    pub node: NodeId,
    /// A token for the next node; a secret.
    pub token: JoinToken,
}

/// Makes a new cluster with this node as its first member and a first token.
///
/// # Errors
/// [`SetupError`]; above all if the directory is a member already.
pub fn create(
    data: &Path,
    name: NodeName,
    advertise: Option<SocketAddr>,
    token_for: Duration,
) -> Result<Created, SetupError> {
    let _lock = DataLock::take(data)?;
    if let Some(credentials) = Credentials::load(data)? {
        return Err(SetupError::AlreadyMember { data: data.to_owned(), cluster: credentials.cluster });
    }
    clear_leftovers(data)?;
    let keys = keys(data)?;
    let credentials = Credentials::create_cluster(&keys)?;
    let wall = clock::wall();
    let token =
        JoinToken::generate(credentials.cluster, credentials.authority.fingerprint(), keys.id(), wall.plus(token_for))?;
    let entry = RosterEntry {
        node: keys.id(),
        name,
        certificate: credentials.certificate.to_vec(),
        seal_key: keys.seal_key(),
        addresses: advertise.into_iter().collect(),
        admitted_by: None,
        token: None,
        at: wall,
    };
    disk::create(data, credentials.cluster, wall, |generation| {
        let author = Actor { node: keys.id(), generation };
        let (first, second) = (Hlc::from_wall(wall), Hlc(Hlc::from_wall(wall).0 + 1));
        let kept = Token {
            id: token.id,
            secret_hash: token.secret_hash(),
            issuer: keys.id(),
            label: "init".into(),
            created: wall,
            expires: token.expires,
            uses: None,
        };
        let seen = vec![(author, second.0)];
        vec![
            Record::write(RecordId::roster(entry.node), Stamp::Fact { author }, first, Some(&codec::encode(&entry))),
            Record::write(
                RecordId::token(token.id),
                Context { author, asker: Asker::new("init"), seen, below: 0 }.into(),
                second,
                Some(&codec::encode(&kept)),
            ),
        ]
    })?;
    credentials.save(data)?;
    Ok(Created { cluster: credentials.cluster, node: keys.id(), token })
}

/// The membership that the data directory holds, or a new one by joining. The caller holds the directory's lock.
///
/// # Errors
/// [`SetupError`] with the remedy.
pub async fn member(settings: &Settings) -> Result<Membership, SetupError> {
    let data = &settings.data_dir;
    let token = settings.token.as_deref().map(JoinToken::parse).transpose()?;
    if let Some(credentials) = Credentials::load(data)? {
        if let Some(token) = token.filter(|t| t.cluster != credentials.cluster && !settings.join.is_empty()) {
            let (mine, theirs) = (credentials.cluster, token.cluster);
            return Err(SetupError::OtherCluster { data: data.clone(), mine, theirs });
        }
        let keys = NodeKeys::load(data)?.ok_or_else(|| SetupError::KeysMissing { data: data.clone() })?;
        return Ok(Membership { keys, credentials });
    }
    if settings.join.is_empty() {
        return Err(SetupError::NoCluster { data: data.clone() });
    }
    let token = token.ok_or(SetupError::NoToken)?;
    clear_leftovers(data)?;
    let keys = keys(data)?;
    let joined = knock(settings, &token, &keys).await?;
    let mut records = Vec::new();
    for bytes in &joined.roster_records {
        match Record::read(bytes) {
            Ok(record) => records.push(record),
            Err(why) => tracing::warn!(%why, "a record of the roster cannot be read and was left out"),
        }
    }
    disk::seed(data, joined.credentials.cluster, &records)?;
    joined.credentials.save(data)?;
    tracing::info!(cluster = %joined.credentials.cluster, node = %keys.id(), "joined");
    Ok(Membership { keys, credentials: joined.credentials })
}

async fn knock(settings: &Settings, token: &JoinToken, keys: &NodeKeys) -> Result<dunlin_net::Joined, SetupError> {
    let until = Instant::now() + KNOCK;
    let mut told = false;
    loop {
        let seed = resolve(&settings.join).await;
        let address = settings.reachable_at(settings.bind, seed);
        let name = settings.name.clone().unwrap_or_else(host::name);
        match dunlin_net::join(&settings.join, token, keys, name.as_str(), &[address]).await {
            Ok(joined) => return Ok(joined),
            Err(error @ JoinError::Unreachable(_)) if Instant::now() < until => {
                if !told {
                    tracing::warn!(%error, "trying again for {} s", KNOCK.as_secs());
                    told = true;
                }
                tokio::time::sleep(KNOCK_PAUSE).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// The first address of the first seed that has one.
async fn resolve(seeds: &[String]) -> Option<SocketAddr> {
    for seed in seeds {
        if let Ok(mut found) = tokio::net::lookup_host(seed).await
            && let Some(address) = found.next()
        {
            return Some(address);
        }
    }
    None
}

fn keys(data: &Path) -> Result<NodeKeys, SetupError> {
    if let Some(keys) = NodeKeys::load(data)? {
        return Ok(keys);
    }
    let keys = NodeKeys::generate()?;
    keys.save(data)?;
    Ok(keys)
}

/// Without credentials a state file is what an interrupted init or join left behind.
fn clear_leftovers(data: &Path) -> Result<(), SetupError> {
    let path = disk::file(data);
    match fs::remove_file(&path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(SetupError::Leftover { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Disk;
    use dunlin_gossip::model::Resources;

    fn settings(data: &Path, join: &[&str], token: Option<String>) -> Settings {
        Settings {
            data_dir: data.to_owned(),
            join: join.iter().map(ToString::to_string).collect(),
            token,
            name: NodeName::new("test").ok(),
            bind: "127.0.0.1:0".parse().unwrap(),
            advertise: None,
            dns: Vec::new(),
            dns_allow: Vec::new(),
            dns_rate: None,
            dns_forward: Vec::new(),
            workload_dns: Default::default(),
            domain: "dunlin.internal".into(),
            labels: Default::default(),
            allocatable: Resources::default(),
            supply: Default::default(),
            gpus: Vec::new(),
            certificate_lifetime: dunlin_net::CERTIFICATE_LIFETIME,
            ports: 20_000..=20_100,
            rebalance: 0,
            keeper: "dunlin".into(),
        }
    }

    fn init(data: &Path) -> Result<Created, SetupError> {
        create(data, NodeName::new("first").unwrap(), None, Duration::from_secs(60))
    }

    #[test]
    fn init_makes_a_cluster_once() {
        let dir = tempfile::tempdir().unwrap();
        let made = init(dir.path()).unwrap();
        let error = init(dir.path()).unwrap_err().to_string();
        assert!(error.contains(&made.cluster.to_string()) && error.contains("dunlin agent"), "{error}");
        let (_disk, loaded) = Disk::open(dir.path(), made.cluster, clock::wall(), 0).unwrap();
        assert_eq!(loaded.records.len(), 2, "the roster's entry and the token");
        assert!(loaded.records.iter().any(|r| *r.id() == RecordId::roster(made.node)));
    }

    #[test]
    fn an_interrupted_init_can_be_done_again() {
        let dir = tempfile::tempdir().unwrap();
        init(dir.path()).unwrap();
        fs::remove_file(dir.path().join("keys/cluster")).unwrap();
        init(dir.path()).unwrap();
    }

    #[tokio::test]
    async fn an_empty_directory_needs_a_way_in() {
        let dir = tempfile::tempdir().unwrap();
        let error = member(&settings(dir.path(), &[], None)).await.unwrap_err().to_string();
        assert!(error.contains("dunlin init") && error.contains("--join"), "{error}");
        let error = member(&settings(dir.path(), &["127.0.0.1:1"], None)).await.unwrap_err().to_string();
        assert!(error.contains("dunlin token create"), "{error}");
        let bad = Some("dunlin1.nonsense".to_owned());
        assert!(matches!(member(&settings(dir.path(), &["127.0.0.1:1"], bad)).await, Err(SetupError::Token(_))));
        assert!(!dir.path().join("keys").exists(), "a refused start leaves nothing behind");
    }

    #[tokio::test]
    async fn a_token_of_another_cluster_is_refused_on_a_member() {
        let (mine, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        init(mine.path()).unwrap();
        let other = init(theirs.path()).unwrap();
        let text = other.token.to_text().to_string();
        let error = member(&settings(mine.path(), &["127.0.0.1:1"], Some(text))).await.unwrap_err();
        assert!(matches!(error, SetupError::OtherCluster { .. }), "{error}");
        assert!(member(&settings(mine.path(), &[], None)).await.is_ok());
    }
}
