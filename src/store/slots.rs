//! Archives by key, by mark and in the order of their use.
//!
//! A million of them take some 120 MiB, however they come and go: each stands once, in one vector, and the tables refer
//! to it by its number there. Pure: no files, no clock, no locks.

use std::collections::BTreeSet;
use std::hash::BuildHasher;

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};

use super::shelf::Slot;
use crate::key::{ArchiveId, Key};
use crate::num::to_usize;

/// An archive in its place.
#[derive(Debug, Clone, Copy)]
struct Node {
    key: Key,
    id: ArchiveId,
    bytes: u64,
    marks: [u64; 2],
    rank: Rank,
    /// Seconds since the Unix epoch: enough until 2106.
    filled_at: u32,
    /// Used since that was last noted.
    touched: bool,
    /// Its files are known to be there.
    checked: bool,
}

/// Its number in the vector. 2^31 archives would take more memory than there is.
type Number = u32;

/// A place in the order of use: seconds since the Unix epoch, then which use within that second.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank(u64);

impl Rank {
    fn at(seconds: u64) -> Self {
        Self(u64::from(short(seconds)) << 32)
    }

    const fn seconds(self) -> u64 {
        self.0 >> 32
    }
}

/// Which of which archive's marks: its number, doubled, and one more for the second.
type Mark = u32;

/// Archives as the index lists them, in no order.
#[derive(Debug, Default)]
pub(super) struct Rows {
    nodes: Vec<Option<Node>>,
    bytes: u64,
}

impl Rows {
    /// Adds one, under a key that isn't there.
    pub(super) fn push(&mut self, key: Key, slot: Slot) {
        self.bytes = self.bytes.saturating_add(slot.bytes);
        self.nodes.push(Some(Node::new(key, slot, false)));
    }

    /// Bytes of all of them.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Node {
    fn new(key: Key, slot: Slot, checked: bool) -> Self {
        Self {
            key,
            id: slot.id,
            bytes: slot.bytes,
            marks: slot.marks,
            rank: Rank::at(slot.used_at),
            filled_at: short(slot.filled_at),
            touched: false,
            checked,
        }
    }

    fn slot(&self) -> Slot {
        Slot {
            id: self.id,
            bytes: self.bytes,
            filled_at: self.filled_at.into(),
            used_at: self.rank.seconds(),
            marks: self.marks,
        }
    }
}

