//! What stands at a name, read from the right: stack, service, which of its instances, in which order, which port.
//!
//! `[_<port>._<proto>.][nearest.|rr.][<slot>.|<value>.<key>.]<service>.<stack>`. Whatever stands below an existing name and
//! is none of these forms does not exist; whatever stands above an existing one does (RFC 8020).

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::PublishedPort;

use crate::change::Instance;
use crate::zone::{Host, Service, Zone, fold, slot_label};

/// What stands at a name.
pub(crate) enum Found<'a> {
    /// The zone itself.
    Apex,
    /// Exists only because something lies below it.
    Empty,
    /// The node that answers.
    Here,
    /// A node.
    Host(&'a Host),
    /// Instances.
    Service(Asked<'a>),
    /// No such name.
    Nothing,
}

/// Which instances of a service, and which of their ports.
pub(crate) struct Asked<'a> {
    pub(crate) instances: Vec<(&'a Service, &'a Instance)>,
    pub(crate) port: Port<'a>,
    pub(crate) order: Order,
    /// What its texts tell.
    pub(crate) subject: Subject,
}

/// What the name stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Subject {
    /// A service, or some of it.
    Service,
    /// One slot.
    Slot,
}

/// A filter of ports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Port<'a> {
    /// No port is named.
    Any,
    /// `_<port>._<proto>`, by the port's name or its inner number; without a port, all of the protocol.
    Named(Option<&'a str>, &'a str),
}

impl Port<'_> {
    pub(crate) fn fits(self, port: &PublishedPort) -> bool {
        match self {
            Self::Any => true,
            Self::Named(name, protocol) => {
                let is_named = |name: &str| port.name.eq_ignore_ascii_case(name) || port.inner.to_string() == name;
                port.protocol.as_str() == protocol && name.is_none_or(is_named)
            }
        }
    }
}

/// Which of the instances that fit are answered with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    /// All.
    All,
    /// The nearest: this node's, else this zone's, else those with the shortest round trips.
    Near,
    /// One, drawn anew each time.
    One,
}

impl Zone {
    pub(crate) fn find<'a>(&'a self, labels: &'a [String]) -> Found<'a> {
        match labels {
            [] => Found::Apex,
            [only] if only == "node" => Found::Empty,
            [only] if only == "ns" => Found::Here,
            [front @ .., last] if last == "node" => self.find_on_node(front),
            [stack] | [_, stack] if !self.stacks.contains_key(stack) => Found::Nothing,
            [_] => Found::Empty,
            [proto, _] if protocol(proto).is_some() => Found::Empty,
            [service, proto, stack] if service.starts_with('_') && protocol(proto).is_some() => {
                let named = service.get(1..).and_then(|service| self.service(service, stack));
                let (Some(held), Some(proto)) = (named, protocol(proto)) else { return Found::Nothing };
                let port = Port::Named(None, proto);
                let all: Vec<&Instance> = held.instances.iter().collect();
                if !has_port(&all, port) {
                    return Found::Nothing;
                }
                let instances = all.into_iter().map(|instance| (held, instance)).collect();
                Found::Service(Asked { instances, port, order: Order::All, subject: Subject::Service })
            }
            [front @ .., service, stack] => match self.service(service, stack) {
                Some(held) => self.find_instances(front, held),
                None => Found::Nothing,
            },
        }
    }

    /// `<node>`, or `<service>.<stack>.<node>`: what runs there.
    fn find_on_node<'a>(&'a self, labels: &'a [String]) -> Found<'a> {
        let [front @ .., name] = labels else { return Found::Empty };
        let (Some(id), Some(host)) = (self.node_names.get(name), self.node_by_name(name)) else {
            return Found::Nothing;
        };
        let runs_here = |held: &Service| held.instances.iter().any(|instance| instance.node == *id);
        match front {
            [] => Found::Host(host),
            [stack] => {
                let stands = self.services.iter().any(|held| held.stack() == stack && runs_here(held));
                if stands { Found::Empty } else { Found::Nothing }
            }
            [service, stack] => match self.service(service, stack).filter(|held| runs_here(held)) {
                Some(held) => {
                    let here = held.instances.iter().filter(|instance| instance.node == *id);
                    let instances = here.map(|instance| (held, instance)).collect();
                    Found::Service(Asked { instances, port: Port::Any, order: Order::All, subject: Subject::Service })
                }
                None => Found::Nothing,
            },
            _ => Found::Nothing,
        }
    }

    fn find_instances<'a>(&'a self, front: &'a [String], held: &'a Service) -> Found<'a> {
        let mut instances: Vec<&Instance> = held.instances.iter().collect();
        let mut rest = front;
        let mut subject = Subject::Service;
        let is_selection = |label: &str| !label.starts_with('_') && label != "nearest" && label != "rr";
        if let [left @ .., last] = rest
            && is_selection(last)
        {
            let in_slot = |instance: &&Instance| slot_label(self, instance.slot) == *last;
            if instances.iter().any(in_slot) {
                instances.retain(in_slot);
                (rest, subject) = (left, Subject::Slot);
            } else if instances.iter().any(|instance| self.label(instance.node, last).is_some()) {
                let [left @ .., value] = left else { return Found::Empty };
                instances.retain(|instance| self.label(instance.node, last).is_some_and(|held| fold(held) == *value));
                rest = left;
            } else {
                return Found::Nothing;
            }
            if instances.is_empty() {
                return Found::Nothing;
            }
        }
        let order = match rest {
            [left @ .., last] if last == "nearest" => {
                rest = left;
                Order::Near
            }
            [left @ .., last] if last == "rr" => {
                rest = left;
                Order::One
            }
            _ => Order::All,
        };
        let port = match rest {
            [] => Port::Any,
            [proto] => match protocol(proto) {
                Some(proto) if has_port(&instances, Port::Named(None, proto)) => return Found::Empty,
                _ => return Found::Nothing,
            },
            [port, proto] => match (port.strip_prefix('_'), protocol(proto)) {
                (Some(port), Some(proto)) if has_port(&instances, Port::Named(Some(port), proto)) => {
                    Port::Named(Some(port), proto)
                }
                _ => return Found::Nothing,
            },
            _ => return Found::Nothing,
        };
        let instances = instances.into_iter().map(|instance| (held, instance)).collect();
        Found::Service(Asked { instances, port, order, subject })
    }

    /// A node's label, by its key in any case.
    pub(crate) fn label(&self, node: NodeId, key: &str) -> Option<&str> {
        let labels = &self.nodes.get(&node)?.labels;
        let exact = labels.get(key).map(String::as_str);
        exact.or_else(|| labels.iter().find(|(held, _)| held.eq_ignore_ascii_case(key)).map(|(_, value)| &**value))
    }
}

/// True if an instance has such a port, or if there is none that could tell: which ports a service has, its instances say.
fn has_port(instances: &[&Instance], port: Port<'_>) -> bool {
    instances.is_empty() || instances.iter().any(|instance| instance.ports.iter().any(|held| port.fits(held)))
}

/// `_tcp` or `_udp`, without its sign.
fn protocol(label: &str) -> Option<&str> {
    label.strip_prefix('_').filter(|name| matches!(*name, "tcp" | "udp"))
}
