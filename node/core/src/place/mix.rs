//! How much of a node's devices the work that is usually asked for could not use: its fragments (Weng et al., "Beware of
//! Fragmentation", USENIX ATC 2023). Placing where fragments grow least keeps room for large requests.
//!
//! What is usual is what the flock is asked to run, hence replicated knowledge and the same everywhere. Integers only.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Reverse;

use dunlin_gossip::model::{DeviceRequest, ServiceSpec, Supply};

use super::device::Units;
use super::room::Room;

/// Requests that are told apart; the rarest are left out. In the trace 64 cover more than 95 % of all.
const MAX_CLASSES: usize = 64;
/// What the weights of all classes sum up to.
const UNIT: u64 = 1 << 16;

/// What is usually asked for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Mix {
    classes: Vec<Class>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Class {
    request: DeviceRequest,
    cpu_milli: u64,
    weight: u64,
}

/// A mix in which nothing asks for devices.
pub(super) static NONE: Mix = Mix { classes: Vec::new() };

impl Mix {
    /// Of specifications and how often each is wanted.
    pub fn of<'a>(specs: impl Iterator<Item = (&'a ServiceSpec, u64)>) -> Self {
        let mut counts: BTreeMap<(&str, u32, u32, &[String], u64), u64> = BTreeMap::new();
        for (spec, times) in specs {
            for request in &spec.placing.devices {
                let DeviceRequest { kind, models, count, milli } = request;
                let key = (kind.as_str(), *count, *milli, models.as_slice(), spec.reservation.cpu_milli);
                *counts.entry(key).or_default() += times;
            }
        }
        let mut classes: Vec<_> = counts.into_iter().collect();
        classes.sort_by_key(|(key, times)| (Reverse(*times), *key));
        classes.truncate(MAX_CLASSES);
        let all: u64 = classes.iter().map(|(_, times)| *times).sum::<u64>().max(1);
        let class = |((kind, count, milli, models, cpu_milli), times): ((&str, u32, u32, &[String], u64), u64)| Class {
            request: DeviceRequest { kind: kind.into(), models: models.to_vec(), count, milli },
            cpu_milli,
            weight: (u128::from(times) * u128::from(UNIT) / u128::from(all)).try_into().unwrap_or(UNIT),
        };
        Self { classes: classes.into_iter().map(class).collect() }
    }

    /// Thousandths of devices, times 65,536, that lie idle on a node and that what is usual could not use.
    pub(super) fn fragments(&self, room: &Room, supply: &Supply, units: &Units) -> u64 {
        self.classes.iter().map(|class| class.weight * class.unusable(room, supply, units)).sum()
    }
}

impl Class {
    /// What of the idle devices of its kind it could not use: all of it where it does not fit, else the pieces that are too small.
    fn unusable(&self, room: &Room, supply: &Supply, units: &Units) -> u64 {
        let DeviceRequest { kind, models, count, milli } = &self.request;
        let (mut idle, mut small, mut able) = (0_u64, 0_u64, 0_u32);
        for (group, left) in supply.units().zip(units) {
            if group.kind != *kind {
                continue;
            }
            idle += u64::from(*left);
            let suits = models.is_empty() || models.contains(&group.model);
            if suits && left >= milli {
                able += 1;
            } else {
                small += u64::from(*left);
            }
        }
        if able < *count || room.base.cpu_milli < self.cpu_milli { idle } else { small }
    }
}
