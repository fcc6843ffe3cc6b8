//! The choice of ports: fixed ones as written, dynamic ones from the author's range or else the node's.
//!
//! The search starts at a place that depends on node and replica, so that a restarted replica tends to find its old number
//! and two replicas tend not to meet.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::ops::RangeInclusive;

use dunlin_gossip::hash::mix;
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{Demand, PortSpec, Protocol, PublishedPort, RefusalReason, ReplicaKey};

use crate::place::rank;

/// The ports of an allocation. `held` are those of the node's other allocations; `avoid` were found taken by strangers.
///
/// # Errors
/// A fixed port is held, or a range is used up.
pub fn choose(
    (specs, demand): (&[PortSpec], &Demand),
    replica: &ReplicaKey,
    node: NodeId,
    range: &RangeInclusive<u16>,
    held: &BTreeSet<(Protocol, u16)>,
    avoid: &BTreeSet<u16>,
) -> Result<Vec<PublishedPort>, RefusalReason> {
    let mut held = held.clone();
    let mut ports: Vec<Option<u16>> = Vec::with_capacity(specs.len());
    for spec in specs {
        if let Some(fixed) = spec.published
            && !held.insert((spec.protocol, fixed))
        {
            return Err(RefusalReason::PortTaken(fixed));
        }
        ports.push(spec.published);
    }
    let begin = mix(rank::replica_hash(replica), rank::node_hash(node));
    let mut out = Vec::with_capacity(specs.len());
    for (index, (spec, fixed)) in specs.iter().zip(ports).enumerate() {
        let own = demand.range_of(index).map(|own| own.first..=own.last);
        let free = |n: u16| !held.contains(&(spec.protocol, n)) && !avoid.contains(&n);
        let dynamic = || dynamic(own.as_ref().unwrap_or(range), begin, free).ok_or(RefusalReason::NoRoom);
        let number = fixed.map_or_else(dynamic, Ok)?;
        held.insert((spec.protocol, number));
        out.push(PublishedPort::new(spec, number, demand.is_local(index)));
    }
    Ok(out)
}

fn dynamic(range: &RangeInclusive<u16>, begin: u64, free: impl Fn(u16) -> bool) -> Option<u16> {
    let span = u64::from(range.end().saturating_sub(*range.start())) + 1;
    let numbers = (0..span).map(|step| (begin % span + step) % span);
    let mut numbers = numbers.map(|offset| range.start().saturating_add(u16::try_from(offset).unwrap_or(0)));
    numbers.find(|number| free(*number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use dunlin_gossip::model::{PortRange, Reach, ServiceKey, ServiceName, Slot, StackName};

    fn replica() -> ReplicaKey {
        let stack = StackName::new("shop").expect("a name");
        ReplicaKey {
            service: ServiceKey { stack, service: ServiceName::new("web").expect("a name") },
            slot: Slot::Number(1),
        }
    }

    fn port(published: Option<u16>) -> PortSpec {
        PortSpec { name: String::from("http"), target: None, published, protocol: Protocol::Tcp }
    }

    fn run(specs: &[PortSpec], held: &[u16], avoid: &[u16]) -> Result<Vec<u16>, RefusalReason> {
        let held = held.iter().map(|n| (Protocol::Tcp, *n)).collect();
        let avoid = avoid.iter().copied().collect();
        let demand = Demand::default();
        choose((specs, &demand), &replica(), NodeId([1; 16]), &(100..=103), &held, &avoid)
            .map(|ports| ports.iter().map(|p| p.outer).collect())
    }

    #[test]
    fn dynamic_ports_avoid_what_is_held_and_each_other() {
        let mut got = run(&[port(None), port(None)], &[100], &[102]).expect("two are left");
        got.sort_unstable();
        assert_eq!(got, [101, 103]);
        assert_eq!(run(&[port(None), port(None)], &[100, 101], &[102]), Err(RefusalReason::NoRoom));
    }

    #[test]
    fn a_range_of_the_author_s_is_used_and_no_other() {
        let range = |port| PortRange { port, first: 500, last: 502 };
        let demand = Demand { ranges: Vec::from([range(0), range(2)]), local: Vec::from([2]), ..Demand::default() };
        let specs = [port(None), port(Some(500)), port(None)];
        let chosen = |held: &[u16]| {
            let held = held.iter().map(|n| (Protocol::Tcp, *n)).collect();
            choose((&specs, &demand), &replica(), NodeId([1; 16]), &(100..=103), &held, &BTreeSet::new())
        };
        let ports = chosen(&[]).expect("two are left");
        let mut numbers: Vec<u16> = ports.iter().map(|port| port.outer).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [500, 501, 502]);
        assert_eq!((ports[0].reach, ports[2].reach), (Reach::Flock, Reach::Node));
        assert_eq!(chosen(&[502]), Err(RefusalReason::NoRoom));
    }

    #[test]
    fn a_fixed_port_is_taken_or_not() {
        assert_eq!(run(&[port(Some(80))], &[], &[]), Ok(Vec::from([80])));
        assert_eq!(run(&[port(Some(80))], &[80], &[]), Err(RefusalReason::PortTaken(80)));
        let got = run(&[port(None), port(Some(101))], &[100, 102], &[]);
        assert_eq!(got, Ok(Vec::from([103, 101])));
    }
}
