//! Two versions of the wire in one flock.

use dunlin_sim::story::{Crash, DiskFate, Order, Story, WireVersion};

stories! {
    /// A node of the next version writes what the others do not know, and is gone. They all restart, and must still hold it.
    what_nobody_understands_outlives_a_restart fails_with UnknownForgotten {
        Story::flock(4)
            .service("{name: web, replicas: 2}")
            .at("10s").crash(Crash::Agents, [0])
            .at("11s").restart_as(WireVersion::NEXT, [0])
            .at("15s").deploy([0])
            .at("20s").crash(Crash::Hosts, [0])
            .at("21s").crash(Crash::Agents, [1, 2, 3])
            .at("22s").restart(DiskFate::Kept, [1, 2, 3])
            .at("40s")
            .settle("60s", [1, 2, 3])
    }

    /// An agent goes to the next version and back. What it declared before says nothing about what it is now.
    who_went_back_is_spoken_to_as_before fails_with OldBootSpokenTo {
        Story::flock(3)
            .service("{name: web, replicas: 2}")
            .at("10s").crash(Crash::Agents, [0, 1])
            .at("11s").restart_as(WireVersion::NEXT, [0, 1])
            .at("25s").crash(Crash::Agents, [1])
            .at("26s").restart_as(WireVersion::CURRENT, [1])
            .settle("60s", [])
    }

    /// A host of the next version has cordoned a host. One of this version, which does not know all that the order says, must
    /// not take it away as empty.
    an_order_is_not_emptied_by_who_knows_half_of_it fails_with EditDropsFields {
        Story::flock(2)
            .seed(3)
            .capacity(4000, 8192)
            .faults_may_miss()
            .at("100ms").restart_as(WireVersion::NEXT, [1])
            .at("200ms").order(Order::Cordon, [0])
            .at("300ms").crash(Crash::Agents, [1])
            .at("400ms").order(Order::Uncordon, [0])
            .at("500ms")
            .settle("124120ms", [0])
    }
}
