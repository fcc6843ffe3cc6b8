//! The words of the design as plain data: what a cluster should run, what it runs, and who is in it.
//!
//! No behaviour beyond validation and ordering. These types are what records carry as payload (through
//! [`codec`](crate::wire::codec)), so a change of any of them is a change of format: golden bytes guard them.

mod allocation;
mod name;
mod node;
mod resources;
mod roster;
mod service;

pub use allocation::{AllocId, Allocation, Endpoint, Epoch, Phase, PublishedPort, Reach, Refusal, RefusalReason};
pub use name::{Asker, NameError, NodeName, ReplicaKey, ServiceKey, ServiceName, Slot, StackName};
pub use node::{CertificateInfo, DriverKind, NodeHeader, Platform};
pub use resources::Resources;
pub use roster::{Removal, RemovalKind, RosterEntry, Token, TokenId};
pub use service::{
    Constraint, ConstraintOp, Exec, HealthCheck, Image, Mode, PortSpec, Prefer, Probe, Protocol, RestartCondition,
    RestartPolicy, RevisionId, Service, ServiceSpec, StackManifest, StopPolicy, Workload,
};
