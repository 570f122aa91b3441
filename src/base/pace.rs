//! Whether somebody keeps up.
//!
//! Owns the arithmetic of a minimum rate: what has moved against the time in which it was the other side's turn. That is
//! pure, with the time as an argument; an alarm beside it serves whoever polls. Knows nothing of sockets.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// The slowest that somebody may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Least {
    /// Bytes a second; 0: nobody is too slow.
    pub rate: u64,
    /// Over how much time in which it was his turn.
    pub over: Duration,
}

impl Least {
    /// Bytes that must have moved in that time.
    fn bytes(self) -> u128 {
        (u128::from(self.rate) * self.over.as_millis()).div_ceil(1000)
    }
}

/// He didn't keep up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it moves fewer bytes than server.min_rate asks for")]
pub(crate) struct TooSlow;

/// One direction of one connection, or one body. Only the time counts in which the other side had something to do: what
/// moves while he has nothing to wait for is in his favour, what we are late with isn't held against him.
#[derive(Debug)]
pub(crate) struct Pace {
    least: Least,
    /// His turn so far, in this window.
    waited: Duration,
    moved: u128,
    /// Since when it is his turn.
    since: Option<Instant>,
}

impl Pace {
    /// Nothing has moved yet, and it is our turn; `None` if nobody is too slow.
    pub(crate) fn new(least: Least) -> Option<Self> {
        (least.rate > 0).then_some(Self { least, waited: Duration::ZERO, moved: 0, since: None })
    }

    /// So many bytes have moved, and it is our turn.
    pub(crate) fn moved(&mut self, bytes: u64, now: Instant) {
        self.rests(now);
        self.moved += u128::from(bytes);
    }

    /// It is our turn.
    pub(crate) fn rests(&mut self, now: Instant) {
        if let Some(since) = self.since.take() {
            self.waited += now.saturating_duration_since(since);
        }
    }

    /// It is his turn, still or from now on.
    pub(crate) fn waits(&mut self, now: Instant) {
        self.rests(now);
        self.since = Some(now);
    }

    /// Judges; says when to look again at the latest.
    pub(crate) fn look(&mut self, now: Instant) -> Result<Instant, TooSlow> {
        if self.since.is_some() {
            self.waits(now);
        }
        if self.waited >= self.least.over {
            if self.moved < self.least.bytes() {
                return Err(TooSlow);
            }
            (self.waited, self.moved) = (Duration::ZERO, 0);
        }
        Ok(now + self.least.over.saturating_sub(self.waited))
    }
}

/// A pace with an alarm, for whoever polls.
#[derive(Debug)]
pub(crate) struct Paced {
    pace: Pace,
    /// Looks come sooner than they must, so that what moves unseen in between is noticed.
    often: Duration,
    /// Made at the first wait: most need none.
    alarm: Option<Pin<Box<Sleep>>>,
}

/// Looks in the time over which somebody is judged.
const LOOKS: u32 = 4;

impl Paced {
    /// See [`Pace::new`].
    pub(crate) fn new(least: Least) -> Option<Self> {
        Pace::new(least).map(|pace| Self { pace, often: least.over / LOOKS, alarm: None })
    }

    /// So many bytes have moved, and it is our turn.
    pub(crate) fn moved(&mut self, bytes: u64) {
        match self.pace.since {
            // The common case reads no clock.
            None => self.pace.moved += u128::from(bytes),
            Some(_) => self.pace.moved(bytes, Instant::now()),
        }
    }

    /// It is his turn. Ready when it is time to look, with what the look says.
    pub(crate) fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TooSlow>> {
        let now = Instant::now();
        self.pace.waits(now);
        let Some(alarm) = &mut self.alarm else {
            self.alarm = Some(Box::pin(tokio::time::sleep(self.often)));
            return self.poll_wait(cx);
        };
        // An alarm that is left from an earlier wait rings early, which costs a look.
        ready!(alarm.as_mut().poll(cx));
        let look = self.pace.look(now);
        let next = look.unwrap_or(now).min(now + self.often);
        alarm.as_mut().reset(next);
        Poll::Ready(look.map(|_| ()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);
    const LEAST: Least = Least { rate: 1000, over: Duration::from_secs(10) };

    #[test]
    fn whoever_takes_nothing_is_let_go_after_the_time_and_not_before() {
        let now = Instant::now();
        let mut pace = Pace::new(LEAST).unwrap();
        pace.waits(now);
        assert_eq!(pace.look(now), Ok(now + LEAST.over));
        assert!(pace.look(now + LEAST.over - Duration::from_millis(1)).is_ok());
        assert_eq!(pace.look(now + LEAST.over), Err(TooSlow));
    }

    #[test]
    fn a_rate_of_nothing_lets_everybody_be() {
        assert!(Pace::new(Least { rate: 0, ..LEAST }).is_none());
    }

    #[test]
    fn our_own_time_is_not_held_against_him() {
        let now = Instant::now();
        let mut pace = Pace::new(LEAST).unwrap();
        pace.waits(now);
        pace.moved(1, now + SECOND);
        // GitLab is slow.
        assert!(pace.look(now + 1000 * SECOND).is_ok());
        pace.waits(now + 1000 * SECOND);
        assert!(pace.look(now + 1008 * SECOND).is_ok());
        assert_eq!(pace.look(now + 1009 * SECOND), Err(TooSlow), "1 s and 9 s of his own");
    }

    #[test]
    fn a_burst_buys_one_window_and_no_more() {
        let now = Instant::now();
        let mut pace = Pace::new(LEAST).unwrap();
        pace.moved(1 << 40, now);
        pace.waits(now);
        assert!(pace.look(now + 10 * SECOND).is_ok());
        assert_eq!(pace.look(now + 20 * SECOND), Err(TooSlow));
    }

    proptest! {
        #[test]
        fn whoever_moves_enough_each_second_of_his_is_never_too_slow(
            steps in prop::collection::vec((1000_u64..5000, 0_u32..100), 1..200),
        ) {
            let mut now = Instant::now();
            let mut pace = Pace::new(LEAST).unwrap();
            for (bytes, ours) in steps {
                pace.waits(now);
                now += SECOND;
                pace.moved(bytes, now);
                prop_assert!(pace.look(now).is_ok());
                now += ours * SECOND;
            }
        }

        #[test]
        fn whoever_moves_too_little_each_second_is_let_go_within_a_window(bytes in 0_u64..1000) {
            let mut now = Instant::now();
            let mut pace = Pace::new(LEAST).unwrap();
            let mut seconds = 0;
            loop {
                pace.waits(now);
                now += SECOND;
                pace.moved(bytes, now);
                seconds += 1;
                if pace.look(now).is_err() {
                    break;
                }
            }
            prop_assert_eq!(seconds, 10);
        }
    }
}
