//! One at most: what would let two processes of a replica run at the same moment, and what a majority goes through.

use dunlin_sim::story::{Crash, Cut, DiskFate, Spoil, Start, Story};

/// Short enough for an agent not to stop at once what it runs when it goes on.
const STALL: u64 = 4_500_000_000;

stories! {
    /// The owner is cut off with its agent dead: only its keeper can end what it runs.
    the_keeper_kills_what_its_agent_cannot fails_with KeeperUntold {
        Story::flock(5)
            .start(Start::Joined)
            .clocks(0, 9_900)
            .service("{name: db, replicas: 5, partition: majority}")
            .at("11s").deploy([0])
            .at("40s").crash(Crash::Agents, [1, 2])
            .at("90s").restart(DiskFate::Kept, [1, 2])
            .at("92s")
            .settle("60s", [0, 1, 2, 3, 4])
    }

    /// An owner's agent dies, and right after it voters are started again: they do not know to whom they granted.
    a_booted_voter_waits_for_a_lease fails_with BootedVoterGrants {
        Story::flock(5)
            .start(Start::Joined)
            .clocks(0, 9_900)
            .service("{name: db, replicas: 10, partition: majority}")
            .at("11s").deploy([0])
            .at("40s").crash(Crash::Agents, [0])
            .at("40200ms").crash(Crash::Agents, [1, 2, 3])
            .at("40500ms").restart(DiskFate::Kept, [1, 2, 3])
            .at("70s").restart(DiskFate::Kept, [0])
            .at("72s")
            .settle("60s", [0, 1, 2, 3, 4])
    }

    /// A flock falls apart while voters on one side have granted to owners on the other.
    a_grant_keeps_others_out fails_with GrantOverwritten {
        Story::flock(7)
            .start(Start::Joined)
            .clocks(0, 9_900)
            .service("{name: db, replicas: 7, partition: majority}")
            .at("11s").deploy([0])
            .at("40s").cut(Cut::Apart, [0, 1, 2])
            .at("80s").heal([])
            .settle("60s", [0, 1, 2, 3, 4, 5, 6])
    }

    /// A flock falls apart, and each part holds the others for gone.
    voters_are_asked_before_they_are_replaced fails_with VotersUnasked {
        Story::flock(6)
            .start(Start::Joined)
            .clocks(0, 9_900)
            .service("{name: db, replicas: 6, partition: majority}")
            .at("11s").deploy([0])
            .at("40s").cut(Cut::Apart, [0, 1])
            .at("160s").heal([])
            .settle("90s", [0, 1, 2, 3, 4, 5])
    }

    /// An owner stands still with answers on their way to it, and nothing leaves it when it goes on.
    a_lease_counts_from_its_request fails_with LeaseFromReply {
        Story::flock(7)
            .start(Start::Joined)
            .clocks(0, 9_900)
            .network("{latency: [400ms, 450ms]}")
            .service("{name: db, replicas: 14, partition: majority}")
            .at("11s").deploy([0])
            .at("60s").spoil(Spoil::Pause(STALL), [0])
            .at("60500ms").spoil(Spoil::Pause(STALL), [1])
            .at("61s").spoil(Spoil::Pause(STALL), [2])
            .at("62s").cut(Cut::Mute, [0, 1, 2])
            .at("64550ms").crash(Crash::Agents, [0])
            .at("64600ms").heal([0])
            .at("65050ms").crash(Crash::Agents, [1])
            .at("65100ms").heal([1])
            .at("65550ms").crash(Crash::Agents, [2])
            .at("65600ms").heal([2])
            .at("91s").restart(DiskFate::Kept, [0, 1, 2])
            .at("92s")
            .settle("90s", [0, 1, 2, 3, 4, 5, 6])
    }
}
