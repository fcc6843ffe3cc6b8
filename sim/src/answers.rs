//! What a host's names answer with, service by service, and a digest of it, so that "everyone answers with exactly what is
//! ready" costs one comparison a host. It must never ask a core: it is what the core has told.

use std::collections::BTreeMap;

use dunlin_gossip::hash::{hash64, mix};
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{ReplicaKey, ServiceKey, Slot};
use dunlin_gossip::paged::Paged;

/// An instance, as names tell it.
pub(crate) type Place = (Slot, NodeId);

/// The answers of one host.
#[derive(Clone, Default, Debug)]
pub(crate) struct Answers {
    services: BTreeMap<ServiceKey, Paged<Place, ()>>,
    digest: u64,
}

impl Answers {
    /// The service is known, with these instances and no others.
    pub(crate) fn set(&mut self, service: &ServiceKey, places: Paged<Place, ()>) {
        self.remove(service);
        places.keys().for_each(|place| self.digest = self.digest.wrapping_add(weigh(service, *place)));
        self.services.insert(service.clone(), places);
    }

    /// Some places of a known service changed: those listed second are answered with, the others of the first are not.
    /// False if the service is unknown.
    pub(crate) fn change(
        &mut self,
        service: &ServiceKey,
        about: &[Place],
        present: impl Iterator<Item = Place>,
    ) -> bool {
        let Some(places) = self.services.get_mut(service) else { return false };
        for place in about {
            if places.remove(place).is_some() {
                self.digest = self.digest.wrapping_sub(weigh(service, *place));
            }
        }
        for place in present {
            if places.insert(place, ()).is_none() {
                self.digest = self.digest.wrapping_add(weigh(service, place));
            }
        }
        true
    }

    /// The service is unknown from now on.
    pub(crate) fn remove(&mut self, service: &ServiceKey) {
        for place in self.services.remove(service).unwrap_or_default().keys() {
            self.digest = self.digest.wrapping_sub(weigh(service, *place));
        }
    }

    /// Nobody answers any more.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The instances of a service, in order.
    pub(crate) fn of(&self, service: &ServiceKey) -> Option<&Paged<Place, ()>> {
        self.services.get(service)
    }

    /// The services that are known.
    pub(crate) fn services(&self) -> impl Iterator<Item = &ServiceKey> {
        self.services.keys()
    }

    /// True if that instance is answered with.
    pub(crate) fn has(&self, replica: &ReplicaKey, node: NodeId) -> bool {
        self.services.get(&replica.service).is_some_and(|places| places.contains_key(&(replica.slot, node)))
    }

    /// Equal for equal sets of instances.
    pub(crate) const fn digest(&self) -> u64 {
        self.digest
    }
}

/// The digest of such instances.
pub(crate) fn digest(instances: impl Iterator<Item = (ReplicaKey, NodeId)>) -> u64 {
    instances.fold(0, |sum, (replica, node)| sum.wrapping_add(weigh(&replica.service, (replica.slot, node))))
}

fn weigh(service: &ServiceKey, (slot, node): Place) -> u64 {
    mix(mix(hash64(service.service.as_str().as_bytes()), hash64(service.stack.as_str().as_bytes())), {
        let slot = match slot {
            Slot::Number(n) => mix(1, u64::from(n)),
            Slot::Node(on) => mix(2, on.short()),
            Slot::Run(at, n) => mix(mix(3, at), u64::from(n)),
        };
        mix(slot, node.short())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::stack;
    use dunlin_gossip::model::ServiceName;

    #[test]
    fn the_digest_is_that_of_what_is_held_however_it_came() {
        let service = ServiceKey { stack: stack(), service: ServiceName::new("web").expect("a name") };
        let place = |n: u32| (Slot::Number(n), NodeId([u8::try_from(n).expect("small"); 16]));
        let mut told = Answers::default();
        assert!(!told.change(&service, &[], [place(1)].into_iter()), "an unknown service");
        told.set(&service, Paged::new());
        assert!(told.change(&service, &[place(1), place(2)], [place(1), place(2)].into_iter()));
        assert!(told.change(&service, &[place(1), place(3)], [place(3)].into_iter()));
        let mut other = Answers::default();
        other.set(&service, [(place(2), ()), (place(3), ())].into_iter().collect());
        assert_eq!(told.digest(), other.digest());
        let key = |n| (ReplicaKey { service: service.clone(), slot: Slot::Number(n) }, place(n).1);
        assert_eq!(told.digest(), digest([key(2), key(3)].into_iter()));
        assert_ne!(told.digest(), digest([key(2)].into_iter()));
        told.remove(&service);
        assert_eq!(told.digest(), Answers::default().digest());
    }
}
