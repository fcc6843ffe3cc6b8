//! Hosts that came get their share of what runs: slowly, no more than that, and without anybody noticing.

use dunlin_sim::story::{Crash, DiskFate, Order, Start, Story};

stories! {
    /// A host dies and returns, and before it has been there for long it dies again: what it took each time it would lose.
    a_flapping_joiner_takes_nothing fails_with FlapperShares {
        Story::flock(5)
            .start(Start::Running)
            .rebalance(60)
            .limits("{shares: 0, surplus-moves: 0}")
            .service("{name: web, replicas: 20, cpu-milli: 400, memory: 800MiB}")
            .at("5s").crash(Crash::Hosts, [1])
            .at("15s").restart(DiskFate::Kept, [1])
            .at("35s").crash(Crash::Hosts, [1])
            .at("45s").restart(DiskFate::Kept, [1])
            .at("90s").crash(Crash::Hosts, [1])
            .at("100s").restart(DiskFate::Kept, [1])
            .settle("60s", [])
    }

    /// What a new host takes is slow to become ready there: until then it is served where it was.
    what_is_taken_is_ready_before_it_stops_elsewhere fails_with RelievedAtOnce {
        Story::flock(4)
            .start(Start::Running)
            .rebalance(60)
            .limits("{gaps: 0, surplus-moves: 0, unshared: 0}")
            .service("{name: web, replicas: 8, cpu-milli: 1000, ready: 3s, stop: 1s}")
            .at("5s").crash(Crash::Hosts, [1])
            .at("10s").restart(DiskFate::Lost, [1])
            .settle("80s", [])
    }

    /// A new host dies while it brings up the first that it took: nothing has changed.
    who_came_dies_on_the_way fails_with RelievedAtOnce {
        Story::flock(4)
            .start(Start::Running)
            .rebalance(60)
            .limits("{gaps: 0, abandoned: 0}")
            .service("{name: web, replicas: 8, cpu-milli: 1000, ready: 8s}")
            .at("5s").crash(Crash::Hosts, [1])
            .at("10s").restart(DiskFate::Lost, [1])
            .at("55s").crash(Crash::Hosts, [1])
            .settle("60s", [0, 2, 3])
    }

    /// A host that was emptied takes work again: it gets what it is to have, and nothing beyond.
    who_is_drained_no_more_gets_its_share fails_with ShareWithoutEnd {
        Story::flock(4)
            .start(Start::Running)
            .rebalance(60)
            .limits("{gaps: 0, surplus-moves: 0, unshared: 0}")
            .service("{name: web, replicas: 12, cpu-milli: 400, memory: 800MiB}")
            .service("{name: db, replicas: 12, cpu-milli: 200, memory: 400MiB}")
            .at("5s").order(Order::Drain(None), [1])
            .at("25s").order(Order::Undrain, [1])
            .settle("60s", [])
    }

    /// Where there was not room for all that a lost host ran, it finds some of that its own when it is back, and is due the rest.
    who_kept_a_part_gets_the_rest fails_with RelievedAtOnce {
        Story::flock(3)
            .start(Start::Running)
            .capacity(4_000, 8_192)
            .rebalance(60)
            .limits("{gaps: 0, surplus-moves: 0, unshared: 0}")
            .service("{name: web, replicas: 9, cpu-milli: 1000, ready: 2s}")
            .at("5s").crash(Crash::Hosts, [1])
            .at("25s").restart(DiskFate::Kept, [1])
            .settle("60s", [])
    }

    /// Its agent dies while it takes its share, its workloads do not: the next agent goes on, once it has been there for long enough.
    an_agent_that_starts_anew_goes_on_taking_its_share fails_with ShareForgotten {
        Story::flock(4)
            .start(Start::Running)
            .rebalance(12)
            .limits("{gaps: 0, surplus-moves: 0, unshared: 0}")
            .service("{name: web, replicas: 24, cpu-milli: 400, memory: 800MiB}")
            .at("5s").crash(Crash::Hosts, [1])
            .at("15s").restart(DiskFate::Lost, [1])
            .at("57s").crash(Crash::Agents, [1])
            .at("57500ms").restart(DiskFate::Kept, [1])
            .settle("130s", [])
    }

    /// It takes them at the pace that it is allowed.
    a_share_is_not_taken_in_one_go fails_with ShareInOneGo {
        Story::flock(4)
            .start(Start::Running)
            .rebalance(6)
            .limits("{hurried: 0, gaps: 0, surplus-moves: 0, unshared: 0}")
            .service("{name: web, replicas: 16, cpu-milli: 400, memory: 800MiB}")
            .at("5s").crash(Crash::Hosts, [1])
            .at("15s").restart(DiskFate::Lost, [1])
            .settle("120s", [])
    }
}
