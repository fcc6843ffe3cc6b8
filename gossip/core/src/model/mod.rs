//! The words of the design as plain data: what a cluster should run, what it runs, and who is in it.
//!
//! No behaviour beyond validation and ordering. These types are what records carry as payload (through
//! [`codec`](crate::wire::codec)), so a change of any of them is a change of format: golden bytes guard them.

mod allocation;
mod cron;
mod demand;
mod device;
mod job;
mod name;
mod node;
mod orders;
mod placing;
mod resources;
mod rollout;
mod roster;
mod service;
mod tail;
mod voters;
mod wave;

pub use allocation::{AllocId, Allocation, Endpoint, Epoch, Phase, PublishedPort, Reach, Refusal, RefusalReason};
pub use cron::{Calendar, Cron, Missed, Overlap, ZoneName};
pub use demand::{Demand, PortRange, Preemptible, Standing};
pub use device::{DeviceGroup, DeviceHold, DeviceRequest, Further, Held, MAX_DEVICES, Relieved, Supply, WHOLE};
pub use job::{Finish, Job};
pub use name::{Asker, NameError, NodeName, ReplicaKey, ServiceKey, ServiceName, Slot, StackName};
pub use node::{CertificateInfo, DriverKind, NodeHeader, Platform};
pub use orders::{Drain, NodeOrders, Taint, TaintEffect, Toleration};
pub use placing::{Affinity, Placing, Skew, Strategy, Tolerance};
pub use resources::Resources;
pub use rollout::{
    Attached, Canary, Failure, FailureAction, MAX_KEPT, Promotion, Rollout, RolloutPolicy, UpdateOrder, UpdatePolicy,
};
pub use roster::{Removal, RemovalKind, RosterEntry, Token, TokenId};
pub use service::{
    Constraint, ConstraintOp, Exec, HealthCheck, Image, Mode, PortSpec, Prefer, Probe, Protocol, RestartCondition,
    RestartPolicy, RevisionId, Service, ServiceSpec, StackManifest, StopPolicy, Workload,
};
pub use tail::Tail;
pub use voters::{Accepted, Ballot, MAX_VOTERS, VoterList};
pub use wave::{Outcome, Share, Verdict, Wave, Waves};
