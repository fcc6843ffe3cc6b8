//! When this node looks at the calendar again, and what that changes for the replicas that it watches.
//!
//! A node begins what is due by its own clock only. A wall clock may be set while this node sleeps, so what is due is held against
//! it at each call; between two runs a service costs nothing else.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use dunlin_gossip::model::{ReplicaKey, ServiceKey};
use dunlin_gossip::time::{Duration, Instant, Wall};

use crate::engine::Node;

/// Of which services to look at the calendar, and when.
#[derive(Clone, Debug, Default)]
pub(crate) struct Crons {
    /// Of which something else than the time has changed.
    changed: BTreeSet<ServiceKey>,
    /// When a run is due, or is not to be begun any more.
    due: BTreeSet<(Wall, ServiceKey)>,
}

impl Crons {
    /// Something about a service changed that may open or close a run.
    pub(crate) fn look(&mut self, service: &ServiceKey) {
        if !self.changed.contains(service) {
            self.changed.insert(service.clone());
        }
    }

    /// True if there is something to look at by this clock.
    pub(crate) fn is_due(&self, wall: Wall) -> bool {
        !self.changed.is_empty() || self.due.first().is_some_and(|(at, _)| *at <= wall)
    }

    /// When to look, by this clock.
    pub(crate) fn next(&self, now: Instant, wall: Wall) -> Option<Instant> {
        if !self.changed.is_empty() {
            return Some(now);
        }
        self.due.first().map(|(at, _)| now + Duration::from_millis(at.0.saturating_sub(wall.0)))
    }

    fn take(&mut self, wall: Wall) -> BTreeSet<ServiceKey> {
        let later = self.due.iter().filter(|(at, _)| *at > wall).cloned().collect();
        let due = core::mem::replace(&mut self.due, later).into_iter().filter(|(at, _)| *at <= wall);
        let mut all = core::mem::take(&mut self.changed);
        all.extend(due.map(|(_, service)| service));
        all
    }
}

impl Node {
    /// Looks at the calendar of all services that have one.
    pub(crate) fn look_at_calendar(&mut self) {
        let all: Vec<ServiceKey> = self.view.scheduled().cloned().collect();
        all.iter().for_each(|service| self.crons.look(service));
    }

    /// Opens and closes the runs of services whose time has come, or of which something changed.
    pub(crate) fn tend_crons(&mut self, wall: Wall) {
        if !self.crons.is_due(wall) {
            return;
        }
        for service in self.crons.take(wall) {
            self.crons.due.retain(|(_, other)| *other != service);
            let Some(judged) = self.view.judge_runs(&service, wall) else { continue };
            let again = judged.again.map(|at| Wall(at.saturating_mul(1_000)));
            self.crons.due.extend(again.map(|at| (at, service.clone())));
            let slots = self.view.slots_of_runs(&service, &judged.touched);
            slots.into_iter().for_each(|slot| self.schedule.mark(ReplicaKey { service: service.clone(), slot }));
            self.mark_own(|replica| replica.service == service);
        }
    }
}