fn short(seconds: u64) -> u32 {
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

/// All archives.
#[derive(Debug, Default)]
pub(super) struct Slots {
    nodes: Vec<Option<Node>>,
    free: Vec<Number>,
    keys: HashTable<Number>,
    /// A hint: two archives may share a mark, and the last one is found.
    marks: HashTable<Mark>,
    order: BTreeSet<(Rank, Number)>,
    /// Those used since that was last noted, some of them gone or twice; never more than there were archives then and
    /// since.
    touched: Vec<Number>,
    last: Rank,
    hasher: DefaultHashBuilder,
}

impl Slots {
    /// All that the index lists. Sorting once and making each table in its final size costs a quarter of adding one by
    /// one.
    pub(super) fn of(rows: Rows) -> Self {
        let mut nodes = rows.nodes;
        nodes.shrink_to_fit();
        let present = || (0..).zip(&nodes).filter_map(|(number, node)| Some((number, node.as_ref()?)));
        let mut order: Vec<(Rank, Number)> = present().map(|(number, node)| (node.rank, number)).collect();
        order.sort_unstable();
        let marks = present().flat_map(|(_, node)| node.marks).filter(|mark| *mark != 0).count();
        let (keys, marks) = (HashTable::with_capacity(nodes.len()), HashTable::with_capacity(marks));
        let order = order.into_iter().collect();
        let mut slots = Self { nodes, keys, marks, order, ..Self::default() };
        for number in (0..).take(slots.nodes.len()) {
            slots.enter(number);
        }
        slots
    }

    /// The archive under a key.
    pub(super) fn find(&self, key: Key) -> Option<Slot> {
        self.node(self.number(key)?).map(Node::slot)
    }

    /// The key of an archive with this mark.
    pub(super) fn marked(&self, mark: u64) -> Option<Key> {
        let found =
            self.marks.find(self.hasher.hash_one(mark), |at| mark_at(&self.nodes, *at) == Some(mark))?;
        self.node(found >> 1).map(|node| node.key)
    }

    /// Notes a use. Returns the archive as it was before; within one second archives keep the order of their first use.
    pub(super) fn touch(&mut self, key: Key, now: u64) -> Option<Slot> {
        let number = self.number(key)?;
        let node = self.nodes.get_mut(to_usize(number.into()))?.as_mut()?;
        let before = node.slot();
        let now = Rank::at(now).max(Rank::at(self.last.seconds()));
        if node.rank.seconds() != now.seconds() {
            let rank = now.max(Rank(self.last.0.saturating_add(1)));
            let was = std::mem::replace(&mut node.rank, rank);
            if !std::mem::replace(&mut node.touched, true) {
                self.touched.push(number);
            }
            self.last = rank;
            self.order.remove(&(was, number));
            self.order.insert((rank, number));
        }
        Some(before)
    }

    /// At most `most` of the archives used since that was last noted.
    pub(super) fn drain_touched(&mut self, most: usize) -> Vec<(Key, Slot)> {
        let mut noted = Vec::new();
        for number in self.touched.drain(..most.min(self.touched.len())) {
            let node = self.nodes.get_mut(to_usize(number.into())).and_then(Option::as_mut);
            if let Some(node) = node.filter(|node| node.touched) {
                node.touched = false;
                noted.push((node.key, node.slot()));
            }
        }
        noted
    }

    /// Puts in an archive that has just arrived: used last. Returns the one that stood there.
    pub(super) fn place(&mut self, key: Key, slot: Slot) -> Option<Slot> {
        let rank = Rank::at(slot.used_at).max(Rank(self.last.0.saturating_add(1)));
        self.last = rank;
        self.insert(Node { rank, ..Node::new(key, slot, true) })
    }

    /// Puts in an archive whose files were found, at the place of its last use. Returns the one that stood there.
    pub(super) fn adopt(&mut self, key: Key, slot: Slot) -> Option<Slot> {
        self.insert(Node::new(key, slot, true))
    }

    /// Takes an archive out.
    pub(super) fn remove(&mut self, key: Key) -> Option<Slot> {
        let number = self.number(key)?;
        let node = *self.node(number)?;
        for (mark, at) in marks_of(number, &node) {
            let hash = self.hasher.hash_one(mark);
            if let Ok(entry) = self.marks.find_entry(hash, |other| *other == at) {
                entry.remove();
            }
        }
        let hash = self.hasher.hash_one(key);
        if let Ok(entry) = self.keys.find_entry(hash, |other| *other == number) {
            entry.remove();
        }
        self.order.remove(&(node.rank, number));
        if let Some(place) = self.nodes.get_mut(to_usize(number.into())) {
            *place = None;
        }
        self.free.push(number);
        Some(node.slot())
    }

    /// Takes over the archives of `others`, in their places in the order; where both have one under a key, theirs stays.
    pub(super) fn take_over(&mut self, others: &Self) {
        self.last = self.last.max(others.last);
        for node in others.nodes.iter().flatten() {
            self.insert(*node);
        }
    }

    /// Notes that an archive has become longer.
    pub(super) fn grow(&mut self, key: Key, id: ArchiveId, bytes: u64) {
        let number = self.number(key).map(|number| to_usize(number.into()));
        let node = number.and_then(|number| self.nodes.get_mut(number)).and_then(Option::as_mut);
        if let Some(node) = node.filter(|node| node.id == id) {
            node.bytes = node.bytes.saturating_add(bytes);
        }
    }

    /// Notes that an archive's files are there.
    pub(super) fn check(&mut self, key: Key) {
        let number = self.number(key).map(|number| to_usize(number.into()));
        if let Some(node) = number.and_then(|number| self.nodes.get_mut(number)).and_then(Option::as_mut) {
            node.checked = true;
        }
    }

    /// Of `most` places from the `from`th on, the archives whose files weren't found so far; `None` beyond the last place.
    pub(super) fn unchecked(&self, from: usize, most: usize) -> Option<Vec<(Key, Slot)>> {
        let places = self.nodes.get(from..).filter(|rest| !rest.is_empty())?.iter().take(most);
        let unchecked = places.flatten().filter(|node| !node.checked);
        Some(unchecked.map(|node| (node.key, node.slot())).collect())
    }

    /// All archives, least recently used first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Key, Slot)> {
        let nodes = self.order.iter().filter_map(|(_, number)| self.node(*number));
        nodes.map(|node| (node.key, node.slot()))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    fn node(&self, number: Number) -> Option<&Node> {
        node_at(&self.nodes, number)
    }

    fn number(&self, key: Key) -> Option<Number> {
        let is_it = |number: &Number| self.node(*number).is_some_and(|node| node.key == key);
        self.keys.find(self.hasher.hash_one(key), is_it).copied()
    }

    fn insert(&mut self, node: Node) -> Option<Slot> {
        let replaced = self.remove(node.key);
        let number = self.free.pop().unwrap_or_else(|| {
            self.nodes.push(None);
            u32::try_from(self.nodes.len() - 1).unwrap_or(u32::MAX)
        });
        if let Some(place) = self.nodes.get_mut(to_usize(number.into())) {
            *place = Some(node);
        }
        if node.touched {
            self.touched.push(number);
        }
        self.order.insert((node.rank, number));
        self.enter(number);
        replaced
    }

    /// Makes a node findable by its key, which isn't in the table, and by its marks.
    fn enter(&mut self, number: Number) {
        let Some(node) = self.node(number).copied() else {
            return;
        };
        let Self { nodes, keys, marks, hasher, .. } = self;
        // Every number in a table has a node; one that hasn't would be found by nobody.
        let key = |number: Number| Some(node_at(nodes, number)?.key);
        let hash = |number: &Number| key(*number).map_or(0, |key| hasher.hash_one(key));
        keys.insert_unique(hasher.hash_one(node.key), number, hash);
        for (mark, at) in marks_of(number, &node) {
            let hash = |at: &Mark| mark_at(nodes, *at).map_or(0, |mark| hasher.hash_one(mark));
            let same = |other: &Mark| mark_at(nodes, *other) == Some(mark);
            match marks.entry(hasher.hash_one(mark), same, hash) {
                Entry::Occupied(mut entry) => *entry.get_mut() = at,
                Entry::Vacant(entry) => drop(entry.insert(at)),
            }
        }
    }
}

fn node_at(nodes: &[Option<Node>], number: Number) -> Option<&Node> {
    nodes.get(to_usize(number.into()))?.as_ref()
}

fn mark_at(nodes: &[Option<Node>], at: Mark) -> Option<u64> {
    node_at(nodes, at >> 1)?.marks.get(to_usize((at & 1).into())).copied()
}

/// A node's marks with their places.
fn marks_of(number: Number, node: &Node) -> impl Iterator<Item = (u64, Mark)> + use<> {
    node.marks.into_iter().zip([number << 1, number << 1 | 1]).filter(|(mark, _)| *mark != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{JobId, RefId};

    #[test]
    fn an_archive_takes_72_bytes_and_its_tables_some_40() {
        assert_eq!(size_of::<Option<Node>>(), 72);
        assert_eq!(size_of::<(Rank, Number)>(), 16);
    }

    #[test]
    fn times_beyond_2106_are_later_than_all_others() {
        assert_eq!(Rank::at(u64::MAX).seconds(), u64::from(u32::MAX));
    }

    fn key(n: u64) -> Key {
        let by_ref = Key::Ref(RefId::of([n.to_be_bytes().as_slice()]));
        if n.is_multiple_of(3) { by_ref } else { Key::Job(JobId::parse(&n.to_string()).unwrap()) }
    }

    fn slot(n: u64, used_at: u64, marks: [u64; 2]) -> Slot {
        Slot { id: ArchiveId::new(n), bytes: n, filled_at: used_at / 2, used_at, marks }
    }

    /// The same without a thought for memory: what is used comes last.
    #[derive(Default)]
    struct Naive {
        /// By when they were used last, and which use within that second that was.
        all: Vec<(u64, u64, Key, Slot)>,
        uses: u64,
        touched: BTreeSet<Key>,
    }

    impl Naive {
        fn at(&self, key: Key) -> Option<usize> {
            self.all.iter().position(|(.., other, _)| *other == key)
        }

        fn put(&mut self, nth: u64, key: Key, slot: Slot) -> Option<Slot> {
            let replaced = self.remove(key);
            self.all.push((slot.used_at, nth, key, slot));
            self.all.sort_by_key(|(used, nth, ..)| (*used, *nth));
            replaced
        }

        fn remove(&mut self, key: Key) -> Option<Slot> {
            self.touched.remove(&key);
            self.at(key).map(|at| self.all.remove(at).3)
        }

        fn touch(&mut self, key: Key, now: u64) -> Option<Slot> {
            let slot = self.all[self.at(key)?].3;
            if slot.used_at != now {
                self.uses += 1;
                self.put(self.uses, key, Slot { used_at: now, ..slot });
                self.touched.insert(key);
            }
            Some(slot)
        }

        fn listed(&self) -> Vec<(Key, Slot)> {
            self.all.iter().map(|(.., key, slot)| (*key, *slot)).collect()
        }
    }

    proptest::proptest! {
        /// In any order of coming, going and use, all is as if it were done by hand. Time goes on with each step.
        #[test]
        fn slots_do_what_a_list_would(
            rows in proptest::collection::btree_set(1_u64..12, 0..8),
            steps in proptest::collection::vec((0_u8..6, 1_u64..12, 0_u64..4, 0_u64..2), 0..80),
        ) {
            let (mut listed, mut naive) = (Rows::default(), Naive::default());
            for n in rows {
                let slot = slot(n, n, [n % 4, 10 + n % 3]);
                listed.push(key(n), slot);
                naive.put(0, key(n), slot);
            }
            let mut slots = Slots::of(listed);
            let mut now = 1_000;
            for (what, n, mark, pause) in steps {
                now += pause;
                let new = slot(n, now, [mark, 10 + mark]);
                match what {
                    0 => {
                        naive.uses += 1;
                        let replaced = naive.put(naive.uses, key(n), new);
                        proptest::prop_assert_eq!(slots.place(key(n), new), replaced);
                    }
                    1 => {
                        let found = Slot { used_at: 100 + n, ..new };
                        let replaced = naive.put(0, key(n), found);
                        proptest::prop_assert_eq!(slots.adopt(key(n), found), replaced);
                    }
                    2 => proptest::prop_assert_eq!(slots.remove(key(n)), naive.remove(key(n))),
                    3 => {
                        let noted: BTreeSet<Key> =
                            slots.drain_touched(usize::MAX).into_iter().map(|(key, _)| key).collect();
                        proptest::prop_assert_eq!(noted, std::mem::take(&mut naive.touched));
                    }
                    _ => proptest::prop_assert_eq!(slots.touch(key(n), now), naive.touch(key(n), now)),
                }
                let all = naive.listed();
                proptest::prop_assert_eq!(slots.iter().collect::<Vec<_>>(), all.clone());
                proptest::prop_assert_eq!(slots.len(), all.len());
                for mark in 1..13 {
                    // A hint may be missing where two had the mark; it never leads to an archive without it.
                    let marked = slots.marked(mark).map(|key| slots.find(key).unwrap());
                    proptest::prop_assert!(marked.is_none_or(|slot| slot.marks.contains(&mark)));
                }
            }
            proptest::prop_assert_eq!(slots.marked(0), None);
            let others = std::mem::replace(&mut slots, Slots::of(Rows::default()));
            slots.take_over(&others);
            proptest::prop_assert_eq!(slots.iter().collect::<Vec<_>>(), naive.listed());
        }

        /// An archive whose marks nobody shares is found by each of them for as long as it is there.
        #[test]
        fn marks_lead_to_the_one_that_has_them(steps in proptest::collection::vec((0_u8..3, 1_u64..200), 0..300)) {
            let mut slots = Slots::default();
            let mut there = BTreeSet::new();
            for (what, n) in steps {
                let slot = slot(n, n, [n, 1_000 + n]);
                match what {
                    0 => drop((slots.place(key(n), slot), there.insert(n))),
                    1 => drop((slots.adopt(key(n), slot), there.insert(n))),
                    _ => drop((slots.remove(key(n)), there.remove(&n))),
                }
            }
            for n in 1..200 {
                let found = there.contains(&n).then_some(key(n));
                proptest::prop_assert_eq!((slots.marked(n), slots.marked(1_000 + n)), (found, found));
            }
        }
    }
}
