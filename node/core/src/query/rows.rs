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
    /// True if nothing new comes there.
    pub cordoned: bool,
    /// True if what runs there goes elsewhere.
    pub drained: bool,
    /// When what is left there stops all the same (milliseconds since 1970); none while it may take as long as it takes.
    pub drained_until_ms: Option<u64>,
    /// What keeps work off, as `KEY=VALUE:EFFECT`.
    pub taints: Vec<String>,
    /// All labels, those that operators gave included.
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
    /// Its devices, as `4 gpu T4`.
    pub devices: Vec<String>,
    /// `exec`, `docker`.
    pub drivers: Vec<&'static str>,
    /// The agent's version.
    pub version: String,
    /// True for the node that answers.
    pub me: bool,
    /// True if it votes about replicas of which one at most may run.
    pub voter: bool,
}

/// A service.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ServiceRow {
    /// `stack/service`.
    pub service: String,
    /// `service`, `global`, `job`, `global-job` or `cron`.
    pub kind: &'static str,
    /// Its revision.
    pub revision: String,
    /// How many should run; of a global service, on how many nodes it can; of a cron service, the slots of runs that may be
    /// worked on now.
    pub replicas_wanted: usize,
    /// How many are claimed on nodes that are not down.
    pub running: usize,
    /// How many of these are ready.
    pub ready: usize,
    /// Of a job, how many slots have finished; of a cron service, those of the runs that are kept.
    pub succeeded: usize,
    /// Of a job, how many slots have failed for good.
    pub failed: usize,
    /// How many of these are at the revision.
    pub updated: usize,
    /// Its ports, as `name:published->target/protocol`.
    pub ports: Vec<String>,
    /// The command or the image.
    pub workload: String,
    /// `ready`, `starting`, `waiting` (replicas without an owner) or `updating`; of a job `running`, `waiting`, `complete` or
    /// `failed`; of a cron service `scheduled`, `running`, `waiting` or `suspended` (it has no replicas).
    pub state: &'static str,
    /// Why replicas wait: each reason and on how many nodes.
    pub waiting: Vec<String>,
    /// Of a cron service, when a run is due: the expression and the time zone.
    pub schedule: Option<String>,
    /// When its next run is due (milliseconds since 1970).
    pub next_run_ms: Option<u64>,
    /// Its runs: those under way, and the last ones that are over, the newest first.
    pub runs: Vec<RunRow>,
}

/// A run of a cron service.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct RunRow {
    /// When it was due (milliseconds since 1970). Its slots are `SECONDS-1` and so on, by the same in seconds.
    pub due_ms: u64,
    /// `succeeded`, `failed`, `running`, or `waiting` for a node.
    pub state: &'static str,
    /// How many of its slots have finished.
    pub succeeded: usize,
    /// How many have failed for good.
    pub failed: usize,
    /// When the first of its slots was claimed (milliseconds since 1970).
    pub began_ms: Option<u64>,
    /// When the last of its slots ended, if it is over.
    pub ended_ms: Option<u64>,
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
    /// What counts against its node: thousandths of a CPU.
    pub cpu_reserved_milli: u64,
    /// What counts against its node: bytes.
    pub memory_reserved_bytes: u64,
    /// True if some of that was learnt from its use, since its author states nothing.
    pub learnt: bool,
    /// Restarts on this node.
    pub restarts: u32,
    /// Since when it is claimed (milliseconds since 1970).
    pub since_ms: u64,
    /// Of a slot of a job that is finished: when it ended (milliseconds since 1970).
    pub ended_ms: Option<u64>,
    /// And with which exit code, if there was one.
    pub exit_code: Option<i32>,
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
    /// Deploys on which only some nodes act so far, and how they stand there.
    pub waves: Vec<String>,
    /// The names of the voters.
    pub voters: Vec<String>,
    /// How often the list of voters was written: 1 for the first; 0 while there is none.
    pub voters_version: u64,
    /// Leases that this node holds or looks for: the replica, for how long, by how many voters.
    pub leases: Vec<String>,
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
    /// A newer deploy on which only some nodes act so far.
    pub wave: Option<WaveRow>,
}

/// A deploy whose first wave is on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct WaveRow {
    /// The stamp of the deploy.
    pub deployed: u64,
    /// How long all is to be well on the first nodes (milliseconds).
    pub wait_ms: u64,
    /// The first nodes.
    pub nodes: Vec<WaveNodeRow>,
    /// True if it will not go on by itself.
    pub stays: bool,
    /// The same in a sentence.
    pub text: String,
}

/// A node of a first wave.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct WaveNodeRow {
    /// Its name.
    pub node: String,
    /// `acting`, `well`, `restarted`, `left-out`, `refused`, or what membership says if it is not alive.
    pub state: &'static str,
}
