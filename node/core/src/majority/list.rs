//! The list of voters: which change it needs, and how the voters agree on one.
//!
//! Each version is one decree of Paxos among the voters of the version before. Who wants a change asks them for promises (which
//! are the lease on the list: a voter promises to one node at a time), takes over what any of them has accepted already, and
//! proposes; the change is chosen once a majority of the old list and one of the new list have it on disk, and only then written
//! into the replicated state, where everybody learns it. Promises are in memory alone: who has forgotten one does not accept under it either, so
//! that whoever accepts has promised to that ballot and to no higher one since.
//!
//! **Never two lists apart.** A version adds or removes one node, so majorities of two that follow each other share a voter, who
//! grants a replica once. A version after them may share nobody with the first: so before it is proposed, a majority of the first
//! must know the second (and refuse the first from then on), and every grant made before must be over.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{Accepted, Ballot, MAX_VOTERS, VoterList};
use dunlin_gossip::time::Instant;

use super::terms::{LEASE, LIST_PAUSE};
use super::word::Why;

/// How a node is doing, as far as voting is concerned.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Fitness {
    /// It may vote.
    Fit,
    /// It is not heard, for now.
    Silent,
    /// It has been down for long, or shall be emptied: another one should vote, if there is one.
    Unfit,
    /// It left, was removed or forgotten.
    Gone,
}

/// The node to add to a list, or to take out of it; none if it is as it should be.
///
/// Gone voters go. Unfit ones are replaced by nodes that are fit; a lone voter only after the next has come. The list grows up to
/// [`MAX_VOTERS`], but not to an even number and no further: of four voters three must be there, as of five.
pub(crate) fn next_change(list: &VoterList, nodes: &BTreeMap<NodeId, Fitness>) -> Option<NodeId> {
    let fitness = |node: &NodeId| nodes.get(node).copied().unwrap_or(Fitness::Gone);
    let of = |wanted: Fitness| list.voters.iter().copied().find(move |node| fitness(node) == wanted);
    let size = list.voters.len();
    let is_spare = |(node, fitness): &(&NodeId, &Fitness)| **fitness == Fitness::Fit && !list.voters.contains(node);
    let mut spares = nodes.iter().filter(is_spare).map(|(node, _)| *node);
    let (spare, second) = (spares.next(), spares.next());
    if let Some(gone) = of(Fitness::Gone).filter(|_| size > 1) {
        return Some(gone);
    }
    if of(Fitness::Gone).or_else(|| of(Fitness::Unfit)).is_some() && spare.is_some() {
        return if size > 1 { of(Fitness::Unfit) } else { spare };
    }
    let grows = size < MAX_VOTERS && if size.is_multiple_of(2) { spare.is_some() } else { second.is_some() };
    if grows {
        return spare;
    }
    let least = of(Fitness::Unfit).or_else(|| of(Fitness::Silent)).or_else(|| list.voters.last().copied());
    least.filter(|_| size.is_multiple_of(2))
}

/// What a node has promised and accepted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Acceptor {
    promised: Option<(Ballot, Instant)>,
    accepted: Option<Accepted>,
}

impl Acceptor {
    pub(crate) fn new(accepted: Option<Accepted>) -> Self {
        Self { promised: None, accepted }
    }

    pub(crate) const fn accepted(&self) -> Option<&Accepted> {
        self.accepted.as_ref()
    }

    /// A list of this version is known as chosen: what was accepted of it or of an earlier one is history. True if that was so.
    pub(crate) fn learn(&mut self, version: u64) -> bool {
        let is_over = self.accepted.as_ref().is_some_and(|accepted| accepted.list.version <= version);
        if is_over {
            self.accepted = None;
        }
        is_over
    }

    /// Somebody would change the list.
    pub(crate) fn prepare(&mut self, ballot: Ballot, now: Instant) -> Result<Option<&Accepted>, Why> {
        if let Some((other, until)) = self.promised
            && until > now
        {
            if other.node != ballot.node {
                return Err(Why::Held(other.node));
            }
            if ballot < other {
                return Err(Why::Ballot(other.number));
            }
        }
        if let Some(accepted) = self.accepted.as_ref().filter(|accepted| accepted.ballot > ballot) {
            return Err(Why::Ballot(accepted.ballot.number));
        }
        self.promised = Some((ballot, now + LEASE));
        Ok(self.accepted.as_ref())
    }

