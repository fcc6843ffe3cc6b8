//! Deploys whose first wave is on, and how they stand.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use dunlin_gossip::face::MemberState;
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{Allocation, Outcome, ReplicaKey, StackName};

use super::node_name;
use super::rows::{WaveNodeRow, WaveRow};
use crate::engine::Node;
use crate::wave;

/// A stack's wave, if one is on.
pub(super) fn wave_row(node: &Node, stack: &StackName) -> Option<WaveRow> {
    let view = node.view();
    let wave = view.wave(stack)?;
    let mut stays = false;
    let mut words = Vec::new();
    let mut nodes = Vec::new();
    for first in &wave.nodes {
        let said = node.wave_outcome(stack, wave, *first);
        let is_there = view.nodes().get(first).and_then(|known| known.state);
        let (state, words_of) = match (said, is_there) {
            (Some(Outcome::Restarted), _) => ("restarted", wave::word(Outcome::Restarted)),
            (Some(Outcome::LeftOut), _) => ("left-out", wave::word(Outcome::LeftOut)),
            (Some(Outcome::Refused), _) => ("refused", wave::word(Outcome::Refused)),
            (_, Some(MemberState::Suspect)) => ("suspect", "it does not answer right now"),
            (_, Some(MemberState::Down)) => ("down", "it is down"),
            (_, Some(MemberState::Left) | None) => ("left", "it is gone"),
            (Some(Outcome::Well), Some(MemberState::Alive)) => ("well", wave::word(Outcome::Well)),
            (None, Some(MemberState::Alive)) => ("acting", "not well for long enough yet"),
        };
        stays |= matches!(state, "restarted" | "left-out" | "refused" | "left");
        let name = node_name(node, *first);
        words.push(alloc::format!("{name}: {words_of}"));
        nodes.push(WaveNodeRow { node: name, state });
    }
    let end =
        if stays { "; the others stay at the deploy before until you deploy again, or with --activate" } else { "" };
    let text = alloc::format!("first wave of stack {stack} on {}{end}", words.join(", "));
    let wait_ms = u64::try_from(wave.wait.as_millis()).unwrap_or(u64::MAX);
    Some(WaveRow { deployed: wave.deployed.0, wait_ms, nodes, stays, text })
}

/// The same in a sentence.
pub(super) fn wave_text(node: &Node, stack: &StackName) -> String {
    wave_row(node, stack).map(|row| row.text).unwrap_or_default()
}

/// Why an allocation keeps its revision, if a wave is the reason.
pub(super) fn stays(node: &Node, at: NodeId, alloc: &Allocation) -> String {
    let wave = node.view().wave(&alloc.replica.service.stack).filter(|wave| !wave.nodes.contains(&at));
    wave.map_or_else(String::new, |_| "its node follows once the stack's first wave has gone well".to_string())
}

/// What a replica waits for that nodes could take.
pub(super) fn about_to_be(node: &Node, replica: &ReplicaKey) -> String {
    let is_new = node.view().acted_wave(&replica.service.stack).is_some() && !node.view().was_wanted(replica);
    let word = if is_new { "waits for the end of the stack's first wave" } else { "about to be claimed" };
    word.to_string()
}
