//! Disks first, then words and deeds.

use dunlin_sim::story::{Crash, Start, Story};

stories! {
    /// An operator is told that a write is kept. It must be on the disk by then.
    an_acknowledgement_comes_after_the_disk fails_with AcknowledgedAtOnce {
        Story::flock(1)
            .start(Start::Joined)
            .at("1s").deploy([0])
            .at("1100ms")
            .settle("120s", [0])
    }

    /// What a node tells others it must not forget by a crash.
    others_hear_of_it_after_the_disk fails_with ToldBeforeDisk {
        Story::flock(1)
            .start(Start::Joined)
            .at("1s").deploy([0])
            .at("1100ms")
            .settle("120s", [0])
    }

    /// A process runs for a claim. If the claim is not in the journal, nobody knows afterwards whose process that was.
    a_claim_is_journaled_before_the_start fails_with ClaimsUnjournaled {
        Story::flock(1)
            .start(Start::Joined)
            .service("{name: web, replicas: 1}")
            .at("1s").deploy([0])
            .at("1100ms")
            .settle("120s", [0])
    }

    /// The only agent dies. The next one finds on the disk what was wanted before.
    a_boot_remembers_what_is_wanted fails_with BootForgetsDesired {
        Story::flock(1)
            .start(Start::Joined)
            .service("{name: web, replicas: 1}")
            .at("1s").deploy([0])
            .at("2s").crash(Crash::Agents, [0])
            .at("2100ms")
            .settle("120s", [0])
    }
}
