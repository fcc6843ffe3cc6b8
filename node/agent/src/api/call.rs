//! What the API asks of the loop: one closed enum, each with the way back.

use std::collections::BTreeMap;
use std::sync::Arc;

use dunlin_core::face::{Problem, ProblemKind, Reply, Request};
use dunlin_core::query::ask::Change;
use dunlin_core::query::trust::{AdmittedRow, Rostered};
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{AllocId, Asker, RevisionId, Service, ServiceKey, ServiceName, StackName, TokenId};
use dunlin_gossip::wire::RecordId;
use dunlin_names::Zone;
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::doctor::Examined;

/// Calls that wait for the loop.
pub(crate) const QUEUE: usize = 256;

/// What can be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Listing {
    Nodes,
    Services,
    Allocations,
    Stacks,
    Status,
    Tokens,
    Conflicts,
    Rollouts,
    Flock,
    Metrics,
}

/// A question about placement: nothing changes by it.
#[derive(Clone, Debug)]
pub(crate) enum Question {
    /// Why is a replica where it is?
    Explain(String),
    /// What would this deploy do?
    Plan(StackName, BTreeMap<ServiceName, Service>),
    /// What would these changes of the flock do?
    WhatIf(Vec<Change>),
}

/// Where a replica's output is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Located {
    pub(crate) node: NodeId,
    pub(crate) alloc: AllocId,
}

/// A change of authority that has begun.
#[derive(Clone, Debug)]
pub(crate) struct Rotated {
    /// Fingerprints: the old one and the new one.
    pub(crate) from: String,
    pub(crate) to: String,
    /// The tokens that there are: they name the old authority.
    pub(crate) tokens: Vec<TokenId>,
}

/// A node that somebody named.
#[derive(Clone, Debug)]
pub(crate) struct MeantNode {
    pub(crate) known: Rostered,
    /// Whom it let in.
    pub(crate) admitted: Vec<AdmittedRow>,
    /// The tokens that it issued.
    pub(crate) tokens: Vec<TokenId>,
}

/// Kept events and those to come.
pub(crate) type Followed = (Vec<Arc<str>>, broadcast::Receiver<Arc<str>>);

/// One call.
#[derive(Debug)]
pub(crate) enum Call {
    /// For the core.
    Request(Asker, Request, oneshot::Sender<Reply>),
    /// A listing, as JSON.
    List(Listing, oneshot::Sender<Vec<u8>>),
    /// A question about placement, answered as JSON.
    Ask(Box<Question>, oneshot::Sender<Result<Vec<u8>, Problem>>),
    /// Names of nodes.
    Names(Vec<NodeId>, oneshot::Sender<Vec<String>>),
    /// The service that is meant.
    Service(String, oneshot::Sender<Result<ServiceKey, Problem>>),
    /// The revision of a service that is meant.
    Revision(ServiceKey, String, oneshot::Sender<Result<RevisionId, Problem>>),
    /// The register in conflict that is meant.
    Conflict(String, oneshot::Sender<Result<RecordId, Problem>>),
    /// The allocation of a replica whose output is wanted.
    Locate(String, oneshot::Sender<Result<Located, Problem>>),
    /// The node that is meant.
    Node(String, oneshot::Sender<Result<MeantNode, Problem>>),
    /// What stands at a DNS name and why, as JSON.
    Resolve(String, oneshot::Sender<Vec<u8>>),
    /// All names.
    Zone(oneshot::Sender<Arc<Zone>>),
    /// Whether a member is not alive.
    Lost(oneshot::Sender<bool>),
    /// What goes wrong here.
    Doctor(oneshot::Sender<Examined>),
    /// A new authority shall be made.
    Rotate(oneshot::Sender<Result<Rotated, Problem>>),
    /// Events.
    Events(oneshot::Sender<Followed>),
}

/// The API's way to the loop.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    calls: mpsc::Sender<Call>,
}

impl Door {
    /// A way to the loop, and the loop's end of it.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Call>) {
        let (calls, queue) = mpsc::channel(QUEUE);
        (Self { calls }, queue)
    }

    async fn ask<T>(&self, call: impl FnOnce(oneshot::Sender<T>) -> Call) -> Result<T, Problem> {
        let stopping =
            || Problem { kind: ProblemKind::Unavailable, text: "the agent is stopping; ask another node".into() };
        let (sender, answer) = oneshot::channel();
        self.calls.send(call(sender)).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())
    }

    /// Whether somebody who belongs is not there; none once the agent stops.
    pub(crate) async fn is_somebody_lost(&self) -> Option<bool> {
        self.ask(Call::Lost).await.ok()
    }

    pub(crate) async fn request(&self, asker: Asker, request: Request) -> Result<Reply, Problem> {
        match self.ask(|back| Call::Request(asker, request, back)).await? {
            Reply::Problem(problem) => Err(problem),
            reply => Ok(reply),
        }
    }

    pub(crate) async fn list(&self, listing: Listing) -> Result<Vec<u8>, Problem> {
        self.ask(|back| Call::List(listing, back)).await
    }

    pub(crate) async fn question(&self, question: Question) -> Result<Vec<u8>, Problem> {
        self.ask(|back| Call::Ask(Box::new(question), back)).await?
    }

    pub(crate) async fn names(&self, nodes: Vec<NodeId>) -> Result<Vec<String>, Problem> {
        self.ask(|back| Call::Names(nodes, back)).await
    }

    pub(crate) async fn service(&self, text: String) -> Result<ServiceKey, Problem> {
        self.ask(|back| Call::Service(text, back)).await?
    }

    pub(crate) async fn revision(&self, service: ServiceKey, text: String) -> Result<RevisionId, Problem> {
        self.ask(|back| Call::Revision(service, text, back)).await?
    }

    pub(crate) async fn conflict(&self, text: String) -> Result<RecordId, Problem> {
        self.ask(|back| Call::Conflict(text, back)).await?
    }

    pub(crate) async fn locate(&self, text: String) -> Result<Located, Problem> {
        self.ask(|back| Call::Locate(text, back)).await?
    }

    pub(crate) async fn node(&self, text: String) -> Result<MeantNode, Problem> {
        self.ask(|back| Call::Node(text, back)).await?
    }

    pub(crate) async fn resolve(&self, name: String) -> Result<Vec<u8>, Problem> {
        self.ask(|back| Call::Resolve(name, back)).await
    }

    pub(crate) async fn zone(&self) -> Result<Arc<Zone>, Problem> {
        self.ask(Call::Zone).await
    }

    pub(crate) async fn examine(&self) -> Result<Examined, Problem> {
        self.ask(Call::Doctor).await
    }

    pub(crate) async fn rotate(&self) -> Result<Rotated, Problem> {
        self.ask(Call::Rotate).await?
    }

    pub(crate) async fn events(&self) -> Result<Followed, Problem> {
        self.ask(Call::Events).await
    }
}
