//! P8, to the last step: what a node's DNS server would answer is what its core has told, no more and no less. The zone is the
//! real one; the question goes through it as a client's would.

use std::collections::BTreeSet;
use std::net::IpAddr;

use dunlin_gossip::model::ServiceKey;
use dunlin_gossip::rng::Seed;
use dunlin_names::{Answer, Data, Fqdn, Wanted, Zone};

use crate::net::HostNo;
use crate::world::World;

/// The zone that every host serves.
const DOMAIN: &str = "dunlin.internal";
/// In larger worlds no host has a zone: a thousand of them would hold what one of them shows.
const MOST_HOSTS: usize = 64;

/// The zone of an agent that begins, in a world that has them.
pub(crate) fn zone(hosts: usize) -> Option<Box<Zone>> {
    (hosts <= MOST_HOSTS).then(|| Box::new(Zone::new(DOMAIN, "sim", 1)))
}

/// All that a host would answer about services.
pub(crate) fn check(world: &mut World, no: HostNo) {
    let host = &world.hosts[no as usize];
    let (Some(zone), true) = (host.zone.as_ref(), host.node.is_some() && world.faults.is_judged(no)) else { return };
    let differs = host.names.services().find_map(|service| {
        let told = told(world, no, service).filter(|_| is_reachable(world, service))?;
        let answered = answered(zone, service);
        (answered != told).then(|| format!("host {no} would answer {answered:?} for {service}, told were {told:?}"))
    });
    if let Some(detail) = differs {
        world.violation("p8-honest-names", detail);
    }
}

/// True if the names of a service lead to anything: it has a port, and all of them are open to other hosts.
fn is_reachable(world: &World, service: &ServiceKey) -> bool {
    let line = world.scenario.services.iter().find(|line| line.name == service.service.as_str());
    let Some(spec) = line.and_then(|line| line.model.as_ref()).map(|model| &model.spec) else { return true };
    !spec.ports.is_empty() && spec.demand().local.is_empty()
}

/// The addresses of the hosts that its core told; none if one of them is a host no more.
fn told(world: &World, no: HostNo, service: &ServiceKey) -> Option<BTreeSet<IpAddr>> {
    let places = world.hosts[no as usize].names.of(service)?;
    places.keys().map(|(_, node)| world.by_id.get(node).map(|on| world.hosts[*on as usize].address)).collect()
}

fn answered(zone: &Zone, service: &ServiceKey) -> BTreeSet<IpAddr> {
    let name = Fqdn::parse(&format!("{}.{}.{DOMAIN}", service.service, service.stack));
    match zone.answer(&name, Wanted::A, &mut Seed(0).rng()) {
        Answer::Found { answers, .. } => {
            let address = |data| if let Data::Address(address) = data { Some(address) } else { None };
            answers.into_iter().filter_map(|record| address(record.data)).collect()
        }
        Answer::NoData(_) | Answer::NoName(_) | Answer::NotOurs => BTreeSet::new(),
    }
}
