//! Leases of this node's own replicas: sought before a claim, renewed while there is one, and obeyed.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use dunlin_gossip::canary::{Bug, planted};
use dunlin_gossip::face::NoticeLevel;
use dunlin_gossip::hash::hash64;
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{AllocId, Ballot, Epoch, Prefer, ReplicaKey, VoterList};
use dunlin_gossip::time::{Instant, Wall};

use super::lease::Lease;
use super::terms::{LEASE, PATIENCE, START_LEAST, STOP_AHEAD, TOGETHER};
use super::word::{Key, Why, Word};
use crate::allocation::Own;
use crate::claim;
use crate::engine::Node;
use crate::face::{DriverCommand, EventKind, Output, Outputs};

/// Who looks for a lease without a claim gives it back after so long without asking for it again.
const WANTED: core::time::Duration = core::time::Duration::from_secs(3);

impl Own {
    /// True if it may run only under a lease.
    pub(crate) fn is_leased(&self) -> bool {
        self.spec().is_some_and(|spec| spec.prefer == Prefer::Majority)
    }
}

/// What a replica's lease is on.
fn key(replica: &ReplicaKey) -> Key {
    Key(hash64(format!("{replica}").as_bytes()))
}

impl Node {
    /// Looks for the lease that a claim of this replica needs; true if it is held. The replica is looked at again once it is.
    pub(crate) fn seeks_lease(&mut self, replica: &ReplicaKey, now: Instant) -> bool {
        let lease = self.majority.leases.entry(replica.clone()).or_insert_with(|| Lease::new(key(replica), now));
        lease.wanted = now + WANTED;
        lease.until().is_some_and(|until| until >= now + START_LEAST)
    }

    /// The epoch of a new claim; of what may run only under a lease above all that anybody was granted, and granted to this node.
    pub(crate) fn leased_epoch(&self, replica: &ReplicaKey, prefer: Prefer, epoch: Epoch) -> Option<Epoch> {
        if prefer != Prefer::Majority {
            return Some(epoch);
        }
        let lease = self.majority.leases.get(replica)?;
        let epoch = claim::next_epoch(dunlin_gossip::hlc::Hlc(epoch.0), Some(Epoch(lease.known())));
        (epoch.0 <= lease.bound()).then_some(epoch)
    }

    /// Until when an own allocation may run; none if it must not be started now.
    pub(crate) fn lease_of(&self, id: AllocId, now: Instant) -> Option<Instant> {
        let own = self.owned.map.get(&id)?;
        let runs = |other: &AllocId| *other != id && self.owned.map.get(other).is_some_and(Own::may_run);
        let until = self.majority.leases.get(&own.record.replica)?.until()?;
        let is_alone = !self.owned.of_replica(&own.record.replica).iter().any(runs);
        (until >= now + START_LEAST && is_alone).then_some(until)
    }

    /// When an own allocation's lease ends, for its driver.
    pub(crate) fn lease_end(&self, own: &Own) -> Option<Instant> {
        let lease = self.majority.leases.get(&own.record.replica).filter(|_| own.is_leased())?;
        if planted(Bug::KeeperUntold) { None } else { Some(lease.until().unwrap_or(Instant::ZERO)) }
    }

    /// Nothing of an own allocation is left: if it was the replica's last, its lease is given back.
    pub(crate) fn lease_over(&mut self, replica: &ReplicaKey) {
        if !self.owned.of_replica(replica).is_empty() {
            return;
        }
        if let Some(lease) = self.majority.leases.remove(replica) {
            self.release(lease.key);
        }
    }

    fn release(&mut self, key: Key) {
        let ballot = self.next_ballot();
        for node in self.majority.list.voters.clone() {
            self.majority.say(node, Word::Release { key, ballot });
        }
    }

    fn leased(&mut self, key: Key) -> Option<(ReplicaKey, &mut Lease)> {
        let mut leases = self.majority.leases.iter_mut();
        leases.find(|(_, lease)| lease.key == key).map(|(replica, lease)| (replica.clone(), lease))
    }

    pub(super) fn on_promise(&mut self, from: NodeId, key: Key, ballot: Ballot, bound: u64, now: Instant, wall: Wall) {
        let list = self.majority.list.clone();
        let ahead = self.epochs_ahead(wall);
        let Some((_, lease)) = self.leased(key) else { return };
        let ask = lease.promised(&list, (from, ballot), bound, ahead, now);
        ask.into_iter().for_each(|ask| self.ask_voters(key, ask));
    }

    pub(super) fn on_accept(&mut self, from: NodeId, key: Key, ballot: Ballot, now: Instant, out: &mut Outputs) {
        let list = self.majority.list.clone();
        let Some((replica, lease)) = self.leased(key) else { return };
        let was_held = lease.is_held(now);
        if !lease.accepted(&list, from, ballot, now) {
            return;
        }
        let until = lease.until().unwrap_or(now);
        if !was_held {
            self.log.replica(NoticeLevel::Info, EventKind::Claim, self.me, &replica, "lease granted".to_string());
            self.schedule.again(&replica, Some(now));
        }
        for id in self.owned.of_replica(&replica) {
            let Some(own) = self.owned.map.get(&id).filter(|own| own.is_leased() && own.may_run()) else { continue };
            if !planted(Bug::KeeperUntold) && own.attempt > 0 {
                out.push(Output::Driver(DriverCommand::Extend { alloc: id, until }));
            }
        }
        if !was_held {
            self.owned.of_replica(&replica).into_iter().for_each(|id| self.try_start(id, now, out));
        }
    }

