//! Archives of which only some chunks are here.
//!
//! They lie in `partial/`, each with a record that says which chunks it has. What a record promises is compared with its
//! checksum at first use, so neither needs to be brought to the disk before the archive is whole: after a power cut a
//! chunk that isn't what it was is fetched again. Everything here blocks.

use std::io;
use std::sync::Arc;

use super::commit::aside;
use super::lru::StoredMeta;
use super::object::bitmap::ChunkBitmap;
use super::object::{Archive, Life};
use super::record::{BadRecord, CHUNK, Record};
use super::room::StoreInner;
use crate::base::key::{ArchiveId, Key};
use crate::base::num::to_u64;

impl StoreInner {
    /// Adopts what the last larder left in `partial/`: what has a record and its file; the rest is removed. Before anything
    /// else is known.
    pub(super) fn adopt_partial(&self) -> io::Result<()> {
        let archives = self.layout.list(&self.layout.partial())?;
        for ((key, id), found) in archives {
            // A record that wasn't written to its end.
            let _ = self.files().remove(&aside(&self.layout.partial_rec(key, id)));
            match self.read_note(key, id).filter(|_| found.both()) {
                Some(Ok(slot)) => self.adopt_sparse(key, slot),
                Some(Err(reason @ BadRecord::Version(_))) => {
                    tracing::warn!(%key, %reason, "a partial archive is left alone");
                }
                Some(Err(_)) | None => self.remove_partial(key, id),
            }
        }
        Ok(())
    }

    fn adopt_sparse(&self, key: Key, slot: StoredMeta) {
        let mut shelved = self.shelf.lock();
        let other = shelved.shelf.get(key);
        let (newer, older) = match other {
            Some(other) if (other.filled_at, other.id) > (slot.filled_at, slot.id) => (other, Some(slot)),
            other => (slot, other),
        };
        if newer.id == slot.id {
            let replaced = shelved.shelf.adopt(key, slot);
            shelved.shelf.release(replaced.map_or(0, |slot| slot.bytes));
            shelved.partial.insert(slot.id);
        }
        drop(shelved);
        if let Some(older) = older {
            self.shelf.lock().partial.remove(&older.id);
            self.remove_partial(key, older.id);
        }
    }

    fn read_note(&self, key: Key, id: ArchiveId) -> Option<Result<StoredMeta, BadRecord>> {
        let length = self.layout.reach().length(&self.layout.partial_zip(key, id)).ok()?;
        let encoded = self.layout.reach().read(&self.layout.partial_rec(key, id)).ok()?;
        let record = match Record::decode(&encoded) {
            Ok(record) => record,
            Err(reason) => return Some(Err(reason)),
        };
        let count = record.present.as_ref().map_or(to_u64(record.chunks.len()), ChunkBitmap::count);
        let same = record.key == key && record.id == id && record.length == length && count > 0;
        let bytes = count.saturating_mul(CHUNK).min(length).saturating_add(to_u64(encoded.len()));
        let (filled_at, marks) = (record.filled_at, record.facts.marks());
        same.then_some(Ok(StoredMeta { id, bytes, filled_at, used_at: filled_at, marks }))
    }

    /// Opens a partial archive. One whose chunks were all there when larder ended has yet to be found right.
    pub(super) fn read_partial(&self, key: Key, slot: StoredMeta) -> io::Result<Arc<Archive>> {
        let encoded = self.layout.reach().read(&self.layout.partial_rec(key, slot.id))?;
        let mut record = Record::decode(&encoded).map_err(io::Error::other)?;
        let file = self.files().open(&self.layout.partial_zip(key, slot.id))?;
        let length = record.length;
        if record.key != key || record.id != slot.id || file.metadata()?.len() != length {
            return Err(io::Error::other("the partial archive's file isn't what its record says"));
        }
        record.present.get_or_insert_with(|| ChunkBitmap::all(length));
        Ok(Arc::new(self.made(record, file, Some(length), Life::of_partial(to_u64(encoded.len())))))
    }

    /// Removes the files of a partial archive. Not under the shelf's lock.
    pub(super) fn remove_partial(&self, key: Key, id: ArchiveId) {
        let _turn = self.noting.lock();
        for path in [self.layout.partial_rec(key, id), self.layout.partial_zip(key, id)] {
            // What can't be removed now is found again at the next start.
            let _ = self.files().remove(&path);
        }
    }
}
