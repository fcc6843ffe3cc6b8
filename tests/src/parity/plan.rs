//! From a scenario's timeline to what is done to real agents, and to which of them. A step that real agents are not driven
//! through is refused by its name, before anything starts.

use std::time::Duration;

use dunlin_sim::Conditions;
use dunlin_sim::scenario::{Action, Count, Crash, Cut, DiskFate, Files, Scenario, Spoil, Target};

/// One thing that is done to a real flock. Hosts are numbered from 0.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Deed {
    /// All services are deployed at each of these nodes at the same moment.
    Deploy {
        /// Where.
        at: Vec<usize>,
        /// True if all deploy the same version, else each one of its own.
        same: bool,
    },
    /// A service gets another number of replicas.
    Scale {
        /// Which.
        service: String,
        /// How many.
        replicas: u32,
    },
    /// The stack is removed.
    Remove,
    /// Agents are killed; what they started runs on.
    CrashAgents(Vec<usize>),
    /// Hosts fall silent, and everything on them is killed.
    CrashHosts(Vec<usize>),
    /// The same to so many hosts on which something runs: the death of an idle one shows little.
    CrashBusyHosts(usize),
    /// So many workloads are killed.
    KillProcesses(u32),
    /// Whatever is dead starts again.
    Restart,
    /// Agents stand still.
    Pause(Vec<usize>, Duration),
    /// Hosts are cut off from the others.
    Partition(Vec<usize>),
    /// Nothing gets out of these hosts.
    Mute(Vec<usize>),
    /// The network is whole again.
    Heal,
    /// The network's conditions change.
    Network(Conditions),
}

/// A deed and its moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// When, from the beginning.
    pub at: Duration,
    /// What.
    pub deed: Deed,
}

/// What is done to so many hosts, in order.
///
/// # Errors
/// Names the first step that real agents are not driven through.
pub fn plan(scenario: &Scenario, hosts: usize) -> Result<Vec<Step>, String> {
    let step = |step: &dunlin_sim::scenario::Step| {
        let at = Duration::from_nanos(step.at);
        let deed = deed(&step.action, hosts).map_err(|why| format!("{}: at {at:?}: {why}", scenario.name))?;
        Ok(Step { at, deed })
    };
    scenario.timeline.iter().map(step).collect()
}

fn deed(action: &Action, hosts: usize) -> Result<Deed, String> {
    let among = |count: &Count| count.among(u32::try_from(hosts).unwrap_or(u32::MAX));
    let last = |target: &Target| last(target, hosts);
    Ok(match action {
        Action::Deploy { at, files } => Deed::Deploy { at: operators(at, hosts)?, same: *files == Files::Same },
        Action::Scale { service, replicas, at: _ } => {
            Deed::Scale { service: service.clone(), replicas: among(replicas) }
        }
        Action::Remove { at: _ } => Deed::Remove,
        Action::Crash { what: Crash::Agents, hosts: target } => match target {
            Target::Count(count) if among(count) as usize >= hosts => Deed::CrashAgents((0..hosts).collect()),
            _ => Deed::CrashAgents(last(target)?),
        },
        Action::Crash { what: Crash::Hosts, hosts } => match (hosts, last(hosts)?) {
            (Target::Count(_), drawn) => Deed::CrashBusyHosts(drawn.len()),
            (_, named) => Deed::CrashHosts(named),
        },
        Action::Crash { what: Crash::Processes, hosts: Target::Count(count) } => Deed::KillProcesses(among(count)),
        Action::Restart { hosts: None, disk: DiskFate::Kept, version: None } => Deed::Restart,
        Action::Spoil { how: Spoil::Pause(time), hosts } => Deed::Pause(last(hosts)?, Duration::from_nanos(*time)),
        Action::Cut { how: Cut::Apart, hosts } => Deed::Partition(last(hosts)?),
        Action::Cut { how: Cut::Mute, hosts } => Deed::Mute(last(hosts)?),
        Action::Heal(None) => Deed::Heal,
        Action::Network(conditions) => Deed::Network(conditions.clone()),
        // A scenario learns new faults before the harness does.
        other => {
            return Err(format!("real agents are not driven through `{}` in this form: {other:?}", other.word()));
        }
    })
}

/// The hosts that a target names, or the last so many: never the first, at which the harness asks.
fn last(target: &Target, hosts: usize) -> Result<Vec<usize>, String> {
    let wanted = match target {
        Target::Count(count) => count.among(u32::try_from(hosts).unwrap_or(u32::MAX)) as usize,
        Target::Hosts(named) => {
            let named: Vec<usize> = named.iter().map(|n| *n as usize).filter(|n| *n < hosts).collect();
            return if named.is_empty() { Err("none of those hosts is there".to_owned()) } else { Ok(named) };
        }
        Target::Zone(zone) => return Err(format!("real hosts have no zones, such as {zone}")),
    };
    let first = hosts.saturating_sub(wanted).max(1);
    if first < hosts { Ok((first..hosts).collect()) } else { Err(format!("of {hosts} hosts none is left for it")) }
}

/// Where operators write: one at the first host, several at both ends, so that both sides of a cut write.
fn operators(target: &Target, hosts: usize) -> Result<Vec<usize>, String> {
    let Target::Count(count) = target else { return last(target, hosts) };
    let writers = count.among(u32::try_from(hosts).unwrap_or(u32::MAX)) as usize;
    let at = |w: usize| if w.is_multiple_of(2) { w / 2 } else { hosts.saturating_sub(1 + w / 2) };
    Ok((0..writers.min(hosts)).map(at).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin_sim::cli::load;

    #[test]
    fn the_first_host_is_never_drawn_and_writers_are_on_both_sides() {
        assert_eq!(last(&Target::Count(Count::Percent(33)), 20), Ok((14..20).collect()));
        assert_eq!(last(&Target::Count(Count::PerHost(1)), 3), Ok(vec![1, 2]));
        assert_eq!(last(&Target::Hosts(vec![0, 7]), 3), Ok(vec![0]));
        assert!(last(&Target::ONE, 1).is_err());
        assert_eq!(operators(&Target::Count(Count::Fixed(3)), 20), Ok(vec![0, 19, 1]));
    }

    #[test]
    fn a_step_that_cannot_be_done_is_refused_by_name() {
        let error = plan(&load("stale-disk").expect("built in"), 5).expect_err("it saves disks");
        assert!(error.contains("stale-disk") && error.contains("save-disks"), "{error}");
        assert_eq!(plan(&load("kill-one").expect("built in"), 5).map(|steps| steps.len()), Ok(2));
    }
}
