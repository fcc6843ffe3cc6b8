//! P2: an acknowledged change is kept. Of all acknowledged writes to a service the newest, or one that supersedes it, is in
//! force on every node that runs. A write that nobody acknowledged may be in force too: that is no loss.

use dunlin_gossip::model::ServiceKey;

use super::Broken;
use crate::inside;
use crate::operator::Promise;
use crate::workload::Behaviour;
use crate::world::World;

/// At the end.
pub(super) fn check(world: &World) -> Result<(), Broken> {
    let broken = |detail| Err(Broken { invariant: "p2-durability", detail });
    let last_removal = world.operator.promises.iter().filter(|p| p.wrote.is_empty()).map(|p| p.hlc).max();
    // Two writes of one millisecond at two nodes may bear one stamp; then the author decides, and either may be in force.
    let wrote_it = |promise: &Promise, key: &ServiceKey, version| {
        let twins = world.operator.promises.iter().filter(|p| p.hlc == promise.hlc);
        twins.filter_map(|twin| twin.wrote.get(key)).any(|wrote| wrote.version.is_none_or(|written| written == version))
    };
    for promise in &world.operator.promises {
        for key in promise.wrote.keys().filter(|_| last_removal.is_none_or(|hlc| hlc < promise.hlc)) {
            for host in &world.hosts {
                let Some(node) = host.node.as_ref() else { continue };
                let place = format!("{key}, acknowledged by host {} with stamp {}", promise.by, promise.hlc);
                let Some((hlc, service)) = inside::service(node, key) else {
                    return broken(format!("host {} has lost {place}", host.no));
                };
                let version = Behaviour::of(&service.spec.workload).version;
                if hlc < promise.hlc || (hlc == promise.hlc && !wrote_it(promise, key, version)) {
                    return broken(format!(
                        "host {} has stamp {hlc} (version {version}) in force over {place}",
                        host.no
                    ));
                }
            }
        }
    }
    Ok(())
}
