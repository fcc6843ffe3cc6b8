//! Work that runs to completion: it is done, and what is done is not done again.

use dunlin_sim::story::{Crash, DiskFate, Start, Story};

stories! {
    /// The hosts that worked off a job go for good, and are forgotten: what they did stays done.
    what_is_done_outlives_who_did_it fails_with EndUntold {
        Story::flock(6)
            .start(Start::Joined)
            .forget("600s")
            .service("{name: sum, replicas: 8, finish-after: 2s}")
            .limits("{reruns: 0}")
            .at("5s").deploy([0])
            .at("30s").crash(Crash::Hosts, [4, 5])
            .at("1000s")
            .settle("120s", [0, 1, 2, 3])
    }

    /// Two slots at a time, while the host of one of them dies in the middle of its work, and an agent starts anew.
    slots_wait_for_their_turn fails_with JobAllAtOnce {
        Story::flock(5)
            .start(Start::Joined)
            .service("{name: sum, replicas: 9, finish-after: 3s, parallelism: 2}")
            .limits("{crowded: 0}")
            .at("5s").deploy([0])
            .at("9s").crash(Crash::Hosts, [4])
            .at("12s").crash(Crash::Agents, [1])
            .at("13s").restart(DiskFate::Kept, [1])
            .at("60s")
            .settle("120s", [0, 1, 2, 3])
    }
}
