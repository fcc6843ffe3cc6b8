//! From a question to an answer: which records, whether the name exists at all, and what goes into the other sections.
//!
//! NXDOMAIN says that neither the name nor anything below it exists; NODATA that the name exists without such records
//! (RFC 2308, RFC 8020). Both carry the SOA.

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::net::IpAddr;

use dunlin_gossip::rng::Rng;

use crate::change::Instance;
use crate::name::{Fqdn, address_of_reverse};
use crate::zone::{Zone, slot_label};

/// What is asked for; other types exist but are never answered with data.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Wanted {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Where each port is.
    Srv,
    /// Start of authority.
    Soa,
    /// Name servers.
    Ns,
    /// Labels, cluster id.
    Txt,
    /// Names of addresses.
    Ptr,
    /// Everything there is.
    Any,
    /// A type without records here.
    Other,
}

/// A record's content.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Data {
    /// An address, A or AAAA by its family.
    Address(IpAddr),
    /// RFC 2782; priority 0 and weight 1 always.
    Srv {
        /// The port on the target.
        port: u16,
        /// A name in this zone that resolves.
        target: Fqdn,
    },
    /// The zone's start of authority.
    Soa {
        /// Primary server.
        primary: Fqdn,
        /// Grows with every change.
        serial: u32,
    },
    /// A name server.
    Ns(Fqdn),
    /// Texts.
    Txt(Vec<String>),
    /// A name.
    Ptr(Fqdn),
}

/// One record.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Record {
    /// Whose.
    pub name: Fqdn,
    /// How long it may be kept, in seconds.
    pub ttl: u32,
    /// What.
    pub data: Data,
}

/// What to answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Records.
    Found {
        /// For the answer section.
        answers: Vec<Record>,
        /// For the additional section.
        additional: Vec<Record>,
    },
    /// The name exists, records of this type do not; the SOA goes into the authority section.
    NoData(Record),
    /// The name does not exist; the SOA goes into the authority section.
    NoName(Record),
    /// The name lies outside: forward it, or refuse.
    NotOurs,
}

/// What stands at a name.
enum Node<'a> {
    Apex,
    /// Exists only because something lies below it.
    Empty,
    Host(Option<IpAddr>, Vec<String>),
    /// Instances; with a port filter for RFC 2782 names.
    Service(Vec<&'a Instance>, Option<(&'a str, &'a str)>, ServiceAt<'a>),
    Nothing,
}

#[derive(Clone, Copy)]
struct ServiceAt<'a> {
    service: &'a str,
    stack: &'a str,
}

impl Zone {
    /// Answers a question. `rng` shuffles; the same generator state gives the same order.
    #[must_use]
    pub fn answer(&self, name: &Fqdn, wanted: Wanted, rng: &mut Rng) -> Answer {
        let Some(labels) = name.within(&self.origin) else {
            return self.answer_reverse(name, wanted);
        };
        let node = self.find(labels);
        if matches!(node, Node::Nothing) {
            return Answer::NoName(self.soa());
        }
        let (mut answers, mut additional) = self.records(name, &node, wanted);
        if answers.is_empty() {
            return Answer::NoData(self.soa());
        }
        rng.shuffle(&mut answers);
        additional.sort_unstable();
        additional.dedup();
        Answer::Found { answers, additional }
    }

    /// The zone's SOA, as it stands in negative answers: its TTL bounds how long a "no" is kept (RFC 2308 section 5).
    #[must_use]
    pub fn soa(&self) -> Record {
        let data = Data::Soa { primary: self.origin.prefixed(&["ns"]), serial: self.serial };
        Record { name: self.origin.clone(), ttl: 1, data }
    }

    fn find<'a>(&'a self, labels: &'a [String]) -> Node<'a> {
        match labels {
            [] => Node::Apex,
            [only] if only == "node" || only == "ns" => Node::Empty,
            [node, kind] if kind == "node" => self.node_by_name(node).map_or(Node::Nothing, |host| {
                let texts = host.labels.iter().map(|(k, v)| alloc::format!("{k}={v}")).collect();
                Node::Host(host.address, texts)
            }),
            [stack] => {
                if self.stacks.contains_key(stack) {
                    Node::Empty
                } else {
                    Node::Nothing
                }
            }
            [service, stack] => self.find_service(service, stack, |_| true, None),
            [proto, service, stack] if proto == "_tcp" || proto == "_udp" => {
                match self.find_service(service, stack, |_| true, None) {
                    Node::Nothing => Node::Nothing,
                    _ => Node::Empty,
                }
            }
            [slot, service, stack] => {
                let node = self.find_service(service, stack, |i| slot_label(self, i.slot) == *slot, None);
                match node {
                    Node::Service(found, ..) if found.is_empty() => Node::Nothing,
                    other => other,
                }
            }
            [port, proto, service, stack] => {
                let (Some(port), Some(proto)) = (port.strip_prefix('_'), proto.strip_prefix('_')) else {
                    return Node::Nothing;
                };
                self.find_service(service, stack, |_| true, Some((port, proto)))
            }
            _ => Node::Nothing,
        }
    }

