//! From a question to an answer: which records, whether the name exists at all, and what goes into the other sections.
//!
//! NXDOMAIN says that neither the name nor anything below it exists; NODATA that the name exists without such records
//! (RFC 2308, RFC 8020). Both carry the SOA.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::net::IpAddr;

use dunlin_gossip::rng::Rng;

use crate::find::{Found, Order};
use crate::name::{Fqdn, address_of_reverse};
use crate::quick::SOA_MINIMUM;
use crate::zone::{Host, Zone};

/// Name servers that the zone names at most: more would not fit into a datagram with their addresses.
const MAX_SERVERS: usize = 13;

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
    /// Labels, cluster id, what an instance is.
    Txt,
    /// Names of addresses.
    Ptr,
    /// Where a port named `https` is (RFC 9460).
    Https,
    /// Where a port is (RFC 9460).
    Svcb,
    /// One type of those that there are (RFC 8482 section 4.1).
    Any,
    /// A type without records here.
    Other,
}

/// Types with records, in the order in which ANY looks for one.
pub(crate) const TYPES: [Wanted; 9] = [
    Wanted::Soa,
    Wanted::A,
    Wanted::Aaaa,
    Wanted::Srv,
    Wanted::Https,
    Wanted::Svcb,
    Wanted::Txt,
    Wanted::Ptr,
    Wanted::Ns,
];

