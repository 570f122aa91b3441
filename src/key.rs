//! What an archive is stored under.
//!
//! Owns [`JobId`], [`Key`] and [`ArchiveId`]. Pure; knows nothing of how GitLab or the disk name things.

use std::fmt;

/// A GitLab job ID: 1 to `i64::MAX`, the range of GitLab's own column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(u64);

impl JobId {
    /// The ID written in canonical decimal: no sign, no leading zero, no underscore. GitLab may read other
    /// spellings as the same number; those are passed through and never cached.
    pub fn parse(text: &str) -> Option<Self> {
        let canonical =
            text.starts_with(|c: char| matches!(c, '1'..='9')) && text.bytes().all(|b| b.is_ascii_digit());
        let value = if canonical {
            text.parse::<i64>().ok()?
        } else {
            return None;
        };
        u64::try_from(value).ok().map(Self)
    }

    /// The ID as a number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What an archive is stored under, within one GitLab instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// The archive of this job.
    Job(JobId),
}

impl Key {
    /// The job that the archive belongs to.
    pub const fn job(self) -> JobId {
        match self {
            Self::Job(job) => job,
        }
    }
}

/// Names one set of bytes, for ever: a job that uploads again gets another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ArchiveId(u64);

impl ArchiveId {
    /// The ID with this number.
    pub const fn new(n: u64) -> Self {
        Self(n)
    }

    /// The ID as a number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The ID as it stands in file names: 16 lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let canonical = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if canonical { u64::from_str_radix(text, 16).ok().map(Self) } else { None }
    }
}

impl fmt::Display for ArchiveId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_job_ids_are_job_ids() {
        for good in ["1", "42", "9223372036854775807"] {
            assert_eq!(JobId::parse(good).map(|id| id.to_string()).as_deref(), Some(good));
        }
        for bad in ["", "0", "042", "+42", "-1", "4_2", "42 ", "9223372036854775808", "١", "4.0"] {
            assert_eq!(JobId::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn archive_ids_round_trip_through_file_names() {
        for n in [0, 1, u64::MAX] {
            assert_eq!(ArchiveId::parse(&ArchiveId::new(n).to_string()), Some(ArchiveId::new(n)));
        }
        assert_eq!(ArchiveId::parse("000000000000000G"), None);
        assert_eq!(ArchiveId::parse("1"), None);
    }
}
