//! What the API asks of the loop: one closed enum, each with the way back.

use std::sync::Arc;

use dunlin_core::face::{Problem, ProblemKind, Reply, Request};
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{AllocId, ServiceKey};
use tokio::sync::{broadcast, mpsc, oneshot};

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
}

/// Where a replica's output is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Located {
    pub(crate) node: NodeId,
    pub(crate) alloc: AllocId,
}

/// Kept events and those to come.
pub(crate) type Followed = (Vec<Arc<str>>, broadcast::Receiver<Arc<str>>);

/// One call.
#[derive(Debug)]
pub(crate) enum Call {
    /// For the core.
    Request(Request, oneshot::Sender<Reply>),
    /// A listing, as JSON.
    List(Listing, oneshot::Sender<Vec<u8>>),
    /// Names of nodes.
    Names(Vec<NodeId>, oneshot::Sender<Vec<String>>),
    /// The service that is meant.
    Service(String, oneshot::Sender<Result<ServiceKey, Problem>>),
    /// The allocation of a replica whose output is wanted.
    Locate(String, oneshot::Sender<Result<Located, Problem>>),
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

    pub(crate) async fn request(&self, request: Request) -> Result<Reply, Problem> {
        match self.ask(|back| Call::Request(request, back)).await? {
            Reply::Problem(problem) => Err(problem),
            reply => Ok(reply),
        }
    }

    pub(crate) async fn list(&self, listing: Listing) -> Result<Vec<u8>, Problem> {
        self.ask(|back| Call::List(listing, back)).await
    }

    pub(crate) async fn names(&self, nodes: Vec<NodeId>) -> Result<Vec<String>, Problem> {
        self.ask(|back| Call::Names(nodes, back)).await
    }

    pub(crate) async fn service(&self, text: String) -> Result<ServiceKey, Problem> {
        self.ask(|back| Call::Service(text, back)).await?
    }

    pub(crate) async fn locate(&self, text: String) -> Result<Located, Problem> {
        self.ask(|back| Call::Locate(text, back)).await?
    }

    pub(crate) async fn events(&self) -> Result<Followed, Problem> {
        self.ask(Call::Events).await
    }
}
