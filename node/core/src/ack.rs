//! Who has it on disk: writes that were accepted and wait for their acknowledgement, and readers that wait for a write.
//!
//! Bounded; every entry has a deadline. Durable here comes first; `Stored` by others may come before it and is kept.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

use dunlin_gossip::canary::{Bug, planted};
use dunlin_gossip::face::PersistSeq;
use dunlin_gossip::hlc::Hlc;
use dunlin_gossip::id::NodeId;
use dunlin_gossip::time::{Duration, Instant};

use crate::face::{Admission, Problem, ProblemKind, Reply, RequestId, Written};

/// Requests that may wait at once.
const MAX_PENDING: usize = 1_024;
/// No request waits longer, whatever it asks for.
const MAX_WAIT: Duration = Duration::from_secs(3_600);

/// What a request waits for.
#[derive(Clone, Debug)]
enum Wait {
    /// A write, durable here and on `wanted - 1` others.
    Write { hlc: Hlc, seq: PersistSeq, durable: bool, stored: BTreeSet<NodeId>, wanted: u32, warnings: Vec<String> },
    /// A fact that lets somebody in, durable here.
    Admit { seq: PersistSeq },
    /// A write, held here.
    Held { hlc: Hlc },
}

#[derive(Clone, Debug)]
struct Pending {
    request: RequestId,
    deadline: Instant,
    wait: Wait,
}

/// The table of pending requests.
#[derive(Clone, Debug)]
pub(crate) struct Acks {
    me: NodeId,
    list: Vec<Pending>,
}

/// What a write wants.
#[derive(Clone, Debug)]
pub(crate) struct WriteWait {
    pub(crate) hlc: Hlc,
    pub(crate) seq: PersistSeq,
    pub(crate) wanted: u32,
    pub(crate) warnings: Vec<String>,
}

impl Acks {
    pub(crate) const fn new(me: NodeId) -> Self {
        Self { me, list: Vec::new() }
    }

    /// True if no more may wait.
    pub(crate) fn is_full(&self) -> bool {
        self.list.len() >= MAX_PENDING
    }

    pub(crate) fn write(&mut self, request: RequestId, deadline: Instant, write: WriteWait) {
        let WriteWait { hlc, seq, wanted, warnings } = write;
        let wanted = if planted(Bug::AcknowledgedAtOnce) { 1 } else { wanted };
        let durable = planted(Bug::AcknowledgedAtOnce);
        let wait = Wait::Write { hlc, seq, durable, stored: BTreeSet::new(), wanted, warnings };
        self.list.push(Pending { request, deadline, wait });
    }

    pub(crate) fn admit(&mut self, request: RequestId, deadline: Instant, seq: PersistSeq) {
        self.list.push(Pending { request, deadline, wait: Wait::Admit { seq } });
    }

    pub(crate) fn held(&mut self, request: RequestId, deadline: Instant, hlc: Hlc) {
        self.list.push(Pending { request, deadline, wait: Wait::Held { hlc } });
    }

    /// Bounds a wait.
    pub(crate) fn deadline(now: Instant, timeout: Duration) -> Instant {
        now + timeout.min(MAX_WAIT)
    }

    /// Everything up to this request is on our disk.
    pub(crate) fn durable(&mut self, upto: PersistSeq) {
        for pending in &mut self.list {
            if let Wait::Write { seq, durable, .. } = &mut pending.wait {
                *durable |= *seq <= upto;
            }
        }
    }

    /// A peer has a batch on its disk.
    pub(crate) fn stored(&mut self, by: NodeId, batch: Hlc) {
        for pending in &mut self.list {
            if let Wait::Write { hlc, stored, .. } = &mut pending.wait
                && *hlc == batch
            {
                stored.insert(by);
            }
        }
    }

