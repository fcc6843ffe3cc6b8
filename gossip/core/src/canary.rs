//! Planted bugs: real mistakes that somebody could make, one of which can be switched on at a time, to prove that the
//! simulator's sweep finds it.
//!
//! A place in the core that a bug changes says `if planted(Bug::X) { wrong } else { right }`. Without the cargo feature
//! `canary` [`planted`] is a constant, and the wrong half is compiled away; `node/cli` refuses to be built with it. With it
//! the bug is chosen once for the whole process, so that one build tries them all.
//!
//! Never: a bug that only costs time, a bug that two nodes have and a third has not, a switch that anything but a test sets.

/// True in a build that can plant bugs. No binary may be one.
pub const COMPILED_IN: bool = cfg!(feature = "canary");

macro_rules! bugs {
    ($($(#[$doc:meta])+ $bug:ident = $name:literal,)+) => {
        /// What can be planted. Each says what it breaks, and which promise should notice.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Bug {
            $($(#[$doc])+ $bug,)+
        }

        impl Bug {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$bug,)+];

            /// Its name in reports.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$bug => $name,)+
                }
            }
        }
    };
}

bugs! {
    // Jobs.
    /// That a slot of a job is finished is told by its claim alone: once that is gone it is run again.
    EndUntold = "end-untold",
    /// A job's slots are all under way at once, whatever its author said.
    JobAllAtOnce = "job-all-at-once",
    /// A run comes due while the one before it is not finished, and both run, though the author forbade it.
    OverlapAllowed = "overlap-allowed",
    /// That somebody has begun a run counts for nothing: one whose node goes when it is too late to begin it is given up (P3).
    BegunForgotten = "begun-forgotten",
    /// A run of which it is not kept any more how it ended is taken for one that nobody has begun.
    CronFloorForgotten = "cron-floor-forgotten",
    // Membership.
    /// A node that hears that it is suspected does not say that it lives: healthy nodes are given up under loss.
    RefutationDropped = "refutation-dropped",
    /// The timer that makes a suspect down is lost: what ran on a dead host is never taken over (P3).
    SuspicionTimerLost = "suspicion-timer-lost",
    /// A suspect is down at once: under loss healthy nodes are given up.
    SuspicionWithoutWait = "suspicion-without-wait",
    /// That a member is down is noted and not told: its work is never taken over (P3).
    DownNotTold = "down-not-told",
    /// A refusal means down, without the restart window: an agent that restarts loses its work.
    RestartWindowSkipped = "restart-window-skipped",
    /// `TurnUndead` goes to members that have refuted already: healthy nodes renew their identity under loss.
    UndeadUnguarded = "undead-unguarded",
    /// What others tell of the dead is believed at once: after a partition each side's tale kills the other's members.
    HearsayBelieved = "hearsay-believed",
    /// The timer that tries lost members again is not set again: a partition never heals (P1).
    HealingTimerLost = "healing-timer-lost",
    /// What others found of a suspect does not shorten its time: a death is known late.
    ConfirmationsIgnored = "confirmations-ignored",
    /// A node accuses others though none of those that it asked answer: who hears little gives up the healthy.
    SelfNeverSuspected = "self-never-suspected",
    /// A relay does not say that the target is silent: nobody has witnesses, and no death is noticed (P3).
    NackForgotten = "nack-forgotten",
    /// A node does not notice that it stood still: it gives up those whose answers lie unread before it.
    StallUnnoticed = "stall-unnoticed",
    /// A boot takes the generation of the one before: its records are taken for old ones, its identity for a dead one.
    GenerationReused = "generation-reused",
    /// Members of which nothing was ever heard stay suspect for ever: their old claims stand (P3).
    NeverHeardForgotten = "never-heard-forgotten",
    // State.
    /// Of two desired records the one that arrives last stays, whatever its causes: states differ (P1).
    ArrivalDecides = "arrival-decides",
    /// Of concurrent values the oldest is in force: an acknowledged write is not (P2).
    OldestWins = "oldest-wins",
    /// A write does not say what its author had seen: what it replaces or deletes stays beside it (P2).
    ContextForgotten = "context-forgotten",
    /// The end of an allocation leaves no tombstone: a late record brings the claim back (P1, P3).
    TombstoneForgotten = "tombstone-forgotten",
    /// A removed service leaves no tombstone: whoever missed the removal brings it back (P2).
    RemovalForgotten = "removal-forgotten",
    /// Of one boot's records the last to arrive stays, not the last written (P1).
    SequenceIgnored = "sequence-ignored",
    /// An older boot's record with a higher sequence wins over a newer boot's (P1, P5).
    OlderBootWins = "older-boot-wins",
    /// Records of older boots are kept beside the newer boot's: claims stand of which their owner knows nothing (P3).
    VoidedKept = "voided-kept",
    /// Roots that differ are not noticed: what a push missed is missing for good (P1).
    SyncSkipped = "sync-skipped",
    /// An hour counts as settled once this node has published it: what others hold comes back from the dead (P2).
    HourSettledEarly = "hour-settled-early",
    /// A node that hears of a newer boot of itself goes on with its old disk (P2).
    OldDiskUnnoticed = "old-disk-unnoticed",
    // Versions.
    /// A boot leaves out records of kinds that this version does not know: nobody has them after a restart of all that
    /// understand them (P2).
    UnknownForgotten = "unknown-forgotten",
    /// A value with appended fields counts as unreadable: nodes of another version are nobody's candidates (P3, P8).
    FieldsUnread = "fields-unread",
    /// What a node declared in an earlier boot counts for the next one: who went back is sent what it cannot read.
    OldBootSpokenTo = "old-boot-spoken-to",
    /// An edit takes over what this version knows of a value, and drops the rest (P2).
    EditDropsFields = "edit-drops-fields",
    /// A record over which a handler panicked is looked into again by the next node that is made.
    LeftOutForgotten = "left-out-forgotten",
    /// All nodes act on a deploy whose first wave is on: what breaks the first breaks all.
    WavesIgnored = "waves-ignored",
    /// Whatever the first nodes say of a deploy, all follow.
    WaveTroubleIgnored = "wave-trouble-ignored",
    /// Nobody is held to a pace: one node that writes in a loop keeps everybody else's changes waiting.
    PaceIgnored = "pace-ignored",
    // Durability.
    /// A peer says that it keeps a batch before its disk does (P2).
    StoredBeforeDisk = "stored-before-disk",
    /// A write is acknowledged at once, before any disk (P2).
    AcknowledgedAtOnce = "acknowledged-at-once",
    /// A node counts itself twice among those that keep a write (P2).
    SelfCountedTwice = "self-counted-twice",
    /// Own records are merged and told before they are on disk (P2).
    ToldBeforeDisk = "told-before-disk",
    /// A claim's process starts before the claim is on disk.
    StartedBeforeDisk = "started-before-disk",
    /// Claims are not written to disk: after a restart nobody owns what runs (P9).
    ClaimsUnjournaled = "claims-unjournaled",
    /// A boot leaves out the desired records that its disk holds: nobody has them after a blackout (P2).
    BootForgetsDesired = "boot-forgets-desired",
    /// A boot leaves out its own claims: what runs is stopped, and started elsewhere (P9).
    BootForgetsClaims = "boot-forgets-claims",
    // Placement and claims.
    /// A node takes one more than it has room for (P4).
    RoomOffByOne = "room-off-by-one",
    /// Who stops is told to end at once, while others still answer with it, or have its address (P8).
    SignalAtOnce = "signal-at-once",
    /// What is stopping no longer counts against the room (P4).
    StoppingNotCounted = "stopping-not-counted",
    /// A replica's wait on the ladder starts anew with every look (P3).
    LadderRestarted = "ladder-restarted",
    /// Of two claims the one that is ready now stays: two that see each other's past both go, or neither does (P5).
    LiveHealthDecides = "live-health-decides",
    /// A new claim's epoch is not above the one before: claims of different times are told apart by node alone.
    EpochNotRaised = "epoch-not-raised",
    /// A node that comes back again and again gets new work each time, and loses it: replicas move for nothing.
    FlapsForgotten = "flaps-forgotten",
    /// Of two claims on one replica both give way: nothing runs.
    BothYield = "both-yield",
    /// Of two claims on one replica none gives way (P5).
    NeitherYields = "neither-yields",
    /// A refusal has no end: a replica that failed everywhere once never runs again (P3).
    RefusalNeverEnds = "refusal-never-ends",
    /// The claims of a node that is down stand (P3).
    DownOwnerKept = "down-owner-kept",
    /// Scaling down leaves one too many (P5).
    ScaleDownLeavesOne = "scale-down-leaves-one",
    /// All slots change to a new revision at the same moment: nothing of the service runs meanwhile.
    RolloutAllAtOnce = "rollout-all-at-once",
    /// A rollout that failed is not gone back on, though its author asked for that.
    RollbackForgotten = "rollback-forgotten",
    /// The canaries' slots are not waited for: everything follows them at once.
    CanaryIgnored = "canary-ignored",
    // Drains.
    /// What a drained node runs stops at once, whether it is ready elsewhere or not.
    DrainedAtOnce = "drained-at-once",
    /// Of two claims on one replica the drained node's stays as if it were not: nothing ever leaves it.
    DrainedStays = "drained-stays",
    /// What fits nowhere waits, whatever its priority (P3).
    PreemptionForgotten = "preemption-forgotten",
    /// What is equally important is ended as well: replicas take turns in ending each other (P3, P5).
    PreemptsItsLike = "preempts-its-like",
    /// A node that came takes more than its share: replicas move for nothing (P7).
    ShareWithoutEnd = "share-without-end",
    /// A node that came takes its share all at once.
    ShareInOneGo = "share-in-one-go",
    /// What a node takes for its share counts as ready before it is: who has it stops, and nobody answers.
    RelievedAtOnce = "relieved-at-once",
    /// A node that comes and goes takes its share each time: replicas move for nothing.
    FlapperShares = "flapper-shares",
    /// An agent that starts anew does not go on taking its share: its node stays emptier than others.
    ShareForgotten = "share-forgotten",
    /// A drained node's deadline is never over: what fits nowhere else runs there for ever.
    DeadlineForgotten = "deadline-forgotten",
    // Allocations.
    /// The timer of a restart is lost: a replica that ended stays ended (P3).
    RestartTimerLost = "restart-timer-lost",
    /// A stop that the driver lost is not repeated: what should end runs on (P5).
    StopSentOnce = "stop-sent-once",
    /// The end of a process is ignored (P3, P8).
    ExitIgnored = "exit-ignored",
    /// What is found running without a claim is left alone (P5).
    StrayLeftRunning = "stray-left-running",
    /// An allocation that is over leaves its record behind: others see a claim and wait for it (P3).
    ClaimLeftBehind = "claim-left-behind",
    /// What waits for its predecessor's end is never told of it: the new revision does not start (P3).
    SuccessorForgotten = "successor-forgotten",
    /// A process that no longer passes its health check is never started again (P3).
    HungLeftAlone = "hung-left-alone",
    // Names.
    /// An instance that went is not taken out of the answers (P8).
    StaleEndpointKept = "stale-endpoint-kept",
    /// Instances on nodes that are down are answered with (P8).
    DownAnswered = "down-answered",
    // At most one.
    /// A voter that has just booted grants at once what it may have granted to another before (P6).
    BootedVoterGrants = "booted-voter-grants",
    /// An owner counts its lease from the answer instead of the request: a slow answer makes it longer than the grant (P6).
    LeaseFromReply = "lease-from-reply",
    /// Who holds voters for gone makes a list without asking them (P6).
    VotersUnasked = "voters-unasked",
    /// A voter grants to whoever asks last (P6).
    GrantOverwritten = "grant-overwritten",
    /// The agent tells the keeper of no lease: what it runs outlives it (P6).
    KeeperUntold = "keeper-untold",
    /// Instances that are not ready are answered with (P8).
    UnreadyAnswered = "unready-answered",
    /// Instances on suspect nodes are answered with while others remain.
    SuspectAnswered = "suspect-answered",
    /// Names do not hear that a node went down (P8).
    MemberChangeUntold = "member-change-untold",
}

