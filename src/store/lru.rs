//! What is in the store, in the order of its use, and how much room there is: an LRU with a budget of bytes.
//!
//! A plain, single-threaded structure: no files, no clock, no locks. Archives stand in a table of places, and are found
//! there by key, by mark and by use. The order is a set of times, not a linked list: an archive that is found on disk
//! goes to the place of its last use, and a start may find a million of them. Those take some 200 MiB.

pub(super) mod account;
mod aliases;
pub(super) mod budget;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use hashlink::DefaultHashBuilder;
use slab::Slab;

use super::error::NoRoom;
use super::lru::account::Account;
use super::lru::aliases::Aliases;
use crate::base::key::{ArchiveId, Key};

/// What is known of an archive in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredMeta {
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

/// A place in the order of use: seconds since the Unix epoch, then which use within that second. Times after 2106 are
/// later than all others.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct UseRank {
    second: u32,
    nth: u32,
}

impl UseRank {
    fn first_at(seconds: u64) -> Self {
        Self { second: u32::try_from(seconds).unwrap_or(u32::MAX), nth: 0 }
    }

    /// What follows this one, not before `seconds`.
    fn next_at(self, seconds: u64) -> Self {
        Self::first_at(seconds).max(Self { nth: self.nth.saturating_add(1), ..self })
    }
}

/// An archive in its place.
#[derive(Debug, Clone, Copy)]
struct LruEntry {
    key: Key,
    meta: StoredMeta,
    /// Which use within its second.
    nth: u32,
    /// Used since that was last noted.
    touched: bool,
    /// Its files are known to be there.
    checked: bool,
}

impl LruEntry {
    fn rank(&self) -> UseRank {
        UseRank { nth: self.nth, ..UseRank::first_at(self.meta.used_at) }
    }

    fn marks(&self) -> impl Iterator<Item = u64> + use<> {
        self.meta.marks.into_iter().filter(|mark| *mark != 0)
    }
}

/// Archives as the index lists them, in no order.
#[derive(Debug, Default)]
pub(super) struct Rows {
    entries: Slab<LruEntry>,
    bytes: u64,
}

impl Rows {
    /// Adds one, under a key that isn't there.
    pub(super) fn push(&mut self, key: Key, meta: StoredMeta) {
        self.bytes = self.bytes.saturating_add(meta.bytes);
        self.entries.insert(LruEntry { key, meta, nth: 0, touched: false, checked: false });
    }
}

/// All archives.
#[derive(Debug, Default)]
pub struct SizedLru {
    budget: u64,
    account: Arc<Account>,
    entries: Slab<LruEntry>,
    by_key: HashMap<Key, usize, DefaultHashBuilder>,
    by_use: BTreeSet<(UseRank, usize)>,
    /// A hint: two archives may share a mark, and the last one is found.
    by_mark: BTreeMap<u64, usize>,
    /// Places used since that was last noted, some of them vacant or twice; never more than there were archives then and
    /// since.
    touched: Vec<usize>,
    last_use: UseRank,
    /// Keys whose archive was proven to be another key's.
    aliases: Aliases,
}

impl SizedLru {
    /// An empty one for `budget` bytes.
    pub fn new(budget: u64) -> Self {
        Self::counting(budget, Arc::default())
    }

    /// An empty one for `budget` bytes, of which those are taken that the account says.
    pub(super) fn counting(budget: u64, account: Arc<Account>) -> Self {
        Self { budget, account, ..Self::default() }
    }

    /// One of its own of all that the index lists. Sorting once and making each table in its final size costs a fraction
    /// of adding one by one, but takes a while where there are many.
    pub(super) fn listed(rows: Rows) -> Self {
        let mut entries = rows.entries;
        entries.shrink_to_fit();
        let by_key = entries.iter().map(|(at, entry)| (entry.key, at)).collect();
        let mut by_use: Vec<_> = entries.iter().map(|(at, entry)| (entry.rank(), at)).collect();
        by_use.sort_unstable();
        let marks = entries.iter().flat_map(|(at, entry)| entry.marks().map(move |mark| (mark, at)));
        let mut by_mark: Vec<_> = marks.collect();
        by_mark.sort_unstable();
        let (by_use, by_mark) = (by_use.into_iter().collect(), by_mark.into_iter().collect());
        let listed = Self { entries, by_key, by_use, by_mark, ..Self::default() };
        listed.take(rows.bytes);
        listed
    }

