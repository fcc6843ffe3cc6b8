//! What runs, and where names say that it runs.

use dunlin_sim::story::{Crash, Start, Story};

stories! {
    /// A process is killed. Its owner must believe the driver, wait a while and start it again.
    a_killed_process_is_started_again fails_with RestartTimerLost, ExitIgnored {
        Story::flock(1)
            .service("{name: web, replicas: 1}")
            .at("1s").deploy([0])
            .at("1100ms").crash(Crash::Processes, [0])
            .at("1200ms")
            .settle("120s", [0])
    }

    /// A host is gone. Whoever holds it down must not send clients there.
    the_dead_are_not_answered_with fails_with DownAnswered {
        Story::flock(2)
            .seed(3002)
            .service("{name: web, replicas: 2}")
            .at("100ms").deploy([1])
            .at("15200ms")
            .settle("120s", [0])
    }

    /// The same, where the answers had been told already: they have to be taken back.
    answers_are_taken_back fails_with StaleEndpointKept {
        Story::flock(2)
            .start(Start::Joined)
            .service("{name: web, replicas: 2}")
            .at("1s").deploy([0])
            .at("1200ms")
            .settle("120s", [1])
    }
}