impl Bug {
    /// The bug of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|bug| bug.name() == name)
    }
}

/// True if this bug is planted: never, in a build without the feature `canary`.
#[cfg(not(feature = "canary"))]
#[must_use]
pub const fn planted(_bug: Bug) -> bool {
    false
}

#[cfg(feature = "canary")]
pub use switch::{plant, planted};

#[cfg(feature = "canary")]
mod switch {
    //! The switch: one number for the process.

    use core::sync::atomic::{AtomicU8, Ordering};

    use super::Bug;

    const NONE: u8 = u8::MAX;
    static PLANTED: AtomicU8 = AtomicU8::new(NONE);
    const _: () = assert!(Bug::ALL.len() < NONE as usize);

    /// Plants a bug in place of the one that is planted, for all threads; none: the core is as it should be.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.store(bug.map_or(NONE, |bug| bug as u8), Ordering::SeqCst);
    }

    /// True if this bug is planted.
    #[must_use]
    pub fn planted(bug: Bug) -> bool {
        PLANTED.load(Ordering::Relaxed) == bug as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kebab_case_and_find_their_bug() {
        for (index, bug) in Bug::ALL.iter().enumerate() {
            let name = bug.name();
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{name}");
            assert_eq!(Bug::named(name), Some(*bug), "two bugs are called {name}");
            assert_eq!(*bug as usize, index);
        }
        assert_eq!(Bug::named("none"), None);
    }
}