    /// Puts in what the index lists, beside the archives that are here, which stay as they are. Costs as much as those
    /// are.
    pub(super) fn merge(&mut self, mut listed: Self) {
        for (_, entry) in &self.entries {
            let bytes = listed.remove(entry.key, None).map_or(0, |meta| meta.bytes);
            listed.release(bytes);
        }
        self.take(listed.taken());
        for (_, entry) in &self.entries {
            listed.insert(*entry);
        }
        *self = Self {
            budget: self.budget,
            account: Arc::clone(&self.account),
            last_use: self.last_use,
            aliases: std::mem::take(&mut self.aliases),
            ..listed
        };
    }

    /// The archive under a key.
    pub fn get(&self, key: Key) -> Option<StoredMeta> {
        self.entries.get(*self.by_key.get(&key)?).map(|entry| entry.meta)
    }

    /// The key that has a key's archive: itself, or the one whose archive was proven to be the same.
    pub(crate) fn holder(&self, key: Key) -> Option<Key> {
        if self.by_key.contains_key(&key) {
            return Some(key);
        }
        let (holder, id) = self.aliases.get(key)?;
        self.get(holder).filter(|meta| meta.id == id).map(|_| holder)
    }

    /// Notes that `holder`'s archive `id` was proven to be `key`'s as well.
    pub(crate) fn join(&mut self, key: Key, holder: Key, id: ArchiveId) {
        self.aliases.insert(key, holder, id);
    }

    /// Forgets that a key's archive is another key's; returns whose.
    pub(crate) fn part(&mut self, key: Key) -> Option<Key> {
        let holder = self.holder(key);
        self.aliases.remove(key);
        holder
    }

    /// The key of an archive with one of these marks.
    pub fn marked(&self, marks: [u64; 2]) -> Option<Key> {
        let at = marks.into_iter().filter(|mark| *mark != 0).find_map(|mark| self.by_mark.get(&mark))?;
        self.entries.get(*at).map(|entry| entry.key)
    }

    /// Marks an archive as used now, the last to go, and returns it as it was before. Within one second archives keep the
    /// order of their first use.
    pub fn touch(&mut self, key: Key, now: u64) -> Option<StoredMeta> {
        let at = *self.by_key.get(&key)?;
        let entry = self.entries.get_mut(at)?;
        let (before, was) = (entry.meta, entry.rank());
        let now = now.max(self.last_use.second.into());
        if before.used_at != now {
            self.last_use = self.last_use.next_at(now);
            (entry.meta.used_at, entry.nth) = (now, self.last_use.nth);
            if !std::mem::replace(&mut entry.touched, true) {
                self.touched.push(at);
            }
            self.by_use.remove(&(was, at));
            self.by_use.insert((self.last_use, at));
        }
        Some(before)
    }

    /// At most `most` of the archives used since they were last returned here.
    pub(crate) fn drain_touched(&mut self, most: usize) -> Vec<(Key, StoredMeta)> {
        let mut noted = Vec::new();
        for at in self.touched.drain(..most.min(self.touched.len())) {
            if let Some(entry) = self.entries.get_mut(at).filter(|entry| entry.touched) {
                entry.touched = false;
                noted.push((entry.key, entry.meta));
            }
        }
        noted
    }

    /// Notes that an archive's files were found.
    pub(super) fn check(&mut self, key: Key) {
        if let Some(entry) = self.entry_mut(key) {
            entry.checked = true;
        }
    }

    /// Some of the archives whose files weren't found yet: of `most` places from the `from`th on; `None` beyond the last.
    pub(super) fn unchecked(&self, from: usize, most: usize) -> Option<Vec<(Key, StoredMeta)>> {
        if from >= self.entries.capacity() {
            return None;
        }
        let places = (from..from.saturating_add(most)).filter_map(|at| self.entries.get(at));
        Some(places.filter(|entry| !entry.checked).map(|entry| (entry.key, entry.meta)).collect())
    }

