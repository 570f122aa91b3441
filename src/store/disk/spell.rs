//! A time in which the disk refuses: when it began, whether that was said, when it may be tried again.
//!
//! Pure: the time is an argument.

use std::time::Duration;

use crate::base::clock::Moment;

/// While the disk refuses, one archive is tried this long after the last one: often enough that nobody waits for it once
/// there is space, rarely enough to cost nothing.
const PAUSE: Duration = Duration::from_secs(5);

/// How long after a last word nothing is said: a disk that is almost full takes short archives and refuses long ones, in
/// turns.
const QUIET: Duration = Duration::from_secs(600);

/// What is known of the disk's will.
#[derive(Debug, Default)]
pub(super) struct Spell {
    /// Refusals so far. An archive that was begun before the last of them has its space and proves nothing.
    refusals: u64,
    refusing: Option<Refusing>,
    /// When something was said last.
    said: Option<Moment>,
}

#[derive(Debug)]
struct Refusing {
    since: Moment,
    /// When it was tried last.
    tried: Moment,
    /// Whether its beginning was said.
    said: bool,
}

impl Spell {
    /// Whether an archive may be tried now; a yes counts as the trial.
    pub(super) fn may_try(&mut self, now: Moment) -> bool {
        match &mut self.refusing {
            None => true,
            Some(refusing) if now.since(refusing.tried) >= PAUSE => {
                refusing.tried = now;
                true
            }
            Some(_) => false,
        }
    }

    /// Whether it refuses and may be tried again.
    pub(super) fn is_to_be_tried(&self, now: Moment) -> bool {
        self.refusing.as_ref().is_some_and(|refusing| now.since(refusing.tried) >= PAUSE)
    }

    /// Whether it refuses.
    pub(super) const fn is_refusing(&self) -> bool {
        self.refusing.is_some()
    }

    /// Refusals so far.
    pub(super) const fn refusals(&self) -> u64 {
        self.refusals
    }

    /// It has refused an archive. Whether that must be said.
    pub(super) fn refused(&mut self, now: Moment) -> bool {
        self.refusals += 1;
        let refusing = self.refusing.get_or_insert(Refusing { since: now, tried: now, said: false });
        refusing.tried = now;
        let quiet = self.said.is_some_and(|said| now.since(said) < QUIET);
        if refusing.said || quiet {
            return false;
        }
        refusing.said = true;
        self.said = Some(now);
        true
    }

    /// It has taken an archive that was begun after `refusals`. How long it refused, if that is over and must be said.
    pub(super) fn took(&mut self, refusals: u64, now: Moment) -> Option<Duration> {
        let over = self.refusing.take_if(|_| refusals == self.refusals)?;
        if !over.said {
            return None;
        }
        self.said = Some(now);
        Some(now.since(over.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Clock;

    /// What happens, and what must come of it.
    enum Step {
        /// Whether an archive may be tried.
        Try(bool),
        /// The disk refuses; whether it is said.
        Refuse(bool),
        /// It takes an archive begun after so many refusals; the seconds that are said.
        Take(u64, Option<u64>),
    }
    use Step::{Refuse, Take, Try};

    #[test]
    fn a_refusal_is_said_once_and_tried_again_now_and_then_until_it_is_over() {
        let (mut spell, clock) = (Spell::default(), Clock::manual(1_000));
        let steps = [
            (0, Try(true), false),
            (0, Take(0, None), false),
            (10, Refuse(true), true),
            (10, Refuse(false), true),
            (14, Try(false), true),
            (15, Try(true), true),
            (15, Try(false), true),
            (16, Refuse(false), true),
            // A trial that failed counts from its failure.
            (20, Try(false), true),
            (21, Try(true), true),
            // One that was begun before the last refusal proves nothing.
            (22, Take(2, None), true),
            (23, Take(3, Some(13)), false),
            (23, Try(true), false),
            // Almost full: it refuses again soon, and nothing is said of it, nor of its end.
            (30, Refuse(false), true),
            (31, Take(4, None), false),
            // In time it is said, also if it has refused for long.
            (40, Refuse(false), true),
            (622, Refuse(false), true),
            (623, Refuse(true), true),
            (700, Refuse(false), true),
            (705, Take(8, Some(665)), false),
        ];
        let mut at = 0;
        for (number, (when, step, refuses)) in steps.into_iter().enumerate() {
            clock.advance(Duration::from_secs(when - at));
            at = when;
            match step {
                Try(may) => assert_eq!(spell.may_try(clock.now()), may, "step {number}"),
                Refuse(said) => assert_eq!(spell.refused(clock.now()), said, "step {number}"),
                Take(refusals, said) => {
                    let over = spell.took(refusals, clock.now());
                    assert_eq!(over, said.map(Duration::from_secs), "step {number}");
                }
            }
            assert_eq!(spell.is_refusing(), refuses, "step {number}");
        }
    }
}
