//! The host's side of a join: the token is checked by the core, the certificate made here, the roster written by the core.
//!
//! A newcomer that is refused costs nothing but an event; one that is admitted is in the roster, on disk, before it hears so.

use std::time::Duration;

use dunlin_core::face::{Problem, ProblemKind, Reply, Request};
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{NodeName, RosterEntry};
use dunlin_gossip::time::Wall;
use dunlin_net::{Authority, JoinAttempt, JoinRefusal};

/// Who certifies newcomers, and for how long.
#[derive(Debug)]
pub(crate) struct Certifier<'a> {
    pub(crate) authority: &'a Authority,
    pub(crate) lifetime: Duration,
    pub(crate) me: NodeId,
}

/// How far a newcomer is.
#[derive(Debug)]
pub(crate) enum Newcomer {
    /// Its token is being checked.
    Checking(JoinAttempt),
    /// Its entry is being written.
    Admitting { attempt: JoinAttempt, certificate: Vec<u8> },
}

impl Newcomer {
    /// At the door.
    pub(crate) fn knock(attempt: JoinAttempt) -> (Self, Request) {
        let check = Request::CheckToken { id: attempt.token, secret_hash: attempt.secret_hash, node: attempt.node };
        (Self::Checking(attempt), check)
    }

    /// Takes the core's reply; gives the next request, or none when it is over.
    pub(crate) fn step(self, reply: Reply, by: &Certifier<'_>, wall: Wall) -> Option<(Self, Request)> {
        match (self, reply) {
            (Self::Checking(attempt), Reply::TokenGood) => certify(attempt, by, wall),
            (Self::Admitting { attempt, certificate }, Reply::Admitted(admission)) => {
                attempt.accept(certificate, admission.records);
                None
            }
            (Self::Checking(attempt), Reply::Problem(problem)) => {
                attempt.refuse(about_token(problem));
                None
            }
            (Self::Admitting { attempt, .. }, Reply::Problem(problem)) => {
                attempt.refuse(JoinRefusal::Other(problem.text));
                None
            }
            (Self::Checking(attempt) | Self::Admitting { attempt, .. }, other) => {
                tracing::error!(?other, "the core answered something else than what was asked");
                attempt.refuse(JoinRefusal::Other("the agent has a fault; try another member".into()));
                None
            }
        }
    }
}

fn certify(attempt: JoinAttempt, by: &Certifier<'_>, wall: Wall) -> Option<(Newcomer, Request)> {
    let Certifier { authority, lifetime, me } = *by;
    let made = NodeName::new(&attempt.name)
        .map_err(|why| format!("the name '{}': {why}; choose another with --name", attempt.name))
        .and_then(|name| Ok((name, authority.certify(&attempt.public_key, lifetime).map_err(|e| e.to_string())?)));
    match made {
        Ok((name, certificate)) => {
            let entry = RosterEntry {
                node: attempt.node,
                name,
                certificate: certificate.clone(),
                seal_key: attempt.seal_key,
                addresses: attempt.addresses.clone(),
                admitted_by: Some(me),
                token: Some(attempt.token),
                at: wall,
            };
            Some((Newcomer::Admitting { attempt, certificate }, Request::Admit(entry)))
        }
        Err(why) => {
            attempt.refuse(JoinRefusal::Other(why));
            None
        }
    }
}

fn about_token(problem: Problem) -> JoinRefusal {
    match problem.kind {
        ProblemKind::Denied if problem.text.contains("expired") => JoinRefusal::Expired,
        ProblemKind::Denied | ProblemKind::NotFound => JoinRefusal::WrongToken,
        ProblemKind::BadRequest | ProblemKind::TooMany | ProblemKind::Unavailable | ProblemKind::TimedOut => {
            JoinRefusal::Other(problem.text)
        }
    }
}
