//! What the files have yet to say.
//!
//! larder serves before it has looked at its files. Until it has, what lies under a key may be more than the shelf knows;
//! and what happens meanwhile must not be undone by what a listing found before. Pure.

use std::collections::HashSet;

use crate::base::key::{ArchiveId, Key};
use crate::store::disk::layout::{SHARDS, shard_of};

/// Which shards haven't been looked at, and what has happened in them since the start.
#[derive(Debug, Default)]
pub(in crate::store) struct ScanState {
    /// Those below have been.
    next: u16,
    /// Archives whose files are being put in their place: no more than are committed at once.
    coming: HashSet<ArchiveId>,
    /// Keys whose archive has come or gone since the start: whatever else the files hold for them is void. As many as
    /// come and go while the files are looked at, 25 bytes each; a shard's are let go of with it.
    handled: HashSet<Key>,
}

/// What an archive's files are, to one who found them in a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum FoundFiles {
    /// On the shelf.
    Shelved,
    /// Half of them may be on the way.
    Coming,
    /// They were taken out, or another archive took their place; whoever did it removes them, or should have.
    Void,
    /// Nobody has spoken of them since the start.
    News,
}

impl ScanState {
    /// Whether there may be more under a key than is known.
    pub(in crate::store) fn awaits(&self, key: Key) -> bool {
        shard_of(key) >= self.next
    }

    /// Shards that haven't been looked at.
    pub(in crate::store) const fn shards(&self) -> u16 {
        SHARDS.saturating_sub(self.next)
    }

    /// A shard and all before it have been looked at.
    pub(in crate::store) fn looked_at(&mut self, shard: u16) {
        self.next = shard.saturating_add(1);
        let next = self.next;
        self.handled.retain(|key| shard_of(*key) >= next);
        self.handled.shrink_to(self.handled.len().saturating_mul(2));
    }

    /// An archive's files are about to be put in their place.
    pub(in crate::store) fn comes(&mut self, id: ArchiveId) {
        self.coming.insert(id);
    }

    /// They are there, or will never be.
    pub(in crate::store) fn came(&mut self, id: ArchiveId) {
        self.coming.remove(&id);
    }

    /// A key's archive has come or gone.
    pub(in crate::store) fn handle(&mut self, key: Key) {
        if self.awaits(key) {
            self.handled.insert(key);
        }
    }

    /// The keys whose archive has come or gone.
    pub(in crate::store) fn handled(&self) -> impl Iterator<Item = Key> {
        self.handled.iter().copied()
    }

    /// What an archive's files are that were found: `shelved` is the archive that its key has.
    pub(in crate::store) fn standing(
        &self,
        key: Key,
        id: ArchiveId,
        shelved: Option<ArchiveId>,
    ) -> FoundFiles {
        if shelved == Some(id) {
            FoundFiles::Shelved
        } else if self.coming.contains(&id) {
            FoundFiles::Coming
        } else if self.handled.contains(&key) {
            FoundFiles::Void
        } else {
            FoundFiles::News
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::key::JobId;

    #[test]
    fn what_came_or_went_since_the_start_is_no_news_until_its_shard_is_done() {
        let key = |n: u64| Key::Job(JobId::parse(&n.to_string()).unwrap());
        let (one, two) = (ArchiveId::new(1), ArchiveId::new(2));
        let mut unchecked = ScanState::default();
        assert_eq!(unchecked.standing(key(1), one, None), FoundFiles::News);
        unchecked.comes(one);
        assert_eq!(unchecked.standing(key(1), one, None), FoundFiles::Coming);
        unchecked.came(one);
        unchecked.handle(key(1));
        unchecked.handle(key(2));
        assert_eq!(unchecked.standing(key(1), one, Some(one)), FoundFiles::Shelved);
        assert_eq!(unchecked.standing(key(1), two, Some(one)), FoundFiles::Void);
        unchecked.looked_at(1);
        assert!(!unchecked.awaits(key(1)) && unchecked.awaits(key(2)));
        assert_eq!(unchecked.handled().collect::<Vec<_>>(), [key(2)], "a shard's keys are let go of");
        unchecked.looked_at(SHARDS - 1);
        assert_eq!((unchecked.shards(), unchecked.handled().count()), (0, 0));
        unchecked.handle(key(3));
        assert_eq!(unchecked.handled().count(), 0, "nothing is noted any more");
    }
}
