//! What an archive is stored under.
//!
//! Owns [`JobId`], [`RefId`], [`Key`] and [`ArchiveId`]. Pure; knows nothing of how GitLab or the disk name things.

use std::fmt;

use ring::digest::{Context, SHA256};

use crate::base::num::to_u64;

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
    pub(crate) const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A question by ref, whose job GitLab doesn't name: 128 bits of SHA-256 over project, ref, job name and flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RefId([u8; 16]);

impl RefId {
    /// The ID of a question made of `parts`, each taken with its length.
    pub(crate) fn of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut context = Context::new(&SHA256);
        for part in parts {
            context.update(&to_u64(part.len()).to_be_bytes());
            context.update(part);
        }
        Self(context.finish().as_ref().first_chunk().copied().unwrap_or_default())
    }
}

/// What an archive is stored under, within one GitLab instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// The archive of this job.
    Job(JobId),
    /// The archive that a ref leads to now, whichever job it is of.
    Ref(RefId),
}

/// What a ref's key begins with as text.
const REF: &str = "ref";

impl Key {
    /// The job that the archive belongs to, if its key says so.
    pub const fn job(self) -> Option<JobId> {
        match self {
            Self::Job(job) => Some(job),
            Self::Ref(_) => None,
        }
    }

    /// The key as bytes: 8 for a job, 16 for a ref.
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        match self {
            Self::Job(job) => job.get().to_be_bytes().to_vec(),
            Self::Ref(RefId(id)) => id.to_vec(),
        }
    }

    /// Reads what [`Self::to_bytes`] wrote.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if let Ok(id) = <[u8; 16]>::try_from(bytes) {
            return Some(Self::Ref(RefId(id)));
        }
        let number = u64::from_be_bytes(bytes.try_into().ok()?);
        JobId::parse(&number.to_string()).map(Self::Job)
    }

    /// Reads what its `Display` wrote: a job's number, or `ref` and 32 hexadecimal digits.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let Some(digits) = text.strip_prefix(REF) else {
            return JobId::parse(text).map(Self::Job);
        };
        let canonical = digits.len() == 32 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let id = u128::from_str_radix(digits, 16).ok().filter(|_| canonical)?;
        Some(Self::Ref(RefId(id.to_be_bytes())))
    }

    /// A number that spreads keys evenly, for shards.
    pub(crate) fn spread(self) -> u64 {
        match self {
            Self::Job(job) => job.get(),
            Self::Ref(RefId(id)) => id.first_chunk().copied().map(u64::from_be_bytes).unwrap_or_default(),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Job(job) => job.fmt(f),
            Self::Ref(RefId(id)) => write!(f, "{REF}{:032x}", u128::from_be_bytes(*id)),
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
    pub(crate) fn parse(text: &str) -> Option<Self> {
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
    fn keys_round_trip_as_text_and_as_bytes() {
        let by_ref = |parts: &[&str]| Key::Ref(RefId::of(parts.iter().map(|part| part.as_bytes())));
        for key in [Key::Job(JobId(42)), Key::Job(JobId(9_223_372_036_854_775_807)), by_ref(&["7", "main"])] {
            assert_eq!(Key::parse(&key.to_string()), Some(key));
            assert_eq!(Key::from_bytes(&key.to_bytes()), Some(key));
        }
        assert_ne!(by_ref(&["a", "bc"]), by_ref(&["ab", "c"]));
        for bad in
            ["", "ref", "ref0", "REF00000000000000000000000000000000", "ref+0000000000000000000000000000000"]
        {
            assert_eq!(Key::parse(bad), None, "{bad}");
        }
        assert_eq!(Key::from_bytes(&[0; 8]), None, "no job has this number");
        assert_eq!(Key::from_bytes(&[1; 9]), None);
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