    /// Somebody proposes a list. True if it is to be put on disk; the answer follows then.
    pub(crate) fn propose(&mut self, ballot: Ballot, list: &VoterList, now: Instant) -> bool {
        let is_promised = self.promised.is_some_and(|(promised, until)| promised == ballot && until > now);
        if is_promised {
            self.accepted = Some(Accepted { ballot, list: list.clone() });
        }
        is_promised
    }
}

/// What the author of a change does next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Ask for promises under this ballot.
    Prepare(Ballot),
    /// Propose this.
    Propose(Ballot, VoterList),
    /// It is chosen: write it down for everybody.
    Chosen(VoterList),
}

#[derive(Clone, Debug)]
enum Stage {
    Idle,
    Preparing { ballot: Ballot, promises: BTreeMap<NodeId, (u64, Option<Accepted>)> },
    Proposing { ballot: Ballot, list: VoterList, accepts: BTreeSet<NodeId> },
}

/// A change that this node wants.
#[derive(Clone, Debug)]
pub(crate) struct Proposer {
    stage: Stage,
    /// The list that is to follow another, and since when majorities of that one and of the one before know it.
    settled: Option<(u64, Instant)>,
}

impl Proposer {
    pub(crate) const fn new() -> Self {
        Self { stage: Stage::Idle, settled: None }
    }

    /// Begins anew, under a new ballot.
    pub(crate) fn prepare(&mut self, ballot: Ballot) -> Step {
        self.stage = Stage::Preparing { ballot, promises: BTreeMap::new() };
        Step::Prepare(ballot)
    }

    /// It is not wanted any more.
    pub(crate) fn stop(&mut self) {
        self.stage = Stage::Idle;
    }

    /// Somebody promises, knows the list of a version, and has accepted another. What follows, if that was enough; `next` is what
    /// this node would propose.
    pub(crate) fn promised(
        &mut self,
        list: &VoterList,
        (from, ballot): (NodeId, Ballot),
        known: u64,
        accepted: Option<Accepted>,
        next: impl FnOnce() -> Option<VoterList>,
        now: Instant,
    ) -> Option<Step> {
        let Stage::Preparing { ballot: mine, promises } = &mut self.stage else { return None };
        if *mine != ballot {
            return None;
        }
        promises.insert(from, (known, accepted));
        let count = |voters: &[NodeId], counts: &dyn Fn(u64) -> bool| {
            let known = voters.iter().filter_map(|node| promises.get(node)).filter(|(known, _)| counts(*known)).count();
            known >= VoterList::majority(voters.len())
        };
        // Who knows a later list has promised nothing about this one.
        let is_promised = count(&list.voters, &|known| known == list.version);
        if !is_promised || !(list.previous.is_empty() || count(&list.previous, &|known| known >= list.version)) {
            return None;
        }
        let before = self.settled.filter(|(version, _)| *version == list.version);
        let (_, since) = *self.settled.insert(before.unwrap_or((list.version, now)));
        if list.version > 1 && now < since + LIST_PAUSE {
            return None;
        }
        let follows = |accepted: &&Accepted| accepted.list.version == list.version + 1;
        let all = promises.values().filter_map(|(_, accepted)| accepted.as_ref()).filter(follows);
        let begun = all.max_by_key(|accepted| accepted.ballot).map(|accepted| accepted.list.clone());
        let list = begun.or_else(next)?;
        self.stage = Stage::Proposing { ballot, list: list.clone(), accepts: BTreeSet::new() };
        Some(Step::Propose(ballot, list))
    }

    /// Somebody has it on disk. What follows, if that was enough.
    pub(crate) fn accepted(&mut self, from: NodeId, ballot: Ballot, version: u64) -> Option<Step> {
        let Stage::Proposing { ballot: mine, list, accepts } = &mut self.stage else { return None };
        if *mine != ballot || version != list.version {
            return None;
        }
        accepts.insert(from);
        let has = |voters: &[NodeId]| {
            let count = voters.iter().filter(|node| accepts.contains(node)).count();
            count >= VoterList::majority(voters.len())
        };
        (has(&list.previous) && has(&list.voters)).then(|| Step::Chosen(list.clone()))
    }
}

