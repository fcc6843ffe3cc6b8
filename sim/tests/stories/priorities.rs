//! What matters more gets the room of what matters less, and never that of its like.

use dunlin_sim::story::{Crash, Start, Story};

stories! {
    /// Three hosts are full of what matters less when one more of what matters is wanted.
    what_matters_less_makes_way fails_with PreemptionForgotten {
        Story::flock(3)
            .start(Start::Running)
            .capacity(4_000, 8_192)
            .service("{name: bulk, replicas: 9, cpu-milli: 1000, stop: 1s}")
            .service("{name: web, replicas: 0, priority: 5, cpu-milli: 3000}")
            .at("5s").scale("web", 1, [2])
            .settle("20s", [])
    }

    /// Both want the last room, and neither matters more: who has it keeps it.
    nothing_is_ended_for_its_like fails_with PreemptsItsLike {
        Story::flock(4)
            .start(Start::Running)
            .capacity(4_000, 8_192)
            .service("{name: bulk, replicas: 4, priority: 5, cpu-milli: 3000, start: 2s, ready: 3s, stop: 1s}")
            .service("{name: web, replicas: 0, priority: 5, cpu-milli: 3000, start: 2s, ready: 3s, stop: 1s}")
            .at("5s").scale("web", 4, [0])
            .settle("30s", [])
    }

    /// A host goes, and what mattered most there ends what matters less elsewhere, which waits; then the host is back.
    a_lost_host_costs_the_least_important fails_with PreemptionForgotten {
        Story::flock(3)
            .start(Start::Running)
            .capacity(4_000, 8_192)
            .service("{name: db, replicas: 3, priority: 9, cpu-milli: 2000}")
            .service("{name: web, replicas: 3, priority: 3, cpu-milli: 1500, stop: 3s}")
            .at("5s").crash(Crash::Hosts, [1])
            .settle("60s", [0, 2])
    }

    /// One plan takes what room there is for one replica, and finds none for the next: that one is looked at again, though
    /// nothing else happens.
    what_a_plan_left_out_is_looked_at_again fails_with PreemptionForgotten {
        Story::flock(2)
            .start(Start::Running)
            .capacity(4_000, 8_192)
            .service("{name: web, replicas: 4, priority: 9, cpu-milli: 1000}")
            .service("{name: db, replicas: 8, priority: 3, cpu-milli: 50}")
            .at("5s").crash(Crash::Hosts, [1])
            .settle("60s", [0])
    }
}
