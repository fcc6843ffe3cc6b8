//! When an ended run is started again, and when enough is enough.

use dunlin_gossip::model::{RestartCondition, RestartPolicy};
use dunlin_gossip::time::Duration;

use crate::face::Exit;

/// Longest wait between two runs, whatever the doubling says.
const MAX_DELAY: Duration = Duration::from_secs(60);
/// Shortest wait before a second restart in a row: a crash loop must not eat a core.
const MIN_DELAY: Duration = Duration::from_millis(100);

/// What to do after a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// Start again after this time (zero: at once).
    Again(Duration),
    /// It stays ended; true if it ended well.
    Final(bool),
    /// It ended more often than its policy allows: withdraw and refuse.
    Exhausted,
}

/// Restarts in a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Restarts {
    row: u32,
}

impl Restarts {
    /// A run has ended after `ran`; `well` if it was ready in that run.
    pub(crate) fn ended(&mut self, policy: &RestartPolicy, exit: Exit, ran: Duration, well: bool) -> Verdict {
        match policy.condition {
            RestartCondition::None => return Verdict::Final(exit.is_success()),
            RestartCondition::OnFailure if exit.is_success() => return Verdict::Final(true),
            RestartCondition::OnFailure | RestartCondition::Any => {}
        }
        if ran >= policy.window && well {
            self.row = 0;
        }
        if policy.max_attempts.is_some_and(|max| self.row >= max) {
            return Verdict::Exhausted;
        }
        let delay = if self.row == 0 && well {
            Duration::ZERO
        } else {
            let doublings = self.row.saturating_sub(1).min(16);
            policy.delay.max(MIN_DELAY).saturating_mul(1 << doublings).min(MAX_DELAY.max(policy.delay))
        };
        self.row = self.row.saturating_add(1);
        Verdict::Again(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(condition: RestartCondition, max_attempts: Option<u32>) -> RestartPolicy {
        RestartPolicy { condition, delay: Duration::from_secs(1), max_attempts, window: Duration::from_secs(30) }
    }

    #[test]
    fn the_first_restart_is_immediate_and_later_ones_double() {
        let (mut restarts, policy) = (Restarts::default(), policy(RestartCondition::Any, None));
        let mut fall = || restarts.ended(&policy, Exit::Code(1), Duration::from_secs(2), true);
        assert_eq!(fall(), Verdict::Again(Duration::ZERO));
        assert_eq!(fall(), Verdict::Again(Duration::from_secs(1)));
        assert_eq!(fall(), Verdict::Again(Duration::from_secs(2)));
        assert_eq!(fall(), Verdict::Again(Duration::from_secs(4)));
        assert_eq!(restarts.ended(&policy, Exit::Lost, Duration::from_secs(30), true), Verdict::Again(Duration::ZERO));
    }

    #[test]
    fn attempts_run_out() {
        let (mut restarts, policy) = (Restarts::default(), policy(RestartCondition::Any, Some(2)));
        let mut fall = || restarts.ended(&policy, Exit::Code(1), Duration::ZERO, false);
        assert_eq!(fall(), Verdict::Again(Duration::from_secs(1)));
        assert_eq!(fall(), Verdict::Again(Duration::from_secs(1)));
        assert_eq!(fall(), Verdict::Exhausted);
    }

    #[test]
    fn an_end_can_be_final() {
        let none = policy(RestartCondition::None, None);
        let on_failure = policy(RestartCondition::OnFailure, None);
        let end = |policy, code| Restarts::default().ended(policy, Exit::Code(code), Duration::ZERO, true);
        assert_eq!(end(&none, 0), Verdict::Final(true));
        assert_eq!(end(&none, 3), Verdict::Final(false));
        assert_eq!(end(&on_failure, 0), Verdict::Final(true));
        assert_eq!(end(&on_failure, 3), Verdict::Again(Duration::ZERO));
    }
}