/// A record's content.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Data {
    /// An address, A or AAAA by its family.
    Address(IpAddr),
    /// RFC 2782.
    Srv {
        /// 0, save where the name asks for what is near.
        priority: u16,
        /// The node's label `dns-weight`, else 1.
        weight: u16,
        /// The port on the target.
        port: u16,
        /// A name in this zone that resolves.
        target: Fqdn,
    },
    /// HTTPS or SVCB (RFC 9460), in service mode.
    Service {
        /// HTTPS, not SVCB.
        is_https: bool,
        /// 1 for the nearest, save that only names that ask for what is near tell.
        priority: u16,
        /// The port on the target.
        port: u16,
        /// A name in this zone that resolves.
        target: Fqdn,
        /// The target's address.
        hint: IpAddr,
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

impl Zone {
    /// Answers a question. `rng` shuffles; the same generator state gives the same order.
    #[must_use]
    pub fn answer(&self, name: &Fqdn, wanted: Wanted, rng: &mut Rng) -> Answer {
        let Some(labels) = name.within(&self.origin) else {
            return self.answer_reverse(name, wanted);
        };
        let found = self.find(labels);
        if matches!(found, Found::Nothing) {
            return Answer::NoName(self.soa());
        }
        let (mut answers, mut additional) = match wanted {
            Wanted::Any => {
                let of = TYPES.iter().map(|wanted| (self.records(name, &found, *wanted).0, vec![]));
                of.into_iter().find(|(answers, _)| !answers.is_empty()).unwrap_or_default()
            }
            wanted => self.records(name, &found, wanted),
        };
        if answers.is_empty() {
            return Answer::NoData(self.soa());
        }
        rng.shuffle(&mut answers);
        if let Found::Service(asked) = &found
            && asked.order == Order::One
        {
            answers.truncate(1);
            additional.retain(|record| answers.iter().any(|answer| leads_to(answer, &record.name)));
        }
        Answer::Found { answers, additional }
    }

    /// The zone's SOA, as it stands in negative answers: its TTL bounds how long a "no" is kept (RFC 2308 section 5).
    #[must_use]
    pub fn soa(&self) -> Record {
        self.soa_of(&self.origin)
    }

    fn soa_of(&self, apex: &Fqdn) -> Record {
        let data = Data::Soa { primary: self.origin.prefixed(&["ns"]), serial: self.serial };
        Record { name: apex.clone(), ttl: SOA_MINIMUM, data }
    }

    /// The records of one type at a name, in order, and what belongs into the additional section.
    pub(crate) fn records(&self, name: &Fqdn, found: &Found<'_>, wanted: Wanted) -> (Vec<Record>, Vec<Record>) {
        match found {
            Found::Apex => self.apex(wanted),
            Found::Empty | Found::Nothing => (vec![], vec![]),
            Found::Here => {
                let host = self.here.and_then(|here| self.nodes.get(&here));
                (host.map(|host| self.addresses(name, host.address, wanted)).unwrap_or_default(), vec![])
            }
            Found::Host(host) => (self.host(name, host, wanted), vec![]),
            Found::Service(asked) => self.service_records(name, asked, wanted),
        }
    }

    fn apex(&self, wanted: Wanted) -> (Vec<Record>, Vec<Record>) {
        let one = |data| (vec![self.record(&self.origin, data)], vec![]);
        match wanted {
            Wanted::Soa => (vec![self.soa()], vec![]),
            Wanted::Txt => one(Data::Txt(vec![alloc::format!("cluster={}", self.cluster)])),
            Wanted::Ns => {
                let here = self.here.and_then(|here| self.nodes.get(&here));
                let others = self.nodes.iter().filter(|(id, _)| Some(**id) != self.here).map(|(_, host)| host);
                let all = here.into_iter().chain(others);
                let reachable = all.filter_map(|host| Some((self.node_fqdn(&host.name), host.address?)));
                let servers: Vec<(Fqdn, IpAddr)> = reachable.take(MAX_SERVERS).collect();
                let mut names: Vec<Record> =
                    servers.iter().map(|(name, _)| self.record(&self.origin, Data::Ns(name.clone()))).collect();
                names.dedup();
                (names, servers.into_iter().map(|(name, at)| self.record(&name, Data::Address(at))).collect())
            }
            Wanted::A
            | Wanted::Aaaa
            | Wanted::Srv
            | Wanted::Ptr
            | Wanted::Https
            | Wanted::Svcb
            | Wanted::Any
            | Wanted::Other => (vec![], vec![]),
        }
    }

    fn host(&self, name: &Fqdn, host: &Host, wanted: Wanted) -> Vec<Record> {
        let mut out = self.addresses(name, host.address, wanted);
        if wanted == Wanted::Txt && !host.labels.is_empty() {
            let texts = host.labels.iter().map(|(key, value)| alloc::format!("{key}={value}")).collect();
            out.push(self.record(name, Data::Txt(texts)));
        }
        out
    }

    fn addresses(&self, name: &Fqdn, address: Option<IpAddr>, wanted: Wanted) -> Vec<Record> {
        let address = address.filter(|address| is_of_family(*address, wanted));
        address.map(|address| self.record(name, Data::Address(address))).into_iter().collect()
    }

    /// Each reverse name that leads to something is a zone of its own: what lies beside it is not ours.
    fn answer_reverse(&self, name: &Fqdn, wanted: Wanted) -> Answer {
        let names = address_of_reverse(name).map(|address| self.names_of(address)).unwrap_or_default();
        if names.is_empty() {
            return Answer::NotOurs;
        }
        let answers: Vec<Record> = match wanted {
            Wanted::Ptr | Wanted::Any => names.into_iter().map(|target| self.record(name, Data::Ptr(target))).collect(),
            Wanted::Soa => vec![self.soa_of(name)],
            Wanted::A
            | Wanted::Aaaa
            | Wanted::Srv
            | Wanted::Ns
            | Wanted::Txt
            | Wanted::Https
            | Wanted::Svcb
            | Wanted::Other => vec![],
        };
        match answers.is_empty() {
            true => Answer::NoData(self.soa_of(name)),
            false => Answer::Found { answers, additional: vec![] },
        }
    }

    pub(crate) fn node_fqdn(&self, name: &str) -> Fqdn {
        self.origin.prefixed(&[name, "node"])
    }

    pub(crate) fn record(&self, name: &Fqdn, data: Data) -> Record {
        Record { name: name.clone(), ttl: self.ttl, data }
    }
}

/// True if a record names this target.
fn leads_to(record: &Record, to: &Fqdn) -> bool {
    match &record.data {
        Data::Srv { target, .. } | Data::Service { target, .. } => target == to,
        Data::Ns(target) | Data::Ptr(target) => target == to,
        Data::Address(_) | Data::Soa { .. } | Data::Txt(_) => false,
    }
}

pub(crate) fn is_of_family(address: IpAddr, wanted: Wanted) -> bool {
    match address {
        IpAddr::V4(_) => wanted == Wanted::A,
        IpAddr::V6(_) => wanted == Wanted::Aaaa,
    }
}
