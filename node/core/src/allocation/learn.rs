//! What a replica reserves whose author states nothing, learnt from what it uses.
//!
//! Its node alone sees the use and alone changes the reservation of its claim, which everybody sees. What *fits* stays the
//! default's business: a learnt reservation is kept as far as there is room, so that it never makes a replica wait, moves
//! nothing, restarts nothing, and never promises what the node does not give.

use alloc::collections::VecDeque;

use dunlin_gossip::model::{AllocId, Phase, Resources, ServiceKey, ServiceSpec};
use dunlin_gossip::time::{Duration, Instant};

use crate::engine::Node;
use crate::view::{View, offered};

/// Use is judged in spans of this length: a peak of a moment is none.
const SPAN: Duration = Duration::from_secs(300);
/// So many spans are remembered; less is reserved only after as many that show it.
const SPANS: usize = 6;
/// Learnt amounts are multiples of these, so that they change seldom.
const STEP: Resources = Resources { cpu_milli: 50, memory_bytes: 32 << 20 };

/// Which amounts of a specification are the default's, and can be learnt.
fn learnable(spec: &ServiceSpec) -> (bool, bool) {
    let default = Resources::DEFAULT_REQUEST;
    let (stated, demand) = (&spec.reservation, spec.demand());
    (
        stated.cpu_milli == default.cpu_milli && !demand.firm_cpu,
        stated.memory_bytes == default.memory_bytes && !demand.firm_memory,
    )
}

/// True if some amount of a specification can be learnt.
#[must_use]
pub(crate) fn learns(spec: &ServiceSpec) -> bool {
    learnable(spec) != (false, false)
}

/// What was seen of one allocation's use.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Learning {
    begun: Option<Instant>,
    peak: Resources,
    /// The peaks of the last whole spans.
    spans: VecDeque<Resources>,
}

fn larger(a: Resources, b: Resources) -> Resources {
    Resources { cpu_milli: a.cpu_milli.max(b.cpu_milli), memory_bytes: a.memory_bytes.max(b.memory_bytes) }
}

impl Learning {
    /// Takes a look at its use; true at the end of a span.
    fn saw(&mut self, used: Resources, now: Instant) -> bool {
        let begun = *self.begun.get_or_insert(now);
        self.peak = larger(self.peak, used);
        if now < begun + SPAN {
            return false;
        }
        self.spans.push_back(core::mem::take(&mut self.peak));
        if self.spans.len() > SPANS {
            self.spans.pop_front();
        }
        self.begun = Some(now);
        true
    }

    /// What should be reserved, given what is: a quarter more than the peak, less than now only where every span of a long
    /// time would do with three quarters of it.
    fn wish(&self, now: Resources) -> Resources {
        let peak = self.spans.iter().copied().fold(Resources::default(), larger);
        let is_long = self.spans.len() >= SPANS;
        let amount = |peak: u64, now: u64, step: u64| {
            let wanted = peak.saturating_add(peak / 4).div_ceil(step).max(1).saturating_mul(step);
            let is_less = is_long && wanted.saturating_mul(4) <= now.saturating_mul(3);
            if wanted > now || is_less { wanted } else { now }
        };
        Resources {
            cpu_milli: amount(peak.cpu_milli, now.cpu_milli, STEP.cpu_milli),
            memory_bytes: amount(peak.memory_bytes, now.memory_bytes, STEP.memory_bytes),
        }
    }
}

/// Of what is wished for, what can be learnt and has room beside what is reserved now.
fn granted(spec: &ServiceSpec, now: Resources, wish: Resources, left: Resources) -> Resources {
    let (cpu, memory) = learnable(spec);
    let amount = |may: bool, now: u64, wish: u64, left: u64| match (may, wish.checked_sub(now)) {
        (false, _) => now,
        (true, None) => wish,
        (true, Some(more)) => now + more.min(left),
    };
    Resources {
        cpu_milli: amount(cpu, now.cpu_milli, wish.cpu_milli, left.cpu_milli),
        memory_bytes: amount(memory, now.memory_bytes, wish.memory_bytes, left.memory_bytes),
    }
}

/// What a new claim reserves: the default, or the most that other claims of its service have come to, as far as there is
/// room for that beside the default.
pub(crate) fn first(view: &View, service: &ServiceKey, spec: &ServiceSpec, left: Resources) -> Resources {
    if !learns(spec) {
        return spec.reservation;
    }
    let claims = view.of_service(service).filter(|(.., alloc)| alloc.holds_room());
    let known = claims.map(|(.., alloc)| alloc.reservation).reduce(larger).unwrap_or(spec.reservation);
    granted(spec, spec.reservation, known, left.minus(&spec.reservation))
}

impl Node {
    /// A driver saw what an allocation uses.
    pub(crate) fn on_used(&mut self, id: AllocId, used: Resources, now: Instant) {
        let left = self.view.nodes().get(&self.me).map(|known| known.room().base).unwrap_or_default();
        let Some(own) = self.owned.map.get_mut(&id) else { return };
        let Some(service) = own.service.as_ref().filter(|service| learns(&service.spec)) else { return };
        if !matches!(own.record.phase, Phase::Running | Phase::Healthy | Phase::Unhealthy)
            || !own.learning.saw(used, now)
        {
            return;
        }
        let before = own.record.reservation;
        let after = granted(&service.spec, before, own.learning.wish(before), left);
        if after != before {
            own.record.reservation = after;
            self.touched(id, now, false);
        }
    }

    /// Gives learnt reservations back to what was stated, where the node has less to give than is reserved: nothing shall
    /// have to stop for them.
    pub(crate) fn give_back(&mut self, now: Instant) {
        let reserved = self.view.nodes().get(&self.me).map(|known| known.reserved).unwrap_or_default();
        if offered(&self.config.header).holds(&reserved) {
            return;
        }
        let mut given = alloc::vec::Vec::new();
        for (id, own) in &mut self.owned.map {
            let Some(service) = own.service.as_ref() else { continue };
            let (stated, reserved) = (service.spec.reservation, own.record.reservation);
            let least = granted(&service.spec, reserved, stated, Resources::default());
            if least != reserved {
                own.record.reservation = least;
                given.push(*id);
            }
        }
        given.into_iter().for_each(|id| self.touched(id, now, true));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn amounts(cpu_milli: u64, mib: u64) -> Resources {
        Resources { cpu_milli, memory_bytes: mib * MIB }
    }

    /// What would be reserved after so many spans of such use.
    fn after(spans: usize, used: Resources, mut reserved: Resources) -> Resources {
        let mut learning = Learning::default();
        let mut now = Instant::ZERO;
        for _ in 0..spans {
            assert!(!learning.saw(used, now + Duration::from_secs(1)));
            now = now + SPAN + Duration::from_secs(2);
            assert!(learning.saw(used, now));
            reserved = learning.wish(reserved);
        }
        reserved
    }

    #[test]
    fn more_is_wished_for_soon_and_less_only_after_long() {
        let default = Resources::DEFAULT_REQUEST;
        assert_eq!(after(1, amounts(400, 300), default), amounts(500, 384));
        assert_eq!(after(5, amounts(1, 1), default), default);
        assert_eq!(after(6, amounts(1, 1), default), amounts(50, 32));
        assert_eq!(after(6, amounts(70, 45), default), default, "what is nearly used stays");
        assert_eq!(after(9, amounts(0, 0), default), amounts(50, 32), "never nothing");
    }
}
