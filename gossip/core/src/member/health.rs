//! How well this node itself does: Lifeguard's local health multiplier.
//!
//! Probes that fail for want of anybody's answer, suspicions of ourselves and timers that come late make it worse, each
//! probe that succeeds makes it better. The worse, the longer our probes wait, and the fewer of them there are. Never: what
//! we think of others.

use crate::time::Duration;

/// The worst.
const WORST: u8 = 8;

/// 0 is well.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Health(u8);

impl Health {
    pub(super) fn better(&mut self) {
        self.0 = self.0.saturating_sub(1);
    }

    pub(super) fn worse(&mut self, by: usize) {
        self.0 = self.0.saturating_add(u8::try_from(by).unwrap_or(WORST)).min(WORST);
    }

    /// A time for somebody who is not well.
    pub(super) fn stretch(self, time: Duration) -> Duration {
        time.saturating_mul(u32::from(self.0) + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_within_its_bounds() {
        let mut health = Health::default();
        health.better();
        assert_eq!(health.stretch(Duration::from_millis(250)), Duration::from_millis(250));
        health.worse(3);
        health.worse(usize::MAX);
        assert_eq!(health.stretch(Duration::from_millis(250)), Duration::from_millis(2_250));
    }
}
