//! What holds after every step.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::super::key;
use super::read::length;
use super::step::JOBS;
use super::world::World;
use super::{Check, ensure};
use crate::base::key::{ArchiveId, Key};
use crate::store::Store;
use crate::store::lru::StoredMeta;
use crate::store::record::CHUNK;

/// The lengths of records, which nobody reserves.
pub(super) const RECORDS: u64 = 2_000;

/// Rounds of housekeeping after which the cache of open archives has let go of one that has left.
const ROUNDS: usize = 100_000;

impl World {
    /// The store has what it should, counts what lies on the disk, and keeps within its budget.
    pub(super) fn compare(&self) -> Check {
        let store = self.store();
        for job in JOBS {
            let (held, live) = (store.holds(key(job)), self.model.jobs[&job].live);
            ensure!(held == live, "job {job} has {held:?} and should have {live:?}");
        }
        let slots: Vec<(Key, StoredMeta)> = store.inner.shelf.lock().shelf.iter().collect();
        let shelved = slots.iter().map(|(_, slot)| slot.bytes).sum::<u64>();
        let left = self.left_to_readers(&slots);
        let counted = shelved + left.start()..=shelved + left.end();
        let settled = (0..ROUNDS).any(|_| {
            let is_so = counted.contains(&store.totals().bytes) && self.is_let_go_of(&store);
            if !is_so {
                store.sweep();
                std::thread::yield_now();
            }
            is_so
        });
        let taken = store.totals().bytes;
        ensure!(settled, "{taken} bytes are taken and not {counted:?}, or archives in use");
        ensure!(taken <= self.budget + RECORDS, "{taken} bytes are more than the budget");
        self.compare_files(&slots)
    }

    /// Bytes of archives that have left the store and are still read; of one that was sparse when its reader began and is
    /// whole now, it isn't known how long its record was.
    fn left_to_readers(&self, slots: &[(Key, StoredMeta)]) -> RangeInclusive<u64> {
        let mut left = BTreeMap::new();
        for archive in self.readers.iter().map(super::read::Reader::archive) {
            let is_shelved = slots.iter().any(|(_, slot)| slot.id == archive.id());
            let length = archive.stored_length();
            if archive.is_retired() {
                left.insert(archive.id(), (archive.lease().bytes(), archive.lease().bytes()));
            } else if !is_shelved {
                left.insert(archive.id(), (length, length + RECORDS));
            }
        }
        left.values().map(|(least, _)| least).sum()..=left.values().map(|(_, most)| most).sum()
    }

    /// Whether no archive is in use but those that somebody reads.
    fn is_let_go_of(&self, store: &Store) -> bool {
        let read = |id: &ArchiveId| self.readers.iter().any(|reader| reader.archive().id() == *id);
        let shelved = store.inner.shelf.lock();
        shelved.shelf.iter().all(|(_, slot)| !shelved.open.is_read(slot.id) || read(&slot.id))
    }

    fn compare_files(&self, slots: &[(Key, StoredMeta)]) -> Check {
        let (store, files) = (self.store(), self.files());
        let (layout, mut expected) = (&store.inner.layout, BTreeSet::new());
        for (key, slot) in slots {
            let is_sparse = store.inner.shelf.lock().partial.contains(&slot.id);
            let paths = if is_sparse {
                [layout.partial_zip(*key, slot.id), layout.partial_rec(*key, slot.id)]
            } else {
                [layout.zip(*key, slot.id), layout.rec(*key, slot.id)]
            };
            self.compare_bytes(slot, is_sparse, paths.each_ref().map(|path| length(path)))?;
            expected.extend(paths);
        }
        let found: BTreeSet<PathBuf> = files.into_keys().collect();
        let missing: Vec<_> = expected.difference(&found).collect();
        ensure!(missing.is_empty(), "{missing:?} aren't there");
        let strays: Vec<_> = found.difference(&expected).collect();
        ensure!(self.strays || strays.is_empty(), "{strays:?} lie about");
        Ok(())
    }

    /// What an archive is said to take is what it takes.
    fn compare_bytes(&self, slot: &StoredMeta, is_sparse: bool, [zip, rec]: [u64; 2]) -> Check {
        let made = &self.model.made[&slot.id];
        if made.spoilt {
            return Ok(());
        }
        ensure!(zip == made.length, "{} has {zip} bytes of {}", slot.id, made.length);
        let parts = made.parts.as_ref().filter(|_| is_sparse);
        // A record grows with each checksum that it gets, and with the digest of all.
        let sums = if is_sparse { made.chunks() * 20 + 40 } else { 0 };
        let least = (parts.map_or(zip, |parts| made.bytes(&parts.here)) + rec).saturating_sub(sums);
        // Of what was found at a start each chunk counts as a whole one.
        let most = if is_sparse { least + sums + CHUNK } else { least };
        ensure!((least..=most).contains(&slot.bytes), "{slot:?} takes {least} to {most}");
        Ok(())
    }

    /// The files of all archives, and how long they are.
    pub(super) fn files(&self) -> BTreeMap<PathBuf, u64> {
        let root = self.instance();
        let shards =
            fs::read_dir(root.join("archives")).into_iter().flatten().map(|shard| shard.unwrap().path());
        let folders = shards.chain([root.join("partial"), root.join("incoming")]);
        let names = folders.flat_map(|folder| fs::read_dir(folder).into_iter().flatten());
        names.map(|file| file.unwrap().path()).map(|path| (path.clone(), length(&path))).collect()
    }
}
