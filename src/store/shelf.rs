//! What is in the store, in the order of its use, and how much room there is.
//!
//! A plain, single-threaded structure: no files, no clock, no locks.

use super::also::Also;
use super::slots::{Rows, Slots};
use crate::key::{ArchiveId, Key};

/// There isn't room for this, whatever may be evicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    /// It doesn't fit the budget beside what can't be evicted.
    #[error("no room for {wanted} bytes in a store of {budget} (cache.max_size)")]
    Budget {
        /// Bytes asked for.
        wanted: u64,
        /// Bytes the store may take.
        budget: u64,
    },
    /// The file system would have too little left.
    #[error(
        "{wanted} bytes more would leave the file system {short} bytes short of what must stay free (cache.min_free)"
    )]
    Disk {
        /// Bytes asked for.
        wanted: u64,
        /// Bytes that are missing.
        short: u64,
    },
    /// It is longer than any archive may be.
    #[error("an archive of {wanted} bytes is longer than {longest} (cache.max_object)")]
    Object {
        /// Its bytes, as far as they are known.
        wanted: u64,
        /// The longest that is stored.
        longest: u64,
    },
    /// It is longer than a file may be there.
    #[error("the archive is longer than a file may be in the cache directory")]
    File,
}

/// An archive's place in the store. Of times after 2106 it is remembered that they are later than all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Which archive.
    pub id: ArchiveId,
    /// Bytes on disk, record included.
    pub bytes: u64,
    /// When it was filled, seconds since the Unix epoch.
    pub filled_at: u64,
    /// When it was used last, seconds since the Unix epoch.
    pub used_at: u64,
    /// By what it is found under another key; 0: by nothing.
    pub marks: [u64; 2],
}

/// All archives, least recently used first.
#[derive(Debug)]
pub struct Shelf {
    budget: u64,
    /// Bytes of archives, of reservations, and of unlinked files that are still read.
    taken: u64,
    slots: Slots,
    /// Keys whose archive was proven to be another key's.
    also: Also,
}

/// What the index lists, ready to be taken over.
#[derive(Debug)]
pub(super) struct Loaded {
    bytes: u64,
    slots: Slots,
}

impl Loaded {
    /// Puts rows in order, which takes a while where they are many.
    pub(super) fn of(rows: Rows) -> Self {
        Self { bytes: rows.bytes(), slots: Slots::of(rows) }
    }

