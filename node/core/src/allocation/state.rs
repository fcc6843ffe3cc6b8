//! The life of an allocation: one table of phases and cues, exhaustive, without a wildcard.
//!
//! What follows from a step (commands, records, names) is decided elsewhere; what steps exist is decided only here.

use dunlin_gossip::model::Phase;

/// What happens to an allocation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cue {
    /// It is given to the driver (its claim is durable, its wait over).
    Start,
    /// The driver says that it runs.
    Started,
    /// Its health check passes.
    Pass,
    /// Its health check fails.
    Fail,
    /// Its run ended; it will be started again here.
    Again,
    /// Its run ended well, for good.
    EndWell,
    /// Its run ended badly, for good.
    EndBadly,
    /// It shall end.
    Stop,
    /// The driver confirms that nothing of it runs.
    Gone,
}

/// Where a cue leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// To a phase, perhaps the same.
    Phase(Phase),
    /// The allocation is over: its record goes.
    Over,
    /// The cue means nothing in this phase (late or repeated) and is ignored.
    Ignored,
}

/// The table.
pub(crate) const fn next(phase: Phase, cue: Cue) -> Next {
    match phase {
        Phase::Pending => match cue {
            Cue::Start => Next::Phase(Phase::Starting),
            Cue::Again => Next::Phase(Phase::Pending),
            // Its time was over between two runs.
            Cue::EndBadly => Next::Phase(Phase::Failed),
            Cue::Stop | Cue::Gone => Next::Over,
            Cue::Started | Cue::Pass | Cue::Fail | Cue::EndWell => Next::Ignored,
        },
        Phase::Starting => match cue {
            Cue::Start => Next::Phase(Phase::Starting),
            Cue::Started => Next::Phase(Phase::Running),
            Cue::Again => Next::Phase(Phase::Pending),
            Cue::EndWell => Next::Phase(Phase::Exited),
            Cue::EndBadly => Next::Phase(Phase::Failed),
            Cue::Stop => Next::Phase(Phase::Stopping),
            Cue::Gone => Next::Over,
            Cue::Pass | Cue::Fail => Next::Ignored,
        },
        Phase::Running | Phase::Healthy | Phase::Unhealthy => match cue {
            Cue::Pass => Next::Phase(Phase::Healthy),
            Cue::Fail => Next::Phase(Phase::Unhealthy),
            Cue::Again => Next::Phase(Phase::Pending),
            Cue::EndWell => Next::Phase(Phase::Exited),
            Cue::EndBadly => Next::Phase(Phase::Failed),
            Cue::Stop => Next::Phase(Phase::Stopping),
            Cue::Gone => Next::Over,
            Cue::Start | Cue::Started => Next::Ignored,
        },
        Phase::Stopping => match cue {
            Cue::Stop => Next::Phase(Phase::Stopping),
            Cue::Gone | Cue::EndWell | Cue::EndBadly | Cue::Again => Next::Over,
            Cue::Start | Cue::Started | Cue::Pass | Cue::Fail => Next::Ignored,
        },
        Phase::Exited | Phase::Failed => match cue {
            Cue::Stop | Cue::Gone => Next::Over,
            Cue::Start | Cue::Started | Cue::Pass | Cue::Fail | Cue::Again | Cue::EndWell | Cue::EndBadly => {
                Next::Ignored
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CUES: [Cue; 9] =
        [Cue::Start, Cue::Started, Cue::Pass, Cue::Fail, Cue::Again, Cue::EndWell, Cue::EndBadly, Cue::Stop, Cue::Gone];

    #[test]
    fn what_stops_or_has_ended_never_lives_again() {
        for phase in Phase::ALL.into_iter().filter(|p| !p.is_live()) {
            for cue in CUES {
                assert!(!matches!(next(phase, cue), Next::Phase(p) if p.is_live()), "{phase:?} {cue:?}");
            }
        }
    }

    #[test]
    fn whatever_the_phase_a_stop_and_its_end_lead_out() {
        for phase in Phase::ALL {
            let ends = match next(phase, Cue::Stop) {
                Next::Over => true,
                Next::Phase(after) => next(after, Cue::Gone) == Next::Over,
                Next::Ignored => false,
            };
            assert!(ends, "{phase:?}");
        }
    }

    #[test]
    fn health_counts_only_while_it_runs() {
        for phase in Phase::ALL {
            let runs = matches!(phase, Phase::Running | Phase::Healthy | Phase::Unhealthy);
            assert_eq!(next(phase, Cue::Pass) == Next::Phase(Phase::Healthy), runs);
            assert_eq!(next(phase, Cue::Fail) == Next::Phase(Phase::Unhealthy), runs);
        }
    }
}
