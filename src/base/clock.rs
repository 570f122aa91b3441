//! Time as an argument.
//!
//! Owns the two clocks that everything else asks. Knows nothing of what is timed. Production code takes a
//! [`Clock`] and never calls `Instant::now`; tests hold a manual one and move it.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

/// One reading of both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    monotonic: Duration,
    wall: Duration,
}

impl Moment {
    /// The larger of what the two clocks say has passed since `earlier`.
    ///
    /// The monotonic clock stands still while a machine is suspended, the wall clock may be set back: a grant
    /// that looks too old on either is too old.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        let monotonic = self.monotonic.saturating_sub(earlier.monotonic);
        monotonic.max(self.wall.saturating_sub(earlier.wall))
    }

    /// The earlier of two moments, by each clock.
    #[must_use]
    pub(crate) fn earlier(self, other: Self) -> Self {
        Self { monotonic: self.monotonic.min(other.monotonic), wall: self.wall.min(other.wall) }
    }

    /// Whole seconds since the Unix epoch.
    pub const fn unix_seconds(self) -> u64 {
        self.wall.as_secs()
    }
}

/// Where moments come from. Cloning shares the clock.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    System(Instant),
    Manual(Arc<Mutex<Moment>>),
}

impl Clock {
    /// The machine's clocks.
    pub fn system() -> Self {
        Self(Source::System(Instant::now()))
    }

    /// A clock that moves only when told to, starting at `unix_seconds`.
    pub fn manual(unix_seconds: u64) -> Self {
        let start = Moment { monotonic: Duration::ZERO, wall: Duration::from_secs(unix_seconds) };
        Self(Source::Manual(Arc::new(Mutex::new(start))))
    }

    /// Now.
    pub fn now(&self) -> Moment {
        match &self.0 {
            Source::System(start) => Moment {
                monotonic: start.elapsed(),
                wall: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            },
            Source::Manual(now) => *now.lock(),
        }
    }

    /// Moves a manual clock forward; the machine's can't be moved and stays as it is.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(now) = &self.0 {
            let mut now = now.lock();
            now.monotonic += by;
            now.wall += by;
        }
    }

    /// Sets a manual clock's wall time without moving its monotonic one, as an operator's `date` does.
    pub fn set_wall(&self, unix_seconds: u64) {
        if let Source::Manual(now) = &self.0 {
            now.lock().wall = Duration::from_secs(unix_seconds);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_is_the_larger_of_both_clocks() {
        let clock = Clock::manual(1_000);
        let start = clock.now();
        clock.advance(Duration::from_secs(5));
        assert_eq!(clock.now().since(start), Duration::from_secs(5));
        clock.set_wall(2_000);
        assert_eq!(
            clock.now().since(start),
            Duration::from_secs(1_000),
            "suspended: the wall clock knows better"
        );
        clock.set_wall(0);
        assert_eq!(
            clock.now().since(start),
            Duration::from_secs(5),
            "set back: the monotonic clock knows better"
        );
    }
}
