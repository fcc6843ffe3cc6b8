//! What stands at a name, for people: all its records at once, and the service that it leads to.

use alloc::string::String;
use alloc::vec::Vec;

use crate::answer::{Record, TYPES, Wanted};
use crate::find::Found;
use crate::name::{Fqdn, address_of_reverse};
use crate::zone::Zone;

/// Whether a name exists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It exists, with or without records.
    Exists,
    /// NXDOMAIN.
    Nothing,
    /// It lies outside: it is forwarded, or REFUSED.
    NotOurs,
}

impl Zone {
    /// Whether a name exists, and all its records, each type in order.
    #[must_use]
    pub fn describe(&self, name: &Fqdn) -> (Standing, Vec<Record>) {
        let Some(labels) = name.within(&self.origin) else {
            let names = address_of_reverse(name).map(|address| self.names_of(address)).unwrap_or_default();
            let records: Vec<Record> =
                names.into_iter().map(|target| self.record(name, crate::Data::Ptr(target))).collect();
            return (if records.is_empty() { Standing::NotOurs } else { Standing::Exists }, records);
        };
        let found = self.find(labels);
        let of = |wanted: &Wanted| self.records(name, &found, *wanted).0;
        match found {
            Found::Nothing => (Standing::Nothing, Vec::new()),
            _ => (Standing::Exists, TYPES.iter().flat_map(of).collect()),
        }
    }

    /// The service that a name leads to, or would lead to if it had instances: its name and its stack's, case-folded.
    #[must_use]
    pub fn service_of(&self, name: &Fqdn) -> Option<(String, String)> {
        let labels = name.within(&self.origin)?;
        let pairs = labels.windows(2).rev().filter_map(|pair| match pair {
            [service, stack] => self.service(service, stack),
            _ => None,
        });
        let by_protocol = || match labels {
            [service, _, stack] => self.service(service.strip_prefix('_')?, stack),
            _ => None,
        };
        let held = pairs.into_iter().next().or_else(by_protocol)?;
        Some((String::from(held.service()), String::from(held.stack())))
    }

    /// A name as people type it: what does not end with a dot and lies outside is meant within the zone.
    #[must_use]
    pub fn typed(&self, text: &str) -> Fqdn {
        let name = Fqdn::parse(text);
        let is_whole =
            text.ends_with('.') || name.within(&self.origin).is_some() || address_of_reverse(&name).is_some();
        if is_whole {
            return name;
        }
        let labels: Vec<&str> = name.labels().iter().map(String::as_str).collect();
        self.origin.prefixed(&labels)
    }
}