/// Everybody who has a say in what follows a list.
pub(crate) fn concerned(list: &VoterList, more: impl IntoIterator<Item = NodeId>) -> Vec<NodeId> {
    let all: BTreeSet<NodeId> = list.voters.iter().chain(&list.previous).copied().chain(more).collect();
    all.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin_gossip::id::Generation;
    use dunlin_gossip::rng::{Rng, Seed};
    use dunlin_gossip::time::Duration;

    fn node(n: u8) -> NodeId {
        NodeId([n; 16])
    }

    fn list(voters: &[u8]) -> VoterList {
        let voters: Vec<NodeId> = voters.iter().map(|n| node(*n)).collect();
        VoterList { version: 4, previous: voters.clone(), voters }
    }

    fn change(voters: &[u8], fit: &[u8], others: &[(u8, Fitness)]) -> Option<u8> {
        let mut nodes: BTreeMap<NodeId, Fitness> = fit.iter().map(|n| (node(*n), Fitness::Fit)).collect();
        nodes.extend(others.iter().map(|(n, fitness)| (node(*n), *fitness)));
        next_change(&list(voters), &nodes).map(|NodeId([n, ..])| n)
    }

    #[test]
    fn the_list_grows_to_seven_and_only_to_odd_numbers() {
        assert_eq!(change(&[1], &[1], &[]), None);
        assert_eq!(change(&[1], &[1, 2], &[]), None, "two voters bear no more than one");
        assert_eq!(change(&[1], &[1, 2, 3], &[]), Some(2));
        assert_eq!(change(&[1, 2], &[1, 2, 3], &[]), Some(3));
        assert_eq!(change(&[1, 2], &[1, 2], &[]), Some(2), "and back, if there is nobody else after all");
        assert_eq!(change(&[1, 2, 3], &[1, 2, 3, 4], &[]), None);
        assert_eq!(change(&[1, 2, 3, 4, 5, 6, 7], &[1, 2, 3, 4, 5, 6, 7, 8, 9], &[]), None);
        assert_eq!(change(&[1, 2, 3, 4], &[1, 3, 4], &[(2, Fitness::Silent)]), Some(2));
    }

    #[test]
    fn who_is_gone_goes_and_who_is_unfit_is_replaced() {
        assert_eq!(change(&[1, 2, 3], &[1, 3], &[]), Some(2), "not rostered any more");
        assert_eq!(change(&[1, 2, 3], &[1, 3], &[(2, Fitness::Gone)]), Some(2));
        assert_eq!(change(&[1, 2, 3], &[1, 3], &[(2, Fitness::Unfit)]), None, "nobody could take its place");
        assert_eq!(change(&[1, 2, 3], &[1, 3], &[(2, Fitness::Silent)]), None);
        assert_eq!(change(&[1, 2, 3], &[1, 3, 4], &[(2, Fitness::Unfit)]), Some(2));
        assert_eq!(change(&[1], &[2], &[(1, Fitness::Unfit)]), Some(2), "a lone voter waits for the next");
        assert_eq!(change(&[1, 2], &[2], &[(1, Fitness::Unfit)]), Some(1));
        assert_eq!(change(&[1], &[], &[]), None);
    }

    /// A network of words that are lost, doubled and overtaken, of nodes that boot and forget their promises, and of authors
    /// who each want another list: whatever happens, no two lists of one version are chosen.
    struct World {
        rng: Rng,
        now: Instant,
        base: VoterList,
        acceptors: Vec<Acceptor>,
        proposers: Vec<(u8, Proposer, VoterList)>,
        inbox: Vec<Letter>,
        ballots: u64,
        chosen: Vec<VoterList>,
    }

    #[derive(Clone)]
    enum Letter {
        Prepare(u8, Ballot),
        Promise(u8, Ballot, Option<Accepted>),
        Propose(u8, Ballot, VoterList),
        Accept(u8, Ballot),
    }

    impl World {
        fn new(seed: u64) -> Self {
            let base = VoterList { version: 1, previous: Vec::new(), ..list(&[0, 1, 2, 3, 4]) };
            let proposers = [5, 0, 3].map(|n| base.toggled(node(n)));
            let proposers = proposers.into_iter().zip(0..).map(|(next, n)| (n, Proposer::new(), next)).collect();
            Self {
                rng: Seed(seed).split("voters").rng(),
                now: Instant::from_millis(100_000),
                base,
                acceptors: alloc::vec![Acceptor::default(); 6],
                proposers,
                inbox: Vec::new(),
                ballots: 0,
                chosen: Vec::new(),
            }
        }

        fn step(&mut self, which: usize, step: Step) {
            match step {
                Step::Prepare(ballot) => self.inbox.extend((0..6).map(|n| Letter::Prepare(n, ballot))),
                Step::Propose(ballot, list) => {
                    self.inbox.extend((0..6).map(|n| Letter::Propose(n, ballot, list.clone())));
                }
                Step::Chosen(list) => {
                    self.chosen.push(list);
                    self.proposers[which].1.stop();
                }
            }
        }

        fn deliver(&mut self, letter: Letter) {
            let of = |ballot: &Ballot| usize::from(ballot.node.0[0]);
            match letter {
                Letter::Prepare(n, ballot) => {
                    if let Ok(accepted) = self.acceptors[usize::from(n)].prepare(ballot, self.now) {
                        let promise = Letter::Promise(n, ballot, accepted.cloned());
                        self.inbox.push(promise);
                    }
                }
                Letter::Propose(n, ballot, list) => {
                    if self.acceptors[usize::from(n)].propose(ballot, &list, self.now) {
                        self.inbox.push(Letter::Accept(n, ballot));
                    }
                }
                Letter::Promise(n, ballot, accepted) => {
                    let (base, now, which) = (self.base.clone(), self.now, of(&ballot));
                    let (_, proposer, next) = &mut self.proposers[which];
                    let next = next.clone();
                    let step = proposer.promised(&base, (node(n), ballot), 1, accepted, || Some(next), now);
                    step.into_iter().for_each(|step| self.step(which, step));
                }
                Letter::Accept(n, ballot) => {
                    let which = of(&ballot);
                    let step = self.proposers[which].1.accepted(node(n), ballot, 2);
                    step.into_iter().for_each(|step| self.step(which, step));
                }
            }
        }

        fn run(&mut self) {
            for _ in 0..400 {
                self.now += Duration::from_millis(self.rng.below(400));
                match self.rng.below(12) {
                    0 => {
                        let which = usize::try_from(self.rng.below(3)).unwrap_or(0);
                        self.ballots += 1;
                        let ballot = Ballot {
                            number: self.ballots,
                            node: node(self.proposers[which].0),
                            generation: Generation(1),
                        };
                        let step = self.proposers[which].1.prepare(ballot);
                        self.step(which, step);
                    }
                    1 => {
                        let n = usize::try_from(self.rng.below(6)).unwrap_or(0);
                        self.acceptors[n] = Acceptor::new(self.acceptors[n].accepted().cloned());
                    }
                    _ if self.inbox.is_empty() => {}
                    kind => {
                        let at = usize::try_from(self.rng.below(self.inbox.len() as u64)).unwrap_or(0);
                        let letter = if kind == 2 { self.inbox[at].clone() } else { self.inbox.swap_remove(at) };
                        if kind != 3 {
                            self.deliver(letter);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn of_changes_at_once_one_wins() {
        let mut wins = [0; 3];
        for seed in 0..3_000 {
            let mut world = World::new(seed);
            world.run();
            for chosen in &world.chosen {
                assert_eq!(*chosen, world.chosen[0], "seed {seed}");
            }
            if let Some(first) = world.chosen.first() {
                let which = world.proposers.iter().position(|(.., next)| next == first);
                wins[which.expect("somebody wanted it")] += 1;
            }
        }
        assert!(wins.iter().all(|count| *count > 50), "{wins:?}");
    }

    #[test]
    fn a_list_waits_until_grants_under_the_one_before_the_last_are_over() {
        let base = list(&[1, 2, 3]);
        let mut proposer = Proposer::new();
        let next = || Some(list(&[1, 2, 3]).toggled(node(9)));
        let mut ask = |number, ms, known: [u64; 3]| {
            let ballot = Ballot { number, node: node(1), generation: Generation(1) };
            let _prepare = proposer.prepare(ballot);
            let promise = |(n, known): (u8, u64)| {
                proposer.promised(&base, (node(n), ballot), known, None, next, Instant::from_millis(ms))
            };
            (1..).zip(known).filter_map(promise).next()
        };
        assert_eq!(ask(1, 1_000, [4, 3, 3]), None, "most do not know it yet");
        assert_eq!(ask(2, 2_000, [4, 4, 3]), None, "from now on it counts");
        assert_eq!(ask(3, 12_000, [4, 4, 3]), None);
        assert!(matches!(ask(4, 13_000, [4, 4, 4]), Some(Step::Propose(..))));
        assert_eq!(ask(5, 14_000, [4, 5, 5]), None, "who knows a later list promises nothing about this one");
    }
}
