//! What no flock could ever run, whatever joins it: a stack's contradictions with itself.
//!
//! A pure function of the services alone, which knows no node, so that whoever reads a file can ask it and say the place.
//! What merely has no node now is not its business: such a replica waits, visibly.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use dunlin_gossip::model::{Affinity, Constraint, Mode, PortRange, Service, ServiceName, ServiceSpec, StackName};

use crate::place;

/// Constraints that a service may have: each node is held against each of them.
const MAX_CONSTRAINTS: usize = 64;

/// The part of a service that is at fault.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Part {
    /// A constraint, by its number.
    Constraint(usize),
    /// An affinity, by its number.
    Affinity(usize),
    /// A port, by its number.
    Port(usize),
    /// How many may be on one node.
    PerNode,
}

/// What can never be met.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Never {
    /// Whose.
    pub service: ServiceName,
    /// Where in it.
    pub part: Part,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub remedy: &'static str,
}

/// The services of a stack, and its name where it is known.
#[derive(Clone, Copy)]
struct Stack<'a> {
    name: Option<&'a StackName>,
    services: &'a BTreeMap<ServiceName, Service>,
}

/// Everything in a stack that can never be met. Its name, where it is known, tells which affinities are about itself.
#[must_use]
pub fn never(name: Option<&StackName>, services: &BTreeMap<ServiceName, Service>) -> Vec<Never> {
    let stack = Stack { name, services };
    let mut found = Vec::new();
    for (name, service) in services {
        let mut add = |part, what, remedy| found.push(Never { service: name.clone(), part, what, remedy });
        constraints(&service.spec, &mut add);
        ranges(&service.spec, &mut add);
        too_many(name, service, stack, &mut add);
        affinities(name, service, stack, &mut add);
    }
    found
}

