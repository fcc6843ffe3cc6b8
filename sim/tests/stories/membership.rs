//! Who is alive, and who finds whom again.

use dunlin_sim::story::Story;

stories! {
    /// A node is silent for good. Suspicion must end by itself, or its replica is never taken over.
    suspicion_ends_in_down fails_with SuspicionTimerLost {
        Story::flock(2)
            .seed(3)
            .service("{name: web, replicas: 1}")
            .at("5s").deploy([0])
            .at("13s")
            .settle("120s", [0])
    }

    /// What went missing on the way is missing until roots are compared.
    what_a_push_missed_is_fetched fails_with SyncSkipped {
        Story::flock(2)
            .seed(3003)
            .at("100ms")
            .settle("120s", [1, 0])
    }
}
