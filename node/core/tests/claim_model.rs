//! A model of claiming: every interleaving of two and three claimants with delayed views.
//!
//! Each claimant has its own true claim and an old view of each other's, which may catch up at any moment and in any number
//! of jumps (a one-writer register: later versions replace earlier ones, versions may be skipped). The rules are the real
//! ones of `dunlin_core::claim`. Explored exhaustively: from every reachable state, every possible next event. A state in
//! which nothing can happen any more must have exactly one live claim: never all stopped for good, never two for good.

#![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

use std::collections::BTreeSet;

use dunlin_core::claim::{ClaimView, next_epoch, should_yield};
use dunlin_gossip::hlc::Hlc;
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{Epoch, Prefer};

/// Claims that one claimant makes at most; enough for every exchange of roles, small enough to explore all.
const CLAIMS: u8 = 3;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
struct Claim {
    epoch: u64,
    live: bool,
    ready_once: bool,
    made: u8,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct World {
    truth: Vec<Claim>,
    /// `seen[i][j]`: what i last heard of j.
    seen: Vec<Vec<Claim>>,
}

fn view(claim: Claim, of: usize) -> ClaimView {
    let byte = u8::try_from(of + 1).unwrap();
    ClaimView { epoch: Epoch(claim.epoch), node: NodeId([byte; 16]), ready_once: claim.ready_once }
}

/// What turns a rule under test into a wrong one, to show that the model would notice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rule {
    Real(Prefer),
    /// Planted: live health decides, here as "ready now", and readiness comes and goes.
    YieldToAnyReady,
    /// Planted: nobody yields.
    Never,
}

fn yields(rule: Rule, mine: ClaimView, other: ClaimView) -> bool {
    match rule {
        Rule::Real(prefer) => should_yield(&mine, &other, prefer),
        Rule::YieldToAnyReady => other.ready_once || (mine.epoch, mine.node) < (other.epoch, other.node),
        Rule::Never => false,
    }
}

impl World {
    fn new(claimants: usize) -> Self {
        Self { truth: vec![Claim::default(); claimants], seen: vec![vec![Claim::default(); claimants]; claimants] }
    }

    fn next(&self, rule: Rule) -> Vec<Self> {
        let n = self.truth.len();
        let mut out = Vec::new();
        for i in 0..n {
            let mine = self.truth[i];
            let others = || (0..n).filter(|j| *j != i);
            let rival = others().any(|j| self.seen[i][j].live);
            if !mine.live && !rival && mine.made < CLAIMS {
                let known = (0..n).map(|j| if j == i { mine.epoch } else { self.seen[i][j].epoch }).max().unwrap();
                let epoch = next_epoch(Hlc(0), Some(Epoch(known))).0;
                out.push(self.with(i, Claim { epoch, live: true, ready_once: false, made: mine.made + 1 }));
            }
            if mine.live && !mine.ready_once {
                out.push(self.with(i, Claim { ready_once: true, ..mine }));
            }
            let beaten =
                others().any(|j| self.seen[i][j].live && yields(rule, view(mine, i), view(self.seen[i][j], j)));
            if mine.live && beaten {
                out.push(self.with(i, Claim { live: false, ..mine }));
            }
            for j in others().filter(|j| self.seen[i][*j] != self.truth[*j]) {
                let mut heard = self.clone();
                heard.seen[i][j] = self.truth[j];
                out.push(heard);
            }
        }
        out
    }

    fn with(&self, i: usize, claim: Claim) -> Self {
        let mut next = self.clone();
        next.truth[i] = claim;
        next
    }
}

/// Explores everything; answers with the number of live claims in each end state, and how many states there were.
fn explore(claimants: usize, rule: Rule) -> (BTreeSet<usize>, usize) {
    let mut known = BTreeSet::from([World::new(claimants)]);
    let mut open: Vec<World> = known.iter().cloned().collect();
    let mut ends = BTreeSet::new();
    while let Some(world) = open.pop() {
        let next = world.next(rule);
        if next.is_empty() {
            ends.insert(world.truth.iter().filter(|c| c.live).count());
        }
        for world in next {
            if known.insert(world.clone()) {
                open.push(world);
            }
        }
    }
    (ends, known.len())
}

#[test]
fn two_claimants_end_with_exactly_one_claim() {
    for prefer in [Prefer::Ready, Prefer::New, Prefer::Old] {
        let (ends, states) = explore(2, Rule::Real(prefer));
        assert_eq!(ends, BTreeSet::from([1]), "{prefer:?} over {states} states");
        assert!(states > 20, "the model must explore something");
    }
}

#[test]
fn three_claimants_end_with_exactly_one_claim() {
    for prefer in [Prefer::Ready, Prefer::New] {
        let (ends, states) = explore(3, Rule::Real(prefer));
        assert_eq!(ends, BTreeSet::from([1]), "{prefer:?} over {states} states");
        assert!(states > 1_000, "the model must explore something");
    }
}

#[test]
fn the_model_notices_rules_that_are_wrong() {
    assert!(explore(2, Rule::YieldToAnyReady).0.contains(&0), "both would stop");
    assert!(explore(2, Rule::Never).0.contains(&2), "both would run for good");
}
