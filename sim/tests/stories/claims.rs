//! Who runs what: room, surplus, and scaling down.

use dunlin_sim::story::{Crash, Cut, Same, Start, Story};

stories! {
    /// Two hosts take over the same replicas behind a cut. When it heals, one of each pair must yield.
    of_two_owners_one_yields fails_with NeitherYields {
        Story::flock(4)
            .seed(3)
            .service("{name: web, replicas: 4}")
            .at("5s").deploy([0])
            .at("15s").cut(Cut::Apart, [2, 3])
            .at("60s")
            .settle("120s", [0, 1, 2, 3])
    }

    /// A host that is full by one unit takes one more.
    room_is_exact fails_with RoomOffByOne {
        Story::flock(2)
            .seed(2)
            .start(Start::Joined)
            .capacity(4_000, 8_192)
            .service("{name: web, replicas: 1}")
            .service("{name: db, replicas: 2, ready: 0s, stop: 1s, cpu-milli: 1000, memory: 256MiB}")
            .service("{name: queue, replicas: 2, start: 5ms, ready: 2s, stop: 1s, cpu-milli: 1000, memory: 32MiB}")
            .at("1s").deploy([1])
            .at("1100ms")
            .settle("120s", [0])
    }

    /// What is stopping still uses its host: a new version that starts beside it must have room of its own.
    what_stops_still_counts fails_with StoppingNotCounted {
        Story::flock(1)
            .start(Start::Joined)
            .capacity(4_000, 8_192)
            .service("{name: web, replicas: 3, stop: 4s, cpu-milli: 1000, memory: 256MiB}")
            .at("1s").deploy([0])
            .at("5s").remove([0])
            .at("5500ms").deploy([0])
            .at("6s")
            .settle("120s", [0])
    }

    /// Three replicas become two: the third ends.
    scaling_down_ends_the_highest fails_with ScaleDownLeavesOne {
        Story::flock(2)
            .start(Start::Joined)
            .service("{name: web, replicas: 3}")
            .at("1s").deploy([1])
            .at("1100ms").scale("web", 2, [1])
            .at("1200ms")
            .settle("120s", [0])
    }

    /// A slot has claims at two old revisions, and the rollout to the third waits for want of room: one of them stays.
    of_two_old_revisions_one_yields fails_with NeitherYields {
        Story::flock(8)
            .seed(4)
            .start(Start::Joined)
            .capacity(4_000, 8_192)
            .service("{name: web, replicas: 9, start: 500ms, ready: 400ms, fail-one-in: 10, cpu-milli: 1000, memory: 256MiB}")
            .at("100ms").crash(Crash::Hosts, [2])
            .at("7875ms").deploy([3])
            .at("7975ms").deploy(Same([7]))
            .at("8075ms").cut(Cut::Apart, [0])
            .at("10574ms").deploy(Same([6]))
            .at("11574ms")
            .settle("172290ms", [7, 0])
    }
}
