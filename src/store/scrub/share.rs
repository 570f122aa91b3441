//! Which share of the disk's time is taken. Pure: times are arguments.

use std::time::Duration;

/// The longest time that one read is taken to have lasted: a clock that was set must not stop it for days.
const LONGEST: Duration = Duration::from_secs(60);

/// A share of the time, in percent: 0 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeShare(u8);

impl TimeShare {
    /// None of it.
    pub const NONE: Self = Self(0);

    /// So many percent; `None` above 100.
    pub fn percent(percent: u8) -> Option<Self> {
        (percent <= 100).then_some(Self(percent))
    }

    /// Whether it is nothing at all.
    pub(crate) const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// How long to stand still after a read that took this long: `took` is this share of both together. A disk that is busy
    /// with others answers later, and so is left alone for longer.
    pub(super) fn pause(self, took: Duration) -> Duration {
        let idle = 100_u32.saturating_sub(self.0.into());
        took.min(LONGEST).saturating_mul(idle).checked_div(self.0.into()).unwrap_or(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_is_its_share_of_the_time() {
        let ms = Duration::from_millis;
        for (percent, took, pause) in [
            (5, ms(0), ms(0)),
            (5, ms(1), ms(19)),
            (5, ms(10), ms(190)),
            (50, ms(7), ms(7)),
            (100, ms(7), ms(0)),
            (1, ms(20), ms(1_980)),
            (33, ms(33), ms(67)),
            (50, Duration::MAX, LONGEST),
            (0, ms(1), LONGEST),
        ] {
            assert_eq!(TimeShare::percent(percent).unwrap().pause(took), pause, "{percent} %, {took:?}");
        }
        assert_eq!(TimeShare::percent(101), None);
        assert!(TimeShare::NONE.is_none() && !TimeShare::percent(1).unwrap().is_none());
    }
}
