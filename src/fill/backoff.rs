//! How long a transfer that broke off is tried again, and how often.
//!
//! Pure: readings of the clock and random numbers are arguments.

use std::time::Duration;

use crate::base::clock::Moment;

/// The wait after the second failure in a row; it doubles with each. The first attempt after bytes have come is made at
/// once: most cuts are a connection's own.
const FIRST: Duration = Duration::from_millis(100);

/// Longest wait: a GitLab that is back is noticed within seconds.
const LONGEST: Duration = Duration::from_secs(10);

/// Attempts in all: more than this and every byte would cost a question.
const ATTEMPTS: u32 = 1000;

/// The attempts of one transfer.
#[derive(Debug, Clone)]
pub(super) struct Backoff {
    limit: Duration,
    attempts: u32,
    /// Failures since bytes came last, and when the first of them was.
    failures: u32,
    since: Option<Moment>,
}

impl Backoff {
    /// Gives up after `limit` without a byte of progress.
    pub(super) const fn new(limit: Duration) -> Self {
        Self { limit, attempts: 0, failures: 0, since: None }
    }

    /// Bytes have come.
    pub(super) const fn progress(&mut self) {
        self.failures = 0;
        self.since = None;
    }

    /// How long to wait before the next attempt; `None`: there is none. `chance`, any number, spreads the attempts of
    /// those who failed together: a wait is between half of its length and all of it.
    pub(super) fn next(&mut self, now: Moment, chance: u32) -> Option<Duration> {
        let since = *self.since.get_or_insert(now);
        if self.limit.is_zero() || self.attempts >= ATTEMPTS || now.since(since) > self.limit {
            return None;
        }
        let doublings = self.failures.checked_sub(1);
        self.attempts += 1;
        self.failures = self.failures.saturating_add(1);
        let Some(doublings) = doublings else {
            return Some(Duration::ZERO);
        };
        let whole = FIRST.saturating_mul(1 << doublings.min(16)).min(LONGEST);
        let half = whole / 2;
        Some(half + half.mul_f64(f64::from(chance) / f64::from(u32::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Clock;

    const MIN: Duration = Duration::from_secs(60);

    #[test]
    fn waits_double_up_to_a_bound_and_end_with_the_limit() {
        let clock = Clock::manual(0);
        let mut backoff = Backoff::new(MIN);
        let mut waits = Vec::new();
        while let Some(wait) = backoff.next(clock.now(), u32::MAX) {
            waits.push(wait);
            clock.advance(wait);
        }
        let in_tenths = |wait: &Duration| (wait.as_millis() + 50) / 100;
        let waits: Vec<u128> = waits.iter().map(in_tenths).collect();
        assert_eq!(waits, [0, 1, 2, 4, 8, 16, 32, 64, 100, 100, 100, 100, 100]);
    }

    #[test]
    fn bytes_that_come_begin_it_anew_and_attempts_are_bounded_all_the_same() {
        let clock = Clock::manual(0);
        let mut backoff = Backoff::new(MIN);
        for _ in 0..ATTEMPTS {
            assert_eq!(backoff.next(clock.now(), 0), Some(Duration::ZERO));
            backoff.progress();
            clock.advance(MIN * 2);
        }
        assert_eq!(backoff.next(clock.now(), 0), None);
    }

    #[test]
    fn no_limit_no_attempt() {
        assert_eq!(Backoff::new(Duration::ZERO).next(Clock::manual(0).now(), 0), None);
    }

    #[test]
    fn chance_takes_off_half_at_most() {
        let clock = Clock::manual(0);
        for (chance, millis) in [(0, 50), (u32::MAX / 2, 75), (u32::MAX, 100)] {
            let mut backoff = Backoff::new(MIN);
            let _ = backoff.next(clock.now(), chance);
            let wait = backoff.next(clock.now(), chance).unwrap();
            assert_eq!((wait.as_micros() + 500) / 1000, millis);
        }
    }
}
