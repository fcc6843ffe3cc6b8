//! The words of the design as plain data: what a cluster should run, what it runs, and who is in it.
//!
//! No behaviour beyond validation and ordering. These types are what records carry as payload (through
//! [`codec`](crate::wire::codec)), so a change of any of them is a change of format: golden bytes guard them.

mod allocation;
mod device;
mod name;
mod node;
mod placing;
mod resources;
mod roster;
mod service;
mod tail;

pub use allocation::{AllocId, Allocation, Endpoint, Epoch, Phase, PublishedPort, Reach, Refusal, RefusalReason};
pub use device::{DeviceGroup, DeviceHold, DeviceRequest, Further, Held, MAX_DEVICES, Supply, WHOLE};
pub use name::{Asker, NameError, NodeName, ReplicaKey, ServiceKey, ServiceName, Slot, StackName};
pub use node::{CertificateInfo, DriverKind, NodeHeader, Platform};
pub use placing::{Affinity, Placing, Skew, Strategy};
pub use resources::Resources;
pub use roster::{Removal, RemovalKind, RosterEntry, Token, TokenId};
pub use service::{
    Constraint, ConstraintOp, Exec, HealthCheck, Image, Mode, PortSpec, Prefer, Probe, Protocol, RestartCondition,
    RestartPolicy, RevisionId, Service, ServiceSpec, StackManifest, StopPolicy, Workload,
};
pub use tail::Tail;
