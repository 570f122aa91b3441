//! When a pass begins, where it stands, and what belongs to it. Pure: the time is an argument.

use std::fmt;

use crate::store::disk::layout::SHARDS;

/// Seconds from the beginning of a pass to that of the next: a week finds what decays, and each archive is read some four
/// times in the longest life it has by default.
const EVERY: u64 = 7 * 24 * 3600;

/// A pass over all shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pass {
    /// When it began, seconds since the Unix epoch.
    began: u64,
    /// The shard that comes next.
    shard: u16,
}

impl Pass {
    /// One that begins now.
    pub(super) const fn begun(now: u64) -> Self {
        Self { began: now, shard: 0 }
    }

    /// The next shard: of this pass, or of the one that is due. A clock that was set back doesn't hold it up.
    pub(super) const fn next(&mut self, now: u64) -> Option<u16> {
        if self.is_over() {
            let over = now < self.began || now - self.began >= EVERY;
            if !over {
                return None;
            }
            *self = Self::begun(now);
        }
        self.shard += 1;
        Some(self.shard - 1)
    }

    /// Whether its last shard was begun.
    pub(super) const fn is_over(self) -> bool {
        self.shard >= SHARDS
    }

    /// Whether an archive that was filled then is compared in this pass.
    pub(super) const fn includes(&self, filled_at: u64) -> bool {
        filled_at <= self.began
    }

    /// Reads what [`fmt::Display`] writes. The shard that was begun last wasn't finished.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (began, shard) = text.trim_end().split_once(' ')?;
        let shard: u16 = shard.parse().ok().filter(|shard| *shard <= SHARDS)?;
        let finished = if shard == SHARDS { SHARDS } else { shard.saturating_sub(1) };
        Some(Self { began: began.parse().ok()?, shard: finished })
    }
}

impl fmt::Display for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {}", self.began, self.shard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_goes_once_over_every_shard_and_the_next_begins_when_it_is_due() {
        let mut pass = Pass::begun(1_000);
        let shards: Vec<u16> = std::iter::from_fn(|| pass.next(1_500)).collect();
        assert_eq!(shards, (0..SHARDS).collect::<Vec<_>>());
        for (now, next) in
            [(1_500, None), (999 + EVERY, None), (1_000 + EVERY, Some(0)), (1_001 + EVERY, Some(1))]
        {
            assert_eq!(pass.next(now), next, "{now}");
        }
        assert!(
            pass.includes(1_000 + EVERY) && !pass.includes(1_001 + EVERY),
            "what is newer was just written"
        );
    }

    #[test]
    fn a_pass_that_took_longer_than_it_should_is_followed_at_once() {
        let mut pass = Pass { began: 1_000, shard: SHARDS - 1 };
        assert_eq!(pass.next(1_000 + 3 * EVERY), Some(SHARDS - 1));
        assert_eq!(pass.next(1_000 + 3 * EVERY), Some(0));
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_stop_it() {
        let mut pass = Pass { began: 9_000, shard: SHARDS };
        assert_eq!(pass.next(10), Some(0));
    }

    #[test]
    fn it_is_found_again_where_it_stood() {
        for (shard, again) in [(0, 0), (1, 0), (17, 16), (SHARDS - 1, SHARDS - 2), (SHARDS, SHARDS)] {
            let noted = Pass { began: 7, shard }.to_string();
            assert_eq!(Pass::parse(&noted), Some(Pass { began: 7, shard: again }), "{noted}");
        }
        for bad in ["", "7", "7 257", "x 1", "7 -1", "7 1 1"] {
            assert_eq!(Pass::parse(bad), None, "{bad}");
        }
    }
}
