//! Records over which handlers panic. Only a build that can plant bugs can swallow poison: without it these stories have nothing
//! to tell.

use dunlin_sim::story::{Crash, Start, Story, Swallowed};

stories! {
    /// Whoever reads it panics, everywhere. The record loses its meaning, agents live, and another stack is run as if nothing were.
    a_poison_costs_its_own_meaning_and_nothing_else fails_with LeftOutForgotten {
        Story::flock(6)
            .service("{name: web, replicas: 6}")
            .at("5s").poison(Swallowed::Read, [0])
            .at("10s").deploy([1])
            .at("30s").crash(Crash::Hosts, [2])
            .settle("60s", [0, 1, 3, 4, 5])
    }

    /// What panics where it is acted on hits the first two nodes. They say so, and nobody follows.
    a_first_wave_takes_the_blow fails_with WavesIgnored, WaveTroubleIgnored {
        Story::flock(12)
            .start(Start::Joined)
            .service("{name: web, replicas: 12}")
            .limits("{left-out: 2}")
            .at("1s").deploy([1])
            .at("20s").poison_in_waves(Swallowed::Act, 2, [0])
            .at("60s")
            .settle("60s", [])
    }
}
