//! Whether GitLab said yes, to whom, and for which bytes.
//!
//! Owns the facts by which an archive is recognised, the judgement of GitLab's answers, and [`Grant`], without which
//! no cached byte leaves. Pure: knows nothing of connections, files or caches; a clock reading is an argument.
//! The only way to a [`Grant`] leads through a [`Yes`], and only [`judge`] makes one.

pub(crate) mod faces;
pub(crate) mod facts;
pub mod judge;
pub(crate) mod storage;
pub(crate) mod visitors;

use std::time::Duration;

use bytes::Bytes;

use crate::base::clock::Moment;
use crate::base::key::ArchiveId;

pub(crate) use faces::Face;
pub use facts::{Facts, Relation};
pub use judge::{Answer, Opening, Verdict, Yes};
pub use storage::{AskedPath, Location, ObjectPath, StorageRules};
pub(crate) use visitors::RecentCallers;

/// A state of what is known about a key's archive; it rises with every invalidation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch {
    /// Of the key: a job's, or that of all refs.
    pub key: u64,
    /// Of everything.
    pub global: u64,
}

/// GitLab's yes to one caller and one question, naming the very archive that it opens.
#[derive(Debug, Clone)]
pub struct Grant {
    archive: ArchiveId,
    asked_at: Moment,
    epoch: Epoch,
    tail: Option<Bytes>,
}

impl Grant {
    /// Turns a yes into a grant for `archive`. `asked_at` and `epoch` were read before the question was sent.
    ///
    /// `tail` is what the archive must end with, where it was still growing when GitLab said so.
    pub fn new(_yes: Yes, archive: ArchiveId, asked_at: Moment, epoch: Epoch, tail: Option<Bytes>) -> Self {
        Self { archive, asked_at, epoch, tail }
    }

    /// Whether this grant opens `archive`, which ends with `tail` if that is known, in the present `epoch`, at an age of
    /// less than `limit`.
    ///
    /// A limit of zero opens nothing: each request asks for itself. Nor does a grant whose own tail is another one:
    /// GitLab said yes to something else of the same length and date.
    pub fn opens(
        &self,
        archive: ArchiveId,
        tail: Option<&[u8]>,
        epoch: Epoch,
        now: Moment,
        limit: Duration,
    ) -> bool {
        self.fits(archive, tail) && self.epoch == epoch && now.since(self.asked_at) < limit
    }

    /// Whether it was given for `archive`, and for an archive that ends like this one as far as both are known.
    pub(crate) fn fits(&self, archive: ArchiveId, tail: Option<&[u8]>) -> bool {
        let ends_alike = match (tail, self.tail()) {
            (Some(tail), Some(shown)) => tail == shown,
            _ => true,
        };
        self.names(archive) && ends_alike
    }

    /// Whether it was given for `archive`.
    pub(crate) fn names(&self, archive: ArchiveId) -> bool {
        self.archive == archive
    }

    /// The state of things when the question was sent.
    pub(crate) const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// When the question was sent.
    pub(crate) const fn asked_at(&self) -> Moment {
        self.asked_at
    }

    /// The last bytes that GitLab showed, if they couldn't be compared yet.
    pub(crate) fn tail(&self) -> Option<&[u8]> {
        self.tail.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Clock;

    #[test]
    fn a_grant_opens_nothing_that_ends_otherwise_than_gitlab_showed() {
        let (clock, epoch, id) = (Clock::manual(1_000), Epoch { key: 0, global: 0 }, ArchiveId::new(1));
        let grant = Grant::new(Yes::for_test(), id, clock.now(), epoch, Some(Bytes::from_static(b"shown")));
        let opens = |tail| grant.opens(id, tail, epoch, clock.now(), Duration::from_secs(1));
        assert!(opens(None), "not known yet: compared when it is there");
        assert!(opens(Some(b"shown".as_slice())));
        assert!(!opens(Some(b"other".as_slice())));
    }

    #[test]
    fn a_grant_opens_one_archive_in_one_epoch_for_a_while() {
        let clock = Clock::manual(1_000);
        let epoch = Epoch { key: 3, global: 1 };
        let (mine, other) = (ArchiveId::new(1), ArchiveId::new(2));
        let grant = Grant::new(Yes::for_test(), mine, clock.now(), epoch, None);
        let ttl = Duration::from_secs(30);
        assert!(grant.opens(mine, None, epoch, clock.now(), ttl));
        assert!(!grant.opens(other, None, epoch, clock.now(), ttl), "another archive");
        assert!(
            !grant.opens(mine, None, Epoch { key: 4, global: 1 }, clock.now(), ttl),
            "something changed at the job"
        );
        assert!(
            !grant.opens(mine, None, Epoch { key: 3, global: 2 }, clock.now(), ttl),
            "something changed anywhere"
        );
        assert!(
            !grant.opens(mine, None, epoch, clock.now(), Duration::ZERO),
            "the audit mode remembers nothing"
        );
        clock.advance(ttl);
        assert!(!grant.opens(mine, None, epoch, clock.now(), ttl), "too old");
    }
}
