//! Rules about who else is there: replicas for each node, near and far, evenly over a label. They depend on what runs
//! elsewhere, hence are counted anew for each plan and kept up with what the plan gives away.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use dunlin_gossip::model::{Affinity, Placing, ServiceKey};

use super::filter::{Candidate, Misfit};

/// How many replicas of a service are on nodes with each value of a label.
#[derive(Clone, Debug)]
struct Count {
    service: ServiceKey,
    label: String,
    values: BTreeMap<String, u32>,
}

/// What a specification's rules need to know of the rest of the flock.
#[derive(Clone, Debug)]
pub(super) struct Company<'a> {
    placing: &'a Placing,
    own: ServiceKey,
    counts: Vec<Count>,
    /// How many of each service that an affinity names there are at all.
    totals: BTreeMap<ServiceKey, u32>,
    /// Of each label with a limit of unevenness: the values that nodes have which could run it.
    values: BTreeMap<String, BTreeSet<String>>,
}

/// How welcome a replica is on a node; smaller is better.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(super) struct Welcome {
    /// The weights of the wishes that are not met.
    pub(super) unmet: u64,
    /// How many of the service are at the same values of the labels over which it spreads.
    pub(super) crowd: u64,
}

/// True if a specification has rules about others.
pub(super) fn has_rules(placing: &Placing) -> bool {
    placing.max_per_node.is_some()
        || !placing.spread.is_empty()
        || !placing.affinities.is_empty()
        || !placing.skews.is_empty()
}

fn label<'a>(candidate: &'a Candidate<'_>, label: &str) -> Option<&'a str> {
    candidate.header.labels.get(label).map(String::as_str)
}

impl<'a> Company<'a> {
    /// Counts. `suits` says of each candidate by its index whether the replica could be there but for these rules.
    pub(super) fn new(
        placing: &'a Placing,
        own: &ServiceKey,
        nodes: &[Candidate<'_>],
        suits: impl Fn(usize) -> bool,
    ) -> Self {
        let near = placing.affinities.iter().filter_map(|a| Some((a.meant(&own.stack), a.label.clone()?)));
        let even = placing.skews.iter().map(|skew| &skew.label).chain(&placing.spread);
        let mut wanted: Vec<(ServiceKey, String)> = near.chain(even.map(|l| (own.clone(), l.clone()))).collect();
        wanted.sort();
        wanted.dedup();
        let count = |(service, name): (ServiceKey, String)| {
            let mut values = BTreeMap::new();
            for candidate in nodes {
                let here = candidate.has_of(&service);
                if here > 0 {
                    *values.entry(label(candidate, &name).unwrap_or_default().to_string()).or_default() += here;
                }
            }
            Count { service, label: name, values }
        };
        let total = |service: ServiceKey| {
            let all = nodes.iter().map(|candidate| candidate.has_of(&service)).sum();
            (service, all)
        };
        let totals = placing.affinities.iter().map(|a| total(a.meant(&own.stack)));
        let values = placing.skews.iter().map(|skew| {
            let of = nodes.iter().enumerate().filter(|(index, _)| suits(*index));
            let of = of.filter_map(|(_, c)| label(c, &skew.label));
            (skew.label.clone(), of.map(ToString::to_string).collect())
        });
        Self {
            placing,
            own: own.clone(),
            totals: totals.collect(),
            values: values.collect(),
            counts: wanted.into_iter().map(count).collect(),
        }
    }

    /// A replica of this service goes to this candidate.
    pub(super) fn take(&mut self, candidate: &Candidate<'_>, service: &ServiceKey) {
        for count in self.counts.iter_mut().filter(|count| count.service == *service) {
            let value = label(candidate, &count.label).unwrap_or_default().to_string();
            *count.values.entry(value).or_default() += 1;
        }
        if let Some(total) = self.totals.get_mut(service) {
            *total += 1;
        }
    }

    /// One that ran on this candidate leaves it.
    pub(super) fn leave(&mut self, candidate: &Candidate<'_>, service: &ServiceKey) {
        for count in self.counts.iter_mut().filter(|count| count.service == *service) {
            let value = label(candidate, &count.label).unwrap_or_default();
            count.values.get_mut(value).into_iter().for_each(|count| *count = count.saturating_sub(1));
        }
        self.totals.get_mut(service).into_iter().for_each(|total| *total = total.saturating_sub(1));
    }

    fn at(&self, service: &ServiceKey, name: &str, value: &str) -> u32 {
        let count = self.counts.iter().find(|count| count.service == *service && count.label == name);
        count.and_then(|count| count.values.get(value)).copied().unwrap_or(0)
    }

    /// How many of a service are at one place with a candidate. A node without the label shares its value with nobody.
    fn near(
        &self,
        (affinity, service): (&Affinity, &ServiceKey),
        candidate: &Candidate<'_>,
        here: &impl Fn(&ServiceKey) -> u32,
    ) -> u32 {
        let value = affinity.label.as_ref().and_then(|name| Some((name, label(candidate, name)?)));
        value.map_or_else(|| here(service), |(name, value)| self.at(service, name, value))
    }

    /// How welcome a replica is on a candidate, which has `here` of each service; or why it may not be there.
    pub(super) fn welcome(
        &self,
        candidate: &Candidate<'_>,
        here: impl Fn(&ServiceKey) -> u32,
    ) -> Result<Welcome, Misfit> {
        if let Some(most) = self.placing.max_per_node
            && here(&self.own) >= most
        {
            return Err(Misfit::NodeHasEnough(most));
        }
        for skew in &self.placing.skews {
            let value = label(candidate, &skew.label).ok_or_else(|| Misfit::NoLabel(skew.label.clone()))?;
            let values = self.values.get(&skew.label);
            let least = values.into_iter().flatten().map(|v| self.at(&self.own, &skew.label, v)).min().unwrap_or(0);
            if self.at(&self.own, &skew.label, value) + 1 - least.min(self.at(&self.own, &skew.label, value))
                > skew.most
            {
                return Err(Misfit::TooUneven(skew.label.clone(), value.to_string()));
            }
        }
        let mut welcome = Welcome::default();
        for affinity in &self.placing.affinities {
            let service = affinity.meant(&self.own.stack);
            let near = self.near((affinity, &service), candidate, &here);
            // The first replica of a service that wants to be near its own kind has nobody to be near to.
            let is_first = service == self.own && self.totals.get(&self.own) == Some(&0);
            let is_met = if affinity.anti { near == 0 } else { near > 0 || is_first };
            match affinity.weight {
                _ if is_met => {}
                None if affinity.anti => return Err(Misfit::TooNear(service)),
                None => return Err(Misfit::TooFar(service)),
                Some(weight) => {
                    welcome.unmet += u64::from(weight) * u64::from(if affinity.anti { near.min(1_000) } else { 1 });
                }
            }
        }
        for name in self.placing.spread.iter().take(MAX_SPREAD) {
            let value = label(candidate, name).unwrap_or_default();
            welcome.crowd = (welcome.crowd << 20) + u64::from(self.at(&self.own, name, value).min((1 << 20) - 1));
        }
        Ok(welcome)
    }
}

/// Labels over which one service can spread.
pub const MAX_SPREAD: usize = 3;
