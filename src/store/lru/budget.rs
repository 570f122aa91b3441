//! How much the store may take.

use std::io;

use crate::store::Settings;
use crate::store::disk::reach::Reach;

/// Room for archives, as the operator gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Budget {
    /// So many bytes.
    Bytes(u64),
    /// A part of the whole file system that the cache directory is on, percent, from 1 to 100.
    Percent(u8),
}

/// What a part is taken of where a file system doesn't say how large it is.
const UNKNOWN: u64 = 25 << 30;

impl Budget {
    /// Some percent of the file system; `None` unless that is from 1 to 100.
    pub(crate) fn percent(percent: u8) -> Option<Self> {
        (1..=100).contains(&percent).then_some(Self::Percent(percent))
    }

    /// Bytes on a file system of `total` bytes, 0 if it doesn't say.
    pub(crate) fn on(self, total: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent) => {
                let total = if total == 0 { UNKNOWN } else { total };
                let part = u128::from(total) * u128::from(percent) / 100;
                u64::try_from(part).unwrap_or(u64::MAX)
            }
        }
    }

    /// What is to be said if a file system of `total` bytes, 0 if it doesn't say, can't hold it.
    pub(crate) fn beyond(self, total: u64) -> Option<String> {
        let budget = self.on(total);
        (total > 0 && budget > total).then(|| {
            format!(
                "cache.max_size is {budget} bytes and the file system of cache.dir has {total} in all: it is full before \
                 that, and then the least recently used go"
            )
        })
    }
}

impl From<u64> for Budget {
    fn from(bytes: u64) -> Self {
        Self::Bytes(bytes)
    }
}

/// Bytes that may be taken of the file system that the cache directory is on.
pub(in crate::store) fn here(settings: &Settings, reach: &Reach) -> io::Result<u64> {
    let disk = reach.free(&settings.dir)?;
    let total = disk.f_blocks.saturating_mul(disk.f_frsize);
    if let Some(word) = settings.max_size.beyond(total) {
        tracing::warn!("{word}");
    }
    Ok(settings.max_size.on(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_taken_of_the_whole_file_system() {
        assert_eq!(Budget::Percent(80).on(1000), 800);
        assert_eq!(Budget::Percent(100).on(u64::MAX), u64::MAX);
        assert_eq!(Budget::Bytes(5).on(1000), 5);
        assert_eq!(Budget::Percent(80).on(0), 20 << 30, "it doesn't say how large it is");
        assert_eq!([0, 1, 100, 101].map(|part| Budget::percent(part).is_some()), [false, true, true, false]);
    }

    #[test]
    fn more_than_the_file_system_is_beyond_it() {
        let is_beyond = |budget: Budget, total| budget.beyond(total).is_some();
        assert!(is_beyond(Budget::Bytes(1001), 1000));
        assert!(!is_beyond(Budget::Bytes(1000), 1000));
        assert!(!is_beyond(Budget::Percent(100), 1000));
        assert!(!is_beyond(Budget::Bytes(1), 0), "who knows");
    }
}
