//! Which devices of a node a replica would get. Whole ones go to what asks for whole ones; a part comes from the device
//! that has the least left and still enough, so that whole ones stay whole.

use alloc::vec::Vec;

use dunlin_gossip::model::{DeviceHold, DeviceRequest, Supply, WHOLE};

/// What is left of each device of a node, by its number, in thousandths.
pub type Units = [u32];

/// All devices of a node, nothing of them taken.
#[must_use]
pub fn whole(supply: &Supply) -> Vec<u32> {
    supply.units().map(|_| WHOLE).collect()
}

/// Takes what a claim holds.
pub fn take(units: &mut Units, holds: &[DeviceHold]) {
    for hold in holds {
        if let Some(left) = usize::try_from(hold.unit).ok().and_then(|unit| units.get_mut(unit)) {
            *left = left.saturating_sub(hold.milli);
        }
    }
}

/// Gives back what a claim held.
pub fn give(units: &mut Units, holds: &[DeviceHold]) {
    for hold in holds {
        if let Some(left) = usize::try_from(hold.unit).ok().and_then(|unit| units.get_mut(unit)) {
            *left = left.saturating_add(hold.milli).min(WHOLE);
        }
    }
}

/// True if a request can be met.
pub(super) fn fits(requests: &[DeviceRequest], supply: &Supply, units: &Units) -> bool {
    match requests {
        [] => true,
        [one] => {
            let able = suiting(one, supply, units).filter(|(_, left)| *left >= one.milli).count();
            u32::try_from(able).is_ok_and(|able| able >= one.count)
        }
        many => choose(many, supply, units).is_some(),
    }
}

/// The devices that a replica would get; none if there are not enough.
#[must_use]
pub fn choose(requests: &[DeviceRequest], supply: &Supply, units: &Units) -> Option<Vec<DeviceHold>> {
    let mut holds: Vec<DeviceHold> = Vec::new();
    for request in requests {
        let taken = |unit: usize| {
            let same = holds.iter().filter(|hold| usize::try_from(hold.unit) == Ok(unit));
            same.map(|hold| hold.milli).sum::<u32>()
        };
        let left = suiting(request, supply, units).map(|(unit, left)| (left.saturating_sub(taken(unit)), unit));
        let mut able: Vec<(u32, usize)> = left.filter(|(left, _)| *left >= request.milli).collect();
        able.sort_unstable();
        let count = usize::try_from(request.count).ok()?;
        let chosen = able.get(..count)?;
        let hold = |(_, unit): &(u32, usize)| DeviceHold {
            unit: u32::try_from(*unit).unwrap_or(u32::MAX),
            milli: request.milli,
        };
        let chosen: Vec<DeviceHold> = chosen.iter().map(hold).collect();
        holds.extend(chosen);
    }
    Some(holds)
}

/// The devices of the kind and model that a request names: number, and what is left.
fn suiting<'a>(
    request: &'a DeviceRequest,
    supply: &'a Supply,
    units: &'a Units,
) -> impl Iterator<Item = (usize, u32)> + use<'a> {
    let model = |model: &str| request.models.is_empty() || request.models.iter().any(|m| m == model);
    let suits = move |(_, (group, _)): &(usize, (&dunlin_gossip::model::DeviceGroup, &u32))| {
        group.kind == request.kind && model(&group.model)
    };
    supply.units().zip(units).enumerate().filter(suits).map(|(unit, (_, left))| (unit, *left))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec;
    use dunlin_gossip::model::DeviceGroup;

    fn supply() -> Supply {
        let group = |model: &str, count| DeviceGroup { kind: "gpu".to_string(), model: model.to_string(), count };
        Supply { devices: vec![group("T4", 2), group("A10", 1)], ..Supply::default() }
    }

    fn asks(count: u32, milli: u32, models: &[&str]) -> DeviceRequest {
        let models = models.iter().map(ToString::to_string).collect();
        DeviceRequest { kind: "gpu".to_string(), models, count, milli }
    }

    #[test]
    fn a_part_comes_from_the_device_with_the_least_left() {
        let holds = choose(&[asks(1, 300, &[])], &supply(), &[1_000, 400, 350]);
        assert_eq!(holds, Some(vec![DeviceHold { unit: 2, milli: 300 }]));
        let holds = choose(&[asks(1, 300, &["T4"])], &supply(), &[1_000, 400, 350]);
        assert_eq!(holds, Some(vec![DeviceHold { unit: 1, milli: 300 }]));
    }

    #[test]
    fn whole_ones_are_whole_and_requests_do_not_share_what_is_not_there() {
        assert_eq!(choose(&[asks(2, 1_000, &[])], &supply(), &[1_000, 999, 999]), None);
        assert!(!fits(&[asks(2, 1_000, &[])], &supply(), &[1_000, 999, 999]));
        let two = [asks(1, 600, &["T4"]), asks(1, 600, &["T4"])];
        assert_eq!(choose(&two, &supply(), &[1_000, 500, 1_000]), None);
        let both = choose(&two, &supply(), &[1_000, 700, 1_000]);
        assert_eq!(both.map(|h| h.iter().map(|h| h.unit).collect::<Vec<_>>()), Some(vec![1, 0]));
        assert_eq!(
            choose(&[DeviceRequest { kind: "fpga".to_string(), ..asks(1, 1, &[]) }], &supply(), &[1_000; 3]),
            None
        );
    }
}