    pub(super) fn on_refuse(&mut self, key: Key, ballot: Ballot, why: Why) {
        if let Why::Ballot(number) = why {
            self.outbid(number);
        }
        let Some((_, lease)) = self.leased(key) else { return };
        lease.refused = Some(why);
        // A node that shall be emptied keeps what it has until another one would take it.
        if let Why::Held(owner) = why
            && owner != self.me
            && ballot.node == self.me
            && self.view.is_drained(owner)
        {
            self.majority.say(owner, Word::Yield { key });
        }
    }

    /// Another node would take a replica. It gets it if this node is to be emptied.
    pub(super) fn on_yield(&mut self, from: NodeId, key: Key, now: Instant, out: &mut Outputs) {
        if !self.view.is_drained(self.me) || self.view.is_drained(from) {
            return;
        }
        let Some((replica, _)) = self.leased(key) else { return };
        for id in self.owned.of_replica(&replica) {
            self.stop(id, &format!("its node is drained, and {from:?} asks for it"), now, out);
        }
    }

    /// Renews what is due, gives back what nobody needs, and stops what cannot be renewed before its keeper kills it.
    pub(super) fn tend_leases(&mut self, now: Instant, wall: Wall, out: &mut Outputs) {
        if self.majority.leases.values().all(|lease| lease.next() > now) {
            return;
        }
        let due = self.majority.leases.iter().filter(|(_, lease)| lease.next() <= now + TOGETHER);
        let due: Vec<ReplicaKey> = due.map(|(replica, _)| replica.clone()).collect();
        let ahead = self.epochs_ahead(wall);
        for replica in due {
            self.obey_lease(&replica, now, out);
            let has_claim = !self.owned.of_replica(&replica).is_empty();
            let Some(lease) = self.majority.leases.get(&replica) else { continue };
            if !has_claim && lease.wanted < now {
                self.lease_over(&replica);
                continue;
            }
            let ballot = self.next_ballot();
            let list = self.majority.list.clone();
            let Some(lease) = self.majority.leases.get_mut(&replica) else { continue };
            if list.voters.is_empty() {
                lease.put_off(now + PATIENCE);
                continue;
            }
            let ask = lease.ask(&list, ballot, ahead, now);
            let key = lease.key;
            self.ask_voters(key, ask);
        }
    }

    /// Stops what its lease does not cover for long enough.
    fn obey_lease(&mut self, replica: &ReplicaKey, now: Instant, out: &mut Outputs) {
        let Some(lease) = self.majority.leases.get(replica) else { return };
        let end = lease.until().map_or(lease.since + LEASE, |until| until - STOP_AHEAD);
        if end > now {
            return;
        }
        for id in self.owned.of_replica(replica) {
            let is_live = self.owned.map.get(&id).is_some_and(|own| own.is_leased() && own.record.phase.is_live());
            if is_live {
                self.stop_at_once(id, "too few voters answer: its lease could not be renewed", now, out);
            }
        }
    }

    /// What runs here from before this boot needs its lease again.
    pub(crate) fn resume_leases(&mut self, now: Instant) {
        let leased = self.owned.map.values().filter(|own| own.is_leased());
        let replicas: Vec<ReplicaKey> = leased.map(|own| own.record.replica.clone()).collect();
        for replica in replicas {
            self.majority.leases.entry(replica.clone()).or_insert_with(|| Lease::new(key(&replica), now));
        }
    }

    /// What its leases are like, for people.
    pub(crate) fn lease_texts(&self, now: Instant) -> Vec<String> {
        let text = |(replica, lease): (&ReplicaKey, &Lease)| {
            let of = self.majority.list.voters.len();
            let granted = lease.granted_by(now).len();
            match lease.until().filter(|until| *until > now) {
                Some(until) => {
                    let left = until.since(now).as_millis();
                    format!("{replica}: held for {left} ms more, by {granted} of {of} voters")
                }
                None => {
                    let needed = VoterList::majority(of);
                    format!(
                        "{replica}: looked for; {granted} of {of} voters grant it, {needed} must{}",
                        why(lease.refused)
                    )
                }
            }
        };
        self.majority.leases.iter().map(text).collect()
    }

    /// Why a replica that waits has no lease, as far as this node was told.
    pub(crate) fn lease_trouble(&self, replica: &ReplicaKey) -> Option<String> {
        let lease = self.majority.leases.get(replica)?;
        let refused = lease.refused?;
        Some(format!("waits for a majority of the voters{}", why(Some(refused))))
    }
}

fn why(refused: Option<Why>) -> String {
    match refused {
        None => String::new(),
        Some(Why::Booted) => "; a voter has just started, and grants nothing for a lease".to_string(),
        Some(Why::Held(node)) => format!("; {node:?} has it"),
        Some(Why::Ballot(_)) => "; another node asks for it too".to_string(),
        Some(Why::List(version)) => format!("; a voter knows version {version} of the voters"),
        Some(Why::Full) => "; a voter keeps as many grants as it can".to_string(),
    }
}