    /// Leaves out a key's archive, of which more is known by now.
    pub(super) fn leave_out(&mut self, key: Key) {
        let bytes = self.slots.remove(key).map_or(0, |slot| slot.bytes);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

impl Shelf {
    /// An empty shelf for `budget` bytes.
    pub fn new(budget: u64) -> Self {
        Self { budget, taken: 0, slots: Slots::default(), also: Also::default() }
    }

    /// Puts in what the index lists, beside the archives that are here, which stay as they are. Costs as much as those
    /// are.
    pub(super) fn load(&mut self, mut loaded: Loaded) {
        for (key, _) in self.slots.iter() {
            loaded.leave_out(key);
        }
        self.take(loaded.bytes);
        loaded.slots.take_over(&self.slots);
        self.slots = loaded.slots;
    }

    /// The archive under a key.
    pub fn find(&self, key: Key) -> Option<Slot> {
        self.slots.find(key)
    }

    /// The key that has a key's archive: itself, or the one whose archive was proven to be the same.
    pub fn holder(&self, key: Key) -> Option<Key> {
        if self.find(key).is_some() {
            return Some(key);
        }
        let (holder, id) = self.also.get(key)?;
        self.find(holder).filter(|slot| slot.id == id).map(|_| holder)
    }

    /// Notes that `holder`'s archive `id` was proven to be `key`'s as well.
    pub fn join(&mut self, key: Key, holder: Key, id: ArchiveId) {
        self.also.insert(key, holder, id);
    }

    /// Forgets that a key's archive is another key's; returns whose.
    pub fn part(&mut self, key: Key) -> Option<Key> {
        let holder = self.holder(key);
        self.also.remove(key);
        holder
    }

    /// The key of an archive with one of these marks.
    pub fn marked(&self, marks: [u64; 2]) -> Option<Key> {
        marks.into_iter().filter(|mark| *mark != 0).find_map(|mark| self.slots.marked(mark))
    }

    /// Marks an archive as used now, the last to go, and returns it.
    pub fn touch(&mut self, key: Key, now: u64) -> Option<Slot> {
        self.slots.touch(key, now)
    }

    /// At most `most` of the archives used since they were last returned here.
    pub fn drain_touched(&mut self, most: usize) -> Vec<(Key, Slot)> {
        self.slots.drain_touched(most)
    }

    /// Notes that an archive's files were found.
    pub(super) fn check(&mut self, key: Key) {
        self.slots.check(key);
    }

    /// Some of the archives whose files weren't found yet: of `most` places from the `from`th on; `None` at the end.
    pub(super) fn unchecked(&self, from: usize, most: usize) -> Option<Vec<(Key, Slot)>> {
        self.slots.unchecked(from, most)
    }

    /// Takes `bytes` of the budget for something new, after evicting what was used least recently and isn't in use;
    /// `short` bytes must go in any case, for the disk's own sake. Returns what was evicted: its bytes are still taken until they are [released](Self::release).
    pub fn reserve(
        &mut self,
        bytes: u64,
        short: u64,
        in_use: impl Fn(ArchiveId) -> bool,
    ) -> Result<Vec<(Key, Slot)>, NoRoom> {
        let (mut needed, mut missing) = (self.taken.saturating_add(bytes), short);
        let mut victims = Vec::new();
        for (key, slot) in self.slots.iter() {
            if needed <= self.budget && missing == 0 {
                break;
            }
            if !in_use(slot.id) {
                needed = needed.saturating_sub(slot.bytes);
                missing = missing.saturating_sub(slot.bytes);
                victims.push((key, slot));
            }
        }
        if needed > self.budget {
            return Err(NoRoom::Budget { wanted: bytes, budget: self.budget });
        }
        if missing > 0 {
            return Err(NoRoom::Disk { wanted: bytes, short: missing });
        }
        for (key, _) in &victims {
            self.slots.remove(*key);
        }
        self.taken = self.taken.saturating_add(bytes);
        Ok(victims)
    }

    /// Evicts what is beyond the budget, as [`Self::reserve`] does, but at most `most` archives, and what there is to
    /// evict.
    pub(super) fn trim(&mut self, most: usize, in_use: impl Fn(ArchiveId) -> bool) -> Vec<(Key, Slot)> {
        let (mut left, mut victims) = (self.taken, Vec::new());
        for (key, slot) in self.slots.iter().filter(|(_, slot)| !in_use(slot.id)) {
            if left <= self.budget || victims.len() == most {
                break;
            }
            left = left.saturating_sub(slot.bytes);
            victims.push((key, slot));
        }
        for (key, _) in &victims {
            self.slots.remove(*key);
        }
        victims
    }

    /// Takes a few bytes more, without asking for room: what an archive's record needs.
    pub fn take(&mut self, bytes: u64) {
        self.taken = self.taken.saturating_add(bytes);
    }

    /// Notes that an archive has become longer by bytes that are taken already.
    pub fn grow(&mut self, key: Key, id: ArchiveId, bytes: u64) {
        self.slots.grow(key, id, bytes);
    }

    /// Gives bytes back: of a reservation that came to nothing, or of a file that is gone.
    pub fn release(&mut self, bytes: u64) {
        debug_assert!(bytes <= self.taken, "{bytes} of {} bytes released", self.taken);
        self.taken = self.taken.saturating_sub(bytes);
    }

    /// Puts an archive in its place, whose bytes are taken already; returns the one that stood there.
    pub fn place(&mut self, key: Key, slot: Slot) -> Option<Slot> {
        self.also.remove(key);
        self.slots.place(key, slot)
    }

    /// Puts an archive that was found on disk at the place of its last use and takes its bytes; returns the one that
    /// stood there.
    pub fn adopt(&mut self, key: Key, slot: Slot) -> Option<Slot> {
        self.also.remove(key);
        self.take(slot.bytes);
        self.slots.adopt(key, slot)
    }

    /// Takes an archive out; its bytes stay taken until they are released. With `id`, only that very archive.
    pub fn remove(&mut self, key: Key, id: Option<ArchiveId>) -> Option<Slot> {
        let slot = self.find(key)?;
        if id.is_some_and(|id| id != slot.id) {
            return None;
        }
        self.slots.remove(key)
    }

    /// All archives, least recently used first.
    pub fn iter(&self) -> impl Iterator<Item = (Key, Slot)> {
        self.slots.iter()
    }

    /// Archives in the store.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes taken.
    pub const fn taken(&self) -> u64 {
        self.taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::JobId;

    fn key(n: u64) -> Key {
        Key::Job(JobId::parse(&n.to_string()).unwrap())
    }

    fn slot(n: u64, bytes: u64) -> Slot {
        Slot { id: ArchiveId::new(n), bytes, filled_at: 0, used_at: 0, marks: [n, 0] }
    }

    fn shelf(budget: u64, sizes: &[u64]) -> Shelf {
        let mut shelf = Shelf::new(budget);
        for (n, bytes) in (1..).zip(sizes) {
            shelf.adopt(key(n), slot(n, *bytes));
        }
        shelf
    }

    #[test]
    fn the_least_recently_used_go_first_and_no_more_than_needed() {
        let mut shelf = shelf(100, &[30, 30, 30]);
        shelf.touch(key(1), 9);
        let victims = shelf.reserve(40, 0, |_| false).unwrap();
        assert_eq!(victims, [(key(2), slot(2, 30))]);
        assert_eq!(shelf.iter().map(|(key, _)| key).collect::<Vec<_>>(), [key(3), key(1)]);
        assert_eq!(shelf.find(key(1)).map(|slot| slot.used_at), Some(9));
    }

    #[test]
    fn what_the_disk_lacks_goes_whatever_the_budget_allows() {
        let mut shelf = shelf(100, &[30, 30]);
        assert_eq!(
            shelf.reserve(10, 31, |id| id == ArchiveId::new(1)),
            Err(NoRoom::Disk { wanted: 10, short: 1 })
        );
        assert_eq!(shelf.len(), 2, "nothing goes in vain");
        assert_eq!(shelf.reserve(10, 31, |_| false).unwrap().len(), 2);
    }

    #[test]
    fn what_is_in_use_stays() {
        let mut shelf = shelf(100, &[50, 50]);
        assert_eq!(shelf.reserve(10, 0, |id| id == ArchiveId::new(1)).unwrap(), [(key(2), slot(2, 50))]);
        assert!(shelf.reserve(60, 0, |_| true).is_err());
        assert_eq!(shelf.reserve(101, 0, |_| false), Err(NoRoom::Budget { wanted: 101, budget: 100 }));
        assert!(shelf.find(key(1)).is_some(), "nothing goes for what doesn't fit anyway");
    }

    #[test]
    fn an_archive_is_found_by_its_marks_and_under_joined_keys_while_it_is_there() {
        let mut shelf = shelf(100, &[10, 10]);
        assert_eq!(shelf.marked([0, 2]), Some(key(2)));
        assert_eq!(shelf.marked([0, 0]), None, "no mark is none of all");
        shelf.join(key(9), key(2), ArchiveId::new(2));
        assert_eq!(shelf.holder(key(9)), Some(key(2)));
        shelf.place(key(2), slot(3, 10));
        assert_eq!(shelf.holder(key(9)), None, "it is another one now");
        assert_eq!((shelf.marked([2, 0]), shelf.marked([3, 0])), (None, Some(key(2))));
        shelf.join(key(9), key(1), ArchiveId::new(1));
        shelf.place(key(9), slot(4, 10));
        assert_eq!(shelf.holder(key(9)), Some(key(9)), "its own comes first");
        shelf.remove(key(9), None);
        assert_eq!(shelf.holder(key(9)), None);
        assert_eq!(shelf.part(key(9)), None);
    }

    proptest::proptest! {
        /// Bytes taken are always those of the archives, the reservations and what is still being read.
        #[test]
        fn the_sum_adds_up(steps in proptest::collection::vec((0_u8..6, 1_u64..8, 1_u64..60), 0..60)) {
            let mut shelf = Shelf::new(100);
            let (mut reserved, mut leaving): (Vec<u64>, Vec<u64>) = (vec![], vec![]);
            for (id, (what, n, bytes)) in (100_u64..).zip(steps) {
                match what {
                    0 | 1 => if let Ok(victims) = shelf.reserve(bytes, bytes % 3, |id| id.get() % 3 == 0) {
                        reserved.push(bytes);
                        leaving.extend(victims.iter().map(|(_, slot)| slot.bytes));
                    },
                    2 => if let Some(bytes) = reserved.pop() {
                        leaving.extend(shelf.place(key(n), slot(id, bytes)).map(|old| old.bytes));
                    },
                    3 => if let Some(bytes) = reserved.pop().or_else(|| leaving.pop()) { shelf.release(bytes); },
                    4 => leaving.extend(shelf.remove(key(n), None).map(|slot| slot.bytes)),
                    _ => drop(shelf.touch(key(n), id)),
                }
                let placed: u64 = shelf.iter().map(|(_, slot)| slot.bytes).sum();
                let sum = placed + reserved.iter().sum::<u64>() + leaving.iter().sum::<u64>();
                proptest::prop_assert_eq!(shelf.taken(), sum);
                proptest::prop_assert!(placed + reserved.iter().sum::<u64>() <= 100);
            }
        }
    }
}