    /// Takes out what is answered: fulfilled, or over its time.
    pub(crate) fn answers(
        &mut self,
        now: Instant,
        durable: Option<PersistSeq>,
        holds: impl Fn(Hlc) -> bool,
        roster: impl Fn() -> Vec<Vec<u8>>,
    ) -> Vec<(RequestId, Reply)> {
        let me = self.me;
        let mut out = Vec::new();
        self.list.retain(|pending| {
            let late = pending.deadline <= now;
            let reply = match &pending.wait {
                Wait::Write { hlc, durable, stored, wanted, warnings, .. } => {
                    let enough = stored.len() + 1 + usize::from(planted(Bug::SelfCountedTwice))
                        >= usize::try_from(*wanted).unwrap_or(usize::MAX);
                    let written = || Written {
                        hlc: hlc.0,
                        durable_on: core::iter::once(me).chain(stored.iter().copied()).collect(),
                        wanted: *wanted,
                        warnings: warnings.clone(),
                    };
                    match (*durable, enough || late) {
                        (true, true) => Some(Reply::Written(written())),
                        (false, _) if late => {
                            Some(timed_out("the disk did not confirm the write in time; it may still"))
                        }
                        (true | false, _) => None,
                    }
                }
                Wait::Admit { seq } if durable.is_some_and(|d| *seq <= d) => {
                    Some(Reply::Admitted(Admission { records: roster() }))
                }
                Wait::Admit { .. } => late.then(|| timed_out("the disk did not confirm the admission in time")),
                Wait::Held { hlc } if holds(*hlc) => Some(Reply::Held),
                Wait::Held { .. } => late.then(|| timed_out("the write has not reached this node in time")),
            };
            let stays = reply.is_none();
            out.extend(reply.map(|reply| (pending.request, reply)));
            stays
        });
        out
    }

    /// Takes out everything, as it cannot be answered any more.
    pub(crate) fn give_up(&mut self, text: &str) -> Vec<(RequestId, Reply)> {
        let problem = || Problem { kind: ProblemKind::Unavailable, text: String::from(text) };
        self.list.drain(..).map(|pending| (pending.request, Reply::Problem(problem()))).collect()
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.list.iter().map(|p| p.deadline).min()
    }

    /// How many others the most demanding write waits for, and the stamp of the oldest that waits for any.
    pub(crate) fn others_wanted(&self) -> (usize, Option<Hlc>) {
        let others = |pending: &Pending| match &pending.wait {
            Wait::Write { hlc, wanted, .. } if *wanted > 1 => Some((*wanted, *hlc)),
            Wait::Write { .. } | Wait::Admit { .. } | Wait::Held { .. } => None,
        };
        let most = self.list.iter().filter_map(others).map(|(wanted, _)| wanted - 1).max().unwrap_or(0);
        let oldest = self.list.iter().filter_map(others).map(|(_, hlc)| hlc).min();
        (usize::try_from(most).unwrap_or(usize::MAX), oldest)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

fn timed_out(text: &str) -> Reply {
    Reply::Problem(Problem { kind: ProblemKind::TimedOut, text: String::from(text) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: NodeId = NodeId([1; 16]);
    const OTHER: NodeId = NodeId([2; 16]);

    fn acks(wanted: u32) -> Acks {
        let mut acks = Acks::new(ME);
        let write = WriteWait { hlc: Hlc(7), seq: PersistSeq(3), wanted, warnings: Vec::new() };
        acks.write(RequestId(1), Instant::from_millis(100), write);
        acks
    }

    fn answers(acks: &mut Acks, at: u64) -> Vec<(RequestId, Reply)> {
        acks.answers(Instant::from_millis(at), None, |_| false, Vec::new)
    }

    fn durable_on(nodes: &[NodeId], wanted: u32) -> Vec<(RequestId, Reply)> {
        let written = Written { hlc: 7, durable_on: nodes.to_vec(), wanted, warnings: Vec::new() };
        Vec::from([(RequestId(1), Reply::Written(written))])
    }

    #[test]
    fn a_write_is_acknowledged_once_it_is_kept_where_it_should_be() {
        let mut acks = acks(2);
        acks.stored(OTHER, Hlc(7));
        assert!(answers(&mut acks, 0).is_empty(), "not on our own disk yet");
        acks.durable(PersistSeq(3));
        assert_eq!(answers(&mut acks, 0), durable_on(&[ME, OTHER], 2));
        assert!(acks.is_empty());
    }

    #[test]
    fn late_it_says_where_it_is_kept() {
        let mut acks = acks(2);
        acks.durable(PersistSeq(4));
        assert!(answers(&mut acks, 99).is_empty());
        assert_eq!(answers(&mut acks, 100), durable_on(&[ME], 2));
    }

    #[test]
    fn what_no_disk_confirmed_is_not_acknowledged() {
        let mut acks = acks(1);
        acks.durable(PersistSeq(2));
        let replies = answers(&mut acks, 100);
        assert!(matches!(replies.as_slice(), [(_, Reply::Problem(p))] if p.kind == ProblemKind::TimedOut));
    }
}
