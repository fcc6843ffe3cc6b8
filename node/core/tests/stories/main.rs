//! What a flock of a few nodes does, told as incident reports.

mod acks;
mod agents;
mod asking;
mod conflicts;
mod crons;
mod deploys;
mod flock;
mod jobs;
mod learning;
mod naming;
mod placing;
mod removal;
mod rollouts;
mod shares;
mod tokens;
mod versions;
mod waves;
mod workloads;

use std::collections::BTreeMap;

use dunlin_core::face::{Ack, Exit, Input, ProblemKind, Reply, Request};
use dunlin_gossip::face::GossipInput;
use dunlin_gossip::model::{
    Constraint, ConstraintOp, HealthCheck, Mode, Probe, Resources, RestartCondition, RosterEntry,
};
use dunlin_gossip::time::Duration;
use flock::{Flock, key, service, stack};

fn written(reply: &Reply) -> &dunlin_core::face::Written {
    match reply {
        Reply::Written(written) => written,
        other => panic!("{other:?}"),
    }
}

fn refused(reply: &Reply) -> (ProblemKind, String) {
    match reply {
        Reply::Problem(problem) => (problem.kind, problem.text.clone()),
        other => panic!("{other:?}"),
    }
}