/// Takes what is wrong, where and the remedy.
type Add<'a> = &'a mut dyn FnMut(Part, String, &'static str);

fn constraints(spec: &ServiceSpec, add: Add<'_>) {
    if spec.constraints.len() > MAX_CONSTRAINTS {
        let what = format!("{} constraints; a service has at most {MAX_CONSTRAINTS}", spec.constraints.len());
        return add(Part::Constraint(MAX_CONSTRAINTS), what, "write 'in' with all values that are meant");
    }
    for (number, constraint) in spec.constraints.iter().enumerate() {
        if let Some(why) = place::unreadable(constraint) {
            let remedy = "correct the regular expression or the version";
            add(Part::Constraint(number), format!("the constraint {constraint} cannot be read: {why}"), remedy);
        }
    }
    let readable = || spec.constraints.iter().filter(|constraint| place::unreadable(constraint).is_none());
    let Some(upto) = place::contradiction(readable()) else { return };
    let Some(last) = readable().nth(upto) else { return };
    let same = readable().take(upto + 1).filter(|other| other.attribute == last.attribute);
    let all: Vec<String> = same.map(ToString::to_string).collect();
    let number = spec.constraints.iter().position(|constraint| core::ptr::eq(constraint, last)).unwrap_or(upto);
    let remedy = "remove one of them, or write 'in' with all values that are meant";
    add(Part::Constraint(number), format!("no node can meet these constraints together: {}", all.join(", ")), remedy);
}

/// True if no node can meet both sets of constraints.
#[must_use]
pub fn exclude(a: &[Constraint], b: &[Constraint]) -> bool {
    place::contradiction(a.iter().chain(b)).is_some()
}

/// How many nodes can meet the constraints at most, where they name nodes.
fn most_nodes(spec: &ServiceSpec) -> Option<u32> {
    let named = |attribute: &str| {
        let of = spec.constraints.iter().filter(|constraint| constraint.attribute == attribute);
        place::values(of).and_then(|values| u32::try_from(values.len()).ok())
    };
    ["node.id", "node.hostname"].into_iter().filter_map(named).min()
}

/// More replicas than the nodes that are named can ever have.
fn too_many(name: &ServiceName, service: &Service, stack: Stack<'_>, add: Add<'_>) {
    let (spec, Mode::Replicated(replicas)) = (&service.spec, service.mode) else { return };
    let Some(nodes) = most_nodes(spec).filter(|nodes| *nodes > 0) else { return };
    let per_node = spec.placing.max_per_node.map(|most| (most, Part::PerNode, "max_replicas_per_node"));
    let fixed = spec.ports.iter().position(|port| port.published.is_some());
    let fixed = fixed.map(|number| (1, Part::Port(number), "a published port"));
    let alone = |affinity: &Affinity| {
        affinity.anti && affinity.weight.is_none() && affinity.label.is_none() && stack.is_meant(affinity, name)
    };
    let alone = spec.placing.affinities.iter().position(alone);
    let alone = alone.map(|number| (1, Part::Affinity(number), "an affinity that keeps its own kind away"));
    let ranges = spec.demand().ranges.iter();
    let ranged = ranges
        .filter_map(|range| Some((range.len() / drawing(spec, range), port_of(spec, range)?, "a range of ports")));
    let bounds = [per_node, fixed, alone].into_iter().flatten().chain(ranged);
    let Some((most, part, why)) = bounds.min() else { return };
    if u64::from(replicas) > u64::from(most) * u64::from(nodes) {
        let nodes = if nodes == 1 { "one node".to_string() } else { format!("{nodes} nodes") };
        add(
            part,
            format!("{replicas} replicas on {nodes} that its constraints name, each with at most {most} ({why})"),
            "have fewer replicas, name more nodes, or let more of them be on one node",
        );
    }
}

/// How many ports of a replica draw from the same range.
fn drawing(spec: &ServiceSpec, range: &PortRange) -> u32 {
    let same = spec.demand().ranges.iter().filter(|other| (other.first, other.last) == (range.first, range.last));
    u32::try_from(same.count().max(1)).unwrap_or(u32::MAX)
}

fn port_of(spec: &ServiceSpec, range: &PortRange) -> Option<Part> {
    let number = usize::try_from(range.port).ok().filter(|number| *number < spec.ports.len());
    number.map(Part::Port)
}

/// A range with fewer numbers than ports that draw from it.
fn ranges(spec: &ServiceSpec, add: Add<'_>) {
    for range in &spec.demand().ranges {
        let wanted = drawing(spec, range);
        let Some(part) = port_of(spec, range).filter(|_| range.len() < wanted) else { continue };
        let what =
            format!("{wanted} ports of one replica from {}-{}, which has {}", range.first, range.last, range.len());
        return add(part, what, "widen the range");
    }
}

impl<'a> Stack<'a> {
    /// True if an affinity speaks of a service of this stack.
    fn is_own(self, affinity: &Affinity) -> bool {
        affinity.stack.as_ref().is_none_or(|stack| self.name == Some(stack))
    }

    /// True if it speaks of this very one.
    fn is_meant(self, affinity: &Affinity, service: &ServiceName) -> bool {
        self.is_own(affinity) && affinity.service == *service
    }

    /// The services of this stack to which one must be near, or from which it must keep away, and at what.
    fn rules(self, name: &ServiceName, anti: bool) -> impl Iterator<Item = (usize, &'a Affinity)> + use<'a> {
        let of = self.services.get(name).map_or(&[][..], |service| &service.spec.placing.affinities);
        let meant = move |(_, affinity): &(usize, &Affinity)| {
            affinity.anti == anti && affinity.weight.is_none() && self.is_own(affinity)
        };
        of.iter().enumerate().filter(meant)
    }

    /// All services that are at the same place with one wherever it is.
    fn together(self, name: &'a ServiceName, label: Option<&String>) -> BTreeSet<&'a ServiceName> {
        let (mut seen, mut open) = (BTreeSet::new(), Vec::from([name]));
        while let Some(next) = open.pop() {
            if seen.insert(next) {
                let near = self.rules(next, false).filter(|(_, affinity)| affinity.label.as_ref() == label);
                open.extend(near.map(|(_, affinity)| &affinity.service));
            }
        }
        seen
    }
}

fn affinities(name: &ServiceName, service: &Service, stack: Stack<'_>, add: Add<'_>) {
    for (number, affinity) in stack.rules(name, false).filter(|(_, affinity)| affinity.service != *name) {
        let Affinity { service: other, label, .. } = affinity;
        let part = Part::Affinity(number);
        let Some(theirs) = stack.services.get(other) else {
            let remedy = "name a service of this file, write STACK/SERVICE, or give the affinity a weight";
            add(part, format!("must be near {other}, and the stack has no such service"), remedy);
            continue;
        };
        let needs_me = reaches(stack, other, name);
        if needs_me {
            let what =
                format!("must be near {other}, which must be near to what must be near to it: neither can begin");
            add(part, what, "give one of the affinities a weight");
            continue;
        }
        let together = stack.together(name, label.as_ref());
        let keeps_off = |one: &&ServiceName| {
            let rules = stack.rules(one, true).filter(|(_, rule)| rule.label == *label && rule.service != **one);
            rules.map(|(_, rule)| &rule.service).any(|from| together.contains(from))
        };
        if let Some(one) = together.iter().find(|one| keeps_off(one)).filter(|_| together.contains(other)) {
            let what = format!("must be near {other}, while {one} must keep away from what is near it");
            add(part, what, "remove one of the two affinities, or give it a weight");
        } else if label.is_none() && exclude(&service.spec.constraints, &theirs.spec.constraints) {
            let what = format!("must be on a node with {other}, and no node can meet the constraints of both");
            add(part, what, "let one of the two run where the other may, or give the affinity a weight or a label");
        }
    }
}

/// True if a service must be near to another, directly or through others.
fn reaches(stack: Stack<'_>, from: &ServiceName, to: &ServiceName) -> bool {
    let (mut seen, mut open) = (BTreeSet::new(), Vec::from([from]));
    while let Some(next) = open.pop() {
        if next == to {
            return true;
        }
        if seen.insert(next) {
            let near = stack.rules(next, false).filter(|(_, affinity)| affinity.service != *next);
            open.extend(near.map(|(_, affinity)| &affinity.service));
        }
    }
    false
}
