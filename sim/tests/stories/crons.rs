//! Work that is done again and again: each run is done, and none again whose end is known.

use dunlin_sim::story::{Crash, Cut, DiskFate, Order, Start, Story, ms};

stories! {
    /// A run comes due on both sides of a partition, and each side does it, since it cannot know of the other; the one after the
    /// heal is done once, beside none, and nothing is done again.
    a_run_across_a_partition fails_with OverlapAllowed {
        Story::flock(6)
            .start(Start::Joined)
            .service("{name: long, replicas: 1, finish-after: 70s, schedule: {cron: '* * * * *', overlap: forbid}}")
            .limits("{lost-runs: 0, overlaps: 0}")
            .at("5s").deploy([0])
            .at("40s").cut(Cut::Apart, [3, 4, 5])
            .at("150s").heal([])
            .settle("200s", [])
    }

    /// A host is drained in the middle of a run that it is too late to begin: that it was begun is known, so it goes on elsewhere.
    a_run_that_was_begun_is_finished_however_late fails_with BegunForgotten {
        Story::flock(3)
            .start(Start::Joined)
            .service("{name: slow, replicas: 1, finish-after: 100s, schedule: {cron: '*/10 * * * *', missed: skip, deadline: 10s}}")
            .limits("{lost-runs: 0}")
            .at("5s").deploy([0])
            .at("630s").order(Order::Drain(Some(ms(1_000))), [1, 2])
            .settle("300s", [])
    }

    /// Of the last run only it is kept how it ended; an agent that starts anew does none of the others again, though it would not be
    /// too late.
    what_is_not_kept_any_more_is_not_done_again fails_with CronFloorForgotten {
        Story::flock(3)
            .start(Start::Joined)
            .service("{name: brief, replicas: 1, finish-after: 2s, schedule: {cron: '* * * * *', missed: skip, deadline: 600s, history: 1}}")
            .limits("{reruns: 0}")
            .at("5s").deploy([0])
            .at("320s").crash(Crash::Agents, [1])
            .at("325s").restart(DiskFate::Kept, [1])
            .settle("200s", [])
    }
}
