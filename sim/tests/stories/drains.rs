//! Hosts that are emptied: what runs there is ready elsewhere first, as long as there is an elsewhere.

use dunlin_sim::story::{Crash, Order, Start, Story, ms};

stories! {
    /// Three replicas, each slow to become ready, leave their hosts one after the other.
    what_leaves_is_ready_elsewhere_first fails_with DrainedAtOnce {
        Story::flock(5)
            .start(Start::Running)
            .limits("{drain-losses: 0}")
            .service("{name: web, replicas: 5, ready: 3s, stop: 2s}")
            .at("5s").order(Order::Drain(None), [0, 1, 2])
            .settle("60s", [])
    }

    /// Whoever takes over has the younger claim, and was never ready. It must not give way to the host that is drained.
    who_takes_over_does_not_give_way fails_with DrainedStays {
        Story::flock(2)
            .seed(2)
            .start(Start::Running)
            .service("{name: web, replicas: 1, ready: 1s}")
            .at("5s").order(Order::Drain(None), [0, 1])
            .at("6s").order(Order::Undrain, [1])
            .settle("8s", [])
    }

    /// What fits nowhere else stays until the deadline, and then stops all the same.
    a_deadline_ends_what_has_no_room fails_with DeadlineForgotten {
        Story::flock(3)
            .start(Start::Running)
            .capacity(4_000, 8_192)
            .service("{name: web, replicas: 3, cpu-milli: 3000}")
            .at("5s").order(Order::Drain(Some(ms(20_000))), [1])
            .settle("20s", [])
    }

    /// The first that takes over dies while it starts what it took.
    a_successor_dies_on_the_way fails_with DrainedAtOnce {
        Story::flock(4)
            .seed(4)
            .start(Start::Running)
            .limits("{drain-losses: 0}")
            .service("{name: web, replicas: 4, ready: 8s}")
            .at("5s").order(Order::Drain(None), [0])
            .at("8s").crash(Crash::Hosts, [1])
            .settle("90s", [])
    }

    /// Who took over is drained as well before it is ready: what it took goes on, or stays where it was until it can.
    two_drains_at_once fails_with DrainedAtOnce {
        Story::flock(5)
            .seed(2)
            .start(Start::Running)
            .limits("{drain-losses: 0}")
            .service("{name: web, replicas: 5, ready: 6s, stop: 1s}")
            .service("{name: db, replicas: 2, ready: 1s}")
            .at("5s").order(Order::Drain(None), [0])
            .at("7s").order(Order::Drain(None), [1, 2])
            .settle("120s", [])
    }

    /// A drain is taken back while a successor starts: of the two one stays.
    a_drain_is_taken_back_in_the_middle fails_with NeitherYields {
        Story::flock(3)
            .start(Start::Running)
            .limits("{drain-losses: 0}")
            .service("{name: web, replicas: 3, ready: 20s}")
            .at("5s").order(Order::Drain(None), [0, 1])
            .at("12s").order(Order::Undrain, [0, 1])
            .settle("60s", [])
    }

    /// Two hosts are drained, and one of them is cut off before what it ran is ready elsewhere: the other's turn comes all
    /// the same.
    a_drain_does_not_wait_for_who_is_gone fails_with DrainedStays {
        Story::flock(3)
            .seed(1)
            .capacity(4000, 8192)
            .service("{name: web, replicas: 3, rollout: {parallelism: 0, delay: 500ms, order: start-first, on-failure: rollback}}")
            .at("1s").deploy([2])
            .at("12s").order(Order::Drain(None), [0, 1])
            .at("12s")
            .settle("145s", [2, 1])
    }
}