    fn find_service<'a>(
        &'a self,
        service: &'a str,
        stack: &'a str,
        keep: impl Fn(&Instance) -> bool,
        port: Option<(&'a str, &'a str)>,
    ) -> Node<'a> {
        let Some(instances) = self.stacks.get(stack).and_then(|s| s.get(service)) else { return Node::Nothing };
        Node::Service(instances.iter().filter(|i| keep(i)).collect(), port, ServiceAt { service, stack })
    }

    fn records(&self, name: &Fqdn, node: &Node<'_>, wanted: Wanted) -> (Vec<Record>, Vec<Record>) {
        match node {
            Node::Apex => (self.apex(wanted), self.ns_addresses(wanted)),
            Node::Empty | Node::Nothing => (vec![], vec![]),
            Node::Host(address, texts) => (self.host(name, *address, texts, wanted), vec![]),
            Node::Service(instances, port, at) => self.service(name, instances, *port, *at, wanted),
        }
    }

    fn apex(&self, wanted: Wanted) -> Vec<Record> {
        let mut out = Vec::new();
        if matches!(wanted, Wanted::Soa | Wanted::Any) {
            out.push(self.soa());
        }
        if matches!(wanted, Wanted::Ns | Wanted::Any) {
            let reachable = self.nodes.values().filter(|h| h.address.is_some());
            out.extend(reachable.map(|h| self.record(&self.origin, Data::Ns(self.node_fqdn(&h.name)))));
        }
        if matches!(wanted, Wanted::Txt | Wanted::Any) {
            out.push(self.record(&self.origin, Data::Txt(vec![alloc::format!("cluster={}", self.cluster)])));
        }
        out
    }

    fn ns_addresses(&self, wanted: Wanted) -> Vec<Record> {
        if !matches!(wanted, Wanted::Ns) {
            return vec![];
        }
        let address =
            |h: &crate::zone::Host| h.address.map(|a| self.record(&self.node_fqdn(&h.name), Data::Address(a)));
        self.nodes.values().filter_map(|h| address(h)).collect()
    }

    fn host(&self, name: &Fqdn, address: Option<IpAddr>, texts: &[String], wanted: Wanted) -> Vec<Record> {
        let mut out: Vec<Record> =
            address.filter(|a| family(*a, wanted)).map(|a| self.record(name, Data::Address(a))).into_iter().collect();
        if matches!(wanted, Wanted::Txt | Wanted::Any) && !texts.is_empty() {
            out.push(self.record(name, Data::Txt(texts.to_vec())));
        }
        out
    }

    fn service(
        &self,
        name: &Fqdn,
        instances: &[&Instance],
        filter: Option<(&str, &str)>,
        at: ServiceAt<'_>,
        wanted: Wanted,
    ) -> (Vec<Record>, Vec<Record>) {
        let mut answers = Vec::new();
        let mut additional = Vec::new();
        // A name answers only with addresses on which a port is reachable: an instance without one is left out.
        for instance in instances.iter().filter(|i| !i.ports.is_empty()) {
            if filter.is_none() && family(instance.address, wanted) {
                answers.push(self.record(name, Data::Address(instance.address)));
            }
            if !matches!(wanted, Wanted::Srv | Wanted::Any) {
                continue;
            }
            let target = self.origin.prefixed(&[&slot_label(self, instance.slot), at.service, at.stack]);
            let asked = |p: &&dunlin_gossip::model::PublishedPort| {
                filter.is_none_or(|(port, proto)| port_is(p, port) && proto == p.protocol.as_str())
            };
            for port in instance.ports.iter().filter(asked) {
                answers.push(self.record(name, Data::Srv { port: port.outer, target: target.clone() }));
                additional.push(self.record(&target, Data::Address(instance.address)));
            }
        }
        answers.sort_unstable();
        answers.dedup();
        (answers, additional)
    }

    fn answer_reverse(&self, name: &Fqdn, wanted: Wanted) -> Answer {
        let known = address_of_reverse(name).and_then(|address| self.name_of(address));
        match known {
            Some(host) if matches!(wanted, Wanted::Ptr | Wanted::Any) => Answer::Found {
                answers: vec![self.record(name, Data::Ptr(self.node_fqdn(&host.name)))],
                additional: vec![],
            },
            Some(_) => Answer::NoData(self.soa()),
            None => Answer::NotOurs,
        }
    }

    fn node_fqdn(&self, name: &str) -> Fqdn {
        self.origin.prefixed(&[name, "node"])
    }

    fn record(&self, name: &Fqdn, data: Data) -> Record {
        Record { name: name.clone(), ttl: self.ttl, data }
    }
}

fn port_is(port: &dunlin_gossip::model::PublishedPort, label: &str) -> bool {
    port.name.eq_ignore_ascii_case(label) || port.inner.to_string() == label
}

fn family(address: IpAddr, wanted: Wanted) -> bool {
    match address {
        IpAddr::V4(_) => matches!(wanted, Wanted::A | Wanted::Any),
        IpAddr::V6(_) => matches!(wanted, Wanted::Aaaa | Wanted::Any),
    }
}
