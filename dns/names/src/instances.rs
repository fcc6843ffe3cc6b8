//! A service's records: addresses, SRV, HTTPS and SVCB, texts.
//!
//! A name answers only with addresses on which a port can be reached: an instance without one is left out.

use alloc::vec;
use alloc::vec::Vec;

use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::PublishedPort;

use crate::answer::{Data, Record, Wanted, is_of_family};
use crate::change::Instance;
use crate::find::{Asked, Order, Port, Subject};
use crate::name::Fqdn;
use crate::zone::{Service, Zone, slot_label};

/// The label of a node by which its instances' SRV records are weighted.
const WEIGHT: &str = "dns-weight";
/// The label of a node that says in which zone it is.
const ZONE: &str = "zone";
/// The name of a port that gets HTTPS records. Not `http`: an HTTPS record tells browsers never to speak plain HTTP.
const HTTPS: &str = "https";

impl Zone {
    /// The records of one type of what was asked for, and the addresses of the targets.
    pub(crate) fn service_records(&self, name: &Fqdn, asked: &Asked<'_>, wanted: Wanted) -> (Vec<Record>, Vec<Record>) {
        match wanted {
            Wanted::A | Wanted::Aaaa if asked.port == Port::Any => {
                let fits = |instance: &Instance| !instance.ports.is_empty() && is_of_family(instance.address, wanted);
                let mut addresses: Vec<_> =
                    self.nearest(asked, fits).into_iter().map(|(_, instance)| instance.address).collect();
                addresses.sort_unstable();
                addresses.dedup();
                (addresses.into_iter().map(|at| self.record(name, Data::Address(at))).collect(), vec![])
            }
            Wanted::Srv => self.targets(
                name,
                asked,
                |_| true,
                |priority, instance, port, target| {
                    let weight = self.weight(instance.node);
                    Data::Srv { priority, weight, port: port.outer, target }
                },
            ),
            Wanted::Https if asked.port == Port::Any => {
                let is_https = |port: &PublishedPort| port.name.eq_ignore_ascii_case(HTTPS);
                self.targets(name, asked, is_https, |near, instance, port, target| Data::Service {
                    is_https: true,
                    priority: near + 1,
                    port: port.outer,
                    target,
                    hint: instance.address,
                })
            }
            Wanted::Svcb if asked.port != Port::Any => self.targets(
                name,
                asked,
                |_| true,
                |near, instance, port, target| Data::Service {
                    is_https: false,
                    priority: near + 1,
                    port: port.outer,
                    target,
                    hint: instance.address,
                },
            ),
            Wanted::Txt if asked.port == Port::Any => (self.texts(name, asked), vec![]),
            Wanted::A
            | Wanted::Aaaa
            | Wanted::Https
            | Wanted::Svcb
            | Wanted::Txt
            | Wanted::Soa
            | Wanted::Ns
            | Wanted::Ptr
            | Wanted::Any
            | Wanted::Other => (vec![], vec![]),
        }
    }

    /// A record for each port that fits, and the addresses of their targets.
    fn targets(
        &self,
        name: &Fqdn,
        asked: &Asked<'_>,
        fits: impl Fn(&PublishedPort) -> bool,
        data: impl Fn(u16, &Instance, &PublishedPort, Fqdn) -> Data,
    ) -> (Vec<Record>, Vec<Record>) {
        let (mut answers, mut additional) = (Vec::new(), Vec::new());
        for (service, instance) in &asked.instances {
            let near = if asked.order == Order::Near { self.distance(instance.node) } else { 0 };
            let slot = slot_label(self, instance.slot);
            let target = self.origin.prefixed(&[&slot, service.service(), service.stack()]);
            for port in instance.ports.iter().filter(|port| asked.port.fits(port) && fits(port)) {
                answers.push(self.record(name, data(near, instance, port, target.clone())));
                additional.push(self.record(&target, Data::Address(instance.address)));
            }
        }
        for list in [&mut answers, &mut additional] {
            list.sort_unstable();
            list.dedup();
        }
        (answers, additional)
    }

    fn texts(&self, name: &Fqdn, asked: &Asked<'_>) -> Vec<Record> {
        if asked.subject == Subject::Service {
            let Some((service, _)) = asked.instances.first() else { return vec![] };
            let texts = vec![
                alloc::format!("stack={}", service.stack()),
                alloc::format!("service={}", service.service()),
                alloc::format!("instances={}", asked.instances.len()),
            ];
            return vec![self.record(name, Data::Txt(texts))];
        }
        let text = |(_, instance): &(&Service, &Instance)| {
            let host = self.nodes.get(&instance.node);
            let node = host.map(|host| alloc::format!("node={}", host.name));
            let port =
                |port: &PublishedPort| alloc::format!("port.{}={}/{}", port.name, port.outer, port.protocol.as_str());
            let texts = node.into_iter().chain(instance.ports.iter().map(port)).collect();
            self.record(name, Data::Txt(texts))
        };
        asked.instances.iter().map(text).collect()
    }

    /// Of the instances that fit, those that the order asked for answers with.
    fn nearest<'a>(&self, asked: &Asked<'a>, fits: impl Fn(&Instance) -> bool) -> Vec<(&'a Service, &'a Instance)> {
        let mut list: Vec<_> = asked.instances.iter().copied().filter(|(_, instance)| fits(instance)).collect();
        if asked.order == Order::Near {
            let best = list.iter().map(|(_, instance)| self.distance(instance.node)).min();
            list.retain(|(_, instance)| Some(self.distance(instance.node)) == best);
        }
        list
    }

    /// 0 for the node that answers, 1 for others of its zone, 2 and more for the rest, by their round trips.
    fn distance(&self, node: NodeId) -> u16 {
        let Some(here) = self.here else { return 2 };
        let zone_of = |node| self.label(node, ZONE);
        let (own, zone) = (zone_of(here), zone_of(node));
        match node == here {
            true => 0,
            false if own.is_some() && zone == own => 1,
            false => 2 + self.far.of(node, |other| zone.is_some() && zone_of(other) == zone),
        }
    }

    fn weight(&self, node: NodeId) -> u16 {
        self.label(node, WEIGHT).and_then(|text| text.parse().ok()).unwrap_or(1)
    }
}
