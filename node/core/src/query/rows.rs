//! The rows: field names are stable, programs outside read them.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use dunlin_gossip::face::MemberState;
use serde::Serialize;

use crate::counts::Counts;

/// A node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct NodeRow {
    /// Its id.
    pub id: String,
    /// Its name; empty while its header has not arrived.
    pub name: String,
    /// `alive`, `suspect`, `down` or `left`; none if it was not heard of.
    pub state: Option<MemberState>,
    /// Where its port is reached, the first of them.
    pub address: String,
    /// The label `zone`, empty if it has none.
    pub zone: String,
    /// All labels.
    pub labels: BTreeMap<String, String>,
    /// What its allocations may reserve: thousandths of a CPU.
    pub cpu_milli: u64,
    /// What its allocations may reserve: bytes.
    pub memory_bytes: u64,
    /// What they reserve now.
    pub cpu_reserved_milli: u64,
    /// What they reserve now.
    pub memory_reserved_bytes: u64,
    /// How many there are.
    pub allocations: usize,
    /// `exec`, `docker`.
    pub drivers: Vec<&'static str>,
    /// The agent's version.
    pub version: String,
    /// True for the node that answers.
    pub me: bool,
}

/// A service.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ServiceRow {
    /// `stack/service`.
    pub service: String,
    /// `service` or `global`.
    pub kind: &'static str,
    /// Its revision.
    pub revision: String,
    /// How many should run; of a global service, on how many nodes it can.
    pub replicas_wanted: usize,
    /// How many are claimed on nodes that are not down.
    pub running: usize,
    /// How many of these are ready.
    pub ready: usize,
    /// How many of these are at the revision.
    pub updated: usize,
    /// Its ports, as `name:published->target/protocol`.
    pub ports: Vec<String>,
    /// The command or the image.
    pub workload: String,
    /// `ready`, `starting`, `waiting` (replicas without an owner) or `updating`.
    pub state: &'static str,
    /// Why replicas wait: each reason and on how many nodes.
    pub waiting: Vec<String>,
}

/// An allocation, or a replica that waits for one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct AllocationRow {
    /// Its id; empty while the replica waits.
    pub id: String,
    /// `stack/service.slot`.
    pub replica: String,
    /// `stack/service`.
    pub service: String,
    /// Its node's name.
    pub node: String,
    /// Its node's id.
    pub node_id: String,
    /// Its phase, or `waiting`; `lost` if its node is down.
    pub phase: &'static str,
    /// Whether names point here.
    pub ready: bool,
    /// Its revision.
    pub revision: String,
    /// Its claim's epoch.
    pub epoch: u64,
    /// Where it is reached, as `address:port/protocol`.
    pub endpoint: Vec<String>,
    /// Restarts on this node.
    pub restarts: u32,
    /// Since when it is claimed (milliseconds since 1970).
    pub since_ms: u64,
    /// What a person should know; for a waiting replica, why no node takes it.
    pub detail: String,
}

/// How many members are in which state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct MemberCounts {
    /// They answer, this node included.
    pub alive: usize,
    /// They do not answer right now.
    pub suspect: usize,
    /// They are gone.
    pub down: usize,
    /// They said goodbye.
    pub left: usize,
}

/// How this node is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct StatusRow {
    /// The cluster's id.
    pub cluster: String,
    /// This node's id.
    pub node: String,
    /// This node's name.
    pub name: String,
    /// This boot.
    pub generation: u64,
    /// The hash of the replicated state: equal on all nodes once writes have stopped.
    pub state_hash: String,
    /// Registers held, tombstones included.
    pub records: usize,
    /// Members by state.
    pub members: MemberCounts,
    /// Links that stand.
    pub links: usize,
    /// True once this boot has copied from a peer, or there was none.
    pub synced: bool,
    /// True once the drivers told what was running.
    pub adopted: bool,
    /// Replicas that wait for an owner.
    pub waiting: usize,
    /// The newest stamp seen.
    pub clock: u64,
    /// This node's wall clock (milliseconds since 1970).
    pub wall_ms: u64,
    /// True once the disk failed: nothing is accepted any more.
    pub failed: bool,
    /// What is left out here, since a handler panicked over it: `service shop/web`.
    pub left_out: Vec<String>,
    /// What this boot has put out.
    pub counts: Counts,
}

/// A join token; its secret is not kept anywhere.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct TokenRow {
    /// Its public id.
    pub id: String,
    /// What it is for.
    pub label: String,
    /// The name of who issued it.
    pub issuer: String,
    /// When made (milliseconds since 1970).
    pub created_ms: u64,
    /// When it ends.
    pub expires_ms: u64,
    /// How many nodes it has admitted, as far as the answering node knows; removed ones included.
    pub used: usize,
    /// How many it may admit; none means as many as there are.
    pub uses: Option<u32>,
}

/// A stack.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct StackRow {
    /// Its name.
    pub stack: String,
    /// Its services.
    pub services: Vec<String>,
    /// The stamp of its last deploy.
    pub deployed: u64,
    /// False while part of that deploy has not arrived here.
    pub in_force: bool,
    /// Replicas that should run.
    pub replicas_wanted: usize,
    /// Replicas that are ready.
    pub ready: usize,
}