    /// Takes `bytes` of the budget for something new, after evicting what was used least recently and isn't in use;
    /// `short` bytes must go in any case, for the disk's own sake. Returns what was evicted: its bytes are still taken
    /// until they are [released](Self::release).
    pub(crate) fn reserve(
        &mut self,
        bytes: u64,
        short: u64,
        in_use: impl Fn(ArchiveId) -> bool,
    ) -> Result<Vec<(Key, StoredMeta)>, NoRoom> {
        let beyond = self.taken().saturating_add(bytes).saturating_sub(self.budget);
        let (victims, freed) = self.choose(beyond.max(short), usize::MAX, in_use);
        if freed < beyond {
            return Err(NoRoom::Budget { wanted: bytes, budget: self.budget });
        }
        if freed < short {
            return Err(NoRoom::Disk { wanted: bytes, short: short - freed });
        }
        self.take(bytes);
        Ok(self.leave(victims))
    }

    /// Evicts at least one archive, and as many as free `bytes`, of what isn't in use; fewer if there are no more. Their
    /// bytes are still taken until they are [released](Self::release).
    pub(super) fn evict(&mut self, bytes: u64, in_use: impl Fn(ArchiveId) -> bool) -> Vec<(Key, StoredMeta)> {
        let (victims, _) = self.choose(bytes.max(1), usize::MAX, in_use);
        self.leave(victims)
    }

    /// The same, but nothing unless that frees `bytes`.
    pub(super) fn evict_whole(
        &mut self,
        bytes: u64,
        in_use: impl Fn(ArchiveId) -> bool,
    ) -> Vec<(Key, StoredMeta)> {
        let (victims, freed) = self.choose(bytes.max(1), usize::MAX, in_use);
        if freed < bytes { Vec::new() } else { self.leave(victims) }
    }

    /// Evicts what is beyond the budget, as [`Self::reserve`] does, but at most `most` archives, and what there is to
    /// evict.
    pub(super) fn trim(&mut self, most: usize, in_use: impl Fn(ArchiveId) -> bool) -> Vec<(Key, StoredMeta)> {
        let (victims, _) = self.choose(self.taken().saturating_sub(self.budget), most, in_use);
        self.leave(victims)
    }

    /// The victims: at most `most` archives that aren't in use, least recently used first, until they free `bytes`.
    /// Returns how many bytes they do free.
    fn choose(
        &self,
        bytes: u64,
        most: usize,
        in_use: impl Fn(ArchiveId) -> bool,
    ) -> (Vec<(Key, StoredMeta)>, u64) {
        let (mut victims, mut freed) = (Vec::new(), 0_u64);
        for (key, meta) in self.iter() {
            if freed >= bytes || victims.len() == most {
                break;
            }
            if !in_use(meta.id) {
                freed = freed.saturating_add(meta.bytes);
                victims.push((key, meta));
            }
        }
        (victims, freed)
    }

    fn leave(&mut self, victims: Vec<(Key, StoredMeta)>) -> Vec<(Key, StoredMeta)> {
        for (key, _) in &victims {
            self.remove(*key, None);
        }
        victims
    }

    /// Takes a few bytes more, without asking for room: what an archive's record needs.
    pub(crate) fn take(&self, bytes: u64) {
        self.account.take(bytes);
    }

    /// Gives bytes back: of a reservation that came to nothing, or of a file that is gone.
    pub(crate) fn release(&self, bytes: u64) {
        self.account.release(bytes);
    }

    /// Notes that an archive has become longer by bytes that are taken already; `false`: it isn't here.
    pub(super) fn grow(&mut self, key: Key, id: ArchiveId, bytes: u64) -> bool {
        let entry = self.entry_mut(key).filter(|entry| entry.meta.id == id);
        entry.map(|entry| entry.meta.bytes = entry.meta.bytes.saturating_add(bytes)).is_some()
    }

    /// Adds an archive that has just arrived, used last, whose bytes are taken already; returns the one that stood there.
    pub(crate) fn add(&mut self, key: Key, meta: StoredMeta) -> Option<StoredMeta> {
        self.aliases.remove(key);
        let used_at = meta.used_at.max(self.last_use.second.into());
        self.last_use = self.last_use.next_at(used_at);
        let (meta, nth) = (StoredMeta { used_at, ..meta }, self.last_use.nth);
        self.insert(LruEntry { key, meta, nth, touched: false, checked: true })
    }

    /// Adds an archive that was found on disk, at the place of its last use, and takes its bytes; returns the one that
    /// stood there.
    pub fn adopt(&mut self, key: Key, meta: StoredMeta) -> Option<StoredMeta> {
        self.aliases.remove(key);
        self.take(meta.bytes);
        self.insert(LruEntry { key, meta, nth: 0, touched: false, checked: true })
    }

