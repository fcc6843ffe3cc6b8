//! From one version to the next: what fails goes back, canaries wait, and nobody is needed to lead.

use dunlin_sim::story::{Crash, Cut, RolloutOrder, Same, Start, Story, WireVersion, ms};

stories! {
    /// The second version ends as soon as it runs: the first slot fails, and everything goes back.
    what_fails_goes_back fails_with RollbackForgotten {
        Story::flock(5)
            .start(Start::Joined)
            .service("{name: web, replicas: 6, bad-version: 2, rollout: {on-failure: rollback}}")
            .at("1s").deploy([0])
            .at("20s").deploy([1])
            .at("21s")
            .settle("120s", [0, 1, 2, 3, 4])
    }

    /// The node that took the bad version dies in the middle of the way back, and so does one that ran a replica of it.
    a_rollback_needs_nobody fails_with RollbackForgotten {
        Story::flock(6)
            .seed(4)
            .start(Start::Joined)
            .service("{name: web, replicas: 8, bad-version: 2, rollout: {parallelism: 3, on-failure: rollback}}")
            .at("1s").deploy([0])
            .at("20s").deploy([5])
            .at("20400ms").crash(Crash::Hosts, [5, 3])
            .at("22s")
            .settle("180s", [0, 1, 2, 4])
    }

    /// The new version is started beside the old one, and fails: the old one never went.
    what_starts_first_goes_back fails_with RollbackForgotten {
        Story::flock(5)
            .start(Start::Joined)
            .service("{name: web, replicas: 4, bad-version: 2, rollout: {order: start-first, on-failure: rollback}}")
            .at("1s").deploy([0])
            .at("20s").deploy([1])
            .at("21s").cut(Cut::Apart, [2])
            .at("40s").heal([2])
            .at("41s")
            .settle("120s", [0, 1, 2, 3, 4])
    }

    /// One canary waits for a word that never comes.
    canaries_wait fails_with CanaryIgnored {
        Story::flock(5)
            .start(Start::Joined)
            .service("{name: web, replicas: 6, rollout: {canary: 1}}")
            .at("1s").deploy([0])
            .at("20s").deploy([1])
            .at("30s").crash(Crash::Agents, [1])
            .at("31s")
            .settle("120s", [0, 2, 3, 4])
    }

    /// Two canaries must be ready for five seconds before the others follow; they end as soon as they run.
    what_canaries_fail_nobody_follows fails_with RollbackForgotten {
        Story::flock(5)
            .start(Start::Joined)
            .service(
                "{name: web, replicas: 6, bad-version: 2, \
                 rollout: {canary: 2, promote-after: 5s, order: start-first, on-failure: rollback}}",
            )
            .at("1s").deploy([0])
            .at("20s").deploy([1])
            .at("21s").crash(Crash::Processes, [0])
            .at("22s")
            .settle("120s", [0, 1, 2, 3, 4])
    }

    /// Two slots need more room than there is to start the new version beside the old one; what cannot start waits.
    what_starts_first_waits_for_room fails_with RoomOffByOne {
        Story::flock(2)
            .start(Start::Joined)
            .capacity(4000, 8192)
            .service("{name: web, replicas: 4, cpu-milli: 1000, rollout: {order: start-first, on-failure: pause}}")
            .at("1s").deploy([1])
            .at("3s").crash(Crash::Hosts, [1])
            .at("20s").deploy([0])
            .at("21s")
            .settle("139500ms", [0])
    }

    /// The second version failed, so the third leads away from the first. A removal at the same moment, which the third
    /// version outlives, does not know that the first is needed.
    what_a_rollout_leads_from_outlives_a_removal fails_with RemovalForgotten {
        Story::flock(3)
            .seed(5)
            .start(Start::Cold { within: ms(3000) })
            .capacity(4000, 8192)
            .service(
                "{name: web, replicas: 3, start: 500ms, ready: 2s, stop: 0s, fail-one-in: 10, cpu-milli: 1000, \
                 memory: 32MiB, rollout: {parallelism: 2, monitor: 2s, on-failure: rollback, canary: 1}}",
            )
            .service("{name: db, replicas: 2}")
            .at("5s").deploy(Same([1]))
            .at("7s").deploy(Same([1]))
            .at("8s").remove([2])
            .at("8s").deploy([0])
            .at("8100ms")
            .settle("137500ms", [1])
    }

    /// The same, where the rollout leads away from a version to which somebody had gone back.
    what_was_gone_back_to_outlives_a_removal fails_with CanaryIgnored {
        Story::flock(3)
            .seed(434)
            .capacity(4000, 8192)
            .service("{name: web, replicas: 2, rollout: {parallelism: 2, monitor: 2s, on-failure: rollback, canary: 1}}")
            .at("1s").deploy(Same([1]))
            .at("1100ms").deploy(Same([1]))
            .at("1200ms").rollout("web", RolloutOrder::Undo { to: None }, [1])
            .at("1300ms").remove([2])
            .at("1300ms").deploy([0])
            .at("1400ms")
            .settle("137500ms", [0])
    }

    /// A host of the next version scales in the middle of a rollout. That makes no new revision, so the canary is waited for.
    scaling_makes_no_revision fails_with CanaryIgnored {
        Story::flock(3)
            .seed(3)
            .start(Start::Joined)
            .capacity(4000, 8192)
            .service("{name: web, replicas: 1, rollout: {delay: 500ms, order: start-first, monitor: 0s, canary: 1}}")
            .at("1s").deploy(Same([2]))
            .at("1100ms").crash(Crash::Agents, [1])
            .at("1100ms").restart_as(WireVersion::NEXT, [1])
            .at("1100ms").deploy([0])
            .at("1200ms").scale("web", 7, [1])
            .at("1300ms")
            .settle("240750ms", [2])
    }
}