    fn insert(&mut self, entry: LruEntry) -> Option<StoredMeta> {
        let replaced = self.remove(entry.key, None);
        let at = self.entries.insert(entry);
        self.by_key.insert(entry.key, at);
        self.by_use.insert((entry.rank(), at));
        self.by_mark.extend(entry.marks().map(|mark| (mark, at)));
        if entry.touched {
            self.touched.push(at);
        }
        replaced
    }

    /// Takes an archive out; its bytes stay taken until they are released. With `id`, only that very archive.
    pub(crate) fn remove(&mut self, key: Key, id: Option<ArchiveId>) -> Option<StoredMeta> {
        let at = *self.by_key.get(&key)?;
        let entry = *self.entries.get(at).filter(|entry| id.is_none_or(|id| id == entry.meta.id))?;
        self.entries.remove(at);
        self.by_key.remove(&key);
        self.by_use.remove(&(entry.rank(), at));
        for mark in entry.marks() {
            if self.by_mark.get(&mark) == Some(&at) {
                self.by_mark.remove(&mark);
            }
        }
        Some(entry.meta)
    }

    fn entry_mut(&mut self, key: Key) -> Option<&mut LruEntry> {
        self.entries.get_mut(*self.by_key.get(&key)?)
    }

    /// All archives, least recently used first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, StoredMeta)> {
        let entries = self.by_use.iter().filter_map(|(_, at)| self.entries.get(*at));
        entries.map(|entry| (entry.key, entry.meta))
    }

    /// Archives in the store.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes taken.
    pub(crate) fn taken(&self) -> u64 {
        self.account.taken()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::key::{JobId, RefId};

    fn key(n: u64) -> Key {
        let by_ref = Key::Ref(RefId::of([n.to_be_bytes().as_slice()]));
        if n.is_multiple_of(3) { by_ref } else { Key::Job(JobId::parse(&n.to_string()).unwrap()) }
    }

    fn meta(n: u64, bytes: u64) -> StoredMeta {
        StoredMeta { id: ArchiveId::new(n), bytes, filled_at: 0, used_at: 0, marks: [n, 0] }
    }

    fn lru(budget: u64, sizes: &[u64]) -> SizedLru {
        let mut lru = SizedLru::new(budget);
        for (n, bytes) in (1..).zip(sizes) {
            lru.adopt(key(n), meta(n, *bytes));
        }
        lru
    }

    #[test]
    fn the_least_recently_used_go_first_and_no_more_than_needed() {
        let mut lru = lru(100, &[30, 30, 30]);
        lru.touch(key(1), 9);
        let victims = lru.reserve(40, 0, |_| false).unwrap();
        assert_eq!(victims, [(key(2), meta(2, 30))]);
        assert_eq!(lru.iter().map(|(key, _)| key).collect::<Vec<_>>(), [key(3), key(1)]);
        assert_eq!(lru.get(key(1)).map(|meta| meta.used_at), Some(9));
    }

    #[test]
    fn what_the_disk_lacks_goes_whatever_the_budget_allows() {
        let mut lru = lru(100, &[30, 30]);
        assert_eq!(
            lru.reserve(10, 31, |id| id == ArchiveId::new(1)),
            Err(NoRoom::Disk { wanted: 10, short: 1 })
        );
        assert_eq!(lru.len(), 2, "nothing goes in vain");
        assert_eq!(lru.reserve(10, 31, |_| false).unwrap().len(), 2);
    }

    #[test]
    fn as_much_is_given_up_as_is_needed_and_nothing_in_vain() {
        let mut lru = lru(100, &[10, 20, 30]);
        assert!(lru.evict_whole(51, |id| id == ArchiveId::new(1)).is_empty(), "20 and 30 aren't 51");
        assert_eq!(lru.len(), 3);
        assert_eq!(lru.evict_whole(21, |id| id == ArchiveId::new(1)).len(), 2);
        assert_eq!(lru.evict(0, |_| false), [(key(1), meta(1, 10))], "one at least");
        assert!(lru.evict(1, |_| false).is_empty());
    }

    #[test]
    fn what_is_in_use_stays() {
        let mut lru = lru(100, &[50, 50]);
        assert_eq!(lru.reserve(10, 0, |id| id == ArchiveId::new(1)).unwrap(), [(key(2), meta(2, 50))]);
        assert!(lru.reserve(60, 0, |_| true).is_err());
        assert_eq!(lru.reserve(101, 0, |_| false), Err(NoRoom::Budget { wanted: 101, budget: 100 }));
        assert!(lru.get(key(1)).is_some(), "nothing goes for what doesn't fit anyway");
    }

    #[test]
    fn an_archive_is_found_by_its_marks_and_under_joined_keys_while_it_is_there() {
        let mut lru = lru(100, &[10, 10]);
        assert_eq!(lru.marked([0, 2]), Some(key(2)));
        assert_eq!(lru.marked([0, 0]), None, "no mark is none of all");
        lru.join(key(9), key(2), ArchiveId::new(2));
        assert_eq!(lru.holder(key(9)), Some(key(2)));
        lru.add(key(2), meta(3, 10));
        assert_eq!(lru.holder(key(9)), None, "it is another one now");
        assert_eq!((lru.marked([2, 0]), lru.marked([3, 0])), (None, Some(key(2))));
        lru.join(key(9), key(1), ArchiveId::new(1));
        lru.add(key(9), meta(4, 10));
        assert_eq!(lru.holder(key(9)), Some(key(9)), "its own comes first");
        lru.remove(key(9), None);
        assert_eq!(lru.holder(key(9)), None);
        assert_eq!(lru.part(key(9)), None);
    }

    proptest::proptest! {
        /// Bytes taken are always those of the archives, the reservations and what is still being read.
        #[test]
        fn the_sum_adds_up(steps in proptest::collection::vec((0_u8..6, 1_u64..8, 1_u64..60), 0..60)) {
            let mut lru = SizedLru::new(100);
            let (mut reserved, mut leaving): (Vec<u64>, Vec<u64>) = (vec![], vec![]);
            for (id, (what, n, bytes)) in (100_u64..).zip(steps) {
                match what {
                    0 | 1 => if let Ok(victims) = lru.reserve(bytes, bytes % 3, |id| id.get() % 3 == 0) {
                        reserved.push(bytes);
                        leaving.extend(victims.iter().map(|(_, meta)| meta.bytes));
                    },
                    2 => if let Some(bytes) = reserved.pop() {
                        leaving.extend(lru.add(key(n), meta(id, bytes)).map(|old| old.bytes));
                    },
                    3 => if let Some(bytes) = reserved.pop().or_else(|| leaving.pop()) { lru.release(bytes); },
                    4 => leaving.extend(lru.remove(key(n), None).map(|meta| meta.bytes)),
                    _ => drop(lru.touch(key(n), id)),
                }
                let placed: u64 = lru.iter().map(|(_, meta)| meta.bytes).sum();
                let sum = placed + reserved.iter().sum::<u64>() + leaving.iter().sum::<u64>();
                proptest::prop_assert_eq!(lru.taken(), sum);
                proptest::prop_assert!(placed + reserved.iter().sum::<u64>() <= 100);
            }
        }
    }

    #[test]
    fn an_archive_takes_80_bytes_and_its_tables_some_100() {
        assert_eq!(size_of::<Option<LruEntry>>(), 80);
        assert_eq!(size_of::<(UseRank, usize)>(), 16);
    }

    #[test]
    fn times_beyond_2106_are_later_than_all_others() {
        assert_eq!(UseRank::first_at(u64::MAX).second, u32::MAX);
        assert_eq!(UseRank::first_at(u64::MAX), UseRank::first_at(u64::from(u32::MAX)));
    }

    fn used(n: u64, used_at: u64, marks: [u64; 2]) -> StoredMeta {
        StoredMeta { id: ArchiveId::new(n), bytes: n, filled_at: used_at / 2, used_at, marks }
    }

    /// The same without a thought for memory: what is used comes last.
    #[derive(Default)]
    struct Naive {
        /// By when they were used last, and which use within that second that was.
        all: Vec<(u64, u64, Key, StoredMeta)>,
        uses: u64,
        touched: BTreeSet<Key>,
    }

    impl Naive {
        fn at(&self, key: Key) -> Option<usize> {
            self.all.iter().position(|(.., other, _)| *other == key)
        }

        fn put(&mut self, nth: u64, key: Key, meta: StoredMeta) -> Option<StoredMeta> {
            let replaced = self.remove(key);
            self.all.push((meta.used_at, nth, key, meta));
            self.all.sort_by_key(|(used, nth, ..)| (*used, *nth));
            replaced
        }

        fn remove(&mut self, key: Key) -> Option<StoredMeta> {
            self.touched.remove(&key);
            self.at(key).map(|at| self.all.remove(at).3)
        }

        fn touch(&mut self, key: Key, now: u64) -> Option<StoredMeta> {
            let meta = self.all[self.at(key)?].3;
            if meta.used_at != now {
                self.uses += 1;
                self.put(self.uses, key, StoredMeta { used_at: now, ..meta });
                self.touched.insert(key);
            }
            Some(meta)
        }

        fn listed(&self) -> Vec<(Key, StoredMeta)> {
            self.all.iter().map(|(.., key, meta)| (*key, *meta)).collect()
        }
    }

    proptest::proptest! {
        /// In any order of coming, going and use, all is as if it were done by hand. Time goes on with each step.
        #[test]
        fn it_does_what_a_list_would(
            rows in proptest::collection::btree_set(1_u64..12, 0..8),
            steps in proptest::collection::vec((0_u8..6, 1_u64..12, 0_u64..4, 0_u64..2), 0..80),
        ) {
            let (mut listed, mut naive) = (Rows::default(), Naive::default());
            for n in rows {
                let meta = used(n, n, [n % 4, 10 + n % 3]);
                listed.push(key(n), meta);
                naive.put(0, key(n), meta);
            }
            let mut lru = SizedLru::listed(listed);
            let mut now = 1_000;
            for (what, n, mark, pause) in steps {
                now += pause;
                let new = used(n, now, [mark, 10 + mark]);
                match what {
                    0 => {
                        naive.uses += 1;
                        let replaced = naive.put(naive.uses, key(n), new);
                        proptest::prop_assert_eq!(lru.add(key(n), new), replaced);
                    }
                    1 => {
                        let found = StoredMeta { used_at: 100 + n, ..new };
                        let replaced = naive.put(0, key(n), found);
                        proptest::prop_assert_eq!(lru.adopt(key(n), found), replaced);
                    }
                    2 => proptest::prop_assert_eq!(lru.remove(key(n), None), naive.remove(key(n))),
                    3 => {
                        let noted: BTreeSet<Key> =
                            lru.drain_touched(usize::MAX).into_iter().map(|(key, _)| key).collect();
                        proptest::prop_assert_eq!(noted, std::mem::take(&mut naive.touched));
                    }
                    _ => proptest::prop_assert_eq!(lru.touch(key(n), now), naive.touch(key(n), now)),
                }
                let all = naive.listed();
                proptest::prop_assert_eq!(lru.iter().collect::<Vec<_>>(), all.clone());
                proptest::prop_assert_eq!(lru.len(), all.len());
                for mark in 1..13 {
                    // A hint may be missing where two had the mark; it never leads to an archive without it.
                    let marked = lru.marked([mark, 0]).map(|key| lru.get(key).unwrap());
                    proptest::prop_assert!(marked.is_none_or(|meta| meta.marks.contains(&mark)));
                }
            }
            proptest::prop_assert_eq!(lru.marked([0, 0]), None);
            let others = std::mem::replace(&mut lru, SizedLru::listed(Rows::default()));
            lru.merge(others);
            proptest::prop_assert_eq!(lru.iter().collect::<Vec<_>>(), naive.listed());
        }

        /// An archive whose marks nobody shares is found by each of them for as long as it is there.
        #[test]
        fn marks_lead_to_the_one_that_has_them(steps in proptest::collection::vec((0_u8..3, 1_u64..200), 0..300)) {
            let mut lru = SizedLru::new(u64::MAX);
            let mut there = BTreeSet::new();
            for (what, n) in steps {
                let meta = used(n, n, [n, 1_000 + n]);
                match what {
                    0 => drop((lru.add(key(n), meta), there.insert(n))),
                    1 => drop((lru.adopt(key(n), meta), there.insert(n))),
                    _ => drop((lru.remove(key(n), None), there.remove(&n))),
                }
            }
            for n in 1..200 {
                let found = there.contains(&n).then_some(key(n));
                proptest::prop_assert_eq!((lru.marked([n, 0]), lru.marked([0, 1_000 + n])), (found, found));
            }
        }
    }
}
